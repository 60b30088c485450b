"""The loop of Langevin dynamics, and the samplers and the corrector that are made of it."""

import math

import pytest
import torch

from conftest import within
from helpers import NormalScore, at, seeded
from rsgm.manifolds import Euclidean, Sphere
from rsgm.processes import Brownian, VarianceExploding, VariancePreserving
from rsgm.samplers import (
    AnnealedLangevin,
    BoxStart,
    GaussianBridge,
    LangevinChain,
    LangevinDynamics,
    PredictorCorrector,
    PriorStart,
    Step,
    gradient_of,
    langevin,
)
from rsgm.schedules import DiscreteLinear, GeometricVariance, GridLadder, langevin_step

LINE = Euclidean(1)


# ---- the loop


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
def test_stationary_variance(h):
    """1 / (1 - h/2) on N(0, 1): 1.0526 for 0.1, and a factor of two for 1; 5 standard errors."""
    x = torch.zeros(40_000, 1, dtype=torch.float64)
    x = langevin(LINE, lambda y: -y, x, h, math.ceil(8 / h), seeded())
    assert within(x, 0.0)
    assert within(x.square(), 1 / (1 - h / 2))


def test_steps_by_formula():
    """x + h s + sqrt(2h) z, with one step size for all points or one for each, and along geodesics."""
    sphere = Sphere(2)
    x = sphere.random_uniform(5, 3, generator=seeded(), dtype=torch.float64)
    gradient = sphere.proju(x, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).expand(5, 3))
    z = sphere.random_tangent(x, seeded(1))
    sizes = torch.linspace(0.01, 0.2, 5, dtype=torch.float64)
    for h in (0.1, torch.tensor(0.1), sizes, lambda y, g, noise: sizes):
        column = sizes[:, None] if callable(h) else torch.as_tensor(h, dtype=torch.float64).reshape(-1, 1)
        found = langevin(sphere, lambda y: gradient, x, h, 1, seeded(1))
        assert torch.allclose(found, sphere.expmap(x, column * gradient + (2 * column).sqrt() * z), atol=1e-8)
    assert sphere.check_point_on_manifold(langevin(sphere, lambda y: 0 * y, x, 0.5, 100, seeded()), atol=1e-12)


def test_long_gradients_are_scaled_down():
    """To the bound, by their norm over the whole point; short ones stay as they are."""
    plane = Euclidean(2)
    gradients = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    x = torch.zeros(2, 2)
    moves = [langevin(plane, lambda y: gradients, x, 0.1, 1, seeded(), max_norm=bound) for bound in (None, 1.0)]
    expected = 0.1 * (gradients - torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert torch.allclose(moves[0] - moves[1], expected, atol=1e-6)


def test_nothing_is_remembered():
    """No graph through the steps (error 3), whatever the gradient carries; the energy's weights get no gradient."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    gradient = gradient_of(lambda z: network(z)[:, 0] - 0.5 * z.square().sum(1))
    start = torch.randn(6, 2, generator=seeded(), requires_grad=True)
    x = langevin(Euclidean(2), gradient, start, 0.08, 20, seeded())
    assert x.grad_fn is None
    assert not x.requires_grad
    assert all(p.grad is None for p in network.parameters())
    x = langevin(Euclidean(2), lambda y: network[0](y) @ network[0].weight, start, 0.08, 2, seeded())
    assert x.grad_fn is None
    with torch.inference_mode():
        same = langevin(Euclidean(2), gradient, start.detach().clone(), 0.08, 20, seeded())
    assert torch.equal(same, langevin(Euclidean(2), gradient, start, 0.08, 20, seeded()))


def test_gradient_of_a_log_density():
    x = torch.randn(4, 1, 3, generator=seeded())
    gradient = gradient_of(lambda y: -0.5 * y.square().flatten(1).sum(1))(x)
    assert torch.allclose(gradient, -x)
    assert not gradient.requires_grad


# ---- at one level


def test_langevin_dynamics_is_the_loop_at_eps():
    process = VarianceExploding(LINE, GeometricVariance(1e-4, 9.0), eps=0.0)
    x = LangevinDynamics(steps=200, step=0.2)(NormalScore(process), 20_000, generator=seeded())
    assert within(x.double().square(), (1 + 1e-4) / (1 - 0.1 / (1 + 1e-4)))


def test_starts():
    """The prior has the standard deviation of the largest level, not one (error 11); a box is what it says."""
    process = VarianceExploding(LINE, GeometricVariance(1e-4, 100.0), eps=0.0)
    x = PriorStart()(process, 20_000, seeded())
    assert within(x.double().square(), 100.0)
    box = BoxStart(-8.0, 8.0)(process, 20_000, seeded()).double()
    assert box.abs().max() <= 8
    assert within(box, 0.0)
    assert within(box.square(), 64 / 3)
    sphere = Brownian(Sphere(2))
    assert sphere.manifold.check_point_on_manifold(BoxStart(-1.0, 1.0)(sphere, 9, seeded()), atol=1e-6)
    with pytest.raises(ValueError, match=r"low must be below high, found 1.0 and 1.0"):
        BoxStart(1.0, 1.0)


# ---- down a ladder


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("r", [None, 0.1, 0.5])
def test_annealing_a_point(steps, r):
    """Data at 0: the variance obeys v <- (1 - r)² v + 2 r σ² at each level; denoising then ends at 0."""
    process = VarianceExploding(LINE, GeometricVariance(0.01, 4.0), eps=0.0)
    score, ladder = NormalScore(process, 0.0), GridLadder(8)
    x = AnnealedLangevin(ladder, steps, r, denoise=False)(score, 20_000, generator=seeded())
    size = langevin_step(20 ** (1 / 7), steps) if r is None else r
    variance = 4.0
    for level in process.std(ladder(process.schedule, 1, 0.0)).square().tolist():
        for _ in range(steps):
            variance = (1 - size) ** 2 * variance + 2 * size * level
    assert within(x.double().square(), variance)
    x = AnnealedLangevin(ladder, steps, r)(score, 50, generator=seeded())
    assert x.abs().max() < 1e-6


def test_levels_are_visited_in_order():
    seen = []
    process = VarianceExploding(LINE, GeometricVariance(0.01, 4.0), eps=0.0)

    class Clock(NormalScore):
        def forward(self, t, x, context=None):
            seen.append(round(float(process.std(t)[0]), 4))
            return super().forward(t, x)

    AnnealedLangevin(GridLadder(3), steps=2)(Clock(process), 2, generator=seeded())
    assert seen == [2.0, 2.0, 0.4472, 0.4472, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: AnnealedLangevin(steps=0), "AnnealedLangevin: steps must be at least 1, found 0"),
        (lambda: AnnealedLangevin(step=1.0), "in units of the variance of the level, and in"),
        (lambda: LangevinDynamics(steps=0), "steps and step must be positive, found 0 and 0.005"),
        (lambda: LangevinDynamics(step=0.0), "steps and step must be positive, found 1000 and 0.0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- the corrector


@pytest.mark.parametrize(
    "process, alpha",
    [
        (VarianceExploding(Euclidean(2), GeometricVariance(0.01, 4.0), eps=0.0), 1.0),
        (VariancePreserving(Euclidean(2), DiscreteLinear(100), eps=0.01), 1 - float(DiscreteLinear(100).betas()[59])),
    ],
    ids=["exploding", "preserving"],
)
def test_corrector_by_formula(process, alpha):
    """h = 2 α (snr |z| / |s|)², with the score at the time reached and α = 1 - β_k or 1."""
    score, predictor = NormalScore(process), GaussianBridge(0.0)
    x = torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    t, t_next = at(0.6, 50), at(0.59, 50)
    middle = predictor(Step(score, t, t_next), x)
    s, z = score(t_next, middle), torch.randn(50, 2, generator=seeded(1), dtype=torch.float64)
    h = 2 * alpha * (0.2 * z.norm(dim=1).mean() / s.norm(dim=1).mean()) ** 2
    step = PredictorCorrector(predictor, snr=0.2)
    found = step(Step(score, t, t_next, generator=seeded(1)), x)
    assert torch.allclose(found, middle + h * s + (2 * h).sqrt() * z, rtol=1e-9)
    # the last step is the predictor's alone
    assert torch.equal(step(Step(score, t, t_next, generator=seeded(1), last=True), x), middle)


def test_number_of_corrections():
    process = VarianceExploding(LINE, GeometricVariance(0.01, 4.0), eps=0.0)
    calls = []

    class Counted(NormalScore):
        def forward(self, t, x, context=None):
            calls.append(float(t[0]))
            return super().forward(t, x)

    step = PredictorCorrector(GaussianBridge(), corrections=3)
    step(Step(Counted(process), at(0.5, 4), at(0.4, 4), generator=seeded()), torch.ones(4, 1))
    assert calls == [0.5, 0.4, 0.4, 0.4]


# ---- chains


def test_a_chain_is_the_loop_and_measures_its_drift():
    """|h g| / |sqrt(2h) z| of the last step; none without steps."""
    plane, x = Euclidean(2), torch.zeros(4, 2)
    gradient = torch.tensor([3.0, 4.0]).expand(4, 2)
    chain = LangevinChain(steps=3, step=0.1, max_norm=2.5)
    moved, ratio = chain(plane, lambda y: gradient, x, seeded())
    assert torch.equal(moved, langevin(plane, lambda y: gradient, x, 0.1, 3, seeded(), 2.5))
    generator = seeded()
    noise = [torch.randn(4, 2, generator=generator) for _ in range(3)][-1]
    assert torch.allclose(ratio, 0.1 * 2.5 / (0.2**0.5 * noise.norm(dim=1)))
    still, ratio = LangevinChain(steps=0)(plane, lambda y: gradient, x, seeded())
    assert torch.equal(still, x)
    assert torch.equal(ratio, torch.zeros(4))
    with pytest.raises(ValueError, match=r"LangevinChain: .* found -1, 0.1 and None"):
        LangevinChain(-1, 0.1)
