"""The parts of a data set: train, validation and test."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PARTS = ("train", "val", "test")
#: share of its rows that each part shall have, and the orders that are drawn for it
_ENOUGH, _DRAWS = 0.5, 100


class Split(NamedTuple):
    """One part of a data set: points (N, *shape), float64, and their context (N, c) or None."""

    points: Tensor
    context: Tensor | None = None

    def rows(self, index: Tensor) -> Split:
        """The rows that ``index`` selects."""
        return Split(self.points[index], None if self.context is None else self.context[index])


def split_rows(groups: Tensor, sizes: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
    """Rows of train, val and test, by a random order of the groups.

    A group belongs where its first row falls: sizes are exact for groups of one row, else off by less than a
    group. Where a large group leaves a part less than half of its rows another order is drawn, a hundred times at
    most, and the one is taken whose smallest part is best.

    Arguments:
        groups: (N,) labels; rows that share one stay together
        sizes: rows of train and of val; the rest is test

    Raises:
        ValueError: a part without rows
    """
    _, group, count = torch.unique(groups, return_inverse=True, return_counts=True)
    wanted = (*sizes, len(groups) - sum(sizes))
    parts, share = [], -1.0
    for _ in range(_DRAWS):
        drawn = _in_order(torch.randperm(len(count), generator=generator), group, count, sizes)
        found = min(len(rows) / max(1, size) for rows, size in zip(drawn, wanted, strict=True))
        if found > share:
            parts, share = drawn, found
        if share >= _ENOUGH:
            break
    for name, rows in zip(PARTS, parts, strict=True):
        if not len(rows):
            raise ValueError(
                f"The {name} part has no rows: {len(groups)} rows in {len(count)} groups are too few to be "
                "split into train, val and test. Expected at least 10 groups."
            )
    return parts


def _in_order(order: Tensor, group: Tensor, count: Tensor, sizes: tuple[int, int]) -> list[Tensor]:
    """The rows of the three parts, where the groups are taken in an order."""
    first = torch.empty_like(count)
    first[order] = count[order].cumsum(0) - count[order]
    rows = first[group].argsort(stable=True)
    start = first[group][rows]
    part = (start >= sizes[0]).long() + (start >= sum(sizes)).long()
    return [rows[part == k] for k in range(3)]
