"""Geometry: the contract of every manifold, closed forms on spheres, reference values."""

import copy
import inspect
import itertools
import json
import math
import re

import geoopt
import numpy as np
import pytest
import scipy.special
import torch

from conftest import concrete, each, quadrature, variants, within
from helpers import every_dtype, points, tangents, worst
from rsgm.description import build, describe
from rsgm.divergence import GaussianHutchinson, Hutchinson, with_divergence
from rsgm.manifolds import Adapted, Euclidean, Manifold, Product, SpecialOrthogonal, Sphere, Torus, require_manifold

#: manifolds whose heat kernel has no formula here
UNKNOWN_KERNELS = {("Adapted", 3), ("Sphere", 5), ("Hyperbolic", 1), ("Hyperbolic", 4)}
LENGTHS = [1e-6, 1e-4, 1e-2, 1.0, 3.0, math.pi - 1e-4]
SPHERES = [Sphere(dim) for dim in (1, 2, 3, 5)]

every_manifold = pytest.mark.parametrize("make", variants(Manifold))
every_sphere = pytest.mark.parametrize("sphere", SPHERES, ids=lambda sphere: f"S{sphere.dim}")


def knows(manifold: Manifold, *methods: str) -> Manifold:
    """The manifold, if it knows these; one that stands for another of geoopt's may not, and then says so."""
    x = points(manifold, 2)
    arguments = {"logmap": (x, x), "dist": (x, x), "bump_sample": (x, torch.ones(2).to(x))}
    for method in methods:
        try:
            getattr(manifold, method)(*arguments[method])
        except NotImplementedError as error:
            assert re.match(r"Adapted\(.* has no", str(error))  # noqa: PT017
            pytest.skip(str(error))
    return manifold


def flat(manifold: Manifold, x: torch.Tensor) -> torch.Tensor:
    return x.flatten(x.dim() - len(manifold.shape))


def stretch(manifold: Manifold, *points: torch.Tensor) -> float:
    """The largest ambient length of a unit vector of the frame: what a rounding in coordinates may count for.

    One where the metric is the ambient one; on hyperbolic space it grows with the distance from the origin.
    """
    return max(1.0, *(worst(flat(manifold, manifold.frame(x)).norm(dim=-1)) for x in points))


EVERY = [param.values[0]() for param in variants(Manifold)]


def has_kernel(manifold: Manifold) -> bool:
    x = points(manifold, 1)
    try:
        manifold.heat_kernel_score(x, x, torch.ones(1, dtype=torch.float64))
    except NotImplementedError:
        return False
    return True


def named(manifold: Manifold) -> str:
    return f"{type(manifold).__name__}{manifold.dim}"


every_integrable = pytest.mark.parametrize("manifold", [m for m in EVERY if m.unit_cube_extent], ids=named)
every_kernel = pytest.mark.parametrize("manifold", [m for m in EVERY if has_kernel(m)], ids=named)


# ---- the contract: construction


@every_manifold
def test_needs_no_arguments_and_is_described(make):
    for manifold in (make.func(), make()):
        description = describe(manifold)
        again = build(json.loads(json.dumps(description)), Manifold)
        assert type(again) is make.func
        assert (again.dim, again.shape, again.log_volume) == (manifold.dim, manifold.shape, manifold.log_volume)
        assert str(manifold) == str(again)
        assert f"dim={manifold.dim}" in str(manifold)


@every_manifold
def test_manifolds_are_values(make):
    """Equal by class and arguments, so that they may be keys; those with parameters are themselves alone."""
    first, second = make(), make()
    alone = any(True for _ in first.parameters())
    assert first == first
    assert (first == second, len({first, second})) == ((False, 2) if alone else (True, 1))
    assert first != Sphere(7)
    assert first != str(first)
    assert copy.deepcopy(first) == first or alone
    assert re.fullmatch(rf"{type(first).__name__}\(.*\)", repr(first))
    assert "manifold" not in repr(first)


def test_equal_manifolds_with_parameters_both_move():
    """Torch converts one of two equal modules only: the curvature of each of two geoopt spaces is converted."""
    product = Product([Adapted(geoopt.Lorentz, (3,)), Adapted(geoopt.Lorentz, (3,))]).double()
    assert [factor.base.k.dtype for factor in product.factors] == [torch.float64] * 2


def test_a_manifold_is_required():
    assert require_manifold(Sphere(3), "Model") == Sphere(3)
    for value, message in {
        Sphere: r"Model: expected a manifold, found the class Sphere; write Sphere\(\.\.\.\)",
        geoopt.Sphere(): r"Model: expected a manifold of rsgm, found geoopt's Sphere; .*Adapted\(geoopt\.Sphere",
        geoopt.Lorentz: r"Adapted\(geoopt\.Lorentz",
        "Sphere": r"Model: expected a manifold, such as Sphere\(2\), found 'Sphere'",
    }.items():
        with pytest.raises(TypeError, match=message):
            require_manifold(value, "Model")
    with pytest.raises(TypeError, match=r"Product: .*geoopt's Sphere"):
        Product([geoopt.Sphere()])


@every_manifold
def test_vector_spaces(make):
    manifold = make()
    if type(manifold) is Euclidean:
        manifold.require_vector_space("Law")
        Product([manifold, manifold]).require_vector_space("Law")
        return
    with pytest.raises(ValueError, match=r"Law: .* is not a vector space; choose Euclidean"):
        manifold.require_vector_space("Law")


@pytest.mark.parametrize("cls", each(Manifold))
def test_dimension_is_checked(cls):
    if "dim" not in inspect.signature(cls).parameters:
        pytest.skip("has one dimension only")
    for dim in (0, -1, 1.5, math.nan, None):
        with pytest.raises(ValueError, match=f"{cls.__name__}: dim must be .*found {dim}"):
            cls(dim)


@pytest.mark.parametrize("volume", [0.0, -1.0, math.nan, math.inf])
def test_volume_is_checked(volume):
    with pytest.raises(ValueError, match="Adapted: volume must be positive and finite, or None"):
        Adapted(volume=volume)


# ---- the contract: what is a point, and what a tangent vector


@every_manifold
def test_what_is_no_point_is_refused_with_a_reason(make):
    """Of any tensor, and without an error: by the public methods and by those that geoopt calls."""
    manifold, x = make(), points(make(), 3, torch.float32)
    u, size = tangents(manifold, x), torch.Size(manifold.shape).numel()
    assert manifold.check_point_on_manifold(x, explain=True) == (True, None)
    assert manifold.check_vector_on_tangent(x, u, explain=True) == (True, None)
    bad = {
        "does not end with": [
            torch.ones(3, *manifold.shape[:-1], manifold.shape[-1] + 1),
            torch.ones(*manifold.shape[:-1], 1 if manifold.shape[-1] > 1 else 2),
            torch.ones(()),
        ],
        "not of floating point numbers": [torch.ones(3, *manifold.shape, dtype=torch.int64), x.to(torch.complex64)],
        "not finite": [
            x.clone().flatten().index_fill(0, torch.tensor(size), value).reshape(x.shape)
            for value in (math.nan, math.inf, -math.inf)
        ],
    }
    for reason, values in bad.items():
        for value in values:
            for check, arguments in (
                (manifold.check_point_on_manifold, (value,)),
                (manifold._check_point_on_manifold, (value,)),
                (manifold.check_vector_on_tangent, (x, value)),
                (manifold._check_vector_on_tangent, (x, value)),
            ):
                options = {"explain": True} if check.__name__[0] != "_" else {}
                ok, found = check(*arguments, **options)
                assert ok is False, (check, value)
                assert reason in found, (check, value)


@every_manifold
def test_what_is_near_is_refused(make):
    """One point of many that is off, by more than the tolerance: but flat space has no outside."""
    manifold = make()
    x = points(manifold, 4)
    off = x.clone()
    off[2] = off[2] * 1.01 + 0.01
    outside = manifold.dim < x[0].numel()
    assert manifold.check_point_on_manifold(off) is not outside
    u = tangents(manifold, x)
    normal = x - manifold.proju(x, x)
    u[1] = u[1] + 1e-2 * normal[1] + 1e-2 * off[1] * outside
    assert manifold.check_vector_on_tangent(x, u) is not outside


@every_manifold
def test_vectors_of_components(make):
    """The sum over the frame, for any leading axes."""
    manifold = make()
    x = points(manifold, 5)
    components = torch.randn(2, 5, manifold.dim, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = torch.einsum("kba,ba...->kb...", components, manifold.frame(x).movedim(0, 1))
    rounding = 1e-14 * stretch(manifold, x) ** 2
    for found in (manifold.from_frame(x, components), Manifold.from_frame(manifold, x, components)):
        assert worst(found - expected) < 10 * rounding
    assert worst(manifold.from_frame(x, components[0]) - expected[0]) < 10 * rounding


@every_manifold
def test_probes_build_no_frame(make, monkeypatch):
    """So that one costs what one direction costs, whatever the dimension."""
    manifold, x = make(), points(make(), 5)
    if type(manifold) is Adapted:
        pytest.skip("its frame has no formula")
    parts = {type(part) for part in (manifold, *manifold.factors)}
    for cls in parts:
        monkeypatch.setattr(cls, "frame", lambda self, x: pytest.fail("the frame was built"))
    for estimator in (Hutchinson(), GaussianHutchinson()):
        assert estimator.directions(manifold, x).shape == (1, *x.shape)


# ---- the contract: exponential, logarithm, distance, transport


@every_dtype
@every_manifold
def test_log_inverts_exp(make, dtype):
    manifold = knows(make(), "logmap", "dist")
    x = points(manifold, 200, dtype)
    for length in LENGTHS:
        u = tangents(manifold, x, length)
        y = manifold.expmap(x, u)
        # y is stored with a rounding error of eps per unit; next to the cut locus it turns the logarithm by eps / rest
        rounding = torch.finfo(dtype).eps * (1 + worst(x)) * stretch(manifold, x, y)
        condition = 1 + length / min(1.0, math.pi - length)
        assert worst(manifold.logmap(x, y) - u) < 4 * rounding * condition, length
        # the vector that is stored has this length to eps, relatively
        assert worst(manifold.dist(x, y) - length) < 4 * rounding * max(1.0, length), length
        assert manifold.check_point_on_manifold(y, atol=4 * rounding, rtol=0), length
        assert manifold.check_vector_on_tangent(x, manifold.logmap(x, y), atol=8 * rounding, rtol=0), length


@every_dtype
@every_manifold
def test_exp_inverts_log(make, dtype):
    manifold = knows(make(), "logmap", "dist")
    x, y = points(manifold, 500, dtype), points(manifold, 500, dtype, seed=3)
    near = manifold.expmap(x, tangents(manifold, x, 1e-6))
    rounding = torch.finfo(dtype).eps * (1 + worst(x)) * stretch(manifold, x, y)
    for z in (y, near, x):
        assert worst(manifold.expmap(x, manifold.logmap(x, z)) - z) < 8 * rounding
        assert worst(manifold.dist(x, z) - manifold.squared_norm(x, manifold.logmap(x, z)).sqrt()) < 8 * rounding
        assert torch.equal(manifold.dist(x, z), manifold.dist(z, x))
    assert worst(manifold.dist(x, x)) == worst(manifold.logmap(x, x)) == 0


@every_dtype
@every_manifold
def test_many_steps_do_not_drift_off(make, dtype):
    """After 300 steps a point lies on the manifold as one that was projected does: roundings do not add up."""
    manifold = make()
    if isinstance(manifold, Adapted):
        pytest.skip("geoopt's exponential map of frames does not project: 80 roundings after 300 steps")
    x = points(manifold, 20, dtype)
    generator = torch.Generator().manual_seed(2)
    for _ in range(300):
        x = manifold.expmap(x, 0.05 * manifold.random_tangent(x, generator))
    assert worst(manifold.projx(x) - x) <= 4 * torch.finfo(dtype).eps * worst(x)


@every_dtype
@every_manifold
def test_small_distances_keep_their_digits(make, dtype):
    """Of the points as they are stored: against the chord of the same points in long double."""
    manifold = knows(make(), "dist")
    x = points(manifold, 200, dtype)
    y = manifold.expmap(x, tangents(manifold, x, 1e-4))
    a, b = (flat(manifold, manifold.projx(z.double())).numpy().astype(np.longdouble) for z in (x, y))
    # the geodesic lies within O(distance^2) of the chord
    gap = torch.from_numpy((a - b).astype(float)).reshape(x.shape)
    chord = manifold.inner(x.double(), gap, gap).sqrt().numpy()
    found = manifold.dist(x, y).numpy().astype(np.longdouble)
    assert (abs(found / chord - 1)).max() < (1e-5 if dtype == torch.float32 else 1e-8)


@every_dtype
@every_manifold
def test_transport(make, dtype):
    manifold = knows(make(), "logmap")
    for length in (0.0, 1e-6, 1.0, 3.0):
        x = points(manifold, 200, dtype)
        v = tangents(manifold, x, length or None) * (length > 0)
        y = manifold.expmap(x, v)
        u, w = tangents(manifold, x, seed=4), tangents(manifold, x, seed=5)
        there = [manifold.transp(x, y, z) for z in (u, w)]
        # the shortest geodesic turns by eps / rest where the rest to the cut locus is short
        rounding = 8 * torch.finfo(dtype).eps * (1 + worst(x)) / min(1.0, math.pi - length) * stretch(manifold, x, y)
        scale = max(worst(u), worst(w)) ** 2 * manifold.dim
        assert worst(manifold.inner(y, *there) - manifold.inner(x, u, w)) < rounding * scale
        assert manifold.check_vector_on_tangent(y, there[0], atol=rounding * scale, rtol=0)
        assert worst(manifold.transp(y, x, there[0]) - u) < rounding * scale
        assert worst(manifold.transp(x, y, manifold.logmap(x, y)) + manifold.logmap(y, x)) < rounding * scale
    assert worst(manifold.transp(x, x, u) - u) < rounding * scale


@every_manifold
def test_injectivity_radius(make):
    """Up to it distances are lengths, beyond it some geodesic is no longer shortest; where it is infinite all are."""
    manifold = knows(make(), "dist")
    x = points(manifold, 20)
    radius = manifold.injectivity_radius
    u = tangents(manifold, x, 5.0 if math.isinf(radius) else radius - 0.1)
    assert worst(manifold.dist(x, manifold.expmap(x, u)) - manifold.squared_norm(x, u).sqrt()) < 1e-8
    if math.isfinite(radius):
        beyond = [manifold.dist(x, manifold.expmap(x, (radius + 0.1) * e)).min() for e in manifold.frame(x)]
        assert min(beyond) < radius


@every_manifold
def test_smooth_frames_do_not_jump(make):
    """Along geodesics that go half round a sphere; a jump would be as large as the frame."""
    manifold = make()
    if not manifold.smooth_frame:
        pytest.skip("the frame is not said to be smooth")
    x = points(manifold, 20)
    u = tangents(manifold, x, 3.0)
    frames = [manifold.frame(manifold.expmap(x, t * u)) for t in torch.linspace(0, 1, 301, dtype=x.dtype)]
    for one, other in itertools.pairwise(frames):
        assert worst(other - one) < 0.1 * worst(one)


@every_manifold
def test_periods(make):
    """Where lengths are those of coordinates, and only there, each axis closes after its period, and not before."""
    manifold = knows(make(), "dist")
    origin = points(manifold, 1)
    at = origin.expand(20, *manifold.shape)
    y = 0.5 * torch.randn(2, 20, manifold.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = (manifold.expmap(at, manifold.from_frame(at, part)) for part in y)
    distance = manifold.dist(one, other)
    assert len(manifold.periods) == manifold.dim * torch.allclose(distance, (y[0] - y[1]).norm(dim=-1), atol=1e-6)
    for axis, period in zip(manifold.frame(origin), manifold.periods, strict=bool(manifold.periods)):
        turn = min(period, 30.0)
        closed, half = (float(manifold.dist(origin, manifold.expmap(origin, t * axis))) for t in (turn, turn / 2))
        assert half == pytest.approx(turn / 2)
        assert closed == pytest.approx(0 if math.isfinite(period) else turn, abs=1e-6)


@every_manifold
def test_kept_dimensions_multiply_points(make):
    manifold = make()
    x = points(manifold, 6).reshape(2, 3, *manifold.shape)
    u, v = (manifold.random_tangent(x, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    product = manifold.inner(x, u, v)
    kept = manifold.inner(x, u, v, keepdim=True)
    assert product.shape == (2, 3)
    assert kept.shape == (2, 3, *(1,) * len(manifold.shape))
    assert torch.equal(kept.flatten(), product.flatten())
    knows(manifold, "dist")
    distance = manifold.dist(x, x.flip(0), keepdim=True)
    assert distance.shape == kept.shape
    assert torch.equal(distance.flatten(), manifold.dist(x, x.flip(0)).flatten())


# ---- the contract: derivatives where a naive formula divides zero by zero


def modes(function, x, y):
    """The Jacobians ``(B, out, in)`` of ``y -> function(x, y)`` in each way that the package differentiates."""
    leaf = y.clone().requires_grad_()
    value = function(x, leaf)
    entries = value.reshape(len(x), -1).sum(0)
    yield "autograd", torch.stack([torch.autograd.grad(e, leaf, retain_graph=True)[0].flatten(1) for e in entries], 1)
    for name, jacobian in ("vmap of jacrev", torch.func.jacrev), ("vmap of jacfwd", torch.func.jacfwd):
        found = torch.func.vmap(lambda a, b, jacobian=jacobian: jacobian(lambda c: function(a, c))(b))(x, y)
        yield name, found.reshape(len(x), -1, y[0].numel())
    basis = torch.eye(y[0].numel(), dtype=y.dtype).reshape(-1, *y.shape[1:])
    columns = [torch.func.jvp(lambda b: function(x, b), (y,), (e.expand_as(y),))[1] for e in basis]
    yield "jvp", torch.stack(columns, -1).reshape(len(x), -1, len(basis))


@every_dtype
@every_manifold
def test_derivatives_at_zero(make, dtype):
    """To first order exp at u = 0 and log at y = x are the identity on tangent vectors."""
    manifold = knows(make(), "logmap", "dist")
    x = points(manifold, 3, dtype)
    u = tangents(manifold, x)
    rounding = 16 * torch.finfo(dtype).eps * (1 + worst(x)) * worst(u)
    cases = {"exp": (manifold.expmap, torch.zeros_like(x)), "log": (manifold.logmap, x)}
    for name, (function, at) in cases.items():
        for mode, jacobian in modes(function, x, at):
            pushed = torch.einsum("bij,bj->bi", jacobian, u.flatten(1))
            assert worst(pushed - u.flatten(1)) < rounding, (name, mode)
    for mode, gradient in modes(manifold.dist, x, x):
        # any subgradient will do
        assert torch.isfinite(gradient).all(), mode
        assert gradient.norm(dim=-1).max() < 1 + rounding, mode


@every_dtype
@every_manifold
def test_derivatives_of_what_is_near_zero_and_far(make, dtype):
    """At every length forward and backward agree, and along the geodesic the derivative of the distance is one."""
    manifold = knows(make(), "logmap", "dist")
    for length in LENGTHS:
        x = points(manifold, 20, dtype)
        u = tangents(manifold, x, length)
        y = manifold.expmap(x, u).requires_grad_()
        (gradient,) = torch.autograd.grad(manifold.dist(x, y).sum(), y)
        away = -manifold.logmap(y.detach(), x) / length
        # the direction at y is known to eps / length, and eps / rest
        known = torch.finfo(dtype).eps / min(1, length, math.pi - length)
        slope = flat(manifold, gradient * away).sum(-1)
        known = known * (1 + worst(x)) * stretch(manifold, x, y.detach())
        assert worst(slope - 1) < 16 * known, length
        _, forward = torch.func.jvp(lambda z, x=x: manifold.dist(x, z), (y.detach(),), (away,))
        assert worst(forward - slope) < 16 * known, length


# ---- the contract: projections, frame, tangent draws


@every_dtype
@every_manifold
def test_projections_are_idempotent(make, dtype):
    manifold = make()
    anywhere = 3 * torch.randn(200, *manifold.shape, generator=torch.Generator().manual_seed(7), dtype=dtype)
    # a matrix is projected by a decomposition, which rounds more often
    rounding = 4 ** len(manifold.shape) * torch.finfo(dtype).eps
    x = manifold.projx(anywhere)
    assert worst(manifold.projx(x) - x) <= rounding * worst(x)
    assert manifold.check_point_on_manifold(x, atol=rounding, rtol=0)
    # a projection along the normal of another product lengthens vectors
    rounding = rounding * stretch(manifold, x) ** 2
    u = manifold.proju(x, anywhere)
    scale = max(worst(anywhere), worst(u))
    assert worst(manifold.proju(x, u) - u) <= rounding * scale
    assert manifold.check_vector_on_tangent(x, u, atol=2 * rounding * scale, rtol=0)
    # orthogonal: what is taken away is normal
    assert worst(manifold.inner(x, u, manifold.proju(x, anywhere - u))) <= 2 * rounding * scale**2


@every_dtype
@every_manifold
def test_frame(make, dtype):
    manifold = make()
    origin = manifold.origin(manifold.dim, *manifold.shape, dtype=dtype)
    turns = [
        manifold.expmap(origin, angle * manifold.frame(origin[0])) for angle in (-math.pi / 2, math.pi / 2, math.pi)
    ]
    x = manifold.projx(torch.cat([points(manifold, 100, dtype), origin, *turns]))
    frame = manifold.frame(x)
    assert frame.shape == (manifold.dim, *x.shape)
    assert frame.dtype == dtype
    gram = manifold.inner(x, frame[:, None], frame[None])
    rounding = 8 * torch.finfo(dtype).eps * stretch(manifold, x) ** 2
    assert worst(gram - torch.eye(manifold.dim, dtype=dtype)[..., None]) < rounding
    for e in frame:
        assert manifold.check_vector_on_tangent(x, e, atol=rounding, rtol=0)


@every_manifold
def test_tangent_draws_are_standard_normal(make):
    """Mean, covariance and fourth moment at one point; 5 standard errors, false alarm 6e-7 per number."""
    manifold = make()
    n = 10_000
    x = points(manifold, 1).expand(n, *manifold.shape)
    z = manifold.random_tangent(x, torch.Generator().manual_seed(0))
    components = manifold.inner(x, manifold.frame(x), z[None]).T
    # all of the vector is tangent
    assert worst(components.square().sum(-1) - manifold.squared_norm(x, z)) < 1e-12 * stretch(manifold, x)
    assert within(components, 0.0)
    assert within(components[:, :, None] * components[:, None], torch.eye(manifold.dim))
    assert within(components**4, 3.0)


@every_dtype
@every_manifold
def test_origin(make, dtype):
    """On the manifold, the same each time whatever the seed, repeated."""
    manifold = make()
    x = manifold.origin(*manifold.shape, dtype=dtype)
    assert x.shape == manifold.shape
    assert x.dtype == dtype
    assert manifold.check_point_on_manifold(x, atol=0, rtol=0)
    assert torch.equal(manifold.origin(2, 3, *manifold.shape, dtype=dtype, seed=7), x.expand(2, 3, *manifold.shape))
    with pytest.raises(ValueError, match=r"size must end with it.*found \(5, 99\)"):
        manifold.origin(5, 99)


# ---- the contract: volume, uniform draws


@every_manifold
def test_log_det_exp(make):
    """The log-determinant of the Jacobian of exp in orthonormal frames; zero at zero."""
    manifold = make()
    x = points(manifold, 20)
    try:
        manifold.log_det_exp(x, torch.zeros_like(x))
    except NotImplementedError:
        pytest.skip("does not know the volume distortion of its exponential map")
    for length in (1e-6, 1e-3, 0.0099, 0.0101, 0.1, 1.0, 3.0):
        u = tangents(manifold, x, length)
        push = torch.func.vmap(lambda e, u=u: torch.func.jvp(lambda v: manifold.expmap(x, v), (u,), (e,))[1])
        y, pushed = manifold.expmap(x, u), push(manifold.frame(x))
        jacobian = manifold.inner(y, manifold.frame(y)[:, None], pushed[None])
        expected = torch.linalg.slogdet(jacobian.permute(2, 0, 1))[1]
        assert worst(manifold.log_det_exp(x, u) - expected) < 1e-12
    at_zero = manifold.log_det_exp(x, torch.zeros_like(x))
    assert at_zero.shape == (20,)
    assert worst(at_zero) < 1e-16
    _, slope = torch.func.jvp(lambda v: manifold.log_det_exp(x, v), (torch.zeros_like(x),), (tangents(manifold, x),))
    assert worst(slope) == 0


@every_manifold
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal_coordinates(make, dtype):
    """exp of them leads to the other point, also to the same, to a near one, and to one that is as far as can be."""
    manifold = make()
    x0 = points(manifold, 8)
    far = manifold.expmap(x0, tangents(manifold, x0, min(manifold.injectivity_radius, 3.0)))
    x0, x = x0.to(dtype), torch.cat([x0, manifold.expmap(x0, tangents(manifold, x0, 1e-5)), far]).to(dtype)
    frame = manifold.frame(x0)
    try:
        v, log_det = manifold.normal_coordinates(x0, frame, x)
    except NotImplementedError:
        pytest.skip("does not know the logarithm or the volume distortion of its exponential map")
    assert v.shape == (8, 24, manifold.dim)
    assert v.dtype == log_det.dtype == dtype
    u = torch.stack([manifold.from_frame(x0, part) for part in v.unbind(1)], 1)
    reached = manifold.expmap(x0[:, None].expand_as(u), u)
    # hyperbolic coordinates grow with the distance
    assert worst((reached - x[None]) / x.abs().max()) < (2e-5 if dtype == torch.float32 else 1e-10)
    diagonal = torch.arange(8)
    # a fault at 1e-5 counts beside a width of 1e-4
    assert worst(v[diagonal, diagonal]) < (1e-7 if dtype == torch.float32 else 1e-15)
    expected = manifold.log_det_exp(x0[:, None].expand_as(u), u)
    assert worst((log_det - expected) * expected.clamp_max(0).exp()) < (3e-5 if dtype == torch.float32 else 1e-10)


@every_manifold
def test_derivatives_of_the_volume_of_exp(make):
    """Those that a manifold gives in closed form are the ones that the base class finds by differentiating."""
    manifold = make()
    x = points(manifold, 20)
    y = manifold.expmap(x, tangents(manifold, x, 1.5))
    try:
        manifold.log_det_exp(x, torch.zeros_like(x))
    except NotImplementedError:
        pytest.skip("does not know the volume distortion of its exponential map")
    for method in ("log_det_exp_gradient", "log_det_exp_laplacian"):
        found, expected = getattr(manifold, method)(x, y), getattr(Manifold, method)(manifold, x, y)
        assert worst(found - expected) < 1e-7 * (1 + worst(expected)), method
    near = manifold.expmap(x, tangents(manifold, x, 1e-4))
    at_centre, close_by = manifold.log_det_exp_laplacian(x, x), manifold.log_det_exp_laplacian(x, near)
    assert worst(at_centre - close_by) < 1e-5 * (1 + worst(close_by))


@every_manifold
def test_volume_preserving_chart(make):
    """The volume of its Jacobian is the same everywhere: the manifold's; and it is one to one."""
    manifold = make()
    u = torch.rand(200, manifold.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        x = manifold.from_unit_cube(u)
    except NotImplementedError as error:
        assert "no volume-preserving chart" in str(error)  # noqa: PT017
        assert manifold.unit_cube_extent == ()
        return
    assert manifold.check_point_on_manifold(x, atol=1e-14, rtol=0)
    columns = torch.func.vmap(torch.func.jacrev(manifold.from_unit_cube))(u).movedim(-1, 0)
    gram = manifold.inner(x, columns[:, None], columns[None]).permute(2, 0, 1)
    assert worst(torch.linalg.det(gram).log() / 2 - manifold.log_volume) < 1e-10
    assert torch.unique((1e6 * x).round(), dim=0).shape == x.shape
    assert len(manifold.unit_cube_extent) == manifold.dim


GRIDS = [
    *SPHERES[:3],
    Torus(2),
    Torus(5),
    SpecialOrthogonal(),
    Product([Sphere(2), Sphere(1)]),
    Product([Torus(2)] * 2),
]


@pytest.mark.parametrize("manifold", GRIDS, ids=str)
@pytest.mark.parametrize("n", [1, 50, 3000])
def test_grids(manifold, n, generator):
    """Volumes add up; heat kernels anywhere are integrated to the error that `Manifold.grid` states."""
    points, volume = manifold.grid(n)
    assert points.shape == (len(volume), *manifold.shape)
    assert points.dtype == volume.dtype == torch.float64
    assert manifold.check_point_on_manifold(points, atol=1e-14, rtol=0)
    assert (volume > 0).all()
    assert float(volume.sum().log()) == pytest.approx(manifold.log_volume, abs=1e-12)
    spacing = (math.exp(manifold.log_volume) / n) ** (1 / manifold.dim)
    if n > 100:
        assert n / 1.5 < len(volume) < 1.5 * n
    for centre in manifold.random_uniform(5, *manifold.shape, generator=generator, dtype=torch.float64):
        for width, error in ((spacing, 1e-3), (2 * spacing, 1e-6)):
            s = torch.tensor(width**2, dtype=torch.float64)
            kernel = manifold.heat_kernel_log_prob(centre.expand_as(points), points, s).exp()
            assert abs(float(kernel @ volume) - 1) < error


@every_manifold
def test_grids_where_there_are_none(make):
    manifold = make()
    for n in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match=r"grid: n must be an integer of at least 1"):
            manifold.grid(n)
    if manifold in GRIDS or manifold.unit_cube_extent:
        manifold.grid(3)
        return
    with pytest.raises(ValueError, match=r"has infinite volume, so no grid; choose|has no grid, .*random_uniform"):
        manifold.grid(3)


@every_manifold
def test_uniform_draws(make):
    """Fill the volume of a compact manifold; elsewhere there are none. False alarm 6e-7 per number."""
    manifold = make()
    if math.isinf(manifold.log_volume):
        with pytest.raises(ValueError, match="infinite volume"):
            manifold.random_uniform(5, *manifold.shape)
        return
    x = manifold.random_uniform(
        10_000, *manifold.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert manifold.check_point_on_manifold(x, atol=1e-14, rtol=0)
    torch.testing.assert_close(
        manifold.random(5, *manifold.shape, generator=torch.Generator().manual_seed(0)),
        manifold.random_uniform(5, *manifold.shape, generator=torch.Generator().manual_seed(0)),
        rtol=0,
        atol=0,
    )
    with pytest.raises(ValueError, match=r"size must end with it.*found \(5, 99\)\. For 5 points give 5, "):
        manifold.random_uniform(5, 99)
    if not manifold.unit_cube_extent:
        return
    nodes, weights = quadrature(manifold, 12)
    features = [flat(manifold, y) for y in (x, nodes)]
    for moment in (lambda y: y, lambda y: y[:, :, None] * y[:, None], lambda y: y**4):
        values, at_nodes = (moment(y) for y in features)
        expected = torch.tensordot(weights / weights.sum(), at_nodes, 1)
        assert within(values, expected)


@every_manifold
def test_draws_are_functions_of_the_generator(make):
    manifold = knows(make(), "bump_sample")
    x = points(manifold, 4, torch.float32)
    s = torch.tensor(0.3).expand(4)
    draws = {
        "random_tangent": lambda g: manifold.random_tangent(x, g),
        "bump_sample": lambda g: manifold.bump_sample(x, s, g),
        "heat_kernel_sample": lambda g: manifold.heat_kernel_sample(x, s, g),
    }
    if math.isfinite(manifold.log_volume):
        draws["random_uniform"] = lambda g: manifold.random_uniform(4, *manifold.shape, generator=g)
    for name, draw in draws.items():
        torch.manual_seed(0)
        one, same, other = (draw(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same), name
        assert not torch.equal(one, other), name
        assert one.dtype == torch.float32, name
        # and of nothing else: the global generator is where it was
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0))), name
        assert not torch.equal(draw(None), draw(None)), name


@every_dtype
@every_manifold
def test_bumps_of_any_width_end(make, dtype):
    """The centre at width zero and nearly, the uniform law where it is huge, NaN where it is NaN; none hangs."""
    manifold = knows(make(), "bump_sample")
    n, compact = 2000, math.isfinite(manifold.log_volume)
    centre = points(manifold, 1, dtype).expand(n, *manifold.shape)

    def draw(width):
        return manifold.bump_sample(centre, torch.tensor(width, dtype=dtype), torch.Generator().manual_seed(0))

    rounding = 32 * torch.finfo(dtype).eps * stretch(manifold, centre[:1]) ** 2
    for width in (0.0, 1e-45, 1e-30, 1e-20):
        assert worst(draw(width) - centre) < rounding, width
    # squares of a normal vector, where they are above the rounding
    for width in (1e-12, 1e-9) if dtype == torch.float64 else (1e-4,):
        u = manifold.logmap(centre, draw(width))
        assert within(manifold.squared_norm(centre, u).double() / width**2, manifold.dim, sigmas=6)
    assert draw(math.nan).isnan().all()
    if compact:
        for width in (1e4, 1e8, 1e12, 1e25, math.inf):
            x = draw(width)
            assert manifold.check_point_on_manifold(x, atol=rounding, rtol=0), width
            assert within(flat(manifold, x), 0.0), width
            log_prob = manifold.bump_log_prob(x, centre, torch.tensor(min(width, 1e12), dtype=dtype))
            assert worst(log_prob + manifold.log_volume) < 1e-5, width


# ---- the contract: divergence of projected fields


@every_manifold
def test_mean_curvature(make):
    """div P(Ax + b) = sum <e, A e> + <H, Ax + b>, the left side by differentiating the projected field."""
    manifold = make()
    size = torch.Size(manifold.shape).numel()
    random = torch.Generator().manual_seed(8)
    matrix = torch.randn(size, size, generator=random, dtype=torch.float64)
    offset = torch.randn(size, generator=random, dtype=torch.float64)
    x = points(manifold, 50)

    def ambient(y):
        return (flat(manifold, y) @ matrix.T + offset).reshape(y.shape)

    def field(y):
        y = manifold.projx(y)
        return manifold.proju(y, ambient(y))

    frame = manifold.frame(x)
    pushed = (flat(manifold, frame) @ matrix.T).reshape(frame.shape)
    curvature = manifold.projection_trace(x)
    expected = manifold.inner(x, frame, pushed).sum(0) + manifold.inner(x, curvature, ambient(x))
    # differences along geodesics stand for derivatives where there is no formula
    rounding = (1e-11 if type(manifold) is Adapted else 1e-12) * stretch(manifold, x) ** 2
    assert worst(with_divergence(field, manifold, x, frame)[1] - expected) < rounding
    # the mean curvature is normal, but for what the connection adds to any field's divergence
    for e in frame:
        assert worst(manifold.inner(x, curvature, e) - manifold.connection_trace(x, e)) < 1e-2 * rounding


# ---- the contract: bumps and heat kernels


@every_integrable
@pytest.mark.parametrize("width", [0.15, 0.6, 3.0])
def test_bump_is_normalised_and_sampled(manifold, width):
    """False alarm 6e-7 per number."""
    centre = points(manifold, 1, seed=9)[0]
    h = torch.tensor(width, dtype=torch.float64)
    nodes, weights = quadrature(manifold, 40 if manifold.dim < 3 else 30)
    mass = weights * manifold.bump_log_prob(nodes, centre, h).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-8)
    x = manifold.bump_sample(centre.expand(5000, *manifold.shape), h, torch.Generator().manual_seed(0))
    assert manifold.check_point_on_manifold(x, atol=1e-14, rtol=0)
    features = flat(manifold, x), flat(manifold, nodes)
    for moment in (lambda y: y, lambda y: y[:, :, None] * y[:, None]):
        values, at_nodes = (moment(y) for y in features)
        assert within(values, torch.tensordot(mass, at_nodes, 1))
    surprise = manifold.bump_log_prob(x, centre, h)
    assert within(surprise, float(mass @ manifold.bump_log_prob(nodes, centre, h)))


@every_integrable
@pytest.mark.parametrize("s", [0.03, 0.5, 2.0])
def test_heat_kernel_is_normalised_and_sampled(manifold, s):
    """False alarm 6e-7 per number."""
    centre = points(manifold, 1, seed=9)[0]
    time = torch.tensor(s, dtype=torch.float64)
    nodes, weights = quadrature(manifold, 40 if manifold.dim < 3 else 30)
    log_prob = manifold.heat_kernel_log_prob(centre.expand_as(nodes), nodes, time.expand(len(nodes)))
    mass = weights * log_prob.exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    start = centre.expand(5000, *manifold.shape)
    x = manifold.heat_kernel_sample(start, time.expand(len(start)), torch.Generator().manual_seed(0))
    assert manifold.check_point_on_manifold(x, atol=1e-14, rtol=0)
    features = flat(manifold, x), flat(manifold, nodes)
    for moment in (lambda y: y, lambda y: y[:, :, None] * y[:, None]):
        values, at_nodes = (moment(y) for y in features)
        assert within(values, torch.tensordot(mass, at_nodes, 1))


@every_manifold
def test_heat_kernels_at_a_number(make):
    """A variance time may be a number or an array, and stands for all points, whose precision is kept."""
    manifold, dtype = make(), torch.float32
    x0, x = points(manifold, 3, dtype, seed=4), points(manifold, 3, dtype, seed=5)
    calls = [lambda s: manifold.heat_kernel_sample(x0, s, torch.Generator().manual_seed(0))]
    if (type(manifold).__name__, manifold.dim) not in UNKNOWN_KERNELS:
        calls += [lambda s: manifold.heat_kernel_log_prob(x0, x, s), lambda s: manifold.heat_kernel_score(x0, x, s)]
    if type(manifold) in (Sphere, Torus, SpecialOrthogonal):
        calls.append(lambda s: manifold.heat_kernel_series_score(x0, x, s, terms=5))
    for call in calls:
        expected = call(torch.full((3,), 0.3, dtype=dtype))
        for s in (0.3, np.array(0.3), torch.tensor(0.3, dtype=dtype)):
            torch.testing.assert_close(call(s), expected, rtol=0, atol=0)
        assert call(1).dtype == dtype


@every_manifold
def test_heat_kernel_score_is_the_gradient(make):
    manifold = make()
    x0, x = points(manifold, 50, seed=10), points(manifold, 50, seed=11)
    for s in (0.02, 0.4, 1.49, 3.0):
        time = torch.full((50,), s, dtype=torch.float64)
        try:
            score = manifold.heat_kernel_score(x0, x, time)
        except NotImplementedError as error:
            assert "ImplicitScoreMatching" in str(error)  # noqa: PT017
            with pytest.raises(NotImplementedError, match="no known density"):
                manifold.heat_kernel_log_prob(x0, x, time)
            assert (type(manifold).__name__, manifold.dim) in UNKNOWN_KERNELS
            return
        y = x.clone().requires_grad_()
        log_prob = manifold.heat_kernel_log_prob(x0, manifold.projx(y), time)
        (gradient,) = torch.autograd.grad(log_prob.sum(), y)
        gradient = manifold.egrad2rgrad(x, gradient)
        assert worst(gradient - score) < 1e-8 * worst(score)
        # a score at one's own place is a zero vector, and a flow has a divergence there
        assert worst(manifold.heat_kernel_score(x, x, time)) < 1e-12
        _, divergence = with_divergence(
            lambda z, t=time: manifold.heat_kernel_score(x, manifold.projx(z), t), manifold, x, manifold.frame(x)
        )
        assert torch.isfinite(divergence).all()
        assert (divergence < 0).all()


@every_kernel
def test_score_in_float32(manifold):
    """At every distance the score leads back to x0, is tangent, and has the digits that the stored points allow."""
    for s, length in itertools.product([1e-6, 1e-3, 0.5, 3.0], LENGTHS):
        x0 = points(manifold, 100, torch.float32)
        x = manifold.expmap(x0, tangents(manifold, x0, length))
        time = torch.full((100,), s)
        score = manifold.heat_kernel_score(x0, x, time)
        doubles = manifold.projx(x0.double()), manifold.projx(x.double())
        expected = manifold.heat_kernel_score(*doubles, time.double())
        # the direction is known to eps over the distance, and over the rest to the antipode
        known = 1.2e-7 * (1 + worst(x0)) * stretch(manifold, x0, x) * (1 + 1 / min(length, math.pi - length))
        assert worst(score - expected) < 16 * known * worst(expected), (s, length)
        # the projection itself multiplies by the point twice
        assert worst(score - manifold.proju(x, score)) < 1e-6 * stretch(manifold, x) ** 2 * worst(score), (s, length)
        assert (manifold.inner(x, score, manifold.logmap(x, x0)) > 0).all(), (s, length)


@every_kernel
def test_heat_kernels_at_all_times_and_distances(manifold):
    """No value and no derivative is NaN, forward and backward, in either precision; the cut locus included."""
    lengths = torch.tensor([0.0, 1e-7, 1e-3, 1.0, 2.0, 3.0, math.pi - 1e-3, math.pi - 1e-6, math.pi])
    times = torch.tensor([1e-7, 1e-5, 1e-3, 0.1, 1.0, 1.49, 1.5, 5.0, 15.0])
    length, time = torch.cartesian_prod(lengths, times).T
    for dtype in (torch.float32, torch.float64):
        x0 = points(manifold, len(length), dtype)
        x = manifold.expmap(x0, tangents(manifold, x0, 1.0) * length.to(dtype).reshape(-1, *(1,) * (x0.dim() - 1)))
        s, leaf = time.to(dtype), x.clone().requires_grad_()
        for function in (manifold.heat_kernel_log_prob, manifold.heat_kernel_score):
            value = function(x0, leaf, s)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            _, forward = torch.func.jvp(lambda y, f=function, x0=x0, s=s: f(x0, y, s), (x,), (manifold.frame(x)[0],))
            for found in (value, gradient, forward):
                assert torch.isfinite(found).all()


# ---- spheres


@every_sphere
def test_sphere_volume(sphere):
    known = {1: 2 * math.pi, 2: 4 * math.pi, 3: 2 * math.pi**2, 5: math.pi**3}
    assert math.exp(sphere.log_volume) == pytest.approx(known[sphere.dim], rel=1e-14)


@pytest.mark.parametrize("sphere", SPHERES[:3], ids=lambda sphere: f"S{sphere.dim}")
def test_sphere_quadrature_integrates_polynomials(sphere):
    """All monomials up to degree 7: the integral of prod x_i^a_i is 2 prod Gamma((a_i + 1) / 2) / Gamma(sum)."""
    nodes, weights = quadrature(sphere, 4)
    for powers in itertools.product(range(8), repeat=sphere.dim + 1):
        if sum(powers) > 7:
            continue
        halves = [(power + 1) / 2 for power in powers]
        exact = 2 * math.prod(map(math.gamma, halves)) / math.gamma(sum(halves))
        if any(power % 2 for power in powers):
            exact = 0.0
        found = weights @ (nodes ** torch.tensor(powers)).prod(-1)
        assert float(found) == pytest.approx(exact, abs=1e-13)


@every_sphere
def test_sphere_uniform_moments(sphere):
    """E x = 0, E x_i^2 = 1/n, E x_i^4 = 3/(n(n+2)), E x_i^2 x_j^2 = 1/(n(n+2)); false alarm 6e-7 per number."""
    n = sphere.dim + 1
    x = sphere.random_uniform(50_000, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert within(x, 0.0)
    assert within(x[:, :, None] * x[:, None], torch.eye(n) / n)
    squares = x.square()
    expected = (torch.ones(n, n) + 2 * torch.eye(n)) / (n * (n + 2))
    assert within(squares[:, :, None] * squares[:, None], expected)


@every_sphere
def test_sphere_divergence_of_a_projected_linear_field(sphere):
    """div P(Ax + b) = tr A - (n + 1) <x, Ax> - n <b, x>."""
    n = sphere.dim
    random = torch.Generator().manual_seed(2)
    matrix = torch.randn(n + 1, n + 1, generator=random, dtype=torch.float64)
    offset = torch.randn(n + 1, generator=random, dtype=torch.float64)
    x = points(sphere, 50)

    def field(y):
        y = sphere.projx(y)
        return sphere.proju(y, y @ matrix.T + offset)

    found = with_divergence(field, sphere, x, sphere.frame(x))[1]
    expected = matrix.trace() - (n + 1) * (x * (x @ matrix.T)).sum(-1) - n * x @ offset
    assert worst(found - expected) < 1e-12


@every_dtype
def test_distances_on_axes_are_exact(dtype):
    """Chords that float32 can store: the angle of (1, a) is atan a, that of (-1, a) is pi - atan a."""
    sphere = Sphere(1)
    for a in (1e-4, 1e-6, 1e-12, 1e-18):
        step = torch.tensor(a, dtype=dtype).item()
        x, near, far = (torch.tensor([c, s], dtype=dtype) for c, s in ((1, 0), (1, a), (-1, a)))
        rounding = 4 * torch.finfo(dtype).eps
        assert float(sphere.dist(x, near)) == pytest.approx(math.atan(step), rel=rounding)
        assert float(sphere.angles(x, far)[1]) == pytest.approx(math.atan(step), rel=rounding)
        assert float(sphere.logmap(x, near)[1]) == pytest.approx(math.atan(step), rel=rounding)


@every_dtype
@every_sphere
def test_antipodes(sphere, dtype):
    x = points(sphere, 100, dtype)
    rounding = 8 * torch.finfo(dtype).eps
    assert worst(sphere.dist(x, -x) - math.pi) < rounding
    v = sphere.logmap(x, -x)
    assert worst(v.norm(dim=-1) - math.pi) < rounding
    assert worst((v * x).sum(-1)) < rounding
    assert worst(sphere.expmap(x, v) + x) < rounding
    y = (-x).requires_grad_()
    for value in (sphere.dist(x, y), sphere.logmap(x, y), sphere.transp(x, y, v)):
        (gradient,) = torch.autograd.grad(value.sum(), y)
        assert torch.isfinite(gradient).all()


@every_dtype
def test_exp_goes_round(dtype):
    """A full turn ends where it started; a long way is the way modulo full turns."""
    sphere = Sphere(2)
    x = points(sphere, 50, dtype)
    u = tangents(sphere, x, 1.0)
    rounding = 32 * torch.finfo(dtype).eps
    assert worst(sphere.expmap(x, 2 * math.pi * u) - x) < rounding
    assert worst(sphere.expmap(x, math.pi * u) + x) < rounding
    assert worst(sphere.expmap(x, (2 * math.pi + 1) * u) - sphere.expmap(x, u)) < rounding


@every_dtype
def test_sphere_reference(reference, dtype):
    rounding = 8 * torch.finfo(dtype).eps
    records = reference("geometry")["sphere"]["records"]
    assert len(records) == 8
    for record in records:
        sphere = Sphere(record["n"])
        x, v, y, u, moved, ambient = (
            torch.tensor(record[key], dtype=dtype) for key in ("x", "v", "exp", "u", "transport_u_x_to_exp", "ambient")
        )
        scale = 1 + worst(ambient)
        rest = min(1.0, math.pi - record["dist"]) if record["dist"] < math.pi else 1.0
        assert worst(sphere.expmap(x, v) - y) < rounding
        assert worst(sphere.logmap(x, y) - v) < rounding * (1 + record["dist"]) / rest
        assert float(sphere.dist(x, y)) == pytest.approx(record["dist"], abs=rounding)
        assert worst(sphere.transp(x, y, u) - moved) < rounding * (1 + worst(u)) / rest
        assert worst(sphere.proju(x, ambient) - torch.tensor(record["proj_tangent"], dtype=dtype)) < rounding * scale
        assert worst(sphere.projx(ambient) - torch.tensor(record["proj_point"], dtype=dtype)) < rounding


def test_divergence_reference(reference):
    sphere = Sphere(2)
    records = reference("geometry")["divergence_S2"]["records"]
    assert records
    for record in records:
        matrix, offset, x, expected = (torch.tensor(record[key], dtype=torch.float64) for key in ("A", "b", "x", "V"))

        def field(y, matrix=matrix, offset=offset):
            y = sphere.projx(y)
            return sphere.proju(y, y @ matrix.T + offset)

        value, divergence = with_divergence(field, sphere, x[None], sphere.frame(x[None]))
        assert worst(value[0] - expected) < 1e-14
        assert float(divergence) == pytest.approx(record["divergence"], abs=1e-13)


# ---- bumps and Brownian motion on spheres


@every_sphere
@pytest.mark.parametrize("width", [1e-5, 1e-2, 0.3, 2.0])
def test_bump_on_spheres_is_normalised_at_every_width(sphere, width):
    """The radial integral, with the area of the geodesic sphere."""
    far = min(math.pi, 12 * width)
    height, weight = np.polynomial.legendre.leggauss(200)
    angle = torch.from_numpy((height + 1) / 2 * far)
    area = 2 * math.pi ** (sphere.dim / 2) / math.gamma(sphere.dim / 2) * angle.sin() ** (sphere.dim - 1)
    centre = torch.zeros(sphere.dim + 1, dtype=torch.float64)
    centre[0] = 1
    x = sphere.expmap(centre.expand(200, -1), torch.nn.functional.pad(angle[:, None], (1, sphere.dim - 1)))
    density = sphere.bump_log_prob(x, centre, torch.tensor(width, dtype=torch.float64)).exp()
    assert float((torch.from_numpy(weight) * far / 2 * area * density).sum()) == pytest.approx(1, abs=1e-9)


@every_manifold
def test_coordinates_of_bumps_make_no_distance_longer(make):
    """Than the lengths of bumps, and these not than geodesics; the factors are at most one."""
    manifold = knows(make(), "bump_sample")
    x, y = points(manifold, 200), points(manifold, 200, seed=1)
    y = torch.cat([y[:100], manifold.expmap(x[100:], 1e-5 * tangents(manifold, x[100:]))])
    square, log_factor = manifold.bump_pair(x, y)
    gap = (manifold.bump_coordinates(x) - manifold.bump_coordinates(y)).square().sum(-1)
    assert (gap <= square * (1 + 1e-8) + 1e-28).all()
    assert (square <= manifold.dist(x, y).square() * (1 + 1e-8) + 1e-28).all()
    assert (log_factor <= 0).all()


@every_dtype
@every_manifold
def test_narrow_bumps_are_sampled(make, dtype):
    """Their squares are those of a normal vector, in float32 too; 5 standard errors, false alarm 6e-7 each."""
    manifold = knows(make(), "bump_sample")
    centre = manifold.origin(5000, *manifold.shape, dtype=dtype)
    for width in (1e-5, 1e-3):
        x = manifold.bump_sample(centre, torch.tensor(width, dtype=dtype), torch.Generator().manual_seed(0))
        u = manifold.inner(centre, manifold.frame(centre), (x - centre)[None]).T.double() / width
        assert within(u, 0.0), width
        assert within(u.square(), 1.0), width


@every_sphere
def test_bump_and_broadcasting(sphere):
    """Many widths at once are the same as one by one."""
    x, centre = points(sphere, 4), points(sphere, 3, seed=1)
    widths = torch.tensor([0.1, 0.5], dtype=torch.float64)
    table = sphere.bump_log_prob(x[:, None, None], centre[:, None], widths)
    assert table.shape == (4, 3, 2)
    for (i, j), (k, width) in itertools.product(np.ndindex(4, 3), enumerate(widths)):
        assert table[i, j, k] == sphere.bump_log_prob(x[i], centre[j], width)


def mean_cosine(sphere, start, s, sample):
    time = torch.full((len(start),), s, dtype=torch.float64)
    return (start * sample(start, time, torch.Generator().manual_seed(3))).sum(-1)


@pytest.mark.parametrize("sphere", SPHERES[:3], ids=lambda sphere: f"S{sphere.dim}")
@pytest.mark.parametrize("s", [1e-4, 0.1, 1.0])
def test_brownian_motion_on_spheres(sphere, s):
    """E cos = exp(-d s / 2) and E C_2 / C_2(1) = exp(-(d + 1) s); false alarm 6e-7 per number."""
    start = points(sphere, 1).expand(20_000, -1)
    cosine = mean_cosine(sphere, start, s, sphere.heat_kernel_sample)
    assert within(cosine, math.exp(-sphere.dim * s / 2))
    second = ((sphere.dim + 1) * cosine.square() - 1) / sphere.dim
    assert within(second, math.exp(-(sphere.dim + 1) * s))


@every_sphere
@pytest.mark.parametrize("steps", [1, 5, 100])
def test_geodesic_walk(sphere, steps):
    """E cos after N steps is m^N exactly, m = 1F1(d/2; 1/2; -s / 2N); false alarm 6e-7 each."""
    s = 1.0
    sphere = Sphere(sphere.dim)
    sphere.walk_steps = steps
    start = points(sphere, 1).expand(10_000, -1)
    cosine = mean_cosine(sphere, start, s, lambda *arguments: Manifold.heat_kernel_sample(sphere, *arguments))
    assert within(cosine, scipy.special.hyp1f1(sphere.dim / 2, 0.5, -s / (2 * steps)) ** steps)


def test_walk_is_the_default_on_large_spheres():
    sphere = Sphere(5)
    x, s = points(sphere, 3), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    expected = Manifold.heat_kernel_sample(sphere, x, s, torch.Generator().manual_seed(0))
    assert torch.equal(sphere.heat_kernel_sample(x, s, torch.Generator().manual_seed(0)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("manifold", [Torus(1), Torus(3), Torus(40), Sphere(2), SpecialOrthogonal()], ids=str)
def test_draws_of_the_heat_kernel_with_their_scores(manifold, dtype):
    """At times of both forms of the kernel: the draw alone, and the kernel's own score there."""
    n = 400
    x0 = manifold.random_uniform(n, *manifold.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    s = torch.logspace(-4, 1, n, dtype=dtype)
    x, score = manifold.heat_kernel_sample_with_score(x0, s, torch.Generator().manual_seed(1))
    assert torch.equal(x, manifold.heat_kernel_sample(x0, s, torch.Generator().manual_seed(1)))
    expected = manifold.heat_kernel_score(x0.double(), x.double(), s.double())
    error = (score - expected) * s.double().sqrt().reshape(-1, *(1,) * len(manifold.shape))
    # of the smallest noise, .01, the rounding of the points is this part
    assert error.abs().max() < 2 * torch.finfo(dtype).eps / 0.01
    one = manifold.heat_kernel_sample_with_score(x0, 0.7, torch.Generator().manual_seed(1))[1]
    each = manifold.heat_kernel_sample_with_score(x0, torch.full_like(s, 0.7), torch.Generator().manual_seed(1))[1]
    torch.testing.assert_close(one, each)


def test_brownian_statistics_reference(reference):
    """The constants of the tests above, at 30 digits."""
    statistics = reference("brownian_statistics")
    for record in statistics["exact_statistics"]:
        s = record["s"]
        for dim in (1, 2, 3):
            assert math.exp(-dim * s / 2) == pytest.approx(record["Sd_E_cos"][str(dim)], rel=1e-14)
    for record in statistics["geodesic_random_walk"]["records"]:
        step = -record["s"] / (2 * record["N"])
        for dim, key in ((2, "S2_exp_E_P1"), (3, "S3_exp_E_cos"), (7, "S7_exp_E_cos")):
            found = scipy.special.hyp1f1(dim / 2, 0.5, step) ** record["N"]
            assert found == pytest.approx(record[key], rel=1e-9, abs=1e-12)


def test_each_draw_has_its_own_time():
    """A batch of different variance times, each against its own mean; false alarm 6e-7 each."""
    sphere = Sphere(2)
    times = torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64).repeat(10_000)
    start = points(sphere, 1).expand(len(times), -1)
    x = sphere.heat_kernel_sample(start, times, torch.Generator().manual_seed(0))
    cosine = (start * x).sum(-1).reshape(-1, 3)
    assert within(cosine, torch.exp(-times[:3]))


# ---- flat space


def test_euclidean_divergence_is_the_trace():
    space = Euclidean(3)
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = points(space, 10)
    found = with_divergence(lambda y: y @ matrix.T, space, x, space.frame(x))[1]
    assert worst(found - matrix.trace()) < 1e-14


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_euclidean_kernels_are_normal(dim):
    space = Euclidean(dim)
    x, x0 = points(space, 20), points(space, 20, seed=1)
    s = torch.linspace(0.1, 3, 20, dtype=torch.float64)
    law = torch.distributions.Normal(x0, s.sqrt()[:, None])
    expected = law.log_prob(x).sum(-1)
    assert worst(space.heat_kernel_log_prob(x0, x, s) - expected) < 1e-12
    assert worst(space.bump_log_prob(x, x0, s.sqrt()) - expected) < 1e-12
    start, time = torch.zeros(20_000, dim, dtype=torch.float64), torch.full((20_000,), 0.3, dtype=torch.float64)
    for draw in (
        space.heat_kernel_sample(start, time, torch.Generator().manual_seed(0)),
        space.bump_sample(start, time.sqrt(), torch.Generator().manual_seed(0)),
    ):
        assert within(draw, 0.0)
        assert within(draw[:, :, None] * draw[:, None], 0.3 * torch.eye(dim))


def test_every_manifold_is_listed():
    """The contract has found what the package exports."""
    assert {Sphere, Euclidean, Torus, SpecialOrthogonal} <= set(concrete(Manifold))
