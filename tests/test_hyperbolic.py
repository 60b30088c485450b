"""Hyperbolic space: heat kernels at 30 digits and in closed form, geometry against its reference."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import special
from scipy.integrate import quad

from conftest import within
from rsgm import RSGM
from rsgm.distributions import WrappedNormal
from rsgm.divergence import with_divergence
from rsgm.heat_kernels import HYPERBOLIC2, HYPERBOLIC3, log_sinhc
from rsgm.likelihood import ODESolver
from rsgm.losses import ImplicitScoreMatching
from rsgm.manifolds import Hyperbolic
from rsgm.networks import MLP
from rsgm.processes import Langevin
from rsgm.schedules import LinearBeta

KERNELS = {"H2": HYPERBOLIC2, "H3": HYPERBOLIC3}

every_kernel = pytest.mark.parametrize("kernel", list(KERNELS.values()), ids=list(KERNELS))
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])

# (s, distance, log-density, score), computed with 30 digits
GOLDEN = {
    "H2": [
        (0.01, 1e-06, 2.7656267302876887, -0.00010016661121667183),
        (0.01, 0.5, -9.755028926553305, -50.08195025287616),
        (0.5, 1.2, -2.780505231170105, -2.5807108466069657),
        (10.0, 6.0, -9.100311990467299, -1.0004197809863926),
    ],
    "H3": [
        (0.01, 0.5, -8.3953851752448, -50.16395341373865),
        (1.0, 1e-06, -3.256815599614685, -1.333333333333311e-06),
        (3.0, 3.5, -9.499578252244698, -1.8827778094588243),
    ],
}


def doubles(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def grid(dtype):
    """Distances with the hard cases, variance times over eight decades, shaped alike."""
    near = torch.tensor([0, 1e-7, 1e-6, 1e-4, 1e-3], dtype=torch.float64)
    distance = torch.cat([near, torch.linspace(0.01, 12, 99, dtype=torch.float64)]).to(dtype)
    s = torch.logspace(-7, math.log10(15), 50, dtype=torch.float64).to(dtype)[:, None]
    return tuple(x.clone() for x in torch.broadcast_tensors(distance, s))


# ---- heat kernels: values


def check(kernel, rows, dtype):
    s, distance, log_density, score = doubles(*zip(*rows, strict=True))
    double = dtype == torch.float64
    found = kernel.score(distance.to(dtype), s.to(dtype))
    assert found.dtype == dtype
    assert ((found.double() - score) / score).abs().max() < (2e-14 if double else 3e-7)
    found = kernel.log_prob(distance.to(dtype), s.to(dtype))
    assert ((found.double() - log_density).abs() / (1 + log_density.abs())).max() < (2e-15 if double else 3e-7)


@every_dtype
@pytest.mark.parametrize("name", list(KERNELS))
def test_golden(name, dtype):
    check(KERNELS[name], GOLDEN[name], dtype)


@every_dtype
@pytest.mark.parametrize("name", list(KERNELS))
def test_reference_table(name, dtype, reference):
    records = [r for r in reference("heat_kernels")["records"] if r["manifold"] == name]
    assert len(records) == 56
    check(KERNELS[name], [(r["s"], r["dist"], r["logp"], r["score"]) for r in records], dtype)


@every_kernel
def test_single_precision_on_a_dense_grid(kernel):
    distance, s = grid(torch.float32)
    exact, found = kernel.score(distance[:, 1:].double(), s[:, 1:].double()), kernel.score(distance, s)
    assert ((found[:, 1:] - exact) / exact).abs().max() < 6e-7
    assert (found[:, 0] == 0).all()


@pytest.mark.parametrize("s", [30.0, 100.0, 1e3, 1e4])
def test_the_plane_at_large_times(s):
    """Against McKean's integral, by adaptive quadrature in b = r + u^2."""

    def integrand(u, r):
        b = r + u * u
        log_gap = math.log(2 * math.sinh((b + r) / 2) * math.sinh(u * u / 2))
        return 2 * u * b * math.exp((r * r - b * b) / (2 * s) - log_gap / 2)

    for r in (1e-3, 0.5, 5.0, 20.0):
        total = sum(quad(integrand, a, b, (r,), epsabs=0, epsrel=1e-11)[0] for a, b in ((1e-14, 1), (1, 3), (3, 12)))
        log_constant = math.log(2) / 2 - 1.5 * math.log(2 * math.pi * s) - s / 8 - r * r / (2 * s)
        expected = log_constant + math.log(total)
        for dtype, error in ((torch.float64, 1e-9), (torch.float32, 1e-5 + 3e-7 * abs(expected))):
            found = HYPERBOLIC2.log_prob(torch.tensor(r, dtype=dtype), torch.tensor(s, dtype=dtype))
            assert float(found) == pytest.approx(expected, abs=error, rel=0)


@every_kernel
def test_heat_equation(kernel):
    """d_s log p = (score' + score^2 + score d log(volume element)) / 2."""
    distance = torch.linspace(0.05, 12, 60, dtype=torch.float64)
    s = torch.tensor([0.01, 0.1, 1.0, 6.0, 15.0], dtype=torch.float64)[:, None]
    distance, s = (x.clone() for x in torch.broadcast_tensors(distance, s))
    one = torch.ones_like(distance)
    score, slope = torch.func.jvp(lambda d: kernel.score(d, s), (distance,), (one,))
    _, drift = torch.func.jvp(kernel.log_volume_element, (distance,), (one,))
    _, left = torch.func.jvp(lambda t: kernel.log_prob(distance, t), (s,), (one,))
    right = (slope + score * score + score * drift) / 2
    scale = (slope.abs() + score * score + (score * drift).abs()) / 2
    assert ((left - right).abs() / scale).max() < 1e-10


@every_dtype
@every_kernel
def test_derivatives_are_finite_and_agree(kernel, dtype):
    arguments = grid(dtype)
    for function in (kernel.log_prob, kernel.score):
        leaves = [x.requires_grad_() for x in grid(dtype)]
        value = function(*leaves)
        gradients = torch.autograd.grad(value.sum(), leaves)
        assert value.isfinite().all()
        for i, gradient in enumerate(gradients):
            tangents = tuple(torch.full_like(x, i == j) for j, x in enumerate(arguments))
            _, tangent = torch.func.jvp(function, arguments, tangents)
            assert gradient.isfinite().all()
            scale = gradient.abs() + 1e-2 * gradient.abs().amax(1, keepdim=True)
            assert ((tangent - gradient).abs() / scale).max() < (1e-11 if dtype == torch.float64 else 5e-4)
    leaf = grid(dtype)[0].requires_grad_()
    (along,) = torch.autograd.grad(kernel.log_prob(leaf, arguments[1]).sum(), leaf)
    score = kernel.score(*arguments)
    assert ((along - score).abs() / (1 + score.abs())).max() < 32 * torch.finfo(dtype).eps


@every_dtype
def test_log_sinhc(dtype):
    x = np.concatenate([np.logspace(-4, 2, 200), [1.9999, 2.0, 2.0001]])
    # expm1 keeps the digits of sinh x - x only in long double
    long = x.astype(np.longdouble)
    series = sum(long ** (2 * n) / math.factorial(2 * n + 1) for n in range(1, 15))
    expected = np.where(x < 1, np.log1p(series), np.log(np.sinh(long) / long)).astype(float)
    found = log_sinhc(torch.from_numpy(x).to(dtype))[0].double().numpy()
    assert (abs(found / expected - 1)).max() < 8 * torch.finfo(dtype).eps


# ---- heat kernels: sampling


def survival_in_space(r, s):
    """P(distance > r) on H^3, where the distance is that of 3-d Brownian motion with unit drift from its start."""
    a, b = (r - s) / math.sqrt(s), (r + s) / math.sqrt(s)
    density = (np.exp(-a * a / 2) - np.exp(-b * b / 2)) / math.sqrt(2 * math.pi * s)
    return special.ndtr(-a) + special.ndtr(-b) + density


def masses(kernel, distances, s):
    """Mass below and above each of the sorted distances, by Gauss-Legendre quadrature between them."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    top = (kernel.dim - 1) / 2 * s + 12 * math.sqrt(s)
    edges = np.unique(np.concatenate([[0, top], distances, np.linspace(0, top, 500)]))
    points = torch.from_numpy(edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2)
    log_density = kernel.log_prob(points, torch.tensor(s, dtype=torch.float64))
    density = torch.exp(log_density + kernel.log_volume_element(points)).numpy()
    mass = (density * weights).sum(1) * np.diff(edges) / 2
    below, above = np.append(0, np.cumsum(mass)), np.append(np.cumsum(mass[::-1])[::-1], 0)
    index = np.searchsorted(edges, distances)
    assert below[-1] == pytest.approx(1, abs=1e-12)
    return below[index], above[index]


@every_dtype
@every_kernel
def test_quantiles_in_both_tails(kernel, dtype):
    """F_s(rho(r)) against the chi law, relative to the smaller tail, down to 1e-9 and at all times."""
    r = np.concatenate([np.geomspace(1e-3, 0.1, 60), np.linspace(0.1, 6.6, 400)])
    below, above = special.gammainc(kernel.dim / 2, r**2 / 2), special.gammaincc(kernel.dim / 2, r**2 / 2)
    for s in [1e-7, *np.geomspace(1e-5, 24, 16), 15.0]:
        distance = kernel.sample_distance(torch.from_numpy(r).to(dtype), torch.tensor(s, dtype=dtype))
        assert distance.dtype == dtype
        distance = distance.double().numpy()
        assert (np.diff(distance) >= 0).all()
        found_below, found_above = masses(kernel, distance, s)
        for found, expected in ((found_below, below), (found_above, above)):
            assert abs(found - expected).max() < 2e-6
            tail = (expected < 0.5) & (expected > 1e-9)
            # the last digit of a distance of 30 standard deviations is worth some of its density
            assert abs(found / expected - 1)[tail].max() < (1e-4 if dtype == torch.float64 else 1e-3)


@pytest.mark.parametrize("s", [1e-3, 0.5, 3.0, 15.0])
def test_quantiles_in_space_are_closed(s):
    r = np.linspace(0.05, 6, 200)
    distance = HYPERBOLIC3.sample_distance(*doubles(r, s)).numpy()
    expected = special.gammaincc(1.5, r**2 / 2)
    assert abs(survival_in_space(distance, s) / expected - 1).max() < 1e-4


@every_dtype
@every_kernel
def test_range_and_limits(kernel, dtype):
    r = torch.linspace(0, 12, 2000, dtype=dtype)
    for s in (0.0, 1e-12, 1e-6, 0.1, 25.0):
        distance = kernel.sample_distance(r, torch.tensor(s, dtype=dtype))
        assert distance.isfinite().all()
        assert distance[0] == 0
        assert (distance[1:] > 0).all() == (s > 0)
    flat = kernel.sample_distance(r[:1000], torch.tensor(1e-8, dtype=dtype))
    torch.testing.assert_close(flat, 1e-4 * r[:1000], rtol=2e-6, atol=0)
    assert kernel.sample_distance(r, torch.tensor(25.1, dtype=dtype)).isnan().all()


@every_kernel
def test_mean_of_cosh(kernel, reference):
    """E cosh d = exp(n s / 2), by quadrature of the quantile function, no noise."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    r = 8.5 * (nodes + 1) / 2
    chi = r ** (kernel.dim - 1) * np.exp(-r * r / 2) * 2 ** (1 - kernel.dim / 2) / math.gamma(kernel.dim / 2)
    records = reference("brownian_statistics")["exact_statistics"]
    assert records
    for record in records:
        distance = kernel.sample_distance(*doubles(r, record["s"])).numpy()
        expected = record["Hn_E_cosh_dist"][str(kernel.dim)]
        found = 8.5 / 2 * (weights * chi * np.cosh(distance)).sum()
        # large distances dominate the mean at late times
        assert found == pytest.approx(expected, rel=1e-5 if record["s"] <= 1 else 1e-3)


# ---- geometry


def space_points(dim, n, radius, dtype=torch.float64, seed=0):
    """Points at the distance ``radius`` from the origin, rounded to ``dtype``, in all directions."""
    space = Hyperbolic(dim)
    z = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u = torch.nn.functional.pad(radius * z / z.norm(dim=-1, keepdim=True), (1, 0))
    return space.projx(space.expmap(space.origin(n, dim + 1, dtype=torch.float64), u).to(dtype))


@every_dtype
def test_reference_geometry(reference, dtype):
    records = reference("geometry")["hyperbolic"]["records"]
    assert len(records) == 6
    for record in records:
        space = Hyperbolic(record["n"])

        def value(key, record=record):
            return torch.tensor(record[key], dtype=dtype)

        x, y = value("lorentz_x"), value("lorentz_exp")
        rounding = 16 * torch.finfo(dtype).eps * float(y.abs().max() * x.abs().max())
        assert (space.expmap(x, value("lorentz_v")) - y).abs().max() < rounding
        assert (space.logmap(x, y) - value("lorentz_v")).abs().max() < rounding
        assert float(space.dist(x, y)) == pytest.approx(record["dist"], abs=rounding)
        moved = space.transp(x, y, value("lorentz_u"))
        assert (moved - value("lorentz_transport_u")).abs().max() < rounding * float(value("lorentz_u").abs().max())
        assert (space.from_ball(value("ball_x")) - x).abs().max() < rounding
        assert (space.to_ball(x) - value("ball_x")).abs().max() < rounding


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_distances_in_float32(dim):
    """Of the points as they are stored, relative to that in long double: near, far, radial, through the origin."""
    space = Hyperbolic(dim)
    for radius, other in ((1e-3, 1e-3), (0.5, 0.5), (3.0, 3.0), (6.0, 6.0), (6.0, 1e-2), (5.0, 4.999)):
        x = space_points(dim, 200, radius, torch.float32)
        y = space_points(dim, 200, other, torch.float32, seed=1)
        close = space.expmap(x, 1e-4 * space.random_tangent(x, torch.Generator().manual_seed(2)))
        radial = space_points(dim, 200, other * 1.01, torch.float32)
        for z in (y, close, radial):
            a, b = (point[:, 1:].numpy().astype(np.longdouble) for point in (x, z))
            times, dot = np.sqrt((1 + (a**2).sum(-1)) * (1 + (b**2).sum(-1))), (a * b).sum(-1)
            # (cosh - 1) (cosh + 1 + 2 dot) = |a - b|^2 + |a x b|^2, for neighbours; else 64 bits are enough
            gap = ((a - b) ** 2).sum(-1)
            for i, j in itertools.combinations(range(dim), 2):
                gap = gap + ((a - b)[:, i] * b[:, j] - (a - b)[:, j] * b[:, i]) ** 2
            versed = np.where(dot > 0.5 * times, gap / (1 + times + dot), times - dot - 1)
            expected = np.arccosh(1 + versed) if versed.min() > 1e-3 else 2 * np.arcsinh(np.sqrt(versed / 2))
            found = space.dist(x, z).numpy()
            # a product of coordinates is rounded by as much as they are larger than the vectors
            rounding = max(1e-6, 6e-8 * math.cosh(max(radius, other)))
            assert abs(found / expected - 1)[expected > 0].max() < rounding, (radius, other)


def test_far_points_in_float32():
    """There and back over distances up to 6, where a rounding in coordinates counts 20 times at the start already."""
    space = Hyperbolic(2)
    x, y = space_points(2, 100, 3.5, torch.float32), space_points(2, 100, 2.5, torch.float32, seed=1)
    u = space.logmap(x, y)
    assert (space.squared_norm(x, u).sqrt() / space.dist(x, y) - 1).abs().max() < 1e-5
    assert space.dist(space.expmap(x, u), y).max() < 1e-3
    assert torch.equal(space.projx(x), x)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_log_det_exp(dim):
    """Against the Jacobian of exp in the frames, and its gradient."""
    space = Hyperbolic(dim)
    x = space_points(dim, 20, 1.0)
    u = space.random_tangent(x, torch.Generator().manual_seed(0))
    y = space.expmap(x, u)
    columns = [torch.func.jvp(lambda v: space.expmap(x, v), (u,), (e,))[1] for e in space.frame(x)]
    matrix = space.inner(y, space.frame(y)[:, None], torch.stack(columns)[None]).permute(2, 0, 1)
    assert (space.log_det_exp(x, u) - torch.linalg.slogdet(matrix)[1]).abs().max() < 1e-10


def test_mean_curvature_is_that_of_the_hyperboloid():
    """div P b = d <x, b>, and H = d x: the sign that the Minkowski product gives."""
    space = Hyperbolic(3)
    x, b = space_points(3, 20, 1.5), torch.randn(4, generator=torch.Generator().manual_seed(0)).double()
    found = with_divergence(lambda y: space.proju(space.projx(y), b.expand_as(y)), space, x, space.frame(x))[1]
    assert (found - 3 * space.inner(x, x, b.expand_as(x))).abs().max() < 1e-10


@pytest.mark.parametrize("s", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("dim", [2, 3])
def test_brownian_motion(dim, s):
    """E cosh d = exp(n s / 2), and its variance as that of an eigenfunction; false alarm 6e-7."""
    space = Hyperbolic(dim)
    start = space_points(dim, 1, 0.7).expand(50_000, -1)
    time = torch.full((50_000,), s, dtype=torch.float64)
    x = space.heat_kernel_sample(start, time, torch.Generator().manual_seed(0))
    cosh = -space.inner(start, start, x)
    assert within(cosh, math.exp(dim * s / 2))
    # (n cosh^2 - 1 + cosh^2) has the eigenvalue 2 (n + 1)
    assert within(((dim + 1) * cosh.square() - 1) / dim, math.exp((dim + 1) * s))


def test_walk_elsewhere():
    """The random walk of 4-dimensional space; its bias is O(s^2 / N)."""
    space, s, n = Hyperbolic(4), 0.05, 20_000
    start = space.origin(n, 5, dtype=torch.float64)
    x = space.heat_kernel_sample(start, torch.full((n,), s, dtype=torch.float64), torch.Generator().manual_seed(0))
    assert within(x[:, 0], math.exp(2 * s))


@every_dtype
def test_bump_is_the_wrapped_normal(dtype):
    """Its radial integral is one."""
    for dim in (1, 2, 4):
        space, width = Hyperbolic(dim), torch.tensor(0.7, dtype=dtype)
        nodes, weights = np.polynomial.legendre.leggauss(200)
        r = torch.from_numpy((nodes + 1) * 3.5).to(dtype)
        origin = space.origin(200, dim + 1, dtype=dtype)
        x = space.expmap(origin, torch.nn.functional.pad(r[:, None], (1, dim - 1)))
        area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2) * r.sinh() ** (dim - 1)
        density = space.bump_log_prob(x, origin, width).exp()
        mass = float((torch.from_numpy(weights) * 3.5 * area * density).sum())
        assert mass == pytest.approx(1, abs=1e-12 if dtype == torch.float64 else 1e-5)


def test_errors():
    space = Hyperbolic(2)
    ok, reason = space.check_point_on_manifold(torch.tensor([2.0, 0.0, 0.0]), explain=True)
    assert not ok
    assert "x0 != sqrt" in reason
    assert not space.check_point_on_manifold(torch.ones(2))
    assert not space.check_vector_on_tangent(space.origin(3), torch.ones(3))


# ---- a model


def plane_model(**options):
    torch.manual_seed(0)
    network = partial(MLP, hidden=[32, 32])
    process = partial(Langevin, schedule=LinearBeta(0.01, 2.0), steps=20)
    return RSGM(Hyperbolic(2), process=process, network=network, loss=ImplicitScoreMatching(), **options)


def test_a_network_of_zeros_is_the_prior():
    """The residual 2 b / beta is the prior's score, the flow stands still."""
    model = plane_model()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    x = space_points(2, 20, 0.6)
    space = Hyperbolic(2)
    # normal density over the Jacobian of exp, at 0.6 from the origin
    expected = -0.5 * (0.6 / 0.5) ** 2 - math.log(2 * math.pi * 0.25) - math.log(math.sinh(0.6) / 0.6)
    assert (model.log_prob(x) - expected).abs().max() < 1e-9
    # and the reversed process keeps its law; false alarm 6e-7 per number
    y = model.sample(4000, seed=0).double()
    assert space.check_point_on_manifold(y.float(), atol=1e-5, rtol=0)
    square = space.dist(space.origin(4000, 3, dtype=torch.float64), y).square()
    # to the order of the step of the sampler, 1 %
    assert within(square, 0.5, sigmas=8.0)


@pytest.mark.slow
def test_training_on_hyperbolic_space():
    """The loss falls and the density of the data rises, from the prior's on."""
    space = Hyperbolic(2)
    loc = space.from_ball(torch.tensor([[0.4, 0.0], [-0.4, 0.0]]))
    law = WrappedNormal(space, loc, 0.15)
    data = law.draw(512, torch.Generator().manual_seed(0)).flatten(0, 1)
    model = plane_model(likelihood=ODESolver(tolerance=1e-3))
    before = model.log_prob(data[:32]).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(100):
        loss = model.loss(data[torch.randperm(len(data))[:256]])["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-30:]) < sum(losses[:30])
    assert model.log_prob(data[:32]).mean() > before + 0.2
    samples = model.sample(200, seed=0)
    assert space.check_point_on_manifold(samples, atol=1e-5, rtol=0)
