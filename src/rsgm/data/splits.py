"""The parts of a data set: train, validation and test."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PARTS = ("train", "val", "test")


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
    group.

    Arguments:
        groups: (N,) labels; rows that share one stay together
        sizes: rows of train and of val; the rest is test

    Raises:
        ValueError: a part without rows
    """
    _, group, count = torch.unique(groups, return_inverse=True, return_counts=True)
    order = torch.randperm(len(count), generator=generator)
    first = torch.empty_like(count)
    first[order] = count[order].cumsum(0) - count[order]
    rows = first[group].argsort(stable=True)
    start = first[group][rows]
    part = (start >= sizes[0]).long() + (start >= sum(sizes)).long()
    parts = [rows[part == k] for k in range(3)]
    for name, found in zip(PARTS, parts, strict=True):
        if not len(found):
            raise ValueError(
                f"The {name} part has no rows: {len(groups)} rows in {len(count)} groups are too few to be "
                "split into train, val and test. Expected at least 10 groups."
            )
    return parts
