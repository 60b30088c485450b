"""The hyperbolic plane as Poincaré's disk: samples, and log-densities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from rsgm.plots.interpolation import floored, scattered
from rsgm.plots.panels import beside
from rsgm.plots.style import (
    COLUMN,
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    SMALL,
    Canvas,
    Floats,
    as_grid,
    as_points,
    colour_limits,
    contours,
    dots,
    dots_on_density,
    few,
    heading,
    panel,
    refuse_rows,
    show_density,
    train_and_test,
)

_CANVAS = 720  # pixels along each side of a density
_DISTANCES = (1, 2, 3)  # of the circles around the origin


def disk_points(points: ArrayLike, name: str = "points", color: str = SAMPLES, ax: Axes | Canvas | None = None) -> Axes:
    """Points of the hyperbolic plane, their name and number above them.

    The circles are those of hyperbolic radius 1, 2 and 3 around the origin (curvature -1).

    Arguments:
        points: (n, 2), ball coordinates, of length below 1.
        name: of the points.
        color: of their dots.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for points that are not (n, 2), not finite, or not in the disk.
    """
    shown, label = few(name, _inside(name, points))
    axes = panel(ax, COLUMN, COLUMN)
    _disk(axes, GREY)
    heading(axes, label, color)
    dots(axes, *shown.T, "_points", color, "none", zorder=4)
    return axes


def disk_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
    figure: Canvas | None = None,
) -> Canvas:
    """Samples of a model in the hyperbolic plane beside the points that they should resemble; see `disk_points`.

    Arguments:
        samples: (n, 2), ball coordinates, of length below 1.
        reference: (m, 2).
        title: a line above the disks.
        reference_name: what its disk calls the reference.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for points that are not (n, 2), not finite, or not in the disk.

    Example:
        >>> figure = disk_samples([[0.1, 0.2]], reference=[[0.0, 0.5]])
        >>> [axes.get_title() for axes in figure.axes]
        ['samples (1)', 'test (1)']
    """
    parts = [("samples", samples, SAMPLES), (reference_name, reference, REFERENCE)]
    return beside(disk_points, parts, COLUMN, title, figure)


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
    levels: Sequence[tuple[str, float]] = (),
    ax: Axes | Canvas | None = None,
) -> Axes:
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
        levels: log-densities of contours, each after the name that the legend shall show, such as ("90 %", -3.2).
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

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
    points = train_and_test(_inside, train, test, test_name)
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
    axes = panel(ax, COLUMN, 3.2)
    extent = tuple(rows[-1] * np.array([-1, 1, -1, 1]))
    image = show_density(axes, picture, values, extent, limits, "hyperbolic unit of area")
    image.set_clip_path(Circle((0, 0), rows[-1], transform=axes.transData))
    contours(axes, x, x, np.where(distance < furthest, picture, np.nan), levels)
    _disk(axes, "#ffffff", rows[-1])
    heading(axes, title)
    dots_on_density(axes, points)
    return axes


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
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=0.5, zorder=6))
    for distance in _DISTANCES:
        radius = np.tanh(distance / 2)
        if radius > furthest:
            break
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=circles, linewidth=0.4, alpha=0.6, zorder=2))
        place = radius * np.array([-1, 1]) / np.sqrt(2)
        halo = [withStroke(linewidth=1.2, foreground="white")]
        axes.text(
            *place, f"{distance}", ha="center", va="center", fontsize=SMALL - 1, color=INK, path_effects=halo, zorder=7
        )
