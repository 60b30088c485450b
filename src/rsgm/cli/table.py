"""The command `rsgm runs`: a table of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsgm import sweeps
from rsgm.cli.errors import in_one_line


def runs_command(args: list[str] | None = None, command: str = "rsgm runs") -> int:
    """Tabulate the runs below a folder by what they were scored as; the exit status."""
    parser = argparse.ArgumentParser(prog=command, description=runs_command.__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="Of the runs (default: runs).")
    parser.add_argument("--sort", metavar="KEY", help="Least first, by a key of metrics.json, such as nll.mean.")
    parser.add_argument(
        "--columns",
        metavar="KEY",
        nargs="+",
        help="Keys of metrics.json to show, such as steps nll.mean.",
    )
    parser.add_argument("--csv", action="store_true", help="As CSV, with all digits.")
    options = parser.parse_args(args)
    columns = sweeps.COLUMNS if options.columns is None else {key: key for key in options.columns}
    with in_one_line(command) as failure:
        found = sweeps.find_runs(options.folder)
        if options.columns is not None:
            sweeps.require_places(found, columns)
        if options.sort is not None:
            found = sweeps.sort_runs(found, options.sort)
        if options.csv:
            print(sweeps.csv_table(found, columns), end="")
        else:
            print(sweeps.text_table(found, columns))
        return 0
    return failure.status
