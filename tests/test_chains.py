"""Chains of finitely many steps: their schedules, the bridge step, DDPM and DDIM, each against its formula."""

import math
import warnings
from functools import partial
from inspect import signature

import pytest
import torch

from conftest import concrete, within
from helpers import NormalScore, NoScore, at, seeded
from rsgm import RSGM
from rsgm.fields import Field
from rsgm.losses import DenoisingScoreMatching
from rsgm.manifolds import Euclidean, Sphere
from rsgm.networks import MLP
from rsgm.processes import Brownian, LadderTime, NoisePrediction, VarianceExploding, VariancePreserving
from rsgm.samplers import GaussianBridge, ReverseDiffusion, Step
from rsgm.schedules import (
    ChainLadder,
    DiscreteCosine,
    DiscreteLinear,
    DiscreteSchedule,
    GeometricVariance,
    GridLadder,
    IndexGrid,
    LinearBeta,
    UniformTimeGrid,
)

PLANE = Euclidean(2)


class Noise(Field):
    """A stand-in for a network that predicts the noise."""

    def forward(self, t, x, context=None):
        return torch.sin(3 * x + t[:, None])


# ---- schedules


def test_ddpm_against_reference(reference):
    """The published chain, β from 1e-4 to 0.02 in 1000 steps, to 13 digits."""
    schedule = DiscreteLinear(1000)
    process = VariancePreserving(PLANE, schedule, eps=1e-3)
    for case in reference("euclidean")["DDPM_linear_1e-4_0.02_T1000"]["records"]:
        k = case["t_index0"] + 1
        t = at(k / 1000, 1)
        assert float(schedule.betas()[k - 1]) == pytest.approx(case["beta"], rel=1e-13)
        assert float(schedule.alpha_bars[k]) == pytest.approx(case["alpha_bar"], rel=1e-12)
        assert float(process.signal(t)) == pytest.approx(case["sqrt_ab"], rel=1e-12)
        assert float(process.std(t)) == pytest.approx(case["sqrt_1m_ab"], rel=1e-12)


def test_cosine_golden():
    """T = 100, the sixth step: the law of x_k, and the reversed step from x = ε = 1."""
    process = VariancePreserving(PLANE, DiscreteCosine(100), eps=0.01)
    t, one = at(0.06, 1), torch.ones(1, 2, dtype=torch.float64)
    assert float(process.signal(t)) == pytest.approx(0.9944681, abs=1e-6)
    assert float(process.std(t).square()) == pytest.approx(0.01103322, abs=1e-6)

    class One(Field):
        def forward(self, t, x, context=None):
            return torch.ones_like(x)

    score = NoisePrediction(process, One(PLANE))
    assert float(process.denoise(t, one, score(t, one))[0, 0]) == pytest.approx(0.8999391, abs=1e-6)
    step = GaussianBridge()
    draws = [step(Step(score, t, at(0.05, 1), generator=seeded(k)), one)[0, 0] for k in (0, 1)]
    noise = [torch.randn(1, 2, generator=seeded(k), dtype=torch.float64)[0, 0] for k in (0, 1)]
    std = (draws[1] - draws[0]) / (noise[1] - noise[0])
    assert float(std) ** 2 == pytest.approx(0.00222036, abs=1e-6)
    assert float(draws[0] - std * noise[0]) == pytest.approx(0.9723116, abs=1e-6)


@pytest.mark.parametrize("count", [40, 100, 1000])
@pytest.mark.parametrize("cls", concrete(DiscreteSchedule), ids=lambda cls: cls.__name__)
def test_every_chain_reaches_the_prior(cls, count):
    """Whatever its length, as configured by default; and the continuous schedule meets it at its steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = cls(count=count)
    betas = schedule.betas()
    assert betas.shape == (count,)
    assert betas.dtype == torch.float64
    expected = (1 - betas).cumprod(0)
    assert expected[-1] < 1e-3
    t = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert torch.allclose((-schedule.integral(t)).exp(), expected, rtol=1e-10, atol=0)
    # also at a time rounded to float32, where a step begins on one side and ends on the other
    assert torch.allclose(schedule.beta(t.float()).double(), schedule.beta(t), rtol=1e-3)


@pytest.mark.parametrize("cls", [c for c in concrete(DiscreteSchedule) if "beta_max" in signature(c).parameters])
def test_no_step_exceeds_beta_max(cls):
    """Both end with more than any bound; the last β, and the law at the end, are those that the bound leaves."""
    free, bound = cls(count=100), cls(count=100, beta_max=0.9)
    for schedule in (free, bound):
        assert float(schedule.betas().max()) == float(schedule.betas()[-1]) == schedule.beta_max
        assert float(schedule.alpha_bars[-1] / schedule.alpha_bars[-2]) == pytest.approx(1 - schedule.beta_max)
    kept = free.betas() < 0.9
    assert kept.sum() > 95
    assert torch.equal(free.betas()[kept], bound.betas()[kept])


@pytest.mark.parametrize("count, left, nats", [(100, 0.3636, 0.226), (200, 0.132, 0.0709)])
def test_a_chain_that_does_not_reach_the_prior_is_a_warning(count, left, nats):
    """β from 1e-4 to 0.02 in far fewer than 1000 steps; samples that start from N(0, I) are wrong by so many nats."""
    with pytest.warns(UserWarning, match=r"does not reach the prior: 0\.\d+ of the data's variance"):
        schedule = DiscreteLinear(count, 1e-4 * count, 0.02 * count)
    remainder = float(schedule.alpha_bars[-1])
    assert remainder == pytest.approx(left, abs=1e-3)
    assert -0.5 * math.log1p(-remainder) == pytest.approx(nats, abs=1e-3)
    assert -0.5 * math.log1p(-float(DiscreteLinear(100).alpha_bars[-1])) == pytest.approx(1.0e-5, abs=2e-7)


def test_chains_that_cannot_be():
    with pytest.raises(ValueError, match="count must be at least 2, found 1"):
        DiscreteLinear(1)
    with pytest.raises(ValueError, match=r"every beta must be in \(0, 1\), found 0.01 to 2. Take more than 10 steps"):
        DiscreteLinear(10)


def test_index_grid_holds_steps_of_the_chain():
    schedule = DiscreteLinear(1000)
    for steps in (9, 19, 49, 999):
        times = IndexGrid(1000)(schedule, steps, 1e-3)
        assert torch.equal((times * 1000).round() / 1000, times)
        assert len(times.unique()) == steps + 1
    # 0.29 times 100 is less than 29
    assert float(IndexGrid(100)(DiscreteLinear(100), 10, 0.29)[-1]) == 0.29
    assert torch.equal(IndexGrid()(schedule, 19, 1e-3), IndexGrid(1000)(schedule, 19, 1e-3))
    with pytest.raises(ValueError, match=r"IndexGrid: 99 steps from 1 to 0.01 at most, found 100"):
        IndexGrid(100)(DiscreteLinear(100), 100, 0.01)


@pytest.mark.parametrize("count", [40, 100, 1000])
def test_the_length_of_a_chain_is_said_once(count):
    """The schedule's is that of the process, of the ladder, and of the sampler."""
    process = VariancePreserving(PLANE, DiscreteLinear(count))
    assert process.eps == 1 / count
    times = torch.linspace(1, 1 / count, count, dtype=torch.float64)
    assert torch.equal(ChainLadder()(process.schedule, 2, process.eps), times)
    assert GaussianBridge().step_count(process.schedule) == count - 1
    parts = {"network": partial(MLP, hidden=[4]), "sampler": ReverseDiffusion(stepper=GaussianBridge())}
    model = RSGM(PLANE, partial(VariancePreserving, schedule=DiscreteLinear(count)), **parts)
    seen = []
    model.score.register_forward_hook(lambda module, inputs, output: seen.append(round(float(inputs[0][0]) * count)))
    model.sample(2, seed=0)
    assert seen == list(range(count, 0, -1))


def test_without_a_chain_nothing_counts_its_steps():
    schedule = LinearBeta(beta_1=20.0)
    assert VariancePreserving(PLANE, schedule).eps == 1e-3
    assert GaussianBridge().step_count(schedule) == 100
    for parts in (lambda: ChainLadder()(schedule, 2, 1e-3), lambda: IndexGrid()(schedule, 10, 1e-3)):
        with pytest.raises(ValueError, match="steps of a chain, and the process's LinearBeta has none; give"):
            parts()


# ---- the bridge step


CHAIN = VariancePreserving(PLANE, DiscreteLinear(100), eps=0.01)
SCORE = NoisePrediction(CHAIN, Noise(PLANE))


@pytest.mark.parametrize("k", [2, 30, 100])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling(k, variance):
    """(x - β ε / sqrt(1 - ᾱ)) / sqrt(1 - β) plus sqrt(β) z or sqrt(β̃) z (Ho et al. 2020, algorithm 2)."""
    x = torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    t, t_next = at(k / 100, 6), at((k - 1) / 100, 6)
    beta, bars = CHAIN.schedule.betas()[k - 1], CHAIN.schedule.alpha_bars
    mean = (x - beta / (1 - bars[k]).sqrt() * Noise(PLANE)(t, x)) / (1 - beta).sqrt()
    fresh = beta if variance == "large" else beta * (1 - bars[k - 1]) / (1 - bars[k])
    z = torch.randn(6, 2, generator=seeded(5), dtype=torch.float64)
    found = GaussianBridge(variance=variance)(Step(SCORE, t, t_next, generator=seeded(5)), x)
    assert torch.allclose(found, mean + fresh.sqrt() * z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("k, l", [(100, 50), (60, 10), (11, 1)])
def test_implicit_sampling(eta, k, l):
    """Over any number of steps of the chain (Song, Meng and Ermon 2021, equations 12 and 16)."""
    x = torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    t, t_next, bars = at(k / 100, 6), at(l / 100, 6), CHAIN.schedule.alpha_bars
    noise = Noise(PLANE)(t, x)
    sigma = eta * ((1 - bars[l]) / (1 - bars[k])).sqrt() * (1 - bars[k] / bars[l]).sqrt()
    data = (x - (1 - bars[k]).sqrt() * noise) / bars[k].sqrt()
    z = torch.randn(6, 2, generator=seeded(5), dtype=torch.float64)
    expected = bars[l].sqrt() * data + (1 - bars[l] - sigma**2).sqrt() * noise + sigma * z
    found = GaussianBridge(eta)(Step(SCORE, t, t_next, generator=seeded(5)), x)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_deterministic_steps_draw_nothing():
    state = seeded()
    before = state.get_state()
    x = torch.zeros(3, 2, dtype=torch.float64)
    GaussianBridge(0.0)(Step(SCORE, at(0.5, 3), at(0.4, 3), generator=state), x)
    assert torch.equal(state.get_state(), before)


PROCESSES = [
    VariancePreserving(PLANE, LinearBeta(0.1, 20.0)),
    VarianceExploding(PLANE, GeometricVariance(1e-4, 9.0), eps=0.0),
]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_bridges_to_a_point_are_exact(process, eta):
    """Data at one point are N(α μ, σ²) at every time, after one long step too; 5 standard errors."""
    n, mu = 20_000, torch.tensor([0.5, -0.3], dtype=torch.float64)

    t, t_next = at(0.9, n), at(0.4, n)
    x = process.perturb(mu.expand(n, 2), t, seeded())
    found = GaussianBridge(eta)(Step(NormalScore(process, 0.0, mu), t, t_next, generator=seeded(1)), x)
    residual = (found - process.signal(t_next)[:, None] * mu) / process.std(t_next)[:, None]
    assert within(residual, 0.0)
    assert within(residual.square(), 1.0)


def test_large_variance_is_exact_for_normal_data():
    """Which stay standard normal, where the small variance leaves too little; 5 standard errors."""
    process, n = VariancePreserving(PLANE, DiscreteLinear(40), eps=1 / 40), 40_000

    variances = []
    for variance in ("large", "small"):
        sampler = ReverseDiffusion(39, GaussianBridge(variance=variance), UniformTimeGrid(), denoise=False)
        x = sampler(NormalScore(process), n, generator=seeded()).double()
        variances.append(x.square())
    assert within(variances[0], 1.0)
    assert variances[1].mean() < 0.95


def test_only_the_last_step_is_free_of_noise():
    """Of T evaluations T - 1 draw noise, the one from x_2 to x_1 too; the move from x_1 to x_0 does not."""
    seen, drawn = [], []

    class Clock(Noise):
        def forward(self, t, x, context=None):
            seen.append(round(float(t[0]) * 100))
            return super().forward(t, x)

    class Counting(Euclidean):
        def random_tangent(self, x, generator=None):
            drawn.append(seen[-1])
            return super().random_tangent(x, generator)

    process = VariancePreserving(Counting(2), DiscreteLinear(100), eps=0.01)
    sampler = ReverseDiffusion(99, GaussianBridge(), UniformTimeGrid())
    sampler(NoisePrediction(process, Clock(PLANE)), 2, generator=seeded())
    assert seen == list(range(100, 0, -1))
    assert drawn == seen[:-1]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_clipping(eta):
    """No estimate leaves the box, the last one included; with a wide box nothing changes."""
    plain, wide, narrow = (
        ReverseDiffusion(20, GaussianBridge(eta, clip=clip), UniformTimeGrid())(SCORE, 50, generator=seeded())
        for clip in (None, 1e9, 0.5)
    )
    assert torch.allclose(plain, wide, rtol=0, atol=1e-6)
    assert plain.abs().max() > 0.6
    assert narrow.abs().max() <= 0.5


def test_bridges_need_normal_laws():
    process = Brownian(Sphere(2))

    with pytest.raises(ValueError, match=r"Brownian on Sphere.* has no normal law"):
        ReverseDiffusion(2, GaussianBridge())(NoScore(process), 3)
    with pytest.raises(ValueError, match="variance must be 'small' or 'large', found 'tiny'"):
        GaussianBridge(variance="tiny")
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], found 1.5"):
        GaussianBridge(1.5)


# ---- the loss of DDPM


def test_loss_is_the_error_of_the_noise():
    """With weight σ², half of the squared error of the predicted noise, at whole steps of the chain."""
    loss = DenoisingScoreMatching(LadderTime(ladder=GridLadder(100, UniformTimeGrid())))
    x0 = torch.randn(500, 2, generator=seeded(), dtype=torch.float64)
    times, points = [], []

    class Seen(Noise):
        def forward(self, t, x, context=None):
            times.append(t)
            points.append(x)
            return super().forward(t, x)

    found = loss(NoisePrediction(CHAIN, Seen(PLANE)), x0, generator=seeded(3))
    (t,), (x,) = times, points
    assert torch.allclose(t * 100, (t * 100).round(), rtol=0, atol=1e-9)
    assert (t.min(), t.max()) == (0.01, 1.0)
    noise = (x - CHAIN.signal(t)[:, None] * x0) / CHAIN.std(t)[:, None]
    assert torch.allclose(found, 0.5 * (Noise(PLANE)(t, x) - noise).square().sum(1), rtol=1e-9)
