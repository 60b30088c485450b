"""The verb `rsgm audit`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from rsgm.cli.configs import file_of
from rsgm.cli.errors import in_one_line, of_settings, require_device
from rsgm.cli.explain import UsageError
from rsgm.cli.parser import Parser, add_loading, import_own, local_path, mended, require_settings
from rsgm.data import ManifoldData, read_points
from rsgm.evaluation import Audit, audit, load_data
from rsgm.files import new_text, require_free
from rsgm.models import load, read_checkpoint
from rsgm.training import Signals


def audit_command(args: list[str] | None = None, command: str = "rsgm audit") -> int:
    """Say what may be claimed of a model, or of others' log-densities and samples; the exit status."""
    parser = argparse.ArgumentParser(
        prog=command,
        description=audit_command.__doc__,
        epilog="Data are named as for training: --data=EarthData --data.name=flood, or --config FILE.yaml.",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt", type=local_path, help="A checkpoint; its data are named in it.")
    parser.add_argument("--scored", type=local_path, help="Table of test points with a column log_prob in nats.")
    parser.add_argument("--grid", type=local_path, help="Table of points all over with columns log_prob and volume.")
    parser.add_argument("--samples", type=local_path, help="Table of samples, perhaps with a column log_prob.")
    parser.add_argument("--config", help="A configuration, a file or by name, of which the data are taken.")
    parser.add_argument("--out", type=local_path, help="JSON file for all that was found.")
    add_loading(parser)
    options, rest = parser.parse_known_args(args)
    with in_one_line(command) as failure:
        import_own(options.modules)
        require_device(options.device)
        if options.out is not None:
            require_free(options.out)
        with Signals():
            found = _audit(options, _data(options.config, rest))
        print(found.text)
        if options.out is not None:
            new_text(options.out, json.dumps(found.findings, indent=2) + "\n")
        return 0
    return failure.status


def _audit(options: argparse.Namespace, data: ManifoldData | None) -> Audit:
    files = [options.scored, options.grid, options.samples]
    if options.ckpt is not None:
        if data is not None or any(files):
            raise UsageError("--ckpt is examined alone, on the data that it names: leave the other options out.")
        return audit(load(options.ckpt, options.device), data=load_data(read_checkpoint(options.ckpt)))
    if data is None or not any(files):
        raise UsageError(
            "expected --ckpt; or --scored, --grid or --samples, and --data or --config, which say of what."
        )
    data.prepare_data()
    data.setup()
    given: dict[str, Any] = {}
    if options.scored is not None:
        weight = data.provenance().get("weight")
        points, log_density, *weights = _table(data, options.scored, "log_prob", *([weight] if weight else []))
        given["scored"] = (points, log_density - data.log_unit(points), *weights)
    if options.grid is not None:
        given["grid"] = _grid(data, options.grid)
    if options.samples is not None:
        points, (log_density,) = read_points(data, options.samples, "log_prob")
        given["sample"] = points if log_density is None else (points, log_density - data.log_unit(points))
    return audit(**given, data=data)


def _grid(data: ManifoldData, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Points, log-densities and volumes by the unit of the columns, or by that of the manifold in a grid of our own."""
    points, (log_density, volume) = read_points(data, path, "log_density", "volume")
    if log_density is not None and volume is not None:  # as `evaluate --grid` writes it
        return points, log_density, volume
    points, log_density, volume = _table(data, path, "log_prob", "volume")
    unit = data.log_unit(points)
    return points, log_density - unit, volume * unit.exp()


def _table(data: ManifoldData, path: Path, *columns: str) -> tuple[Tensor, ...]:
    """Points, and columns that have to be there."""
    points, numbers = read_points(data, path, *columns)
    missing = [name for name, values in zip(columns, numbers, strict=True) if values is None]
    if missing:
        raise ValueError(f"{path}: found no column {' and '.join(missing)} beside {', '.join(data.header)}.")
    return (points, *numbers)


def _data(name: str | None, args: list[str]) -> ManifoldData | None:
    """Those of a configuration, with what the command line says otherwise."""
    if name is not None:
        file = file_of(name)
        require_settings(file)
        configuration = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        if "data" not in configuration:
            raise UsageError(f"{file}: found no data, expected the configuration of a run.")
        data = configuration["data"]
        seed = configuration.get("seed_everything", 0)  # of the split, as in the run
        data["init_args"] = {"seed": seed} | (data.get("init_args") or {})
        args = [f"--data={json.dumps(data)}", *args]
    parser = Parser(parser_mode="omegaconf+", allow_abbrev=False)
    parser.add_subclass_arguments(ManifoldData, "data", required=False)
    with mended(), of_settings():
        return parser.instantiate(parser.parse_args(args)).data
