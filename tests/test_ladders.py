"""Noise levels and their automatic choice: the published configurations of NCSN are the test."""

import functools
import math
import warnings

import pytest
import torch
from pytorch_lightning import Trainer

import rsgm
from conftest import variants
from helpers import NoScore, seeded
from rsgm import RSGM, Euclidean
from rsgm.data import LawData
from rsgm.distributions import Moons
from rsgm.losses import DenoisingScoreMatching
from rsgm.models import ChartSGM
from rsgm.networks import MLP
from rsgm.processes import LadderTime, VarianceExploding
from rsgm.samplers import AnnealedLangevin
from rsgm.schedules import (
    AutomaticLadder,
    AutomaticVariance,
    ChainLadder,
    DiscreteLinear,
    GeometricVariance,
    GridLadder,
    Ladder,
    UniformTimeGrid,
    langevin_step,
    largest_level,
    level_count,
    level_ratio,
    smallest_level,
)
from rsgm.training import Training

# ---- ladders


@pytest.mark.filterwarnings("ignore:Technique 2")
@pytest.mark.parametrize("dim", [1, 2, 784])
@pytest.mark.parametrize("make", variants(Ladder))
def test_ladders_descend_to_eps(make, dim):
    schedule = DiscreteLinear() if make.func is ChainLadder else GeometricVariance(1e-4, 100.0)
    times = make()(schedule, dim, 0.0)
    assert times.dtype == torch.float64
    assert (times.diff() < 0).all()
    assert float(times[-1]) == pytest.approx(0, abs=1e-12)
    assert len(times) == 1 or float(times[0]) == pytest.approx(1, abs=1e-12)


def test_levels_have_equal_ratios():
    """σ_i = σ_1 γ^-(i-1), from 20 to 0.1 in 100 levels; the noise of the process is the ladder's own."""
    process = VarianceExploding(Euclidean(2), GeometricVariance(0.1**2, 20.0**2), eps=0.0)
    std = process.std(GridLadder(100)(process.schedule, 2, 0.0))
    gamma = 200 ** (1 / 99)
    assert gamma == pytest.approx(1.0549763580417753)
    assert torch.allclose(std, 20 * gamma ** -torch.arange(100, dtype=torch.float64), rtol=1e-10)
    # and samples start with the largest level's standard deviation, not with one
    assert process.prior.scale == pytest.approx(20)


def test_ladder_arguments():
    with pytest.raises(ValueError, match="GridLadder: count must be at least 1, found 0"):
        GridLadder(0)


# ---- technique 0 and 1


def test_largest_level_against_reference(reference):
    case = reference("euclidean")["NCSNv2_technique1_sigma1"]
    points = torch.tensor(case["points"])
    assert largest_level(points) == pytest.approx(case["sigma1"], rel=1e-6)
    # beyond 5000 points a bound, at most twice as large
    many = points.repeat(500, 1)
    assert case["sigma1"] <= largest_level(many) <= 2 * case["sigma1"]
    # images too
    assert largest_level(points.reshape(12, 1, 2)) == pytest.approx(case["sigma1"], rel=1e-6)


def test_smallest_level():
    line = torch.tensor([0.0, 1.0, 3.0, 3.2, 10.0])[:, None]
    # nearest neighbours at 1, 1, 0.2, 0.2 and 6.8
    assert smallest_level(line) == pytest.approx(0.5)
    assert smallest_level(torch.zeros(5, 2)) == 1e-3
    moons = Moons().draw(2000, seeded())
    # at most half of the noise, 0.05, and not finer for more points
    assert 0.008 <= smallest_level(moons) <= 0.02
    assert smallest_level(moons) == smallest_level(moons[:500])


# ---- technique 2


GAMMA = {5: 19.4868, 6: 7.4641, 8: 4.0, 10: 3.0379, 16: 2.1292, 64: 1.36085, 784: 1.08197, 3072: 1.03980}
GAMMA |= {12288: 1.01951, 196608: 1.00481}


@pytest.mark.parametrize("dim", GAMMA)
def test_level_ratio_golden(dim):
    assert level_ratio(dim, math.inf) == pytest.approx(GAMMA[dim], abs=1e-4)


def test_level_ratio_against_reference(reference):
    for case in reference("euclidean")["NCSNv2_technique2_gamma"]:
        if case["gamma"] is None:
            with pytest.warns(UserWarning, match=f"no solution in {case['D']} dimensions"):
                assert level_ratio(case["D"]) == 1.25
        else:
            assert level_ratio(case["D"]) == pytest.approx(case["gamma"], rel=1e-9)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_no_root_below_dimension_five(dim):
    """The overlap of neighbouring levels tends to one, not to a half: the bound is the answer, with a warning."""
    normal = torch.distributions.Normal(0.0, 1.0)
    ratio = torch.linspace(1, 200, 20_000, dtype=torch.float64)
    shift = (2 * dim) ** 0.5 * (ratio - 1)
    assert (normal.cdf(shift + 3 * ratio) - normal.cdf(shift - 3 * ratio)).min() > 0.5
    with pytest.warns(UserWarning, match=f"no solution in {dim} dimensions"):
        assert level_ratio(dim, 1.4) == 1.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert level_ratio(5, 1.4) == 1.4


@pytest.mark.parametrize("dim, spread, formula", [(3072, 5e3, 219.2), (12288, 9e3, 472.2), (196608, 34.8e3, 2181.6)])
def test_number_of_levels(dim, spread, formula):
    """Of the published configurations, 232, 500 and 2311, each 1.06 times the formula."""
    assert level_count(spread, level_ratio(dim)) == math.ceil(formula)
    times = AutomaticLadder()(GeometricVariance(1e-4, (0.01 * spread) ** 2), dim, 0.0)
    assert len(times) == math.ceil(formula)
    assert level_count(1.25**4, 1.25) == 5


@pytest.mark.filterwarnings("ignore:Technique 2")
def test_the_bound_on_the_ratio_is_kept():
    """Below dimension five it is the ratio, but for a whole number of levels; 300 dimensions need less than 1.25."""
    for dim, max_ratio, least in ((2, 1.1, 1.08), (2, 2.0, 1.7), (300, 1.05, 1.04), (300, 1.25, 1.1)):
        schedule = GeometricVariance(1e-4, 100.0)
        std = schedule.integral(AutomaticLadder(max_ratio)(schedule, dim, 0.0)).sqrt()
        ratios = std[:-1] / std[1:]
        assert least < ratios.min()
        assert ratios.max() <= max_ratio + 1e-9


# ---- technique 4


@pytest.mark.parametrize(
    "first, last, levels, steps, epsilon",
    [(50, 0.01, 232, 5, 6.2e-6), (90, 0.01, 500, 5, 3.3e-6), (190, 0.01, 1086, 3, 1.8e-6), (348, 0.01, 2311, 3, 9e-7)],
    ids=["CIFAR-10", "CelebA", "bedroom", "FFHQ"],
)
def test_step_of_the_published_configurations(first, last, levels, steps, epsilon):
    found = langevin_step((first / last) ** (1 / (levels - 1)), steps) * last**2
    assert found == pytest.approx(epsilon, rel=0.02)


def variance_ratio(r: float, gamma: float, steps: int) -> float:
    """f of technique 4, in the paper's form."""
    c = 2 * r / (1 - (1 - r) ** 2)
    return (1 - r) ** (2 * steps) * (gamma**2 - c) + c


def test_step_against_reference(reference):
    for case in reference("euclidean")["NCSNv2_technique3_epsilon"]:
        found = langevin_step(case["gamma"], case["T"])
        assert found * case["sigmaL"] ** 2 == pytest.approx(case["epsilon"], rel=1e-4)
        assert variance_ratio(found, case["gamma"], case["T"]) == pytest.approx(case["f_at_epsilon"], rel=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 20, 1000])
@pytest.mark.parametrize("gamma", [1.001, 1.05, 1.25, 3.0])
def test_no_step_is_exact(gamma, steps):
    """f exceeds one everywhere, so there is no root; no step of a fine grid is closer to it than the answer."""
    best = variance_ratio(langevin_step(gamma, steps), gamma, steps)
    others = [variance_ratio(r, gamma, steps) for r in torch.logspace(-7, -0.001, 2000, dtype=torch.float64).tolist()]
    assert min(others) > 1
    assert 1 < best <= min(others) + 1e-9


def test_a_published_step_that_is_too_long():
    """r = 0.1 at 1000 steps leaves 5 % too much variance, the answer 0.2 %."""
    gamma = 200 ** (1 / 99)
    assert variance_ratio(0.1, gamma, 1000) == pytest.approx(1.0526, abs=1e-4)
    assert variance_ratio(langevin_step(gamma, 1000), gamma, 1000) == pytest.approx(1.0018, abs=1e-4)
    assert langevin_step(gamma, 20) == pytest.approx(0.0506, abs=1e-4)


# ---- training on a ladder


def test_levels_are_drawn_equally_often():
    process = VarianceExploding(Euclidean(2), GeometricVariance(1e-4, 100.0), eps=0.0)
    t, weight = LadderTime(stratified=True, ladder=GridLadder(10))(process, torch.zeros(1000, 2), seeded())
    levels, counts = t.unique(return_counts=True)
    assert torch.allclose(levels, torch.linspace(0, 1, 10), atol=1e-6)
    assert counts.tolist() == [100] * 10
    assert torch.equal(weight, torch.ones(1000))
    t, _ = LadderTime(ladder=GridLadder(10, UniformTimeGrid()))(process, torch.zeros(1000, 2), seeded())
    assert len(t.unique()) == 10


def test_every_level_contributes_alike():
    """With weight σ² the loss of a field of zeros is |z|² / 2 at each level, not σ times it (error 10)."""
    process = VarianceExploding(Euclidean(2), GeometricVariance(1e-4, 100.0), eps=0.0)

    loss = DenoisingScoreMatching(LadderTime(stratified=True, ladder=GridLadder(4)))
    x0 = torch.zeros(40_000, 2, dtype=torch.float64)
    found = loss(NoScore(process), x0, generator=seeded()).reshape(4, -1)
    # exponential with mean one
    assert torch.allclose(found.mean(1), torch.ones(4, dtype=torch.float64), atol=0.05)


# ---- the automatic range of levels


def automatic(model: type = RSGM, **arguments) -> RSGM:
    process = functools.partial(VarianceExploding, schedule=AutomaticVariance(), eps=0.0)
    return model(Euclidean(2), process=process, network=functools.partial(MLP, hidden=[8]), **arguments)


@pytest.mark.filterwarnings("ignore:Technique 2")
def test_range_is_fitted_once_and_survives_checkpoints(tmp_path):
    """The trained model, and the one in its checkpoint, have the levels of the training points, in plain numbers."""
    data = LawData(Moons(), train_size=300, val_size=20, test_size=20, batch_size=16, steps_per_epoch=2)
    model = automatic(sampler=AnnealedLangevin(steps=2))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Training(model), data)
    points = data.train.points
    expected = GeometricVariance(smallest_level(points) ** 2, largest_level(points) ** 2)
    assert model.process.schedule == expected
    assert model.process.prior.scale == pytest.approx(largest_level(points))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = rsgm.load(tmp_path / "model.ckpt")
    assert again.process.schedule == expected
    schedule = again.description["init_args"]["process"]["init_args"]["schedule"]
    assert schedule["init_args"] == {"s_min": expected.s_min, "s_max": expected.s_max}
    assert torch.equal(again.sample(5, seed=0), model.sample(5, seed=0))
    # a run that starts from the configuration again finds the same
    fresh = automatic()
    fresh.fit_points(points, points)
    assert fresh.process.schedule == expected


def test_the_floor_of_the_automatic_range():
    """Of points that are further apart it does not matter."""
    line = torch.tensor([0.0, 1.0, 2.0])[:, None]
    assert AutomaticVariance(floor=0.7).fit(line).s_min == pytest.approx(0.49)
    assert AutomaticVariance(floor=0.3).fit(line).s_min == pytest.approx(0.25)


def test_a_range_that_is_given_stays():
    x = torch.randn(50, 2, generator=seeded())
    process = functools.partial(VarianceExploding, schedule=GeometricVariance(0.01, 4.0))
    model = RSGM(Euclidean(2), process=process, network=functools.partial(MLP, hidden=[8]))
    before = model.description
    model.fit_points(x, x)
    assert model.process.schedule == GeometricVariance(0.01, 4.0)
    assert model.description is before


def test_range_in_a_chart():
    """Fitted to the coordinates."""
    sphere = rsgm.Sphere(2)
    process = functools.partial(VarianceExploding, schedule=AutomaticVariance())
    model = ChartSGM(sphere, process=process, network=functools.partial(MLP, hidden=[8]))
    x = sphere.random_uniform(50, 3, generator=seeded(), dtype=torch.float64)
    model.fit_points(x, x)
    expected = largest_level(model.chart.inverse(x))
    found = model.description["init_args"]["process"]["init_args"]["schedule"]["init_args"]["s_max"]
    assert found == pytest.approx(expected**2)
