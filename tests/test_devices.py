"""Every tensor is made where its neighbours are: runs on another device than the CPU, of which there is none.

Training and its parts run with fake tensors on "meta" (a PyTorch without CUDA aborts where autograd meets a fake tensor
on "cuda"). An evaluation is adaptive and needs values, which fake tensors do not have: it runs `elsewhere`.
"""

import contextlib
import copy
import inspect
from functools import partial
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, unset_fake_temporarily

from conftest import STATE_SPACES, concrete, each, variants
from elsewhere import AWAY, Elsewhere, MismatchError, prepare
from helpers import learned, model_on, without_figures
from rsgm import RSGM, AdaptiveKernelDensity, FlowMatching, KernelDensity, Moser, Sphere, SplineFlow, heat_kernels
from rsgm.charts import Logit, Standardise
from rsgm.data import EarthData, LawData
from rsgm.distributions import GaussianMixture, RandomVonMisesFisherMixture, Uniform
from rsgm.divergence import Divergence
from rsgm.evaluation import draw_rows, evaluate, score_rows, write_density_grid, write_regions
from rsgm.evaluation.baseline import integral
from rsgm.fields import NetworkField
from rsgm.likelihood import ODESolver
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching, Loss, ScoreTarget, Weighting
from rsgm.manifolds import Euclidean, Manifold
from rsgm.models import ChartSGM, GenerativeModel
from rsgm.models.latent_marginal import ImportanceSampling
from rsgm.networks import MLP, Activation, PositionFeatures, TimeFeatures
from rsgm.processes import Brownian, TimeSampler, VariancePreserving, times
from rsgm.samplers import AnnealedLangevin, LangevinDynamics, ReverseDiffusion, Stepper
from rsgm.schedules import Ladder, Schedule, TimeGrid

N = 8


def outside(function):
    """A function on the CPU whose values are needed, not only their shapes: run with real tensors."""

    def call(*arguments):
        with unset_fake_temporarily():
            return function(*arguments)

    return call


@pytest.fixture
def far_away(monkeypatch):
    """A context of fake tensors, in which a tensor on the device that meets one on the CPU is an error."""
    # tables, made on the CPU as they always are, and moved; nothing fake is left in the caches
    tables = [(heat_kernels.compact, "_sampling_table"), (heat_kernels.compact, "_spectrum")]
    for module, name in [*tables, (heat_kernels.hyperbolic, "_sampling_table")]:
        table = outside(getattr(module, name))

        def move(*arguments, table=table):
            *others, device = arguments
            found = table(*others, torch.device("cpu"))
            return tuple(part.to(device) for part in found) if isinstance(found, tuple) else found.to(device)

        monkeypatch.setattr(module, name, move)
    for name in ("_variance_ends", "_ratio_ends"):
        monkeypatch.setattr(times, name, outside(getattr(times, name)))
    for grid in concrete(TimeGrid) + concrete(Ladder):
        monkeypatch.setattr(grid, "__call__", outside(grid.__call__))
    monkeypatch.setattr(AnnealedLangevin, "_solved", outside(AnnealedLangevin._solved))
    # there is no generator on the device that could say where to draw
    monkeypatch.setattr(
        Uniform,
        "draw",
        lambda self, n, generator=None: self.manifold.random_uniform(n, *self.manifold.shape, device="meta"),
    )
    # which knows no "meta"
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    return lambda: FakeTensorMode(allow_non_fake_inputs=True)


def small(dim: int = 2, manifold: Manifold | None = None, **arguments) -> RSGM:
    arguments.setdefault("network", partial(MLP, hidden=[4, 4]))
    return RSGM(manifold or Sphere(dim), **arguments).to("meta")


def points(dim: int = 2) -> torch.Tensor:
    x = torch.randn(N, dim + 1, device="meta")
    return x / x.norm(dim=-1, keepdim=True)


def trains(model: GenerativeModel, mode: FakeTensorMode) -> None:
    """One step's worth of loss and gradients, on the device."""
    with mode:
        loss = model.loss(points(model.manifold.dim))["loss"]
        assert loss.device.type == "meta"
        assert loss.shape == (N,)
        loss.mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.device.type == "meta", name


def test_a_mismatch_is_noticed(far_away):
    """Or else none of the tests below could fail."""
    linear = torch.nn.Linear(3, 3, device="meta")
    with far_away():
        for mix in (
            lambda: points() + torch.ones(3),
            lambda: points() @ torch.ones(3, 3),
            lambda: torch.cat([points(), torch.ones(1, 3)]),
            lambda: linear(torch.ones(2, 3)),
        ):
            with pytest.raises(FakeTensorDeviceMismatchError):
                mix()


def test_a_mismatch_in_a_loss_is_noticed(far_away):
    class Home(Weighting):
        def __call__(self, process, t):
            return torch.ones(len(t))

    with pytest.raises(FakeTensorDeviceMismatchError):
        trains(small(loss=ImplicitScoreMatching(weighting=Home())), far_away())


@pytest.mark.parametrize("make", variants(Loss))
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_losses(make, dim, far_away):
    trains(small(dim, loss=make()), far_away())


def objectives() -> list:
    """Every part of a loss, in a loss that takes it."""
    found = [(base, name) for base, name in ((TimeSampler, "time"), (Weighting, "weighting"), (ScoreTarget, "target"))]
    return [
        pytest.param(partial(DenoisingScoreMatching, **{name: cls()}), id=cls.__name__)
        for base, name in found
        for cls in concrete(base)
    ]


@pytest.mark.parametrize("make", objectives())
def test_parts_of_losses(make, far_away):
    trains(small(loss=make()), far_away())


@pytest.mark.parametrize("make", [partial(Moser, uniform_points=4), partial(FlowMatching, stratified=True)])
def test_flows(make, far_away):
    """Whose losses need no solve: a solver needs values."""
    trains(make(Sphere(2), network=partial(MLP, hidden=[4, 4])).to("meta"), far_away())


@pytest.mark.parametrize("manifold", [Sphere(1), Euclidean(2)], ids=str)
@pytest.mark.parametrize("context", [0, 2])
def test_spline_flow(manifold, context, far_away):
    """Its loss and gradients, with what it fits before."""
    model = SplineFlow(manifold, transforms=2, hidden=[4], context_features=context).to("meta")
    with far_away():
        x = manifold.projx(torch.randn(N, *manifold.shape, device="meta"))
        model.fit_points(x, x)
        loss = model.loss(x, torch.randn(N, context, device="meta") if context else None)["loss"]
        loss.mean().backward()
        assert loss.device.type == "meta"
        assert all(p.grad.device.type == "meta" for p in model.parameters())


@pytest.mark.parametrize("make", variants(Schedule))
def test_schedules(make, far_away):
    trains(small(process=partial(Brownian, schedule=make())), far_away())


def networks() -> list:
    return [
        pytest.param(partial(MLP, hidden=[4, 4], **{name: cls}), id=cls.__name__)
        for base, name in ((Activation, "activation"), (TimeFeatures, "time"), (PositionFeatures, "position"))
        for cls in concrete(base)
    ]


@pytest.mark.parametrize("make", networks())
def test_networks(make, far_away):
    trains(small(network=make, loss=ImplicitScoreMatching()), far_away())


@pytest.mark.parametrize("cls", each(NetworkField))
@pytest.mark.parametrize("make", variants(Divergence))
def test_fields_with_divergence(cls, make, far_away):
    home = STATE_SPACES.get(cls.__name__)
    model = small(field=cls) if home is None else small(manifold=home, process=VariancePreserving, field=cls)
    with far_away():
        x, t = points(), torch.rand(N, device="meta")
        directions = make().directions(model.manifold, x)
        for value in model.score.with_divergence(t, x, directions):
            assert value.device.type == "meta"


#: on the sphere, where there are no processes with normal laws
SAMPLERS = [
    pytest.param(ReverseDiffusion(2, make.values[0](), make_grid.values[0]()), id=f"{make.id}-{make_grid.id}")
    for k, make in enumerate(variants(Stepper))
    for j, make_grid in enumerate(variants(TimeGrid))
    # each stepper on one grid, each grid under one stepper
    if make.values[0].func.__name__ not in STATE_SPACES and (j == 0 or k == 0)
] + [pytest.param(sampler, id=type(sampler).__name__) for sampler in (AnnealedLangevin(steps=2), LangevinDynamics(2))]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sampler, far_away):
    model = small(sampler=sampler)
    with far_away():
        # the call looks at the values of the last state, which are not there
        *_, x = model.sampler.states(model.score, N)
        assert x.device.type == "meta"
        assert x.shape == (N, 3)


def test_kernel_density(far_away):
    model = KernelDensity(Sphere(2), widths=3)
    model.points = torch.ones(5, 3, dtype=torch.float64)
    model.to("meta")
    with far_away():
        assert model.likelihood(points()).value.device.type == "meta"


@pytest.mark.parametrize("make", variants(Manifold))
def test_manifolds(make, far_away):
    manifold = make()
    with far_away():
        x, y = (manifold.projx(torch.randn(N, *manifold.shape, device="meta")) for _ in range(2))
        u, s = manifold.random_tangent(x), torch.rand(N, device="meta")
        methods = {
            "random_tangent": lambda: u,
            "expmap": lambda: manifold.expmap(x, u),
            "logmap": lambda: manifold.logmap(x, y),
            "dist": lambda: manifold.dist(x, y),
            "transp": lambda: manifold.transp(x, y, u),
            "frame": lambda: manifold.frame(x),
            "projection_trace": lambda: manifold.projection_trace(x),
            "bump_log_prob": lambda: manifold.bump_log_prob(x, y, s),
            "heat_kernel_sample": lambda: manifold.heat_kernel_sample(x, s),
            "heat_kernel_sample_with_score": lambda: manifold.heat_kernel_sample_with_score(x, s)[1],
            "heat_kernel_score": lambda: manifold.heat_kernel_score(x, y, s),
            "heat_kernel_log_prob": lambda: manifold.heat_kernel_log_prob(x, y, s),
        }
        results = {}
        for name, method in methods.items():
            with contextlib.suppress(NotImplementedError):
                results[name] = method()
        assert {"expmap", "frame", "projection_trace", "heat_kernel_sample"} <= results.keys()
        for name, value in results.items():
            assert value.device.type == "meta", name


@pytest.fixture
def elsewhere(monkeypatch) -> Elsewhere:
    return prepare(monkeypatch)


FLAT = dict.fromkeys(["ExactScore", "LatentEBM", "SplineFlow"], Euclidean(2))
#: where the defaults cost more than they show
CHEAP = {
    "LatentEBM": {"marginal": ImportanceSampling(draws=8, modes=2, prior_draws=64)},
    "ExactScore": {"likelihood": ODESolver(tolerance=1e-2)},
    "SplineFlow": {"transforms": 2, "hidden": [4]},
}


def law_data(cls: type, arguments: dict[str, Any]) -> LawData:
    """Points for a model of a kind, with a context where it has one."""
    sizes = {"train_size": 40, "val_size": 10, "test_size": 9, "batch_size": 8, "steps_per_epoch": 1}
    if cls.__name__ in FLAT:
        return LawData(GaussianMixture(), **sizes)
    if "network" in arguments:
        return LawData(RandomVonMisesFisherMixture(components=2), conditional=True, **sizes)
    return LawData(**sizes)


def made(cls: type, arguments: dict[str, Any]) -> GenerativeModel:
    torch.manual_seed(0)
    if "network" in inspect.signature(cls).parameters:
        arguments = {"network": partial(MLP, hidden=[4, 4])} | arguments
    return model_on(cls, FLAT.get(cls.__name__, Sphere(2)), **arguments)


CONDITIONAL = {"network": partial(MLP, hidden=[4, 4], context_features=2)}
#: what is evaluated in its own way: a score model and its pictures, kernels, a context
QUICK = {"RSGM", "KernelDensity", "FlowMatching with context"}


def kind(cls: type[GenerativeModel], arguments: dict[str, Any], suffix: str = "") -> ParameterSet:
    name = cls.__name__ + suffix
    return pytest.param(cls, arguments, id=name, marks=[] if name in QUICK else pytest.mark.slow)


KINDS = [kind(cls, CHEAP.get(cls.__name__, {})) for cls in concrete(GenerativeModel)] + [
    kind(cls, CONDITIONAL, " with context")
    for cls in concrete(GenerativeModel)
    if "network" in inspect.signature(cls).parameters
]


@pytest.mark.parametrize(("cls", "arguments"), KINDS)
def test_training(cls, arguments, elsewhere):
    """What is fitted in one pass, and the loss and the gradients of a batch, on another device: those of the CPU."""
    data = law_data(cls, arguments)
    data.setup()

    def trained(device: torch.device) -> dict[str, torch.Tensor]:
        model = made(cls, arguments).to(device)
        if model.needs_points:
            model.fit_points(data.train.points, data.val.points, 0)  # as `rsgm.fit` has them, on the CPU
            assert all(value.device == device for value in model.state_dict().values())
        numbers = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        if model.trainable:
            x, context = data.train_batch(0)
            torch.manual_seed(0)
            terms = model.loss(x.to(device), None if context is None else context.to(device))
            assert all(term.device == device for term in terms.values())
            terms["loss"].mean().backward()
            numbers |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
            numbers |= {name: term.detach().cpu() for name, term in terms.items()}
        return numbers

    here = trained(torch.device("cpu"))
    with elsewhere:
        there = trained(AWAY)
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert torch.equal(there[name], value), name


@pytest.mark.parametrize(("cls", "arguments"), KINDS)
def test_evaluate(cls, arguments, tmp_path, elsewhere, monkeypatch):
    """All of it on another device: the numbers are those of the CPU, as its draws are in `elsewhere`."""
    monkeypatch.setattr("rsgm.evaluation.baseline.integral", partial(integral, levels=0))
    monkeypatch.setattr("rsgm.evaluation.baseline._NODES", 20)
    monkeypatch.setattr("rsgm.evaluation.baseline._BATCH", 20)
    monkeypatch.setattr("rsgm.likelihood.draws._TOLERANCE", 1e-2)
    if cls is not RSGM:  # whose figures, samples and the density, are those of the others
        without_figures(monkeypatch)
    path, _ = learned(made(cls, arguments), law_data(cls, arguments), tmp_path, max_epochs=1)
    here = evaluate(path, samples=20)
    with elsewhere:
        there = evaluate(path, samples=20, device=AWAY)
    for key in {*here} - {"seconds", "peak_memory_mb"}:
        assert there[key] == here[key], key


@pytest.mark.parametrize(
    "make",
    [
        partial(KernelDensity, widths=4, min_width=0.1, iterations=20),
        partial(
            AdaptiveKernelDensity, widths=2, min_width=0.1, neighbours=(4,), factors=(1.0,), folds=3, iterations=20
        ),
        partial(FlowMatching, network=partial(MLP, hidden=[4, 4]), solver=ODESolver(tolerance=1e-2)),
    ],
    ids=["KernelDensity", "AdaptiveKernelDensity", "FlowMatching"],
)
def test_answers(make, tmp_path, elsewhere):
    """Rows with their ranks, samples, grids and regions, of a table with weights: as on the CPU."""
    table = tmp_path / "table.csv"
    rows = [f"{(53 * k) % 140 - 70}.25,{(37 * k) % 359 - 179}.5,{1 + k % 3}" for k in range(40)]
    table.write_text("\n".join(["lat,lon,w", *rows]))
    data = EarthData(path=str(table), weight="w")
    data.setup()
    model = make(Sphere(2))

    def answers(model, name, device):
        made = draw_rows(model, data, 5, {}, 0)
        scored = score_rows(model, data, data.read_rows(table))
        grid, regions = tmp_path / f"{name}.csv", tmp_path / f"{name}.geojson"
        write_density_grid(grid, model, data, [45.0])
        write_regions(regions, model, data, [0.5])
        return made, scored, grid.read_text(), regions.read_text()

    weights = data.weights_to_fit()
    model.fit_points(data.train.points, data.val.points, 0, weights)
    here = answers(model, "here", torch.device("cpu"))
    with elsewhere:
        there = answers(model.to(AWAY), "there", AWAY)
        if model.needs_points:
            model.fit_points(
                data.train.points.to(AWAY), data.val.points.to(AWAY), 0, tuple(w.to(AWAY) for w in weights)
            )
    assert there == here


def test_points_and_context_may_be_anywhere(elsewhere):
    """Of any floating-point type, and one row of context for all points."""
    model = RSGM(Sphere(2), **CONDITIONAL)
    x, rows = model.manifold.random_uniform(4, 3), torch.tensor([[0.0, 1.0]])
    expected = model.log_prob(x, rows.expand(4, 2)), model.sample(4, rows.expand(4, 2), seed=0)
    with elsewhere:
        model.to(AWAY)
        for context in (rows, rows[0], rows.double(), rows.expand(4, 2), rows.to(AWAY), rows.long()):
            found = model.log_prob(x, context), model.sample(4, context, seed=0)
            for there, here in zip(found, expected, strict=True):
                assert there.device == AWAY
                assert torch.equal(there.cpu(), here)
        for wrong in (rows.expand(3, 2), rows.expand(2, 4, 2)):
            with pytest.raises(ValueError, match=r"expected a context \(4, features\), or one of"):
                model.sample(4, wrong)
    with elsewhere:
        chart = ChartSGM(Euclidean(3), partial(Standardise, chart=Logit), network=partial(MLP, hidden=[4])).to(AWAY)
        assert chart.resolution() > 0


def test_elsewhere_notices_a_mismatch(elsewhere):
    """Or else the test above could not fail."""
    linear, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    with elsewhere:
        linear.to(AWAY)
        y = x.to(AWAY)
        assert linear(y).device == torch.zeros(1, device=y.device).device == y.double()[:1].device == AWAY
        assert y.cpu().device == linear(y).cpu().device == x.device == torch.device("cpu")
        assert copy.deepcopy(linear).double().weight.device == torch.Generator(AWAY).device == AWAY
        assert (y + torch.tensor(1.0)).device == AWAY
        for mix in (lambda: x + y, lambda: linear(x), lambda: torch.cat([x, y]), lambda: x.new_ones(2, 3) * y):
            with pytest.raises(MismatchError):
                mix()
        with pytest.raises(TypeError, match="numpy"):
            y.numpy()


def test_caches_are_left_clean():
    """What the fake runs have made is not served to real ones."""
    x = Sphere(2).random_uniform(4, 3, generator=torch.Generator().manual_seed(0))
    sample = Sphere(2).heat_kernel_sample(x, torch.full((4,), 2.0), torch.Generator().manual_seed(0))
    assert type(sample) is torch.Tensor
    assert type(Sphere(2).heat_kernel_score(x, sample, torch.full((4,), 2.0))) is torch.Tensor
