"""Products against closed forms and against their factors."""

import math
from functools import partial

import pytest
import torch

from conftest import quadrature, within
from helpers import HeatKernelScore, ReverseMode, seeded
from rsgm import RSGM
from rsgm.likelihood import ODESolver
from rsgm.losses import ImplicitScoreMatching
from rsgm.manifolds import Adapted, Euclidean, Hyperbolic, Product, Sphere, Torus
from rsgm.networks import MLP
from rsgm.processes import Brownian, Langevin, ProductProcess, ScoreField, VariancePreserving

CIRCLES = Product([Sphere(1)] * 3)


def on_circles(angles):
    return torch.stack([angles.cos(), angles.sin()], -1).flatten(-2)


def test_split_and_join():
    product = Product([Hyperbolic(2), Product([Sphere(1), Euclidean(3)]), Sphere(2)])
    assert product.shape == (3 + 5 + 3,)
    assert product.dim == 2 + 4 + 2
    x = torch.randn(4, 5, 11)
    parts = product.split(x)
    assert [part.shape[2:] for part in parts] == [(3,), (5,), (3,)]
    assert torch.equal(product.join(parts), x)
    with pytest.raises(ValueError, match="zip"):
        product.join(parts[:2])


def test_a_product_knows_what_every_factor_knows():
    """Divergence-free fields and smooth frames are not there where one factor has none."""
    known = Product([Torus(2), Hyperbolic(2), Sphere(2)])
    assert (known.killing_field_count, known.smooth_frame) == (2 + 3 + 3, False)
    assert Product([Torus(2), Hyperbolic(2)]).smooth_frame
    frames = Adapted(volume=8 * 2**0.5 * math.pi**2, isotropic=True)
    unknown = Product([frames, Sphere(2)])
    assert (unknown.killing_field_count, unknown.smooth_frame) == (0, False)
    assert math.exp(unknown.log_volume) == pytest.approx(8 * 2**0.5 * math.pi**2 * 4 * math.pi)


def test_circles_are_a_torus():
    """Wrapped normals: log-density, score, distance, volume; on all three angles."""
    assert CIRCLES.log_volume == pytest.approx(3 * math.log(2 * math.pi))
    assert CIRCLES.injectivity_radius == math.pi
    a, b = (2 * math.pi * torch.rand(50, 3, generator=seeded(k), dtype=torch.float64) for k in (0, 1))
    x, y, gap = on_circles(a), on_circles(b), torch.remainder(b - a + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(CIRCLES.dist(x, y), gap.norm(dim=-1), rtol=1e-12, atol=0)
    s = torch.linspace(0.05, 4, 50, dtype=torch.float64)
    images = gap[..., None] + 2 * math.pi * torch.arange(-6, 7, dtype=torch.float64)
    terms = torch.exp(-images.square() / (2 * s[:, None, None])) / (2 * math.pi * s[:, None, None]).sqrt()
    log_prob = CIRCLES.heat_kernel_log_prob(x, y, s)
    torch.testing.assert_close(log_prob, terms.sum(-1).log().sum(-1), rtol=1e-12, atol=1e-12)
    slope = -(images * terms).sum(-1) / terms.sum(-1) / s[:, None]
    across = torch.stack([-b.sin(), b.cos()], -1)
    expected = (slope[..., None] * across).flatten(1)
    torch.testing.assert_close(CIRCLES.heat_kernel_score(x, y, s), expected, rtol=1e-9, atol=1e-9)


def test_brownian_motion_on_circles():
    """E exp(i k . theta) = exp(-|k|^2 s / 2); false alarm 6e-7 per number."""
    n, s = 20_000, 0.7
    start = on_circles(torch.zeros(n, 3, dtype=torch.float64))
    x = CIRCLES.heat_kernel_sample(start, torch.full((n,), s, dtype=torch.float64), seeded())
    cosines, sines = x[:, ::2], x[:, 1::2]
    assert within(cosines, math.exp(-s / 2))
    assert within(cosines[:, 0] * cosines[:, 1], math.exp(-s))
    assert within(cosines.prod(-1), math.exp(-1.5 * s))
    assert within(sines[:, 0] * sines[:, 1], 0.0)


def test_a_cylinder_has_the_product_of_the_marginals():
    """S^2 x R: densities add, scores sit side by side, squared distances add."""
    sphere, line = Sphere(2), Euclidean(1)
    product = Product([sphere, line])
    assert product.log_volume == math.inf
    a, b = (sphere.random_uniform(20, 3, generator=seeded(k), dtype=torch.float64) for k in (0, 1))
    c, d = (torch.randn(20, 1, generator=seeded(k), dtype=torch.float64) for k in (2, 3))
    x, y, s = product.join([a, c]), product.join([b, d]), torch.linspace(0.1, 3, 20, dtype=torch.float64)
    expected = sphere.heat_kernel_log_prob(a, b, s) + line.heat_kernel_log_prob(c, d, s)
    assert torch.equal(product.heat_kernel_log_prob(x, y, s), expected)
    score = torch.cat([sphere.heat_kernel_score(a, b, s), line.heat_kernel_score(c, d, s)], -1)
    assert torch.equal(product.heat_kernel_score(x, y, s), score)
    torch.testing.assert_close(product.dist(x, y), (sphere.dist(a, b) ** 2 + line.dist(c, d) ** 2).sqrt())
    u = product.logmap(x, y)
    assert torch.equal(product.log_det_exp(x, u), sphere.log_det_exp(a, u[:, :3]))


@pytest.mark.parametrize("factors", [[Sphere(1), Sphere(2)], [Sphere(1), Euclidean(1)]], ids=["compact", "not"])
def test_charts_and_uniform_draws(factors):
    product = Product(factors)
    if math.isinf(product.log_volume):
        assert product.unit_cube_extent == ()
        with pytest.raises(NotImplementedError, match="has no"):
            product.from_unit_cube(torch.rand(2, product.dim))
        return
    assert len(product.unit_cube_extent) == product.dim == 3
    nodes, weights = quadrature(product, 12)
    assert float(weights.sum()) == pytest.approx(8 * math.pi**2)
    assert float(weights @ (nodes[:, 0] ** 2 * nodes[:, 4] ** 4)) == pytest.approx(math.pi * 4 * math.pi / 5)


def test_errors():
    with pytest.raises(ValueError, match="Product: at least one factor is needed"):
        Product([])
    product = Product([Sphere(2), Hyperbolic(2)])
    ok, reason = product.check_point_on_manifold(torch.tensor([1.0, 0, 0, 2, 0, 0]), explain=True)
    assert not ok
    assert reason.startswith("in Hyperbolic(dim=2)")
    assert not product.check_vector_on_tangent(product.origin(6), torch.ones(6))
    assert not product.check_point_on_manifold(torch.ones(5))
    with pytest.raises(ValueError, match="size must end with it"):
        product.origin(5)


def test_conditional_log_densities_add():
    """And the scores stand side by side: the weights of `StableTarget` are these sums."""
    product = Product([Sphere(2), Euclidean(2), Sphere(1)])
    process = ProductProcess(product, factors=[Brownian, VariancePreserving, Brownian])
    t = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    x0, x = (product.projx(torch.randn(3, 7, generator=seeded(k), dtype=torch.float64)) for k in (0, 1))
    log_prob, score = process.conditional(x0, x, t)
    parts = zip(process.factors, product.split(x0), product.split(x), strict=True)
    own = [factor.conditional(a, b, t) for factor, a, b in parts]
    assert torch.allclose(log_prob, torch.stack([value for value, _ in own]).sum(0), rtol=1e-12)
    assert torch.allclose(score, torch.cat([part for _, part in own], 1), rtol=1e-12)
    # every factor counts
    assert all(bool((value.abs() > 1e-3).all()) for value, _ in own)


# ---- a model


class LineScore(ScoreField):
    """The exact score of a Langevin diffusion with unit scale from N(m, v)."""

    def __init__(self, process, m, v):
        super().__init__(process)
        self.m, self.v = m, v

    def forward(self, t, x, context=None):
        decay = torch.exp(-self.process.schedule.integral(t))[:, None]
        return (self.m * decay.sqrt() - x) / (self.v * decay + 1 - decay)


class SphereScore(ReverseMode, HeatKernelScore):
    """Of a heat kernel."""


class Beside(ReverseMode):
    def __init__(self, process, scores):
        super().__init__(process)
        self.scores = torch.nn.ModuleList(scores)

    def forward(self, t, x, context=None):
        parts = self.manifold.split(x)
        return self.manifold.join(score(t, part) for score, part in zip(self.scores, parts, strict=True))


def test_the_density_of_a_product_is_the_sum_of_the_marginals():
    """Exact scores on S^2 x R: the flow of the product against the flows of the factors and the normal density."""
    product = Product([Sphere(2), Euclidean(1)])
    process = ProductProcess(product, factors=[Brownian, partial(Langevin, scale=1.0)])
    sphere, line = process.factors
    scores = SphereScore(sphere, 0.3, start(1)), LineScore(line, 0.7, 0.2)
    solver = ODESolver(tolerance=1e-6)
    x = product.join(
        [
            sphere.manifold.heat_kernel_sample(start(3), torch.full((3,), 0.3, dtype=torch.float64), seeded()),
            torch.linspace(-0.5, 2.0, 3, dtype=torch.float64)[:, None],
        ]
    )
    found = solver(Beside(process, scores), x).value
    on_sphere, on_line = (solver(score, y).value for score, y in zip(scores, product.split(x), strict=True))
    assert (found - on_sphere - on_line).abs().max() < 1e-5
    # the flow ends in the law of t = 1, which differs from the prior by so much
    s = float(process.schedule.integral(torch.tensor(1.0, dtype=torch.float64)))
    # the marginal of the line at eps, transported from eps: mean and variance of the process there
    decay = math.exp(-float(process.schedule.integral(torch.tensor(process.eps, dtype=torch.float64))))
    std = (0.2 * decay + 1 - decay) ** 0.5
    exact = torch.distributions.Normal(0.7 * decay**0.5, std).log_prob(x[:, 3])
    end, end_std = math.exp(-s / 2) * 0.7, (1 - 0.8 * math.exp(-s)) ** 0.5
    z = end + end_std * (x[:, 3] - 0.7 * decay**0.5) / std
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    law = torch.distributions.Normal(end, end_std).log_prob(z)
    assert (on_line - (exact + prior - law)).abs().max() < 1e-5


def start(n):
    return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(n, 3)


def test_a_model_on_a_product():
    """Trains, samples, and is its prior where the network is zero."""
    product = Product([Sphere(2), Euclidean(1)])
    process = partial(ProductProcess, factors=[Brownian, partial(Langevin, scale=1.0, steps=1)])
    network = partial(MLP, hidden=[8])
    model = RSGM(product, process=process, network=network, loss=ImplicitScoreMatching())
    x = model.sample(5, seed=0)
    assert product.check_point_on_manifold(x, atol=1e-5, rtol=0)
    model.loss(x)["loss"].mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    expected = -math.log(4 * math.pi) + torch.distributions.Normal(0.0, 1.0).log_prob(x[:, 3].double())
    assert (model.log_prob(x) - expected).abs().max() < 1e-9
