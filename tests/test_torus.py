"""The torus: closed forms, reference values, sizes."""

import math

import numpy as np
import pytest
import torch

from conftest import within
from helpers import every_dtype, points, seeded, tangents, worst
from rsgm.manifolds import Torus


@every_dtype
def test_geometry_reference(reference, dtype):
    rounding = 8 * torch.finfo(dtype).eps
    records = reference("geometry")["torus"]
    assert len(records) == 3
    for record in records:
        torus = Torus(record["n"])
        theta, moved, end = (torch.tensor(record[key], dtype=dtype) for key in ("theta", "tangent", "exp_theta"))
        x, y, u = (
            torch.tensor(record[key], dtype=dtype).reshape(torus.shape)
            for key in ("x_embedded", "exp_embedded", "tangent_embedded")
        )
        assert worst(torus.from_angles(theta) - x) < rounding
        assert worst(torus.angles(x) - theta) < rounding
        assert worst(torus.angles(y) - end) < rounding
        assert worst(torus.combine_killing_fields(x, moved) - u) < rounding
        assert worst(torus.expmap(x, u) - y) < rounding
        assert worst(torus.logmap(x, y) - u) < rounding
        assert float(torus.dist(x, y)) == pytest.approx(record["dist"], abs=rounding)
        # transport is the identity in the angles
        assert worst(torus.transp(x, y, u) - torus.combine_killing_fields(y, moved)) < rounding


@every_dtype
def test_angles(dtype):
    """In (-pi, pi], and back."""
    circle = Torus(1)
    ends = torch.tensor([[-1.0, 0.0], [-1.0, -0.0]], dtype=dtype)[:, None]
    assert torch.equal(circle.angles(ends), torch.full((2, 1), math.pi, dtype=dtype))
    theta = torch.linspace(-3.1, 3.1, 50, dtype=dtype)[:, None]
    assert worst(circle.angles(circle.from_angles(theta)) - theta) < 4 * torch.finfo(dtype).eps


@every_dtype
def test_antipodes(dtype):
    """Half a turn of some of the circles: a logarithm of the right length, finite derivatives, transport as ever."""
    torus = Torus(3)
    x = points(torus, 50, dtype)
    y = x * torch.tensor([-1.0, 1.0, -1.0], dtype=dtype)[:, None]
    rounding = 8 * torch.finfo(dtype).eps
    assert worst(torus.dist(x, y) - math.pi * math.sqrt(2)) < rounding
    assert worst(torus.expmap(x, torus.logmap(x, y)) - y) < rounding
    u = tangents(torus, x)
    assert worst(torus.transp(x, y, u) - u * torch.tensor([-1.0, 1.0, -1.0], dtype=dtype)[:, None]) < rounding
    leaf = y.clone().requires_grad_()
    for value in (torus.dist(x, leaf), torus.logmap(x, leaf), torus.transp(x, leaf, u)):
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.isfinite(gradient).all()


def test_heat_kernel_reference(reference):
    """24 records of log-density and score on T^3, at relative 1e-10."""
    records = [record for record in reference("heat_kernels")["records"] if record["manifold"] == "T3"]
    assert len(records) == 24
    theta, score, logp, s = (
        torch.tensor([record[key] for record in records], dtype=torch.float64)
        for key in ("dtheta", "score", "logp", "s")
    )
    torus = Torus(3)
    start, x = torus.origin(24, 3, 2, dtype=torch.float64), torus.from_angles(theta)
    torch.testing.assert_close(torus.heat_kernel_log_prob(start, x, s), logp, rtol=1e-10, atol=1e-10)
    found = torus.heat_kernel_score(start, x, s)
    torch.testing.assert_close(found, torus.combine_killing_fields(x, score), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("s", [1e-4, 0.1, 1.0])
def test_brownian_motion(s):
    """E cos k theta = exp(-k^2 s / 2) of each angle, and independent; false alarm 6e-7 per number."""
    torus, n = Torus(3), 20_000
    start = points(torus, 1).expand(n, 3, 2)
    x = torus.heat_kernel_sample(start, torch.full((n,), s, dtype=torch.float64), seeded())
    theta = torus.angles(x) - torus.angles(start)
    for k in (1, 2):
        assert within((k * theta).cos(), math.exp(-k * k * s / 2))
        assert within((k * theta).sin(), 0.0)
    assert within(theta[:, :1].sin() * theta[:, 1:].sin(), 0.0)
    assert within((theta[:, :1] + theta[:, 1:]).cos(), math.exp(-s))


def test_brownian_statistics_reference(reference):
    """The constants of the test above, at 30 digits."""
    for record in reference("brownian_statistics")["exact_statistics"]:
        for k, value in record["S1_E_cos_k"].items():
            assert math.exp(-(int(k) ** 2) * record["s"] / 2) == pytest.approx(value, rel=1e-14)


def test_the_walk_is_exact():
    """On a flat manifold one step is as good as a hundred; false alarm 6e-7 per number."""
    torus, s = Torus(2), 1.0
    torus.walk_steps = 1
    start = points(torus, 1).expand(20_000, 2, 2)
    x = super(Torus, torus).heat_kernel_sample(start, torch.full((20_000,), s, dtype=torch.float64), seeded())
    assert within((torus.angles(x) - torus.angles(start)).cos(), math.exp(-s / 2))


def test_entropy_reference(reference):
    """Of the wrapped normal law on T^n, n times that of an angle, from 50,000 draws; false alarm 6e-7 each."""
    for record in reference("densities")["entropy_wrapped_normal"]["records"]:
        torus, n = Torus(4), 50_000
        start, s = torus.origin(n, 4, 2, dtype=torch.float64), torch.full((n,), record["sigma"] ** 2)
        x = torus.heat_kernel_sample(start, s.double(), seeded())
        log_prob = torus.heat_kernel_log_prob(start, x, torch.full((n,), record["sigma"] ** 2, dtype=torch.float64))
        assert within(-log_prob, 4 * record["S1_wrapped_normal"])


@pytest.mark.parametrize("width", [1e-5, 1e-2, 0.3, 2.0])
def test_bump_is_normalised_at_every_width(width):
    far = min(math.pi, 12 * width)
    node, weight = np.polynomial.legendre.leggauss(200)
    angle = torch.from_numpy(node * far)[:, None]
    circle = Torus(1)
    log_prob = circle.bump_log_prob(
        circle.from_angles(angle), circle.origin(1, 2), torch.tensor(width, dtype=torch.float64)
    )
    assert float((torch.from_numpy(weight) * far * log_prob.exp()).sum()) == pytest.approx(1, abs=1e-9)


@every_dtype
def test_many_widths_at_once(dtype):
    torus = Torus(3)
    x, centre = points(torus, 4, dtype), points(torus, 5, dtype, seed=1)
    widths = torch.tensor([0.1, 0.5], dtype=dtype)
    table = torus.bump_log_prob(x[:, None, None], centre[:, None], widths)
    assert table.shape == (4, 5, 2)
    for k, width in enumerate(widths):
        torch.testing.assert_close(table[2, 3, k], torus.bump_log_prob(x[2], centre[3], width))
    # one draw of each centre and width
    y = torus.bump_sample(centre[:, None].expand(5, 2, 3, 2), widths, seeded())
    assert y.shape == (5, 2, 3, 2)
    assert worst(torus.dist(y, centre[:, None])[:, 0]) < 1


def test_high_dimensions():
    """200 angles for 512 points in less memory than a quarter of one (n, n) matrix for each."""
    torus = Torus(200)
    x0, s = points(torus, 512, torch.float32), torch.linspace(1e-3, 3, 512)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        x = torus.heat_kernel_sample(x0, s, seeded())
        score = torus.heat_kernel_score(x0, x, s)
        moved = torus.combine_killing_fields(x, torch.ones(512, 200))
    largest = max(event.cpu_memory_usage for event in profile.function_events)
    assert largest < 512 * 200 * 200 * 4 / 4
    assert torch.isfinite(torus.heat_kernel_log_prob(x0, x, s)).all()
    assert score.shape == moved.shape == x.shape
    # the score of 200 normal angles has this mean square where wrapping does not matter
    small = s < 0.3
    square = torus.squared_norm(x, score)[small] * s[small]
    assert abs(float(square.mean()) / 200 - 1) < 0.05


def test_charts_up_to_three():
    with pytest.raises(NotImplementedError, match=r"Torus\(dim=4\) has no volume-preserving chart"):
        Torus(4).from_unit_cube(torch.zeros(4))
