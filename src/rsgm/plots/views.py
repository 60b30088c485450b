"""Which pictures belong to which manifold.

Two generic functions on the class of the manifold. A manifold from outside the package registers its own:

    @rsgm.plots.draw_samples.register
    def _(manifold: MyManifold, samples, reference, caption=Caption()): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus, to_lat_lon
from rsgm.plots.disk import disk_density, disk_samples
from rsgm.plots.earth import density_map, sample_map
from rsgm.plots.globe import interpolate
from rsgm.plots.montage import side_by_side
from rsgm.plots.plane import line_density, line_samples, plane_density, plane_samples
from rsgm.plots.rotations import rotation_histograms
from rsgm.plots.style import window
from rsgm.plots.torus import angle_pairs, circle_density, circle_samples, interpolate_angles, torus_density

Density = Callable[[Tensor], Tensor]
Known = tuple[Tensor, Tensor]

_CELLS = 60  # of the grids on which a density is evaluated, along each axis
_RINGS, _SPOKES = 33, 128  # of the grid in the hyperbolic plane, whose circles grow exponentially


@dataclass(frozen=True)
class Caption:
    """The words of a picture: its title, and the names of its axes and points.

    Arguments:
        title: a line above it
        columns: names of the data's columns, which the axes bear where there is one for each coordinate
        earth: whether a point of the sphere is a place on the Earth
        reference: what the points are called that samples should resemble, and that a density is scored on
        levels: log-densities of contours on pictures of two coordinates, each after its name
    """

    title: str | None = None
    columns: tuple[str, ...] = ()
    earth: bool = False
    reference: str = "test"
    levels: tuple[tuple[str, float], ...] = ()


_PLAIN = Caption()


@singledispatch
def draw_samples(manifold: Manifold, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    """Samples beside the points that they should resemble; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        samples, reference: ``(n, *shape)``, ``(m, *shape)``
        caption: the title, and what things are called
    """
    return None


@singledispatch
def draw_density(
    manifold: Manifold,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
) -> Figure | None:
    """A density and the points that it was fitted to and is scored on; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        log_density: ``(n, *shape) -> (n,)``, nats
        train, test: ``(n, *shape)``, ``(m, *shape)``
        caption: the title, and what things are called
        known: points of a compact manifold and the log-density there, which a coarse grid completes
    """
    return None


@draw_samples.register
def _(manifold: Sphere, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    if manifold.dim == 1:
        return circle_samples(_longitude(samples), _longitude(reference), caption.title, caption.reference)
    if manifold.dim > 2:
        return None
    return sample_map(_lat_lon(samples), _lat_lon(reference), caption.title, caption.reference, caption.earth)


@draw_density.register
def _(
    manifold: Sphere,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    if manifold.dim == 1:
        return circle_density(
            _longitude(nodes), values, _longitude(train), _longitude(test), caption.title, caption.reference
        )
    # charts and quadratures leave out the poles, which a map shows
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    places, heights = np.vstack([_lat_lon(nodes), _lat_lon(poles)]), np.append(values, _array(log_density(poles)))
    points = _lat_lon(train), _lat_lon(test)
    return density_map(
        *interpolate(places, heights),
        *points,
        caption.title,
        earth=caption.earth,
        test_name=caption.reference,
        levels=caption.levels,
    )


@draw_samples.register
def _(manifold: Torus, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    drawn, expected = _angles(manifold, samples), _angles(manifold, reference)
    if manifold.dim == 1:
        return circle_samples(drawn[:, 0], expected[:, 0], caption.title, caption.reference)
    names = _names(manifold, caption)
    return angle_pairs(drawn, expected, names, title=caption.title, reference_name=caption.reference)


@draw_density.register
def _(
    manifold: Torus,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    angles, fitted, scored = (_angles(manifold, x) for x in (nodes, train, test))
    if manifold.dim == 1:
        return circle_density(angles[:, 0], values, fitted[:, 0], scored[:, 0], caption.title, caption.reference)
    grid = interpolate_angles(angles, values)
    names = _names(manifold, caption)
    return torus_density(
        *grid, fitted, scored, names, caption.title, test_name=caption.reference, levels=caption.levels
    )


@draw_samples.register
def _(manifold: SpecialOrthogonal, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    return rotation_histograms(_array(samples), _array(reference), caption.title, caption.reference)


@draw_samples.register
def _(manifold: Hyperbolic, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    if manifold.dim != 2:
        return None
    return disk_samples(_ball(manifold, samples), _ball(manifold, reference), caption.title, caption.reference)


@draw_density.register
def _(
    manifold: Hyperbolic,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim != 2:
        return None
    fitted, scored = _ball(manifold, train), _ball(manifold, test)
    # beyond the data the density need not be evaluated, nor can it be up to the boundary
    furthest = 2 * np.arctanh(np.hypot(*np.concatenate([fitted, scored]).T).max()) + 0.5
    radius = torch.tanh(torch.linspace(0, furthest, _RINGS, dtype=torch.float64) / 2)
    angle = torch.arange(_SPOKES, dtype=torch.float64) * (2 * math.pi / _SPOKES)
    places = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    values = _array(log_density(manifold.from_ball(places.flatten(0, 1)))).reshape(_RINGS, _SPOKES)
    return disk_density(radius, angle, values, fitted, scored, caption.title, test_name=caption.reference)


@draw_samples.register
def _(manifold: Euclidean, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    drawn, expected, names = _array(samples), _array(reference), _names(manifold, caption)
    if manifold.dim == 1:
        return line_samples(drawn[:, 0], expected[:, 0], names and names[0], caption.title, caption.reference)
    return plane_samples(drawn, expected, names, title=caption.title, reference_name=caption.reference)


@draw_density.register
def _(
    manifold: Euclidean,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
) -> Figure | None:
    if manifold.dim > 2:
        return None
    fitted, scored, names = _array(train), _array(test), _names(manifold, caption)
    limits = window(np.concatenate([fitted, scored]))
    # a square, for the picture is one
    middle, half = limits.mean(1), np.ptp(limits, axis=1).max() / 2
    axes = [torch.linspace(centre - half, centre + half, _CELLS, dtype=torch.float64) for centre in middle]
    places = torch.cartesian_prod(*axes).reshape(-1, manifold.dim)
    values = _array(log_density(places))
    if manifold.dim == 1:
        return line_density(
            axes[0], values, fitted[:, 0], scored[:, 0], names and names[0], caption.title, caption.reference
        )
    grid = values.reshape(_CELLS, _CELLS).T
    return plane_density(
        axes[0], axes[1], grid, fitted, scored, names, caption.title, test_name=caption.reference, levels=caption.levels
    )


@draw_samples.register
def _(manifold: Product, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN) -> Figure | None:
    parts = zip(manifold.factors, manifold.split(samples), manifold.split(reference), strict=True)
    pictures = [draw_samples(factor, *part, _of_factor(caption, factor)) for factor, *part in parts]
    found = [picture for picture in pictures if picture is not None]
    return side_by_side(found, caption.title) if found else None


def _everywhere(manifold: Manifold, log_density: Density, known: Known | None) -> tuple[Tensor, NDArray[np.float64]]:
    """Points all over a manifold and the log-density there: a grid in its chart, coarser beside those that are known.

    Points that are known lie where the density is high, and leave the rest of the picture to be guessed.
    """
    cells = _CELLS if known is None else _CELLS // 2
    axis = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    nodes = manifold.from_unit_cube(torch.cartesian_prod(*[axis] * manifold.dim).reshape(-1, manifold.dim))
    values = _array(log_density(nodes))
    if known is None:
        return nodes, values
    return torch.cat([known[0].to(nodes), nodes]), np.concatenate([_array(known[1]), values])


def _of_factor(caption: Caption, factor: Manifold) -> Caption:
    return replace(caption, title=str(factor), columns=())


def _names(manifold: Manifold, caption: Caption) -> Sequence[str] | None:
    return caption.columns if len(caption.columns) == manifold.dim else None


def _array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().cpu().numpy()


def _lat_lon(x: Tensor) -> NDArray[np.float64]:
    return to_lat_lon(x).numpy()


def _longitude(x: Tensor) -> NDArray[np.float64]:
    first, second = _array(x).T
    return np.arctan2(second, first)


def _angles(manifold: Torus, x: Tensor) -> NDArray[np.float64]:
    return _array(manifold.angles(x.detach().double()))


def _ball(manifold: Hyperbolic, x: Tensor) -> NDArray[np.float64]:
    return _array(manifold.to_ball(x.detach().double()))
