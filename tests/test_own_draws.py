"""Tail probabilities and levels against laws for which they are known."""

import math

import pytest
import torch

from helpers import LawModel, law_data, seeded
from rsgm import Euclidean, Sphere
from rsgm.distributions import Normal, RandomVonMisesFisherMixture, VonMisesFisher
from rsgm.evaluation import tail_probability
from rsgm.evaluation.own_draws import density_level, own_draws, require_context

KAPPA = 4.0
FISHER = VonMisesFisher(Sphere(2), torch.tensor([0.0, 0.6, 0.8]), KAPPA)


def lower_fisher(x):
    """Less density than at x has what is farther from the mode: uniform in exp(kappa cos)."""
    cosine = x.double() @ FISHER.loc.double()
    return ((KAPPA * (cosine - 1)).exp() - math.exp(-2 * KAPPA)) / -math.expm1(-2 * KAPPA)


def lower_normal(x):
    """A chi-square of two degrees of freedom is exponential."""
    return (-x.double().square().sum(-1) / 2).exp()


@pytest.mark.parametrize("law, exact", [(FISHER, lower_fisher), (Normal(Euclidean(2)), lower_normal)])
def test_tail_probability_of_a_known_law(law, exact):
    """To five standard errors at each of 50 points, of which the same draws speak."""
    x, draws = law.draw(50, seeded(5)).double(), 20_000
    found, expected = tail_probability(LawModel(law), law.log_prob(x), draws, seed=3), exact(x)
    assert found.shape == (50,)
    assert expected.min() < 0.1
    assert expected.max() > 0.9
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt()).all()
    assert torch.equal(found, tail_probability(LawModel(law), law.log_prob(x), draws, seed=3))
    # points of less density are never in a smaller region
    assert bool((found[law.log_prob(x).argsort()].diff() >= 0).all())


def test_tail_probability_at_the_ends_and_of_wrong_input():
    model = LawModel(FISHER)
    assert tail_probability(model, torch.tensor([-math.inf, 99.0]), 10).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="found 0 draws, expected at least one"):
        tail_probability(model, torch.zeros(2), 0)
    with pytest.raises(ValueError, match=r"found log-densities of shape \(2, 1\), expected \(n,\)"):
        tail_probability(model, torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"found a context of shape \(2, 3\), expected one of \(features,\)"):
        tail_probability(model, torch.zeros(2), context=torch.zeros(2, 3))


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.98])
def test_levels_are_quantiles(coverage):
    """Of the normal law in the plane: the disk of the squared radius -2 log(1 - a)."""
    law, n = Normal(Euclidean(2)), 50_000
    level, error = density_level(own_draws(LawModel(law), n).log_density, coverage)
    assert error == pytest.approx(math.sqrt(coverage * (1 - coverage) / n))
    held = 1 - math.exp(level + math.log(2 * math.pi))
    assert abs(held - coverage) < 5 * error


@pytest.mark.parametrize("coverage", [0.0, 1.0, 50.0])
def test_a_coverage_is_a_share(coverage):
    with pytest.raises(ValueError, match="a share between 0 and 1, found"):
        density_level(torch.zeros(3), coverage)


def test_contexts():
    plain = law_data(FISHER)
    require_context(plain, None)
    with pytest.raises(ValueError, match="not conditional; leave the context"):
        require_context(plain, torch.zeros(2))
    labelled = law_data(RandomVonMisesFisherMixture(components=3), conditional=True)
    require_context(labelled, torch.zeros(3))
    for context in (None, torch.zeros(2), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match=r"conditional: found .*, expected one of 3 numbers for all places"):
            require_context(labelled, context)
