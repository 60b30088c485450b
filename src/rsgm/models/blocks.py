"""Blocks of near points, and the boxes that hold them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def spatial_order(coordinates: Tensor, size: int) -> Tensor:
    """An order ``(n,)`` in which any ``size`` points from a multiple of it on are near one another, by a k-d tree.

    Arguments:
        coordinates: ``(n, k)``
        size: of the leaves

    Example:
        >>> spatial_order(torch.tensor([[0.0], [5.0], [1.0], [6.0]]), 2)
        tensor([0, 2, 1, 3])
    """
    x = coordinates.detach().cpu().numpy()
    open_, leaves = [np.arange(len(x))], []
    while open_:
        rows = open_.pop()
        if len(rows) <= size:
            leaves.append(rows)
            continue
        inside = x[rows]
        middle = size * (-(-len(rows) // size) // 2)
        parts = inside[:, np.ptp(inside, 0).argmax()].argpartition(middle)
        open_ += [rows[parts[middle:]], rows[parts[:middle]]]
    return torch.from_numpy(np.concatenate(leaves)).to(coordinates.device)


class Boxes(NamedTuple):
    """The smallest boxes around runs of points.

    Fields:
        low: least coordinates, ``(m, k)``
        high: largest ones
    """

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, coordinates: Tensor, size: int) -> Boxes:
        """Those around each ``size`` of the points ``(n, k)``."""
        parts = coordinates.detach().split(size)
        return cls(torch.stack([part.amin(0) for part in parts]), torch.stack([part.amax(0) for part in parts]))

    def gaps(self, coordinates: Tensor) -> Tensor:
        """The squared distances ``(B, m)`` of points to the boxes, zero inside."""
        total = coordinates.new_zeros(len(coordinates), len(self.low))
        for x, low, high in zip(coordinates.T, self.low.T, self.high.T, strict=True):
            gap = torch.maximum(low - x[:, None], x[:, None] - high).relu_()
            total.addcmul_(gap, gap)
        return total
