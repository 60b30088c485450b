"""Angles: histograms on the circle, pairs of angles as dots, and log-densities on the torus of two angles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates

from rsgm.plots.interpolation import around, floored, scattered
from rsgm.plots.panels import Pair, check_names, check_pairs, pair_panels
from rsgm.plots.style import (
    COLUMN,
    GREY,
    GRID,
    INK,
    REFERENCE,
    SAMPLES,
    SMALL,
    Canvas,
    Floats,
    as_density,
    as_grid,
    as_points,
    colour_limits,
    contours,
    dots_on_density,
    frame,
    heading,
    legend_below,
    panel,
    show_density,
    train_and_test,
)

_TICKS = np.array([-180, -90, 0, 90, 180])
_CELLS = 72  # of a circle: 5 degrees
_CANVAS = 720  # pixels along each side of a density


def wrap(angles: ArrayLike) -> Floats:
    """Angles in degrees, in (-180, 180], of angles in radians."""
    return 180 - (180 - np.degrees(np.asarray(angles, dtype=np.float64))) % 360


def angle_pairs(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    pairs: Sequence[Pair] | None = None,
    title: str | None = None,
    reference_name: str = "test",
    figure: Canvas | None = None,
) -> Canvas:
    """Samples of a model on a torus beside the points that they should resemble, in pairs of angles.

    Arguments:
        samples: (n, d), radians, d at least 2.
        reference: (m, d), radians.
        names: of the d angles.
        pairs: up to five pairs of angles; by default (0, 1), (2, 3), and so on.
        title: a line above the panels.
        reference_name: what its panels call the reference.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for points that are not (n, d) or not finite, and for other numbers of names or pairs.

    Example:
        >>> figure = angle_pairs([[0.1, 3.0], [0.2, -3.0]], reference=[[0.0, 3.1]], names=["phi", "psi"])
        >>> [axes.get_title() for axes in figure.axes]
        ['samples (2)', 'test (1)']
    """
    drawn = wrap(as_points("samples", samples, None))
    dim = drawn.shape[1]
    known = None if reference is None else (reference_name, wrap(as_points(reference_name, reference, dim)))
    labels = [f"{name} (°)" for name in check_names(names, dim, r"\theta")]
    limits = np.tile([-180.0, 180.0], (dim, 1))
    return pair_panels(drawn, known, check_pairs(pairs, dim), labels, limits, title, _TICKS, figure=figure)


def circle_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
    ax: Axes | Canvas | None = None,
) -> Axes:
    """Histograms of angles around a circle: samples filled, the points that they should resemble in outline.

    Arguments:
        samples: (n,), radians.
        reference: (m,), radians.
        title: a line above the circle.
        reference_name: what the legend calls the reference.
        ax: where to draw: polar axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for angles that are not (n,) or not finite.
    """
    parts = [_part("samples", samples, SAMPLES)]
    if reference is not None:
        parts.append(_part(reference_name, reference, REFERENCE))
    return _circle(parts, None, title, ax)


def circle_density(
    angles: ArrayLike,
    log_density: ArrayLike,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    title: str | None = None,
    test_name: str = "test",
    ax: Axes | Canvas | None = None,
) -> Axes:
    """A density on the circle, a curve through its values, over histograms of train (filled) and test points.

    Arguments:
        angles: (k,), radians, in any order.
        log_density: (k,), nats per radian.
        train, test: (n,), (m,), radians.
        title: a line above the circle.
        test_name: what the legend calls the test points.
        ax: where to draw: polar axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, and for values that are no numbers.
    """
    angle = as_points("angles", angles)
    values = as_density(log_density, len(angle))
    turn, order = np.unique(np.radians(wrap(angle)).round(9), return_index=True)
    curve = around(turn, values[order])
    parts = [
        _part(name, points, color)
        for name, points, color in (("train", train, GREY), (test_name, test, REFERENCE))
        if points is not None
    ]
    return _circle(parts, curve, title, ax)


def torus_density(
    first: ArrayLike,
    second: ArrayLike,
    log_density: ArrayLike,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    test_name: str = "test",
    levels: Sequence[tuple[str, float]] = (),
    ax: Axes | Canvas | None = None,
) -> Axes:
    """A log-density on the torus of two angles, interpolated linearly, across the seams as well.

    Arguments:
        first, second: (m,), (k,), radians, ascending in (-pi, pi]: the columns and rows of a grid.
        log_density: (k, m), nats, of a density per square radian. Minus infinity (a density of zero) is drawn in
            the darkest colour.
        train, test: (n, 2), radians.
        names: of the two angles.
        title: a line above the picture.
        vmin: nats, the darkest colour; 9 nats below `vmax`, or the smallest value where that is larger.
        vmax: nats, the brightest colour; the value that 99.9 % of the area stays below.
        test_name: what the legend calls the test points.
        levels: log-densities of contours, each after the name that the legend shall show, such as ("90 %", -3.2).
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, angles beyond the circle, NaN in the density.
    """
    x, y, values = as_grid(first, second, log_density, ("first", "second"))
    for name, angle in (("first", x), ("second", y)):
        if np.abs(angle).max() > np.pi + 1e-6:
            raise ValueError(f"{name}: expected radians in (-pi, pi], found {angle[0]:.4g} to {angle[-1]:.4g}")
    points = train_and_test(lambda name, found: wrap(as_points(name, found, 2)), train, test, test_name)
    limits = colour_limits(values, np.outer(_widths(y), _widths(x)), vmin, vmax)
    pixels = np.radians((np.arange(_CANVAS) + 0.5) / _CANVAS * 360 - 180)
    row, column = np.meshgrid(_places(pixels, y), _places(pixels, x), indexing="ij")
    closed = np.pad(floored(values, limits[0]), 1, mode="wrap")
    picture = map_coordinates(closed, (row, column), order=1, mode="nearest")
    degrees = np.degrees(pixels)
    lines = map_coordinates(np.pad(values, 1, mode="wrap"), (row, column), order=1)
    axes = panel(ax, COLUMN, 3.2)
    show_density(axes, picture, values, (-180, 180, -180, 180), limits, "rad²")
    contours(axes, degrees, degrees, lines, levels)
    labels = check_names(names, 2, r"\theta")
    axes.set(xlim=(-180, 180), ylim=(-180, 180), xticks=_TICKS, yticks=_TICKS)
    axes.set(xlabel=f"{labels[0]} (°)", ylabel=f"{labels[1]} (°)")
    frame(axes)
    heading(axes, title)
    dots_on_density(axes, points)
    return axes


def interpolate_angles(angles: ArrayLike, values: ArrayLike, cells: int = 360) -> tuple[Floats, Floats, Floats]:
    """Scattered log-densities on the torus, brought onto a regular grid for `torus_density`.

    Arguments:
        angles: (n, 2), radians, all over the torus
        values: (n,), nats
        cells: of the grid, along each angle

    Returns:
        first angles (cells,), second angles (cells,) and the values (cells, cells)

    Raises:
        ValueError: for shapes that do not fit, values that are no numbers, angles that leave a part of the torus out
    """
    places = np.radians(wrap(as_points("angles", angles, 2)))
    value = as_density(values, len(places))
    turns = 2 * np.pi * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    copies = (places[None] + turns[:, None]).reshape(-1, 2)
    # a margin on all sides, so that coarse angles surround the square as well
    near = (np.abs(copies) < np.pi + 1.0).all(1)
    centres = (np.arange(cells) + 0.5) / cells * 2 * np.pi - np.pi
    grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    return centres, centres, scattered(copies[near], np.tile(value, 9)[near], grid).reshape(cells, cells)


def _places(x: Floats, centres: Floats) -> Floats:
    """Fractional indices of angles among ascending centres that are closed by one more on either side."""
    closed = np.concatenate([centres[-1:] - 2 * np.pi, centres, centres[:1] + 2 * np.pi])
    return np.interp(x, closed, np.arange(closed.size))


def _widths(centres: Floats) -> Floats:
    return (np.diff(centres, append=centres[:1] + 2 * np.pi) + np.diff(centres, prepend=centres[-1:] - 2 * np.pi)) / 2


def _part(name: str, points: ArrayLike, color: str) -> tuple[str, Floats, str]:
    return name, np.radians(wrap(as_points(name, points))), color


def _circle(
    parts: list[tuple[str, Floats, str]],
    curve: tuple[Floats, Floats] | None,
    title: str | None,
    ax: Axes | Canvas | None,
) -> Axes:
    """Densities per radian as heights above a ring: the first part filled, the second in outline, the curve a line."""
    axes = panel(ax, COLUMN, COLUMN, "polar")
    edges = np.linspace(-np.pi, np.pi, _CELLS + 1)
    heights = [np.histogram(points, edges)[0] / max(len(points), 1) / (edges[1] - edges[0]) for _, points, _ in parts]
    top = max([float(height.max()) for height in heights] + ([] if curve is None else [float(curve[1].max())]))
    base = 0.7 * top
    # many points along each step, which is an arc
    turn, handles = np.linspace(-np.pi, np.pi, 20 * _CELLS + 1), []
    for k, ((name, points, color), height) in enumerate(zip(parts, heights, strict=True)):
        line = base + np.append(np.repeat(height, 20), height[0])
        label = f"{name} ({len(points):,})"
        if k == 0:
            handles.append(axes.fill_between(turn, base, line, color=color, alpha=0.45, linewidth=0, label=label))
        else:
            handles += axes.plot(turn, line, color=color, linewidth=0.9, label=label, zorder=4)
    if curve is not None:
        handles += axes.plot(curve[0], base + curve[1], color=INK, linewidth=0.9, label="model", zorder=5)
    ring = np.linspace(0, 2 * np.pi, 361)
    axes.plot(ring, np.full(361, base), color=INK, linewidth=0.7, zorder=6)
    axes.set_ylim(0, base + 1.08 * top)
    heights_shown = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, top)[1:]
    heights_shown = heights_shown[heights_shown <= 1.08 * top]
    axes.set_yticks(
        base + heights_shown, [f"{height:.3g}/rad" for height in heights_shown], fontsize=SMALL - 1, color=GREY
    )
    axes.set_rlabel_position(45)  # type: ignore[attr-defined]
    axes.set_xticks(np.radians([0, 90, 180, 270]), ["0°", "90°", "±180°", "−90°"], fontsize=SMALL, color=INK)
    axes.grid(True, color=GRID, linewidth=0.4)
    axes.spines["polar"].set(linewidth=0.4, edgecolor=GREY)
    axes.tick_params(pad=2)
    legend_below(axes, 12, handles=handles)
    heading(axes, title)
    return axes
