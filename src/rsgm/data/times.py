"""Columns of times: numbers, or dates as ISO 8601 writes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from rsgm.data.missing import no_values
from rsgm.data.text import is_number, number

_YEAR = r"(?:1[5-9]|20)\d\d"
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
#: 8.2021, 31122020 and 12312020, whose order as numbers is not that of the times; a zero before them may be lost
_YEAR_LAST = re.compile(rf"0?(?=\d)(?:{_MONTH}|[1-9])(?:\.|{_DAY}){_YEAR}|(?:{_DAY}|[1-9]){_MONTH}{_YEAR}")
#: 2020, 202012, 20201231 and so on, whose order is that of the times among those of one length
_DATE = re.compile(rf"{_YEAR}(?:{_MONTH}(?:{_DAY}(?:\d\d){{0,3}})?)?")
#: what begins with all digits of its year, without which a day may be meant
_ISO = re.compile(r"\d{4}|[+-]?\d{4,}-.*")


def times_of(name: str, cells: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """Times of cells (N,), in an order.

    Arguments:
        name: of the column
        cells: theirs
        where: the file and the line of a row, for errors

    Raises:
        ValueError: neither numbers nor dates, or numbers that are dates of another order
    """
    if all(map(_YEAR_LAST.fullmatch, cells)) or (len(set(map(len, cells))) > 1 and all(map(_DATE.fullmatch, cells))):
        raise ValueError(
            f"{where(0)}: {name} {cells[0]!r} looks like a date, and as numbers these are not in the order of time. "
            "Expected dates such as 2024-01-31: write them so."
        )
    if not all(map(is_number, cells)):
        return _dates(name, cells, where)
    # nanoseconds since 1970 are more than floating point tells apart
    whole = all(cell.isdecimal() for cell in cells)
    values = np.array(list(map(int, cells)), dtype=object) if whole else np.array(list(map(number, cells)))
    for k, fault in no_values([name], values.astype(float)[:, None]).items():
        raise ValueError(f"{where(k)}: {fault}. Expected a time: correct the line, or leave it out.")
    return values


def _dates(name: str, cells: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    times = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*timezone")  # an offset is reckoned with, as it should be
        for k, cell in enumerate(cells):
            try:
                # of microseconds, which reach beyond all years; words such as "now" are none
                times.append(np.datetime64(cell.removesuffix("Z") if _ISO.fullmatch(cell) else "", "us"))
            except ValueError:
                times.append(np.datetime64("NaT"))
            if np.isnat(times[-1]):
                raise ValueError(
                    f"{where(k)}: {name} {cell!r} is no time. Expected numbers in all rows, or dates such as "
                    "2024-01-31 and 2024-01-31T12:00:00."
                )
    return np.array(times)
