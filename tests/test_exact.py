"""Samplers with the exact score of a mixture: what they do to its spread and its weights is theirs alone.

The signs and sizes of the errors are those of the methods; the tolerances are five standard errors.
"""

import math
from functools import partial

import pytest
import torch

from conftest import within
from helpers import seeded
from rsgm import Euclidean, Sphere
from rsgm.data import LawData
from rsgm.distributions import GaussianMixture, Moons
from rsgm.evaluation.figures import _draw_dynamics
from rsgm.likelihood import ODESolver
from rsgm.models import ExactScore
from rsgm.models.dynamics import Dynamics, dynamics_of
from rsgm.processes import Process, VarianceExploding, VariancePreserving
from rsgm.samplers import (
    AnnealedLangevin,
    BoxStart,
    GaussianBridge,
    GeodesicEulerMaruyama,
    Heun,
    LangevinDynamics,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
)
from rsgm.schedules import (
    DiscreteLinear,
    GeometricVariance,
    GridLadder,
    IndexGrid,
    LinearBeta,
    PowerTimeGrid,
    Schedule,
    UniformTimeGrid,
)

PLANE = Euclidean(2)
CLOSE = GaussianMixture([[1.0, 1.0], [-1.0, -1.0]], 0.15, [0.7, 0.3])
FAR = GaussianMixture()
SQUARES = PowerTimeGrid(2.0)


def preserving(schedule: Schedule, eps: float) -> partial[Process]:
    return partial(VariancePreserving, schedule=schedule, eps=eps)


def exploding(low: float, high: float) -> partial[Process]:
    return partial(VarianceExploding, schedule=GeometricVariance(low**2, high**2), eps=0.0)


SDE = preserving(LinearBeta(0.1, 20.0), 1e-4)


def chain(count: int, eta: float = 1.0, variance: str = "small", steps: int | None = None) -> ReverseDiffusion:
    """DDPM or DDIM in ``steps`` evaluations of a chain of ``count``."""
    return ReverseDiffusion((steps or count) - 1, GaussianBridge(eta, variance), IndexGrid(count))


def errors(process: partial[Process], sampler: Sampler, law: GaussianMixture = CLOSE, n: int = 4000):
    """Of each sample the surprise less the entropy, and whether it is of the minor mode less that mode's weight."""
    x = ExactScore(PLANE, law, process, sampler).sample(n, seed=0)
    surprise = -law.log_prob(x).clamp_min(-60) - law.entropy()
    return surprise, (law.modes(x) == 1).double() - law.mode_weights[1]


def is_right(found: tuple[torch.Tensor, torch.Tensor]) -> bool:
    """The acceptance: an energy gap of at most 0.1, the weight of the mode to 0.03."""
    return abs(float(found[0].mean())) <= 0.1 and abs(float(found[1].mean())) <= 0.03


@pytest.mark.parametrize("lmbd", [0.0, 0.5, 1.0])
def test_every_lambda_gives_the_same_law(lmbd):
    assert is_right(errors(SDE, ReverseDiffusion(300, GeodesicEulerMaruyama(lmbd), SQUARES)))


@pytest.mark.parametrize(
    "process, sampler",
    [
        pytest.param(SDE, ReverseDiffusion(10, Heun(), SQUARES), id="Heun in ten steps"),
        pytest.param(SDE, ReverseDiffusion(100, PredictorCorrector(GaussianBridge()), SQUARES), id="corrected"),
        pytest.param(
            preserving(DiscreteLinear(1000), 1e-3), chain(1000), id="DDPM in 1000 steps", marks=pytest.mark.slow
        ),
        pytest.param(exploding(0.01, 5.0), ReverseDiffusion(200, GaussianBridge(), UniformTimeGrid()), id="exploding"),
        pytest.param(
            exploding(0.03, 5.0), AnnealedLangevin(GridLadder(100)), id="annealed Langevin", marks=pytest.mark.slow
        ),
    ],
)
def test_samplers_at_the_floor(process, sampler):
    assert is_right(errors(process, sampler))


@pytest.mark.parametrize(
    "process, law",
    [
        pytest.param(VariancePreserving, CLOSE, id="preserving"),
        pytest.param(VariancePreserving, FAR, id="preserving, far"),
        pytest.param(preserving(LinearBeta(beta_1=6.0), 1e-3), CLOSE, id="preserving, 22 % of the amplitude"),
        pytest.param(VarianceExploding, CLOSE, id="exploding"),
        pytest.param(VarianceExploding, FAR, id="exploding, far"),
    ],
)
def test_the_default_draws_from_the_law_that_is_scored(process, law):
    """The energy and the shares of the modes, to four standard errors of 10,000 draws and .01 nats."""
    surprise, minor = errors(process, ReverseDiffusion(), law, 10_000)
    assert abs(float(surprise.mean())) < 0.01 + 4 * float(surprise.std()) / 10_000**0.5
    assert within(minor, 0.0, 4)


def test_a_short_chain_is_too_wide_or_too_narrow():
    """Of 100 steps: the large variance over-disperses, the small one and DDIM under-disperse."""
    process = preserving(DiscreteLinear(100), 0.01)
    large, small = (errors(process, chain(100, 1.0, variance))[0] for variance in ("large", "small"))
    implicit = errors(preserving(DiscreteLinear(1000), 1e-3), chain(1000, 0.0, steps=20))[0]
    assert not within(large, 0.0)
    assert 0.05 < large.mean() < 0.25
    assert -0.4 < small.mean() < -0.2
    assert -0.6 < implicit.mean() < -0.4


@pytest.mark.filterwarnings("ignore:DiscreteLinear.*does not reach the prior")
def test_a_chain_that_misses_the_prior_moves_the_weights():
    """β from 1e-4 to 0.02 in 100 steps, sampled from N(0, I): the minor mode has 0.39 instead of 0.3 (error 8)."""
    process = preserving(DiscreteLinear(100, 0.01, 2.0), 0.01)
    minor = errors(process, chain(100, 1.0, "large"))[1]
    assert within(minor, 0.391 - 0.3)
    assert not within(minor, 0.0)


@pytest.mark.parametrize("count, low, high", [(9, 0.15, 1.0), (24, 0.03, 0.25)])
def test_coarse_ladders_are_too_wide(count, low, high):
    """By more the fewer their levels are."""
    assert low < errors(exploding(0.03, 5.0), AnnealedLangevin(GridLadder(count)))[0].mean() < high


def test_langevin_dynamics_loses_the_weights():
    """From a uniform start each mode keeps its basin: half, where the law has a twentieth."""
    sampler = LangevinDynamics(1000, 0.005, BoxStart(-8.0, 8.0))
    surprise, minor = errors(exploding(1e-3, 20.0), sampler, FAR, n=1000)
    assert 0.40 <= float(minor.mean()) + 0.05 <= 0.60
    # though every sample is where the law has points
    assert surprise.max() < 15


def test_annealing_finds_the_weights():
    sampler = AnnealedLangevin(GridLadder(100), 20, start=BoxStart(-8.0, 8.0))
    surprise, minor = errors(exploding(0.1, 20.0), sampler, FAR, n=2000)
    assert 0.035 <= float(minor.mean()) + 0.05 <= 0.075
    assert abs(float(surprise.mean())) < 0.15


# ---- densities


@pytest.mark.parametrize(
    "process",
    [
        preserving(LinearBeta(0.1, 40.0), 1e-4),
        exploding(0.01, 1e4),
        pytest.param(preserving(DiscreteLinear(100, 0.1, 40.0), 0.01), marks=pytest.mark.slow),
    ],
    ids=["preserving", "exploding", "chain"],
)
def test_probability_flow_against_the_law(process):
    """The density at eps in closed form, to 1e-3 nats; the priors are reached to 1e-4."""
    model = ExactScore(PLANE, CLOSE, process, likelihood=ODESolver(tolerance=1e-6))
    x = CLOSE.draw(10, seeded(0))
    eps = torch.tensor(model.process.eps, dtype=torch.float64)
    expected = CLOSE.log_prob(x, model.process.signal(eps), model.process.std(eps))
    assert torch.allclose(model.log_prob(x), expected, rtol=0, atol=1e-3)


def test_a_law_of_another_space():
    with pytest.raises(ValueError, match=r"the law is on Euclidean\(dim=2\).*the model on Sphere"):
        ExactScore(Sphere(2))


def test_dynamics_lead_from_the_data_to_noise_and_from_noise_to_the_samples():
    """All variants start from the same noise; their ends have the law's spread, the score is its gradient."""
    law = GaussianMixture([[0.0, 0.0]], 0.5, [1.0])
    model = ExactScore(Euclidean(2), law, sampler=ReverseDiffusion(100, GeodesicEulerMaruyama(), UniformTimeGrid()))
    x = law.draw(4000, seeded(0))
    dynamics = model.dynamics(x, seed=3)
    assert dynamics.noised.shape == (len(dynamics.times), 4000, 2)
    variances = dynamics.noised.var((1, 2))
    expected = 1 - 0.75 * torch.exp(-model.process.schedule.integral(dynamics.times))
    # sums of 8000 squares, one in a million
    torch.testing.assert_close(variances / expected, torch.ones_like(expected), rtol=5 * math.sqrt(2 / 8000), atol=0)
    assert list(dynamics.paths) == ["λ = 0", "λ = 0.5", "λ = 1"]
    starts, ends = zip(*((path[0], path[-1]) for path in dynamics.paths.values()), strict=True)
    assert all(torch.equal(start, starts[0]) for start in starts)
    assert not torch.equal(ends[0], ends[2])
    assert all(0.5 < float(end.std()) / 0.5 < 1.5 for end in ends)
    eps = torch.tensor(model.process.eps)
    variance = 0.25 * model.process.signal(eps) ** 2 + model.process.std(eps) ** 2
    torch.testing.assert_close(dynamics.score(eps, starts[0]), -starts[0] / variance, rtol=1e-4, atol=1e-5)
    # the sample of a sampler is its last state
    last = list(model.sampler.states(model.score, 5, None, seeded(1)))[-1]
    assert torch.equal(last, model.sample(5, seed=1))
    assert model.sample(5, seed=1).dtype == torch.float32


def test_long_ways_are_thinned_and_end_with_the_samples():
    model = ExactScore(Euclidean(2), GaussianMixture([[0.0, 0.0]], 0.5, [1.0]))
    sampler, x = ReverseDiffusion(steps=210), torch.zeros(5, 2)
    paths = dynamics_of(model.score, sampler, x, seeded(3)).paths
    for name, variant in sampler.variants().items():
        states = list(variant.states(model.score, 5, None, seeded(3)))
        assert 100 < len(paths[name]) <= 200
        assert torch.equal(paths[name][-1], states[-1])


def test_the_picture_of_the_score_has_each_arrow_at_its_place():
    data, x = LawData(Moons(), train_size=2, val_size=2, test_size=50), torch.zeros(2, 5, 2)
    data.setup()
    dynamics = Dynamics(torch.tensor([0.5, 1.0]), x, {"way": x}, lambda _, y: -y)
    axes = _draw_dynamics(data, dynamics, "")["score"].axes[0]
    (arrows,) = (found for found in axes.collections if type(found).__name__ == "Quiver")
    length = (arrows.X**2 + arrows.Y**2) ** 0.5
    assert abs(arrows.U + arrows.X / length).max() < 1e-5
    assert abs(arrows.V + arrows.Y / length).max() < 1e-5
