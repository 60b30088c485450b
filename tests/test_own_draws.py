"""Tail probabilities and levels against laws for which they are known."""

import math

import pytest
import torch

from helpers import LawModel, law_data, seeded
from rsgm import Euclidean, Sphere
from rsgm.distributions import Normal, RandomVonMisesFisherMixture, Uniform, VonMisesFisher
from rsgm.evaluation import tail_probability
from rsgm.evaluation.own_draws import law_in_words, own_draws, require_context
from rsgm.likelihood import LogProb
from rsgm.metrics import density_level
from rsgm.models import GenerativeModel

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


def test_no_point_of_a_flat_density_is_an_outlier():
    """Of draws as likely as a point half count, here as in the figure of calibration."""
    model = LawModel(Uniform(Sphere(2)))
    assert tail_probability(model, model.log_prob(torch.eye(3)), 10).tolist() == [0.5] * 3


def test_tail_probability_at_the_ends_and_of_wrong_input():
    model = LawModel(FISHER)
    assert tail_probability(model, torch.tensor([-math.inf, 99.0]), 10).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="found 0 draws, expected at least one"):
        tail_probability(model, torch.zeros(2), 0)
    with pytest.raises(ValueError, match=r"found log-densities of shape \(2, 1\), expected \(n,\)"):
        tail_probability(model, torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"found a context of shape \(3, 4\), expected one of \(features,\) for all"):
        tail_probability(model, torch.zeros(2), context=torch.zeros(3, 4))


class Shifted(GenerativeModel):
    """A normal law in the plane around its context."""

    def __init__(self):
        super().__init__(Euclidean(2))

    def draw(self, n, context, generator):
        return context + torch.randn(n, 2, generator=generator)

    def likelihood(self, x, context=None):
        return LogProb(Normal(Euclidean(2)).log_prob((x - context).double()), 0.0)


def test_each_point_is_held_against_draws_of_its_context(monkeypatch):
    """Contexts in any order, and more than fit in one solve: to five standard errors, and of the type of the others."""
    monkeypatch.setattr("rsgm.evaluation.own_draws._AT_ONCE", 10_000)
    context = 20 * torch.tensor([[3.0, 0], [1, 1], [3, 0], [0, 2], [1, 1], [0, 2]])
    offset, draws = torch.randn(6, 2, generator=seeded(1)).double(), 4000
    model = Shifted()
    found = tail_probability(model, model.log_prob(context + offset, context), draws, context)
    expected = lower_normal(offset)
    assert found.dtype == expected.dtype
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt()).all()
    alone = tail_probability(model, model.log_prob(context[1] + offset, context[1]), draws, context[1])
    assert alone.dtype == expected.dtype
    assert (alone - expected).abs().max() < 0.05


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


def test_a_law_in_words():
    """With the context by its names."""
    labelled = law_data(RandomVonMisesFisherMixture(components=3), conditional=True)
    model = LawModel(FISHER)
    assert law_in_words(model, labelled, None) == "LawModel on LawData"
    assert law_in_words(model, labelled, torch.tensor([0.0, 1, 0])) == "LawModel on LawData, given component=1"
