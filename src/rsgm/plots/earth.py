"""Maps of the Earth and of other spheres: a density, or samples, in the Mollweide projection.

Pure functions from arrays to a `matplotlib.figure.Figure`. They never touch pyplot, whose global state is
neither headless nor thread safe; the caller saves, logs or shows the figure.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from rsgm.plots.globe import closed_grid, project, widths
from rsgm.plots.interpolation import floored
from rsgm.plots.style import (
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    Box,
    Floats,
    colour_bar,
    colour_limits,
    contours,
    dots,
    dots_on_density,
    few,
    headline,
    legend,
    new_figure,
)

_SIZE_INCHES = (10.0, 5.625)  # 1600 x 900 pixels
_PALE = "#ffffff"
_MOST = 1000  # dots of one kind on a density


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
    earth: bool = True,
    test_name: str = "test",
    levels: Sequence[tuple[str, float]] = (),
) -> Figure:
    """A log-density on the Earth, or on another sphere, with the points that it was fitted to and is scored on.

    The density is interpolated linearly between the centres of the cells, around the seam at ±180° as well.

    Arguments:
        longitude: (nlon,), degrees, centres of cells that go once around the globe, in any order, in
            [-180, 180] or [0, 360].
        latitude: (nlat,), degrees, centres of cells from pole to pole, not necessarily equidistant
            (Gauss-Legendre nodes).
        log_density: (nlat, nlon), nats, of a density per steradian. Minus infinity (a density of zero) is drawn in the
            darkest colour.
        train: (n, 2), degrees: latitude and longitude of the training points.
        test: (m, 2), degrees: latitude and longitude of the test points.
        title: a line above the map.
        vmin: nats, the darkest colour; 9 nats below `vmax`, or the smallest value where that is larger.
        vmax: nats, the brightest colour; the value that 99.9 % of the area stays below.
        earth: whether the places are on the Earth, so that there are coasts, North and East.
        test_name: what the legend calls the test points.
        levels: log-densities of contours, each after the name that the legend shall show, such as ("90 %", -3.2).

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
    figure, axes = _globe(title, (0.05, 0.135, 0.90, 0.80), "#ffffffb0" if earth else None, (_PALE, INK))
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
    image.set_data(project(lon, lat, floored(values, vmin)))
    image.set_clip_path(axes.patch)
    axes.add_image(image)

    colour_bar(figure, image, values, (0.32, 0.088, 0.36, 0.022), "log density per steradian (nats)")
    named = (("train", train), (test_name, test))
    train, test = (None if points is None else _places(name, points) for name, points in named)
    contours(axes, np.radians(lon[1:-1]), np.radians(lat), values[:, 1:-1], levels)
    dots_on_density(axes, train, test, _MOST, test_name)
    _legend(axes)
    return figure


def sample_map(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
    earth: bool = True,
) -> Figure:
    """Samples of a model on the Earth, or on another sphere, and the points that they should resemble.

    Arguments:
        samples: (n, 2), degrees: latitude and longitude.
        reference: (m, 2), degrees: latitude and longitude, such as the test points.
        title: a line above the map.
        reference_name: what the legend calls the reference.
        earth: whether the places are on the Earth, so that there are coasts, North and East.

    Raises:
        ValueError: if the points are not (n, 2), finite, and in degrees.

    Example:
        >>> figure = sample_map([[47.0, 8.5]], reference=[[51.5, -0.1]], title="a sample")
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['samples (1)', 'test (1)']
    """
    figure, axes = _globe(title, (0.04, 0.07, 0.92, 0.8178), "#5c5c5c" if earth else None, (INK, _PALE))
    shown, label = few("samples", _places("samples", samples))
    dots(axes, *shown.T, label, SAMPLES, "none", zorder=4)
    if reference is not None:
        shown, label = few(reference_name, _places(reference_name, reference))
        dots(axes, *shown.T, label, REFERENCE, "white", zorder=5)
    _legend(axes)
    return figure


def _globe(title: str | None, box: Box, coast: str | None, label: tuple[str, str]) -> tuple[Figure, Axes]:
    """An empty map in a box: title, graticule with labels (colour, halo), and on the Earth the coast in a colour."""
    figure = new_figure(*_SIZE_INCHES)
    axes = figure.add_axes(box, projection="mollweide")
    axes.set_longitude_grid(60)  # type: ignore[attr-defined]
    axes.set_latitude_grid(30)  # type: ignore[attr-defined]
    axes.set_longitude_grid_ends(90)  # type: ignore[attr-defined]
    axes.grid(True, color=GREY, linewidth=0.4, alpha=0.45)
    axes.set_axisbelow("line")
    # matplotlib's would stand within the data: latitudes stand at the rim, longitudes small upon the equator
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    for degrees in (60, 30, 0, -30, -60):
        place, shift = (-np.pi, np.radians(degrees)), (-5 - abs(degrees) / 15, 0)
        name = _name(degrees, "NS", coast is not None)
        axes.annotate(name, place, shift, textcoords="offset points", ha="right", va="center", fontsize=8, color=GREY)
    ink, halo = label[0], [withStroke(linewidth=1.2, foreground=label[1])]
    for degrees in (-120, -60, 0, 60, 120):
        name = _name(degrees, "EW", coast is not None)
        place = (np.radians(degrees), 0.0)
        axes.annotate(
            name, place, (3, 3), textcoords="offset points", fontsize=6.5, color=ink, path_effects=halo, zorder=6
        )
    axes.spines["geo"].set(linewidth=0.7, edgecolor=INK)
    if coast is not None:
        axes.plot(*np.radians(coastline().T), color=coast, linewidth=0.5, solid_joinstyle="round", zorder=3)
    headline(figure, title, box[1] + box[3] + 0.027)
    return figure, axes


def _name(degrees: int, sides: str, earth: bool) -> str:
    """Of a latitude or longitude: 60°S on the Earth, −60° elsewhere."""
    if not earth:
        return f"{degrees}°".replace("-", "−")
    return f"{abs(degrees)}°{sides[degrees < 0] if degrees else ''}"


def _places(name: str, points: ArrayLike) -> Floats:
    """Longitude and latitude (n, 2), radians, of latitude and longitude in degrees."""
    latlon = np.asarray(points, dtype=np.float64)
    if latlon.ndim != 2 or latlon.shape[1] != 2:
        raise ValueError(f"{name} points have shape {latlon.shape}; expected (n, 2): latitude, longitude")
    lat, lon = latlon.T
    bad = ~(np.abs(lat) <= 90) | ~(np.abs(lon) <= 360)  # NaN compares false, hence bad
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name} points: {int(bad.sum())} of {len(latlon)} are no latitude and longitude in degrees, "
            f"the first is row {row}: {latlon[row].tolist()}"
        )
    return np.radians(np.stack([(lon + 180) % 360 - 180, lat], -1))


def _legend(axes: Axes) -> None:
    """The names of the points, in the corner that the ellipse leaves free."""
    if axes.get_legend_handles_labels()[0]:
        legend(axes, loc="lower left", bbox_to_anchor=(-0.045, -0.045))
