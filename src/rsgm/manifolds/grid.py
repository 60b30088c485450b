"""Grids all over a compact manifold, with the volumes that turn sums into integrals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Grid(NamedTuple):
    r"""Points and volumes: :math:`\int f\,d\mathrm{vol} \approx \sum_i f(x_i)\,v_i`.

    Arguments:
        points: ``(m, *shape)``, float64
        volume: ``(m,)``, the share of the manifold's volume that each point stands for; they add up to all of it

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> points, volume = Sphere(2).grid(1000)
        >>> (points[:, 0].square() * volume).sum() / volume.sum()
        tensor(0.3333, dtype=torch.float64)
    """

    points: Tensor
    volume: Tensor


def chart_grid(chart: Callable[[Tensor], Tensor], extent: Sequence[float], volume: float, n: int) -> Grid:
    """About ``n`` points of a volume-preserving chart of the unit cube, as close along one axis as along another.

    The nodes of an axis that closes, as a longitude does, are even (the trapezoidal rule), those of another are
    Gauss and Legendre's: on either the error falls faster than any power of the spacing, if the function is smooth.

    Arguments:
        chart: from ``(m, dim)`` in the cube to points ``(m, *shape)``
        extent: lengths of the axes
        volume: of the manifold
        n: how many points, about
    """
    dim = len(extent)
    spacing = (torch.tensor(extent, dtype=torch.float64).prod() / n) ** (1 / dim)
    axes, shares = [], []
    for axis, length in enumerate(extent):
        count = max(1, round(length / float(spacing)))
        ends = torch.full((2, dim), 0.3, dtype=torch.float64)
        ends[:, axis] = torch.tensor([0.0, 1.0])
        first, last = chart(ends)
        if torch.allclose(first, last, rtol=0, atol=1e-9):
            axes.append((torch.arange(count, dtype=torch.float64) + 0.5) / count)
            shares.append(torch.full((count,), 1 / count, dtype=torch.float64))
        else:
            height, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(count))
            axes.append((1 + height) / 2)
            shares.append(weight / 2)
    return Grid(chart(_cartesian(axes)), volume * _cartesian(shares).prod(-1))


def product_grid(join: Callable[[list[Tensor]], Tensor], grids: Sequence[Grid]) -> Grid:
    """Every point of each grid with every point of the others; the volumes multiply."""
    index = _cartesian([torch.arange(len(grid.volume)) for grid in grids]).unbind(-1)
    volume = torch.stack([grid.volume[k] for grid, k in zip(grids, index, strict=True)]).prod(0)
    return Grid(join([grid.points[k] for grid, k in zip(grids, index, strict=True)]), volume)


def _cartesian(axes: list[Tensor]) -> Tensor:
    # torch.cartesian_prod drops the last axis where there is one factor
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))
