"""Noise schedules, time grids and learning rates."""

import math

import pytest
import torch

from conftest import variants
from helpers import every_dtype
from rsgm.schedules import (
    AutomaticVariance,
    ConstantBeta,
    DiscreteCosine,
    GeometricVariance,
    GeometricVarianceGrid,
    LinearBeta,
    QuadraticBeta,
    Schedule,
    TimeGrid,
    UniformTimeGrid,
    UniformVarianceGrid,
)
from rsgm.training import ConstantRate, LearningRate, WarmupCosine

every_schedule = pytest.mark.parametrize("make", variants(Schedule))


def times(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """From 0 to 1, dense at 0."""
    return torch.cat([torch.zeros(1), torch.logspace(-5, 0, 60, dtype=torch.float64)]).to(dtype)


# ---- the contract of schedules


@every_schedule
def test_beta_is_the_derivative_of_the_integral(make):
    schedule, t = make(), times().requires_grad_()
    (derivative,) = torch.autograd.grad(schedule.integral(t).sum(), t)
    assert torch.allclose(schedule.beta(t), derivative, rtol=1e-13, atol=0)
    assert (schedule.beta(t) > 0).all()


@every_schedule
@every_dtype
def test_inverse(make, dtype):
    schedule, t = make(), times(dtype)
    s = schedule.integral(t)
    assert s.dtype == schedule.beta(t).dtype == schedule.inverse(s).dtype == dtype
    # what the rounding of s does to t: eps s / beta
    known = torch.finfo(dtype).eps * (1 + s / schedule.beta(t)).double()
    assert ((schedule.inverse(s) - t).double().abs() <= 4 * known).all()
    assert torch.allclose(schedule.integral(schedule.inverse(s)), s, rtol=32 * torch.finfo(dtype).eps, atol=0)


@every_schedule
def test_integral_of_beta_by_quadrature(make):
    """From 0: what the geometric schedules start with is the only variance that beta does not account for."""
    schedule = make()
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    start = schedule.integral(grid[:1])
    by_simpson = torch.tensor([1.0, *[4.0, 2.0] * 9_999, 4.0, 1.0], dtype=torch.float64) @ schedule.beta(grid) / 60_000
    assert float(schedule.integral(grid[-1:]) - start) == pytest.approx(float(by_simpson), rel=1e-12)
    assert (start == 0) != isinstance(schedule, (GeometricVariance, AutomaticVariance))


@every_schedule
def test_schedules_are_values(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    name = next(iter(vars(make())))
    with pytest.raises(AttributeError):
        setattr(make(), name, 3.0)


# ---- closed forms


def test_values_at_the_ends():
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    linear, quadratic = LinearBeta(0.1, 4.1), QuadraticBeta(0.1, 6.1)
    assert linear.beta(t).tolist() == pytest.approx([0.1, 2.1, 4.1])
    assert linear.integral(t).tolist() == pytest.approx([0, 0.55, 2.1])
    assert quadratic.beta(t).tolist() == pytest.approx([0.1, 1.6, 6.1])
    assert quadratic.integral(t).tolist() == pytest.approx([0, 0.3, 2.1])
    assert ConstantBeta(3.0).beta(t).tolist() == [3, 3, 3]
    assert ConstantBeta(3.0).integral(t).tolist() == [0, 1.5, 3]
    assert GeometricVariance(1e-4, 4.0).integral(t).tolist() == pytest.approx([1e-4, 2e-2, 4.0])
    # the finest scale of the published runs, 0.107 degrees
    s = LinearBeta(0.001, 5.0).integral(torch.tensor(1e-3, dtype=torch.float64))
    assert math.degrees(float(s) ** 0.5) == pytest.approx(0.1072, abs=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LinearBeta(beta_0=0.0), "LinearBeta: beta_0 must be positive and finite, found 0"),
        (lambda: LinearBeta(beta_1=-1.0), "LinearBeta: beta_1 must be positive and finite, found -1"),
        (lambda: LinearBeta(beta_1=math.nan), "LinearBeta: beta_1 must be positive and finite, found nan"),
        (lambda: LinearBeta(beta_1=math.inf), "LinearBeta: beta_1 must be positive and finite, found inf"),
        (lambda: QuadraticBeta(beta_0=0.0), "QuadraticBeta: beta_0 must be positive"),
        (lambda: QuadraticBeta(beta_0=2.0, beta_1=2.0), "beta_1 must exceed beta_0 = 2.0, found 2.0"),
        (lambda: ConstantBeta(0.0), "ConstantBeta: rate must be positive"),
        (lambda: GeometricVariance(s_min=0.0), "GeometricVariance: s_min must be positive"),
        (lambda: GeometricVariance(s_min=1.0, s_max=0.5), "s_max must exceed s_min = 1.0, found 0.5"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- grids


@pytest.mark.parametrize("make_grid", variants(TimeGrid))
@pytest.mark.parametrize("schedule", [LinearBeta(), GeometricVariance(), DiscreteCosine(100)], ids=repr)
def test_grids_decrease_from_one_to_eps(make_grid, schedule):
    """A schedule with a closed inverse, one that begins above zero, and one whose inverse is an iteration."""
    for steps in (1, 2, 50):
        grid = make_grid()(schedule, steps, 1e-3)
        assert grid.dtype == torch.float64
        assert grid.shape == (steps + 1,)
        assert float(grid[0]) == pytest.approx(1, abs=1e-14)
        assert float(grid[-1]) == pytest.approx(1e-3, abs=1e-15)
        assert (grid.diff() < 0).all()


@every_schedule
def test_grids_are_even_in_what_they_say(make):
    schedule = make()

    def uneven(steps: torch.Tensor) -> float:
        return float((steps / steps.mean() - 1).abs().max())

    t, s, log_s = (
        grid(schedule, 20, 1e-3) for grid in (UniformTimeGrid(), UniformVarianceGrid(), GeometricVarianceGrid())
    )
    assert uneven(t.diff()) < 1e-12
    assert uneven(schedule.integral(s).diff()) < 1e-12
    assert uneven(schedule.integral(log_s).log().diff()) < 1e-10


# ---- learning rates


@pytest.mark.parametrize("make", variants(LearningRate))
@pytest.mark.parametrize("total", [1, 100, 1000])
def test_learning_rates_are_factors(make, total):
    rate = make()
    factors = [rate(step, total) for step in range(total + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    # the first step moves: a rate of zero would waste it
    assert factors[0] > 0


def test_warmup_and_cosine():
    rate = WarmupCosine(warmup=10)
    assert [rate(step, 110) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [rate(step, 110) for step in (10, 60, 110, 500)] == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-15)
    # a run shorter than its warm-up
    assert rate(5, 8) == pytest.approx(0.6)
    assert WarmupCosine(warmup=0)(0, 10) == 1
    assert [ConstantRate()(step, 5) for step in range(3)] == [1, 1, 1]
    assert [ConstantRate(4)(step, 5) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
