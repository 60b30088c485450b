"""Lower bounds on the log-density: their known gap, and that all forms have one expectation."""

import math
from functools import partial

import pytest
import torch

from conftest import concrete, variants, within
from helpers import NormalScore, random_score, seeded
from rsgm.charts import Affine
from rsgm.divergence import Exact
from rsgm.likelihood import DenoisingBound, DivergenceBound, EvidenceLowerBound, ODESolver
from rsgm.manifolds import Euclidean, Sphere
from rsgm.models import RSGM, ChartSGM
from rsgm.networks import ResidualMLP
from rsgm.processes import Brownian, ContinuousTime, GaussianProcess, ScoreField, UniformTime, VariancePreserving
from rsgm.schedules import ConstantBeta, LinearBeta

SCALE = 0.5  # of the data
PLANE = Euclidean(2)


def one(t: float) -> torch.Tensor:
    return torch.tensor([t], dtype=torch.float64)


def data(n: int, dim: int = 2) -> torch.Tensor:
    return SCALE * torch.randn(n, dim, generator=seeded(), dtype=torch.float64)


def true_log_prob(x: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Normal(0.0, SCALE).log_prob(x).sum(1)


def divergence(ratio: float) -> float:
    """KL between normal laws with such a ratio of variances."""
    return 0.5 * (ratio - 1 - math.log(ratio))


# ---- what it bounds


@pytest.mark.parametrize("cls", concrete(GaussianProcess), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("time", concrete(ContinuousTime), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("bound", concrete(EvidenceLowerBound), ids=lambda cls: cls.__name__)
def test_gap_of_the_exact_score(cls, time, bound):
    """What is left is the prior and the width of the last step, both known; 5 standard errors, false alarm 6e-7."""
    process, x = cls(PLANE, ConstantBeta(1.5), eps=0.2), data(10_000)
    found = bound(slices=4, time=time())(NormalScore(process, SCALE), x)
    first, last = one(process.eps), one(1.0)
    signal, noise = float((process.signal(first) * SCALE) ** 2), float(process.std(first) ** 2)
    end = float((process.signal(last) * SCALE) ** 2 + process.std(last) ** 2) / process.prior.scale**2
    gap = 2 * divergence(end) + 2 * divergence(signal / (signal + noise))
    assert gap > 0.1
    assert within(true_log_prob(x) - found.value, gap)
    assert not found.exact
    assert found.nfe == 5


def test_gap_vanishes_with_the_published_process():
    """H(p) to two hundredths, and no more than three standard errors below it."""
    process, x = VariancePreserving(PLANE, LinearBeta(0.1, 20.0), eps=1e-4), data(20_000)
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(SCALE))
    for cls in concrete(EvidenceLowerBound):
        gap = true_log_prob(x) - cls(slices=32)(NormalScore(process, SCALE), x).value
        error = float(gap.std()) / len(gap) ** 0.5
        assert error < 0.03
        assert -3 * error < float(gap.mean()) < 3 * error + 0.01
        values = -cls(slices=32)(NormalScore(process, SCALE), x).value
        assert float(values.mean()) > entropy - 3 * float(values.std()) / len(values) ** 0.5


@pytest.mark.parametrize("cls", concrete(GaussianProcess), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("time", concrete(ContinuousTime), ids=lambda cls: cls.__name__)
def test_all_forms_agree(cls, time):
    """On [eps, 1] by integration by parts, for any network: 5 standard errors, false alarm 6e-7."""
    process, x = cls(PLANE, LinearBeta(0.5, 4.0), eps=0.05), data(10_000)
    score = random_score(process)
    denoising, rademacher, exact = (
        bound(score, x, generator=seeded(k)).value
        for k, bound in enumerate(
            (
                DenoisingBound(8, time()),
                DivergenceBound(8, time()),
                DivergenceBound(8, time(), divergence=Exact()),
            )
        )
    )
    assert within(denoising - rademacher, 0.0)
    assert within(denoising - exact, 0.0)
    # far from the truth, so that there is something to agree on
    assert (true_log_prob(x) - denoising).mean() > 0.3


def test_the_bound_is_below_the_flow_and_the_truth():
    """For a network that knows nothing: the mean over the data stays below minus their entropy."""
    process, x = VariancePreserving(PLANE, LinearBeta(0.5, 4.0), eps=0.05), data(2_000)
    score = random_score(process)
    bound = DenoisingBound(64)(score, x).value
    for above in (true_log_prob(x), ODESolver()(score, x).value):
        difference = above - bound
        assert difference.mean() > 5 * difference.std() / len(x) ** 0.5


def test_slices_are_stratified():
    """Four times as many leave a quarter of the error; of independent times it would be a half."""
    process, x = VariancePreserving(PLANE, LinearBeta(0.5, 4.0), eps=0.05), torch.zeros(4_000, 2)

    class Clock(ScoreField):
        def forward(self, t, x, context=None):  # an integrand that is a function of time alone
            return (process.prior.scale * t)[:, None] * torch.ones_like(x)

    few, many = (
        DivergenceBound(k, UniformTime(), "float64")._path_integral(Clock(process), x.double(), None, seeded()).std()
        for k in (4, 16)
    )
    assert many < few / 3.5


@pytest.mark.parametrize("bound", concrete(EvidenceLowerBound), ids=lambda cls: cls.__name__)
def test_a_rough_bound_has_the_same_mean(bound):
    """An eighth of the slices, one at least, in single precision; 5 standard errors, false alarm 6e-7."""
    process, x = VariancePreserving(PLANE, LinearBeta(0.5, 4.0), eps=0.05), data(10_000)
    fine = bound(slices=32, time=UniformTime(), dtype="float64", batch_size=3_000, seed=3)
    rough, score = fine.rough(), random_score(process)
    assert (rough.slices, rough.dtype) == (4, "float32")
    assert (rough.time, rough.batch_size, rough.seed) == (UniformTime(), 3_000, 3)
    assert bound(slices=7).rough().slices == 1
    # the points are the first draws of seed 0 in double precision
    one, other = (made(score, x, generator=seeded(k)) for k, made in enumerate((fine, rough), 1))
    assert (one.nfe, other.nfe) == (33, 5)
    assert within(one.value - other.value, 0.0)


# ---- where it is called


@pytest.mark.parametrize("make", variants(EvidenceLowerBound))
def test_draws(make):
    """A function of the seed or of the generator, in batches of any size, in both precisions."""
    process, x = VariancePreserving(PLANE), data(50)
    score, bound = random_score(process), make()
    value = bound(score, x).value
    assert torch.equal(value, bound(score, x).value)
    assert torch.equal(value, bound(score, x, generator=seeded(bound.seed)).value)
    seventh = bound(score, x, generator=seeded(7)).value
    assert not torch.equal(value, seventh)
    assert torch.equal(make(seed=7)(score, x).value, seventh)
    assert value.shape == (50,)
    assert value.dtype == torch.float64
    several = type(bound)(slices=4, batch_size=7)(score, x)
    assert several.value.shape == (50,)
    assert type(bound)(slices=4, dtype="float64")(score, x).value.isfinite().all()


@pytest.mark.parametrize("make", variants(EvidenceLowerBound))
def test_inference_mode_and_the_model_stays_as_it_is(make):
    process = VariancePreserving(PLANE)
    score, x = random_score(process).train(), data(5)
    expected = make()(score, x).value
    with torch.inference_mode():
        assert torch.equal(make()(score, x.clone()).value, expected)
    assert score.training
    assert all(p.dtype == torch.float32 and p.requires_grad and p.grad is None for p in score.parameters())


@pytest.mark.parametrize("make", variants(EvidenceLowerBound))
def test_the_context_reaches_the_score(make):
    process = VariancePreserving(PLANE)
    score, x = random_score(process, context_features=1), data(1).expand(2, 2)
    one, same, other = (
        make()(score, x, context) for context in (torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([[0.0], [3.0]]))
    )
    assert torch.equal(one.value, same.value)
    assert (one.value == other.value).tolist() == [True, False]


@pytest.mark.parametrize("make", variants(EvidenceLowerBound))
def test_only_in_flat_space(make):
    process = Brownian(Sphere(2))
    with pytest.raises(ValueError, match=r"Sphere.* is not a vector space.*choose Euclidean"):
        make()(random_score(process), process.prior.draw(3, seeded()))


@pytest.mark.parametrize("cls", concrete(EvidenceLowerBound), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("arguments", [{"slices": 0}, {"batch_size": 0}], ids=str)
def test_arguments_are_checked(cls, arguments):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: slices and batch_size must be positive, found"):
        cls(**arguments)


# ---- models


def test_models_report_a_bound():
    """In place of the likelihood or beside it; a chart changes both by its volume."""
    parts = {"process": VariancePreserving, "network": partial(ResidualMLP, width=8), "bound": DenoisingBound(4)}
    torch.manual_seed(0)
    model, x = RSGM(PLANE, **parts), data(20)
    bound = model.lower_bound(x)
    assert torch.equal(bound.value, DenoisingBound(4)(model.score, x).value)
    assert model.likelihood(x).exact
    assert RSGM(PLANE, process=VariancePreserving, network=parts["network"]).lower_bound(x) is None
    instead = RSGM(PLANE, **parts, likelihood=DivergenceBound(2))
    found = instead.likelihood(x)
    assert not found.exact
    assert found.solver == {"method": "DivergenceBound", "slices": 2, "dtype": "float32"}
    torch.manual_seed(0)
    stretched = ChartSGM(PLANE, chart=partial(Affine, shift=1.0, scale=3.0), **parts)
    assert torch.allclose(stretched.lower_bound(1 + 3 * x).value, bound.value - 2 * math.log(3), atol=1e-4)
    assert ChartSGM(PLANE, chart=Affine, network=parts["network"]).lower_bound(x) is None
