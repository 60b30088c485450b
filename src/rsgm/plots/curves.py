"""Numbers over the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rsgm.plots.style import (
    COLUMN,
    GRID,
    PAGE,
    REFERENCE,
    SAMPLES,
    Canvas,
    as_points,
    canvas,
    frame,
    headline,
    panel,
)

#: most points of a curve in its own colour, beyond which it is drawn pale under its running mean
_FINE = 100


def curve(
    steps: ArrayLike, values: ArrayLike, name: str, color: str = SAMPLES, ax: Axes | Canvas | None = None
) -> Axes:
    """A number over the steps of a training; of more than a hundred values the running mean, of a fiftieth of them.

    What is not finite is left out.

    Arguments:
        steps: (n,).
        values: (n,).
        name: of the number.
        color: of its curve.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for steps and values of different shapes.
    """
    x, y = as_points("steps", steps), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"curve: found {x.shape} steps and {y.shape} values; expected one for each")
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    axes = panel(ax, COLUMN, 1.9)
    if len(y) > _FINE:
        axes.plot(x, y, color=color, linewidth=0.5, alpha=0.3)
        width = len(y) // 50
        x, y = (np.convolve(part, np.full(width, 1 / width), mode="valid") for part in (x, y))
    axes.plot(x, y, color=color, linewidth=1.0, marker="." if len(y) < 20 else None, markersize=3)
    if len(y):
        # some outliers of a beginning do not flatten the rest
        low, high = np.quantile(y, [0.0, 0.98])
        margin = max(0.15 * (high - low), 1e-3 * abs(high), 1e-12)
        axes.set_ylim(low - margin, high + margin)
    axes.set(xlabel="step", ylabel=name)
    axes.grid(True, color=GRID, linewidth=0.4)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(nbins=5)
    frame(axes)
    return axes


def training_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str | None = None, figure: Canvas | None = None
) -> Canvas:
    """Numbers over the steps of a training, a `curve` for each, side by side.

    Arguments:
        curves: by name the steps (n,) and the values (n,).
        title: a line above the panels.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for no curves; see `curve`.

    Example:
        >>> figure = training_curves({"train/loss": ([10, 20], [3.0, 2.5]), "val/nll": ([20], [1.0])})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['train/loss', 'val/nll']
    """
    if not curves:
        raise ValueError("training_curves: expected at least one curve, found none")
    figure = canvas(figure, COLUMN if len(curves) == 1 else PAGE, 2.1 + 0.2 * (title is not None))
    headline(figure, title)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, (steps, values)) in zip(panels, curves.items(), strict=True):
        curve(steps, values, name, SAMPLES if name.startswith("train") else REFERENCE, axes)
    return figure
