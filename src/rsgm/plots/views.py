"""Which pictures belong to which manifold.

Two generic functions on the class of the manifold. A manifold from outside the package registers its own:

    @rsgm.plots.draw_samples.register
    def _(manifold: MyManifold, samples, reference, columns=()): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import singledispatch

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from rsgm.data.earth import to_degrees
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.plots.disk import disk_density, disk_samples
from rsgm.plots.earth import density_map, sample_map
from rsgm.plots.globe import interpolate
from rsgm.plots.plane import line_density, line_samples, plane_density, plane_samples
from rsgm.plots.rotations import rotation_histograms
from rsgm.plots.style import window
from rsgm.plots.torus import angle_pairs, circle_density, circle_samples, interpolate_angles, torus_density

Density = Callable[[Tensor], Tensor]
Known = tuple[Tensor, Tensor]

_CELLS = 60  # of the grids on which a density is evaluated, along each axis
_DOTS = 1000  # most train, and most test, points on the picture of a density in the plane


@singledispatch
def draw_samples(manifold: Manifold, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    """Samples beside the points that they should resemble; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        samples, reference: ``(n, *shape)``, ``(m, *shape)``
        columns: names of the data's columns, which the axes bear where there is one for each coordinate
    """
    return None


@singledispatch
def draw_density(
    manifold: Manifold,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    columns: Sequence[str] = (),
    known: Known | None = None,
) -> Figure | None:
    """A density and the points that it was fitted to and is scored on; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        log_density: ``(n, *shape) -> (n,)``, nats
        train, test: ``(n, *shape)``, ``(m, *shape)``
        columns: names of the data's columns, which the axes bear where there is one for each coordinate
        known: points all over a compact manifold and the log-density there, which need no evaluation
    """
    return None


@draw_samples.register
def _(manifold: Sphere, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    if manifold.dim == 1:
        return circle_samples(_longitude(samples), _longitude(reference))
    return sample_map(to_degrees(samples), to_degrees(reference)) if manifold.dim == 2 else None


@draw_density.register
def _(
    manifold: Sphere,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    columns: Sequence[str] = (),
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    if manifold.dim == 1:
        return circle_density(_longitude(nodes), values, _longitude(train), _longitude(test))
    return density_map(*interpolate(to_degrees(nodes), values), to_degrees(train), to_degrees(test))


@draw_samples.register
def _(manifold: Torus, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    drawn, expected = _angles(manifold, samples), _angles(manifold, reference)
    if manifold.dim == 1:
        return circle_samples(drawn[:, 0], expected[:, 0])
    return angle_pairs(drawn, expected, _names(manifold, columns))


@draw_density.register
def _(
    manifold: Torus,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    columns: Sequence[str] = (),
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    angles, fitted, scored = (_angles(manifold, x) for x in (nodes, train, test))
    if manifold.dim == 1:
        return circle_density(angles[:, 0], values, fitted[:, 0], scored[:, 0])
    grid = interpolate_angles(angles, values)
    return torus_density(*grid, fitted[:_DOTS], scored[:_DOTS], _names(manifold, columns))


@draw_samples.register
def _(manifold: SpecialOrthogonal, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    return rotation_histograms(_array(samples), _array(reference))


@draw_samples.register
def _(manifold: Hyperbolic, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    return disk_samples(_ball(manifold, samples), _ball(manifold, reference)) if manifold.dim == 2 else None


@draw_density.register
def _(
    manifold: Hyperbolic,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    columns: Sequence[str] = (),
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim != 2:
        return None
    fitted, scored = _ball(manifold, train), _ball(manifold, test)
    # beyond the data the density need not be evaluated, nor can it be up to the boundary
    furthest = 2 * np.arctanh(np.hypot(*np.concatenate([fitted, scored]).T).max()) + 0.5
    radius = torch.tanh(torch.linspace(0, furthest, _CELLS // 2 + 1, dtype=torch.float64) / 2)
    angle = torch.arange(_CELLS, dtype=torch.float64) * (2 * math.pi / _CELLS)
    places = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    values = _array(log_density(manifold.from_ball(places.flatten(0, 1)))).reshape(len(radius), _CELLS)
    return disk_density(radius, angle, values, fitted[:_DOTS], scored[:_DOTS])


@draw_samples.register
def _(manifold: Euclidean, samples: Tensor, reference: Tensor, columns: Sequence[str] = ()) -> Figure | None:
    drawn, expected, names = _array(samples), _array(reference), _names(manifold, columns)
    if manifold.dim == 1:
        return line_samples(drawn[:, 0], expected[:, 0], names and names[0])
    return plane_samples(drawn, expected, names)


@draw_density.register
def _(
    manifold: Euclidean,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    columns: Sequence[str] = (),
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    fitted, scored, names = _array(train), _array(test), _names(manifold, columns)
    limits = window(np.concatenate([fitted, scored]))
    # a square, for the picture is one
    middle, half = limits.mean(1), np.ptp(limits, axis=1).max() / 2
    axes = [torch.linspace(centre - half, centre + half, _CELLS, dtype=torch.float64) for centre in middle]
    places = torch.cartesian_prod(*axes).reshape(-1, manifold.dim)
    values = _array(log_density(places))
    if manifold.dim == 1:
        return line_density(axes[0], values, fitted[:, 0], scored[:, 0], names and names[0])
    grid = values.reshape(_CELLS, _CELLS).T
    return plane_density(axes[0], axes[1], grid, fitted[:_DOTS], scored[:_DOTS], names)


def _everywhere(manifold: Manifold, log_density: Density, known: Known | None) -> tuple[Tensor, NDArray[np.float64]]:
    """Points all over a manifold and the log-density there: those that are known, or a grid in its chart."""
    if known is None:
        axis = (torch.arange(_CELLS, dtype=torch.float64) + 0.5) / _CELLS
        nodes = manifold.from_unit_cube(torch.cartesian_prod(*[axis] * manifold.dim).reshape(-1, manifold.dim))
        known = nodes, log_density(nodes)
    return known[0], _array(known[1])


def _names(manifold: Manifold, columns: Sequence[str]) -> Sequence[str] | None:
    return columns if len(columns) == manifold.dim else None


def _array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().cpu().numpy()


def _longitude(x: Tensor) -> NDArray[np.float64]:
    first, second = _array(x).T
    return np.arctan2(second, first)


def _angles(manifold: Torus, x: Tensor) -> NDArray[np.float64]:
    return _array(manifold.angles(x.detach().double()))


def _ball(manifold: Hyperbolic, x: Tensor) -> NDArray[np.float64]:
    return _array(manifold.to_ball(x.detach().double()))
