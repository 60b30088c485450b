"""The adaptive step by itself: its order, its end, and its steps."""

import math

import pytest
import torch

from rsgm.likelihood.runge_kutta import StepError, dormand_prince

Y = torch.tensor([[1.0, 0.0], [0.5, -2.0]], dtype=torch.float64)


def turning(t, y):
    """A rotation at a speed that grows: by the angle t + t²."""
    return (1 + 2 * t) * torch.stack([-y[:, 1], y[:, 0]], 1)


def turned(y, angle):
    c, s = math.cos(angle), math.sin(angle)
    return y @ torch.tensor([[c, s], [-s, c]], dtype=y.dtype)


@pytest.mark.parametrize("damping", [0.0, 0.08])
@pytest.mark.parametrize("start, end", [(0.0, 1.0), (1.0, 0.0), (-2.0, 1.5)])
def test_closed_form(start, end, damping):
    found = dormand_prince(turning, Y, start, end, 1e-10, 1000, damping)
    assert torch.allclose(found, turned(Y, end + end**2 - start - start**2), rtol=0, atol=1e-8)


def test_a_polynomial_of_the_fifth_degree_is_exact():
    def slope(t, y):
        return torch.full_like(y, 5 * t**4 - 3 * t**2)

    accepted = []
    found = dormand_prince(slope, Y, 0.0, 2.0, 1e-2, 100, accepted=accepted.append)
    assert torch.allclose(found, Y + 24, rtol=0, atol=1e-12)
    assert accepted == sorted(accepted)
    assert accepted[-1] == 2


def test_the_error_falls_with_the_fifth_power():
    """Of the number of evaluations, which the tolerance chooses."""
    errors, counts = [], []
    for tolerance in (1e-5, 1e-10):
        times = []

        def slope(t, y, times=times):
            times.append(t)
            return turning(t, y)

        errors.append(float((dormand_prince(slope, Y, 0.0, 3.0, tolerance, 1000) - turned(Y, 12.0)).abs().max()))
        counts.append(len(times))
        assert min(times) == 0
        assert max(times) == 3
    order = math.log(errors[0] / errors[1]) / math.log(counts[1] / counts[0])
    assert 4.5 < order < 6


def test_damping_saves_the_steps_that_would_be_refused():
    """Where the field becomes harder along the way, as it does from noise to data: 1/(1 - t), the more so."""

    def count(damping):
        evaluations = []

        def slope(t, y):
            evaluations.append(t)
            return y / (1.001 - t)

        found = dormand_prince(slope, Y, 0.0, 1.0, 1e-4, 1000, damping)
        assert torch.allclose(found, Y * 1001, rtol=1e-2)
        return len(evaluations)

    assert count(0.08) < 0.8 * count(0.0)


def test_a_gradient_of_the_steps():
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    end = dormand_prince(lambda t, y: rate * y, Y, 0.0, 2.0, 1e-9, 100)
    end.sum().backward()
    assert float(rate.grad) == pytest.approx(float((2 * torch.exp(2 * rate.detach()) * Y).sum()), rel=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_end(value):
    with pytest.raises(StepError, match="a step of"):
        dormand_prince(lambda t, y: y * (value if t > 0.5 else 1.0), Y, 0.0, 1.0, 1e-5, 1000)
    with pytest.raises(StepError, match="3 steps led to t = "):
        dormand_prince(turning, Y, 0.0, 50.0, 1e-8, 3)


def test_nothing_moves():
    """One step or few, not a crawl from the shortest."""
    times = []

    def slope(t, y):
        times.append(t)
        return torch.zeros_like(y)

    assert torch.equal(dormand_prince(slope, Y, 0.0, 1.0, 1e-5, 100), Y)
    assert len(times) <= 20
