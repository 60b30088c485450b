"""The one clock of the benchmarks: contestants interleaved in one process, on one thread, compared by ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch


class Row(NamedTuple):
    """One comparison: ``ratio`` is the contestant's time over the reference's, ``reach`` the most that it should be."""

    what: str
    contestant: str
    reference: str
    ratio: float
    reach: float


HEADER = "| what | this package | beside | ratio | reach |\n|---|---|---|---|---|"


class Times:
    """CPU seconds of contestants, by round."""

    def __init__(self, rounds: dict[str, list[float]]) -> None:
        self.rounds = rounds

    def median(self, name: str) -> float:
        """Seconds of one call, the median of the rounds."""
        return statistics.median(self.rounds[name])

    def ratio(self, top: str, bottom: str) -> float:
        """The median of the rounds' ratios, in each of which both met the same machine."""
        return statistics.median(a / b for a, b in zip(self.rounds[top], self.rounds[bottom], strict=True))


def measure(cases: dict[str, Callable[[], object]], rounds: int = 7, least: float = 0.05) -> Times:
    """The times of calls without arguments, after one that is not counted.

    Arguments:
        cases: the contestants, by name; each round calls all of them, in order
        rounds: how many
        least: seconds for which one is called again and again in a round
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {name: _calls(case, least) for name, case in cases.items()}
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, case in cases.items():
                found[name].append(_seconds(case, calls[name]))
    finally:
        torch.set_num_threads(threads)
    return Times(found)


def show(rows: Iterable[Row]) -> None:
    """Print a line for each row as it comes."""
    for row in rows:
        mark = "" if row.ratio <= row.reach else "  not reached"
        print(
            f"{row.what:<46} {row.contestant} / {row.reference}: {row.ratio:.3g} (reach {row.reach:.3g}){mark}",
            flush=True,
        )


def table(rows: Iterable[Row]) -> None:
    """Print rows of a table in Markdown as they come; ratios in bold are above what they should be."""
    for row in rows:
        reached = f"{row.ratio:.2f}" if row.ratio <= row.reach else f"**{row.ratio:.2f}**"
        print(f"| {row.what} | {row.contestant} | {row.reference} | {reached} | {row.reach:g} |", flush=True)


def _calls(case: Callable[[], object], least: float) -> int:
    case()
    return max(1, round(least / max(_seconds(case, 1), 1e-9)))


def _seconds(case: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        case()
    return (time.process_time() - start) / calls
