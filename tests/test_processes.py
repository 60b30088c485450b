"""Forward processes and their reversals."""

import math
from functools import partial

import pytest
import torch

from conftest import STATE_SPACES, concrete, each, variants, within
from helpers import FieldScore, NormalScore, at, seeded
from rsgm.divergence import with_divergence
from rsgm.fields import Field
from rsgm.likelihood import ODESolver
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, Sphere
from rsgm.processes import (
    Brownian,
    DataPrediction,
    DriftPrediction,
    Langevin,
    NoisePrediction,
    Prediction,
    Process,
    ProductProcess,
    Reverse,
    Score,
    VarianceExploding,
    VariancePreserving,
    VelocityPrediction,
)
from rsgm.schedules import AutomaticVariance, ConstantBeta, GeometricVariance, LinearBeta, QuadraticBeta, Schedule

SPHERE = Sphere(2)
NORTH = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

#: where a process is tested; elsewhere than on the sphere if it lives elsewhere
MANIFOLDS = {
    "Langevin": [Hyperbolic(2), Euclidean(3)],
    "ProductProcess": [Product([Hyperbolic(2), Sphere(2)]), Product([Sphere(1), Sphere(2)])],
}
every_process = pytest.mark.parametrize(
    "cls, manifold",
    [
        pytest.param(cls, manifold, id=f"{cls.__name__}-{manifold}")
        for cls in concrete(Process)
        for manifold in MANIFOLDS.get(cls.__name__, [STATE_SPACES.get(cls.__name__, SPHERE)])
    ],
)


def start(n: int) -> torch.Tensor:
    return NORTH.expand(n, 3)


def begin(manifold: Manifold, n: int) -> torch.Tensor:
    """One point, at most 2 from the origin, repeated."""
    x = manifold.origin(*manifold.shape, dtype=torch.float64)
    return manifold.expmap(x, 2 * manifold.frame(x)[-1]).expand(n, *manifold.shape)


def anywhere(manifold: Manifold, n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return manifold.projx(torch.randn(n, *manifold.shape, generator=seeded(), dtype=dtype))


class Tilt(Field):
    """The tangent part of a constant vector, times 1 + t."""

    def forward(self, t, x, context=None):
        vector = torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4, 0.6])[: x.shape[-1]].to(x)
        return (1 + t)[:, None] * self.manifold.proju(x, vector.expand_as(x))


# ---- the contract


@every_process
def test_reaches_its_prior(cls, manifold):
    """After a long time, mean and second moments are the prior's; 5 standard errors, false alarm 6e-7 per number."""
    process, n = cls(manifold, schedule=ConstantBeta(20.0)), 5000
    # an exploding process forgets its start only beside its own width
    x0 = manifold.origin(n, *manifold.shape, dtype=torch.float64) if cls is VarianceExploding else begin(manifold, n)
    x = process.perturb(x0, at(1.0, n), seeded())
    y = process.prior.draw(n, seeded(1)).double()
    assert process.manifold.check_point_on_manifold(y.float(), atol=1e-6, rtol=0)
    for moment in (lambda z: z, lambda z: z[:, :, None] * z[:, None]):
        assert within(moment(x) - moment(y), 0.0)


@every_process
@pytest.mark.parametrize("t", [1e-3, 0.1, 0.5, 1.0])
def test_score_belongs_to_the_law(cls, manifold, t):
    """Stein's identity E[<score, V> + div V] = 0 for a tangent field V; false alarm 6e-7 each."""
    process, n = cls(manifold), 5000
    try:
        process.conditional_score(begin(manifold, 1), anywhere(manifold, 1), at(t, 1))
    except NotImplementedError as error:
        assert "ImplicitScoreMatching" in str(error)  # noqa: PT017
        n = 10
    x0, times = begin(manifold, n), at(t, n)
    x = process.perturb(x0, times, seeded())
    assert process.manifold.check_point_on_manifold(x, atol=1e-14, rtol=0)
    if n == 10:
        return
    score = process.conditional_score(x0, x, times)
    assert process.manifold.check_vector_on_tangent(x, score, atol=1e-11 * float(score.abs().max()), rtol=0)
    for vector in torch.eye(manifold.shape[0], dtype=torch.float64):

        def field(y, vector=vector):
            y = manifold.projx(y)
            return manifold.proju(y, (1 + y[:, :1]) * vector)

        value, divergence = with_divergence(field, manifold, x, manifold.frame(x))
        assert within(manifold.inner(x, score, value) + divergence, 0.0)


@every_process
def test_drift_and_its_divergence(cls, manifold):
    process, x = cls(manifold), anywhere(manifold, 10)
    t = torch.linspace(0.01, 1, 10, dtype=torch.float64)
    drift, divergence = process.drift_with_divergence(t, x, manifold.frame(x))
    assert manifold.check_vector_on_tangent(x, drift, atol=1e-13 * (1 + float(drift.abs().max())), rtol=0)
    assert torch.allclose(drift, process.drift(t, x))
    _, expected = Process.drift_with_divergence(process, t, x, manifold.frame(x))
    assert divergence.shape == (10,)
    assert torch.allclose(divergence, expected, atol=1e-12)


@every_process
def test_score(cls, manifold):
    """v / σ + 2 b / β, with its divergence."""
    process, x = cls(manifold), anywhere(manifold, 10)
    t = torch.linspace(0.01, 1, 10, dtype=torch.float64)
    score, inner, frame = Score(process, Tilt(manifold)), Tilt(manifold), manifold.frame(x)
    value, divergence = score.with_divergence(t, x, frame)
    expected = inner(t, x) / process.std(t)[:, None] + 2 * process.drift(t, x) / process.schedule.beta(t)[:, None]
    assert torch.allclose(value, expected, atol=1e-13)
    assert torch.allclose(score(t, x), expected, atol=1e-13)
    assert torch.allclose(divergence, Field.with_divergence(score, t, x, frame)[1], atol=1e-11)
    assert score.manifold is manifold


@every_process
def test_times_are_per_point(cls, manifold):
    """Short times stay near the start, long ones go far, in one batch."""
    process, n = cls(manifold), 2_000
    t = torch.tensor([1e-3, 1.0], dtype=torch.float64).repeat(n)
    x0 = begin(manifold, 2 * n)
    distance = manifold.dist(x0, process.perturb(x0, t, seeded())).reshape(n, 2)
    assert distance[:, 0].max() < 10 * process.resolution()
    assert distance[:, 1].mean() > 1
    std = process.std(t)
    assert std.shape == (2 * n,)
    assert (std > 0).all()
    assert std[0] < std[1]
    assert torch.allclose(process.diffusion(t), process.schedule.beta(t).sqrt())


@every_process
def test_eps_is_checked(cls, manifold):
    for eps in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"{cls.__name__}: eps must be in \[0, 1\), found {eps}"):
            cls(manifold, eps=eps)


@every_process
def test_no_noise_at_eps_is_refused(cls, manifold):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: no noise at eps = 0.*use eps > 0 or .*GeometricVariance"):
        cls(manifold, schedule=LinearBeta(), eps=0.0)
    # a schedule with noise at zero may start there
    process = cls(manifold, schedule=GeometricVariance(s_min=1e-4), eps=0.0)
    assert process.resolution() == pytest.approx(1e-2)


@every_process
def test_perturbations_are_functions_of_the_generator(cls, manifold):
    process = cls(manifold)
    x0, t = anywhere(manifold, 5, torch.float32), torch.rand(5, generator=seeded())
    one, same, other = (process.perturb(x0, t, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == x0.dtype


# ---- Brownian motion


@pytest.mark.parametrize("make", variants(Schedule))
def test_brownian_motion_runs_for_the_variance_time(make):
    """E cos = exp(-s(t)) with s counted from 0, E P2 = exp(-3 s); false alarm 6e-7 each."""
    schedule, n = make(), 20_000
    process = Brownian(SPHERE, schedule)
    for t in (0.03, 0.5, 1.0):
        s = float(schedule.integral(torch.tensor(t, dtype=torch.float64)))
        cosine = process.perturb(start(n), at(t, n), seeded())[:, 2]
        assert within(cosine, math.exp(-s)), t
        assert within((3 * cosine.square() - 1) / 2, math.exp(-3 * s)), t
        assert float(process.std(at(t, 1))) == pytest.approx((1 - math.exp(-s)) ** 0.5), t


def test_brownian_score_is_the_heat_kernel_score():
    process = Brownian(SPHERE, QuadraticBeta())
    x0, x = (SPHERE.random_uniform(50, 3, generator=seeded(k), dtype=torch.float64) for k in (0, 1))
    t = torch.linspace(0.02, 1, 50, dtype=torch.float64)
    y = x.clone().requires_grad_()
    log_prob = SPHERE.heat_kernel_log_prob(x0, SPHERE.projx(y), process.schedule.integral(t))
    (gradient,) = torch.autograd.grad(log_prob.sum(), y)
    assert torch.allclose(process.conditional_score(x0, x, t), gradient, rtol=1e-8, atol=1e-8)


def test_brownian_motion_needs_a_compact_manifold():
    with pytest.raises(ValueError, match=r"infinite volume.*choose a compact manifold"):
        Brownian(Euclidean(2))


def test_resolution_of_the_published_runs():
    """0.107 degrees at eps = 1e-3 with beta from 0.001 to 5."""
    assert math.degrees(Brownian(SPHERE).resolution()) == pytest.approx(0.1072, abs=1e-4)


# ---- flat space


@pytest.mark.parametrize("cls", [VariancePreserving, VarianceExploding], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("t", [1e-3, 0.3, 1.0])
def test_flat_processes_by_formula(cls, t):
    """N(exp(-s/2) x0, 1 - exp(-s)) or N(x0, s); means and variances to 5 standard errors, the score by autograd."""
    process, n = cls(Euclidean(2), LinearBeta(0.1, 4.0)), 20_000
    s = 0.1 * t + 1.95 * t * t
    x0 = torch.tensor([2.0, -1.0], dtype=torch.float64)
    mean, std = (math.exp(-s / 2) * x0, (1 - math.exp(-s)) ** 0.5) if cls is VariancePreserving else (x0, s**0.5)
    x, times = process.perturb(x0.expand(n, 2), at(t, n), seeded()), at(t, n)
    assert within(x, mean)
    assert within((x - mean).square(), std**2)
    assert torch.allclose(process.std(times), torch.tensor(std, dtype=torch.float64))
    y = x[:5].clone().requires_grad_()
    (score,) = torch.autograd.grad(torch.distributions.Normal(mean, std).log_prob(y).sum(), y)
    assert torch.allclose(process.conditional_score(x0.expand(5, 2), y, times[:5]), score)


def test_flat_processes_against_reference(reference):
    for case in reference("euclidean")["VP_linear_beta"]:
        process = VariancePreserving(Euclidean(1), LinearBeta(case["beta_min"], case["beta_max"]))
        t, one = at(case["t"], 1), torch.ones(1, 1, dtype=torch.float64)
        assert float(process.std(t).square()) == pytest.approx(case["var"], rel=1e-12)
        # the score at x = 0 is the mean over the variance
        score = float(process.conditional_score(one, 0 * one, t))
        assert score == pytest.approx(case["mean_coeff"] / case["var"], rel=1e-12)


@pytest.mark.parametrize("cls", [VariancePreserving, VarianceExploding], ids=lambda cls: cls.__name__)
def test_flat_processes_need_a_vector_space(cls):
    with pytest.raises(ValueError, match=r"Sphere.* is not a vector space.*choose Euclidean"):
        cls(SPHERE)


@pytest.mark.parametrize("make", [VariancePreserving, VarianceExploding], ids=lambda cls: cls.__name__)
def test_flat_likelihoods_of_a_normal_law(make):
    """With the exact score the flow is linear: N(mean, scale²) at eps is carried to a law that the prior scores."""
    process, scale, n = make(Euclidean(2), ConstantBeta(40.0)), 0.5, 50
    mean = torch.tensor([0.7, -0.4], dtype=torch.float64)
    x = mean + torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    ends = process.schedule.integral(torch.tensor([process.eps, 1.0], dtype=torch.float64))
    preserving = make is VariancePreserving
    decay = (-ends / 2).exp() if preserving else torch.ones(2, dtype=torch.float64)
    variance = decay.square() * scale**2 + (-torch.expm1(-ends) if preserving else ends)
    # the flow maps standard deviations onto one another
    ratio = (variance[1] / variance[0]).sqrt()
    end = decay[1] * mean + ratio * (x - decay[0] * mean)
    expected = process.prior.log_prob(end) + 2 * ratio.log()
    found = ODESolver(tolerance=1e-9)(NormalScore(process, scale, mean), x).value
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    if preserving:  # whose prior is reached, to exp(-20): what is left is the law at eps itself
        target = torch.distributions.Normal(decay[0] * mean, variance[0].sqrt())
        assert torch.allclose(found, target.log_prob(x).sum(1), rtol=0, atol=1e-6)


# ---- Langevin diffusions


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_langevin_in_flat_space_is_variance_preserving(t, steps):
    """With unit scale N(exp(-s/2) x0, 1 - exp(-s)), for any number of steps; false alarm 6e-7 per number."""
    process, n = Langevin(Euclidean(2), scale=1.0, steps=steps), 20_000
    s = float(process.schedule.integral(torch.tensor(t, dtype=torch.float64)))
    x0 = torch.tensor([2.0, -1.0], dtype=torch.float64)
    x = process.perturb(x0.expand(n, 2), at(t, n), seeded())
    assert within(x, math.exp(-s / 2) * x0)
    rest = x - math.exp(-s / 2) * x0
    assert within(rest[:, :, None] * rest[:, None], (1 - math.exp(-s)) * torch.eye(2))
    y, ones = torch.randn(5, 2, generator=seeded(), dtype=torch.float64), at(t, 5)
    assert torch.allclose(process.drift(ones, y), -process.schedule.beta(ones)[:, None] * y / 2, rtol=1e-14)


@pytest.mark.parametrize("manifold", [Hyperbolic(2), Hyperbolic(4), Sphere(2), Product(), Euclidean(2)], ids=str)
def test_langevin_drifts_to_its_prior(manifold):
    """2 b / beta is the gradient of the prior's log-density, and in closed form on hyperbolic space."""
    process, t = Langevin(manifold, scale=0.4), torch.linspace(0.1, 1, 20, dtype=torch.float64)
    x = anywhere(manifold, 20)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(process.prior.log_prob(manifold.projx(y)).sum(), y)
    score = 2 * process.drift(t, x) / process.schedule.beta(t)[:, None]
    assert torch.allclose(score, manifold.egrad2rgrad(x, gradient), rtol=1e-9, atol=1e-9)
    if manifold.__class__ is Hyperbolic:
        origin = manifold.origin(20, *manifold.shape, dtype=torch.float64)
        r = manifold.dist(origin, x)
        expected = r / 0.4**2 + (manifold.dim - 1) * (1 / r.tanh() - 1 / r)
        assert torch.allclose(manifold.inner(x, score, manifold.logmap(x, origin)) / r, expected, rtol=1e-10)
    # and no step leaves the law of the prior, to the order of the step
    n = 4000
    short = Langevin(manifold, ConstantBeta(1.0), scale=0.4, steps=30)
    start = process.prior.draw(n, seeded(3)).double()
    x = short.perturb(start, at(1.0, n), seeded(4))
    square = manifold.dist(manifold.origin(n, *manifold.shape, dtype=torch.float64), x).square()
    assert within(square, manifold.dim * 0.4**2)


@pytest.mark.parametrize("manifold", [Hyperbolic(2), Hyperbolic(4), Product([Hyperbolic(2), Euclidean(1)])], ids=str)
def test_the_score_of_a_last_step(manifold):
    """Stein's identity: E <score, V> = -E div V for a field V, here r times the unit vector away from the origin."""
    n, process = 20_000, Langevin(manifold, ConstantBeta(1.0), scale=0.5, steps=2)
    origin = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    start = manifold.expmap(origin, manifold.frame(origin)[0])
    x, score = process.perturb_with_score(start, at(1.0, n), seeded())
    assert manifold.check_vector_on_tangent(x, score, atol=1e-9, rtol=0)
    away = -manifold.logmap(x, origin)
    divergence = manifold.dim + manifold.inner(x, manifold.log_det_exp_gradient(origin, x), away)
    assert within(manifold.inner(x, score, away) + divergence, 0.0)


def test_the_score_of_a_last_step_in_flat_space():
    """The walk is exact there, so that the mean of the score given the end is that of the normal law of X_t."""
    n, process = 20_000, Langevin(Euclidean(1), ConstantBeta(0.5), scale=1.0)
    start = torch.full((n, 1), 2.0, dtype=torch.float64)
    x, score = process.perturb_with_score(start, at(1.0, n), seeded())
    decay = math.exp(-0.25)
    exact = -(x - 2 * decay) / (1 - decay**2)
    for power in (0, 1):
        assert within(((score - exact) * x**power)[:, 0], 0.0)


def test_the_last_step_is_as_short_as_the_others():
    """The prior is invariant but for the bias of the steps, 0.5 % for 20; one step of a third of the time has 2.3 %."""
    n, manifold = 50_000, Hyperbolic(2)
    process = Langevin(manifold, ConstantBeta(2.0), scale=0.5, steps=20)
    x, _ = process.perturb_with_score(process.prior.draw(n, seeded()).double(), at(1.0, n), seeded(1))
    square = manifold.dist(manifold.origin(n, *manifold.shape, dtype=torch.float64), x).square()
    assert abs(square.mean() / (2 * 0.5**2) - 1) < 0.015


def test_langevin_errors():
    with pytest.raises(ValueError, match=r"the tails wrap round Sphere.*use BrownianLaw"):
        Langevin(Sphere(2), scale=1.0)
    with pytest.raises(ValueError, match="Langevin: steps must be at least 1, found 0"):
        Langevin(Hyperbolic(2), steps=0)


# ---- products


def test_factors_run_on_their_own():
    """Each factor's law is that of the process alone; the processes share schedule and eps."""
    product = Product([Sphere(2), Euclidean(2)])
    schedule = LinearBeta(0.01, 3.0)
    process = ProductProcess(product, schedule, 0.01, [Brownian, partial(Langevin, scale=1.0, steps=2)])
    assert [factor.eps for factor in process.factors] == [0.01, 0.01]
    assert all(factor.schedule is schedule for factor in process.factors)
    n, s = 20_000, float(schedule.integral(torch.tensor(0.6, dtype=torch.float64)))
    flat = torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = process.perturb(product.join([start(n), flat.expand(n, 2)]), at(0.6, n), seeded())
    on_sphere, on_plane = product.split(x)
    assert within(on_sphere[:, 2], math.exp(-s))
    assert within(on_plane, math.exp(-s / 2) * flat)
    assert within(on_plane[:, 0] * on_sphere[:, 2], math.exp(-s / 2 - s))
    y = process.prior.draw(5, seeded())
    expected = -math.log(4 * math.pi) + torch.distributions.Normal(0, 1).log_prob(y[:, 3:]).sum(-1)
    assert torch.allclose(process.prior.log_prob(y), expected)


def test_default_factors_and_errors():
    process = ProductProcess(Product([Sphere(2), Hyperbolic(2), Euclidean(1)]))
    assert [type(factor) for factor in process.factors] == [Brownian, Langevin, VariancePreserving]
    nested = ProductProcess(Product([Product([Sphere(2), Euclidean(2)]), Euclidean(1)]))
    x = nested.prior.draw(3, seeded()).double()
    # a transition density of every factor, so that the default loss will do
    log_prob, score = nested.conditional(x, x, at(0.5, 3))
    assert bool(log_prob.isfinite().all() & score.isfinite().all())
    with pytest.raises(ValueError, match=r"expected a Product, found Sphere\(dim=2\)"):
        ProductProcess(SPHERE)
    with pytest.raises(ValueError, match=r"has 2 factors, found 1 processes"):
        ProductProcess(Product(), factors=[Brownian])
    # the flow runs at the product's rate, and noise at the factors'
    for other in (lambda m, schedule, eps: Brownian(m, eps=eps), lambda m, schedule, eps: Brownian(m, schedule, 0.01)):
        with pytest.raises(ValueError, match=r"rate LinearBeta.* from eps = 0.001, found Brownian with LinearBeta"):
            ProductProcess(Product(), factors=[other, VariancePreserving])


# ---- the reversal


def rotation(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A drift, which Brownian motion lacks."""
    return t[:, None] * torch.linalg.cross(torch.tensor([0.0, 0.0, 2.0]).to(x).expand_as(x), x)


def test_factors_follow_a_schedule_that_sees_the_points():
    """Of a product within a product too: noise and prior are the factors' own."""
    plane = Product([Euclidean(1), Euclidean(2)])
    inner = partial(ProductProcess, factors=[VarianceExploding] * 2)
    process = ProductProcess(Product([plane, Euclidean(1)]), AutomaticVariance(), 1e-3, [inner, VarianceExploding])
    points = 30 * torch.randn(50, 4, generator=seeded(), dtype=torch.float64)
    assert process.fit(points)
    known = partial(ProductProcess, factors=[inner, VarianceExploding])(process.manifold, process.schedule, 1e-3)
    assert float(process.schedule.integral(torch.tensor(1.0))) > 1000
    for of in (lambda p: p.perturb(points, at(0.7, 50), seeded()), lambda p: p.prior.draw(5, seeded())):
        assert torch.equal(of(process), of(known))


@pytest.mark.parametrize("lmbd", [0.0, 0.3, 1.0])
def test_reverse_formulas(lmbd):
    """Increments of -b + (1 - lmbd/2) beta score and of variance (1 - lmbd) beta, with the exact ds."""
    process = Brownian(SPHERE, LinearBeta(0.1, 3.0))
    process.drift, score = rotation, FieldScore(process, Tilt(SPHERE))
    x = SPHERE.random_uniform(4, 3, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([0.9, 0.5, 1.0, 0.2], dtype=torch.float64)
    t_next = torch.tensor([0.4, 0.45, 0.001, 0.1], dtype=torch.float64)
    flow = Reverse(score, lmbd)
    beta = 0.1 + 2.9 * t
    move, std = flow.increment(t, t_next, x)
    ds = 0.1 * (t - t_next) + 1.45 * (t.square() - t_next.square())
    expected = ds[:, None] * ((1 - lmbd / 2) * score(t, x) - process.drift(t, x) / beta[:, None])
    assert torch.allclose(move, expected, rtol=1e-12, atol=1e-15)
    assert torch.allclose(std, ((1 - lmbd) * ds).sqrt(), rtol=1e-12)


@pytest.mark.parametrize("lmbd", [-0.01, 1.01, math.nan])
def test_lambda_is_checked(lmbd):
    with pytest.raises(ValueError, match=r"lmbd must be in \[0, 1\], found"):
        Reverse(FieldScore(Brownian(SPHERE), Tilt(SPHERE)), lmbd)


def test_the_context_reaches_the_score():
    class Scaled(Tilt):
        def forward(self, t, x, context=None):
            return context * super().forward(t, x)

    x, t, context = start(2), at(0.5, 2), torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    scaled, plain = (Reverse(FieldScore(Brownian(SPHERE), cls(SPHERE)), 0.0) for cls in (Scaled, Tilt))
    assert torch.allclose(scaled.increment(t, t / 2, x, context)[0], context * plain.increment(t, t / 2, x)[0])


# ---- predictions


FLAT = [
    VariancePreserving(Euclidean(3), LinearBeta(0.1, 4.0)),
    VarianceExploding(Euclidean(3), GeometricVariance(0.01, 9.0), eps=0.0),
]


class Fixed(Field):
    """A prediction that is given."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__(Euclidean(3))
        self.value = value

    def forward(self, t, x, context=None):
        return self.value


@pytest.mark.parametrize("process", FLAT, ids=lambda process: type(process).__name__)
def test_predictions_of_the_truth_are_the_conditional_score(process):
    """The noise, the data, the velocity or the drift that made a point give its score, and Tweedie the data again."""
    n = 20
    x0, z = (torch.randn(n, 3, generator=seeded(k), dtype=torch.float64) for k in (0, 1))
    t = torch.linspace(0.05, 1, n, dtype=torch.float64)
    alpha, sigma = process.signal(t)[:, None], process.std(t)[:, None]
    x = alpha * x0 + sigma * z
    expected = process.conditional_score(x0, x, t)
    truths = {
        NoisePrediction: z,
        DataPrediction: x0,
        VelocityPrediction: alpha * z - sigma * x0,
        DriftPrediction: process.diffusion(t)[:, None] * expected,
        Score: sigma * (expected - 2 * process.drift(t, x) / process.schedule.beta(t)[:, None]),
    }
    assert set(truths) == {param.values[0] for param in each(Prediction)}
    for cls, truth in truths.items():
        score = cls(process, Fixed(truth))(t, x)
        assert torch.allclose(score, expected, rtol=1e-9, atol=1e-9), cls
    assert torch.allclose(process.denoise(t, x, expected), x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cls", each(Prediction))
@pytest.mark.parametrize("process", [*FLAT, Brownian(SPHERE)], ids=lambda process: type(process).__name__)
def test_divergence_of_predictions(cls, process):
    """The fused one is that of the score as a whole; what needs a normal law says so where there is none."""
    field = Tilt(process.manifold)
    if cls.__name__ in STATE_SPACES and process not in FLAT:
        with pytest.raises(ValueError, match=r"Brownian on Sphere.* has no normal law .* choose Score"):
            cls(process, field)
        return
    score, x = cls(process, field), anywhere(process.manifold, 10)
    t, frame = torch.linspace(0.05, 1, 10, dtype=torch.float64), process.manifold.frame(x)
    value, divergence = score.with_divergence(t, x, frame)
    expected, expected_divergence = Field.with_divergence(score, t, x, frame)
    assert torch.allclose(value, expected, atol=1e-12)
    assert torch.allclose(value, score(t, x), atol=1e-12)
    assert torch.allclose(divergence, expected_divergence, atol=1e-10)


@every_process
def test_contraction_is_what_the_mean_loses(cls, manifold):
    process = cls(manifold)
    t, t_next = at(0.6, 3), at(0.2, 3)
    found = process.contraction(t, t_next)
    assert found.shape == (3,)
    ds = process.schedule.integral(t) - process.schedule.integral(t_next)
    expected = (-ds / 2).exp() if cls is VariancePreserving else torch.ones_like(t)
    assert torch.allclose(found, expected)
