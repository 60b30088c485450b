"""The command `evaluate.py`: a checkpoint's numbers, and its answers about points, samples, grids and regions."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from rsgm.cli.parser import add_loading, import_own
from rsgm.data import ManifoldData
from rsgm.data.tabular import Tabular
from rsgm.evaluation import draw_rows, evaluate, load_data, load_reader, report, score_rows
from rsgm.evaluation.rows import Columns
from rsgm.models import load, read_checkpoint


def evaluate_command(args: list[str] | None = None, command: str = "evaluate.py") -> int:
    """Score a checkpoint, or let it score rows or draw samples; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=evaluate_command.__doc__, allow_abbrev=False)
    parser.add_argument("--ckpt", required=True, help="A checkpoint; its data are named in it.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--data.path", dest="path", type=Path, help="Test on the rows of this file instead.")
    what.add_argument("--score", type=Path, metavar="FILE", help="Write the rows of this file with their log-density.")
    what.add_argument("--samples", type=int, metavar="N", help="Write this many samples, in data units.")
    parser.add_argument("--out", type=Path, help="File to write; none is overwritten.")
    parser.add_argument(
        "--given", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="The context of all samples."
    )
    parser.add_argument("--skip_bad", action="store_true", help="With --score: leave out rows that are bad.")
    parser.add_argument("--seed", type=int, help="Seed of the samples (default: fresh).")
    add_loading(parser)
    options = parser.parse_args(args)
    try:
        import_own(options.modules)
        _answer(options)
    # torch asserts that it was compiled for the device
    except (ValueError, RuntimeError, AssertionError, FileNotFoundError, FileExistsError, ImportError) as error:
        if os.environ.get("RSGM_DEBUG"):
            raise
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0


def _answer(options: argparse.Namespace) -> None:
    if options.samples is None and options.score is None:
        if options.out is not None or options.given:
            raise ValueError("--out and --given are for --samples or --score; an evaluation is written beside --ckpt.")
        data = None if options.path is None else _other(options)
        print(report(evaluate(options.ckpt, data, device=options.device)))
        return
    if options.out is None:
        raise ValueError(f"--{'samples' if options.score is None else 'score'} needs --out FILE.csv to write to.")
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists; choose another file, nothing is overwritten.")
    data = load_reader(read_checkpoint(options.ckpt))
    model = load(options.ckpt, options.device)
    if options.score is None:
        found = draw_rows(model, data, options.samples, _given(options.given, data), options.seed)
    elif options.given:
        raise ValueError("--given is for --samples; the rows of --score have their context in columns of their own.")
    else:
        found = score_rows(model, data, data.read_rows(options.score, options.skip_bad))
    _write(options.out, found)
    print(f"{len(found.rows)} {'samples' if options.score is None else 'rows'} in {options.out}")


def _other(options: argparse.Namespace) -> ManifoldData:
    """The data that a checkpoint names, tested on another file."""
    data = load_data(read_checkpoint(options.ckpt))
    if not isinstance(data, Tabular):
        raise ValueError(f"--data.path is for data in tables; those of {options.ckpt} are {type(data).__name__}.")
    data.test_on(options.path)
    return data


def _given(texts: list[str], data: ManifoldData) -> dict[str, str]:
    """What is given, by name.

    Raises:
        ValueError: not NAME=VALUE, a name that is unknown, twice or missing
    """
    pairs = [text.partition("=")[::2] for text in texts]
    names, known = [name for name, _ in pairs], data.context_names
    if texts and (sorted(names) != sorted(known) or not all("=" in text for text in texts)):
        expected = " ".join(f"{name}=VALUE" for name in known) or "none: the data have no context"
        raise ValueError(f"--given: found {' '.join(texts)}, expected {expected}.")
    return dict(pairs)


def _write(path: Path, found: Columns) -> None:
    with path.open("x", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(found.header)
        writer.writerows(found.rows)
