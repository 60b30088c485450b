"""What the figures share: sizes, colours, checked points, dots, histograms, log-densities in colour."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, right, bottom, top
Canvas = Figure | SubFigure

INK, GREY, GRID = "#262626", "#7a7a7a", "#e4e4e4"
SAMPLES, REFERENCE = "#1f6fb4", "#e8590c"  # told apart by the colour-blind as well
TRAIN = "#ffffff"

#: inches: a column of a journal, and both of them; every figure is one or the other wide
COLUMN, PAGE = 3.3, 6.8
#: points, as wide as the figure is printed
TITLE, TEXT, SMALL = 7.5, 7.0, 6.0

_DPI = 250
_MOST = 2000  # most dots of one kind
_MOST_ON_DENSITY = 200  # which they would hide
_DYNAMIC_RANGE = 9.0  # nats shown below the brightest colour; a factor of 8000
_BRIGHTEST = 0.999  # share of the area below the brightest colour, lest one narrow peak darken all the rest


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches, that can be drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(figure)
    return figure


def canvas(figure: Canvas | None, width: float, height: float) -> Canvas:
    """The figure to draw in, or a new one of this size in inches."""
    return new_figure(width, height) if figure is None else figure


def panel(ax: Axes | Canvas | None, width: float, height: float, projection: str | None = None) -> Axes:
    """The axes to draw in: those that are given, those that fill a figure, or those of a new one of this size."""
    if isinstance(ax, Axes):
        return ax
    return canvas(ax, width, height).add_subplot(projection=projection)


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


def colour_bar(axes: Axes, image: ScalarMappable, values: Floats, label: str) -> None:
    """A bar on the right of the axes, with tips where values lie beyond its ends."""
    vmin, vmax = image.get_clim()
    below, above = bool(values.min() < vmin), bool(values.max() > vmax)  # type: ignore[operator]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar_beside(axes, image, label, extend=extend[below, above], ticks=MaxNLocator(6, steps=[1, 2, 5, 10]))


def bar_beside(axes: Axes, image: ScalarMappable, label: str, **options: Any) -> None:
    """A bar as high as the axes, whatever their shape, on their right; the options are matplotlib's."""
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.025, 0, 0.035, 1)), **options)
    bar.set_label(label, color=INK, fontsize=TEXT)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=SMALL, width=0.4, length=2, colors=INK)


def show_density(
    axes: Axes, picture: Floats, values: Floats, extent: Box, limits: tuple[float, float], unit: str
) -> AxesImage:
    """A picture (rows from below, columns) over an extent, and a colour bar with tips for ``values`` beyond it.

    The density is one per ``unit``.
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
    colour_bar(axes, image, values, f"log density per {unit} (nats)")
    return image


def contours(axes: Axes, x: Floats, y: Floats, values: Floats, levels: Sequence[tuple[str, float]]) -> None:
    """Lines at named levels of values (rows of y, columns of x), the lowest thinnest, and their names in the legend."""
    if not levels:
        return
    # a density of zero has no slope to interpolate along
    heights = np.maximum(values, min(level for _, level in levels) - 20.0)
    for k, (name, level) in enumerate(sorted(levels, key=lambda item: item[1])):
        width = 0.5 + 0.5 * k
        halo = [withStroke(linewidth=width + 0.8, foreground=INK)]
        style = {"colors": "white", "linewidths": width, "linestyles": "solid"}
        axes.contour(x, y, heights, [level], zorder=3, **style).set_path_effects(halo)
        axes.plot([], [], color="white", linewidth=width, label=name, path_effects=halo)


def heading(axes: Axes, text: str | None, color: str = INK) -> None:
    """A title above axes, in lines as wide as their part of the figure; None for none."""
    if text is not None:
        spot = axes.get_subplotspec()
        across = 1 if spot is None else spot.get_gridspec().ncols
        # axes are narrower than it
        axes.set_title(_lines(axes.figure, text, 1.25 * across), fontsize=TITLE, color=color, parse_math=False)


def headline(figure: Canvas, title: str | None) -> None:
    """A title above a figure, in lines as wide as it is; None for none."""
    if title is not None:
        figure.suptitle(_lines(figure, title), fontsize=TITLE, color=INK, parse_math=False)


def _lines(figure: Any, text: str, across: float = 1.0) -> str:
    """A text in lines that are no wider than a figure divided by a number."""
    # a letter is about 0.58 of its size wide
    return textwrap.fill(text, max(12, int(72 * figure.bbox.width / figure.dpi / across / (0.58 * TITLE))))


def frame(axes: Axes) -> None:
    """Thin spines and ticks, and labels of the size of text."""
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, edgecolor=INK)
    axes.tick_params(labelsize=SMALL, width=0.4, length=2, colors=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(fontsize=TEXT, color=INK)


def dots(
    axes: Axes, x: Floats, y: Floats, label: str, color: str, edge: str, zorder: int, largest: float = 5.0
) -> None:
    """Scatter points; the more there are, the smaller."""
    size = float(np.clip(1000 / max(len(x), 1), 0.8, largest))
    axes.scatter(x, y, s=size, c=color, edgecolors=edge, linewidths=0.06 * size**0.5 + 0.1, label=label, zorder=zorder)


def dots_on_density(axes: Axes, named: Sequence[tuple[str, Floats | None]]) -> None:
    """Train and test points (n, 2) under their names, few of each so that the density stays visible, and a legend."""
    for (name, points), color, edge, zorder in zip(named, (TRAIN, REFERENCE), (INK, "white"), (4, 5), strict=True):
        if points is not None:
            shown, label = few(name, points, _MOST_ON_DENSITY)
            dots(axes, *shown.T, label, color, edge, zorder, 3.0)
    if axes.get_legend_handles_labels()[0]:
        legend_below(axes)


def legend_below(axes: Axes, points: float = 4.0, **options: Any) -> None:
    """The names of what is drawn, so many points below the axes and their labels."""
    place = offset_copy(axes.transAxes, axes.figure, y=-points - (20 if axes.get_xlabel() else 0), units="points")  # type: ignore[arg-type]
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=place, **{"ncols": 2} | options)


def legend(axes: Axes, **options: Any) -> None:
    """The names of what is drawn; the options are matplotlib's."""
    style = {"fontsize": SMALL, "labelcolor": INK, "markerscale": 1.8, "frameon": False, "handletextpad": 0.5}
    axes.legend(**style | {"handlelength": 1.6, "columnspacing": 1.0, "borderpad": 0.2} | options)


def train_and_test(
    read: Callable[[str, ArrayLike], Floats], train: ArrayLike | None, test: ArrayLike | None, test_name: str
) -> list[tuple[str, Floats | None]]:
    """Both sets of points that a density is drawn with, as read by their names; None where there are none."""
    return [(name, None if x is None else read(name, x)) for name, x in (("train", train), (test_name, test))]


def aspect(limits: Floats) -> float:
    """Height over width of a panel with these limits ``(2, 2)`` and one scale, neither flat nor tall."""
    return float(np.clip(np.ptp(limits[1]) / np.ptp(limits[0]), 0.4, 2.0))


def window(points: Floats) -> Floats:
    """Limits (d, 2) of each coordinate: where all but a few of the points (n, d) are, and a margin."""
    if not len(points):
        return np.tile([-1.0, 1.0], (points.shape[1], 1))
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = np.where(high > low, 0.15 * (high - low), 0.5)
    return np.stack([low - margin, high + margin], -1)
