"""Flows with known solutions: their densities and samples, Moser's identity, geodesics, and the models made of them."""

import math
from functools import partial

import pytest
import torch

from conftest import concrete, quadrature, variants, within
from helpers import seeded
from rsgm import CNF, Euclidean, FlowMatching, Moser, Sphere
from rsgm.distributions import Normal, ProductDistribution, Uniform, VonMisesFisher, WrappedNormal, default_prior
from rsgm.divergence import Exact, Hutchinson, with_divergence
from rsgm.fields import Field, FrameField, TangentField
from rsgm.likelihood import ODESolver, SolveError, integrate, log_prob, transport
from rsgm.likelihood.flows import FieldFlow, Flow, ScoreFlow
from rsgm.manifolds import Hyperbolic, Manifold, Product, SpecialOrthogonal, Torus
from rsgm.models.moser import MoserFlow
from rsgm.networks import MLP
from rsgm.processes import Brownian, Score, ScoreField

NETWORK = partial(MLP, hidden=[16, 16])
MODELS = {
    CNF: {"tolerance": 1e-3, "network": NETWORK},
    Moser: {"network": NETWORK, "uniform_points": 500},
    FlowMatching: {"network": NETWORK},
}


def has_geodesics(manifold: Manifold) -> bool:
    """Whether two points have a logarithm."""
    x = manifold.origin(1, *manifold.shape)
    try:
        manifold.logmap(x, x)
    except NotImplementedError:
        return False
    return math.isfinite(manifold.log_volume)


COMPACT = [make for make in variants(Manifold) if has_geodesics(make.values[0]())]

every_model = pytest.mark.parametrize("cls", MODELS)
spheres = pytest.mark.parametrize("dim", [1, 2, 3])


def uniform(manifold: Manifold, n: int, seed: int = 0) -> torch.Tensor:
    return manifold.random_uniform(n, *manifold.shape, generator=seeded(seed), dtype=torch.float64)


class Spin(Field):
    """A rotation in the plane of the first two axes, by an angle of ``2 t`` at time t."""

    def forward(self, t, x, context=None):
        return (4 * t)[:, None] * torch.cat([-x[:, 1:2], x[:, :1], torch.zeros_like(x[:, 2:])], -1)


class Harmonic(Field):
    """``size`` times the gradient of the first coordinate; its divergence is ``-dim size x_0``."""

    def __init__(self, manifold, size):
        super().__init__(manifold)
        self.size = size

    def forward(self, t, x, context=None):
        axis = torch.zeros_like(x)
        axis[:, 0] = self.size
        return self.manifold.proju(x, axis)


class Honest(Flow):
    """Another flow, with the whole divergence of its velocity by autograd, and nothing left out."""

    def __init__(self, flow):
        super().__init__(flow.manifold, flow.prior, flow.start)
        self.flow = flow

    def velocity(self, t, x, context=None):
        return self.flow.velocity(t, x, context)

    def rate(self, t, x, directions, context=None):
        return with_divergence(partial(plain, self.flow, t), self.manifold, x, directions)


def plain(flow: Flow, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The velocity of a Moser flow through functions that can be differentiated twice."""
    if not isinstance(flow, MoserFlow):
        return flow.velocity(t, x)
    u, div = with_divergence(partial(flow.field, torch.zeros_like(t)), flow.manifold, x, flow.manifold.frame(x))
    return -u / (t + (1 - t) * (1 - div).clamp_min(flow.eps))[:, None]


def rough(manifold: Manifold, size: float = 1.0) -> TangentField:
    torch.manual_seed(0)
    field = TangentField(manifold, NETWORK).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter *= 1.5
        field.network.layers[-1].weight *= size
    return field


def flows(manifold: Manifold) -> list[Flow]:
    """One of each kind; the last is clamped in a part of the space."""
    process = Brownian(manifold, eps=0.05)
    score = ScoreFlow(Score(process, rough(manifold, 0.05)))
    field, moser = FieldFlow(rough(manifold, 0.15), Uniform(manifold)), MoserFlow(rough(manifold, 0.05))
    return [field, score, moser, clamped(manifold)]


def clamped(manifold: Manifold) -> MoserFlow:
    return MoserFlow(Harmonic(manifold, 1.3 / manifold.dim), eps=0.05)


# ---- densities in closed form


@spheres
def test_rotation_transports_the_density(dim):
    """p(x) = prior(R x), with an angle of 2 at t = 1; samples are the prior's, turned back."""
    sphere, x = Sphere(dim), uniform(Sphere(dim), 50)
    axis = torch.nn.functional.one_hot(torch.tensor(1), dim + 1).double()
    prior = VonMisesFisher(sphere, axis, 3.0)
    flow, solver = FieldFlow(Spin(sphere), prior), ODESolver(tolerance=1e-9)
    turn = torch.eye(dim + 1, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(2), -math.sin(2)], [math.sin(2), math.cos(2)]])
    assert torch.allclose(solver.log_prob(flow, x).value, prior.log_prob(x @ turn.T), rtol=0, atol=2e-6)
    samples = solver.sample(flow, 30, generator=seeded())
    assert samples.dtype == torch.float64
    assert torch.allclose(samples, prior.draw(30, seeded()) @ turn, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_gradient_of_the_first_harmonic(dim):
    """tan(theta/2) falls by exp(-t): from the uniform law, p = (sin theta_1 / sin theta)^d / vol."""
    sphere, c = Sphere(dim), 1.2
    flow, solver = FieldFlow(Harmonic(sphere, c), Uniform(sphere)), ODESolver(tolerance=1e-9)
    x = uniform(sphere, 50)
    x0 = x[:, 0]
    # of theta -> theta_1: cos theta_1 = (cos theta + tanh c) / (1 + cos theta tanh c)
    ratio = 1 / (math.cosh(c) + math.sinh(c) * x0)
    expected = dim * ratio.log() - sphere.log_volume
    assert torch.allclose(solver.log_prob(flow, x).value, expected, rtol=0, atol=1e-7)
    end = flow.prior.draw(200, seeded()).double()[:, 0]
    found = solver.sample(flow, 200, generator=seeded())
    assert found.dtype == torch.float32
    back = (end - math.tanh(c)) / (1 - end * math.tanh(c))
    assert torch.allclose(found[:, 0].double(), back, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 3])
def test_moser_of_the_first_harmonic(dim):
    """r = 1 + d a x_0 > 0 is linear: log(nu r), by the identity and by the honest divergence; E x_0 = d a / (d + 1)."""
    sphere, x = Sphere(dim), uniform(Sphere(dim), 20)
    flow = MoserFlow(Harmonic(sphere, 0.7 / dim))
    expected = (1 + 0.7 * x[:, 0]).log() - sphere.log_volume
    assert torch.allclose(log_prob(flow, x)[0], expected, rtol=0, atol=1e-13)
    assert torch.allclose(log_prob(Honest(flow), x, tolerance=1e-7)[0], expected, rtol=0, atol=1e-6)
    samples = ODESolver(tolerance=1e-4).sample(flow, 4_000, generator=seeded())
    assert within(samples[:, 0], 0.7 / (dim + 1))
    assert within(samples[:, 1], 0.0)


@spheres
@pytest.mark.parametrize("kind", range(3))
def test_rate_and_boundary_make_the_honest_density(dim, kind):
    """Whatever a flow leaves out of the divergence, its velocity alone decides the density."""
    flow = flows(Sphere(dim))[kind]
    x, t = uniform(flow.manifold, 12), torch.linspace(flow.start, 1, 12, dtype=torch.float64)
    frame = flow.manifold.frame(x)
    assert torch.allclose(flow.rate(t, x, frame)[0], flow.velocity(t, x), rtol=1e-12, atol=1e-12)
    value, honest = (log_prob(f, x, tolerance=1e-6)[0] for f in (flow, Honest(flow)))
    assert value.std() > 0.05
    assert torch.allclose(value, honest, rtol=0, atol=2e-5)


@spheres
def test_a_clamped_moser_flow_by_its_map(dim):
    """With the angle theta from the axis: p = (sin theta_1 / sin theta)^(d - 1) d theta_1 / d theta / vol."""
    flow = clamped(Sphere(dim))
    angle = torch.tensor([0.4, 1.2, 2.1, 2.7, 2.9, 3.0], dtype=torch.float64)

    def points(theta):
        return torch.stack([theta.cos(), theta.sin(), *[torch.zeros_like(theta)] * (dim - 1)], -1)

    def end(theta):
        def slope(t, x):
            return flow.velocity(t.expand(len(x)), x), torch.zeros(len(x)).to(x)

        with torch.no_grad():
            x = integrate(slope, flow.manifold, points(theta), 0.0, 1.0, 1e-8)[0]
        return torch.atan2(x[:, 1], x[:, 0])

    final, ahead, behind = end(torch.cat([angle, angle + 1e-3, angle - 1e-3])).chunk(3)
    slope = (ahead - behind) / 2e-3
    expected = (dim - 1) * (final.sin() / angle.sin()).log() + slope.log() - flow.manifold.log_volume
    r = 1 + 1.3 * angle.cos()
    assert (r > 0.05).tolist() == [True, True, True, False, False, False]
    assert torch.allclose(log_prob(flow, points(angle), tolerance=1e-6)[0], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", range(4))
def test_densities_integrate_to_one(kind):
    flow = flows(Sphere(2))[kind]
    nodes, weights = quadrature(flow.manifold, 28)
    density = ODESolver().log_prob(flow, nodes).value.exp()
    assert float(weights @ density) == pytest.approx(1, abs=1e-3)


def test_a_clamped_moser_flow_is_clamped():
    flow, x = clamped(Sphere(2)), uniform(Sphere(2), 200)
    r = flow.ratio(x, flow.manifold.frame(x))[1]
    assert torch.allclose(r, 1 + 1.3 * x[:, 0], rtol=0, atol=1e-12)
    value = log_prob(flow, x)[0] + flow.manifold.log_volume
    # elsewhere the density is r; here what the loss sees, log r+, is too much
    crossed = value < flow.boundary(x) - 1e-3
    assert crossed[r < flow.eps].all()
    assert (r < flow.eps).any()
    assert (~crossed).any()


@pytest.mark.parametrize("kind", range(4))
def test_samples_follow_the_density(kind):
    """E log p by samples and by quadrature; 5 standard errors, false alarm 6e-7."""
    flow = flows(Sphere(2))[kind]
    solver = ODESolver(tolerance=1e-4)
    nodes, weights = quadrature(flow.manifold, 28)
    value = solver.log_prob(flow, nodes).value
    expected = float(weights @ (value.exp() * value))
    assert within(solver.log_prob(flow, solver.sample(flow, 1_000, generator=seeded())).value, expected)


# ---- the solve


class Counted(Field):
    """Tells values from divergences."""

    calls: list = []  # noqa: RUF012

    def forward(self, t, x, context=None):
        self.calls.append("value")
        return self.manifold.proju(x, torch.ones_like(x))

    def with_divergence(self, t, x, directions, context=None):
        self.calls.append("divergence")
        return self.manifold.proju(x, torch.ones_like(x)), torch.zeros(len(x)).to(x)


def test_samples_need_no_divergence():
    Counted.calls.clear()
    flow, solver = FieldFlow(Counted(Sphere(2)), Uniform(Sphere(2))), ODESolver(batch_size=4)
    assert solver.sample(flow, 10).shape == (10, 3)
    assert set(Counted.calls) == {"value"}
    Counted.calls.clear()
    solver.log_prob(flow, uniform(Sphere(2), 3))
    assert set(Counted.calls) == {"divergence"}


def test_samples_stop_at_the_start():
    """The field is never seen before the time of the data, nor after that of the prior."""

    class Clock(ScoreField):
        times: list = []  # noqa: RUF012

        def forward(self, t, x, context=None):
            self.times.extend([float(t.min()), float(t.max())])
            return torch.zeros_like(x)

    process = Brownian(Sphere(2), eps=0.1)
    ODESolver(dtype="float64").sample(ScoreFlow(Clock(process)), 5)
    assert min(Clock.times) == pytest.approx(0.1, abs=1e-15)
    assert min(Clock.times) >= 0.1
    assert max(Clock.times) == 1


def test_sampling_leaves_the_model_as_it_is():
    field = TangentField(Sphere(2), NETWORK)
    flow = FieldFlow(field, Uniform(Sphere(2)))
    with torch.inference_mode():
        inside = ODESolver().sample(flow, 5, generator=seeded())
    assert torch.equal(inside, ODESolver().sample(flow, 5, generator=seeded()))
    assert field.training
    assert all(p.dtype == torch.float32 and p.requires_grad and p.grad is None for p in field.parameters())


def test_a_failed_sample_is_an_error():
    class Broken(Counted):
        def forward(self, t, x, context=None):
            return torch.full_like(x, math.nan)

    with pytest.raises(SolveError):
        ODESolver().sample(FieldFlow(Broken(Sphere(2)), Uniform(Sphere(2))), 3)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_of_the_density(checkpoint):
    """Through the solver, against differences; with and without recomputing."""
    sphere = Sphere(2)
    flow, x = FieldFlow(rough(sphere), Uniform(sphere)), uniform(sphere, 8)
    weights = list(flow.parameters())
    solve = partial(log_prob, flow, x, tolerance=1e-8)
    gradient = torch.autograd.grad(solve(checkpoint=checkpoint)[0].sum(), weights)
    torch.manual_seed(1)
    direction = [torch.randn_like(w) / 10 for w in weights]
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    ends = []
    for step in (1e-4, -2e-4):
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w += step * d
            ends.append(solve()[0].sum())
    assert float(slope) == pytest.approx(float((ends[0] - ends[1]) / 2e-4), rel=1e-5)


# ---- geodesics


@pytest.mark.parametrize("make", COMPACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_geodesics(make, dtype):
    """From x0 to x1 at constant speed; the velocity is the transported logarithm."""
    manifold = make()
    x0, x1 = (uniform(manifold, 100, seed).to(dtype) for seed in (0, 1))
    accuracy = 2e-3 if dtype == torch.float32 else 1e-6
    for end, x in ((0.0, x0), (1.0, x1)):
        found, _ = manifold.geodesic(x0, x1, torch.full((100,), end, dtype=dtype))
        assert torch.allclose(found, x, rtol=0, atol=accuracy)
    t = torch.rand(100, generator=seeded(2), dtype=dtype)
    xt, velocity = manifold.geodesic(x0, x1, t)
    length = manifold.dist(x0, x1)
    assert torch.allclose(manifold.squared_norm(xt, velocity).sqrt(), length, rtol=0, atol=accuracy)
    assert torch.allclose(manifold.dist(x0, xt), t * length, rtol=0, atol=accuracy)
    assert torch.allclose(velocity, manifold.proju(xt, velocity), rtol=0, atol=accuracy)
    if dtype == torch.float64:
        ahead, behind = (manifold.geodesic(x0, x1, t + step)[0] for step in (1e-6, -1e-6))
        assert torch.allclose(velocity, (ahead - behind) / 2e-6, rtol=0, atol=1e-6)


WRITTEN = [make for make in variants(Manifold) if type(make.values[0]()).geodesic is not Manifold.geodesic]


@pytest.mark.parametrize("make", WRITTEN)
@pytest.mark.parametrize("length", [1e-30, 1e-5, 1e-2, 1.0])
def test_geodesics_written_down_are_the_derivative_of_exp(make, length):
    manifold = make()
    origin = manifold.origin(100, *manifold.shape, dtype=torch.float64)
    x0 = manifold.expmap(origin, manifold.random_tangent(origin, seeded(0)))
    x1 = manifold.expmap(x0, length * manifold.random_tangent(x0, seeded(1)))
    t = torch.rand(100, generator=seeded(2), dtype=torch.float64)
    expected = Manifold.geodesic(manifold, x0, x1, t)
    for dtype, accuracy in ((torch.float64, 1e-10), (torch.float32, 3e-3)):
        x, y, time = (value.to(dtype) for value in (x0, x1, t))
        if dtype == torch.float32:
            # of the points as they were rounded
            expected = Manifold.geodesic(manifold, x.double(), y.double(), time.double())
        for found, right in zip(manifold.geodesic(x, y, time), expected, strict=True):
            assert found.dtype == dtype
            assert torch.allclose(found.double(), right, rtol=0, atol=accuracy)


@spheres
def test_the_velocity_is_transported(dim):
    sphere = Sphere(dim)
    x0, x1 = uniform(sphere, 50, 0), uniform(sphere, 50, 1)
    xt, velocity = sphere.geodesic(x0, x1, torch.full((50,), 0.8, dtype=torch.float64))
    assert torch.allclose(velocity, sphere.transp(x0, xt, sphere.logmap(x0, x1)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", COMPACT)
def test_velocities_are_finite_at_the_ends_and_at_the_cut_locus(make):
    manifold = make()
    x0 = uniform(manifold, 4).float()
    far = manifold.expmap(x0, manifold.injectivity_radius * unit(manifold, x0))
    for x1 in (x0, far, manifold.expmap(x0, 1e-6 * unit(manifold, x0))):
        for t in (0.0, 1e-7, 1 - 1e-7, 1.0):
            xt, velocity = manifold.geodesic(x0, x1, torch.full((4,), t))
            assert torch.isfinite(xt).all()
            # at the cut locus itself the logarithm has no direction, and in float32 hardly a length
            assert (manifold.squared_norm(xt, velocity).sqrt() < 1.1 * manifold.injectivity_radius).all()


def unit(manifold: Manifold, x: torch.Tensor) -> torch.Tensor:
    u = manifold.random_tangent(x, seeded(5))
    return u / manifold.squared_norm(x, u).sqrt().reshape(-1, *(1,) * (x.dim() - 1))


# ---- the models


def bump(n: int, seed: int = 0) -> torch.Tensor:
    return VonMisesFisher(Sphere(2), torch.tensor([0.6, 0.0, 0.8]), 6.0).draw(n, seeded(seed))


@pytest.mark.parametrize(
    "cls, steps, gain",
    [
        pytest.param(CNF, 30, 0.6, marks=pytest.mark.slow),
        pytest.param(Moser, 300, 0.6, marks=pytest.mark.slow),
        (FlowMatching, 200, 0.6),
    ],
    ids=["CNF", "Moser", "FlowMatching"],
)
def test_training_learns(cls, steps, gain):
    """The density of fresh points, and the samples; the entropy of the law is 1.04 below the uniform one's."""
    torch.manual_seed(0)
    model = cls(Sphere(2), **MODELS[cls])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(bump(256, seed=step))["loss"].mean().backward()
        optimizer.step()
    assert model.log_prob(bump(100, seed=1000)).mean() > -math.log(4 * math.pi) + gain
    # of the data this is 0.83, of the uniform law 0 +- 0.03
    assert (model.sample(500, seed=0) @ torch.tensor([0.6, 0.0, 0.8])).mean() > 0.4


@every_model
@pytest.mark.parametrize("make", COMPACT)
def test_every_compact_manifold(cls, make):
    torch.manual_seed(0)
    model = cls(make(), **MODELS[cls])
    x = model.sample(6, seed=0)
    assert x.shape == (6, *model.manifold.shape)
    assert model.manifold.check_point_on_manifold(x, atol=1e-5, rtol=0)
    terms = model.loss(x)
    assert torch.isfinite(terms["loss"]).all()
    terms["loss"].mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(model.log_prob(x)).all()


@every_model
def test_conditional(cls):
    """Densities and losses follow the context of each point."""
    torch.manual_seed(0)
    model = cls(Sphere(2), **{**MODELS[cls], "network": partial(NETWORK, context_features=2)})
    x, context = bump(4), torch.eye(2).repeat(2, 1)
    torch.manual_seed(1)
    one = model.loss(x, context)["loss"]
    torch.manual_seed(1)
    assert not torch.allclose(one, model.loss(x, 1 - context)["loss"])
    both = model.log_prob(x[:1].expand(2, 3), torch.eye(2))
    assert (both[0] - both[1]).abs() > 1e-3
    assert model.sample(4, context, seed=0).shape == (4, 3)
    with pytest.raises(ValueError, match="context_features is 2, found a context of 0 features"):
        model.sample(4, seed=0)


def test_moser_needs_a_uniform_law():
    with pytest.raises(ValueError, match=r"infinite volume.* or FlowMatching, whose prior may be any law"):
        Moser(Product(), network=NETWORK)


@pytest.mark.parametrize("cls", [CNF, FlowMatching])
def test_a_flow_on_a_cylinder(cls):
    """From a prior that is the product of the factors' own; trained for some steps, its density integrates to one."""
    torch.manual_seed(0)
    cylinder = Product([Sphere(1), Euclidean(1)])
    model = cls(cylinder, **MODELS[cls] | {"solver": ODESolver(1e-4)})
    law = ProductDistribution(
        cylinder, [VonMisesFisher(Sphere(1), torch.tensor([0.0, 1.0]), 2.0), Normal(Euclidean(1))]
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimiser.zero_grad()
        model.loss(law.draw(200, seeded()))["loss"].mean().backward()
        optimiser.step()
    around, line = torch.arange(24, dtype=torch.float64) * (2 * math.pi / 24), torch.arange(-6, 6, 0.25).double()
    angle, height = torch.cartesian_prod(around, line).T
    nodes = torch.stack([angle.cos(), angle.sin(), height], -1)
    density = model.log_prob(nodes).exp()
    assert float(density.sum()) * 0.25 * 2 * math.pi / 24 == pytest.approx(1, abs=1e-3)
    # and is not that of the prior
    assert (density.log() - model.flow.prior.log_prob(nodes)).abs().max() > 0.05


@pytest.mark.parametrize(
    "manifold",
    [Product(), Product([Torus(2), Euclidean(1)]), Product([SpecialOrthogonal(), Euclidean(3)]), Euclidean(2)],
    ids=str,
)
def test_flow_matching_without_a_prior_of_its_own(manifold):
    """Learns, samples and scores."""
    torch.manual_seed(0)
    model = FlowMatching(manifold, network=NETWORK, solver=ODESolver(1e-3))
    x = default_prior(manifold).draw(20, seeded())
    model.loss(x)["loss"].mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    drawn = model.sample(10, seed=0)
    assert manifold.check_point_on_manifold(drawn, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(model.log_prob(drawn)).all()


def test_flow_matching_to_another_prior():
    """On the hyperbolic plane to a wrapped normal; the density of an untrained network integrates to one."""
    torch.manual_seed(0)
    law = WrappedNormal(Hyperbolic(2), scale=1.5)
    prior = partial(WrappedNormal, scale=0.7)
    model = FlowMatching(law.manifold, network=NETWORK, field=FrameField, prior=prior)
    x = law.draw(1_000, seeded())
    terms = model.loss(x)
    assert torch.isfinite(terms["loss"]).all()
    ratio = (model.log_prob(x) - law.log_prob(x.double())).exp()
    assert within(ratio, 1.0)
    assert law.manifold.check_point_on_manifold(model.sample(6, seed=0), atol=1e-5, rtol=0)


def test_the_loss_of_a_cnf_is_its_likelihood():
    torch.manual_seed(0)
    model, x = CNF(Sphere(2), network=NETWORK), bump(20)
    terms = model.loss(x)
    assert torch.allclose(terms["loss"].detach().double(), -model.log_prob(x), rtol=0, atol=1e-4)
    assert 0 < terms["nfe"][0] == terms["nfe"][-1] < 200


def test_stochastic_loss_of_a_cnf():
    """Unbiased, over the draws of the probe; each loss has its own."""
    torch.manual_seed(0)
    arguments = {"network": NETWORK, "tolerance": 1e-3}
    exact, model = CNF(Sphere(2), **arguments), CNF(Sphere(2), divergence=Hutchinson(), **arguments)
    model.load_state_dict(exact.state_dict())
    with torch.no_grad():
        losses = torch.stack([model.loss(bump(1))["loss"] for _ in range(100)])
        assert losses.std() > 1e-3
        assert within(losses, exact.loss(bump(1))["loss"].double())


def test_settings_of_the_solve_of_training():
    """A loose tolerance takes fewer evaluations; with checkpoints they are made again in the backward pass."""
    torch.manual_seed(0)
    x = bump(20)
    loose, tight = (CNF(Sphere(2), network=NETWORK, tolerance=tolerance).loss(x)["nfe"][0] for tolerance in (0.1, 1e-7))
    assert loose < 0.5 * tight
    for checkpoint in (False, True):
        model = CNF(Sphere(2), network=NETWORK, tolerance=1e-2, checkpoint=checkpoint)
        model.flow.field = Counting(model.flow.field)
        terms = model.loss(x)
        there = model.flow.field.calls
        assert there == terms["nfe"][0]
        terms["loss"].mean().backward()
        again = model.flow.field.calls - there
        assert (again > there / 2) if checkpoint else again == 0


class Counting(Field):
    """Another field, and how often it was evaluated."""

    def __init__(self, field):
        super().__init__(field.manifold)
        self.field, self.calls = field, 0

    def forward(self, t, x, context=None):
        return self.field(t, x, context)

    def with_divergence(self, t, x, directions, context=None):
        self.calls += 1
        return self.field.with_divergence(t, x, directions, context)


@pytest.mark.parametrize("stratified", [False, True])
def test_flow_matching_by_formula(stratified):
    """The squared distance of the field from the geodesic's velocity, at independent or at stratified times."""
    model, x = FlowMatching(Sphere(2), network=NETWORK, stratified=stratified), bump(50)
    torch.manual_seed(3)
    found = model.loss(x)["loss"]
    torch.manual_seed(3)
    x1 = Sphere(2).random_uniform(50, 3)
    t = torch.rand(50)
    if stratified:
        t = (t + torch.arange(50)) / 50
    xt, velocity = Sphere(2).geodesic(x, x1, t)
    assert torch.allclose(found, (model.flow.field(t, xt) - velocity).square().sum(-1), rtol=1e-5)


def test_moser_loss_by_formula():
    """-log(nu r+) and alpha E r-, with r linear: P(r < 0) and the rest by quadrature."""
    model = Moser(Sphere(2), network=NETWORK, alpha=3.0, uniform_points=40_000, eps=0.05)
    model.flow = clamped(Sphere(2))
    x = bump(10)
    terms = model.loss(x)
    floored = (1 + 1.3 * x[:, 0]).clamp_min(0.05).log() - math.log(4 * math.pi)
    assert torch.allclose(terms["floored_nll"], -floored, rtol=0, atol=1e-5)
    # of eps - r = -0.95 - 1.3 z, z uniform in [-1, 1]: 0.35^2 / (4 * 1.3)
    assert float(terms["penalty"][0]) == pytest.approx(0.35**2 / 5.2, rel=0.05)
    assert torch.allclose(terms["loss"], -floored + 3 * terms["penalty"], rtol=0, atol=1e-5)


def test_moser_bounds_the_density_under_every_context():
    """The uniform points have the contexts of the batch in turn, as many of each."""
    torch.manual_seed(0)
    # a floor as high as the uniform density, below which half of the points are
    model = Moser(Sphere(2), network=partial(NETWORK, context_features=2), uniform_points=60, eps=1.0)
    x, context = bump(3), torch.randn(3, 2)

    def penalty(labels: torch.Tensor) -> float:
        torch.manual_seed(1)
        return float(model.loss(x, labels)["penalty"][0])

    for k in range(3):
        other = context.clone()
        other[k] += 1
        assert abs(penalty(other) - penalty(context)) > 1e-5


def test_moser_by_a_stochastic_divergence():
    """The density of a point then hangs on the draw of the probe; without one it does not."""
    for divergence, varies in ((Exact(), False), (Hutchinson(), True)):
        torch.manual_seed(0)
        model, x = Moser(Sphere(2), network=NETWORK, divergence=divergence, uniform_points=5), bump(20)
        one, other = (model.loss(x)["floored_nll"] for _ in range(2))
        assert torch.equal(one, other) != varies


@pytest.mark.parametrize("make", COMPACT)
def test_moser_is_relative_to_the_uniform_density(make):
    """The floor is 1e-5 of the uniform density, however small that is: (2 pi)^-10 on T^10, say."""
    gradients = []
    for extra in (0.0, 10 * math.log(2 * math.pi)):
        torch.manual_seed(0)
        manifold = make()
        manifold.log_volume += extra
        model = Moser(manifold, network=NETWORK, uniform_points=100)
        terms = model.loss(uniform(manifold, 50).float())
        assert torch.isfinite(terms["loss"]).all()
        gradients.append(torch.autograd.grad(terms["loss"].mean(), list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max()))


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"uniform_points": 0}, {"eps": 0.0}], ids=str)
def test_moser_arguments(arguments):
    with pytest.raises(ValueError, match="Moser: alpha >= 0, uniform_points >= 1 and eps > 0 are needed, found"):
        Moser(Sphere(2), network=NETWORK, **arguments)


def test_every_flow_is_tested():
    kinds = {type(flow) for flow in flows(Sphere(2))}
    assert kinds == set(concrete(Flow))


# ---- draws of a known law


FLOWS = [(FlowMatching, make.values[0], {}) for make in COMPACT] + [
    (Moser, partial(Sphere, 2), {}),
    (FlowMatching, partial(Hyperbolic, 2), {"field": FrameField, "prior": WrappedNormal}),
]


@pytest.mark.parametrize("cls, make, parts", FLOWS)
def test_transported_draws_have_the_density_of_the_flow(cls, make, parts, monkeypatch):
    """By the determinant of the map itself on one side, by the divergence of the velocity on the other."""
    monkeypatch.setattr("rsgm.likelihood.draws._TOLERANCE", 1e-6)  # which makes the map the flow's own, nearly
    torch.manual_seed(0)
    model = cls(make(), **MODELS[cls], **parts)
    draws = model.transported(20, None, seeded(1))
    assert bool(model.manifold.check_point_on_manifold(draws.points))
    expected = ODESolver(1e-7).log_prob(model.flow, draws.points).value
    assert draws.log_density == pytest.approx(expected, abs=3e-2)
    assert float((draws.log_density - expected).abs().median()) < 1e-4
    assert torch.equal(draws.points, model.transported(20, None, seeded(1)).points)


def test_transported_draws_under_their_contexts():
    torch.manual_seed(0)
    network = partial(MLP, hidden=[16, 16], context_features=1)
    model = FlowMatching(Sphere(2), network=network)
    context = torch.linspace(-2, 2, 30)[:, None]
    draws = model.transported(30, context, seeded(1))
    assert draws.log_density == pytest.approx(model.log_prob(draws.points, context), abs=2e-3)
    assert draws.log_density != pytest.approx(model.log_prob(draws.points, context.flip(0)), abs=2e-3)


class Unprojected(FieldFlow):
    """The divergence as some published code takes it: the ambient trace of a field that projects directions alone."""

    def rate(self, t, x, directions, context=None):
        def ambient(y):
            return self.manifold.proju(y, self.field.network(t, y))

        axes = torch.eye(3, dtype=x.dtype)[:, None].expand(3, *x.shape)
        parts = [torch.func.jvp(ambient, (x,), (axis.contiguous(),)) for axis in axes]
        return parts[0][0], sum((axis * part[1]).sum(-1) for axis, part in zip(axes, parts, strict=True))


def test_a_likelihood_with_a_wrong_divergence_does_not_integrate_to_one():
    """The draws are those of the flow whatever its divergence is taken to be, so the mean of p / q tells."""
    torch.manual_seed(0)
    flow = Unprojected(TangentField(Sphere(2), NETWORK), Uniform(Sphere(2)))
    with torch.no_grad():
        flow.field.network.layers[-1].bias.copy_(torch.tensor([1.0, 0.5, -0.5]))
    right = FieldFlow(flow.field, flow.prior)
    draws = transport(right, 400, None, seeded(1))
    for law, expected in ((right, True), (flow, False)):
        ratio = (ODESolver(1e-5, "float64").log_prob(law, draws.points).value - draws.log_density).exp()
        assert (abs(float(ratio.mean()) - 1) < 1e-3) is expected
        assert (float(ratio.std()) < 1e-2) is expected
