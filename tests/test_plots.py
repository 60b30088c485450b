import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, imread

from rsgm.plots import coastline, density_map, sample_map

NODES = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(40)[0]))  # Gauss-Legendre, not equidistant
CENTRES = -180 + (np.arange(80) + 0.5) * 4.5
POINTS = np.array([[47.0, 8.5], [-33.9, 151.2], [64.1, -21.9], [-90.0, 0.0], [0.0, 180.0], [0.0, -180.0]])


def bump(latitude, longitude, at=(10.0, 180.0), kappa=20.0):
    """Unnormalised von Mises-Fisher log-density, by default on the seam."""
    a, b = np.radians(latitude)[:, None], np.radians(longitude)[None, :] - np.radians(at[1])
    c = np.radians(at[0])
    return kappa * (np.sin(a) * np.sin(c) + np.cos(a) * np.cos(c) * np.cos(b) - 1)


def png(figure: Figure) -> np.ndarray:
    """The picture (rows, columns, 4) in [0, 1]; any warning on the way is an error."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png")
    assert 30_000 < len(buffer.getvalue()) < 3_000_000
    buffer.seek(0)
    return imread(buffer)


def image(figure: Figure) -> AxesImage:
    return figure.axes[0].images[0]


def test_coastline() -> None:
    lonlat = coastline()
    assert lonlat.shape == (5251, 2)
    assert np.isnan(lonlat).all(axis=1).sum() == 131  # polylines
    assert np.nanmax(np.abs(lonlat), axis=0).tolist() <= [180, 90]
    assert coastline() is lonlat
    with pytest.raises(ValueError, match="read-only"):
        lonlat[0] = 0


def test_density_map() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = density_map(CENTRES, NODES, bump(NODES, CENTRES), train=POINTS, test=POINTS[:2], title="a bump")
    picture = png(figure)
    assert picture.shape == (900, 1600, 4)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 200  # something is drawn
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["train (6)", "test (2)"]
    assert figure.axes[1].get_xlabel() == "log density (nats)"
    assert "a bump" in [text.get_text() for text in figure.texts]


def test_density_map_without_points() -> None:
    figure = density_map(CENTRES, NODES, bump(NODES, CENTRES))
    assert figure.axes[0].get_legend() is None
    png(figure)


def test_sample_map() -> None:
    points = np.random.default_rng(0).uniform([-90, -180], [90, 180], (500, 2))
    assert png(sample_map(points, reference=POINTS, title="samples")).shape == (900, 1600, 4)
    assert png(sample_map(points)).shape == (900, 1600, 4)
    png(sample_map(np.empty((0, 2))))


def test_seam_is_closed() -> None:
    """A bump on the seam: the last meridian looks the same from either side, and is no edge of a cell."""
    canvas = np.asarray(image(density_map(CENTRES, NODES, bump(NODES, CENTRES), vmin=-40, vmax=0)).get_array())
    np.testing.assert_allclose(canvas[:, 0], canvas[:, -1])
    row = canvas.shape[0] // 2 + int(canvas.shape[0] * np.radians(10) / np.pi)  # near 10 degrees north
    assert canvas[row, 0] == pytest.approx(0, abs=0.1)
    # every pixel agrees with the exact density, poles and seam included, to the error of linear interpolation
    x, y = (np.arange(n)[:, None] * 2 + 1 - n for n in reversed(canvas.shape))
    theta = np.arcsin(y / canvas.shape[0])
    lat = np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi)
    lon = np.pi * x.T / canvas.shape[1] / np.cos(theta)
    north = np.sin(lat) * np.sin(np.radians(10))
    exact = 20 * (north - np.cos(lat) * np.cos(np.radians(10)) * np.cos(lon) - 1)
    inside = np.abs(lon) <= np.pi
    assert np.abs(canvas - exact)[inside].max() < 0.15


@pytest.mark.parametrize(
    "longitude",
    [
        (np.arange(80) * 4.5) % 360,  # 0 ... 355.5
        -180 + np.arange(80) * 4.5,  # a centre on the seam
        np.linspace(-180, 180, 81),  # the seam twice
        CENTRES[::-1] + 0.7,  # descending, and neither centres nor edges on the seam
    ],
)
@pytest.mark.parametrize("latitude", [NODES, NODES[::-1], np.linspace(-90, 90, 41)])
def test_grids_of_every_kind_agree(longitude: np.ndarray, latitude: np.ndarray) -> None:
    pictures = [
        np.asarray(image(density_map(lon, lat, bump(lat, lon), vmin=-40, vmax=0)).get_array())
        for lon, lat in ((CENTRES, NODES), (longitude, latitude))
    ]
    assert np.abs(pictures[0] - pictures[1]).max() < 0.3


def test_range_of_colours() -> None:
    # one narrow peak does not darken everything else
    values = bump(NODES, CENTRES, kappa=4.0)
    values[20, 40] = 30.0
    low, high = image(density_map(CENTRES, NODES, values)).get_clim()
    assert high < 1
    assert high - low < 9.1
    # a deep valley does not either
    low, high = image(density_map(CENTRES, NODES, bump(NODES, CENTRES, kappa=100.0))).get_clim()
    assert high - low == pytest.approx(9)
    # limits that are given are kept
    assert image(density_map(CENTRES, NODES, values, vmin=-3, vmax=2)).get_clim() == (-3, 2)


def test_flat_and_vanishing_densities() -> None:
    flat = np.full((40, 80), -np.log(4 * np.pi))
    low, high = image(density_map(CENTRES, NODES, flat)).get_clim()
    assert low < flat[0, 0] < high
    half = np.where(NODES[:, None] > 0, -1.0, -np.inf) + 0 * CENTRES
    png(density_map(CENTRES, NODES, half))
    spot = np.full((40, 80), -np.inf)
    spot[20, 40] = 3.0  # smaller than what the upper limit cuts off
    png(density_map(CENTRES, NODES, spot))


@pytest.mark.parametrize(
    "longitude, latitude, log_density, message",
    [
        (CENTRES, NODES, np.zeros((80, 40)), r"shape \(80, 40\).*expected \(nlat, nlon\)"),
        (CENTRES[None], NODES, np.zeros((40, 80)), "expected"),
        (np.radians(CENTRES), NODES, np.zeros((40, 80)), "longitude.*must cover the globe, in degrees"),
        (CENTRES, np.radians(NODES), np.zeros((40, 80)), "latitude.*must cover the globe, in degrees"),
        (CENTRES, NODES * 2, np.zeros((40, 80)), "latitude.*in degrees"),
        (CENTRES, np.zeros(40), np.zeros((40, 80)), "equal"),
        (CENTRES * np.nan, NODES, np.zeros((40, 80)), "finite"),
        (CENTRES, NODES, np.full((40, 80), np.nan), "3200 of 3200 values are NaN"),
        (CENTRES, NODES, np.full((40, 80), np.inf), "NaN or .inf"),
        (CENTRES, NODES, np.full((40, 80), -np.inf), "zero everywhere"),
    ],
)
def test_bad_grids(longitude, latitude, log_density, message) -> None:
    with pytest.raises(ValueError, match=message):
        density_map(longitude, latitude, log_density)


def test_bad_limits() -> None:
    with pytest.raises(ValueError, match="expected vmin <= vmax"):
        density_map(CENTRES, NODES, np.zeros((40, 80)), vmin=1, vmax=0)


@pytest.mark.parametrize(
    "points, message",
    [
        (np.zeros((5, 3)), r"samples points have shape \(5, 3\); expected \(n, 2\)"),
        (np.zeros(2), "expected"),
        ([[0.0, 0.0], [120.0, 10.0]], "1 of 2 .* row 1: .120.0, 10.0."),  # latitude and longitude exchanged
        ([[np.nan, 0.0]], "1 of 1"),
    ],
)
def test_bad_points(points, message) -> None:
    with pytest.raises(ValueError, match=message):
        sample_map(points)


def test_pyplot_is_not_involved() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    sample_map(POINTS)
    assert pyplot.get_fignums() == before
