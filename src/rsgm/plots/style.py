"""What the figures share: sizes, colours, checked points, dots, histograms, log-densities in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, width, height; shares of the figure

INK, GREY = "#262626", "#8a8a8a"
SAMPLES, REFERENCE = "#1f6fb4", "#e8590c"  # told apart by the colour-blind as well
TRAIN = "#ffffff"
CONTOUR = "#ff5c8a"  # upon all colours of a density

_DPI = 160
_TITLE = 12  # points
_MOST = 2000  # most dots of one kind
_MOST_ON_SQUARE = 500  # where they hide a density
_DYNAMIC_RANGE = 9.0  # nats shown below the brightest colour; a factor of 8000
_BRIGHTEST = 0.999  # share of the area below the brightest colour, lest one narrow peak darken all the rest


def new_figure(width: float, height: float, layout: str | None = None) -> Figure:
    """An empty white figure, in inches, that can be drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def as_points(name: str, points: ArrayLike, *shape: int | None) -> Floats:
    """Finite points ``(n, *shape)`` as float64; None stands for any length.

    Raises:
        ValueError: for any other shape, and for rows that are not finite, of which the first is named
    """
    found = np.asarray(points, dtype=np.float64)
    fits = found.ndim == 1 + len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape[1:], strict=True)
    )
    if not fits:
        expected = ", ".join(["n", *("d" if want is None else str(want) for want in shape)])
        raise ValueError(f"{name}: found the shape {found.shape}; expected ({expected})")
    refuse_rows(name, found, ~np.isfinite(found).all(tuple(range(1, found.ndim))), "not finite")
    return found


def few(name: str, points: Floats, most: int = _MOST) -> tuple[Floats, str]:
    """At most ``most`` of the points, a fixed random choice, and their name with the number shown and the total."""
    if len(points) <= most:
        return points, f"{name} ({len(points):,})"
    chosen = np.random.default_rng(0).choice(len(points), most, replace=False)
    return points[np.sort(chosen)], f"{name}, {most:,} of {len(points):,} shown"


def refuse_rows(name: str, points: Floats, bad: NDArray[np.bool_], what: str) -> None:
    """Raise where any row is bad, and name the first."""
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name}: {int(bad.sum())} of {len(points)} points are {what}, the first is row {row}: "
            f"{points[row].tolist()}"
        )


def as_grid(
    x: ArrayLike, y: ArrayLike, values: ArrayLike, names: tuple[str, str], what: str = "log_density"
) -> tuple[Floats, Floats, Floats]:
    """Ascending centres ``(m,)`` and ``(k,)`` of columns and rows, and the log-density ``(k, m)`` there.

    Raises:
        ValueError: for shapes that do not fit, centres that do not ascend, NaN or infinity in the density
    """
    columns, rows = as_points(names[0], x), as_points(names[1], y)
    grid = np.asarray(values, dtype=np.float64)
    if grid.shape != (rows.size, columns.size):
        raise ValueError(
            f"{what} has shape {grid.shape}, with {names[0]} {columns.shape} and {names[1]} {rows.shape}; "
            f"expected ({rows.size}, {columns.size})"
        )
    for name, centres in zip(names, (columns, rows), strict=True):
        if centres.size < 2 or (np.diff(centres) <= 0).any():
            raise ValueError(f"{name}: expected at least 2 ascending values, found {centres.tolist()[:8]}")
    refuse_density(grid)
    return columns, rows, grid


def as_density(values: ArrayLike, n: int) -> Floats:
    """Log-densities (n,): numbers, or minus infinity."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,):
        raise ValueError(f"log_density has shape {found.shape}; expected ({n},), one value for each point")
    refuse_density(found)
    return found


def refuse_density(values: Floats) -> None:
    """Raise where a log-density is NaN or plus infinity; minus infinity is a density of zero."""
    bad = int(np.count_nonzero(np.isnan(values) | np.isposinf(values)))
    if bad:
        raise ValueError(f"log_density: {bad} of {values.size} values are NaN or +inf; the evaluation failed there")


def colour_limits(values: Floats, area: Floats, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """The range of the colours, in nats, of cells with these (relative) areas."""
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("log_density: the density is zero everywhere")
    if vmax is None:
        order = np.argsort(values, axis=None)
        below = np.cumsum(area.ravel()[order])
        vmax = float(values.ravel()[order][np.searchsorted(below, _BRIGHTEST * below[-1])])
        if not np.isfinite(vmax):  # the support is smaller than what is cut off
            vmax = float(values[finite].max())
    if vmin is None:
        vmin = max(vmax - _DYNAMIC_RANGE, float(values[finite].min()))
    if not vmin <= vmax:
        raise ValueError(f"vmin is {vmin:.6g} and vmax is {vmax:.6g}; expected vmin <= vmax")
    if vmax - vmin < 1e-3:  # a constant density still needs a colour bar, not one of rounding errors
        return vmin - 0.5, vmax + 0.5
    return vmin, vmax


def colour_bar(figure: Figure, image: ScalarMappable, values: Floats, box: Box, label: str) -> None:
    """A bar along the longer side of the box, with tips where values lie beyond its ends."""
    vmin, vmax = image.get_clim()
    below, above = bool(values.min() < vmin), bool(values.max() > vmax)  # type: ignore[operator]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(
        image,
        cax=figure.add_axes(box),
        orientation="horizontal" if box[2] > box[3] else "vertical",
        extend=extend[below, above],
        ticks=MaxNLocator(7, steps=[1, 2, 5, 10]),
    )
    bar.set_label(label, color=INK)
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=9, width=0.5, length=3, colors=INK)


def density_square(
    axes: Axes,
    picture: Floats,
    values: Floats,
    extent: Box,
    limits: tuple[float, float],
    train: Floats | None,
    test: Floats | None,
    unit: str,
    test_name: str,
    lines: tuple[Floats, Floats, Floats, Sequence[tuple[str, float]]] | None = None,
) -> AxesImage:
    """A picture (rows from below, columns) over an extent (left, right, bottom, top), points upon it.

    A colour bar stands on its right, with tips for ``values`` beyond it, the legend below it; the axes are those
    of `square_axes`. The density is one per ``unit``; ``lines`` are what `contours` takes.
    """
    image = axes.imshow(
        picture,
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        interpolation="bilinear",
        origin="lower",
        extent=extent,
        zorder=0,
    )
    if lines is not None:
        contours(axes, *lines)
    dots_on_density(axes, train, test, _MOST_ON_SQUARE, test_name)
    if axes.get_legend_handles_labels()[0]:
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4)
    label = f"log density per {unit} (nats)"
    colour_bar(axes.figure, image, values, (0.855, 0.14, 0.022, 0.78), label)  # type: ignore[arg-type]
    return image


def contours(axes: Axes, x: Floats, y: Floats, values: Floats, levels: Sequence[tuple[str, float]]) -> None:
    """Lines at named levels of values (rows of y, columns of x), the lowest thinnest, and their names in the legend."""
    if not levels:
        return
    # a density of zero has no slope to interpolate along
    heights = np.maximum(values, min(level for _, level in levels) - 20.0)
    for k, (name, level) in enumerate(sorted(levels, key=lambda item: item[1])):
        style = {"colors": CONTOUR, "linewidths": 0.8 + 0.5 * k, "linestyles": "solid", "zorder": 3}
        axes.contour(x, y, heights, levels=[level], **style)
        axes.plot([], [], color=CONTOUR, linewidth=0.8 + 0.5 * k, label=name)


def square_axes(title: str | None) -> Axes:
    """The axes of a picture as wide as high, with room for a colour bar and a legend."""
    figure = new_figure(7.0, 6.4)
    axes = figure.add_axes((0.115, 0.14, 0.715, 0.78))
    frame(axes)
    headline(figure, title, 0.96)
    return axes


def headline(figure: Figure, title: str | None, height: float | None = None) -> None:
    """A title, as large as fits, at a height (a share of the figure's); None leaves the place to the layout."""
    if title is None:
        return
    # a letter is about 0.58 of its size wide
    size = min(_TITLE, 0.96 * 72 * figure.get_size_inches()[0] / (0.58 * max(len(title), 1)))
    if height is None:
        figure.suptitle(title, fontsize=size, color=INK, parse_math=False)
    else:
        figure.text(0.5, height, title, ha="center", va="center", fontsize=size, color=INK, parse_math=False)


def frame(axes: Axes) -> None:
    """Thin spines and ticks."""
    for spine in axes.spines.values():
        spine.set(linewidth=0.7, edgecolor=INK)
    axes.tick_params(labelsize=8, width=0.5, length=3, colors=INK)


def dots(axes: Axes, x: Floats, y: Floats, label: str, color: str, edge: str, zorder: int) -> None:
    """Scatter points; the more there are, the smaller."""
    size = float(np.clip(3000 / max(len(x), 1), 1.5, 8.0))
    axes.scatter(x, y, s=size, c=color, edgecolors=edge, linewidths=0.06 * size**0.5 + 0.1, label=label, zorder=zorder)


def dots_on_density(axes: Axes, train: Floats | None, test: Floats | None, most: int, test_name: str) -> None:
    """Train and test points (n, 2), at most ``most`` of each so that the density stays visible."""
    for points, name, color, edge, zorder in (
        (train, "train", TRAIN, INK, 4),
        (test, test_name, REFERENCE, "white", 5),
    ):
        if points is not None:
            shown, label = few(name, points, most)
            dots(axes, *shown.T, label, color, edge, zorder)


def legend(axes: Axes, **options: Any) -> None:
    """The names of what is drawn; the options are matplotlib's."""
    options = {"fontsize": 9, "labelcolor": INK, "markerscale": 2.2, "frameon": False, "handletextpad": 0.2} | options
    axes.legend(**options)


def window(points: Floats) -> Floats:
    """Limits (d, 2) of each coordinate: where all but a few of the points (n, d) are, and a margin."""
    if not len(points):
        return np.tile([-1.0, 1.0], (points.shape[1], 1))
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = np.where(high > low, 0.15 * (high - low), 0.5)
    return np.stack([low - margin, high + margin], -1)
