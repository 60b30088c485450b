"""Score matching: all losses have one gradient, times are weighted right, targets are what they say."""

import math
from functools import partial

import pytest
import torch

from conftest import each, variants, within
from helpers import seeded
from rsgm.divergence import Exact, Hutchinson
from rsgm.fields import TangentField
from rsgm.losses import (
    DenoisingScoreMatching,
    ExactTarget,
    ImplicitScoreMatching,
    LikelihoodWeighting,
    Loss,
    NoiseWeighting,
    ScoreMatching,
    ScoreTarget,
    SlicedScoreMatching,
    StableTarget,
    TruncatedTarget,
    VarianceWeighting,
    Weighting,
)
from rsgm.manifolds import Euclidean, SpecialOrthogonal, Sphere, Torus
from rsgm.networks import MLP
from rsgm.processes import (
    Brownian,
    ContinuousTime,
    ImportanceTime,
    Score,
    ScoreField,
    TimeSampler,
    UniformTime,
    VarianceExploding,
    VariancePreserving,
)
from rsgm.schedules import ConstantBeta, GeometricVariance, LinearBeta, Schedule

S0 = 0.3  # of the data law, a heat kernel around the origin
TRUTH = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
ASTRAY = torch.tensor([0.6, 0.8, -0.5], dtype=torch.float64)


class Family(ScoreField):
    """theta_0 times the exact score, and two fields beside it; the truth is (1, 0, 0). One theta per point."""

    def __init__(self, process, theta):
        super().__init__(process)
        self.theta = theta

    def exact(self, t, x):
        centre = self.manifold.origin(*x.shape, dtype=x.dtype)
        return self.manifold.heat_kernel_score(centre, self.manifold.projx(x), S0 + self.process.schedule.integral(t))

    def forward(self, t, x, context=None):
        x = self.manifold.projx(x)
        aside = torch.zeros_like(x[0]).flatten()
        aside[1] = 1
        column = (-1, *(1,) * (x.dim() - 1))
        fields = [
            self.exact(t, x),
            self.manifold.proju(x, (1 + t).reshape(column) * aside.reshape(x.shape[1:])),
            self.manifold.proju(x, x.flip(-1) * x.flatten(1)[:, 0].reshape(column)),
        ]
        return sum(self.theta[:, k].reshape(column) * field for k, field in enumerate(fields))


class Explicit(ScoreMatching):
    """The distance to the exact score itself, which only a test can compute: what all losses should amount to."""

    def mismatch(self, score, x0, t, context, generator):
        x = score.process.perturb(x0, t, generator)
        return 0.5 * score.manifold.squared_norm(x, score(t, x) - score.exact(t, x))


def gradients(loss, process, theta, n=10_000):
    """One gradient with respect to theta per data point, with the same points and times for every loss."""
    centre = process.manifold.origin(n, *process.manifold.shape, dtype=torch.float64)
    x0 = process.manifold.heat_kernel_sample(centre, torch.full((n,), S0, dtype=torch.float64), seeded())
    per_point = theta.expand(n, 3).clone().requires_grad_()
    values = loss(Family(process, per_point), x0, generator=seeded(1))
    assert values.shape == (n,)
    (found,) = torch.autograd.grad(values.sum(), per_point)
    return found


COMPACT = [Sphere(2), Torus(2), SpecialOrthogonal()]
every_compact = pytest.mark.parametrize("manifold", COMPACT, ids=str)


def loss_cases() -> list:
    """Each loss on each manifold, and each weighting, which is a factor in front of any loss, with one of them."""
    found = [
        pytest.param(
            make.values[0],
            manifold,
            NoiseWeighting,
            id=f"{make.id}-{manifold}",
            marks=pytest.mark.slow if manifold is COMPACT[2] else [],
        )
        for make in variants(ScoreMatching)
        for manifold in COMPACT
    ]
    weightings = [make for make in variants(Weighting) if make.values[0].func is not NoiseWeighting]
    return found + [pytest.param(DenoisingScoreMatching, Sphere(2), make.values[0], id=make.id) for make in weightings]


@pytest.mark.parametrize("make, manifold, make_weighting", loss_cases())
def test_all_losses_have_the_gradient_of_the_explicit_one(make, manifold, make_weighting):
    """At the truth it vanishes, elsewhere it is the explicit one; 5 standard errors, false alarm 6e-7 per number."""
    process, weighting = Brownian(manifold, LinearBeta(0.1, 4.0), eps=0.01), make_weighting()
    loss = make(time=UniformTime(), weighting=weighting)
    assert within(gradients(loss, process, TRUTH), 0.0)
    explicit = gradients(Explicit(UniformTime(), weighting), process, ASTRAY)
    found = gradients(loss, process, ASTRAY)
    assert within(found - explicit, 0.0)
    # there is something to find, and to find with these numbers of points
    significance = explicit.mean(0).abs() / (found.std(0) / len(found) ** 0.5)
    assert significance[:2].min() > 5


# ---- times

SCHEDULES = {"linear": LinearBeta(), "constant": ConstantBeta(2.0), "geometric": GeometricVariance(1e-5, 4.0)}


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("cls", each(ContinuousTime))
def test_weighted_times_are_uniform(cls, schedule, stratified):
    """E[w f(t)] is the mean of f over [eps, 1]; 5 standard errors of independent draws, false alarm 6e-7 each."""
    n, process = 20_000, Brownian(Sphere(2), schedule, eps=1e-3)
    like = torch.zeros(n, 3, dtype=torch.float64)
    t, weight = cls(stratified=stratified)(process, like, seeded())
    assert t.shape == weight.shape == (n,)
    assert t.min() >= process.eps
    assert t.max() <= 1
    assert (weight > 0).all()
    eps = process.eps
    assert within(weight, 1.0)
    assert within(weight * t, (1 + eps) / 2)
    assert within(weight * (3 * t).sin(), (math.cos(3 * eps) - math.cos(3)) / 3 / (1 - eps))
    if stratified:
        # one draw in each slice of the law: far closer than independent draws
        quantiles = cls().from_uniform(process, (torch.arange(n, dtype=torch.float64) + 0.5) / n)[0]
        assert (t - quantiles).abs().max() < 50 / n * (t.max() - t.min())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("cls", each(ContinuousTime))
def test_times_follow_their_quantiles(cls, schedule):
    """The weight is 1 / ((1 - eps) density) = (dt / du) / (1 - eps), here by differentiating the quantile."""
    process = Brownian(Sphere(2), schedule, eps=1e-3)
    u = torch.linspace(1e-3, 1 - 1e-3, 999, dtype=torch.float64, requires_grad=True)
    t, weight = cls().from_uniform(process, u)
    (density_inverse,) = torch.autograd.grad(t.sum(), u)
    assert torch.allclose(weight, density_inverse / (1 - process.eps), rtol=1e-9)
    ends = cls().from_uniform(process, torch.tensor([0.0, 1.0], dtype=torch.float64))[0]
    assert ends.tolist() == pytest.approx([process.eps, 1.0], rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("cls", each(TimeSampler))
def test_times_in_float32(cls, schedule):
    process = Brownian(Sphere(2), schedule, eps=1e-3)
    t, weight = cls(stratified=True)(process, torch.zeros(512, 3), seeded())
    assert t.dtype == weight.dtype == torch.float32
    double = cls(stratified=True).from_uniform(process, levels(512))
    assert t.min() >= 0.999e-3
    assert t.max() <= 1
    variance, expected = schedule.integral(t.double()), schedule.integral(double[0])
    assert torch.allclose(variance, expected, rtol=1e-5)
    assert torch.allclose(weight.double(), double[1], rtol=1e-5)


def levels(n: int) -> torch.Tensor:
    """The levels that a stratified sampler draws in float32."""
    return ((torch.rand(n, generator=seeded()) + torch.arange(n)) / n).double()


@pytest.mark.parametrize("cls", each(TimeSampler))
def test_times_are_functions_of_the_generator(cls):
    process, like = Brownian(Sphere(2)), torch.zeros(8, 3)
    one, same, other = (cls()(process, like, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("cls", each(TimeSampler))
def test_times_ascend_with_their_levels(cls):
    """The lowest level is the lowest time, so that a slice of the levels is one of the times."""
    times, _ = cls().from_uniform(Brownian(Sphere(2), LinearBeta(), eps=1e-3), torch.linspace(0, 1, 64).double())
    assert (times.diff() >= 0).all()
    assert float(times[0]) == pytest.approx(1e-3)
    assert float(times[-1]) == pytest.approx(1)


@pytest.mark.parametrize(
    "process",
    [Brownian(Sphere(2)), VariancePreserving(Euclidean(2)), VarianceExploding(Euclidean(2))],
    ids=lambda process: type(process).__name__,
)
def test_importance_times_follow_the_noise_to_signal_ratio(process):
    """Its logarithm is uniform, its derivative is β/σ², and log(σ²/α²) where there is an α."""
    t = torch.linspace(process.eps, 1, 50, dtype=torch.float64, requires_grad=True)
    ratio = process.log_noise_to_signal(t)
    (slope,) = torch.autograd.grad(ratio.sum(), t)
    assert torch.allclose(slope, process.schedule.beta(t) / process.std(t).square(), rtol=1e-9)
    assert torch.allclose(process.time_of_ratio(ratio), t, rtol=1e-9)
    u = (ratio - ratio[0]) / (ratio[-1] - ratio[0])
    times, weight = ImportanceTime().from_uniform(process, u.detach())
    assert torch.allclose(times, t, rtol=1e-9)
    # with the weight the integrand β/σ² is constant
    assert torch.allclose(weight * slope, (ratio[-1] - ratio[0]) / (1 - process.eps), rtol=1e-9)
    if not isinstance(process, Brownian):
        assert torch.allclose(ratio, 2 * (process.std(t) / process.signal(t)).log(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("cls", [VarianceExploding, VariancePreserving])
def test_importance_times_at_a_noise_whose_exponential_overflows(cls, dtype):
    """s(1) = 2500: the ratio's logarithm is log s of the one process, and s, to the last digit, of the other."""
    process = cls(Euclidean(2), ConstantBeta(2500.0), eps=0.4)
    u = torch.linspace(0, 1, 5, dtype=dtype)
    t, weight = ImportanceTime().from_uniform(process, u)
    exploding = (0.4 * 2.5**u, 0.4 * 2.5**u * math.log(2.5) / 0.6)
    expected = {VarianceExploding: exploding, VariancePreserving: (0.4 + 0.6 * u, torch.ones_like(u))}[cls]
    rtol = 1e-6 if dtype == torch.float32 else 1e-12
    assert torch.allclose(t, expected[0], rtol=rtol)
    assert torch.allclose(weight, expected[1], rtol=rtol)


@pytest.mark.parametrize(
    "beta, constant_below, normaliser, below",
    [
        ((0.1, 20.0), 1e-3, 20.256, {1e-3: 0.0538, 0.1: 0.3974}),
        ((0.1, 20.0), 0.0, 19.165, {}),
        ((2.0, 5.0), 1e-3, None, {}),
    ],
    ids=["published", "from 1e-3", "other rates"],
)
def test_importance_times_of_the_sdeflow_paper(beta, constant_below, normaliser, below):
    """On [0, 1], with the density constant below 1e-3, or on [1e-3, 1]; 3 standard errors, false alarm 3e-3."""
    process, n = VariancePreserving(Euclidean(2), LinearBeta(*beta), eps=1e-9 if constant_below else 1e-3), 200_000
    start = constant_below or process.eps

    def ratio(t: float) -> float:
        return math.log(math.expm1(beta[0] * t + (beta[1] - beta[0]) * t * t / 2))

    rate = (beta[0] + (beta[1] - beta[0]) * start) / -math.expm1(-(beta[0] + (beta[1] - beta[0]) * start / 2) * start)
    total = (rate * start if constant_below else 0) + ratio(1) - ratio(start)
    if normaliser:
        assert total == pytest.approx(normaliser, abs=1e-3)
    t, weight = ImportanceTime(constant_below=constant_below)(process, torch.zeros(n, 2, dtype=torch.float64), seeded())
    high = t > start
    slope = process.schedule.beta(t) / process.std(t).square()
    assert torch.allclose(weight * torch.where(high, slope, rate) * (1 - process.eps), torch.tensor(total).double())
    known = below or {q: (rate * constant_below + ratio(q) - ratio(start)) / total for q in (0.01, 0.3)}
    for q, share in known.items():
        # the published shares have four digits
        assert abs(float((t < q).double().mean()) - share) < 3 * (share * (1 - share) / n) ** 0.5 + 5e-5
    # whatever the law, an average over uniform times
    assert within(weight * t, (1 + process.eps) / 2)


@pytest.mark.parametrize("constant_below", [-0.1, 1.0, math.nan])
def test_where_the_density_is_constant_is_checked(constant_below):
    with pytest.raises(ValueError, match=r"ImportanceTime: constant_below must be in \[0, 1\), found"):
        ImportanceTime(constant_below=constant_below)


# ---- weightings


def test_weightings_by_formula():
    process = Brownian(Sphere(2), LinearBeta(0.1, 3.0))
    t = torch.linspace(0.01, 1, 7, dtype=torch.float64)
    s = 0.1 * t + 1.45 * t.square()
    for weighting, expected in (
        (LikelihoodWeighting(), 0.1 + 2.9 * t),
        (NoiseWeighting(), 1 - torch.exp(-s)),
        (VarianceWeighting(), s),
    ):
        assert torch.allclose(weighting(process, t), expected, rtol=1e-13)


@pytest.mark.parametrize("make", variants(Weighting))
def test_weights_multiply_the_mismatch(make):
    """That of the time and that of the law of times."""
    process, n = Brownian(Sphere(2), LinearBeta(0.1, 3.0)), 20
    score = Family(process, ASTRAY.expand(n, 3))
    x0 = process.manifold.random_uniform(n, 3, generator=seeded(), dtype=torch.float64)
    loss, generator = DenoisingScoreMatching(ImportanceTime(), make()), seeded(1)
    t, weight = loss.time(process, x0, generator)
    expected = weight * loss.weighting(process, t) * loss.mismatch(score, x0, t, None, generator)
    assert torch.allclose(loss(score, x0, generator=seeded(1)), expected, rtol=1e-12)


@pytest.mark.parametrize("make", variants(Weighting))
def test_weights_are_positive(make):
    for schedule in (param.values[0]() for param in variants(Schedule)):
        process = Brownian(Sphere(2), schedule)
        weight = make()(process, torch.linspace(process.eps, 1, 50))
        assert weight.shape == (50,), schedule
        assert (weight > 0).all(), schedule


# ---- targets


def some_points(n=200, dtype=torch.float64):
    sphere = Sphere(2)
    return (sphere.random_uniform(n, 3, generator=seeded(k), dtype=dtype) for k in (0, 1))


def test_truncated_target_against_the_exact_one():
    """With many terms it is exact above the threshold; below, it is Varadhan's."""
    process = Brownian(Sphere(2), ConstantBeta(3.0))
    x0, x = some_points()
    for t_value in (0.2, 0.5, 1.0):
        t = torch.full((200,), t_value, dtype=torch.float64)
        exact = ExactTarget()(process, x0, x, t)
        assert torch.equal(exact, process.conditional_score(x0, x, t))
        series = TruncatedTarget(threshold=0.1, terms=60)(process, x0, x, t)
        assert torch.allclose(series, exact, rtol=1e-6, atol=1e-6)
        varadhan = process.manifold.logmap(x, x0) / (3 * t_value)
        for threshold in (math.inf, 4.0):
            assert torch.equal(TruncatedTarget(threshold)(process, x0, x, t), varadhan)
    # two terms are too few at s = 0.6
    t = torch.full((200,), 0.2, dtype=torch.float64)
    few, exact = (target(process, x0, x, t) for target in (TruncatedTarget(0.1, terms=2), ExactTarget()))
    assert (few - exact).norm() > 0.01 * exact.norm()


def test_the_threshold_is_a_variance_time():
    """Compared with s(t), not t: s = 3 t crosses 0.5 at t = 1/6."""
    process, target = Brownian(Sphere(2), ConstantBeta(3.0)), TruncatedTarget(threshold=0.5, terms=30)
    x0, x = some_points(4)
    t = torch.tensor([0.1, 0.16, 0.17, 0.4], dtype=torch.float64)
    found = target(process, x0, x, t)
    varadhan = process.manifold.logmap(x, x0) / (3 * t)[:, None]
    below = (found == varadhan).all(-1)
    assert below.tolist() == [True, True, False, False]
    assert torch.allclose(found[2:], process.conditional_score(x0, x, t)[2:], rtol=1e-4)


def test_size_of_the_paper_s_error():
    """11 % root mean square of Varadhan's score at s = 0.5 on S^2, 1.7 at s = 0.01 in thousandths."""
    for s, expected in ((0.5, 0.114), (0.01, 1.7e-3)):
        process, n = Brownian(Sphere(2), ConstantBeta(2 * s)), 20_000
        x0 = torch.eye(3, dtype=torch.float64)[0].expand(n, 3)
        t = torch.full((n,), 0.5, dtype=torch.float64)
        x = process.perturb(x0, t, seeded())
        exact = process.conditional_score(x0, x, t)
        error = TruncatedTarget()(process, x0, x, t) - exact
        rms = (error.square().sum() / exact.square().sum()).sqrt()
        assert float(rms) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("make", variants(ScoreTarget))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_targets_are_finite_and_tangent(make, dtype):
    """At every time, and at points that nearly coincide or are nearly opposite."""
    process = Brownian(Sphere(2))
    x0, x = some_points(300, dtype)
    x = torch.cat([x[:100], x0[100:200], -x0[200:]])
    for t_value in (1e-3, 0.1, 0.5, 1.0):
        target = make()(process, x0, x, torch.full((300,), t_value, dtype=dtype))
        assert torch.isfinite(target).all()
        scale = float(target.abs().max())
        atol = 10 * torch.finfo(dtype).eps * scale
        assert process.manifold.check_vector_on_tangent(x, target, ok_point=True, atol=atol, rtol=0)


@pytest.mark.parametrize(
    "manifold, group, short",
    [(Sphere(2), 9, 0.0), (Sphere(2), 2, math.inf), (Torus(2), 9, math.inf)],
    ids=str,
)
def test_stable_target_has_the_mean_of_the_score_and_less_variance(manifold, group, short, monkeypatch):
    """However the groups are made; over batches, which are independent, 5 standard errors, false alarm 3e-6 each."""
    monkeypatch.setattr("rsgm.losses.targets._SHORT", short)
    process, size, batches = Brownian(manifold, ConstantBeta(2.0)), 50, 120
    n = size * batches
    centre = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    x0 = manifold.heat_kernel_sample(centre, torch.full((n,), S0, dtype=torch.float64), seeded())
    family, target = Family(process, ASTRAY.expand(n, 3)), StableTarget(group)
    for t_value in (0.01, 0.1, 0.5):
        t = torch.full((n,), t_value, dtype=torch.float64)
        x = process.perturb(x0, t, seeded(1))
        parts = zip(x0.split(size), x.split(size), t.split(size), strict=True)
        score, found = family.exact(t, x), torch.cat([target(process, *part) for part in parts])
        for probe in (score, family(t, x)):
            assert within(manifold.inner(x, found - score, probe).view(batches, size).mean(1), 0.0)
        plain = process.conditional_score(x0, x, t)
        ratio = manifold.squared_norm(x, found - score).mean() / manifold.squared_norm(x, plain - score).mean()
        assert ratio < 1
    # the last time: any of the group could have led there, and cells are too small to tell
    assert short or ratio < (0.65 if group == 2 else 0.2)


def test_stable_target_takes_cells_at_early_times():
    """Two clusters, mixed in the batch: a cell is one of them, and at late times a group is of both."""
    process, target = Brownian(Sphere(2), ConstantBeta(1.0)), StableTarget(2)
    x0 = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [1.0, 0.3, 0], [0, 0.3, 1.0]], dtype=torch.float64)
    x0 = Sphere(2).projx(x0)
    for t_value, partner in ((1e-3, [2, 3, 0, 1]), (1.0, [1, 0, 3, 2])):
        t = torch.full((4,), t_value, dtype=torch.float64)
        x = process.perturb(x0, t, seeded())
        both = torch.stack([x0, x0[partner]], 1)
        log_prob, score = process.conditional(both.flatten(0, 1), x.repeat_interleave(2, 0), t.repeat_interleave(2))
        expected = (log_prob.view(4, 2).softmax(1)[..., None] * score.view(4, 2, 3)).sum(1)
        torch.testing.assert_close(target(process, x0, x, t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("manifold", [Sphere(1), Sphere(2), Sphere(3), SpecialOrthogonal(), Torus(3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scores_of_mixtures(manifold, dtype):
    """The weighted mean of the conditional ones, of those points that count, at early, middle and late times."""
    process, n = Brownian(manifold), 40
    x0 = manifold.random_uniform(n, 8, *manifold.shape, generator=seeded(), dtype=torch.float64)
    t = torch.linspace(1e-3, 1, n, dtype=torch.float64)
    x = process.perturb(x0[:, 0], t, seeded(1))
    counts = torch.rand(n, 8, generator=seeded(2)) < 0.7
    counts[:, 0] = True
    x0, x, t = (value.to(dtype) for value in (x0, x, t))
    pairs = (x0.double().flatten(0, 1), x.double().repeat_interleave(8, 0), t.double().repeat_interleave(8))
    log_prob, score = process.conditional(*pairs)
    weight = log_prob.view(n, 8).masked_fill(~counts, -math.inf).softmax(1)
    expected = torch.einsum("ij,ij...->i...", weight, score.view(x0.shape))
    # in units of the noise
    scale = process.std(t.double()).reshape(n, *(1,) * len(manifold.shape))
    error = scale * (process.mixture_score(x0, counts, x, t).double() - expected)
    assert error.abs().max() < (1e-4 if dtype == torch.float32 else 1e-11)


def test_stable_target_keeps_to_its_context():
    """A mixed batch gives what each context's own part gives."""
    process = Brownian(Sphere(2))
    x0, t = Sphere(2).random_uniform(60, 3, generator=seeded(), dtype=torch.float64), torch.full((60,), 0.5)
    x = process.perturb(x0, t.double(), seeded(1))
    context = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]).repeat(20, 1)
    mixed = StableTarget()(process, x0, x, t.double(), context)
    for k in range(3):
        alone = StableTarget()(process, x0[k::3], x[k::3], t.double()[k::3])
        torch.testing.assert_close(mixed[k::3], alone, rtol=1e-12, atol=1e-12)
    # of one point alone it is the exact one
    own = torch.arange(60.0)[:, None]
    single = StableTarget()(process, x0, x, t.double(), own)
    torch.testing.assert_close(single, process.conditional_score(x0, x, t.double()), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="group must be at least 2"):
        StableTarget(1)


def test_no_target_without_a_kernel():
    process = Brownian(Sphere(5))
    x0 = process.manifold.random_uniform(4, 6, generator=seeded())
    score = Score(process, TangentField(process.manifold, partial(MLP, hidden=[4])))
    with pytest.raises(NotImplementedError, match="Train with ImplicitScoreMatching or SlicedScoreMatching"):
        DenoisingScoreMatching()(score, x0)
    assert torch.isfinite(ImplicitScoreMatching()(score, x0)).all()


# ---- every loss, with a network


@pytest.mark.parametrize("make", variants(Loss))
@every_compact
def test_losses_are_finite_and_train_every_parameter(make, manifold):
    torch.manual_seed(0)
    process = Brownian(manifold)
    score = Score(process, TangentField(process.manifold, partial(MLP, hidden=[8, 8], context_features=2)))
    x0 = manifold.random_uniform(64, *manifold.shape, generator=seeded())
    context = torch.randn(64, 2, generator=seeded())
    values, same, other = (make()(score, x0, context, seeded(seed)) for seed in (1, 1, 2))
    assert values.shape == (64,)
    assert torch.isfinite(values).all()
    assert torch.equal(values, same)
    assert not torch.equal(values, other)
    values.mean().backward()
    for name, parameter in score.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_implicit_loss_is_the_sliced_one_with_an_exact_divergence():
    torch.manual_seed(0)
    process = Brownian(Sphere(1))
    score = Score(process, TangentField(process.manifold, partial(MLP, hidden=[8])))
    x0 = process.manifold.random_uniform(16, 2, generator=seeded())
    implicit = ImplicitScoreMatching()(score, x0, generator=seeded(1))
    exact = SlicedScoreMatching(divergence=Exact())(score, x0, generator=seeded(1))
    assert torch.equal(implicit, exact)
    # one sign in one dimension is as good as the frame
    probe = SlicedScoreMatching(divergence=Hutchinson())(score, x0, generator=seeded(1))
    assert torch.allclose(implicit, probe, rtol=1e-4, atol=1e-5)


def test_denoising_in_flat_space_has_the_gaussian_target():
    """-z / sqrt(s), by construction of the noise."""
    space = Euclidean(3)
    x0, z = torch.zeros(10, 3, dtype=torch.float64), torch.randn(10, 3, generator=seeded(), dtype=torch.float64)
    s = torch.linspace(0.1, 2, 10, dtype=torch.float64)
    x = space.heat_kernel_sample(x0, s, seeded())
    assert torch.allclose(space.heat_kernel_score(x0, x, s), -z / s.sqrt()[:, None], rtol=1e-12)
