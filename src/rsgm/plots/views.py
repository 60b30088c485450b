"""Which pictures belong to which manifold.

Two generic functions on the class of the manifold. A manifold from outside the package registers its own:

    @rsgm.plots.draw_samples.register
    def _(manifold: MyManifold, samples, reference, caption=Caption(), figure=None): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, singledispatch

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus, to_lat_lon
from rsgm.metrics import density_level
from rsgm.models import GenerativeModel
from rsgm.plots.disk import disk_density, disk_samples
from rsgm.plots.earth import density_map, sample_map
from rsgm.plots.globe import MOLLWEIDE, Projection, interpolate
from rsgm.plots.plane import line_density, line_samples, plane_density, plane_samples
from rsgm.plots.rotations import rotation_samples
from rsgm.plots.style import PAGE, Canvas, canvas, headline, window
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
        dots: whether a density bears the points, by which its window is chosen too
        projection: of the sphere
    """

    title: str | None = None
    columns: tuple[str, ...] = ()
    earth: bool = False
    reference: str = "test"
    levels: tuple[tuple[str, float], ...] = ()
    dots: bool = True
    projection: Projection = MOLLWEIDE


_PLAIN = Caption()


@singledispatch
def draw_samples(
    manifold: Manifold, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    """Samples beside the points that they should resemble; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        samples, reference: ``(n, *shape)``, ``(m, *shape)``
        caption: the title, and what things are called
        figure: where to draw; None makes one
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
    ax: Axes | Canvas | None = None,
) -> Axes | None:
    """A density and the points that it was fitted to and is scored on; None for a manifold without a picture.

    Arguments:
        manifold: where they lie, on whose class the picture depends
        log_density: ``(n, *shape) -> (n,)``, nats
        train, test: ``(n, *shape)``, ``(m, *shape)``
        caption: the title, and what things are called
        known: points of a compact manifold and the log-density there, which a coarse grid completes
        ax: where to draw: axes, or a figure to fill; None makes one
    """
    return None


@draw_samples.register
def _(
    manifold: Sphere, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    if manifold.dim == 1:
        return circle_samples(
            _longitude(samples), _longitude(reference), caption.title, caption.reference, figure
        ).figure
    if manifold.dim > 2:
        return None
    return sample_map(_lat_lon(samples), _lat_lon(reference), caption.title, caption.reference, caption.earth, figure)


@draw_density.register
def _(
    manifold: Sphere,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    if manifold.dim == 1:
        points = _shown(caption, _longitude(train), _longitude(test))
        return circle_density(_longitude(nodes), values, *points, caption.title, caption.reference, ax)
    # charts and quadratures leave out the poles, which a map shows
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    places, heights = np.vstack([_lat_lon(nodes), _lat_lon(poles)]), np.append(values, _array(log_density(poles)))
    return density_map(
        *interpolate(places, heights),
        *_shown(caption, _lat_lon(train), _lat_lon(test)),
        caption.title,
        earth=caption.earth,
        test_name=caption.reference,
        levels=caption.levels,
        projection=caption.projection,
        ax=ax,
    )


@draw_samples.register
def _(
    manifold: Torus, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    drawn, expected = _angles(manifold, samples), _angles(manifold, reference)
    if manifold.dim == 1:
        return circle_samples(drawn[:, 0], expected[:, 0], caption.title, caption.reference, figure).figure
    names = _names(manifold, caption)
    return angle_pairs(drawn, expected, names, title=caption.title, reference_name=caption.reference, figure=figure)


@draw_density.register
def _(
    manifold: Torus,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes | None:
    if manifold.dim > 2:
        return None
    nodes, values = _everywhere(manifold, log_density, known)
    angles, fitted, scored = (_angles(manifold, x) for x in (nodes, train, test))
    if manifold.dim == 1:
        points = _shown(caption, fitted[:, 0], scored[:, 0])
        return circle_density(angles[:, 0], values, *points, caption.title, caption.reference, ax)
    return torus_density(
        *interpolate_angles(angles, values),
        *_shown(caption, fitted, scored),
        _names(manifold, caption),
        caption.title,
        test_name=caption.reference,
        levels=caption.levels,
        ax=ax,
    )


@draw_samples.register
def _(
    manifold: SpecialOrthogonal,
    samples: Tensor,
    reference: Tensor,
    caption: Caption = _PLAIN,
    figure: Canvas | None = None,
) -> Canvas | None:
    return rotation_samples(_array(samples), _array(reference), caption.title, caption.reference, figure)


@draw_samples.register
def _(
    manifold: Hyperbolic, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    if manifold.dim != 2:
        return None
    return disk_samples(_ball(manifold, samples), _ball(manifold, reference), caption.title, caption.reference, figure)


@draw_density.register
def _(
    manifold: Hyperbolic,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes | None:
    if manifold.dim != 2:
        return None
    fitted, scored = _ball(manifold, train), _ball(manifold, test)
    # beyond the data the density need not be evaluated, nor can it be up to the boundary
    furthest = 2 * np.arctanh(np.hypot(*np.concatenate([fitted, scored]).T).max()) + 0.5
    radius = torch.tanh(torch.linspace(0, furthest, _RINGS, dtype=torch.float64) / 2)
    angle = torch.arange(_SPOKES, dtype=torch.float64) * (2 * math.pi / _SPOKES)
    places = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    values = _array(log_density(manifold.from_ball(places.flatten(0, 1)))).reshape(_RINGS, _SPOKES)
    return disk_density(
        radius,
        angle,
        values,
        *_shown(caption, fitted, scored),
        caption.title,
        test_name=caption.reference,
        levels=caption.levels,
        ax=ax,
    )


@draw_samples.register
def _(
    manifold: Euclidean, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    drawn, expected, names = _array(samples), _array(reference), _names(manifold, caption)
    if manifold.dim == 1:
        return line_samples(
            drawn[:, 0], expected[:, 0], names and names[0], caption.title, caption.reference, figure
        ).figure
    return plane_samples(drawn, expected, names, title=caption.title, reference_name=caption.reference, figure=figure)


@draw_density.register
def _(
    manifold: Euclidean,
    log_density: Density,
    train: Tensor,
    test: Tensor,
    caption: Caption = _PLAIN,
    known: Known | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes | None:
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
        points = _shown(caption, fitted[:, 0], scored[:, 0])
        return line_density(axes[0], values, *points, names and names[0], caption.title, caption.reference, ax)
    return plane_density(
        *axes,
        values.reshape(_CELLS, _CELLS).T,
        *_shown(caption, fitted, scored),
        names,
        caption.title,
        test_name=caption.reference,
        levels=caption.levels,
        ax=ax,
    )


@draw_samples.register
def _(
    manifold: Product, samples: Tensor, reference: Tensor, caption: Caption = _PLAIN, figure: Canvas | None = None
) -> Canvas | None:
    parts = zip(manifold.factors, manifold.split(samples), manifold.split(reference), strict=True)
    draws = [partial(draw_samples, factor, *part, _of_factor(caption, factor)) for factor, *part in parts]
    return one_above_another(draws, caption.title, figure)


def one_above_another(
    draws: Sequence[Callable[..., Canvas | None]], title: str | None = None, figure: Canvas | None = None
) -> Canvas | None:
    """Figures in one, each in its own height; None where there are none.

    Arguments:
        draws: functions that make a figure, or draw in the one that they get as `figure`; None for none
        title: a line above them
        figure: where to draw; None makes one
    """
    alone = [draw() for draw in draws]
    heights = [found.bbox.height / found.dpi for found in alone if found is not None]
    if not heights:
        return None
    whole = canvas(figure, PAGE, sum(heights) + 0.2 * (title is not None))
    headline(whole, title)
    parts = np.atleast_1d(whole.subfigures(len(heights), 1, height_ratios=heights))
    kept = [draw for draw, found in zip(draws, alone, strict=True) if found is not None]
    for draw, part in zip(kept, parts, strict=True):
        draw(figure=part)
    return whole


def density(
    model: GenerativeModel,
    context: Tensor | None = None,
    coverages: Sequence[float] = (0.5, 0.9),
    caption: Caption = _PLAIN,
    draws: int = 2000,
    seed: int = 0,
    ax: Axes | Canvas | None = None,
) -> Axes | None:
    """The density of a model and its regions of highest density; None for a manifold without a picture.

    The contours are quantiles of the log-densities of the model's own draws (`rsgm.metrics.density_level`). Of the
    angles of a protein's backbone .98 and .9995 are usual, which need more draws than 2,000.

    Arguments:
        model: whose density it is
        context: of a conditional model, ``(features,)``
        coverages: of the regions, in (0, 1)
        caption: the title, and what things are called; see `rsgm.plots.Orthographic` for another side of the sphere
        draws: of the model, as many as the levels take
        seed: of these
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width

    Raises:
        ValueError: for a coverage that is no share, or that fewer than one draw is beyond
        SolveError: where a log-density could not be computed

    Example:
        >>> from rsgm.models import KernelDensity
        >>> from rsgm.manifolds import Torus
        >>> angles = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> model = KernelDensity(Torus(2), min_width=0.2)
        >>> model.fit_points(Torus(2).from_angles(angles[:150]), Torus(2).from_angles(angles[150:]))
        >>> density(model, caption=Caption("Two angles", columns=("phi", "psi"))).get_xlabel()
        'phi (°)'
    """
    rough = model.rough()
    points = model.manifold.projx(model.sample(draws, context, seed).double())
    values = rough.log_prob(points, context).double().cpu()
    caption = replace(caption, dots=False, levels=density_levels(values, coverages))
    points = points.cpu()
    law = partial(rough.log_prob, context=context)
    return draw_density(model.manifold, law, points, points, caption, (points, values), ax)


def density_levels(values: Tensor, coverages: Sequence[float]) -> tuple[tuple[str, float], ...]:
    """The `Caption.levels` of regions of highest density that hold given shares of a law.

    Arguments:
        values: log-densities of draws of the law, ``(n,)``, nats
        coverages: the shares

    Raises:
        ValueError: for a coverage that is no share, or that fewer than one draw is beyond
    """
    for share in coverages:
        if (1 - share) * len(values) < 1 - 1e-6:
            raise ValueError(
                f"coverage {share:g}: of {len(values)} draws fewer than one is beyond; expected "
                f"{math.ceil(1 / max(1 - share, 1e-9) - 1e-6):,} draws or more."
            )
    return tuple((f"{100 * share:.4g} %", density_level(values, share)[0]) for share in coverages)


def _shown(caption: Caption, *points: NDArray[np.float64]) -> Sequence[NDArray[np.float64] | None]:
    return points if caption.dots else [None] * len(points)


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
