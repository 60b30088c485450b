"""Samplers with the exact score of a known law: its moments and shares, the exact flow, orders of convergence."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from scipy import special

from conftest import STATE_SPACES, variants, within
from exact_laws import PLACES, SCALES, STATIONARY, Stationary, StationaryScore, compare, mixture
from helpers import HeatKernelScore, NoScore, seeded
from rsgm.likelihood import ODESolver, SolveError
from rsgm.manifolds import Euclidean, Hyperbolic, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.processes import Brownian, Langevin, ProductProcess, ScoreField, VariancePreserving
from rsgm.samplers import (
    FlowStepper,
    GeodesicEulerMaruyama,
    Heun,
    ProbabilityFlowSampler,
    ReverseDiffusion,
    RungeKutta,
    Sampler,
    Step,
    Stepper,
)
from rsgm.schedules import (
    ConstantBeta,
    DeviationGrid,
    GeometricVarianceGrid,
    LinearBeta,
    TimeGrid,
    UniformTimeGrid,
    UniformVarianceGrid,
)

S0 = 0.3  # of the law that is sampled, a heat kernel around the origin
CENTRE = torch.tensor([1.0, 0.0, 0.0])


PROCESS = Brownian(Sphere(2), LinearBeta(0.1, 12.0))
SCORE = HeatKernelScore(PROCESS, S0)

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


def stepper_and_grid() -> list:
    """Each stepper on one grid, and one of them on each grid: a stepper sees two times, and not where they are from."""
    found = [(make, GeometricVarianceGrid) for make in STEPPERS]
    found += [(Heun, make) for make in variants(TimeGrid) if make.values[0].func is not GeometricVarianceGrid]
    return [
        pytest.param(*(getattr(part, "values", [part])[0] for part in pair), id=f"{id_of(pair[0])}-{id_of(pair[1])}")
        for pair in found
    ]


def id_of(part: Any) -> str:
    return getattr(part, "id", None) or part.__name__


@pytest.mark.parametrize("make, make_grid", stepper_and_grid())
def test_moments(make, make_grid, short):
    """5 standard errors, false alarm 6e-7 per number; the bias of 120 steps, 30 of a flow, is less than one of them."""
    steps = 30 if isinstance(make(), FlowStepper) else 120
    sampler = ReverseDiffusion(steps, make(), make_grid(), denoise=False)
    x = sampler(HeatKernelScore(short, S0), 2_000, generator=seeded())
    assert x.shape == (2_000, 3)
    assert short.manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert has_the_law(short, x)


def test_moments_from_the_prior():
    """As above; at s = 6 the uniform law is the law at t = 1 to exp(-6), less than a standard error."""
    sampler = ReverseDiffusion(steps=60, stepper=Heun(), grid=GeometricVarianceGrid(), denoise=False)
    assert has_the_law(PROCESS, sampler(SCORE, 2_000, generator=seeded()))


@pytest.mark.parametrize("make", [Heun, GeodesicEulerMaruyama])
@pytest.mark.parametrize("manifold, rate", [(Torus(3), 0.5), (SpecialOrthogonal(), 1.0)], ids=str)
def test_moments_on_tori_and_rotations(make, manifold, rate):
    """E cos = exp(-s / 2), E tr R = 3 exp(-s), and E x is so much of the origin; from the uniform law, as above."""
    process = Brownian(manifold, LinearBeta(0.1, 24.0))
    sampler = ReverseDiffusion(steps=100, stepper=make(), grid=GeometricVarianceGrid(), denoise=False)
    x = sampler(HeatKernelScore(process, S0), 2_000, generator=seeded())
    assert manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert within(x, math.exp(-rate * remaining(process)) * manifold.origin(*manifold.shape, dtype=torch.float64))


@every_stepper
def test_zero_score_keeps_the_uniform_law(make):
    """Of the reverse process a Brownian motion is left, of the flow nothing; false alarm 6e-7 per number."""
    x = ReverseDiffusion(steps=5, stepper=make())(NoScore(PROCESS), 20_000, generator=seeded())
    assert within(x, 0.0)
    assert within(x[:, :, None] * x[:, None], torch.eye(3) / 3)


# ---- the default draws from the law that is scored


def right(found) -> bool:
    """Of a few thousand draws: four standard errors and a little, where the old default was off by .1 and by .4."""
    ratio = abs(found.ratio - 1) <= 0.01 + 4 * found.ratio_error
    return ratio and abs(found.gap) <= 0.01 + 4 * found.gap_error and found.weights <= 4 and found.evaluations <= 100


#: few draws of one law on each kind of manifold; `test_acceptance` has all of them at all scales
QUICK = [("S2", 0.01), ("S3", 0.1), ("T2 three", 0.001), ("SO3", 0.01), ("T2xS1", 0.1)]


@pytest.mark.parametrize("place, scale", QUICK)
def test_the_default_draws_from_the_law_that_is_scored(place, scale):
    assert right(compare(mixture(place, scale), ReverseDiffusion(), 3000, true_draws=10_000))


@pytest.mark.parametrize("place", STATIONARY)
def test_the_default_keeps_the_prior_of_langevin(place):
    assert right(compare(Stationary(Langevin(STATIONARY[place])), ReverseDiffusion(), 3000, true_draws=10_000))


@pytest.mark.parametrize("place, scale, low, high", [("S2", 0.1, 1.05, 1.3), ("T2", 0.01, 0.5, 0.75)])
def test_the_papers_sampler_is_as_wide_as_it_says(place, scale, low, high):
    """Too wide at .1 rad and too narrow at .01 rad: what the test above would have said of the old default."""
    paper = ReverseDiffusion(100, GeodesicEulerMaruyama(), UniformTimeGrid())
    found = compare(mixture(place, scale), paper, 3000, true_draws=10_000)
    assert low < found.ratio < high
    assert not right(found)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("place", PLACES)
def test_acceptance(place, scale):
    """50,000 draws: E d² within 2 % (or four standard errors), -log p within .02 nats, shares within four errors."""
    assert compare(mixture(place, scale), ReverseDiffusion(), 50_000).right()


@pytest.mark.slow
@pytest.mark.parametrize("place", STATIONARY)
def test_acceptance_of_the_prior_of_langevin(place):
    assert compare(Stationary(Langevin(STATIONARY[place])), ReverseDiffusion(), 50_000).right()


# ---- the law at t = 1


def at_one(score: ScoreField, n: int) -> torch.Tensor:
    """The first state of the default sampler."""
    return next(ReverseDiffusion().states(score, n, None, seeded()))


def test_draws_of_the_prior_settle_to_the_law_at_one():
    """On a torus the uniform law lacks 29 % of the slowest mode: of E exp(iθ) and of E exp(iθ + iφ) at t = 1."""
    law = mixture("T2", 0.1)
    s = law.s0 + float(law.process.schedule.integral(torch.tensor(1.0)))

    def modes(x: torch.Tensor) -> torch.Tensor:
        z = torch.view_as_complex(x.double().contiguous())
        return torch.view_as_real(torch.cat([z, z.prod(1, keepdim=True)], 1)).flatten(1)

    rates = torch.tensor([1, 1, 1, 1, 2, 2])
    expected = (law.weights[:, None] * modes(law.centres) * torch.exp(-rates * s / 2)).sum(0)
    assert expected.abs().max() > 0.25
    assert within(modes(at_one(law.score, 10_000)) - expected, 0.0)
    assert not within(modes(law.process.prior.draw(10_000, seeded())) - expected, 0.0)


@pytest.mark.parametrize(
    "process",
    [
        Brownian(Sphere(2)),
        VariancePreserving(Euclidean(2)),
        ProductProcess(Product([Sphere(1), Euclidean(1)]), factors=[Brownian, VariancePreserving]),
    ],
    ids=lambda process: type(process).__name__,
)
def test_a_law_that_is_the_prior_stays(process):
    """Its first and second moments, to five standard errors; each point moves."""
    x, drawn = at_one(StationaryScore(process), 10_000), process.prior.draw(10_000, seeded())
    exact = process.prior.draw(400_000, seeded(1)).double()
    assert ((x - drawn).abs().amax(-1) > 1e-3).double().mean() > 0.99
    assert within(x, exact.mean(0))
    assert within(x[:, :, None] * x[:, None], (exact.T @ exact) / len(exact))


def test_parts_without_such_a_motion_stay():
    process = ProductProcess(Product([Sphere(2), Hyperbolic(2)]))
    start, settled = process.prior.draw(20, seeded()), at_one(StationaryScore(process), 20)
    (moved, kept), (first, second) = process.manifold.split(settled), process.manifold.split(start)
    assert torch.equal(kept, second)
    assert not torch.equal(moved, first)
    langevin = Langevin(Hyperbolic(2))
    assert torch.equal(at_one(StationaryScore(langevin), 20), langevin.prior.draw(20, seeded()))


# ---- the contract of samplers


def samplers() -> list:
    return variants(Sampler)


@pytest.mark.parametrize("cls", samplers())
def test_samples_are_functions_of_the_generator(cls):
    torch.manual_seed(0)
    one, same, other = (cls()(SCORE, 20, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # and of nothing else: the global generator is where it was
    assert torch.equal(torch.rand(3), torch.rand(3, generator=seeded(0)))
    assert not torch.equal(cls()(SCORE, 20), cls()(SCORE, 20))
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

    context, score = torch.rand(4, 2), Seen(PROCESS)
    cls()(score, 4, context, seeded())
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

    clock = Clock(PROCESS)
    clock.times = []
    ReverseDiffusion(steps=4, stepper=make())(clock, 3, generator=seeded())
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
    found = stepper(Step(SCORE, t, t_next, generator=seeded(5)), x)
    assert torch.allclose(found, sphere.expmap(x, mean + noise), rtol=0, atol=1e-14)
    last = stepper(Step(SCORE, t, t_next, generator=seeded(5), last=True), x)
    assert torch.allclose(last, sphere.expmap(x, mean), rtol=0, atol=1e-14)


def by_formula(stepper: Stepper, step: Step, x: torch.Tensor, carry: bool = True) -> torch.Tensor:
    """Heun's or Runge and Kutta's end, written out in σ = sqrt(s); without parallel transport on demand."""
    sphere, schedule = PROCESS.manifold, PROCESS.schedule
    high, low = schedule.integral(step.t).sqrt()[:, None], schedule.integral(step.t_next).sqrt()[:, None]

    def slope(share, move):
        sigma, y = high + share * (low - high), sphere.expmap(x, move)
        found = (high - low) * sigma * SCORE(schedule.inverse(sigma[:, 0].square()), y)
        return sphere.transp(y, x, found) if carry else sphere.proju(x, found)

    first = slope(0, torch.zeros_like(x))
    if isinstance(stepper, Heun):
        return sphere.expmap(x, (first + slope(1, first)) / 2)
    second = slope(0.5, first / 2)
    third = slope(0.5, second / 2)
    return sphere.expmap(x, (first + 2 * second + 2 * third + slope(1, third)) / 6)


@pytest.mark.parametrize("stepper", [Heun(), RungeKutta()], ids=str)
def test_flow_steps_by_formula(stepper):
    """The slopes in σ, those of other points carried back in parallel: projected, they would differ by far more."""
    x = PROCESS.manifold.random_uniform(10, 3, generator=seeded(), dtype=torch.float64)
    t, t_next = (torch.full((10,), value, dtype=torch.float64) for value in (0.6, 0.5))
    for last in (False, True):
        step = Step(SCORE, t, t_next, generator=seeded(), last=last)
        found = stepper(step, x)
        assert torch.allclose(found, by_formula(stepper, step, x), rtol=0, atol=1e-14)
        assert (found - by_formula(stepper, step, x, carry=False)).abs().max() > 1e-6


@every_stepper
def test_the_last_step_carries_no_noise(make, monkeypatch):
    """From one and the same draw of the prior, one step ends in one place; two steps do not if there is noise."""
    start = PROCESS.manifold.random_uniform(20, 3, generator=seeded())
    monkeypatch.setattr(type(PROCESS.prior), "draw", lambda self, n, generator=None: start.clone())
    # nor does the first one, if the points do not move at t = 1
    monkeypatch.setattr(Brownian, "settling", 0.0)
    for denoise in (False, True):
        one = [ReverseDiffusion(1, make(), denoise=denoise)(SCORE, 20, None, seeded(k)) for k in (1, 2)]
        assert torch.equal(*one)
    two = [ReverseDiffusion(2, make())(SCORE, 20, None, seeded(k)) for k in (1, 2)]
    assert torch.equal(*two) == (isinstance(make(), FlowStepper) or make() == GeodesicEulerMaruyama(1.0))


@pytest.mark.parametrize(
    "stepper, part",
    [(GeodesicEulerMaruyama(), 1), (GeodesicEulerMaruyama(1.0), 0.5), (Heun(), 0.5), (RungeKutta(), 0.5)],
    ids=str,
)
def test_denoising_is_one_move_along_the_score(stepper, part):
    """Tweedie's, of which a flow makes half."""
    sampler = partial(ReverseDiffusion, 10, stepper)
    raw, denoised = (sampler(denoise=flag)(SCORE, 50, None, seeded()) for flag in (False, True))
    eps = torch.full((50,), PROCESS.eps)
    move = part * PROCESS.schedule.integral(eps)[:, None] * SCORE(eps, raw)
    assert move.norm(dim=-1).max() > 1e-5
    assert torch.allclose(denoised, PROCESS.manifold.expmap(raw, move), rtol=0, atol=1e-7)


@pytest.mark.parametrize("make", variants(FlowStepper))
def test_the_last_move_of_a_flow_keeps_what_the_drift_keeps(make):
    """Of a Langevin diffusion in its own law nothing moves, at the end either."""
    law = Stationary(Langevin(Hyperbolic(2)))
    states = list(ReverseDiffusion(3, make()).states(law.score, 50, None, seeded()))
    assert (law.process.manifold.dist(states[0], states[-1]) < 2e-3).all()


def test_denoising_finds_the_points_of_a_discrete_law():
    """For a single point Tweedie's move is exact to first order: what is left is far below the noise at eps."""

    process = Brownian(Sphere(2), LinearBeta(), eps=0.05)
    sampler = partial(ReverseDiffusion, 200, GeodesicEulerMaruyama(), GeometricVarianceGrid())
    point = HeatKernelScore(process, 0.0)
    drawn = (sampler(denoise=flag)(point, 300, generator=seeded()) for flag in (False, True))
    distances = [process.manifold.dist(CENTRE, x).mean() for x in drawn]
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
    """Largest error of the end points after so many steps of equal σ, against the exact flow."""
    tau = 2.0
    process = Brownian(Sphere(2), ConstantBeta(tau), eps=1e-9)
    score, centre = HeatKernelScore(process, S0), CENTRE.double()
    start = process.prior.draw(200, seeded())
    exact = flow_back(process.manifold.dist(centre.expand_as(start), start), tau)
    errors = []
    for n in steps:
        sampler = ReverseDiffusion(n, stepper, DeviationGrid(rho=1), denoise=False)
        x = sampler(score, 200, generator=seeded())
        errors.append(float((process.manifold.dist(centre.expand_as(x), x) - exact).abs().max()))
    return errors


@pytest.mark.parametrize(
    "stepper, order, steps",
    [(GeodesicEulerMaruyama(1.0), 1, 32), (Heun(), 2, 32), (RungeKutta(), 4, 16)],
    ids=["Euler", "Heun", "RungeKutta"],
)
def test_order_of_convergence(stepper, order, steps, float64, monkeypatch):
    """Twice the steps, a half, a quarter or a sixteenth of the error, on the way to the exact flow."""
    monkeypatch.setattr(Brownian, "settling", 0.0)
    errors = flow_errors(stepper, (steps, 2 * steps, 4 * steps))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert ratios[-1] == pytest.approx(2**order, rel=0.1)
    assert errors[-1] < {1: 0.05, 2: 2e-4, 4: 1e-6}[order]


def test_more_steps_reduce_the_bias(short):
    """Of E cos: beyond 5 standard errors at 4 steps, less than half as large at four times the steps."""

    def bias(steps: int) -> torch.Tensor:
        sampler = ReverseDiffusion(steps, GeodesicEulerMaruyama(), UniformVarianceGrid(), denoise=False)
        return sampler(HeatKernelScore(short, S0), 10_000, generator=seeded())[:, 0] - math.exp(-remaining(short))

    assert not within(bias(4), 0.0)
    found = [abs(float(bias(steps).mean())) for steps in (4, 16, 64)]
    assert found[0] > 2 * found[1] > 4 * found[2]


def test_the_adaptive_flow_is_exact(float64):
    """The prior's points end where the exact flow takes them, to the tolerance."""
    tau = 2.0
    process = Brownian(Sphere(2), ConstantBeta(tau), eps=1e-9)
    start, centre = process.prior.draw(200, seeded()), CENTRE.double().expand(200, 3)
    exact = flow_back(process.manifold.dist(centre, start), tau)
    x = ProbabilityFlowSampler(ODESolver(tolerance=1e-7))(HeatKernelScore(process, S0), 200, generator=seeded())
    assert (process.manifold.dist(centre, x) - exact).abs().max() < 1e-5


class Explosive(ScoreField):
    """Longer by a factor at every step."""

    def forward(self, t, x, context=None):
        return 1e30 * self.manifold.proju(x, torch.ones_like(x))


def test_samples_that_are_not_finite_are_an_error():
    with pytest.raises(SolveError, match=r"ReverseDiffusion: 3 of 3 samples are not finite"):
        ReverseDiffusion(4)(Explosive(PROCESS), 3, generator=seeded())
