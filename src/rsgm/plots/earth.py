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

from rsgm.plots.style import (
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    TEST,
    TRAIN,
    Box,
    Floats,
    bilinear,
    colour_bar,
    colour_limits,
    dots,
    legend,
    new_figure,
    refuse_density,
    scattered,
)

_SIZE_INCHES = (10.0, 5.625)  # 1600 x 900 pixels
_CANVAS = (720, 1440)  # rows, columns of the projected density: about one per pixel


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
    lon, lat, values = _closed_grid(longitude, latitude, log_density)
    area = np.broadcast_to(np.cos(np.radians(lat))[:, None], values.shape) * _widths(lat)[:, None]
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
    image.set_data(_project(lon, lat, np.maximum(values, vmin)))
    image.set_clip_path(axes.patch)
    axes.add_image(image)

    colour_bar(figure, image, values, (0.32, 0.088, 0.36, 0.022), "log density (nats)")
    if train is not None:
        _dots(axes, train, "train", color=TRAIN, edge=INK, zorder=4)
    if test is not None:
        _dots(axes, test, "test", color=TEST, edge=INK, zorder=5)
    _legend(axes)
    return figure


def interpolate(degrees: ArrayLike, values: ArrayLike, step: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """Scattered values on the globe, brought onto a regular grid for `density_map` by linear interpolation.

    Arguments:
        degrees: (n, 2), latitude and longitude
        values: (n,)
        step: of the grid, degrees

    Returns:
        longitudes (nlon,), latitudes (nlat,) and the values (nlat, nlon)
    """
    lat, lon = np.asarray(degrees, dtype=np.float64).T
    value = np.asarray(values, dtype=np.float64)
    # once around to both sides, so that no pixel lies outside the triangulation but at the poles
    lon, lat, value = np.concatenate([lon - 360, lon, lon + 360]), np.tile(lat, 3), np.tile(value, 3)
    near = (lon > -200) & (lon < 200)
    places = np.stack([lon[near], lat[near]], -1)
    longitude, latitude = np.arange(-180 + step / 2, 180, step), np.arange(-90 + step / 2, 90, step)
    return longitude, latitude, scattered(places, value[near], longitude, latitude)


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


def _closed_grid(longitude: ArrayLike, latitude: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Check and sort a grid, then close it: a column beyond either side of the seam, a row at either pole."""
    lon = np.asarray(longitude, dtype=np.float64)
    lat = np.asarray(latitude, dtype=np.float64)
    grid = np.asarray(values, dtype=np.float64)
    if lon.ndim != 1 or lat.ndim != 1 or grid.shape != (lat.size, lon.size):
        raise ValueError(
            f"log_density has shape {grid.shape}, with longitude {lon.shape} and latitude {lat.shape}; "
            "expected (nlat, nlon) with (nlon,) and (nlat,)"
        )
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError("longitude and latitude must be finite")
    refuse_density(grid)

    lon, first = np.unique((lon + 180) % 360 - 180, return_index=True)  # 180 and -180 are one meridian
    lat, order = np.unique(lat, return_index=True)
    if lat.size != grid.shape[0]:
        raise ValueError("latitude: two centres of cells are equal")
    grid = grid[np.ix_(order, first)]
    _check_cover("longitude", lon, np.diff(lon, append=lon[:1] + 360))
    _check_cover("latitude", lat, np.diff(lat, prepend=-90.0, append=90.0))

    lon = np.concatenate([lon[-1:] - 360, lon, lon[:1] + 360])
    grid = np.hstack([grid[:, -1:], grid, grid[:, :1]])
    # A pole is one point: all columns meet there in one value, the mean of the nearest row.
    south, north = grid[0].mean(), grid[-1].mean()
    inner = np.abs(lat) < 90  # a grid that has the poles has their values
    rows = [np.full_like(grid[:1], south), grid[inner], np.full_like(grid[:1], north)]
    return lon, np.concatenate([[-90.0], lat[inner], [90.0]]), np.vstack(rows)


def _check_cover(name: str, centres: Floats, gaps: Floats) -> None:
    """A grid that is given in radians, or for a region, would be stretched over the globe: refuse it."""
    if centres.size < 4 or np.abs(centres).max() > 180 or (name == "latitude" and np.abs(centres).max() > 90):
        raise ValueError(f"{name}: expected at least 4 centres of cells in degrees, found {centres.tolist()[:8]}")
    if gaps.max() > 3 * np.median(gaps):
        raise ValueError(
            f"{name}: {centres.size} centres from {centres[0]:.4g} to {centres[-1]:.4g} leave a gap of "
            f"{gaps.max():.4g} degrees; the grid must cover the globe, in degrees"
        )


def _widths(lat: Floats) -> Floats:
    """Heights of the cells around sorted latitudes, degrees."""
    edges = np.concatenate([lat[:1], (lat[1:] + lat[:-1]) / 2, lat[-1:]])
    return np.diff(edges)


@functools.cache
def _canvas() -> tuple[Floats, Floats]:
    """Longitude and latitude (rows, columns), degrees, of each pixel of the canvas: projection inverted."""
    rows, columns = _CANVAS
    y = ((np.arange(rows) + 0.5) / rows * 2 - 1)[:, None]
    x = ((np.arange(columns) + 0.5) / columns * 2 - 1)[None, :]
    theta = np.arcsin(y)
    lat = np.degrees(np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi))
    # Beyond the ellipse the last meridian goes on, so that the clipped edge has a colour to blend with.
    lon = 180 * np.clip(x / np.cos(theta), -1, 1)
    lon.setflags(write=False)
    return lon, np.broadcast_to(lat, lon.shape)


def _project(lon: Floats, lat: Floats, values: Floats) -> Floats:
    """Interpolate `values` (nlat, nlon) on a closed grid bilinearly at every point of the canvas."""
    x, y = _canvas()
    column = np.interp(x, lon, np.arange(lon.size))
    row = np.interp(y, lat, np.arange(lat.size))
    return bilinear(values, row, column)
