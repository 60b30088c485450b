"""Maps of the sphere as an Earth: a density, or samples, in the Mollweide projection.

Pure functions from arrays to a `matplotlib.figure.Figure`. They never touch pyplot, whose global state is
neither headless nor thread safe; the caller saves, logs or shows the figure.
"""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from rsgm.plots.globe import closed_grid, project, widths
from rsgm.plots.style import (
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    TEST,
    TRAIN,
    Box,
    colour_bar,
    colour_limits,
    dots,
    legend,
    new_figure,
)

_SIZE_INCHES = (10.0, 5.625)  # 1600 x 900 pixels


@functools.cache
def coastline() -> NDArray[np.float32]:
    """The Natural Earth 1:110m coastline.

    Returns:
        (5251, 2), degrees: longitude and latitude of polylines parted by rows of NaN. Read-only.

    Example:
        >>> coastline().shape
        (5251, 2)
    """
    asset = resources.files("rsgm") / "assets" / "coastline_110m.npz"
    with resources.as_file(asset) as path, np.load(path) as arrays:
        lonlat: NDArray[np.float32] = arrays["lonlat"]
    lonlat.setflags(write=False)  # one copy is shared by all callers
    return lonlat


def density_map(
    longitude: ArrayLike,
    latitude: ArrayLike,
    log_density: ArrayLike,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """A log-density on the Earth, with the points that it was fitted to and the points that it is scored on.

    The density is interpolated linearly between the centres of the cells, around the seam at ±180° as well.

    Arguments:
        longitude: (nlon,), degrees, centres of cells that go once around the globe, in any order, in
            [-180, 180] or [0, 360].
        latitude: (nlat,), degrees, centres of cells from pole to pole, not necessarily equidistant
            (Gauss-Legendre nodes).
        log_density: (nlat, nlon), nats. Minus infinity (a density of zero) is drawn in the darkest colour.
        train: (n, 2), degrees: latitude and longitude of the training points.
        test: (m, 2), degrees: latitude and longitude of the test points.
        title: a line above the map.
        vmin: nats, the darkest colour; 9 nats below `vmax`, or the smallest value where that is larger.
        vmax: nats, the brightest colour; the value that 99.9 % of the area stays below.

    Raises:
        ValueError: for shapes that do not fit, a grid that does not cover the globe, NaN in the density.

    Example:
        >>> import numpy as np
        >>> nodes = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(20)[0]))
        >>> density_map(np.arange(-180, 180, 9), nodes, np.zeros((20, 40))).get_size_inches().tolist()
        [10.0, 5.625]
    """
    lon, lat, values = closed_grid(longitude, latitude, log_density)
    area = np.broadcast_to(np.cos(np.radians(lat))[:, None], values.shape) * widths(lat)[:, None]
    vmin, vmax = colour_limits(values, area, vmin, vmax)

    # The ellipse is twice as wide as high: the boxes fit it exactly. Here the colour bar goes below it.
    figure, axes = _earth(title, box=(0.05, 0.135, 0.90, 0.80), coast="#ffffffb0")
    image = AxesImage(
        axes,
        cmap="viridis",
        norm=Normalize(vmin, vmax),
        interpolation="bilinear",
        origin="lower",
        extent=(0.0, 1.0, 0.0, 1.0),  # in axes coordinates, which the ellipse fills
        transform=axes.transAxes,
        zorder=0,
    )
    image.set_data(project(lon, lat, np.maximum(values, vmin)))
    image.set_clip_path(axes.patch)
    axes.add_image(image)

    colour_bar(figure, image, values, (0.32, 0.088, 0.36, 0.022), "log density (nats)")
    if train is not None:
        _dots(axes, train, "train", color=TRAIN, edge=INK, zorder=4)
    if test is not None:
        _dots(axes, test, "test", color=TEST, edge=INK, zorder=5)
    _legend(axes)
    return figure


def sample_map(samples: ArrayLike, reference: ArrayLike | None = None, title: str | None = None) -> Figure:
    """Samples of a model on the Earth, and the points that they should resemble.

    Arguments:
        samples: (n, 2), degrees: latitude and longitude.
        reference: (m, 2), degrees: latitude and longitude, such as the test points.
        title: a line above the map.

    Raises:
        ValueError: if the points are not (n, 2), finite, and in degrees.

    Example:
        >>> figure = sample_map([[47.0, 8.5]], reference=[[51.5, -0.1]], title="a sample")
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['samples (1)', 'reference (1)']
    """
    figure, axes = _earth(title, box=(0.04, 0.07, 0.92, 0.8178), coast="#5c5c5c")
    _dots(axes, samples, "samples", color=SAMPLES, edge="none", zorder=4)
    if reference is not None:
        _dots(axes, reference, "reference", color=REFERENCE, edge="white", zorder=5)
    _legend(axes)
    return figure


def _earth(title: str | None, box: Box, coast: str) -> tuple[Figure, Axes]:
    """An empty map in a box (left, bottom, width, height; shares of the figure): graticule, coast, title."""
    figure = new_figure(*_SIZE_INCHES)
    axes = figure.add_axes(box, projection="mollweide")
    axes.set_longitude_grid(60)  # type: ignore[attr-defined]
    axes.set_latitude_grid(30)  # type: ignore[attr-defined]
    axes.set_longitude_grid_ends(90)  # type: ignore[attr-defined]
    axes.grid(True, color=GREY, linewidth=0.4, alpha=0.45)
    axes.set_axisbelow("line")
    # No longitudes: along the equator they would lie on the data. Latitudes stand at the rim.
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    for degrees, name in ((60, "60°N"), (30, "30°N"), (0, "0°"), (-30, "30°S"), (-60, "60°S")):
        rim = (-np.pi, np.radians(degrees))
        axes.annotate(
            name,
            rim,
            xytext=(-5 - abs(degrees) / 15, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
            color=GREY,
        )
    axes.spines["geo"].set(linewidth=0.7, edgecolor=INK)
    axes.plot(*np.radians(coastline().T), color=coast, linewidth=0.5, solid_joinstyle="round", zorder=3)
    if title is not None:
        figure.text(0.5, box[1] + box[3] + 0.027, title, ha="center", va="center", fontsize=13, color=INK)
    return figure, axes


def _dots(axes: Axes, points: ArrayLike, label: str, color: str, edge: str, zorder: int) -> None:
    """Scatter `points` (n, 2), latitude and longitude in degrees; the more there are, the smaller."""
    latlon = np.asarray(points, dtype=np.float64)
    if latlon.ndim != 2 or latlon.shape[1] != 2:
        raise ValueError(f"{label} points have shape {latlon.shape}; expected (n, 2): latitude, longitude")
    lat, lon = latlon.T
    bad = ~(np.abs(lat) <= 90) | ~(np.abs(lon) <= 360)  # NaN compares false, hence bad
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{label} points: {int(bad.sum())} of {len(latlon)} are no latitude and longitude in degrees, "
            f"the first is row {row}: {latlon[row].tolist()}"
        )
    lon = (lon + 180) % 360 - 180
    dots(axes, np.radians(lon), np.radians(lat), f"{label} ({len(latlon)})", color, edge, zorder)


def _legend(axes: Axes) -> None:
    """The names of the points, in the corner that the ellipse leaves free."""
    if axes.get_legend_handles_labels()[0]:
        legend(axes, loc="lower left", bbox_to_anchor=(-0.045, -0.045))
