"""The parts of a data set: train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PARTS = ("train", "val", "test")
#: share of its rows that each part shall have, and the orders that are drawn for it
_ENOUGH, _DRAWS = 0.5, 100


class Split(NamedTuple):
    """One part of a data set: points ``(N, *shape)``, float64, and their context (N, c) or None."""

    points: Tensor
    context: Tensor | None = None

    def rows(self, index: Tensor) -> Split:
        """The rows that ``index`` selects."""
        return Split(self.points[index], None if self.context is None else self.context[index])


def draw_rows(n: int, count: int, weight: Tensor | None, generator: torch.Generator) -> Tensor:
    """``n`` of ``count`` rows, with replacement, in proportion to their weights ``(count,)``."""
    if weight is None:
        return torch.randint(count, (n,), generator=generator)
    # by the inverse of the distribution function: multinomial takes no more than 2^24 rows
    total = weight.cumsum(0)
    level = torch.rand(n, generator=generator, dtype=torch.float64) * total[-1]
    return torch.searchsorted(total, level, right=True).clamp_max(count - 1)


def split_rows(
    groups: Tensor, sizes: Sequence[int], generator: torch.Generator | None, names: Sequence[str] = PARTS
) -> list[Tensor]:
    """Rows of each part, by a random order of the groups, or by the order of their labels.

    A group belongs where its first row falls: sizes are exact for groups of one row, else off by less than a
    group. Where a large group leaves a part less than half of its rows another order is drawn, a hundred times at
    most, and the one is taken whose smallest part is best.

    Arguments:
        groups: (N,) labels; rows that share one stay together
        sizes: rows of each part but the last, which gets the rest
        generator: of the random order; None for the order of the labels
        names: of the parts

    Raises:
        ValueError: a part without rows
    """
    _, group, count = torch.unique(groups, return_inverse=True, return_counts=True)
    wanted = (*sizes, len(groups) - sum(sizes))
    parts, share = [], -1.0
    for _ in range(_DRAWS if generator is not None else 1):
        order = torch.arange(len(count)) if generator is None else torch.randperm(len(count), generator=generator)
        drawn = _in_order(order, group, count, sizes)
        found = min(len(rows) / max(1, size) for rows, size in zip(drawn, wanted, strict=True))
        if found > share:
            parts, share = drawn, found
        if share >= _ENOUGH:
            break
    for name, rows in zip(names, parts, strict=True):
        if not len(rows):
            raise ValueError(
                f"The {name} part has no rows: {len(groups)} rows in {len(count)} groups are too few to be "
                f"split into {', '.join(names[:-1])} and {names[-1]}. Expected at least 10 groups."
            )
    return parts


def _in_order(order: Tensor, group: Tensor, count: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The rows of the parts, where the groups are taken in an order."""
    first = torch.empty_like(count)
    first[order] = count[order].cumsum(0) - count[order]
    rows = first[group].argsort(stable=True)
    start = first[group][rows]
    part = torch.bucketize(start, torch.tensor(sizes).cumsum(0), right=True)
    return [rows[part == k] for k in range(len(sizes) + 1)]
