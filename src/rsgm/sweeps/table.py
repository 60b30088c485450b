"""A table of the runs below a folder, whatever command made them."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsgm.data.text import is_number
from rsgm.sweeps.plan import SweepError
from rsgm.sweeps.records import at
from rsgm.sweeps.run import newest_metrics

#: what the table shows of each run, by its place in ``metrics.json``, and how it is headed
COLUMNS = {
    "model": "model",
    "data.name": "data",
    "split.protocol": "split",
    "seed": "seed",
    "steps": "steps",
    "nll.mean": "test NLL",
    "nll.standard_error": "± s.e.",
    "baselines.kernel_density.nll.mean": "kernels",
    "normalisation": "Z",
    "seconds.training.cpu": "CPU-s",
}
#: what a run leaves before it is scored
_TRACES = ("config.yaml", "last.ckpt", "best.ckpt")


class ScoredRun(NamedTuple):
    """A run.

    Fields:
        name: its folder, from the one that was searched
        metrics: what it was scored as last; None where it is not finished
    """

    name: str
    metrics: Mapping[str, Any] | None


def find_runs(folder: Path) -> list[ScoredRun]:
    """The runs below a folder, or in it, by name.

    Raises:
        SweepError: for a folder that is not there or holds no run, and for metrics that cannot be read
    """
    if not folder.is_dir():
        raise SweepError(f"There is no folder {folder}; expected one with runs, such as runs.")
    found = sorted(_folders(folder), key=lambda path: [_natural(part) for part in path.relative_to(folder).parts])
    if not found:
        raise SweepError(f"{folder} holds no run: no folder below it has {', '.join(_TRACES)} or metrics.json.")
    return [ScoredRun(str(path.relative_to(folder)), _metrics(path)) for path in found]


def sort_runs(runs: Sequence[ScoredRun], key: str) -> list[ScoredRun]:
    """The least value first; runs without one last.

    Raises:
        SweepError: where no run has a value there
    """
    require_places(runs, [key])
    with_value = [run for run in runs if at(run.metrics, key) is not None]
    without = [run for run in runs if at(run.metrics, key) is None]
    numbers = all(isinstance(at(run.metrics, key), int | float) for run in with_value)
    return sorted(with_value, key=lambda run: at(run.metrics, key) if numbers else str(at(run.metrics, key))) + without


def require_places(runs: Iterable[ScoredRun], places: Iterable[str]) -> None:
    """Raise a SweepError for a place that no run's metrics have, with the nearest that there are."""
    known = {place for run in runs if run.metrics is not None for place in _places(run.metrics)}
    for place in places if known else ():
        if place not in known:
            near = ", ".join(difflib.get_close_matches(place, sorted(known), 5, 0.5)) or "none like it"
            raise SweepError(f"No run's metrics.json has {place}; found {near}. Names are joined by dots: nll.mean.")


def text_table(runs: Iterable[ScoredRun], columns: Mapping[str, str]) -> str:
    """One line for each run: its name and the values at some places, under their heads; unfinished runs are marked."""
    rows = [["run", *columns.values()]]
    rows += [[run.name, *(_cells(run, columns))] for run in runs]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    numeric = [all(_is_number(cell) for cell in cells[1:]) for cells in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def csv_table(runs: Iterable[ScoredRun], places: Iterable[str]) -> str:
    """The same as CSV, under the places' own names and with all digits; empty cells where there is nothing."""
    file, places = io.StringIO(), list(places)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "finished", *places])
    for run in runs:
        values = (at(run.metrics, place) for place in places)
        writer.writerow([run.name, run.metrics is not None, *("" if value is None else value for value in values)])
    return file.getvalue()


def _folders(folder: Path) -> Iterator[Path]:
    seen = set()
    for pattern in (*_TRACES, "metrics.json"):
        for path in folder.rglob(pattern):
            if path.parent not in seen:
                seen.add(path.parent)
                yield path.parent


def _metrics(folder: Path) -> Mapping[str, Any] | None:
    path = newest_metrics(folder.glob("metrics*.json"))
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise SweepError(f"{path} holds no metrics; evaluate the run again, or remove the file.")
    return found


def _natural(name: str) -> tuple[str, int]:
    """``version_2`` before ``version_10``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _places(metrics: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in metrics.items():
        yield before + key
        if isinstance(value, Mapping):
            yield from _places(value, f"{before}{key}.")


def _cells(run: ScoredRun, columns: Mapping[str, str]) -> list[str]:
    if run.metrics is None:
        return ["unfinished", *[""] * (len(columns) - 1)]
    return [_short(at(run.metrics, place)) for place in columns]


def _short(value: Any) -> str:
    """Five digits of a number; of a class the last part of its path."""
    if isinstance(value, float):
        return f"{value:.5g}"
    text = "" if value is None else str(value)
    return text.rpartition(".")[2] if text.startswith("rsgm.") else text


def _is_number(cell: str) -> bool:
    return not cell or cell == "unfinished" or is_number(cell)
