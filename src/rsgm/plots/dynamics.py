"""What happens over time in the plane: fields of scores, paths of chains and diffusions, snapshots of a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rsgm.plots.panels import check_names
from rsgm.plots.style import (
    COLUMN,
    GRID,
    INK,
    PAGE,
    REFERENCE,
    SAMPLES,
    SMALL,
    Canvas,
    Floats,
    as_grid,
    as_points,
    aspect,
    canvas,
    colour_bar,
    dots,
    few,
    frame,
    heading,
    headline,
    panel,
    window,
)

_ARROWS = 25  # most arrows along each axis
_PANELS = 4  # most panels in a row


def score_field(
    x: ArrayLike,
    y: ArrayLike,
    vectors: ArrayLike,
    title: str | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | Canvas | None = None,
) -> Axes:
    """The gradient of a log-density in the plane: its direction as arrows over contours of its norm.

    Arguments:
        x, y: (m,), (k,), ascending: the columns and rows of a grid; of arrows at most 25 in each.
        vectors: (k, m, 2), nats per unit of length.
        title: a line above the picture.
        names: of the two coordinates.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, and for vectors that are not finite.
    """
    field = as_points("vectors", vectors, None, 2)
    norm = np.hypot(field[..., 0], field[..., 1])
    columns, rows, norm = as_grid(x, y, norm, ("x", "y"), what="vectors")
    axes = panel(ax, COLUMN, 2.7)
    lines = axes.contourf(columns, rows, norm, levels=20, cmap="viridis")
    across, along = (-(-n // _ARROWS) for n in norm.shape)
    arrows = (field / np.maximum(norm, np.finfo(float).tiny)[..., None])[::across, ::along]
    axes.quiver(
        columns[::along],
        rows[::across],
        *np.moveaxis(arrows, -1, 0),
        color="white",
        scale=1.25 * max(arrows.shape),
        width=0.0035,
        pivot="middle",
    )
    labels = check_names(names, 2, "x")
    axes.set(xlim=columns[[0, -1]], ylim=rows[[0, -1]], xlabel=labels[0], ylabel=labels[1])
    frame(axes)
    heading(axes, title)
    colour_bar(axes, lines, norm, "norm (nats per unit of length)")
    return axes


def score_fields(
    x: ArrayLike,
    y: ArrayLike,
    vectors: ArrayLike,
    times: Sequence[float],
    title: str | None = None,
    names: Sequence[str] | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """The scores of a process at some times, a `score_field` for each: from a flat law to the data's, or the reverse.

    Arguments:
        x, y: see `score_field`.
        vectors: (t, k, m, 2), nats per unit of length.
        times: t of them.
        title: a line above the panels.
        names: of the two coordinates.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for another number of times; see `score_field`.
    """
    fields = as_points("vectors", vectors, None, None, 2)
    if len(times) != len(fields):
        raise ValueError(f"times: expected {len(fields)}, one for each field, found {len(times)}")
    columns = min(2, len(fields))
    rows = -(-len(fields) // columns)
    figure = canvas(figure, COLUMN * columns, 2.6 * rows + 0.2 * (title is not None))
    headline(figure, title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(fields) :]:
        axes.remove()
    for axes, field, time in zip(panels, fields, times, strict=False):
        score_field(x, y, field, f"t = {time:.3g}", names, axes)
    return figure


def trajectories(
    paths: Mapping[str, ArrayLike],
    reference: ArrayLike | None = None,
    title: str | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Paths in the plane, such as those of Langevin chains or of reverse diffusions, from circles to dots.

    Arguments:
        paths: for each panel its heading and the paths (steps, n, 2).
        reference: (m, 2), test points, which the ends should resemble, in the background.
        title: a line above the panels.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for no panels, for paths that are not (steps, n, 2) or not finite.

    Example:
        >>> figure = trajectories({"a chain": [[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]]})
        >>> figure.axes[0].get_title()
        'a chain'
    """
    walks = {name: as_points(name, path, None, 2) for name, path in paths.items()}
    known = None if reference is None else as_points("reference", reference, 2)
    places = [walk.reshape(-1, 2) for walk in walks.values()] + ([] if known is None else [known])
    figure, panels = _plane_panels(list(walks), places, title, figure)
    for axes, walk in zip(panels, walks.values(), strict=True):
        if known is not None:
            shown, label = few("test", known)
            dots(axes, *shown.T, label, REFERENCE, "none", zorder=1)
        alpha = float(np.clip(4000 / max(walk[..., 0].size, 1), 0.12, 0.8))
        axes.plot(walk[..., 0], walk[..., 1], color=SAMPLES, linewidth=0.4, alpha=0.6 * alpha, zorder=2)
        axes.scatter(*walk[0].T, s=4, facecolors="white", edgecolors=INK, linewidths=0.3, label="start", zorder=3)
        axes.scatter(*walk[-1].T, s=4, c=SAMPLES, edgecolors="white", linewidths=0.3, label="end", zorder=4)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, labelcolor=INK, frameon=False)
    return figure


def snapshots(
    points: ArrayLike, times: Sequence[float], title: str | None = None, figure: Canvas | None = None
) -> Canvas:
    """Points in the plane at some times of a process, a panel for each: data that turn into noise, or the reverse.

    Arguments:
        points: (k, n, 2).
        times: k of them.
        title: a line above the panels.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for points that are not (k, n, 2) or not finite, and for another number of times.

    Example:
        >>> figure = snapshots([[[0.0, 1.0]], [[0.5, 0.5]]], times=[0.0, 1.0])
        >>> [axes.get_title() for axes in figure.axes]
        ['t = 0', 't = 1']
    """
    found = as_points("points", points, None, 2)
    if len(times) != len(found):
        raise ValueError(f"times: expected {len(found)}, one for each set of points, found {len(times)}")
    figure, panels = _plane_panels([f"t = {time:.3g}" for time in times], list(found), title, figure)
    for axes, places in zip(panels, found, strict=True):
        dots(axes, *places.T, "_points", SAMPLES, "none", zorder=4)
    return figure


def _plane_panels(
    headings: list[str], places: list[Floats], title: str | None, figure: Canvas | None
) -> tuple[Canvas, list[Axes]]:
    """Panels with one window and one scale, at most four in a row."""
    if not headings:
        raise ValueError("expected at least one path, or one set of points, to draw; found none")
    limits = window(np.concatenate(places))
    columns = min(_PANELS, len(headings))
    rows = -(-len(headings) // columns)
    side = COLUMN if columns == 1 else PAGE / columns
    shape = aspect(limits)
    height = rows * (shape * (side - 0.2) + 0.3) + 0.3 + (0.0 if title is None else 0.2)
    figure = canvas(figure, side * columns, height)
    headline(figure, title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(headings) :]:
        axes.remove()
    for axes, text in zip(panels, headings, strict=False):
        frame(axes)
        heading(axes, text)
        axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
        axes.grid(True, color=GRID, linewidth=0.4)
        axes.set_axisbelow(True)
    return figure, panels[: len(headings)]
