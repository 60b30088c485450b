"""The command `evaluate.py`: a checkpoint's numbers, and its answers about rows, samples, grids and regions."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from torch import Tensor

from rsgm.cli.errors import in_one_line, require_device
from rsgm.cli.parser import add_loading, import_own, local_path
from rsgm.data import ManifoldData
from rsgm.data.tabular import Tabular
from rsgm.evaluation import (
    assess,
    draw_rows,
    load_data,
    load_reader,
    report,
    score_rows,
    write,
    write_density_grid,
    write_regions,
)
from rsgm.evaluation.rows import Columns
from rsgm.files import new_file, require_free
from rsgm.models import CheckpointError, GenerativeModel, load, read_checkpoint
from rsgm.progress import visible
from rsgm.report import evaluation_page, write_report
from rsgm.training import Signals


def evaluate_command(args: list[str] | None = None, command: str = "evaluate.py") -> int:
    """Score a checkpoint; or have it score rows, draw samples, or say where its density is high; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=evaluate_command.__doc__, allow_abbrev=False)
    parser.add_argument("--ckpt", type=local_path, required=True, help="A checkpoint; its data are named in it.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--data.path", dest="path", metavar="FILE", help="Test on the rows of this file instead.")
    what.add_argument("--score", metavar="FILE", help="Write the rows of this file with their log-density.")
    what.add_argument("--samples", type=int, metavar="N", help="Write this many samples, in data units.")
    what.add_argument(
        "--grid",
        type=float,
        nargs="+",
        metavar="STEP",
        help="Write the density on a grid of such steps, in data units.",
    )
    what.add_argument(
        "--region", type=float, nargs="+", metavar="SHARE", help="Write the smallest regions that hold such shares."
    )
    parser.add_argument(
        "--out",
        type=local_path,
        help="File to write: .csv; of a grid .nc or .fits too; of regions .geojson. None is overwritten.",
    )
    parser.add_argument(
        "--given", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="The context, for all of them."
    )
    parser.add_argument(
        "--report", action="store_true", help="Write report.html beside the checkpoint too: one page, without network."
    )
    parser.add_argument("--skip_bad", action="store_true", help="With --score: leave out rows that are bad.")
    parser.add_argument("--seed", type=int, help="Seed of the samples (default: fresh).")
    add_loading(parser)
    options = parser.parse_args(args)
    with in_one_line(command) as failure:
        import_own(options.modules)
        require_device(options.device)
        with Signals(), visible():
            print(_answer(options))
        return 0
    return failure.status


def _answer(options: argparse.Namespace) -> str:
    """What the command prints."""
    kinds = {"samples": _samples, "score": _scores, "grid": _grid, "region": _regions}
    kind = next((name for name in kinds if getattr(options, name) is not None), None)
    if kind is None:
        if options.out is not None or options.given:
            raise ValueError(
                "--out and --given need --samples, --score, --grid or --region; an evaluation is written beside --ckpt."
            )
        found = assess(options.ckpt, _other(options), device=options.device)
        write(options.ckpt.parent, found.metrics, found.figures)
        if not options.report:
            return report(found.metrics)
        path = write_report(options.ckpt.parent, evaluation_page(found))
        return f"{report(found.metrics)}\nreport in {path}"
    if options.report:
        raise ValueError("--report is of an evaluation: leave --samples, --score, --grid and --region out.")
    if options.out is None:
        raise ValueError(f"--{kind} needs --out FILE to write to.")
    if kind in ("samples", "score") and options.out.suffix.lower() != ".csv":
        raise ValueError(f"{options.out}: found the suffix {options.out.suffix!r}, expected .csv.")
    require_free(options.out)
    return kinds[kind](options, load(options.ckpt, options.device), load_reader(read_checkpoint(options.ckpt)))


def _samples(options: argparse.Namespace, model: GenerativeModel, data: ManifoldData) -> str:
    _write(options.out, draw_rows(model, data, options.samples, _given(options.given, data), options.seed))
    return f"{options.samples} samples in {options.out}"


def _scores(options: argparse.Namespace, model: GenerativeModel, data: ManifoldData) -> str:
    if options.given:
        raise ValueError("--given is not for --score, whose rows have their context in columns of their own.")
    found = score_rows(model, data, data.read_rows(options.score, options.skip_bad))
    _write(options.out, found)
    return f"{len(found.rows)} rows in {options.out}"


def _grid(options: argparse.Namespace, model: GenerativeModel, data: ManifoldData) -> str:
    found = write_density_grid(options.out, model, data, options.grid, _context(options, data))
    return f"{found.report()}\nin {options.out}"


def _regions(options: argparse.Namespace, model: GenerativeModel, data: ManifoldData) -> str:
    try:  # the share of test points in a region, where they are at hand
        data = load_data(read_checkpoint(options.ckpt))
    except (FileNotFoundError, CheckpointError) as error:
        print(f"Without the share of test points: {error}", file=sys.stderr)
    return (
        f"{write_regions(options.out, model, data, options.region, _context(options, data)).report()}\nin {options.out}"
    )


def _other(options: argparse.Namespace) -> ManifoldData | None:
    """The data that a checkpoint names, tested on another file; None without one."""
    if options.path is None:
        return None
    try:
        data = load_data(read_checkpoint(options.ckpt))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} --data.path holds a model against a kernel density of its training points, whose file it needs; "
            "--score does without."
        ) from error
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


def _context(options: argparse.Namespace, data: ManifoldData) -> Tensor | None:
    """One context ``(features,)`` for all places; None where none is given."""
    given = _given(options.given, data)
    return data.encode_context({name: [value] for name, value in given.items()})[0].float() if given else None


def _write(path: Path, found: Columns) -> None:
    with new_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(found.header)
        writer.writerows(found.rows)
