"""What stands for a value that is missing: words, and numbers that no other number of a column is near to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsgm.data.names import Floats

#: cells that are no value, in lower case
WORDS = frozenset(
    ("", "-", "--", ".", "?", "#n/a", "<na>", "missing", "n.a.", "n.d.", "n/a", "na", "nan", "nat", "none", "null")
)
#: what begins a row of a spreadsheet that sums up the others, in lower case
SUMS = frozenset(("average", "avg", "grand total", "mean", "median", "subtotal", "total", "totals"))
#: nines, as 999.9 and 9999; below zero those of two digits too, and the smallest numbers of two and four bytes
_NINES = [float("9" * k + "." + "9" * decimals) for k in range(3, 10) for decimals in range(5)]
_BELOW = [*_NINES, 99.0, 99.9, 99.99, 32768.0, 2147483648.0]
_FILL = 1e19  # beyond which are the numbers that grids are filled with


def no_values(names: Sequence[str], values: Floats) -> dict[int, str]:
    """Which rows (N, columns) have a number that stands for none: what is written so, and far from its column's others.

    Far is more than these are apart, or below zero where none of them is.

    Example:
        >>> no_values(["depth"], np.array([[3.0], [700.0], [-999.0]]))
        {2: 'depth -999 beside numbers from 3 to 700; many files write it for no value'}
        >>> no_values(["height"], np.array([[-3000.0], [9999.0], [8000.0]]))
        {}
    """
    found: dict[int, str] = {}
    for name, column in zip(names, values.T, strict=True):
        written = np.isin(column, _NINES) | np.isin(-column, _BELOW) | (np.abs(column) > _FILL)
        if written.all():
            continue
        low, high = column[~written].min(), column[~written].max()
        far = (column > high + (high - low)) | (column < low - (high - low)) | ((column < 0) & (low >= 0))
        for k in np.flatnonzero(written & far):
            text = f"{name} {column[k]:g} beside numbers from {low:g} to {high:g}; many files write it for no value"
            found.setdefault(int(k), text)
    return found
