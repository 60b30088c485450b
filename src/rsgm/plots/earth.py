"""Maps of the Earth and of other spheres: a density, or points, in the Mollweide or an orthographic projection."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from rsgm.plots.globe import MOLLWEIDE, Projection, closed_grid, widths
from rsgm.plots.interpolation import floored
from rsgm.plots.panels import beside
from rsgm.plots.style import (
    COLUMN,
    GREY,
    INK,
    REFERENCE,
    SAMPLES,
    SMALL,
    Canvas,
    Floats,
    colour_limits,
    contours,
    dots,
    dots_on_density,
    few,
    heading,
    panel,
    show_density,
    train_and_test,
)

_STEP = np.radians(np.linspace(-180, 180, 181))  # along lines of the graticule


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
    projection: Projection = MOLLWEIDE,
    ax: Axes | Canvas | None = None,
) -> Axes:
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
        projection: of the map.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: for shapes that do not fit, a grid that does not cover the globe, NaN in the density.

    Example:
        >>> import numpy as np
        >>> nodes = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(20)[0]))
        >>> density_map(np.arange(-180, 180, 9), nodes, np.zeros((20, 40)), title="a flat one").get_title()
        'a flat one'
    """
    lon, lat, values = closed_grid(longitude, latitude, log_density)
    area = np.broadcast_to(np.cos(np.radians(lat))[:, None], values.shape) * widths(lat)[:, None]
    limits = colour_limits(values, area, vmin, vmax)
    axes = panel(ax, COLUMN, 2.0 if projection.width > 1 else 3.3)
    picture = projection.picture(lon, lat, floored(values, limits[0]))
    image = show_density(axes, picture, values, projection.extent, limits, "steradian")
    image.set_clip_path(map_frame(axes, projection, "#ffffff90" if earth else None, ("white", INK)))
    x, y = projection.axes()
    contours(axes, x, y, np.where(np.hypot(x / projection.width, y[:, None]) < 1, picture, np.nan), levels)
    heading(axes, title)
    dots_on_density(axes, train_and_test(lambda name, x: projection.forward(_places(name, x)), train, test, test_name))
    return axes


def map_points(
    points: ArrayLike,
    name: str = "points",
    color: str = SAMPLES,
    earth: bool = True,
    projection: Projection = MOLLWEIDE,
    ax: Axes | Canvas | None = None,
) -> Axes:
    """Points on the Earth, or on another sphere, their name and number above them.

    Arguments:
        points: (n, 2), degrees: latitude and longitude.
        name: of the points.
        color: of their dots.
        earth: whether the places are on the Earth, so that there are coasts, North and East.
        projection: of the map.
        ax: where to draw: axes, or a figure to fill; None makes one, of a column's width.

    Raises:
        ValueError: if the points are not (n, 2), finite, and in degrees.

    Example:
        >>> map_points([[47.0, 8.5]], "Zürich").get_title()
        'Zürich (1)'
    """
    shown, label = few(name, _places(name, points))
    axes = panel(ax, COLUMN, 1.9 if projection.width > 1 else 3.3)
    map_frame(axes, projection, GREY if earth else None, (INK, "white"))
    dots(axes, *projection.forward(shown).T, label, color, "none", zorder=4)
    heading(axes, label, color)
    return axes


def sample_map(
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    title: str | None = None,
    reference_name: str = "test",
    earth: bool = True,
    figure: Canvas | None = None,
) -> Canvas:
    """Samples of a model on the Earth, or on another sphere, beside the points that they should resemble.

    Arguments:
        samples: (n, 2), degrees: latitude and longitude.
        reference: (m, 2), degrees: latitude and longitude, such as the test points.
        title: a line above the maps.
        reference_name: what the reference is called.
        earth: whether the places are on the Earth, so that there are coasts, North and East.
        figure: where to draw; None makes one.

    Raises:
        ValueError: if the points are not (n, 2), finite, and in degrees.

    Example:
        >>> figure = sample_map([[47.0, 8.5]], reference=[[51.5, -0.1]], title="a sample")
        >>> [axes.get_title() for axes in figure.axes]
        ['samples (1)', 'test (1)']
    """
    parts = [("samples", samples, SAMPLES), (reference_name, reference, REFERENCE)]
    return beside(functools.partial(map_points, earth=earth), parts, 1.9, title, figure)


def map_frame(axes: Axes, projection: Projection, coast: str | None, label: tuple[str, str]) -> Ellipse:
    """The rim of a map, the graticule with labels (colour, halo), and on the Earth the coast in a colour."""
    axes.set_axis_off()
    width = projection.width
    margin = 0.01
    axes.set(xlim=(-width - margin, width + margin), ylim=(-1 - margin, 1 + margin), aspect="equal")
    for degrees in range(-60, 61, 30):
        _line(axes, projection, _STEP, np.full_like(_STEP, np.radians(degrees)), GREY, 0.3, 0.45)
    for degrees in range(-180, 180, 60):
        _line(axes, projection, np.full_like(_STEP, np.radians(degrees)), _STEP / 2, GREY, 0.3, 0.45)
    if coast is not None:
        _line(axes, projection, *np.radians(coastline().T.astype(float)), coast, 0.35, 1.0)
    halo = [withStroke(linewidth=1.0, foreground=label[1])]
    names = [((degrees, 0), _name(degrees, "EW", coast is not None)) for degrees in range(-120, 181, 60)]
    middle = 60 * round(projection.longitude / 60)
    names += [((middle, degrees), _name(degrees, "NS", coast is not None)) for degrees in (-60, -30, 30, 60)]
    for place, name in names:
        ((x, y),) = projection.forward(np.radians([place]))
        # beside the rim it would stand outside; what is not seen has no place
        if np.hypot(x / width, y) < 0.95:
            options = {"fontsize": SMALL - 1.5, "color": label[0], "path_effects": halo, "zorder": 6}
            axes.annotate(name, (x, y), (1.5, 1.5), textcoords="offset points", **options)
    rim = Ellipse((0, 0), 2 * width, 2, fill=False, edgecolor=INK, linewidth=0.5, zorder=7)
    axes.add_patch(rim)
    return rim


def _line(axes: Axes, projection: Projection, lon: Floats, lat: Floats, color: str, width: float, alpha: float) -> None:
    """A line through places, radians, that ends where they are not seen and at the seam."""
    places = projection.forward(np.stack([lon, lat], -1))
    places[1:][np.hypot(*np.diff(places, axis=0).T) > 0.5] = np.nan
    axes.plot(*places.T, color=color, linewidth=width, alpha=alpha, solid_joinstyle="round", zorder=2)


def _name(degrees: int, sides: str, earth: bool) -> str:
    """Of a latitude or longitude: 60°S on the Earth, −60° elsewhere."""
    if not earth:
        return f"{degrees}°".replace("-", "−")
    return f"{abs(degrees)}°{sides[degrees < 0] if degrees % 180 else ''}"


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
