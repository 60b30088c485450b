"""From records to rows: the choice on validation, means over seeds with their intervals, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scipy.special import stdtrit

from rsgm.sweeps.plan import Sweep
from rsgm.sweeps.records import Record
from rsgm.sweeps.trial import Group, Trial


class Interval(NamedTuple):
    r"""A mean over seeds, and the half-width of its 95 % interval after Student, :math:`t_{n-1,.975}\,s/\sqrt n`.

    Fields:
        mean: over the seeds
        half: the half-width; None for one seed, which says nothing of others
        n: number of seeds
    """

    mean: float
    half: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval | None:
        """That of some values; None of no values.

        Example:
            >>> Interval.of([1.0, 2.0, 3.0])
            Interval(mean=2.0, half=2.484..., n=3)
        """
        found = list(values)
        if not found:
            return None
        n, mean = len(found), math.fsum(found) / len(found)
        if n == 1:
            return cls(mean, None, 1)
        variance = math.fsum((value - mean) ** 2 for value in found) / (n - 1)
        return cls(mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n), n)


class Candidate(NamedTuple):
    """One choice of settings of a method on a case.

    Fields:
        trials: one for each seed
        validation: the number that candidates are compared by, over the seeds of the comparison; infinite where one of
            them failed or was not validated; None where one has not ended
        chosen: whether it is the best; None where that is not known yet
    """

    trials: tuple[Trial, ...]
    validation: Interval | None
    chosen: bool | None


class Row(NamedTuple):
    """A method on a case, with the settings that validation chose.

    Fields:
        case, method: their names
        trials: one for each seed
        among: number of candidates
        records: of the runs that were scored, by seed
        failures: of the others that have ended, by seed
        stale: whether a run was made with other settings than the file has now
        difference: of the negative log-likelihood to the reference's, seed by seed
    """

    case: str
    method: str
    trials: tuple[Trial, ...]
    among: int
    records: dict[int, Record]
    failures: dict[int, str]
    stale: bool
    difference: Interval | None

    def over_seeds(self, place: str) -> Interval | None:
        """A number of ``metrics.json``, over the runs that have it."""
        return Interval.of(self.values(place))

    def values(self, place: str) -> list[float]:
        """A number of ``metrics.json``, of each run that has it."""
        return [value for record in self.records.values() if (value := record.number(place)) is not None]


def candidates(sweep: Sweep, group: Group, records: Mapping[str, Record]) -> list[Candidate]:
    """Those of a group, in the file's order; a single one needs no comparison."""
    found = [_validation(sweep, trials, records) for trials in group.candidates]
    if len(found) == 1:
        return [Candidate(group.candidates[0], found[0], True)]
    means = [math.nan if interval is None else interval.mean for interval in found]
    known = not any(map(math.isnan, means))
    best = means.index(min(means)) if known and math.isfinite(min(means)) else None
    return [
        Candidate(trials, interval, (k == best) if known else None)
        for k, (trials, interval) in enumerate(zip(group.candidates, found, strict=True))
    ]


def due(sweep: Sweep, records: Mapping[str, Record]) -> list[tuple[Trial, list[Trial]]]:
    """The trials that have not ended and can be run now, each with the trials that it mixes.

    On seeds that candidates are not compared on only those of the best one, and mixtures only where the best candidate
    of each of their parts has ended well.
    """
    options = [candidate for group in sweep.groups for candidate in candidates(sweep, group, records)]
    best = {trial.key for candidate in options if candidate.chosen for trial in candidate.trials}
    well = {key for key in best if key in records and records[key].failure is None}
    found = []
    for candidate in options:
        for trial in candidate.trials:
            parts = [part for part in trial.parts if part.key in well]
            complete = len(parts) == len({part.method for part in trial.parts})
            if trial.key not in records and complete and (sweep.compares(trial.seed) or candidate.chosen):
                found.append((trial, parts))
    return found


def rows(sweep: Sweep, records: Mapping[str, Record]) -> list[Row]:
    """Those with a result or a failure, case by case, in the file's order."""
    best = {
        (group.case, group.method): (chosen.trials, len(group.candidates))
        for group in sweep.groups
        if (chosen := _chosen(candidates(sweep, group, records))) is not None
    }
    found = []
    for case in sweep.cases:
        reference, _ = best.get((case, sweep.reference), ((), 0))
        for method in sweep.methods:
            trials, among = best.get((case, method), ((), 0))
            ended = {trial.seed: records[trial.key] for trial in trials if trial.key in records}
            if not ended:
                continue
            scored = {seed: record for seed, record in ended.items() if record.failure is None}
            failures = {seed: record.failure for seed, record in ended.items() if record.failure is not None}
            stale = any(trial.key in records and records[trial.key].digest != trial.digest for trial in trials)
            difference = None if method == sweep.reference else _paired(scored, reference, records)
            found.append(Row(case, method, trials, among, scored, failures, stale, difference))
    return found


def _chosen(options: Sequence[Candidate]) -> Candidate | None:
    """The best candidate; the first of those that all failed; None where it is not known yet."""
    if any(option.chosen is None for option in options):
        return None
    return next((option for option in options if option.chosen), options[0])


def _validation(sweep: Sweep, trials: Sequence[Trial], records: Mapping[str, Record]) -> Interval | None:
    ended = [records.get(trial.key) for trial in trials if sweep.compares(trial.seed)]
    if None in ended:
        return None
    values = [record.number(sweep.select) for record in ended]
    if any(value is None or not math.isfinite(value) for value in values):
        return Interval(math.inf, None, len(values))
    return Interval.of(values)


def _paired(scored: Mapping[int, Record], reference: Sequence[Trial], records: Mapping[str, Record]) -> Interval | None:
    """The mean difference over the seeds that both have: the same split, and the same test points."""
    other = {trial.seed: records[trial.key].number("nll.mean") for trial in reference if trial.key in records}
    pairs = [(record.number("nll.mean"), other.get(seed)) for seed, record in scored.items()]
    return Interval.of(one - two for one, two in pairs if one is not None and two is not None)
