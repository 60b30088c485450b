"""What is kept of a run: one line of plain numbers, small enough to be committed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rsgm.files import write_text
from rsgm.sweeps.plan import Sweep, SweepError
from rsgm.sweeps.run import metrics_file
from rsgm.sweeps.trial import Trial

#: numbers of every ``metrics.json`` that a record keeps, by their place in it
NUMBERS = (
    "validation.nll",
    "nll.mean",
    "nll.standard_error",
    "nll.n",
    "nll_exact",
    "nll_without_twins.mean",
    "split.twin_share",
    "perfect_model.mean",
    "nll_gap.mean",
    "normalisation",
    "normalisation_error",
    "resolution.radians",
    "resolution.data_units",
    "nfe",
    "parameters",
    "steps",
    "seconds.training.cpu",
    "seconds.evaluation.cpu",
    "versions.git",
)
#: those of them that have no mean
NO_QUANTITIES = ("nll_exact", "versions.git")

#: the folders of an absolute path
_FOLDERS = re.compile(r"""(?<![\w.~])/(?:[^\s/'"]+/)+""")


class Record(NamedTuple):
    """What is kept of a run.

    Fields:
        key: of its trial
        digest: of its trial, when it was run
        numbers: of ``metrics.json``, by their place in it, as far as they are there
        failure: the last line of its log, where it failed and has no numbers; of absolute paths the last part, for
            these records are published
    """

    key: str
    digest: str
    numbers: Mapping[str, Any]
    failure: str | None = None

    def number(self, place: str) -> float | None:
        """One of the numbers; None where there is none."""
        return self.numbers.get(place)


def collect(sweep: Sweep, folder: Path) -> dict[str, Record]:
    """The runs of a sweep that have ended, by the key of their trial.

    Arguments:
        sweep: whose trials are looked for, as they are now: runs of other settings are others
        folder: of all its runs
    """
    return {trial.key: record for trial in sweep.trials if (record := collect_one(sweep, trial, folder)) is not None}


def collect_one(sweep: Sweep, trial: Trial, folder: Path) -> Record | None:
    """That of one trial; None where its run has not ended."""
    path = metrics_file(folder / trial.name)
    if path is None:
        failure = folder / trial.name / "failure.txt"
        if not failure.exists():
            return None
        return failed(trial, failure.read_text(encoding="utf-8"))
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(metrics, Mapping):
            raise ValueError("no object")
    except ValueError as error:
        raise SweepError(
            f"{path}: found no metrics of a run ({error}); remove the file, and the sweep scores the run again."
        ) from None
    found = {place: _short(at(metrics, place)) for place in (*NUMBERS, *sweep.further)}
    return Record(trial.key, trial.digest, {place: value for place, value in found.items() if value is not None})


def failed(trial: Trial, failure: str) -> Record:
    """That of a run whose log ends so."""
    last = (failure.strip().splitlines() or ["no word was left"])[-1]
    return Record(trial.key, trial.digest, {}, _FOLDERS.sub("", last))


def read(path: Path) -> dict[str, Record]:
    """The records of a file, by key; none where there is no file.

    Raises:
        SweepError: for a line that is no record
    """
    found = {}
    for k, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1):
        if not line.strip():
            continue
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            raise SweepError(
                f"{path}:{k}: no record of a run; restore the file, or remove it and collect again."
            ) from None
        found[record.key] = record
    return found


def write(path: Path, records: Iterable[Record]) -> None:
    """One line for each record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(record._asdict()) + "\n" for record in records))


def at(metrics: Any, place: str) -> Any:
    """What ``metrics.json`` has at a place, names joined by dots; None where there is nothing."""
    for key in place.split("."):
        metrics = metrics.get(key) if isinstance(metrics, Mapping) else None
    return metrics


def _short(value: Any) -> Any:
    """Seven digits say what a table needs, and keep a line short."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
