import io
import warnings

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, imread
from scipy.integrate import trapezoid
from scipy.spatial.transform import Rotation
from scipy.stats import gaussian_kde

from rsgm import plots
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Sphere, Torus, from_lat_lon
from rsgm.metrics import density_ranks
from rsgm.models import KernelDensity
from rsgm.plots import (
    Caption,
    Mollweide,
    Orthographic,
    Projection,
    angle_pairs,
    calibration,
    coastline,
    density,
    density_levels,
    disk_samples,
    interpolate_angles,
    plane_laws,
    plane_samples,
    poles_and_tilts,
    rotation_samples,
    sample_map,
    score_fields,
    snapshots,
    style,
    tait_bryan,
    training_curves,
    trajectories,
)
from rsgm.plots.interpolation import scattered
from rsgm.plots.style import colour_bar, colour_limits, new_figure


def alone(panel):
    """The figure that a function of one panel makes without axes to draw in."""
    return lambda *args, **options: panel(*args, **options).figure


density_map, torus_density, plane_density, disk_density, draw_density = map(
    alone, (plots.density_map, plots.torus_density, plots.plane_density, plots.disk_density, plots.draw_density)
)
circle_density, circle_samples, line_density, line_samples = map(
    alone, (plots.circle_density, plots.circle_samples, plots.line_density, plots.line_samples)
)
image_grid, latent_histograms, score_field = map(alone, (plots.image_grid, plots.latent_histograms, plots.score_field))

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
        # of matplotlib 3.8 about what it calls
        warnings.filterwarnings("ignore", ".* deprecated( -|,) use ", DeprecationWarning)
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
        # of matplotlib 3.8 about what it calls
        warnings.filterwarnings("ignore", ".* deprecated( -|,) use ", DeprecationWarning)
        figure = density_map(CENTRES, NODES, bump(NODES, CENTRES), train=POINTS, test=POINTS[:2], title="a bump")
    picture = png(figure)
    assert picture.shape == (500, 825, 4)
    assert len(np.unique(picture[::4, ::4].reshape(-1, 4), axis=0)) > 200  # something is drawn
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["train (6)", "test (2)"]
    assert bar(figure) == "log density per steradian (nats)"
    assert headings(figure) == ["a bump"]


def test_density_map_without_points() -> None:
    figure = density_map(CENTRES, NODES, bump(NODES, CENTRES))
    assert figure.axes[0].get_legend() is None
    png(figure)


def test_sample_map() -> None:
    points = np.random.default_rng(0).uniform([-90, -180], [90, 180], (500, 2))
    assert png(sample_map(points, reference=POINTS, title="samples")).shape == (525, 1700, 4)
    assert png(sample_map(points)).shape == (475, 825, 4)
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
@pytest.mark.parametrize(
    "latitude",
    [NODES[::-1], *(pytest.param(some, marks=pytest.mark.slow) for some in (NODES, np.linspace(-90, 90, 41)))],
)
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


def test_colours_are_chosen_by_area_and_not_by_cells() -> None:
    """A thousandth of the area may be brighter than the brightest colour, however many cells it is made of."""
    values, area = np.linspace(0, 5, 100), np.ones(100)
    few = np.where(values > 2, 1e-6, area)
    assert colour_limits(values, area, None, None)[1] == 5
    assert 1.9 < colour_limits(values, few, None, None)[1] < 2.1


@pytest.mark.parametrize("lowest, highest, tips", [(-1, 1, "neither"), (-2, 1, "min"), (-1, 2, "max"), (-2, 2, "both")])
def test_tips_of_a_colour_bar_say_where_values_lie_beyond(lowest: float, highest: float, tips: str) -> None:
    figure = new_figure(4, 3)
    picture = figure.add_subplot().imshow(np.zeros((2, 2)), vmin=-1, vmax=1)
    colour_bar(figure.axes[0], picture, np.array([lowest, 0.0, highest]), "nats")
    assert picture.colorbar.extend == tips


def test_many_dots_are_small() -> None:
    axes, sizes = new_figure(4, 3).add_subplot(), []
    for n in (1, 500, 1000, 10_000, 0):
        style.dots(axes, np.zeros(n), np.zeros(n), "some", style.INK, style.INK, 1)
        sizes.append(float(axes.collections[-1].get_sizes()[0]))
    assert sizes == [5, 2, 1, 0.8, 5]


@pytest.mark.parametrize("manifold", [Euclidean(2), Torus(2)], ids=str)
def test_the_first_coordinate_runs_to_the_right(manifold: Manifold) -> None:
    """A peak stands where its point does."""
    peak = torch.tensor([0.9, -0.4], dtype=torch.float64)
    ends = torch.tensor([[-2.0, -2.0], [2.0, 2.0]], dtype=torch.float64)
    centre, data = ((manifold.from_angles(x) if manifold.shape == (2, 2) else x) for x in (peak, ends))
    width = torch.tensor(0.3, dtype=torch.float64)
    figure = draw_density(manifold, lambda x: manifold.bump_log_prob(x, centre.expand_as(x), width), data, data)
    picture = np.asarray(image(figure).get_array())
    left, right, bottom, top = image(figure).get_extent()
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    x = left + (column + 0.5) / picture.shape[1] * (right - left)
    y = bottom + (row + 0.5) / picture.shape[0] * (top - bottom)
    unit = 180 / np.pi if right > 100 else 1.0
    assert np.hypot(x / unit - 0.9, y / unit + 0.4) < 0.1


@pytest.mark.parametrize("manifold", [Sphere(1), Torus(1)], ids=str)
def test_angles_on_the_circle_go_against_the_clock_from_the_first_axis(manifold: Manifold) -> None:
    centre = torch.tensor([np.cos(0.5), np.sin(0.5)]).reshape(manifold.shape)
    width = torch.tensor(0.3, dtype=torch.float64)
    figure = draw_density(
        manifold, lambda x: manifold.bump_log_prob(x, centre.expand_as(x), width), centre[None], centre[None]
    )
    angle, height = next(line for line in figure.axes[0].lines if line.get_label() == "model").get_data()
    assert angle[height.argmax()] % (2 * np.pi) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
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


# ---- what the figures beside the Earth share


def dots(axes) -> np.ndarray:
    """Places of the dots on some axes, in the order in which they were drawn."""
    return np.concatenate([np.asarray(found.get_offsets()) for found in axes.collections])


def bar(figure: Figure) -> str:
    """What the bar of the first panel says."""
    (found,) = figure.axes[0].child_axes
    return found.get_ylabel()


def headings(figure: Figure) -> list[str]:
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]


def draws(figure: Figure) -> bool:
    """Whether it can be saved, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # of matplotlib 3.8 about what it calls
        warnings.filterwarnings("ignore", ".* deprecated( -|,) use ", DeprecationWarning)
        figure.savefig(io.BytesIO(), format="png")
    return True


RNG = np.random.default_rng(0)
EYES = np.broadcast_to(np.eye(3), (4, 3, 3))
GRID = np.linspace(-3.1, 3.1, 20)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: angle_pairs(np.zeros(3)), r"samples: found the shape \(3,\); expected \(n, d\)"),
        (lambda: angle_pairs(np.zeros((3, 2)), np.zeros((3, 4))), r"test: .*\(3, 4\); expected \(n, 2\)"),
        (lambda: angle_pairs([[0.0, 1.0], [np.nan, 0.0]]), r"samples: 1 of 2 points are not finite.*row 1: .nan"),
        (lambda: angle_pairs(np.zeros((3, 1))), "pairs: expected 1 to 5 pairs .* found ..$"),
        (lambda: angle_pairs(np.zeros((3, 2)), pairs=[(0, 2)]), r"coordinates 0 to 1, found .\(0, 2\)"),
        (lambda: angle_pairs(np.zeros((3, 2)), names=["a"]), "names: expected 2, .* found 1: .'a'"),
        (lambda: circle_samples(np.zeros((3, 2))), r"samples: found the shape \(3, 2\); expected \(n\)"),
        (lambda: circle_density(np.zeros(3), np.zeros(4)), r"log_density has shape \(4,\); expected \(3,\)"),
        (lambda: circle_density(np.zeros(3), [0, np.nan, 0]), "1 of 3 values are NaN"),
        (lambda: torus_density(GRID, GRID, np.zeros((20, 19))), r"\(20, 19\), with first .* expected \(20, 20\)"),
        (lambda: torus_density(GRID, GRID[::-1], np.zeros((20, 20))), "second: expected at least 2 ascending"),
        (lambda: torus_density(GRID * 57, GRID, np.zeros((20, 20))), "first: expected radians .* found -176.7"),
        (lambda: torus_density(GRID, GRID, np.full((20, 20), np.nan)), "400 of 400 values are NaN"),
        (lambda: torus_density(GRID, GRID, np.zeros((20, 20)), test=np.zeros(2)), r"test: found the shape \(2,\)"),
        (lambda: interpolate_angles(np.zeros((3, 2)), np.zeros(2)), r"log_density has shape \(2,\)"),
        (lambda: rotation_samples(np.zeros((4, 9))), r"rotations: .*\(4, 9\); expected \(n, 3, 3\)"),
        (lambda: rotation_samples(-EYES), "rotations: 4 of 4 points are no rotations"),
        (lambda: rotation_samples(EYES, 1.01 * EYES), "4 of 4 points are no rotations"),
        (lambda: disk_samples(np.zeros((2, 3))), r"samples: .*\(2, 3\); expected \(n, 2\)"),
        (lambda: disk_samples([[0.0, 0.5]], [[0.8, 0.7]]), "test: 1 of 1 points are not in the open unit disk"),
        (lambda: disk_density([0.1, 0.5], GRID, np.zeros((2, 20))), "radius: expected values from 0 .* found 0.1"),
        (lambda: disk_density([0.0, 1.0], GRID, np.zeros((2, 20))), "less than 1, found 0 to 1"),
        (lambda: disk_density([0.0, 0.5], GRID / 2, np.zeros((2, 20))), "angle: expected radians once around"),
        (lambda: plane_samples([[np.inf, 0.0]]), "samples: 1 of 1 points are not finite"),
        (lambda: plane_density(GRID**3, GRID, np.zeros((20, 20))), "x: expected equidistant values, found gaps"),
        (lambda: plane_density(GRID, GRID, np.full((20, 20), -np.inf)), "zero everywhere"),
        (lambda: line_samples(np.zeros((2, 1))), r"samples: found the shape \(2, 1\)"),
        (lambda: line_density(GRID, np.full(20, np.inf)), "20 of 20 values are NaN or .inf"),
        (lambda: score_field(GRID, GRID, np.zeros((20, 20))), r"vectors: .*\(20, 20\); expected \(n, d, 2\)"),
        (lambda: score_field(GRID, GRID, np.zeros((19, 20, 2))), r"vectors has shape \(19, 20\)"),
        (lambda: trajectories({}), "at least one path"),
        (lambda: trajectories({"a": np.zeros((4, 2))}), r"a: found the shape \(4, 2\); expected \(n, d, 2\)"),
        (lambda: snapshots(np.zeros((2, 4, 2)), [0.0]), "times: expected 2, .* found 1"),
        (lambda: score_fields(GRID, GRID, np.zeros((2, 20, 20, 2)), [0.0]), "times: expected 2, .* found 1"),
        (lambda: calibration([], [1.0]), "expected points and draws, found 0 and 1"),
        (lambda: calibration([[0.0]], [1.0]), r"log_density: found the shape \(1, 1\)"),
        (lambda: plots.rank_histogram([0.5, 1.5]), "ranks: expected shares from 0 to 1, found 0.5 to 1.5"),
        (lambda: training_curves({}), "at least one curve"),
        (lambda: plots.curve([1, 2], [1], "a"), r"curve: found \(2,\) steps and \(1,\) values"),
        (lambda: plots.pole_map(-EYES), "rotations: 4 of 4 points are no rotations"),
        (lambda: latent_histograms({}), "expected 1 to 4 laws, found 0"),
        (lambda: plane_laws({}), "plane_laws: expected at least one law, found none"),
        (lambda: plane_laws({"a": [1.0, 2.0]}), r"a: found the shape \(2,\)"),
        (lambda: latent_histograms({"a": [1.0, np.nan]}), "a: 1 of 2 points are not finite"),
        (lambda: image_grid(np.zeros((2, 2, 8, 8))), r"found the shape \(2, 2, 8, 8\)"),
        (lambda: image_grid(np.zeros((0, 8, 8))), r"found the shape \(0, 8, 8\)"),
        (lambda: image_grid(np.full((1, 8, 8), np.nan)), "1 of 1 points are not finite"),
        (lambda: image_grid(np.zeros((1, 8, 8)), vmin=1.0), "expected vmin < vmax"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- angles


def test_pairs_of_angles() -> None:
    samples = np.array([[0.5, 3.5, 0.0], [np.pi, -np.pi, 7.0]])
    figure = angle_pairs(samples, samples[:1] + 0.1, names=["a", "b", "c"], title="three")
    assert headings(figure) == ["samples (2)", "", "test (1)", ""]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("a (°)", "b (°)"),
        ("b (°)", "c (°)"),
    ] * 2
    np.testing.assert_allclose(dots(figure.axes[0]), [[28.6478898, -159.4647715], [180, 180]])
    np.testing.assert_allclose(dots(figure.axes[1])[1], [180, 41.0704566])
    np.testing.assert_allclose(dots(figure.axes[2]), np.degrees([[0.6, 3.6 - 2 * np.pi]]))
    for axes in figure.axes:
        assert axes.get_xlim() == axes.get_ylim() == (-180, 180)
        assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [-180, -90, 0, 90, 180]
    assert draws(figure)
    # one pair: side by side
    left, right = angle_pairs(samples[:, :2], samples[:, 1:]).axes
    assert left.get_subplotspec().rowspan == right.get_subplotspec().rowspan
    assert left.get_xlabel() == r"$\theta_{1}$ (°)"
    assert draws(angle_pairs(np.empty((0, 2))))


@pytest.mark.parametrize("dim, count", [(2, 1), (3, 2), (4, 2), (7, 4), (10, 5), (20, 5)])
def test_every_angle_is_seen_up_to_ten(dim: int, count: int) -> None:
    figure = angle_pairs(np.zeros((1, dim)), names=[str(k) for k in range(dim)])
    shown = {name for axes in figure.axes for name in (axes.get_xlabel(), axes.get_ylabel())}
    assert len(figure.axes) == count
    assert len(shown) == min(dim, 10)


def test_histogram_on_the_circle() -> None:
    figure = circle_samples([0.02, 0.03, 3.2, -3.1], reference=[1.0], title="a circle")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["samples (4)", "test (1)"]
    (filled,) = axes.collections
    outline = filled.get_paths()[0].vertices
    cell = np.radians(5)
    base, top = 0.7 / cell, 1.7 / cell  # the highest cell is that of the one reference point
    heights = {angle: outline[np.abs(outline[:, 0] - np.radians(angle)) < 0.02, 1].max() for angle in (2.5, -177.5, 90)}
    assert heights == pytest.approx({2.5: base + 0.5 / cell, -177.5: base + 0.5 / cell, 90: base})
    turn, height = axes.lines[0].get_data()
    assert height[np.abs(turn - 1.0).argmin()] == pytest.approx(top)
    assert (height > base + 1).sum() == 20
    assert draws(figure)


def test_density_on_the_circle_is_closed() -> None:
    turn = RNG.permutation(np.linspace(-np.pi, np.pi, 200, endpoint=False))
    figure = circle_density(turn, 3 * np.cos(turn) - 2, train=[0.1, 0.2], test=[0.3])
    (axes,) = figure.axes
    angle, height = next(line for line in axes.lines if line.get_label() == "model").get_data()
    base = height.min() - np.exp(-5)
    # between the angles as well
    assert len(angle) > 1000
    np.testing.assert_allclose(height - base, np.exp(3 * np.cos(angle) - 2), rtol=1e-5)
    assert angle[-1] - angle[0] == pytest.approx(2 * np.pi)
    assert draws(figure)


def bump_on_torus(first, second) -> np.ndarray:
    """Around a corner of the square."""
    return 5 * (np.cos(first - 3.1) + np.cos(second + 3.0) - 2)


def pixels(figure: Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (columns), (rows) of the pixels of a picture, and their values."""
    picture = image(figure)
    values = np.asarray(picture.get_array())
    left, right, bottom, top = picture.get_extent()
    rows, columns = ((np.arange(n) + 0.5) / n for n in values.shape)
    return left + columns * (right - left), bottom + rows * (top - bottom), values


@pytest.mark.parametrize("kind", ["grid", "edges", "scattered"])
def test_density_on_the_torus_is_closed(kind: str) -> None:
    if kind == "scattered":
        places = RNG.uniform(-np.pi, np.pi, (20_000, 2))
        first, second, values = interpolate_angles(places, bump_on_torus(*places.T))
    else:
        first = np.linspace(-np.pi, np.pi, 121)[1:] - (np.pi / 120 if kind == "grid" else 0)
        second = np.sort(first + 0.01 * np.sin(7 * first)).clip(-np.pi, np.pi)
        values = bump_on_torus(first, second[:, None])
    points = np.array([[3.1, -3.0], [3.5, 0.0]])
    figure = torus_density(first, second, values, points, points[:1], ["phi", "psi"], vmin=-20, vmax=0)
    x, y, found = pixels(figure)
    expected = bump_on_torus(np.radians(x), np.radians(y)[:, None])
    assert np.abs(found - expected).max() < (0.1 if kind == "scattered" else 0.02)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("phi (°)", "psi (°)")
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [-180, -90, 0, 90, 180]
    np.testing.assert_allclose(dots(axes), np.degrees([[3.1, -3.0], [3.5 - 2 * np.pi, 0.0], [3.1, -3.0]]))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["train (2)", "test (1)"]
    assert draws(figure)


def test_density_of_zero_on_the_torus() -> None:
    places = RNG.uniform(-np.pi, np.pi, (2000, 2))
    grid = interpolate_angles(places, np.where(places[:, 0] > 0, 1.0, -np.inf))
    assert not np.isnan(grid[2]).any()
    _, _, found = pixels(torus_density(*grid))
    assert found.min() < found.max()


# ---- rotations


def test_tait_bryan() -> None:
    angles = RNG.uniform([-3.1, -1.5, -3.1], [3.1, 1.5, 3.1], (100, 3))
    matrices = Rotation.from_euler("ZYX", angles).as_matrix()
    np.testing.assert_allclose(tait_bryan(matrices), angles, atol=1e-12)
    locked = Rotation.from_euler("ZYX", [[0.4, np.pi / 2, 0.0]]).as_matrix()
    assert tait_bryan(locked)[0, 1] == pytest.approx(np.pi / 2)


def test_histograms_of_rotations() -> None:
    uniform = Rotation.random(20_000, random_state=0).as_matrix()
    figure = rotation_samples(uniform, uniform[:100], title="uniform")
    above, below = figure.subfigs
    assert [text.get_text() for text in below.legends[0].get_texts()] == [
        "samples (20,000)",
        "test (100)",
        "uniform",
    ]
    assert headings(above) == ["samples, 2,000 of 20,000 shown", "test (100)"]
    assert len(below.axes) == 3
    for axes, half in zip(below.axes, (180, 90, 180), strict=True):
        samples, _ = (patch.get_data() for patch in axes.patches)
        assert samples.edges[[0, -1]].tolist() == [-half, half]
        assert samples.values @ np.diff(samples.edges) == pytest.approx(1)
        angle, curve = axes.lines[0].get_data()
        assert trapezoid(curve, angle) == pytest.approx(1, abs=1e-3)
        middle = (samples.edges[1:] + samples.edges[:-1]) / 2
        error = np.sqrt(curve.max() / (20_000 * np.diff(samples.edges)[0]))
        assert np.abs(samples.values - np.interp(middle, angle, curve)).max() < 5 * error
    assert np.ptp(below.axes[0].lines[0].get_ydata()) == 0
    assert below.axes[1].lines[0].get_ydata()[[0, 90]] == pytest.approx([0, np.pi / 360])
    assert draws(figure)


# ---- the disk


def test_samples_in_the_disk() -> None:
    samples, reference = RNG.uniform(-0.6, 0.6, (2, 30, 2))
    figure = disk_samples(samples, reference[:20], title="a disk")
    assert headings(figure) == ["samples (30)", "test (20)"]
    np.testing.assert_allclose(dots(figure.axes[0]), samples)
    np.testing.assert_allclose(dots(figure.axes[1]), reference[:20])
    # the boundary, and the circles of hyperbolic radius 1, 2, 3
    radii = sorted(patch.get_radius() for patch in figure.axes[0].patches)
    np.testing.assert_allclose(radii, [*np.tanh([0.5, 1.0, 1.5]), 1])
    assert draws(figure)


def test_density_in_the_disk() -> None:
    radius, angle = np.linspace(0, 0.9, 200), np.linspace(-np.pi, np.pi, 200, endpoint=False)

    def density(x, y):
        return -10 * ((x + 0.5) ** 2 + (y - 0.1) ** 2)

    values = density(radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle))
    figure = disk_density(radius, angle, values, [[0.1, 0.2]], [[0.3, 0.4]], vmin=-30, vmax=0)
    x, y, found = pixels(figure)
    inside = np.hypot(x, y[:, None]) < 0.9
    assert np.abs(found - density(x, y[:, None]))[inside].max() < 0.02
    # nothing is said about what was not evaluated
    clip = image(figure).get_clip_path().get_fully_transformed_path()
    outline = figure.axes[0].transData.inverted().transform(clip.vertices)
    assert np.hypot(*outline.T).min() == pytest.approx(0.9, rel=1e-3)
    np.testing.assert_allclose(dots(figure.axes[0]), [[0.1, 0.2], [0.3, 0.4]])
    assert draws(figure)


# ---- flat space


def test_samples_in_the_plane() -> None:
    reference = RNG.uniform([-2, 0], [2, 1], (500, 2))
    samples = np.concatenate([reference[:300], [[9.0, 0.5], [0.0, -9.0]]])
    figure = plane_samples(samples, reference)
    assert headings(figure) == ["samples (302), 2 of them outside", "test (500)"]
    np.testing.assert_allclose(dots(figure.axes[0]), samples)
    np.testing.assert_allclose(dots(figure.axes[1]), reference)
    assert {axes.get_aspect() for axes in figure.axes} == {1.0}
    assert {axes.get_xlim() for axes in figure.axes} == {figure.axes[0].get_xlim()}
    assert figure.axes[0].get_xlim() == pytest.approx((-2.6, 2.6), abs=0.05)
    assert draws(figure)


def test_pairs_of_coordinates() -> None:
    samples = RNG.normal(size=(50, 5))
    figure = plane_samples(samples, samples, pairs=[(0, 4), (2, 1)])
    np.testing.assert_allclose(dots(figure.axes[1]), samples[:, [2, 1]])
    assert figure.axes[0].get_ylabel() == "$x_{5}$"
    assert draws(figure)
    assert len(plane_samples(samples).axes) == 3


def test_density_in_the_plane() -> None:
    x, y = np.linspace(-2, 2, 41), np.linspace(0, 1, 21)
    figure = plane_density(x, y, x - 3 * y[:, None], [[0.5, 0.5]], [[1.0, 0.2]])
    columns, rows, found = pixels(figure)
    np.testing.assert_allclose(columns, x, atol=1e-12)
    np.testing.assert_allclose(rows, y, atol=1e-12)
    np.testing.assert_allclose(found, np.minimum(x - 3 * y[:, None], 2))
    np.testing.assert_allclose(dots(figure.axes[0]), [[0.5, 0.5], [1.0, 0.2]])
    assert bar(figure) == "log density per unit of area (nats)"
    assert draws(figure)


def test_samples_and_density_on_the_line() -> None:
    values = RNG.normal(size=2000)
    figure = line_samples(values, values[:500], name="height")
    (axes,) = figure.axes
    samples, _ = (patch.get_data() for patch in axes.patches)
    inside = np.mean((values >= samples.edges[0]) & (values <= samples.edges[-1]))
    assert samples.values @ np.diff(samples.edges) == pytest.approx(inside)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["samples (2,000)", "test (500)"]
    assert axes.get_xlabel() == "height"
    assert draws(figure)
    figure = line_density(GRID, -(GRID**2) / 2, values, values[:100], title="normal")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), np.exp(-(GRID**2) / 2))
    assert draws(figure)


# ---- over time


def test_field_of_scores() -> None:
    x, y = np.linspace(-2, 2, 50), np.linspace(-1, 1, 30)
    field = np.stack(np.broadcast_arrays(-x, 3 - y[:, None]), -1)
    figure = score_field(x, y, field, title="a score")
    axes = figure.axes[0]
    (arrows,) = (found for found in axes.collections if type(found).__name__ == "Quiver")
    assert (len(np.unique(arrows.X)), len(np.unique(arrows.Y))) == (25, 15)
    direction = np.stack([-arrows.X, 3 - arrows.Y], -1)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], -1), direction, atol=1e-12)
    (contours,) = (found for found in axes.collections if type(found).__name__ == "QuadContourSet")
    assert contours.zmax == pytest.approx(np.hypot(2, 4))
    assert bar(figure) == "norm (nats per unit of length)"
    assert draws(figure)
    assert draws(score_field(x, y, 0 * field))


def test_trajectories() -> None:
    walk = RNG.normal(size=(20, 5, 2)).cumsum(0)
    figure = trajectories({"one": walk, "two": walk[:10], "three": walk}, reference=walk[-1], title="walks")
    assert headings(figure) == ["one", "two", "three"]
    axes = figure.axes[1]
    np.testing.assert_allclose(axes.lines[3].get_xydata(), walk[:10, 3])
    by_name = {found.get_label(): np.asarray(found.get_offsets()) for found in axes.collections}
    np.testing.assert_allclose(by_name["start"], walk[0])
    np.testing.assert_allclose(by_name["end"], walk[9])
    np.testing.assert_allclose(by_name["test (5)"], walk[-1])
    assert {axes.get_xlim() for axes in figure.axes} == {figure.axes[0].get_xlim()}
    assert draws(figure)


def test_snapshots() -> None:
    points = RNG.normal(size=(6, 40, 2))
    figure = snapshots(points, times=np.linspace(0, 1, 6))
    assert headings(figure) == ["t = 0", "t = 0.2", "t = 0.4", "t = 0.6", "t = 0.8", "t = 1"]
    np.testing.assert_allclose(dots(figure.axes[4]), points[4])
    assert draws(figure)


def test_latents() -> None:
    values = {"prior": RNG.normal(size=300), "atom": np.zeros(7), "none": []}
    figure = latent_histograms(values)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["prior (300)", "atom (7)", "none (0)"]
    (curve,) = axes.lines
    x, y = curve.get_data()
    np.testing.assert_allclose(y, gaussian_kde(values["prior"])(x))
    assert draws(figure)


def test_laws_in_the_plane() -> None:
    points = RNG.normal(size=(200, 2)) * [2.0, 0.5]
    figure = plane_laws({"data": points, "far": points + 1.0, "atom": np.zeros((5, 2))}, title="laws")
    assert [axes.get_title() for axes in figure.axes[:3]] == ["data (200)", "far (200)", "atom (5)"]
    assert figure.axes[3].get_ylabel() == "density per unit\nof area"
    first, second, third = (axes.images[0] for axes in figure.axes[:3])
    left, right, bottom, top = first.get_extent()
    assert left < points[:, 0].mean() < right
    assert second.get_extent() == [left, right, bottom, top]
    picture = np.asarray(first.get_array())
    np.testing.assert_allclose(picture[0, -1], gaussian_kde(points.T)([right, bottom])[0])
    assert np.asarray(third.get_array()).max() == 0
    assert {image.get_clim() for image in (first, second, third)} == {first.get_clim()}
    assert draws(figure)


def test_grid_of_images() -> None:
    images = RNG.random((5, 4, 6))
    (picture,) = image_grid(images, columns=3, title="images").axes[0].images
    mosaic = np.asarray(picture.get_array())
    assert mosaic.shape == (9, 20, 3)
    np.testing.assert_allclose(mosaic[5:, 7:13], np.broadcast_to(images[4][..., None], (4, 6, 3)))
    assert (mosaic[5:, 14:] == 1).all()  # no sixth image
    assert (mosaic[4] == 1).all()
    colours = RNG.random((2, 3, 4, 6)) * 2 - 1
    mosaic = np.asarray(image_grid(colours, vmin=-1).axes[0].images[0].get_array())
    np.testing.assert_allclose(mosaic[:, 7:], (colours[1].transpose(1, 2, 0) + 1) / 2)
    assert draws(image_grid(colours, title="colours"))


def test_a_narrow_peak_does_not_swing_beyond_all_values() -> None:
    """A few near values 12 nats above the rest: the picture has no more than they have, and half a nat."""
    axis = np.linspace(-1, 1, 15)
    coarse = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    near = np.random.default_rng(0).normal(0.03, 1e-3, (40, 2))
    places, values = np.vstack([coarse, near]), np.append(np.full(len(coarse), -2.0), np.full(len(near), 10.0))
    found = scattered(places, values, np.random.default_rng(1).uniform(-0.9, 0.9, (2000, 2)))
    assert found.max() <= 10.5
    assert found.min() >= -2.5


@pytest.mark.parametrize("manifold", [Sphere(2), Torus(2), Euclidean(2)], ids=lambda m: type(m).__name__)
def test_contours_lie_at_their_levels(manifold: Manifold) -> None:
    """Of a smooth bump across a seam: at every vertex the density is the level, and the legend has the names."""
    centre = {
        "Sphere": torch.tensor([-0.9, 0.1, 0.4]),
        "Torus": torch.tensor([[-1.0, 0.02], [0.5, 0.8]]),
        "Euclidean": torch.zeros(2),
    }[type(manifold).__name__]
    centre = manifold.projx(centre.double())

    def log_density(x: torch.Tensor) -> torch.Tensor:
        return -2 * (x.double() - centre).square().flatten(1).sum(1)

    base = centre.expand(200, *manifold.shape)
    points = manifold.expmap(base, 0.6 * manifold.random_tangent(base, torch.Generator().manual_seed(0)))
    caption = Caption("Contours", levels=(("50 %", -0.5), ("90 %", -1.5)))
    figure = draw_density(manifold, log_density, points, points, caption)
    axes = figure.axes[0]
    found = [contour for contour in axes.collections if hasattr(contour, "levels")]
    assert [float(contour.levels[0]) for contour in found] == [-1.5, -0.5]
    for contour in found:
        vertices = np.concatenate([path.vertices for path in contour.get_paths()])
        if manifold.shape == (3,):
            x = from_lat_lon(Mollweide().inverse(vertices)[:, ::-1], "radians")
        else:
            x = manifold.from_angles(torch.from_numpy(np.radians(vertices))) if manifold.shape == (2, 2) else vertices
        assert np.abs(log_density(torch.as_tensor(x)).numpy() - contour.levels[0]).max() < 0.05
    assert {"50 %", "90 %"} <= {text.get_text() for text in axes.get_legend().get_texts()}


# ---- in somebody's paper


def model_on(manifold: Manifold) -> KernelDensity:
    base = manifold.origin(300, *manifold.shape, dtype=torch.float64)
    points = manifold.expmap(base, 0.5 * manifold.random_tangent(base, torch.Generator().manual_seed(0)))
    model = KernelDensity(manifold, min_width=0.2, max_width=0.5)
    model.fit_points(points[:200], points[200:])
    return model


@pytest.mark.parametrize("manifold", [Sphere(2), Torus(2), Euclidean(2), Hyperbolic(2), Euclidean(1)], ids=str)
def test_a_model_draws_in_axes_that_are_given(manifold: Manifold) -> None:
    """And gives them back; beside others, on a figure of pyplot's kind, without a layout of ours."""
    figure = Figure(figsize=(6.8, 3.0))
    left, right = figure.subplots(1, 2)
    assert density(model_on(manifold), draws=400, ax=left) is left
    assert left.lines or left.images
    assert not right.images
    assert draws(figure)
    # in a part of a figure, and alone
    part = figure.subfigures(1, 1)
    assert density(model_on(manifold), draws=400, ax=part).figure is part
    assert density(model_on(manifold), draws=400).figure.get_size_inches()[0] == plots.COLUMN


@pytest.mark.parametrize("manifold", [Sphere(1), Torus(1)], ids=str)
def test_a_circle_is_drawn_in_polar_axes(manifold: Manifold) -> None:
    axes = Figure().add_subplot(projection="polar")
    assert density(model_on(manifold), draws=400, ax=axes) is axes


def test_contours_of_a_model_hold_their_shares() -> None:
    """Of fresh draws, to four standard errors of both; of a coverage that too few draws tell the number is named."""
    model = model_on(Torus(2))
    axes = density(model, coverages=(0.5, 0.98), draws=2000)
    levels = [float(found.levels[0]) for found in axes.collections if hasattr(found, "levels")]
    fresh = model.log_prob(model.sample(4000, seed=7).double())
    for level, share in zip(levels, (0.98, 0.5), strict=True):
        error = np.sqrt(share * (1 - share) * (1 / 2000 + 1 / 4000))
        assert float((fresh >= level).double().mean()) == pytest.approx(share, abs=4 * error)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["98 %", "50 %"]
    with pytest.raises(ValueError, match=r"coverage 0\.9995: of 500 draws fewer than one .* expected 2,000 draws"):
        density_levels(torch.zeros(500), [0.9995])
    assert density_levels(torch.zeros(2000), [0.9995]) == (("99.95 %", 0.0),)


PROJECTIONS = [Mollweide(), Mollweide(150.0), Orthographic(), Orthographic(-40.0, 120.0), Orthographic(90.0)]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_projections_are_inverse_to_themselves(projection: Projection) -> None:
    places = np.stack([RNG.uniform(-np.pi, np.pi, 4000), np.arcsin(RNG.uniform(-1, 1, 4000))], -1)
    points = projection.forward(places)
    seen = np.isfinite(points).all(1)
    assert seen.mean() == pytest.approx(projection.width / 2, abs=0.03)
    back = projection.inverse(points[seen])
    rounding = 1e-3 if projection.width > 1 else 1e-6
    assert (
        np.abs(from_lat_lon(back[:, ::-1], "radians") - from_lat_lon(places[seen][:, ::-1], "radians")).max() < rounding
    )
    assert np.hypot(points[seen, 0] / projection.width, points[seen, 1]).max() <= 1 + 1e-9
    # areas: of Mollweide all alike, of the other as seen from far away
    if projection.width > 1:
        shares = np.histogram2d(*points.T, bins=(4, 2), range=((-1, 1), (-0.5, 0.5)))[0] / 4000
        assert np.abs(shares - 0.25 / (2 * np.pi)).max() < 4 * np.sqrt(0.04 / 4000)


def test_another_side_of_the_globe() -> None:
    """The picture has the density of its places, coasts end at the rim, and points behind it are not drawn."""
    side = Orthographic(20.0, 150.0)
    behind = np.array([[-20.0, -30.0], [10.0, 170.0]])
    axes = plots.density_map(CENTRES, NODES, bump(NODES, CENTRES), test=behind, projection=side, vmin=-40, vmax=0)
    picture, extent = np.asarray(axes.images[0].get_array()), axes.images[0].get_extent()
    assert picture.shape == (720, 720)
    assert tuple(extent) == (-1, 1, -1, 1)
    x, y = side.axes()
    inside = np.hypot(x, y[:, None]) < 0.99
    places = side.inverse(np.stack(np.meshgrid(x, y), -1)[inside])
    centre = from_lat_lon([[10.0, 180.0]]).numpy()
    exact = 20 * (from_lat_lon(places[:, ::-1], "radians").numpy() @ centre[0] - 1)
    assert np.abs(picture[inside] - exact).max() < 0.15
    assert np.isfinite(dots(axes)).all(1).tolist() == [False, True]
    coast = max(axes.lines, key=lambda line: len(line.get_xdata()))
    assert 0.2 < np.isfinite(coast.get_xdata()).mean() < 0.7
    assert draws(axes.figure)


def test_long_titles_have_several_lines() -> None:
    title = "A title that is longer than the column of a journal in which the picture shall be printed, as most are"
    for figure in (density_map(CENTRES, NODES, bump(NODES, CENTRES), title=title), sample_map(POINTS, title=title)):
        figure.canvas.draw()
        (words,) = (text for text in figure.findobj() if getattr(text, "get_text", str)().replace("\n", " ") == title)
        box = words.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


# ---- rotations as a whole


def test_poles_and_tilts_are_a_rotation() -> None:
    rotations = Rotation.random(500, random_state=0)
    places, tilt = poles_and_tilts(rotations.as_matrix())
    pole = from_lat_lon(places[:, ::-1], "radians").numpy()
    axis = np.cross([0.0, 0.0, 1.0], pole)
    swing = axis / np.linalg.norm(axis, axis=1)[:, None] * np.arccos(pole[:, 2])[:, None]
    again = Rotation.from_rotvec(swing) * Rotation.from_euler("z", tilt[:, None])
    assert (again.inv() * rotations).magnitude().max() < 1e-6
    # a turn about the axis itself, and the pole that has no shortest way
    poles, tilts = poles_and_tilts(Rotation.from_euler("z", [[0.7], [-3.0]]).as_matrix())
    np.testing.assert_allclose(poles[:, 1], np.pi / 2)
    np.testing.assert_allclose(tilts, [0.7, -3.0])
    assert np.isfinite(poles_and_tilts(Rotation.from_euler("x", [[np.pi]]).as_matrix())[1]).all()


def test_joint_structure_of_rotations_is_seen() -> None:
    """Of two laws with the same three marginals: on the map the colours of one follow the places."""
    turns = RNG.uniform(-np.pi, np.pi, 800)
    tied = Rotation.from_euler("ZYZ", np.stack([turns, np.full(800, 1.2), 0 * turns], -1)).as_matrix()
    free = Rotation.from_euler("ZYZ", np.stack([turns, np.full(800, 1.2), RNG.permutation(turns)], -1)).as_matrix()
    spreads = []
    for rotations in (tied, free):
        axes = plots.pole_map(rotations)
        (drawn,) = axes.collections
        places, colours = Mollweide().inverse(np.asarray(drawn.get_offsets())), np.radians(drawn.get_array())
        spreads.append(abs(np.exp(1j * (colours - places[:, 0])).mean()))
    assert spreads[0] > 0.999
    assert spreads[1] < 0.1


# ---- calibration and curves


def test_ranks_of_a_right_density_are_uniform() -> None:
    values, own = -(RNG.normal(size=4000) ** 2), -(RNG.normal(size=2000) ** 2)
    ranks = density_ranks(torch.as_tensor(values), torch.as_tensor(own))
    assert ranks.mean() == pytest.approx(0.5, abs=0.03)
    figure = calibration(values, own, title="right")
    histogram, coverage = figure.axes
    assert headings(figure) == ["Ranks", "Regions of highest density"]
    (cells,) = (patch.get_data() for patch in histogram.patches if type(patch).__name__ == "StepPatch")
    assert cells.values @ np.diff(cells.edges) == pytest.approx(1)
    assert "95 % of chance, 1,333 observations" in [text.get_text() for text in coverage.get_legend().get_texts()]
    assert outside(coverage) < 0.1
    # points of a wider law lie outside of regions more often
    wide = calibration(4 * values, own).axes[1]
    assert outside(wide) > 0.8
    share, held = wide.lines[1].get_data()
    assert held[100] < 0.4 < share[100]
    assert draws(figure)
    # what they are worth where rows repeat places
    few_places = calibration(values, own, places=50).axes[1]
    assert "95 % of chance, 49 observations" in [text.get_text() for text in few_places.get_legend().get_texts()]


def outside(axes) -> float:
    """The share of the shares whose coverage is not what chance leaves."""
    (band,) = axes.collections
    share, held = axes.lines[1].get_data()
    outline = band.get_paths()[0].vertices
    low = [outline[np.isclose(outline[:, 0], x), 1].min() for x in share]
    high = [outline[np.isclose(outline[:, 0], x), 1].max() for x in share]
    return float(np.mean((held < low) | (held > high)))


def test_curves_of_a_training() -> None:
    steps = np.arange(1000)
    values = 1 / (1 + steps) + 0.01 * RNG.normal(size=1000)
    figure = training_curves({"train/loss": (steps, values), "val/nll": ([500, 999], [0.5, np.nan])}, "a run")
    left, right = figure.axes
    pale, mean = left.lines
    np.testing.assert_allclose(pale.get_ydata(), values)
    assert mean.get_ydata()[-1] == pytest.approx(values[-20:].mean())
    assert mean.get_xdata()[-1] == pytest.approx(steps[-20:].mean())
    assert right.lines[0].get_xydata().tolist() == [[500, 0.5]]
    assert draws(figure)


def test_scores_over_time() -> None:
    x = np.linspace(-1, 1, 20)
    fields = RNG.normal(size=(3, 20, 20, 2))
    figure = score_fields(x, x, fields, [0.0, 0.5, 1.0], "scores")
    assert headings(figure) == ["t = 0", "t = 0.5", "t = 1"]
    assert draws(figure)
