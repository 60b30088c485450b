"""Samplers with the exact score of a known law: its moments, the exact flow, orders of convergence."""

import itertools
import math
from functools import partial

import pytest
import torch
from scipy import special

from conftest import STATE_SPACES, variants, within
from rsgm.fields import Field
from rsgm.likelihood import ProbabilityFlow, SolveError
from rsgm.manifolds import SpecialOrthogonal, Sphere, Torus
from rsgm.processes import Brownian
from rsgm.samplers import (
    GeodesicEulerMaruyama,
    Heun,
    ProbabilityFlowSampler,
    ReverseDiffusion,
    Sampler,
    Step,
    Stepper,
)
from rsgm.schedules import ConstantBeta, GeometricVarianceGrid, LinearBeta, TimeGrid, UniformVarianceGrid

S0 = 0.3  # of the law that is sampled, a heat kernel around the origin
CENTRE = torch.tensor([1.0, 0.0, 0.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class ExactScore(Field):
    """The score at time t of the law with data heat kernel at S0."""

    def __init__(self, process):
        super().__init__(process.manifold)
        self.process = process

    def forward(self, t, x, context=None):
        s = S0 + self.process.schedule.integral(t)
        return self.manifold.heat_kernel_score(self.manifold.origin(*x.shape, dtype=x.dtype), x, s)


class NoScore(Field):
    """Zero."""

    def forward(self, t, x, context=None):
        return torch.zeros_like(x)


PROCESS = Brownian(Sphere(2), LinearBeta(0.1, 12.0))
SCORE = ExactScore(PROCESS)

#: those that need no more of a process than a manifold can give
STEPPERS = [param for param in variants(Stepper) if param.values[0].func.__name__ not in STATE_SPACES]

every_stepper = pytest.mark.parametrize("make", STEPPERS)


def remaining(process: Brownian) -> float:
    """The variance time of the law at eps, where a sampler ends that does not denoise."""
    return S0 + process.resolution() ** 2


# ---- the law that is sampled


@pytest.fixture
def short(monkeypatch):
    """A process of variance time 1 that starts, not from the uniform law, but from its own law at t = 1."""
    process = Brownian(Sphere(2), LinearBeta(0.1, 1.9))

    def draw(self, n, generator=None):
        time = torch.full((n,), S0 + 1.0)
        return process.manifold.heat_kernel_sample(CENTRE.expand(n, 3), time, generator)

    monkeypatch.setattr(type(process.prior), "draw", draw)
    return process


def has_the_law(process: Brownian, x: torch.Tensor) -> bool:
    """E cos = exp(-s), E P2 = exp(-3 s), and evenly around the centre."""
    x = x.double()
    cosine, s = x[:, 0], remaining(process)
    features = [cosine, (3 * cosine.square() - 1) / 2, x[:, 1], x[:, 2], x[:, 1] * x[:, 2]]
    return within(torch.stack(features, -1), torch.tensor([math.exp(-s), math.exp(-3 * s), 0, 0, 0]))


@every_stepper
@pytest.mark.parametrize("make_grid", variants(TimeGrid))
def test_moments(make, make_grid, short):
    """5 standard errors, false alarm 6e-7 per number; the bias of 120 steps is less than one of them."""
    sampler = ReverseDiffusion(steps=120, stepper=make(), grid=make_grid(), denoise=False)
    x = sampler(short, ExactScore(short), 2_000, generator=seeded())
    assert x.shape == (2_000, 3)
    assert short.manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert has_the_law(short, x)


def test_moments_from_the_prior():
    """As above; at s = 6 the uniform law is the law at t = 1 to exp(-6), less than a standard error."""
    sampler = ReverseDiffusion(steps=60, stepper=Heun(), grid=GeometricVarianceGrid(), denoise=False)
    assert has_the_law(PROCESS, sampler(PROCESS, SCORE, 2_000, generator=seeded()))


@pytest.mark.parametrize("make", [Heun, GeodesicEulerMaruyama])
@pytest.mark.parametrize("manifold, rate", [(Torus(3), 0.5), (SpecialOrthogonal(), 1.0)], ids=str)
def test_moments_on_tori_and_rotations(make, manifold, rate):
    """E cos = exp(-s / 2), E tr R = 3 exp(-s), and E x is so much of the origin; from the uniform law, as above."""
    process = Brownian(manifold, LinearBeta(0.1, 24.0))
    sampler = ReverseDiffusion(steps=100, stepper=make(), grid=GeometricVarianceGrid(), denoise=False)
    x = sampler(process, ExactScore(process), 2_000, generator=seeded())
    assert manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert within(x, math.exp(-rate * remaining(process)) * manifold.origin(*manifold.shape, dtype=torch.float64))


@every_stepper
def test_zero_score_keeps_the_uniform_law(make):
    """Of the reverse process a Brownian motion is left, of the flow nothing; false alarm 6e-7 per number."""
    x = ReverseDiffusion(steps=5, stepper=make())(PROCESS, NoScore(PROCESS.manifold), 20_000, generator=seeded())
    assert within(x, 0.0)
    assert within(x[:, :, None] * x[:, None], torch.eye(3) / 3)


# ---- the contract of samplers


def samplers() -> list:
    return variants(Sampler)


@pytest.mark.parametrize("cls", samplers())
def test_samples_are_functions_of_the_generator(cls):
    torch.manual_seed(0)
    one, same, other = (cls()(PROCESS, SCORE, 20, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # and of nothing else: the global generator is where it was
    assert torch.equal(torch.rand(3), torch.rand(3, generator=seeded(0)))
    assert not torch.equal(cls()(PROCESS, SCORE, 20), cls()(PROCESS, SCORE, 20))
    assert one.dtype == torch.float32
    assert not one.requires_grad
    assert PROCESS.manifold.check_point_on_manifold(one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cls", samplers())
def test_the_context_reaches_the_score(cls):
    class Seen(NoScore):
        contexts: list = []  # noqa: RUF012

        def forward(self, t, x, context=None):
            assert len(t) == len(x) == len(context)
            self.contexts.append(context)
            return super().forward(t, x)

    context, score = torch.rand(4, 2), Seen(PROCESS.manifold)
    cls()(PROCESS, score, 4, context, seeded())
    assert score.contexts
    assert all(torch.equal(seen, context) for seen in score.contexts)


def test_steps_are_checked():
    with pytest.raises(ValueError, match="ReverseDiffusion: steps must be at least 1, found 0"):
        ReverseDiffusion(steps=0)


@every_stepper
def test_the_score_sees_times_from_one_to_eps(make):
    class Clock(NoScore):
        times: list = []  # noqa: RUF012

        def forward(self, t, x, context=None):
            self.times.append((float(t.min()), float(t.max())))
            return super().forward(t, x)

    clock = Clock(PROCESS.manifold)
    clock.times = []
    ReverseDiffusion(steps=4, stepper=make())(PROCESS, clock, 3, generator=seeded())
    times = [low for low, high in clock.times if low == high]
    assert len(times) == len(clock.times)
    assert times == sorted(times, reverse=True)
    assert times[0] == 1
    # the last evaluation is the denoising move's
    assert times[-1] == pytest.approx(PROCESS.eps)


# ---- the last step, and the last move


@pytest.mark.parametrize("lmbd", [0.0, 0.5, 1.0])
def test_steps_by_formula(lmbd):
    """exp_x((1 - lmbd/2) ds score + sqrt((1 - lmbd) ds) z), without z in the last step."""
    sphere, stepper = PROCESS.manifold, GeodesicEulerMaruyama(lmbd)
    x = sphere.random_uniform(10, 3, generator=seeded(), dtype=torch.float64)
    t, t_next = (torch.full((10,), value, dtype=torch.float64) for value in (0.6, 0.5))
    ds = (PROCESS.schedule.integral(t) - PROCESS.schedule.integral(t_next))[:, None]
    mean = (1 - lmbd / 2) * ds * SCORE(t, x)
    noise = ((1 - lmbd) * ds).sqrt() * sphere.random_tangent(x, seeded(5))
    found = stepper(Step(PROCESS, SCORE, t, t_next, generator=seeded(5)), x)
    assert torch.allclose(found, sphere.expmap(x, mean + noise), rtol=0, atol=1e-14)
    last = stepper(Step(PROCESS, SCORE, t, t_next, generator=seeded(5), last=True), x)
    assert torch.allclose(last, sphere.expmap(x, mean), rtol=0, atol=1e-14)


def test_heun_by_formula():
    """Half of both slopes, the second one transported back."""
    sphere, t, t_next = PROCESS.manifold, torch.full((10,), 0.6), torch.full((10,), 0.5)
    x = sphere.random_uniform(10, 3, generator=seeded(), dtype=torch.float64)

    def slope(t, x):
        return 0.5 * PROCESS.schedule.beta(t)[:, None] * SCORE(t, x)

    first = slope(t, x)
    end = sphere.expmap(x, 0.1 * first)
    move = 0.05 * (first + sphere.transp(end, x, slope(t_next, end)))
    for last in (False, True):
        found = Heun()(Step(PROCESS, SCORE, t, t_next, generator=seeded(), last=last), x)
        assert torch.allclose(found, sphere.expmap(x, move), rtol=0, atol=1e-7)
    # were it not transported, the move would leave the tangent space by far more
    assert (sphere.expmap(x, 0.05 * (first + slope(t_next, end))) - found).abs().max() > 1e-4


@every_stepper
def test_the_last_step_carries_no_noise(make, monkeypatch):
    """From one and the same draw of the prior, one step ends in one place; two steps do not if there is noise."""
    start = PROCESS.manifold.random_uniform(20, 3, generator=seeded())
    monkeypatch.setattr(type(PROCESS.prior), "draw", lambda self, n, generator=None: start.clone())
    for denoise in (False, True):
        one = [ReverseDiffusion(1, make(), denoise=denoise)(PROCESS, SCORE, 20, None, seeded(k)) for k in (1, 2)]
        assert torch.equal(*one)
    two = [ReverseDiffusion(2, make())(PROCESS, SCORE, 20, None, seeded(k)) for k in (1, 2)]
    assert torch.equal(*two) == (make() in (Heun(), GeodesicEulerMaruyama(1.0)))


def test_denoising_is_one_move_along_the_score():
    raw, denoised = (ReverseDiffusion(10, denoise=flag)(PROCESS, SCORE, 50, None, seeded()) for flag in (False, True))
    eps = torch.full((50,), PROCESS.eps)
    move = PROCESS.schedule.integral(eps)[:, None] * SCORE(eps, raw)
    assert move.norm(dim=-1).max() > 1e-5
    assert torch.allclose(denoised, PROCESS.manifold.expmap(raw, move), rtol=0, atol=1e-7)


def test_denoising_finds_the_points_of_a_discrete_law():
    """For a single point Tweedie's move is exact to first order: what is left is far below the noise at eps."""

    class Point(Field):
        def forward(self, t, x, context=None):
            return self.manifold.heat_kernel_score(CENTRE.expand_as(x), x, process.schedule.integral(t))

    process = Brownian(Sphere(2), LinearBeta(), eps=0.05)
    sampler = partial(ReverseDiffusion, steps=200, grid=GeometricVarianceGrid())
    distances = [
        process.manifold.dist(
            CENTRE, sampler(denoise=flag)(process, Point(process.manifold), 300, None, seeded())
        ).mean()
        for flag in (False, True)
    ]
    assert distances[0] > 0.5 * process.resolution()
    assert distances[1] < 0.01 * process.resolution()


# ---- the exact flow


def radial_mass(angle: torch.Tensor, s: float) -> torch.Tensor:
    """The mass of the heat kernel on S^2 within an angle."""
    x = angle.cos().numpy()
    total = 1 - x
    for l in range(1, 40):
        difference = special.eval_legendre(l - 1, x) - special.eval_legendre(l + 1, x)
        total = total + math.exp(-l * (l + 1) * s / 2) * difference
    return torch.from_numpy(total / 2)


def flow_back(angle: torch.Tensor, tau: float) -> torch.Tensor:
    """Where the probability flow takes a point: the ball round the centre keeps its mass. By bisection."""
    mass = radial_mass(angle, S0 + tau)
    low, high = torch.zeros_like(angle), torch.full_like(angle, math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        above = radial_mass(middle, S0) > mass
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return low


def flow_errors(stepper: Stepper, steps: tuple[int, ...]) -> list[float]:
    """Largest error of the end points after so many steps of equal variance, against the exact flow."""
    tau = 2.0
    process = Brownian(Sphere(2), ConstantBeta(tau), eps=1e-9)
    score, centre = ExactScore(process), CENTRE.double()
    start = process.prior.draw(200, seeded())
    exact = flow_back(process.manifold.dist(centre.expand_as(start), start), tau)
    errors = []
    for n in steps:
        sampler = ReverseDiffusion(n, stepper, grid=UniformVarianceGrid(), denoise=False)
        x = sampler(process, score, 200, generator=seeded())
        errors.append(float((process.manifold.dist(centre.expand_as(x), x) - exact).abs().max()))
    return errors


@pytest.mark.parametrize("stepper, order", [(GeodesicEulerMaruyama(1.0), 1), (Heun(), 2)], ids=["Euler", "Heun"])
def test_order_of_convergence(stepper, order, float64):
    """Twice the steps, a half or a quarter of the error, on the way to the exact flow."""
    errors = flow_errors(stepper, (32, 64, 128, 256))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert ratios[-1] == pytest.approx(2**order, rel=0.06)
    assert ratios[0] == pytest.approx(2**order, rel=0.25)
    assert errors[-1] < (0.02, 2e-4)[order - 1]


def test_more_steps_reduce_the_bias(short):
    """Of E cos: beyond 5 standard errors at 4 steps, less than half as large at four times the steps."""

    def bias(steps: int) -> torch.Tensor:
        sampler = ReverseDiffusion(steps, grid=UniformVarianceGrid(), denoise=False)
        return sampler(short, ExactScore(short), 10_000, generator=seeded())[:, 0] - math.exp(-remaining(short))

    assert not within(bias(4), 0.0)
    found = [abs(float(bias(steps).mean())) for steps in (4, 16, 64)]
    assert found[0] > 2 * found[1] > 4 * found[2]


def test_the_adaptive_flow_is_exact(float64):
    """The prior's points end where the exact flow takes them, to the tolerance."""
    tau = 2.0
    process = Brownian(Sphere(2), ConstantBeta(tau), eps=1e-9)
    start, centre = process.prior.draw(200, seeded()), CENTRE.double().expand(200, 3)
    exact = flow_back(process.manifold.dist(centre, start), tau)
    x = ProbabilityFlowSampler(ProbabilityFlow(tolerance=1e-7))(process, ExactScore(process), 200, generator=seeded())
    assert (process.manifold.dist(centre, x) - exact).abs().max() < 1e-5


class Explosive(Field):
    """Longer by a factor at every step."""

    def forward(self, t, x, context=None):
        return 1e30 * self.manifold.proju(x, torch.ones_like(x))


def test_samples_that_are_not_finite_are_an_error():
    sphere = Sphere(2)
    with pytest.raises(SolveError, match=r"ReverseDiffusion: 3 of 3 samples are not finite"):
        ReverseDiffusion(4)(Brownian(sphere), Explosive(sphere), 3, generator=torch.Generator().manual_seed(0))
