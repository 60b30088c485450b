"""Laws on flat space: every one against its own draws, and the toys against closed forms and quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from sklearn.datasets import make_moons, make_swiss_roll

from conftest import variants, within
from rsgm.description import build, describe
from rsgm.distributions import Checkerboard, EuclideanLaw, GaussianMixture, Moons, SmoothedLaw, SwissRoll
from rsgm.distributions.flat import lattice
from rsgm.seeding import generator_from

CLOSE = {"means": [[1.0, 1.0], [-1.0, -1.0]], "scale": 0.15, "weights": [0.7, 0.3]}
# where zeros of the density in the complex plane are near it, at a density that is not small
WORST = GaussianMixture([[-2.37], [2.63]], 1.0, None)
BLOBS = {"means": [[-2.0, 0.0], [2.0, 0.0]], "scale": 0.5, "weights": None}
NORMAL = math.log(2 * math.pi * math.e)

every_law = pytest.mark.parametrize("make", variants(EuclideanLaw))
every_smoothed_law = pytest.mark.parametrize("make", variants(SmoothedLaw))


def some(make, n=3):
    law = make()
    return law, law.draw(n, generator_from("some"))


# ---- every law


@every_law
def test_density_integrates_to_one(make):
    law, x = some(make, 2000)
    low, high = (x.amin(0) - 1).floor(), (x.amax(0) + 1).ceil()
    # the cells of the boards are not cut: their edges lie on this grid
    count = 120
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    axes = [a + (b - a) * middles for a, b in zip(low, high, strict=True)]
    nodes = torch.cartesian_prod(*axes).reshape(-1, law.manifold.dim)
    cell = ((high - low) / count).prod()
    assert (law.log_prob(nodes).exp().sum() * cell).item() == pytest.approx(1, abs=1e-4)


@every_law
def test_draws_have_the_density_and_the_entropy(make):
    law, x = some(make, 4_000)
    assert x.dtype == torch.float64
    assert within(-law.log_prob(x), law.entropy())
    assert law.entropy().dtype == torch.float64


@every_law
def test_draws_repeat_and_continue(make):
    law = make()
    generator = generator_from("a")
    one, two = law.draw(5, generator), law.draw(5, generator)
    assert torch.equal(one, law.draw(5, generator_from("a")))
    assert not torch.equal(one, two)
    assert law.sample((2, 3)).shape == (2, 3, law.manifold.dim)


@every_law
def test_shapes_and_precision(make):
    law, x = some(make, 6)
    assert law.log_prob(x[:1]).shape == (1,)
    assert law.log_prob(x[0]).shape == ()
    whole = law.log_prob(x)
    assert torch.equal(law.log_prob(x.reshape(2, 3, -1)), whole.reshape(2, 3))
    single = law.log_prob(x.float())
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, law.log_prob(x.float().double()))


@every_law
def test_description(make):
    law, x = some(make)
    assert torch.equal(build(describe(law), EuclideanLaw).log_prob(x), law.log_prob(x))


@every_law
def test_modes_have_the_weights(make):
    law, x = some(make, 4_000)
    if law.mode_weights is None:
        with pytest.raises(NotImplementedError, match="no separate modes"):
            law.modes(x)
        return
    assert law.mode_weights.sum().item() == pytest.approx(1, abs=1e-12)
    if make.keywords.get("scale") != [0.3, 0.5, 0.2]:  # whose components overlap
        share = torch.nn.functional.one_hot(law.modes(x), len(law.mode_weights)).double()
        assert within(share, law.mode_weights)


@every_smoothed_law
@pytest.mark.parametrize("alpha, std", [(1.0, 0.0), (0.3, 0.7), (torch.tensor([1.0, 0.5, 0.1]), torch.tensor(0.2))])
def test_score_is_the_gradient(make, alpha, std):
    law, x = some(make)
    x = (x + 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x, alpha, std).sum(), x)
    torch.testing.assert_close(law.score(x, alpha, std), gradient)
    assert law.score(x.float(), alpha, std).dtype == torch.float32
    assert law.score(x[0].detach()).shape == x[0].shape
    each = torch.func.vmap(law.score)(x)
    torch.testing.assert_close(each, law.score(x))


@every_smoothed_law
def test_noised_law_has_the_noised_draws(make):
    law, x = some(make, 4_000)
    alpha, std = 0.6, 0.4
    z = alpha * x + std * torch.randn(x.shape, generator=generator_from("noise"), dtype=x.dtype)
    # Stein's identity: the score has mean zero, and its product with the point minus the dimension
    score = law.score(z, alpha, std)
    assert within(score, 0.0)
    assert within((score * z).sum(1), -law.manifold.dim)


@pytest.mark.parametrize(("middle", "scale", "gap"), [(1e4, 1e-4, 3e-4), (5e6, 0.1, 0.3), (1e3, 1e-2, 1e5)])
def test_far_from_the_origin(middle, scale, gap):
    """And where centres are far from one another: against differences, and the law about the origin."""
    law = GaussianMixture([[middle, middle], [middle + gap, middle]], scale, None)
    x = law.draw(300, generator_from("far")).double().requires_grad_()
    expected = law.mixture.log_prob(x)
    torch.testing.assert_close(law.log_prob(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(law.score(x), torch.autograd.grad(expected.sum(), x)[0], rtol=1e-6, atol=1e-6 / scale)
    if gap < 1:
        near = GaussianMixture([[0.0, 0.0], [gap, 0.0]], scale, None)
        assert law.entropy().item() == pytest.approx(near.entropy().item(), abs=1e-5)


# ---- values


@pytest.mark.parametrize(
    "law, expected, tolerance",
    [
        (GaussianMixture(), NORMAL - 0.95 * math.log(0.95) - 0.05 * math.log(0.05), 1e-6),
        (GaussianMixture(weights=[0.8, 0.2]), NORMAL - 0.8 * math.log(0.8) - 0.2 * math.log(0.2), 1e-6),
        (GaussianMixture(**CLOSE), NORMAL + 2 * math.log(0.15) - 0.7 * math.log(0.7) - 0.3 * math.log(0.3), 1e-8),
        (GaussianMixture(**BLOBS), NORMAL + 2 * math.log(0.5) + math.log(2), 1e-3),
        (Checkerboard(), math.log(32), 1e-12),
        # measured, with three times the error that was stated
        (Moons(0.05), 0.287, 0.015),
        (Moons(0.1), 1.005, 0.015),
        (SwissRoll(0.05), 0.592, 0.018),
        (GaussianMixture(), 3.045, 0.039),
        (GaussianMixture(weights=[0.8, 0.2]), 3.344, 0.039),
        (GaussianMixture.ring(), 1.706, 0.033),
    ],
)
def test_entropy(law, expected, tolerance):
    assert law.entropy().item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_entropy_of_one_normal_law(dim):
    law = GaussianMixture([[0.3] * dim], 0.7, None)
    assert law.entropy().item() == pytest.approx(dim / 2 * NORMAL + dim * math.log(0.7), abs=1e-9)


def test_entropy_of_a_batch_of_equal_laws():
    expected = GaussianMixture().entropy()
    assert torch.equal(GaussianMixture().expand((2, 3)).entropy(), expected.expand(2, 3))


def test_entropy_needs_a_lattice():
    with pytest.raises(NotImplementedError, match="4 dimensions has too many points"):
        GaussianMixture([[0.0] * 4], 1.0, None).entropy()


@pytest.mark.parametrize(
    "law",
    [pytest.param(Moons(0.1), marks=pytest.mark.slow), GaussianMixture(**BLOBS), WORST],
    ids=["moons", "blobs", "worst"],
)
def test_lattice_of_the_entropy_is_fine_enough(law):
    step = law._scales.min().item() / 3
    log_density = law.log_prob(lattice(law._centres, step, 10 * law._scales.max().item()))
    finer = -(log_density.exp() * log_density).sum().item() * step**law.manifold.dim
    assert law.entropy().item() == pytest.approx(finer, abs=1e-5)


@pytest.mark.parametrize(
    "law, standard_deviations, normal_fit",
    [
        (Moons(0.05), (0.868, 0.497), 1.997),
        (Moons(0.1), (0.872, 0.505), 2.017),
        (SwissRoll(0.05), (0.666, 0.696), 2.069),
        (GaussianMixture(), (2.43, 2.43), 4.614),
        (GaussianMixture(weights=[0.8, 0.2]), (4.14, 4.14), 5.679),
        (GaussianMixture.ring(), (1.43, 1.43), 3.551),
    ],
)
def test_moments(law, standard_deviations, normal_fit):
    """The measured table, of the normal law with independent coordinates."""
    std = law.draw(40_000, generator_from("moments")).std(0)
    assert std.tolist() == pytest.approx(standard_deviations, rel=0.02)
    assert (NORMAL + std.log().sum()).item() == pytest.approx(normal_fit, abs=0.02)


@pytest.mark.parametrize("law", [Moons(0.05), SwissRoll(0.05), Moons(0.01)], ids=["moons", "roll", "sharp"])
def test_curves_against_adaptive_quadrature(law):
    points = torch.cat([law.draw(3, generator_from("points")), torch.tensor([[0.3, 0.4]])]).double()

    def density(u, x):
        square = (law.curves(torch.tensor([u], dtype=torch.float64))[:, 0] - x).square().sum(1)
        return (-square / (2 * law.noise**2)).exp().mean().item() / (2 * math.pi * law.noise**2)

    for x in points:
        pieces = itertools.pairwise(np.linspace(0, 1, 41))
        exact = sum(quad(density, a, b, (x,), epsabs=0, epsrel=1e-8)[0] for a, b in pieces)
        assert law.log_prob(x).item() == pytest.approx(math.log(exact), abs=1e-6)


def test_laws_are_those_of_scikit_learn():
    moons = torch.from_numpy(make_moons(1000, noise=0.05, random_state=0)[0])
    assert within(-Moons(0.05).log_prob(moons), Moons(0.05).entropy())
    roll = torch.from_numpy(make_swiss_roll(1000, noise=0.5, random_state=0)[0][:, [0, 2]] / 10)
    assert within(-SwissRoll(0.05).log_prob(roll), SwissRoll(0.05).entropy())


def test_checkerboard_is_dark_where_it_should_be():
    law = Checkerboard()
    x = torch.tensor([[-3.0, -3.0], [-3.0, -1.0], [1.0, 1.0], [3.0, 1.0], [4.1, 4.1], [-4.1, -4.1]])
    dark = torch.tensor([True, False, True, False, False, False])
    assert torch.equal(torch.isfinite(law.log_prob(x)), dark)
    assert torch.isfinite(law.log_prob(law.draw(10_000, generator_from("draws")))).all()


# ---- errors


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianMixture(weights=(1.0,) * 3), "weights one positive number each"),
        (lambda: GaussianMixture(weights=(1.0, 0.0)), "weights one positive number each"),
        (lambda: GaussianMixture(scale=-1.0), "scale one positive number each"),
        (lambda: GaussianMixture(means=[1.0, 2.0]), r"found means of shape \(2,\)"),
        (lambda: Moons(1e-4), "Moons: noise must be at least 0.00079, found 0.0001"),
        (lambda: Checkerboard(cells=3), "even number of cells, found 8.0 and 3"),
        (lambda: Checkerboard(side=0.0), "side > 0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
