"""Metrics of samples on manifolds: closed forms, what one law is worth, and the floors."""

import math

import numpy as np
import pytest
import torch

from helpers import points, seeded
from rsgm import Euclidean, Hyperbolic, LawData, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.distributions import RandomVonMisesFisherMixture
from rsgm.metrics import compare_points
from rsgm.metrics.geodesic import (
    METRICS,
    Distances,
    coverage,
    distances,
    mmd,
    nearest_neighbour_accuracy,
    squared_mmd,
    wasserstein,
    within,
)
from rsgm.seeding import generator_from

MANIFOLDS = [
    Sphere(2),
    Torus(2),
    SpecialOrthogonal(),
    Hyperbolic(2),
    Product([Sphere(2), Torus(1), Euclidean(1)]),
    Euclidean(3),
]
on_each = pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)


def circle(*angles):
    return Torus(1).from_angles(torch.tensor(angles, dtype=torch.float64)[:, None])


def pair(x, y, manifold=None):
    """By default on the circle."""
    return Distances.of(manifold or Torus(1), x, y)


def bump(manifold, n, name, width=0.5, shift=0.0):
    """Draws of a law around the origin, or around a place so far from it."""
    centre = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    u = manifold.frame(centre)[0]
    centre = manifold.expmap(centre, shift * u)
    width = torch.full((n,), width, dtype=torch.float64)
    return manifold.projx(manifold.bump_sample(centre, width, generator_from(name)))


# ---- closed forms


def test_two_points_on_a_circle_by_hand():
    d = pair(circle(0.0, 1.0), circle(math.pi, -0.5))
    assert d.between.tolist() == [pytest.approx([math.pi, 0.5]), pytest.approx([math.pi - 1, 1.5])]
    far = (math.pi, 0.5, math.pi - 1, 1.5)

    def k(*lengths):
        return sum(math.exp(-(r**2)) for r in lengths)

    # the angle between the two of the reference is pi - .5, and not pi + .5
    expected = (2 + 2 * k(1)) / 4 + (2 + 2 * k(math.pi - 0.5)) / 4 - 2 * k(*far) / 4
    assert mmd(d) == pytest.approx(math.sqrt(expected))

    def laplace(*lengths):
        unit = math.pi - 0.5
        return sum(math.exp(-r / (c * unit)) for r in lengths for c in (2, 1, 1 / 2, 1 / 4, 1 / 8)) / 5

    expected = laplace(1) + laplace(math.pi - 0.5) - 2 * laplace(*far) / 4
    assert squared_mmd(d) == pytest.approx(expected)
    # the neighbours: 0 has -.5, 1 has 0, pi has 1, -.5 has 0
    assert nearest_neighbour_accuracy(d) == 0.25
    # the radius of both is pi - .5: within it are 1 of the first, 0 and 1 of the second
    assert coverage(d) == 1
    assert coverage(pair(circle(0.0, 0.1), circle(math.pi, math.pi - 0.5))) == 0
    assert wasserstein(d) == pytest.approx(math.sqrt((0.5**2 + (math.pi - 1) ** 2) / 2))


@on_each
def test_distances_are_those_of_pairs_in_any_chunks(manifold, monkeypatch):
    monkeypatch.setattr("rsgm.metrics.geodesic._CHUNK", 100)
    x, y = points(manifold, 23), points(manifold, 31, seed=1)
    expected = manifold.dist(x[:, None], y[None])
    torch.testing.assert_close(distances(manifold, x, y), expected)
    torch.testing.assert_close(within(manifold, y), distances(manifold, y, y), atol=1e-7, rtol=0)
    assert within(manifold, y).diagonal().eq(0).all()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_order_does_not_matter(metric):
    manifold = Sphere(2)
    x, y = points(manifold, 40), points(manifold, 40, seed=1)
    rows = torch.randperm(40, generator=seeded(2))
    assert metric(pair(x[rows], y.flip(0), manifold)) == pytest.approx(metric(pair(x, y, manifold)))
    # nor where the pole is
    rotation = SpecialOrthogonal().random_uniform(3, 3, generator=seeded(3), dtype=torch.float64)
    assert metric(pair(x @ rotation, y @ rotation, manifold)) == pytest.approx(metric(pair(x, y, manifold)))
    if metric is not coverage:
        assert metric(pair(y, x, manifold)) == pytest.approx(metric(pair(x, y, manifold)), rel=0.05)


@on_each
def test_samples_that_are_the_reference_points(manifold):
    x = points(manifold, 30)
    d = pair(x, x.flip(0), manifold)
    assert mmd(d) == pytest.approx(0, abs=1e-7)
    assert wasserstein(d) == pytest.approx(0, abs=1e-7)
    assert coverage(d) == 1
    # the nearest is always the copy
    assert nearest_neighbour_accuracy(d) == 0
    assert squared_mmd(d) < 0


def test_neighbours_of_one_place_count_by_their_shares():
    """Every point twice: one other of its own, two of the other set."""
    x = points(Sphere(2), 20).repeat(2, 1)
    assert nearest_neighbour_accuracy(pair(x, x, Sphere(2))) == pytest.approx(1 / 3)


@on_each
def test_laws_that_are_far_apart(manifold):
    x, y = bump(manifold, 50, "x", 0.05), bump(manifold, 50, "y", 0.05, 1.0)
    d = pair(x, y, manifold)
    assert nearest_neighbour_accuracy(d) == 1
    assert coverage(d) == 0
    # every point of the one is as far from every point of the other as the centres, up to the width
    assert wasserstein(d) == pytest.approx(1, abs=0.05)
    assert mmd(d) == pytest.approx(math.sqrt(2 * (1 - math.exp(-1))), abs=0.05)


@pytest.mark.parametrize("metric", [squared_mmd, nearest_neighbour_accuracy, coverage])
def test_units_do_not_matter(metric):
    """Not even where all distances are below 1e-9; where all are zero, all points are one place."""
    x, y = torch.randn(2, 60, 2, generator=seeded(), dtype=torch.float64)
    y[:, 0] += 6
    expected = metric(pair(x, y, Euclidean(2)))
    assert expected > 0.1 if metric is not coverage else expected < 0.1
    for unit in (1e-10, 1e-12, 1e6):
        assert metric(pair(unit * x, unit * y, Euclidean(2))) == pytest.approx(expected, abs=1e-9)
    assert math.isfinite(metric(pair(0 * x, 0 * y, Euclidean(2))))


@pytest.mark.parametrize("shift", [0.01, 0.3, -1.2])
def test_wasserstein_of_a_turned_circle(shift):
    """Of points all around, the shift of each to the next; of a cluster, the angle, also across pi."""
    even = torch.linspace(0, 2 * math.pi, 101, dtype=torch.float64)[:-1]
    step = 2 * math.pi / 100
    nearest = abs(shift - step * round(shift / step))
    assert wasserstein(pair(circle(*even), circle(*(even + shift)))) == pytest.approx(nearest, abs=1e-9)
    cluster = math.pi + 0.2 * torch.rand(60, generator=seeded(), dtype=torch.float64)
    assert wasserstein(pair(circle(*cluster), circle(*(cluster.flip(0) + shift)))) == pytest.approx(abs(shift))


def test_wasserstein_on_a_line_pairs_sorted_points():
    x, y = bump(Euclidean(1), 200, "x"), bump(Euclidean(1), 200, "y", 1.0)
    expected = np.sqrt(np.mean((np.sort(x.numpy(), 0) - np.sort(y.numpy(), 0)) ** 2))
    assert wasserstein(pair(x, y, Euclidean(1))) == pytest.approx(expected)
    with pytest.raises(ValueError, match="expected equally many points, found 199 and 200"):
        wasserstein(pair(x[1:], y, Euclidean(1)))


# ---- what two sets of draws of one law are worth in the mean

N, DRAWS = 30, 100


def drawn(metric, manifold):
    sets = [bump(manifold, N, f"{manifold}{k}") for k in range(2 * DRAWS)]
    return torch.tensor(
        [metric(pair(x, y, manifold)) for x, y in zip(sets[::2], sets[1::2], strict=True)], dtype=torch.float64
    )


def close(values, expected):
    return abs(values.mean() - expected) < 5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("manifold", [Sphere(2), SpecialOrthogonal(), Hyperbolic(2)], ids=str)
def test_squared_mmd_is_unbiased(manifold):
    values = drawn(squared_mmd, manifold)
    assert close(values, 0)
    assert (values < 0).any()
    other = squared_mmd(pair(bump(manifold, N, "x"), bump(manifold, N, "y", shift=1.0), manifold))
    assert other > values.mean() + 5 * values.std()
    with pytest.raises(ValueError, match="At least two points of each law are needed, found 1 and 30"):
        squared_mmd(pair(bump(manifold, 1, "x"), bump(manifold, N, "y"), manifold))


def test_mmd_has_the_floor_that_its_docstring_says():
    manifold = Torus(1)
    x = bump(manifold, 1000, "x")
    kernel = (-within(manifold, x).square()).exp()
    mean = (kernel.sum() - 1000) / (1000 * 999)
    squares = drawn(mmd, manifold).square()
    assert close(squares, float(2 * (1 - mean) / N))


def test_nearest_neighbours_and_coverage_of_one_law():
    assert close(drawn(nearest_neighbour_accuracy, Sphere(2)), (N - 1) / (2 * N - 1))
    # not covered are points whose five nearest of all others are of the reference
    missed = math.prod((N - 1 - j) / (2 * N - 1 - j) for j in range(5))
    assert close(drawn(coverage, Sphere(2)), 1 - missed)


def test_a_mode_that_is_missing_is_not_covered():
    manifold = Sphere(2)
    near, far = bump(manifold, 100, "near", 0.1), bump(manifold, 100, "far", 0.1, 2.0)
    assert coverage(pair(bump(manifold, 200, "samples", 0.1), torch.cat([near, far]), manifold)) == pytest.approx(
        0.5, abs=0.03
    )


def test_squared_mmd_tells_antipodal_laws():
    """At both poles, or around the equator: which the mean geodesic distances do not tell."""
    z = torch.where(torch.rand(300, generator=seeded()) < 0.5, 1.0, -1.0).double()
    poles = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z], 1)
    angle = 2 * math.pi * torch.rand(300, generator=seeded(1), dtype=torch.float64)
    equator = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 1)
    assert squared_mmd(pair(poles, equator, Sphere(2))) > 0.1


# ---- samples, test points and fresh data


def law(manifold, width=0.5, shift=0.0):
    return lambda n, generator: bump(manifold, n, f"{generator.initial_seed()}", width, shift)


@on_each
def test_true_samples_are_at_the_floor_and_others_are_not(manifold):
    n = 100
    test, fresh = bump(manifold, n, "test"), law(manifold)
    others = {"too wide": bump(manifold, 4 * n, "wide", 1.0)}
    found = compare_points(manifold, bump(manifold, 4 * n, "samples").float(), test, fresh, others)
    assert (found["n"], found["sets"]) == (n, {"samples": 4, "fresh": 10})
    for name in METRICS:
        row = found[name]
        assert abs(row["value"] - row["floor"]) < 4 * row["floor_sd"] * (1 / 4 + 1 / 10) ** 0.5, name
        assert row["floor_sd"] > 0
        # too wide a law has a larger distance, and a smaller coverage
        sign = -1 if name == "coverage" else 1
        assert sign * (row["too wide"] - row["floor"]) > 2 * row["floor_sd"], name
    assert abs(found["squared_mmd"]["floor"]) < found["squared_mmd"]["too wide"] / 3
    assert compare_points(manifold, bump(manifold, 4 * n, "samples").float(), test, fresh, others) == found


def test_sizes_of_the_sets():
    """As many as there are of the fewest, and sets until all have been seen or there are enough."""
    x = points(Sphere(2), 5000)

    def rows(n, generator):
        return x[:25][torch.randperm(25, generator=generator)[:n]]

    def sizes(samples, test, fresh=None):
        found = compare_points(Sphere(2), x[:samples], x[:test], fresh or law(Sphere(2)))
        return found and (found["n"], *found["sets"].values())

    assert sizes(70, 30) == (30, 2, 10)
    assert sizes(70, 30, rows) == (25, 2, 10)
    assert sizes(10, 30) == (10, 1, 10)
    assert sizes(1, 30) is None
    assert sizes(2, 30) == (2, 1, 10)


@pytest.mark.slow
def test_sizes_of_large_sets():
    x = points(Sphere(2), 5000)
    found = compare_points(Sphere(2), x[:2100], x, law(Sphere(2)), {"other": x[2500:]})
    assert (found["n"], found["sets"]) == (1000, {"samples": 2, "fresh": 4})


@pytest.mark.parametrize("bad", [torch.full((5, 3), torch.nan), torch.empty(0, 3)])
def test_points_that_are_none_have_no_distances(bad):
    """NaN once was as near as points can be."""
    sphere = Sphere(2)
    points = sphere.random_uniform(10, 3)
    with pytest.raises(ValueError, match=r"samples: found (5 of 5 that are not finite|none), expected finite points"):
        Distances.of(sphere, bad, points)
    if len(bad):
        with pytest.raises(ValueError, match="samples: found 5 of 5 that are not finite"):
            compare_points(sphere, bad, points, lambda n, generator: points[:n])


def test_fresh_points_of_data():
    """Draws of a law that is known, and rows of train where there is nothing else."""
    data = LawData(RandomVonMisesFisherMixture(), conditional=True, train_size=20, val_size=5, test_size=40)
    data.setup()
    x = data.fresh_points(30, generator_from("a"))
    assert x.shape == (30, 3)
    assert torch.equal(x, data.law.draw(30, generator_from("a")))
    assert not torch.isin(x, torch.cat([data.train.points, data.test.points])).any()
    rows = super(LawData, data).fresh_points(15, generator_from("a"))
    assert len(rows.unique(dim=0)) == 15
    assert (rows[:, None] == data.train.points).all(-1).any(1).all()
    assert len(super(LawData, data).fresh_points(30, generator_from("a"))) == 20
