"""The pictures of laws that are known, and what pictures say of their points: counts, names, titles, units."""

import re

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsgm import plots
from rsgm.data import (
    DigitsData,
    EarthData,
    LawData,
    ManifoldData,
)
from rsgm.distributions import (
    GaussianMixture,
    HyperbolicCross,
    ManifoldDistribution,
    Mixture,
    PolarVonMisesFisher,
    RandomWrappedNormalMixture,
    VonMisesFisher,
    WrappedNormal,
)
from rsgm.evaluation.figures import draw
from rsgm.manifolds import (
    Euclidean,
    Hyperbolic,
    Manifold,
    Product,
    SpecialOrthogonal,
    Sphere,
    Torus,
    from_lat_lon,
    to_lat_lon,
)
from rsgm.metrics import integral
from rsgm.models import KernelDensity

S2, T2 = Sphere(2), Torus(2)
ERROR = 0.03  # nats, the worst of a picture


def unit(*x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64) / np.linalg.norm(x)


def picture(law: ManifoldDistribution, manifold: Manifold, generator: torch.Generator) -> Figure:
    """The density as an evaluation draws it: from the nodes of its integral where the manifold is compact."""
    points = law.draw(1500, generator)
    known = None
    if manifold.unit_cube_extent:
        found = integral(law.log_prob, manifold, (points, law.log_prob(points)), max_nodes=12_000)
        known = found.nodes, found.log_density
    return plots.draw_density(manifold, law.log_prob, points, points[:100], known=known).figure


def shown(figure: Figure, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a picture shows and what it should show, in the range of its colours."""
    image = figure.axes[0].images[0]
    return tuple(np.clip(values, *image.get_clim()) for values in (np.asarray(image.get_array()), exact))


#: smooth laws where a chart of the sphere ends, or its seam is
SMOOTH = {
    "north": VonMisesFisher(S2, unit(0.1, 0, 1), 2.0),
    "south, a tenth of a radian": VonMisesFisher(S2, unit(0, 0, -1), 100.0),
    "seam": VonMisesFisher(S2, unit(-1, 0.02, 0.3), 15.0),
    "both poles": Mixture(VonMisesFisher(S2, torch.stack([unit(0, 0.1, 1), unit(0, 0, -1)]), 4.0)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_map_of_a_known_density(name, generator):
    """Every pixel, the poles and the seam among them, to 0.03 nats."""
    law = SMOOTH[name]
    figure = picture(law, S2, generator)
    rows, columns = figure.axes[0].images[0].get_array().shape
    theta = np.arcsin((np.arange(rows) + 0.5) / rows * 2 - 1)[:, None]
    turn = np.pi * ((np.arange(columns) + 0.5) / columns * 2 - 1) / np.cos(theta)
    inside = np.abs(turn) <= np.pi
    latitude = np.broadcast_to(np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi), turn.shape)
    exact = law.log_prob(from_lat_lon(np.degrees(np.stack([latitude[inside], turn[inside]], -1)))).numpy()
    image = figure.axes[0].images[0]
    found = np.clip(np.asarray(image.get_array())[inside], *image.get_clim())
    assert np.abs(found - np.clip(exact, *image.get_clim())).max() < ERROR


def test_nodes_alone_leave_no_wedge(generator):
    """Without the two poles: the outermost nodes are at 73 degrees."""
    law = VonMisesFisher(S2, unit(0.1, 0, 1), 2.0)
    found = integral(law.log_prob, S2, max_nodes=12_000)
    degrees = to_lat_lon(found.nodes).numpy()
    assert np.abs(degrees[:, 0]).max() < 74
    longitude, latitude, values = plots.interpolate(degrees, found.log_density)
    grid = np.stack(np.meshgrid(latitude, longitude, indexing="ij"), -1).reshape(-1, 2)
    exact = law.log_prob(from_lat_lon(grid)).numpy().reshape(values.shape)
    assert np.abs(values - exact).max() < ERROR
    # turned about the axis, the map is the turned map: there is no seam. Towards the poles, where nodes are few, it
    # differs by its error, for nodes that are equally near are joined one way or the other.
    east = np.stack([degrees[:, 0], (degrees[:, 1] + 90 + 180) % 360 - 180], -1)
    turned = plots.interpolate(east, found.log_density)[2]
    shift, here = round(90 / (longitude[1] - longitude[0])), np.abs(latitude) < 60
    assert np.abs(turned - np.roll(values, shift, 1))[here].max() < 0.01


def test_points_that_leave_a_part_out_are_refused():
    half = np.stack(np.meshgrid(np.arange(5, 90, 10), np.arange(0, 360, 10)), -1).reshape(-1, 2)
    with pytest.raises(ValueError, match=r"beyond the .* points at which the density is known; expected points all"):
        plots.interpolate(half, np.zeros(len(half)))
    with pytest.raises(ValueError, match="expected points all over the manifold"):
        plots.interpolate_angles(np.radians(half) / 3, np.zeros(len(half)))
    with pytest.raises(ValueError, match="expected points all over the manifold"):
        plots.interpolate(half[:2], np.zeros(2))
    with pytest.raises(ValueError, match=r"degrees: found the shape \(3, 3\)"):
        plots.interpolate(np.zeros((3, 3)), np.zeros(3))


def test_density_of_zero_on_the_sphere(generator):
    x = S2.random_uniform(4000, 3, generator=generator, dtype=torch.float64)
    grid = plots.interpolate(to_lat_lon(x).numpy(), np.where(x[:, 0] > 0, 1.0, -np.inf))
    assert set(np.unique(grid[2].round(9))) == {1.0, -np.inf}
    assert np.isposinf(grid[2]).sum() == np.isnan(grid[2]).sum() == 0
    # of a support of a single point, or of none
    spot = np.full(len(x), -np.inf)
    assert np.isneginf(plots.interpolate(to_lat_lon(x).numpy(), spot)[2]).all()
    spot[7] = 3.0
    assert set(np.unique(plots.interpolate(to_lat_lon(x).numpy(), spot)[2])) == {3.0, -np.inf}


@pytest.mark.parametrize(("angles", "scale"), [((3.1, -3.0), 0.1), ((3.1, 0.4), 0.5)])
def test_picture_of_a_known_density_on_the_torus(angles, scale, generator):
    """Across both seams, at a corner as well."""
    law = WrappedNormal(T2, T2.from_angles(torch.tensor(angles, dtype=torch.float64)), scale)
    figure = picture(law, T2, generator)
    n = len(figure.axes[0].images[0].get_array())
    turn = torch.from_numpy(((np.arange(n) + 0.5) / n * 2 - 1) * np.pi)
    places = T2.from_angles(torch.stack(torch.meshgrid(turn, turn, indexing="xy"), -1).reshape(-1, 2))
    found, exact = shown(figure, law.log_prob(places).numpy().reshape(n, n))
    assert np.abs(found - exact).max() < ERROR


def test_picture_of_a_known_density_in_the_hyperbolic_plane(generator):
    """Up to its rim."""
    law, plane = HyperbolicCross(), Hyperbolic(2)
    figure = picture(law, plane, generator)
    image = figure.axes[0].images[0]
    n, radius = len(image.get_array()), image.get_extent()[1]
    x = ((np.arange(n) + 0.5) / n * 2 - 1) * radius
    disk = np.stack(np.meshgrid(x, x), -1)
    inside = 0.999 * radius > np.hypot(*disk.T).T
    exact = np.zeros((n, n))
    exact[inside] = law.log_prob(plane.from_ball(torch.from_numpy(disk[inside]))).numpy()
    found, exact = shown(figure, exact)
    assert np.abs(found - exact)[inside].max() < ERROR


@pytest.mark.parametrize("manifold", [Sphere(1), Torus(1)])
def test_picture_of_a_known_density_on_the_circle(manifold, generator):
    centre = manifold.from_unit_cube(torch.tensor([0.99], dtype=torch.float64))
    law = WrappedNormal(manifold, centre, 0.3)
    (axes,) = picture(law, manifold, generator).axes
    turn, height = next(line for line in axes.lines if line.get_label() == "model").get_data()
    base = axes.lines[-1].get_ydata()[0]
    x = manifold.from_unit_cube(torch.from_numpy(turn / (2 * np.pi) + 0.5)[:, None] % 1)
    exact = law.log_prob(x).numpy()
    seen = exact > exact.max() - 5
    assert np.abs(np.log(np.maximum(height - base, 1e-9)) - exact)[seen].max() < ERROR


# ---- what is said


def texts(figure: Figure) -> list[str]:
    """All words of a figure."""
    found = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    return [artist.get_text() for artist in found if artist.get_text()]


def many(manifold: Manifold, n: int, generator: torch.Generator) -> torch.Tensor:
    origin = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    return manifold.expmap(origin, 0.3 * manifold.random_tangent(origin, generator))


DOTTED = [S2, T2, Torus(3), Hyperbolic(2), Euclidean(2), Euclidean(3)]


@pytest.mark.parametrize("manifold", DOTTED, ids=str)
def test_dots_are_counted(manifold, generator):
    samples, test = many(manifold, 3000, generator), many(manifold, 2001, generator)
    figure = plots.draw_samples(manifold, samples, test)
    words = " ".join(texts(figure))
    assert "samples, 2,000 of 3,000 shown" in words
    assert "test, 2,000 of 2,001 shown" in words
    sizes = [len(found.get_offsets()) for axes in figure.axes for found in axes.collections]
    assert set(sizes) == {2000}
    # of few all, and they are called what they are
    figure = plots.draw_samples(manifold, samples[:7], test[:5], plots.Caption(reference="validation"))
    assert "samples (7)" in " ".join(texts(figure))
    assert "validation (5)" in " ".join(texts(figure))


@pytest.mark.parametrize("manifold", [Sphere(1), Torus(1), SpecialOrthogonal(), Euclidean(1)], ids=str)
def test_histograms_hold_all_points(manifold, generator):
    figure = plots.draw_samples(manifold, many(manifold, 3000, generator), many(manifold, 2001, generator))
    assert {"samples (3,000)", "test (2,001)"} <= set(texts(figure))


#: of a density: the most dots of one kind, and the measure that it is with respect to
MEASURES = [
    (S2, 200, "log density per steradian (nats)"),
    (T2, 200, "log density per rad² (nats)"),
    (Hyperbolic(2), 200, "log density per hyperbolic unit of area (nats)"),
    (Euclidean(2), 200, "log density per unit of area (nats)"),
    (Euclidean(1), None, "density per unit of length"),
    (Torus(1), None, "0.5/rad"),
]


@pytest.mark.parametrize("manifold, most, unit", MEASURES, ids=lambda value: str(value))
def test_densities_have_units_and_counts(manifold, most, unit, generator):
    train, test = many(manifold, 4896, generator), many(manifold, 612, generator)

    def log_density(x):
        return -5 * (x - train[0]).flatten(1).square().sum(1)

    words = texts(plots.draw_density(manifold, log_density, train, test).figure)
    assert unit in words
    counted = ["train (4,896)", "test (612)"]
    if most is not None:
        counted = [f"train, {most:,} of 4,896 shown", "test (612)" if most > 612 else f"test, {most} of 612 shown"]
    assert set(counted) <= set(words)


def test_coasts_are_on_earth(generator):
    """Of two pictures of the same points one is of the Earth."""
    x = many(S2, 50, generator)
    for draws in (lambda caption: plots.draw_samples(S2, x, x, caption), lambda caption: density(x, caption)):
        here, there = draws(plots.Caption(earth=True)), draws(plots.Caption())
        coasts = [[len(line.get_xdata()) for line in figure.axes[0].lines].count(5251) for figure in (here, there)]
        assert coasts == [1, 0]
        assert {"60°N", "30°S", "120°W", "60°E", "0°"} <= set(texts(here))
        assert {"60°", "−30°", "−120°", "0°"} <= set(texts(there))
        assert not any(re.fullmatch(r"\d+°[NSEW]", word) for word in texts(there))
    # who knows is the data module
    data = LawData(train_size=40, val_size=10, test_size=30)
    for data.earth in (True, False):
        for figure in draw(fitted(data), data, None, {}, data.train.points[:40]).values():
            assert ("60°N" in texts(figure)) is data.earth
    assert EarthData.earth
    assert not ManifoldData.earth
    assert not LawData.earth


def density(x: torch.Tensor, caption: plots.Caption) -> Figure:
    return plots.draw_density(S2, lambda y: y[:, 0], x, x, caption).figure


def fitted(data: ManifoldData) -> KernelDensity:
    data.setup()
    model = KernelDensity(data.manifold, min_width=0.05, max_width=1.0)
    model.fit_points(data.train.points[:100], data.val.points[:30])
    return model


SETS = [
    LawData(train_size=40, val_size=10, test_size=30),
    LawData(PolarVonMisesFisher(dim=1), train_size=40, val_size=10, test_size=30),
    LawData(RandomWrappedNormalMixture(T2), train_size=40, val_size=10, test_size=30),
    LawData(RandomWrappedNormalMixture(SpecialOrthogonal()), train_size=40, val_size=10, test_size=30),
    LawData(RandomWrappedNormalMixture(Product([S2, T2])), train_size=40, val_size=10, test_size=30),
    LawData(RandomWrappedNormalMixture(Euclidean(1)), train_size=40, val_size=10, test_size=30),
    LawData(RandomWrappedNormalMixture(Euclidean(3)), train_size=40, val_size=10, test_size=30),
    LawData(HyperbolicCross(), train_size=40, val_size=10, test_size=30),
    LawData(GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], 0.5, None), train_size=40, val_size=10, test_size=30),
    DigitsData(),
]


@pytest.mark.parametrize("data", SETS, ids=lambda data: f"{type(data).__name__}-{data.manifold}")
def test_every_figure_of_an_evaluation_has_a_title(data):
    """Of what, by which model, on which data, after how many steps; and all of it is inside the figure."""
    model = fitted(data)
    figures = draw(model, data, None, {}, data.train.points[:40], steps=2500)
    assert "samples" in figures
    for name, figure in figures.items():
        title = f"{name.capitalize()}: KernelDensity on {data.provenance()['name']}, step 2,500"
        (words,) = (text for text in figure.findobj() if getattr(text, "get_text", str)().replace("\n", " ") == title)
        figure.canvas.draw()
        box = words.get_window_extent()
        width, height = figure.canvas.get_width_height()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    untold = draw(model, data, None, {}, data.train.points[:40])["samples"]
    words = {text.replace("\n", " ") for text in texts(untold)}
    assert f"Samples: KernelDensity on {data.provenance()['name']}" in words


# ---- products


def test_a_product_is_seen_factor_by_factor(generator):
    """The pictures of its factors, one above another, under their names; what has none is left out."""
    factors = [S2, Sphere(5), Torus(1), SpecialOrthogonal()]
    parts = [[many(factor, n, generator) for factor in factors] for n in (30, 20)]
    product = Product(factors)
    figure = plots.draw_samples(product, *map(product.join, parts), plots.Caption("three of four", columns=("a",) * 9))
    figure.canvas.draw()
    kept = [0, 2, 3]
    assert figure.get_suptitle() == "three of four"
    for part, k in zip(figure.subfigs, kept, strict=True):
        caption = plots.Caption(str(factors[k]))
        alone = plots.draw_samples(factors[k], parts[0][k], parts[1][k], caption)
        titles = [[axes.get_title() for axes in some.findobj(Axes)] for some in (part, alone)]
        assert titles[0] == titles[1]
        assert str(factors[k]) in texts(part)
        assert part.bbox.height == pytest.approx(alone.bbox.height, rel=0.1)
        dots, expected = (
            [found.get_offsets() for axes in some.findobj(Axes) for found in axes.collections] for some in (part, alone)
        )
        assert all((one == other).all() for one, other in zip(dots, expected, strict=True))
    assert plots.draw_samples(Product([Sphere(5)]), parts[0][1], parts[1][1]) is None
