"""Summaries of numbers, and the integral of a density."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from rsgm.distributions import Uniform, VonMisesFisher
from rsgm.manifolds import Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.metrics import integral, sampled_integral, summary
from rsgm.seeding import generator_from

SPHERES = [1, 2, 3]


def around(dim: int, width: float, seed: int = 0) -> VonMisesFisher:
    """A law of that width around a direction that no node of a quadrature meets."""
    centre = torch.randn(dim + 1, dtype=torch.float64, generator=generator_from("centre", dim, seed))
    return VonMisesFisher(Sphere(dim), centre / centre.norm(), width**-2)


# ---- summary


def test_summary_of_known_numbers():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert summary(values) == {
        "mean": 4.0,
        "standard_error": pytest.approx(math.sqrt((9 + 4 + 1 + 36) / 3) / 2),
        "median": 2.0,
        "n": 4,
        "places": 4,
    }


@pytest.mark.parametrize("n", [2, 7])
def test_standard_error_over_distinct_places_is_the_usual_one(n):
    values = torch.randn(n, dtype=torch.float64, generator=generator_from("values"))
    usual = values.std().item() / math.sqrt(n)
    for places in (None, torch.arange(n), 90 - 3 * torch.arange(n)):
        assert summary(values, places)["standard_error"] == pytest.approx(usual, rel=1e-12)


def test_repeating_every_row_changes_no_standard_error():
    values, places = torch.randn(20, dtype=torch.float64, generator=generator_from("values")), torch.arange(20)
    once = summary(values, places)
    for times in (2, 9):
        again = summary(values.repeat(times), places.repeat(times))
        assert (again["n"], again["places"]) == (20 * times, 20)
        assert again["mean"] == pytest.approx(once["mean"], rel=1e-12)
        assert again["standard_error"] == pytest.approx(once["standard_error"], rel=1e-12)
    assert summary(values, torch.zeros(20))["standard_error"] is None


def test_standard_error_over_places_is_that_of_repeated_draws():
    """Against the spread of the means themselves, of places that occur between once and nine times."""
    generator = generator_from("simulation")
    means, squares, rows = [], [], []
    for _ in range(2_000):
        counts = torch.randint(1, 10, (100,), generator=generator)
        places = torch.arange(100).repeat_interleave(counts)
        values = torch.randn(100, dtype=torch.float64, generator=generator)[places]
        found = summary(values, places)
        means.append(found["mean"])
        squares.append(found["standard_error"] ** 2)
        rows.append(summary(values)["standard_error"] ** 2)
    spread = torch.tensor(means).var().item()
    # the variance of a variance of 2,000 draws is known to 3 %; rows that are counted as independent are far off
    assert sum(squares) / 2_000 == pytest.approx(spread, rel=0.12)
    assert sum(rows) / 2_000 < 0.3 * spread


def test_values_of_weight_zero_are_none():
    values, places = torch.tensor([1.0, 5.0, math.nan]), torch.tensor([0, 1, 2])
    assert summary(values, places, torch.tensor([1.0, 1.0, 0.0])) == summary(values[:2])
    assert summary(values, weights=torch.tensor([1.0, 0.0, 0.0]))["standard_error"] is None
    assert summary(values, weights=torch.zeros(3)) is None


def test_summary_of_one_and_of_none():
    assert summary(torch.tensor([2.5])) == {"mean": 2.5, "standard_error": None, "median": 2.5, "n": 1, "places": 1}
    assert summary(torch.empty(0)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_summary_of_what_is_not_finite_is_an_error_with_a_count(bad):
    with pytest.raises(ValueError, match="2 of 5 log-densities are not finite"):
        summary(torch.tensor([0.0, bad, 1.0, bad, 2.0]))


# ---- the integral


def seen(log_density, points):
    """Points and the log-density there."""
    return points, log_density(points)


@pytest.mark.parametrize("dim", SPHERES)
@pytest.mark.parametrize("width", [3.0, 1.0, 0.3])
def test_smooth_densities_integrate_to_one(dim, width):
    law = around(dim, width)
    found = integral(law.log_prob, Sphere(dim))
    assert found.value == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(found.log_density, law.log_prob(found.nodes))
    torch.testing.assert_close(found.nodes.norm(dim=-1), torch.ones(len(found.nodes), dtype=torch.float64))


@pytest.mark.parametrize("dim", SPHERES)
@pytest.mark.parametrize("width", [0.1, 0.03, 0.01])
@pytest.mark.parametrize("seed", range(3))
def test_sharp_densities_integrate_to_one_where_their_points_are_known(dim, width, seed):
    law = around(dim, width, seed)
    points = law.draw(50, generator_from("points", seed))
    assert integral(law.log_prob, Sphere(dim), seen(law.log_prob, points)).value == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("manifold", [Torus(1), Torus(2), Torus(3), SpecialOrthogonal()], ids=str)
@pytest.mark.parametrize("width", [1.0, 0.3, 0.1])
def test_bumps_on_tori_and_rotations_integrate_to_one(manifold: Manifold, width: float):
    generator = generator_from("bump", manifold.dim)
    centre = manifold.random_uniform(*manifold.shape, generator=generator, dtype=torch.float64)
    h = torch.tensor(width, dtype=torch.float64)
    points = manifold.bump_sample(centre.expand(20, *manifold.shape), h, generator)

    def bump(x):
        return manifold.bump_log_prob(x, centre, h)

    found = integral(bump, manifold, seen(bump, points))
    assert found.value == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dim", SPHERES)
def test_a_tighter_tolerance_brings_a_smaller_error(dim):
    law = around(dim, 0.1)
    points = seen(law.log_prob, law.draw(50, generator_from("points")))
    loose, tight = (integral(law.log_prob, Sphere(dim), points, tolerance=t) for t in (1e-2, 1e-6))
    assert abs(tight.value - 1) < 1e-5
    assert abs(tight.value - 1) < abs(loose.value - 1) / 10
    # what is said of the error is on the safe side, and not by far
    for found in (loose, tight):
        assert abs(found.value - 1) < found.standard_error < 0.1
    assert tight.standard_error < loose.standard_error / 3


@pytest.mark.parametrize("dim", SPHERES)
@pytest.mark.parametrize("share", [0.5, 0.9, 1.25])
def test_a_density_that_is_not_one_shows(dim, share):
    """What is missing, or too much, in every part of the density."""
    law = around(dim, 0.3)
    found = integral(lambda x: law.log_prob(x) + math.log(share), Sphere(dim))
    assert found.value == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("dim", SPHERES)
def test_a_hole_shows(dim):
    """The mass of a cap that a density lacks."""
    law, edge = around(dim, 0.5), 0.6
    # of a cap, by its parallels
    polar = np.linspace(0, edge, 10_001)
    density = np.exp(float(law.log_prob(law.loc)) + float(law.concentration) * (np.cos(polar) - 1))
    area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    cap = scipy.integrate.simpson(density * area * np.sin(polar) ** (dim - 1), x=polar)

    def without_cap(x):
        return torch.where((x @ law.loc) > math.cos(edge), -math.inf, law.log_prob(x))

    # a cell that the edge crosses is not smooth: the error is that of the smallest cells
    found = integral(without_cap, Sphere(dim), levels=6).value
    assert found == pytest.approx(1 - cap, abs=0.0095)
    assert found < 0.7


@pytest.mark.parametrize("dim, width", [(1, 1e-4), (2, 1e-3), (3, 2e-3)])
def test_narrow_peaks_are_found_through_hints(dim, width):
    """A peak in a background: invisible on the first cells, and found where the points say."""
    law, weight = around(dim, width), 0.75

    def mixture(x):
        uniform = torch.full((len(x),), math.log(1 - weight) - Sphere(dim).log_volume, dtype=torch.float64)
        return torch.logaddexp(law.log_prob(x) + math.log(weight), uniform)

    blind = integral(mixture, Sphere(dim))
    assert blind.value == pytest.approx(1 - weight, abs=0.01)
    hints = seen(mixture, law.draw(20, generator_from("hints")))
    found = integral(mixture, Sphere(dim), hints)
    assert found.value == pytest.approx(1, abs=5e-3)
    assert len(found.nodes) > len(blind.nodes)
    assert found.log_density.max() > mixture(law.loc[None]) - 1
    # hints that say nothing do no harm
    assert integral(mixture, Sphere(dim), seen(mixture, -hints[0])).value == pytest.approx(1 - weight, abs=0.01)


@pytest.mark.parametrize("dim, axis", [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_peaks_next_to_the_seam_and_the_poles_of_the_chart(dim, axis, sign):
    """Where the chart is singular."""
    law = VonMisesFisher(Sphere(dim), sign * torch.eye(dim + 1, dtype=torch.float64)[axis], 0.03**-2)
    assert integral(law.log_prob, Sphere(dim), seen(law.log_prob, law.loc[None])).value == pytest.approx(1, abs=0.01)


def test_uniform_is_exact_and_needs_no_refinement():
    for dim in SPHERES:
        found = integral(Uniform(Sphere(dim)).log_prob, Sphere(dim))
        assert found.value == pytest.approx(1, abs=1e-12)
        assert len(found.nodes) == len(integral(Uniform(Sphere(dim)).log_prob, Sphere(dim), levels=0).nodes)


def test_levels_bound_the_work():
    law = around(2, 1e-3)
    calls = []

    def counted(x):
        calls.append(len(x))
        return law.log_prob(x)

    hint = seen(law.log_prob, law.loc[None])
    integral(counted, Sphere(2), hint, levels=3)
    assert len(calls) == 1 + 4  # cells of twice the size for the error, and four levels


@pytest.mark.parametrize("most", [2000, 2500, 4000])
def test_nodes_bound_the_work(most):
    """Where they run short the largest indicators come first, and the error says what is missing."""
    law = around(2, 0.02)
    hint, calls = seen(law.log_prob, law.draw(200, generator_from("hints"))), []

    def counted(x):
        calls.append(len(x))
        return law.log_prob(x)

    free = integral(law.log_prob, Sphere(2), hint, tolerance=1e-7)
    assert len(free.nodes) > most
    found = integral(counted, Sphere(2), hint, tolerance=1e-7, max_nodes=most)
    assert most - 16 <= sum(calls) <= most
    assert abs(found.value - 1) < 0.05


def test_a_few_large_ratios_measure_nothing():
    """In many dimensions nearly all ratios are zero: both the mean and its standard error are tiny, and say nothing."""
    z = torch.randn(3000, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = -0.5 * z.square().sum(1) - 100 * math.log(2 * math.pi)
    # another scale, whose integral is one as well
    narrow = -0.5 * (z / 0.5).square().sum(1) - 100 * math.log(2 * math.pi * 0.25)
    found = sampled_integral(z, narrow, wide)
    assert found.value < 0.02
    assert found.standard_error < 0.02
    assert not found.measured


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_ratio_that_is_not_finite_has_no_integral(bad):
    zeros = torch.zeros(100)
    found = sampled_integral(zeros[:, None], zeros.index_fill(0, torch.tensor(0), bad), zeros, torch.ones(100, 2))
    assert not found.measured


def test_float32_densities_are_summed_in_float64():
    law = around(2, 0.3)
    found = integral(lambda x: law.log_prob(x).float(), Sphere(2))
    assert found.log_density.dtype == torch.float64
    assert found.value == pytest.approx(integral(law.log_prob, Sphere(2)).value, abs=1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("manifold", [Sphere(5), Torus(4), SpecialOrthogonal()], ids=str)
def test_sampled_integrals_are_the_mass(manifold, factor):
    """Of a bump, by draws of a wider one and of the uniform law; within 5 standard errors, below 3 % each."""
    generator, n = torch.Generator().manual_seed(0), 4000
    centre = manifold.origin(*manifold.shape, dtype=torch.float64)
    width, wider = torch.tensor([0.2, 0.3], dtype=torch.float64)
    near = manifold.bump_sample(centre.expand(n, *manifold.shape), wider, generator)
    anywhere = manifold.random_uniform(n, *manifold.shape, generator=generator, dtype=torch.float64)
    nodes = torch.cat([near, anywhere])
    log_uniform = torch.tensor(-manifold.log_volume, dtype=torch.float64)
    proposal = torch.logaddexp(manifold.bump_log_prob(nodes, centre, wider), log_uniform) - math.log(2)
    found = sampled_integral(nodes, manifold.bump_log_prob(nodes, centre, width) + math.log(factor), proposal)
    assert 0 < found.standard_error < 0.03
    assert abs(found.value - factor) < 5 * found.standard_error
    # parts of the proposal as control variates: less is left to chance, and nothing of a law that is one of them
    parts = torch.stack([manifold.bump_log_prob(nodes, centre, wider), log_uniform.expand(len(nodes))], 1)
    controls = (parts - proposal[:, None]).exp()
    with_controls = sampled_integral(nodes, found.log_density, proposal, controls)
    assert with_controls.standard_error < found.standard_error
    assert abs(with_controls.value - factor) < 5 * with_controls.standard_error
    assert sampled_integral(nodes, parts[:, 0], proposal, controls).value == pytest.approx(1, abs=1e-9)
