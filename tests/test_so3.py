"""Rotations: quaternions, the nearest rotation, closed forms, reference values."""

import math

import numpy as np
import pytest
import scipy.special
import torch

from conftest import within
from helpers import every_dtype, points, seeded, worst
from rsgm.divergence import with_divergence
from rsgm.manifolds import Manifold, SpecialOrthogonal
from rsgm.manifolds.so3 import (
    matrix_to_quaternion,
    matrix_to_rotation_vector,
    quaternion_to_matrix,
    rotation_vector_to_matrix,
)

SO3 = SpecialOrthogonal()


def units(n: int, dim: int = 3, seed: int = 1) -> torch.Tensor:
    v = torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64)
    return v / v.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("n", [0, 2, 4])
def test_other_sizes_are_refused(n):
    with pytest.raises(ValueError, match=f"n must be 3, the rotations of space, found {n}"):
        SpecialOrthogonal(n)


# ---- quaternions and rotation vectors


@every_dtype
def test_conversions_agree_with_scipy(dtype):
    from scipy.spatial.transform import Rotation

    w = units(200) * torch.linspace(0, math.pi, 200, dtype=torch.float64)[:, None]
    known = Rotation.from_rotvec(w.numpy())
    x = rotation_vector_to_matrix(w.to(dtype))
    rounding = 8 * torch.finfo(dtype).eps
    assert worst(x - torch.from_numpy(known.as_matrix())) < rounding
    q = matrix_to_quaternion(x)
    expected = torch.from_numpy(known.as_quat(canonical=True, scalar_first=True))
    apart = torch.minimum((q - expected).abs().amax(-1), (q + expected).abs().amax(-1))
    assert worst(apart) < rounding
    assert (q[:, 0] >= 0).all()
    assert worst(quaternion_to_matrix(-3 * q) - x) < rounding
    assert worst(matrix_to_rotation_vector(x)[:-1] - w[:-1]) < rounding


@every_dtype
@pytest.mark.parametrize("rest", [1e-3, 1e-4, 1e-5, 0.0])
def test_the_axis_next_to_half_a_turn(dtype, rest):
    """The right one, and not its opposite; at half a turn either. From every start, about the axes too."""
    axis = torch.cat([units(200), torch.eye(3).double(), -torch.eye(3).double()])
    w = (math.pi - rest) * axis
    x = points(SO3, len(w), dtype)
    y = SO3.expmap(x, SO3.combine_killing_fields(x, w.to(dtype)))
    found = SO3.body(x, SO3.logmap(x, y)).double()
    error = (found - w).abs().amax(-1)
    if rest == 0:
        error = torch.minimum(error, (found + w).abs().amax(-1))
    assert worst(error) < 32 * torch.finfo(dtype).eps
    omega, delta = SO3.angles(x, y)
    assert worst(omega + delta - math.pi) < 4 * torch.finfo(dtype).eps
    assert worst(delta.double() - rest) < 32 * torch.finfo(dtype).eps


@every_dtype
def test_derivatives_at_half_a_turn(dtype):
    x = points(SO3, 50, dtype)
    u = SO3.combine_killing_fields(x, math.pi * units(50).to(dtype))
    y = SO3.expmap(x, u).requires_grad_()
    for value in (SO3.dist(x, y), SO3.logmap(x, y), SO3.transp(x, y, u)):
        (gradient,) = torch.autograd.grad(value.sum(), y)
        assert torch.isfinite(gradient).all()


# ---- the nearest rotation


def correction(r: torch.Tensor, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The w of (tr S - S) w = vee(R^T u - u^T R), S = R^T x: Newton's equation, and the projection's derivative."""
    s = r.mT @ x
    matrix = s.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] * torch.eye(3) - (s + s.mT) / 2
    return torch.linalg.solve(matrix, 2 * SO3.body(r, u))


def nearest(x: torch.Tensor) -> torch.Tensor:
    """By singular value decomposition, right to 50 eps only, and a Newton step."""
    u, _, v = torch.linalg.svd(x)
    sign = torch.ones(len(x), 3).double()
    sign[:, 2] = torch.det(u @ v)
    r = u * sign[:, None] @ v
    return SO3.expmap(r, SO3.combine_killing_fields(r, correction(r, x, x)))


@every_dtype
@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.3, 100.0])
def test_projection_is_the_nearest_rotation(dtype, scale):
    """Of matrices that have drifted a little or a lot, of either determinant."""
    x = points(SO3, 1000) + scale * torch.randn(1000, 3, 3, generator=seeded(), dtype=torch.float64)
    _, s, _ = torch.linalg.svd(x)
    gap = (s[:, 1] + torch.det(x).sign() * s[:, 2]) / s[:, 0]
    if scale == 100:
        assert (torch.det(x) < 0).sum() > 100
    found = SO3.projx(x.to(dtype))
    error = (found - nearest(x.to(dtype).double())).abs().amax((-2, -1))
    assert worst(error * gap) < 32 * torch.finfo(dtype).eps
    assert SO3.check_point_on_manifold(found, atol=4 * torch.finfo(dtype).eps, rtol=0)


def test_a_reflection_is_no_point():
    assert not SO3.check_point_on_manifold(-points(SO3, 3))
    assert not SO3.check_point_on_manifold(1.01 * points(SO3, 3))


def test_derivatives_of_the_projection():
    """At rotations, where singular vectors have none, and off them; of second order too."""
    for scale in (0.0, 0.2):
        x = points(SO3, 20) + scale * torch.randn(20, 3, 3, generator=seeded(), dtype=torch.float64)
        u = torch.randn(20, 3, 3, generator=seeded(1), dtype=torch.float64)
        r, moved = torch.func.jvp(SO3.projx, (x,), (u,))
        assert worst(moved - SO3.combine_killing_fields(r, correction(r, x, u))) < 1e-13
        leaf = x.clone().requires_grad_()
        assert torch.autograd.gradcheck(SO3.projx, (leaf[:3],))
        assert torch.autograd.gradgradcheck(SO3.projx, (leaf[:3],))


# ---- reference values


@every_dtype
def test_geometry_reference(reference, dtype):
    rounding = 8 * torch.finfo(dtype).eps
    records = reference("geometry")["SO3"]["records"]
    assert len(records) == 5
    for record in records:
        value = {key: torch.tensor(entry, dtype=dtype) for key, entry in record.items()}
        x, y, w = value["R"], value["exp"], value["rotvec_body"]
        assert worst(SO3.combine_killing_fields(x, w) - value["tangent_matrix"]) < rounding
        assert worst(SO3.body(x, value["tangent_matrix"]) - w) < rounding
        assert worst(SO3.expmap(x, value["tangent_matrix"]) - y) < rounding
        assert worst(SO3.logmap(x, y) - value["tangent_matrix"]) < rounding
        assert float(SO3.dist(x, y)) == pytest.approx(record["dist_angle"], abs=rounding)
        moved = SO3.transp(x, y, SO3.combine_killing_fields(x, value["u_body"]))
        assert worst(moved - SO3.combine_killing_fields(y, value["transport_u_body"])) < rounding
        assert worst(SO3.projx(value["M"]) - value["proj_SO3_of_M"]) < rounding
        assert worst(SO3.proju(x, value["M"]) - value["proj_tangent_at_R_of_M"]) < rounding


def test_divergence_reference(reference):
    """V(R) = (M - R M^T R) / 2 has div V = -tr(R^T M)."""
    records = reference("geometry")["divergence_SO3"]["records"]
    assert records
    for record in records:
        x, matrix, expected = (torch.tensor(record[key], dtype=torch.float64) for key in ("R", "M", "V"))

        def field(y, matrix=matrix):
            y = SO3.projx(y)
            return SO3.proju(y, matrix.expand_as(y))

        value, divergence = with_divergence(field, SO3, x[None], SO3.frame(x[None]))
        assert worst(value[0] - expected) < 1e-14
        assert float(divergence) == pytest.approx(record["divergence"], abs=1e-13)


def test_heat_kernel_reference(reference):
    """64 records of log-density and score, from angle 1e-6 to 3.141592, through points of the manifold."""
    records = [record for record in reference("heat_kernels")["records"] if record["manifold"] == "SO3"]
    assert len(records) == 64
    omega, s, logp, score = (
        torch.tensor([record[key] for record in records], dtype=torch.float64) for key in ("dist", "s", "logp", "score")
    )
    x0, axis = points(SO3, 64), units(64)
    x = SO3.expmap(x0, SO3.combine_killing_fields(x0, omega[:, None] * axis))
    torch.testing.assert_close(SO3.heat_kernel_log_prob(x0, x, s), logp, rtol=1e-10, atol=1e-9)
    found = SO3.body(x, SO3.heat_kernel_score(x0, x, s))
    expected = score[:, None] * axis
    # next to the cut locus the score falls to zero within s / pi, and the angle is known to eps
    assert worst((found - expected) / (1 + (1 + 1 / s) * score.abs())[:, None]) < 1e-9


def test_wrapped_normal_reference(reference):
    """N(log x; 0, sigma^2) over the volume distortion of exp: 12 records."""
    for record in reference("densities")["wrapped_normal"]["records"]:
        u = SO3.combine_killing_fields(torch.eye(3).double(), record["dist"] * units(1)[0])
        sigma = record["sigma"]
        normal = -0.5 * (record["dist"] / sigma) ** 2 - 1.5 * math.log(2 * math.pi * sigma**2)
        found = normal - float(SO3.log_det_exp(torch.eye(3).double(), u))
        assert found == pytest.approx(record["SO3_principal"], abs=1e-12)


def test_series_score():
    """A long series is exact from s = 1 on, the shortest one is the uniform law's."""
    x0, x = points(SO3, 100), points(SO3, 100, seed=1)
    s = torch.linspace(1, 5, 100, dtype=torch.float64)
    exact = SO3.heat_kernel_score(x0, x, s)
    assert worst(SO3.heat_kernel_series_score(x0, x, s, 30) - exact) < 1e-10
    assert worst(SO3.heat_kernel_series_score(x0, x, s, 0)) == 0
    # 1 + 3 exp(-s) (1 + 2 cos omega): its gradient in closed form
    omega, amplitude = SO3.dist(x0, x), 3 * torch.exp(-s)
    radial = -2 * amplitude * omega.sin() / (1 + amplitude * (1 + 2 * omega.cos()))
    expected = radial[:, None, None] * -SO3.logmap(x, x0) / omega[:, None, None]
    assert worst(SO3.heat_kernel_series_score(x0, x, s, 1) - expected) < 1e-11


# ---- Brownian motion, Haar measure, bumps


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "walk"])
def test_small_times_have_unit_covariance(exact):
    """The rotation vector after a short s is normal of covariance s: the metric is that of the angle, 6e-7 each."""
    n, s = 20_000, 1e-4
    x0, time = points(SO3, 1).expand(n, 3, 3), torch.full((n,), 1e-4, dtype=torch.float64)
    sample = SO3.heat_kernel_sample if exact else lambda *a: Manifold.heat_kernel_sample(SO3, *a)
    w = SO3.body(x0, SO3.logmap(x0, sample(x0, time, seeded())))
    assert within(w, 0.0)
    assert within(w[:, :, None] * w[:, None] / s, torch.eye(3))


@pytest.mark.parametrize("s", [0.01, 0.5, 2.0])
def test_brownian_motion(s):
    """E of the characters: (2l + 1) exp(-l(l+1) s / 2), l = 1, 2; false alarm 6e-7 each."""
    n = 20_000
    x0 = points(SO3, 1).expand(n, 3, 3)
    omega = SO3.dist(x0, SO3.heat_kernel_sample(x0, torch.full((n,), s, dtype=torch.float64), seeded()))
    for l in (1, 2):
        character = ((2 * l + 1) * omega / 2).sin() / (omega / 2).sin()
        assert within(character, (2 * l + 1) * math.exp(-l * (l + 1) * s / 2))


@pytest.mark.parametrize("steps", [1, 5])
def test_geodesic_walk(reference, steps):
    """E tr R / 3 after N steps, exactly; false alarm 6e-7 each."""
    walk, n = SpecialOrthogonal(), 50_000
    walk.walk_steps = steps
    found = [
        record
        for record in reference("brownian_statistics")["geodesic_random_walk"]["records"]
        if record["N"] == steps and record["s"] <= 2
    ]
    assert found
    x0 = points(walk, 1).expand(n, 3, 3)
    for record in found:
        time = torch.full((n,), record["s"], dtype=torch.float64)
        x = Manifold.heat_kernel_sample(walk, x0, time, seeded())
        omega = walk.dist(x0, x)
        assert within((1 + 2 * omega.cos()) / 3, record["SO3_exp_E_chi1_over_dim"])


def test_brownian_statistics_reference(reference):
    """The constants of the tests above, at 30 digits."""
    for record in reference("brownian_statistics")["exact_statistics"]:
        s = record["s"]
        assert 3 * math.exp(-s) == pytest.approx(record["SO3_E_trace"], rel=1e-14)
        assert math.exp(-3 * s) == pytest.approx(record["SO3_E_chi_l_over_dim"]["2"], rel=1e-14)


def test_haar_measure():
    """Orthogonality of the characters, E chi_l = 0 and E chi_l^2 = 1, and of the entries; false alarm 6e-7 each."""
    x = SO3.random_uniform(50_000, 3, 3, generator=seeded(), dtype=torch.float64)
    omega = SO3.dist(SO3.origin(3, 3, dtype=torch.float64), x)
    for l in (1, 2, 3):
        character = ((2 * l + 1) * omega / 2).sin() / (omega / 2).sin()
        assert within(character, 0.0)
        assert within(character.square(), 1.0)
    entries = x.flatten(1)
    assert within(entries[:, :, None] * entries[:, None], torch.eye(9) / 3)


@pytest.mark.parametrize("width", [1e-5, 1e-3, 0.0999, 0.1001, 0.3, 1.0, 3.0])
def test_bump_is_normalised_at_every_width(width):
    """The radial integral with the area 16 pi sin^2(omega / 2) of the sphere of radius omega."""
    far = min(math.pi, 14 * width)
    node, weight = np.polynomial.legendre.leggauss(200)
    omega = torch.from_numpy((node + 1) / 2 * far)
    x = rotation_vector_to_matrix(omega[:, None] * torch.tensor([0.0, 0.0, 1.0]))
    log_prob = SO3.bump_log_prob(x, torch.eye(3).double(), torch.tensor(width, dtype=torch.float64))
    mass = 16 * math.pi * (omega / 2).sin().square() * log_prob.exp() * torch.from_numpy(weight) * far / 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)


def test_bump_constant():
    """M(3/2, 2, -2 kappa), on both sides of the switch at kappa = 100."""
    kappa = np.array([0.1, 1.0, 10.0, 99.0, 99.999, 100.001, 101.0, 150.0])
    x = torch.eye(3).double()
    found = SO3.bump_log_prob(x, x, torch.from_numpy(kappa**-0.5)) + SO3.log_volume
    expected = -np.log(scipy.special.hyp1f1(1.5, 2, -2 * kappa))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [1e-4, 0.3, 3.0])
def test_bump_draws(width):
    """E cos k omega by quadrature, evenly around; false alarm 6e-7 each."""
    n, h = 50_000, torch.tensor(width, dtype=torch.float64)
    centre = points(SO3, 1).expand(n, 3, 3)
    x = SO3.bump_sample(centre, h, seeded())
    w = SO3.body(centre, SO3.logmap(centre, x))
    node, weight = np.polynomial.legendre.leggauss(200)
    far = min(math.pi, 14 * width)
    omega = torch.from_numpy((node + 1) / 2 * far)
    at_nodes = rotation_vector_to_matrix(omega[:, None] * torch.tensor([1.0, 0.0, 0.0]))
    density = SO3.bump_log_prob(at_nodes, torch.eye(3).double(), h).exp() * (omega / 2).sin().square()
    mass = torch.from_numpy(weight) * density
    for power in (2, 4):
        expected = float((mass * (omega / width) ** power).sum() / mass.sum())
        assert within((w / width).norm(dim=-1) ** power, expected)
    assert within(w / width, 0.0)
    assert within(w[:, :1] * w[:, 1:] / width**2, 0.0)
