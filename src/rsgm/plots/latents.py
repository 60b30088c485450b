"""Densities side by side, such as those of a latent variable before and after training, and of the decoded data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde

from rsgm.plots.panels import check_names, histogram
from rsgm.plots.style import (
    COLUMN,
    INK,
    PAGE,
    REFERENCE,
    SAMPLES,
    SMALL,
    TEXT,
    Canvas,
    Floats,
    as_points,
    aspect,
    canvas,
    frame,
    heading,
    headline,
    legend,
    panel,
    window,
)

_COLORS = (SAMPLES, REFERENCE, "#2b8a3e", "#862e9c")
_CELLS = 60
_PIXELS = 80  # of a kernel density in the plane, along each axis


def latent_histograms(
    parts: Mapping[str, ArrayLike], name: str = "$z$", title: str | None = None, ax: Axes | Canvas | None = None
) -> Axes:
    """Histograms with Gaussian kernel densities (Scott's rule), in one picture.

    Arguments:
        parts: up to four names and their values (n,).
        name: of the axis.
        title: a line above the picture.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for none or more than four, and for values that are not (n,) or not finite.

    Example:
        >>> axes = latent_histograms({"prior": [0.1, 0.5, 0.2], "posterior": [1.0, 1.5, 1.2]})
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['prior (3)', 'posterior (3)']
    """
    if not 1 <= len(parts) <= len(_COLORS):
        raise ValueError(f"latent_histograms: expected 1 to {len(_COLORS)} laws, found {len(parts)}: {list(parts)}")
    values = {label: as_points(label, found) for label, found in parts.items()}
    limits = window(np.concatenate(list(values.values()))[:, None])[0]
    axes = panel(ax, COLUMN, 2.1)
    x = np.linspace(*limits, 400)
    for (label, found), color in zip(values.items(), _COLORS, strict=False):
        histogram(axes, found, label, color, np.linspace(*limits, _CELLS + 1), filled=True, alpha=0.3)
        if len(found) > 1 and np.ptp(found) > 0:  # an atom has no kernel density
            axes.plot(x, gaussian_kde(found)(x), color=color, linewidth=1.0, zorder=5)
    axes.set(xlim=limits, xlabel=name, ylabel="density")
    frame(axes)
    heading(axes, title)
    legend(axes, loc="upper right")
    return axes


def plane_laws(
    parts: Mapping[str, ArrayLike],
    title: str | None = None,
    names: Sequence[str] | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """Gaussian kernel densities (Scott's rule) of points in the plane, in panels of one window and one scale.

    Arguments:
        parts: names and their points (n, 2), two of them at least that differ; the first, the reference, decides
            the window.
        title: a line above the panels.
        names: of the two coordinates.
        figure: where to draw; None makes one.

    Raises:
        ValueError: for none, and for points that are not (n, 2) or not finite.

    Example:
        >>> corners = [[0.0, 0.0], [1.0, 0.5], [0.0, 2.0]]
        >>> [axes.get_title() for axes in plane_laws({"test": corners, "model": corners}).axes[:2]]
        ['test (3)', 'model (3)']
    """
    if not parts:
        raise ValueError("plane_laws: expected at least one law, found none")
    points = {label: as_points(label, found, 2) for label, found in parts.items()}
    limits = window(next(iter(points.values())))
    columns, rows = (np.linspace(*limit, _PIXELS) for limit in limits)
    grid = np.stack(np.meshgrid(columns, rows)).reshape(2, -1)
    pictures = [_kernel_density(found, grid).reshape(_PIXELS, _PIXELS) for found in points.values()]
    shape = aspect(limits)
    side = PAGE / max(len(points), 2) - 0.3
    figure = canvas(figure, PAGE, shape * side + 0.4 + (0.0 if title is None else 0.2))
    headline(figure, title)
    labels = check_names(names, 2, "x")
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    brightest = max(picture.max() for picture in pictures)
    for axes, (label, found), picture in zip(panels, points.items(), pictures, strict=True):
        image = axes.imshow(picture, "viridis", origin="lower", extent=limits.ravel(), vmin=0, vmax=brightest)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        frame(axes)
        heading(axes, f"{label} ({len(found):,})")
    bar = figure.colorbar(image, ax=panels, aspect=22)
    bar.set_label("density per unit\nof area", fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=SMALL, width=0.4, length=2, colors=INK)
    return figure


def _kernel_density(points: Floats, places: Floats) -> Floats:
    """The estimate at places (2, m); zero where all points are equal, which have no density."""
    return gaussian_kde(points.T)(places) if np.linalg.matrix_rank(points - points[0]) == 2 else places[0] * 0
