"""Blocks of near points, the boxes that hold them, and the nearest of all points."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsgm.manifolds import Manifold
from rsgm.progress import bar

#: points whose neighbours are sought together
_BLOCK = 128
#: pairs of points whose distances are held at a time
_PAIRS = 2**20


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

    def apart(self, box: int) -> Tensor:
        """The squared distances ``(m,)`` of one box to all of them, zero where they overlap."""
        gap = torch.maximum(self.low - self.high[box], self.low[box] - self.high).relu_()
        return gap.square().sum(-1)


def nearest(manifold: Manifold, points: Tensor, k: int, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The geodesic distances ``(m, k)`` to the k nearest others of points, the nearest first, and their indices.

    Near points search together: the k-th distances within the nearest boxes bound how far off a box may be that holds
    a neighbour. The time grows little faster than the number of points.

    Arguments:
        manifold: one with `Manifold.bump_coordinates`, whose distances are at most the geodesic ones
        points: ``(n, *shape)``, float64
        k: from 1 to n - 1
        of: indices ``(m,)`` of those whose neighbours are sought; None for all
    """
    of = torch.arange(len(points), device=points.device) if of is None else of
    order = spatial_order(manifold.bump_coordinates(points), _BLOCK)
    points, asked = points[order], torch.zeros_like(order, dtype=torch.bool).index_fill(0, of, True)[order]
    coordinates = manifold.bump_coordinates(points)
    boxes, rounding = Boxes.around(coordinates, _BLOCK), 1e-14 * coordinates.abs().max()
    rows = torch.arange(len(points), device=points.device).split(_BLOCK)
    # one box more than hold k others, for the last may be nearly empty
    enough = min(len(rows), -(-(k + 1) // _BLOCK) + 1)

    def among(own: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        others = torch.cat([rows[box] for box in seen.sort().values.tolist()])
        parts = []
        for some in own.split(max(1, _PAIRS // len(others))):
            distance = manifold.dist(points[some, None], points[others][None])
            parts.append(distance.masked_fill_(others == some[:, None], math.inf).topk(k, largest=False))
        distance, index = (torch.cat(part) for part in zip(*parts, strict=True))
        return distance, others[index]

    distance, index = points.new_empty(len(points), k), order.new_empty(len(points), k)
    with bar("neighbours", len(of)) as shown:
        for box, own in enumerate(rows):
            own = own[asked[own]]
            if not len(own):
                continue
            gap = boxes.apart(box).sqrt()
            found = among(own, gap.argsort(stable=True)[:enough])
            near = (gap <= found[0].max() * (1 + 1e-9) + rounding).nonzero()[:, 0]
            if len(near) > enough:
                found = among(own, near)
            distance[order[own]], index[order[own]] = found[0], order[found[1]]
            shown.update(len(own))
    return distance[of], index[of]
