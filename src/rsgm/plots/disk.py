"""The hyperbolic plane as Poincaré's disk: samples, and log-densities."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from rsgm.plots.interpolation import floored, scattered
from rsgm.plots.style import (
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    Floats,
    as_grid,
    as_points,
    colour_limits,
    density_square,
    dots,
    few,
    headline,
    new_figure,
    refuse_rows,
    square_axes,
)

_CANVAS = 720  # pixels along each side of a density
_DISTANCES = (1, 2, 3)  # of the circles around the origin


def disk_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
) -> Figure:
    """Samples of a model in the hyperbolic plane beside the points that they should resemble.

    The circles are those of hyperbolic radius 1, 2 and 3 around the origin (curvature -1).

    Arguments:
        samples: (n, 2), ball coordinates, of length below 1.
        reference: (m, 2).
        title: a line above the disks.
        reference_name: what its disk calls the reference.

    Raises:
        ValueError: for points that are not (n, 2), not finite, or not in the disk.

    Example:
        >>> figure = disk_samples([[0.1, 0.2]], reference=[[0.0, 0.5]])
        >>> [axes.get_title() for axes in figure.axes]
        ['samples (1)', 'test (1)']
    """
    parts = [("samples", _inside("samples", samples), SAMPLES)]
    if reference is not None:
        parts.append((reference_name, _inside(reference_name, reference), REFERENCE))
    figure = new_figure(5.0 * len(parts), 5.5 if title is None else 5.8, "constrained")
    headline(figure, title)
    for axes, (name, points, color) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        _disk(axes, GREY)
        shown, heading = few(name, points)
        axes.set_title(heading, fontsize=10, color=color)
        dots(axes, *shown.T, "_points", color, "none", zorder=4)
    return figure


def disk_density(
    radius: ArrayLike,
    angle: ArrayLike,
    log_density: ArrayLike,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    test_name: str = "test",
) -> Figure:
    """A log-density in the hyperbolic plane, interpolated between places in polar coordinates.

    Arguments:
        radius: (k,), ascending from 0 to less than 1, of ball coordinates: the rows of a grid. Beyond the last
            nothing is drawn.
        angle: (m,), ascending radians, once around: its columns.
        log_density: (k, m), nats, with respect to the hyperbolic area. Minus infinity is drawn in the darkest colour.
        train, test: (n, 2), ball coordinates.
        title: a line above the disk.
        vmin: nats, the darkest colour; 9 nats below `vmax`, or the smallest value where that is larger.
        vmax: nats, the brightest colour; the value that 99.9 % of the picture's area stays below.
        test_name: what the legend calls the test points.

    Raises:
        ValueError: for shapes that do not fit, a grid that does not start at 0 or go around, points beyond the
            disk, NaN in the density.
    """
    turn, rows, values = as_grid(angle, radius, log_density, ("angle", "radius"))
    if rows[0] != 0 or rows[-1] >= 1:
        raise ValueError(f"radius: expected values from 0 to less than 1, found {rows[0]:.4g} to {rows[-1]:.4g}")
    gaps = np.diff(turn, append=turn[:1] + 2 * np.pi)
    if gaps.min() <= 0 or gaps.max() > 3 * np.median(gaps):
        raise ValueError(f"angle: expected radians once around, found {turn[0]:.4g} to {turn[-1]:.4g}")
    points = [None if found is None else _inside(name, found) for name, found in (("train", train), (test_name, test))]
    limits = colour_limits(values, np.outer(np.gradient(rows) * rows, gaps), vmin, vmax)
    # one value in the middle, where all angles meet
    places = np.vstack([np.zeros((1, 2)), _cartesian(*np.meshgrid(rows[1:], turn, indexing="ij"))])
    known = np.append(values[0].mean(), values[1:])
    x = rows[-1] * ((np.arange(_CANVAS) + 0.5) / _CANVAS * 2 - 1)
    distance, direction = np.hypot(x[:, None], x), np.arctan2(x[:, None], x)
    # pixels beyond the outermost places, which the rim cuts off but for its smooth edge, have the colour of the rim
    furthest = rows[-1] * np.cos(gaps.max() / 2)
    picture = scattered(places, known, _cartesian(np.minimum(distance, furthest), direction))
    picture = floored(picture, limits[0]).reshape(_CANVAS, _CANVAS)
    axes = square_axes(title)
    extent = tuple(rows[-1] * np.array([-1, 1, -1, 1]))
    image = density_square(axes, picture, values, extent, limits, *points, "hyperbolic unit of area", test_name)
    image.set_clip_path(Circle((0, 0), rows[-1], transform=axes.transData))
    _disk(axes, "#ffffff", rows[-1])
    return axes.figure  # type: ignore[return-value]


def _cartesian(radius: Floats, angle: Floats) -> Floats:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1, 2)


def _inside(name: str, points: ArrayLike) -> Floats:
    found = as_points(name, points, 2)
    refuse_rows(name, found, np.hypot(*found.T) >= 1, "not in the open unit disk")
    return found


def _disk(axes: Axes, circles: str, furthest: float = 1.0) -> None:
    """The boundary, and circles around the origin with their hyperbolic radii, as far out as there is a picture."""
    axes.set_axis_off()
    axes.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03), aspect="equal")
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=0.9, zorder=6))
    for distance in _DISTANCES:
        radius = np.tanh(distance / 2)
        if radius > furthest:
            break
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=circles, linewidth=0.4, alpha=0.6, zorder=2))
        place = radius * np.array([-1, 1]) / np.sqrt(2)
        halo = [withStroke(linewidth=2, foreground="white")]
        axes.text(*place, f"{distance}", ha="center", va="center", fontsize=7, color=INK, path_effects=halo, zorder=7)
