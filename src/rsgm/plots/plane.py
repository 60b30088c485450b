"""Flat space: samples and log-densities on the line, in the plane, and as pairs of coordinates beyond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rsgm.plots.interpolation import floored
from rsgm.plots.panels import Pair, check_names, check_pairs, histogram, pair_panels
from rsgm.plots.style import (
    COLUMN,
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
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
    legend,
    panel,
    show_density,
    train_and_test,
    window,
)

_CELLS = 60


def plane_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    pairs: Sequence[Pair] | None = None,
    title: str | None = None,
    reference_name: str = "test",
    figure: Canvas | None = None,
) -> Canvas:
    """Samples of a model in R^d beside the points that they should resemble, in pairs of coordinates.

    The window is that of the reference; how many points lie outside is said beside their number.

    Arguments:
        samples: (n, d), d at least 2.
        reference: (m, d).
        names: of the d coordinates.
        pairs: up to five pairs of coordinates; by default (0, 1), (2, 3), and so on.
        title: a line above the panels.
        reference_name: what its panels call the reference.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for points that are not (n, d) or not finite, and for other numbers of names or pairs.

    Example:
        >>> figure = plane_samples([[0.0, 0.5], [9.0, 9.0]], reference=[[0.0, 0.0], [1.0, 1.0]])
        >>> [axes.get_title() for axes in figure.axes]
        ['samples (2), 1 of them outside', 'test (2)']
    """
    drawn = as_points("samples", samples, None)
    dim = drawn.shape[1]
    known = None if reference is None else (reference_name, as_points(reference_name, reference, dim))
    limits = window(drawn if known is None else known[1])
    chosen, labels = check_pairs(pairs, dim), check_names(names, dim, "x")
    return pair_panels(drawn, known, chosen, labels, limits, title, equal=dim == 2, figure=figure)


def plane_density(
    x: ArrayLike,
    y: ArrayLike,
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
    """A log-density in the plane.

    Arguments:
        x, y: (m,), (k,), ascending and equidistant: the columns and rows of a grid.
        log_density: (k, m), nats, of a density per unit of area. Minus infinity (a density of zero) is drawn in the
            darkest colour.
        train, test: (n, 2).
        names: of the two coordinates.
        title: a line above the picture.
        vmin: nats, the darkest colour; 9 nats below `vmax`, or the smallest value where that is larger.
        vmax: nats, the brightest colour; the value that 99.9 % of the area stays below.
        test_name: what the legend calls the test points.
        levels: log-densities of contours, each after the name that the legend shall show, such as ("90 %", -3.2).
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, a grid that is not equidistant, NaN in the density.
    """
    columns, rows, values = as_grid(x, y, log_density, ("x", "y"))
    for name, centres in (("x", columns), ("y", rows)):
        gaps = np.diff(centres)
        if np.ptp(gaps) > 1e-3 * gaps.mean():
            raise ValueError(
                f"{name}: expected equidistant values, found gaps from {gaps.min():.4g} to {gaps.max():.4g}"
            )
    points = train_and_test(lambda name, found: as_points(name, found, 2), train, test, test_name)
    limits = colour_limits(values, np.ones_like(values), vmin, vmax)
    axes = panel(ax, COLUMN, 3.2)
    halves = (columns[1] - columns[0]) / 2, (rows[1] - rows[0]) / 2
    extent = (columns[0] - halves[0], columns[-1] + halves[0], rows[0] - halves[1], rows[-1] + halves[1])
    show_density(axes, floored(values, limits[0]), values, extent, limits, "unit of area")
    contours(axes, columns, rows, values, levels)
    labels = check_names(names, 2, "x")
    # the picture fills a square; its scales may differ
    axes.set(xlim=extent[:2], ylim=extent[2:], xlabel=labels[0], ylabel=labels[1], aspect="auto")
    axes.set_box_aspect(1)
    frame(axes)
    heading(axes, title)
    dots_on_density(axes, points)
    return axes


def line_samples(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    name: str | None = None,
    title: str | None = None,
    reference_name: str = "test",
    ax: Axes | Canvas | None = None,
) -> Axes:
    """Histograms of samples (filled) and of the points that they should resemble (in outline).

    Arguments:
        samples: (n,).
        reference: (m,).
        name: of the coordinate.
        title: a line above the picture.
        reference_name: what the legend calls the reference.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for points that are not (n,) or not finite.
    """
    drawn = as_points("samples", samples)
    known = None if reference is None else as_points(reference_name, reference)
    limits = window((drawn if known is None else known)[:, None])[0]
    axes = _line_axes(limits, name, title, ax)
    _line_histogram(axes, drawn, "samples", SAMPLES, limits, filled=True)
    if known is not None:
        _line_histogram(axes, known, reference_name, REFERENCE, limits, filled=False)
    legend(axes, loc="upper right")
    return axes


def line_density(
    x: ArrayLike,
    log_density: ArrayLike,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    name: str | None = None,
    title: str | None = None,
    test_name: str = "test",
    ax: Axes | Canvas | None = None,
) -> Axes:
    """A density on the line as a curve, over histograms of the train points (filled) and the test points.

    Arguments:
        x: (k,), ascending.
        log_density: (k,), nats.
        train, test: (n,), (m,).
        name: of the coordinate.
        title: a line above the picture.
        test_name: what the legend calls the test points.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, and for values that are no numbers.
    """
    places = as_points("x", x)
    height = np.exp(as_density(log_density, len(places)))
    limits = np.array([places.min(), places.max()])
    axes = _line_axes(limits, name, title, ax)
    if train is not None:
        _line_histogram(axes, as_points("train", train), "train", GREY, limits, filled=True)
    if test is not None:
        _line_histogram(axes, as_points(test_name, test), test_name, REFERENCE, limits, filled=False)
    axes.plot(places, height, color=INK, linewidth=1.0, label="model", zorder=5)
    legend(axes, loc="upper right")
    return axes


def _line_axes(limits: Floats, name: str | None, title: str | None, ax: Axes | Canvas | None) -> Axes:
    axes = panel(ax, COLUMN, 2.1)
    axes.set(xlim=limits, xlabel=name or "$x$", ylabel="density per unit of length")
    frame(axes)
    heading(axes, title)
    return axes


def _line_histogram(axes: Axes, points: Floats, name: str, color: str, limits: Floats, filled: bool) -> None:
    histogram(axes, points, name, color, np.linspace(*limits, _CELLS + 1), filled)
