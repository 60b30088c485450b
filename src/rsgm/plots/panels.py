"""Panels that several manifolds share: pairs of coordinates as dots, and one coordinate as a histogram."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from rsgm.plots.style import (
    COLUMN,
    GRID,
    PAGE,
    REFERENCE,
    SAMPLES,
    Canvas,
    Floats,
    aspect,
    canvas,
    dots,
    few,
    frame,
    heading,
    headline,
)

Pair = tuple[int, int]

_MOST_PAIRS = 5


def default_pairs(dim: int) -> list[Pair]:
    """(0, 1), (2, 3), ...; up to five, and the last of an odd number of coordinates beside its neighbour."""
    pairs = [(k, k + 1) for k in range(0, dim - 1, 2)]
    if dim % 2 and dim > 2:
        pairs.append((dim - 2, dim - 1))
    return pairs[:_MOST_PAIRS]


def check_pairs(pairs: Sequence[Pair] | None, dim: int) -> list[Pair]:
    """The pairs asked for.

    Raises:
        ValueError: none, more than five, or coordinates that do not exist
    """
    chosen = default_pairs(dim) if pairs is None else list(pairs)
    if not 1 <= len(chosen) <= _MOST_PAIRS or not all(0 <= i < dim and 0 <= j < dim for i, j in chosen):
        raise ValueError(f"pairs: expected 1 to {_MOST_PAIRS} pairs of coordinates 0 to {dim - 1}, found {chosen}")
    return chosen


def check_names(names: Sequence[str] | None, dim: int, symbol: str) -> list[str]:
    """One name for each coordinate; the symbol with an index where there are none.

    Raises:
        ValueError: for another number of names
    """
    if names is None:
        return [f"${symbol}_{{{k + 1}}}$" for k in range(dim)]
    if len(names) != dim:
        raise ValueError(f"names: expected {dim}, one for each coordinate, found {len(names)}: {list(names)}")
    return list(names)


def beside(
    draw: Callable[..., Axes],
    parts: Sequence[tuple[str, ArrayLike | None, str]],
    height: float,
    title: str | None,
    figure: Canvas | None,
) -> Canvas:
    """Points in panels of their own, side by side: what there is of parts, each a name, points and a colour.

    Arguments:
        draw: points in a panel, by `draw(points, name, color, ax=axes)`
        parts: see above
        height: of a panel of a column's width, inches
        title: a line above them
        figure: where to draw; None makes one
    """
    found = [part for part in parts if part[1] is not None]
    figure = canvas(figure, COLUMN if len(found) == 1 else PAGE, height + 0.2 * (title is not None))
    headline(figure, title)
    for axes, (name, points, color) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        draw(points, name, color, ax=axes)
    return figure


def pair_panels(
    samples: Floats,
    reference: tuple[str, Floats] | None,
    pairs: list[Pair],
    names: list[str],
    limits: Floats,
    title: str | None,
    ticks: NDArray[np.int_] | None = None,
    equal: bool = False,
    figure: Canvas | None = None,
) -> Canvas:
    """Dots of samples (n, d) and of a reference, its name and (m, d), within limits (d, 2), a panel for each pair.

    One pair: two panels side by side. More: a row of panels of samples above a row of the reference. ``equal``
    gives both coordinates one scale. How many points lie outside is said beside their number.
    """
    named = [(*few("samples", samples), SAMPLES)]
    if reference is not None:
        named.append((*few(*reference), REFERENCE))
    parts = [(_heading(label, points, pairs, limits), points, color) for points, label, color in named]
    columns, rows = (len(parts), 1) if len(pairs) == 1 else (len(pairs), len(parts))
    side = COLUMN if len(pairs) == 1 else PAGE / max(columns, 3)
    i, j = pairs[0]
    shape = aspect(limits[[i, j]]) if equal else 1.0
    # besides the panels there are labels, a heading above each row, the title
    height = rows * (shape * (side - 0.5) + 0.55) + (0.0 if title is None else 0.2)
    figure = canvas(figure, side * columns, height)
    headline(figure, title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    shown = [(part, pair) for part in parts for pair in pairs]
    for axes, ((_, points, color), pair) in zip(panels, shown, strict=True):
        _pair(axes, points, color, pair, names, limits, ticks, equal)
    for axes, (label, _, color) in zip(panels[:: len(pairs)], parts, strict=True):
        heading(axes, label, color)
    return figure


def _heading(label: str, points: Floats, pairs: list[Pair], limits: Floats) -> str:
    shown = sorted({k for pair in pairs for k in pair})
    inside = ((points >= limits[:, 0]) & (points <= limits[:, 1]))[:, shown].all(1)
    outside = int((~inside).sum())
    return f"{label}, {outside} of them outside" if outside else label


def _pair(
    axes: Axes,
    points: Floats,
    color: str,
    pair: Pair,
    names: list[str],
    limits: Floats,
    ticks: NDArray[np.int_] | None,
    equal: bool,
) -> None:
    i, j = pair
    dots(axes, points[:, i], points[:, j], "_points", color, "none", zorder=4)
    axes.set(xlim=limits[i], ylim=limits[j], xlabel=names[i], ylabel=names[j])
    frame(axes)
    if equal:
        axes.set_aspect("equal")
    else:
        axes.set_box_aspect(1)
    if ticks is not None:
        axes.set(xticks=ticks, yticks=ticks)
    axes.grid(True, color=GRID, linewidth=0.4)
    axes.set_axisbelow(True)


def histogram(
    axes: Axes, points: Floats, label: str, color: str, edges: Floats, filled: bool, alpha: float = 0.45
) -> None:
    """The density of points (n,) in cells: filled bars, or their outline."""
    counts, _ = np.histogram(points, edges)
    height = counts / (max(len(points), 1) * np.diff(edges))
    name = f"{label} ({len(points):,})"
    if filled:
        axes.stairs(height, edges, fill=True, color=color, alpha=alpha, linewidth=0, label=name, zorder=3)
    else:
        axes.stairs(height, edges, color=color, linewidth=0.9, label=name, zorder=4)
