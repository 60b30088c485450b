"""Models: the contract of every generative model, its checkpoint included."""

import functools
import math
import pickle
import re
from functools import partial
from pathlib import Path

import geoopt
import numpy as np
import pytest
import torch

import rsgm
from conftest import each, quadrature
from helpers import learned, model_on, quiet_trainer
from rsgm import (
    RSGM,
    AdaptiveKernelDensity,
    ChartSGM,
    CheckpointError,
    Euclidean,
    GenerativeModel,
    Hyperbolic,
    KentMixture,
    KernelDensity,
    LawData,
    SpecialOrthogonal,
    Sphere,
    Torus,
)
from rsgm.charts import Stereographic, TanhExponential
from rsgm.distributions import GaussianMixture
from rsgm.fields import NetworkField
from rsgm.losses import ImplicitScoreMatching
from rsgm.models import ImportanceSampling, base, read_checkpoint
from rsgm.networks import MLP
from rsgm.processes import Brownian, VarianceExploding, VariancePreserving
from rsgm.samplers import ReverseDiffusion
from rsgm.schedules import LinearBeta
from rsgm.training import Training

#: arguments that make a model small; a new class is tested with its defaults
SMALL = {
    "CNF": {"network": partial(MLP, hidden=[16, 16])},
    "FlowMatching": {"network": partial(MLP, hidden=[16, 16])},
    "Moser": {"network": partial(MLP, hidden=[16, 16]), "uniform_points": 50},
    "RSGM": {"network": partial(MLP, hidden=[16, 16]), "sampler": ReverseDiffusion(steps=10)},
    "ChartSGM": {"network": partial(MLP, hidden=[16, 16]), "sampler": ReverseDiffusion(steps=10)},
    "ExactScore": {"law": GaussianMixture([[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]], 0.5, [0.7, 0.3])},
    "KentMixture": {"components": 4, "restarts": 2, "iterations": 50, "min_width": 0.05},
    "LatentEBM": {"marginal": ImportanceSampling(draws=16, modes=2)},
    "SplineFlow": {"transforms": 2, "hidden": [16]},
    "NeuralKernelDensity": {"hidden": 8, "widths": (0.2,), "min_width": 0.15},
    "KernelDensity": {"widths": 6, "min_width": 0.05, "iterations": 50},
    "AdaptiveKernelDensity": {"widths": 4, "min_width": 0.05, "iterations": 50},
}
SPHERE = Sphere(2)  # of the points; each model has its own
#: where a model lives, if not on the sphere; points of three numbers
HOMES = dict.fromkeys(["ExactScore", "LatentEBM", "SplineFlow"], Euclidean(3))

every_model = pytest.mark.parametrize("cls", each(GenerativeModel))
every_compact_model = pytest.mark.parametrize("cls", [p for p in each(GenerativeModel) if p.id not in HOMES])
#: those that learn by gradient, and those that are fitted in one pass
LEARNED = [p for p in each(GenerativeModel) if p.values[0].loss is not GenerativeModel.loss]
FITTED = [p for p in each(GenerativeModel) if p.values[0].loss is GenerativeModel.loss]
every_learned_model = pytest.mark.parametrize("cls", LEARNED)
every_fitted_model = pytest.mark.parametrize("cls", FITTED)


def points(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64).expand(n, 3)
    return SPHERE.bump_sample(centre, torch.tensor(0.4, dtype=torch.float64), generator).to(dtype)


def ready(cls: type, **arguments) -> GenerativeModel:
    """A small model, fresh, or fitted if it is of those that need no training."""
    torch.manual_seed(0)
    model = model_on(cls, HOMES.get(cls.__name__, Sphere(2)), **SMALL.get(cls.__name__, {}), **arguments)
    model.fit_points(points(80), points(30, seed=1))
    return model


def trained(cls: type, folder: Path, **options) -> tuple[GenerativeModel, Path, dict[str, float]]:
    """A model after two steps, or fitted, its checkpoint and what its validation logged."""
    torch.manual_seed(0)
    model = model_on(cls, HOMES.get(cls.__name__, Sphere(2)), **SMALL.get(cls.__name__, {}))
    data = LawData(train_size=80, val_size=30, test_size=30, batch_size=16, steps_per_epoch=2)
    path, metrics = learned(model, data, folder, max_epochs=1, **options)
    assert read_checkpoint(path)["rsgm"]["training"]["steps"] == (2 if model.trainable else 0)
    return model.eval(), path, metrics


# ---- the contract


@every_learned_model
def test_loss_is_finite_and_trains_every_parameter(cls):
    model = ready(cls)
    assert model.trainable
    terms = model.loss(points(32, dtype=torch.float32))
    assert all(value.shape == (32,) for value in terms.values())
    assert torch.isfinite(terms["loss"]).all()
    terms["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@every_fitted_model
def test_what_is_fitted_in_one_pass_has_no_loss(cls):
    model = ready(cls)
    assert model.needs_points
    assert not model.trainable
    message = rf"{cls.__name__} learns nothing by gradient: call fit_points\(train, val\), or rsgm.fit, instead"
    with pytest.raises(NotImplementedError, match=message):
        model.loss(points(32, dtype=torch.float32))


@every_model
def test_samples(cls):
    model = ready(cls)
    x, same, other = (model.sample(200, seed=seed) for seed in (3, 3, 4))
    assert x.shape == (200, 3)
    # where coordinates may be of any size, single precision may have few numbers for them
    single = math.isfinite(model.manifold.log_volume) or cls.__name__ != "SplineFlow"
    assert x.dtype == (torch.float32 if single else torch.float64)
    assert not x.requires_grad
    assert model.manifold.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert torch.equal(x, same)
    assert not torch.equal(x, other)
    # without a seed each call is fresh, and leaves the global generator alone
    torch.manual_seed(0)
    assert not torch.equal(model.sample(5), model.sample(5))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))
    # any number of axes, with the same draws; none make one point
    assert torch.equal(model.sample((20, 10), seed=3), x.reshape(20, 10, 3))
    assert model.sample(1, seed=0).shape == (1, 3)
    assert model.sample(seed=0).shape == model.sample((), seed=0).shape == (3,)
    assert model.sample((2, 0), seed=0).shape == (2, 0, 3)
    with pytest.raises(ValueError, match=r"sample: expected sizes of at least 0, found \(2, -1\)"):
        model.sample((2, -1))


@every_model
def test_log_densities(cls):
    model = ready(cls)
    x = points(7, seed=5)
    log_prob = model.log_prob(x)
    assert log_prob.shape == (7,)
    assert log_prob.dtype == torch.float64
    assert torch.isfinite(log_prob).all()
    result = model.likelihood(x)
    assert torch.equal(result.value, log_prob)
    assert result.nfe >= 0
    # float32 points are those of the nearest double, and inference mode is no other place
    assert torch.allclose(model.log_prob(x.float()), log_prob, rtol=0, atol=1e-4)
    with torch.inference_mode():
        assert torch.equal(model.log_prob(x.clone()), log_prob)
    # any number of axes
    assert torch.equal(model.log_prob(x[:6].reshape(3, 1, 2, 3)), model.log_prob(x[:6]).reshape(3, 1, 2))
    assert torch.equal(model.log_prob(x[0]), model.log_prob(x[:1])[0])


@every_model
def test_log_densities_are_differentiable(cls):
    """Along a curve of the manifold, beside a difference quotient."""
    model = ready(cls)
    x = points(4, seed=5)
    if not model.likelihood(x).exact:
        assert not model.log_prob(x).requires_grad  # an estimate by draws has no derivative
        return
    u = model.manifold.random_tangent(x, torch.Generator().manual_seed(6))
    t = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.log_prob(model.manifold.expmap(x, t * u)).sum(), t)
    step = 1e-3  # a network in single precision leaves 1e-5 in a log-density
    with torch.no_grad():
        ahead, behind = (model.log_prob(model.manifold.expmap(x, sign * step * u)) for sign in (1, -1))
    torch.testing.assert_close(slope[:, 0], (ahead - behind) / (2 * step), rtol=1e-2, atol=1e-3)


@every_compact_model
def test_density_integrates_to_one(cls):
    model = ready(cls)
    # 80 nodes resolve the narrowest kernel, of width 0.05, and any density that a fresh network has
    nodes, weights = quadrature(SPHERE, 80 if not list(model.parameters()) else 40)
    density = model.log_prob(nodes).exp()
    assert float(weights @ density) == pytest.approx(1, abs=1e-6 if not list(model.parameters()) else 1e-4)
    assert density.max() > 1.1 * density.mean()


@every_model
@pytest.mark.parametrize("shape", [(), (2,), (5, 2), (5, 4), (5, 3, 1), (0, 2)])
def test_points_of_the_wrong_shape(cls, shape):
    with pytest.raises(ValueError, match=r"log_prob: expected points \(\*batch, 3\), found \("):
        ready(cls).log_prob(torch.ones(shape) / 3**0.5)


@every_compact_model
@pytest.mark.parametrize("factor", [1.01, 0.0])
def test_points_off_the_manifold(cls, factor):
    x = points(4)
    x[2] *= factor
    with pytest.raises(ValueError, match=r"log_prob: the points are not on Sphere.*; project them with projx"):
        ready(cls).log_prob(x)


@every_model
def test_resolution_and_solver_are_plain(cls):
    model = ready(cls)
    resolution = model.resolution()
    assert resolution is None or 0 < resolution < math.pi
    solver = model.likelihood(points(2)).solver
    assert solver is None or all(isinstance(value, (str, float, int)) for value in solver.values())


@every_model
@pytest.mark.parametrize("manifold", [Torus(2), Torus(5), SpecialOrthogonal()], ids=str)
def test_points_that_are_matrices(cls, manifold, tmp_path):
    """A loss, samples and log-densities on manifolds whose points have two axes; through a file too."""
    torch.manual_seed(0)
    try:
        model = model_on(cls, manifold, **SMALL.get(cls.__name__, {}))
    except ValueError as error:
        assert re.search(r"choose|lives on|give both", str(error))  # noqa: PT017
        pytest.skip(f"{cls.__name__} lives elsewhere")
    generator = torch.Generator().manual_seed(0)
    x = manifold.random_uniform(40, *manifold.shape, generator=generator, dtype=torch.float64)
    model.fit_points(x[:30], x[30:])
    if model.trainable:
        loss = model.loss(x.float())["loss"]
        assert loss.shape == (40,)
        assert torch.isfinite(loss).all()
    y = model.sample(20, seed=0)
    assert y.shape == (20, *manifold.shape)
    assert manifold.check_point_on_manifold(y, atol=1e-6, rtol=0)
    log_prob = model.log_prob(y)
    assert log_prob.shape == (20,)
    assert torch.isfinite(log_prob).all()
    model.save(tmp_path / "model.ckpt")
    assert torch.equal(rsgm.load(tmp_path / "model.ckpt").sample(20, seed=0), y)


@pytest.mark.slow
@pytest.mark.parametrize("field", each(NetworkField))
@pytest.mark.parametrize("manifold", [Torus(2), SpecialOrthogonal()], ids=str)
def test_score_models_learn_on_tori_and_rotations(manifold, field):
    """In 150 steps two thirds of the way from the uniform law's likelihood to the data's."""
    torch.manual_seed(0)
    process = partial(Brownian, schedule=LinearBeta(beta_1=10.0))
    model = RSGM(manifold, process, network=partial(MLP, hidden=[64, 64]), field=field)
    generator, width = torch.Generator().manual_seed(0), torch.tensor(0.4)
    centre = manifold.random_uniform(*manifold.shape, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        x = manifold.bump_sample(centre.expand(256, *manifold.shape), width, generator)
        optimizer.zero_grad()
        model.loss(x)["loss"].mean().backward()
        optimizer.step()
    x = manifold.bump_sample(centre.expand(100, *manifold.shape), width, generator)
    best, found = (float(values.mean()) for values in (manifold.bump_log_prob(x, centre, width), model.log_prob(x)))
    assert found > -manifold.log_volume + (best + manifold.log_volume) * 2 / 3
    # samples are where the density is, which after so few steps is wider than the data
    nodes = manifold.random_uniform(1000, *manifold.shape, generator=generator)
    weights, squares = model.log_prob(nodes).softmax(0), manifold.dist(nodes, centre).square()
    sampled = manifold.dist(model.sample(300, seed=0), centre).square().mean()
    assert float(sampled / (weights @ squares.to(weights))) == pytest.approx(1, abs=0.35)


# ---- checkpoints


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A model of a class after two steps, and its file."""
    return functools.cache(lambda cls: trained(cls, tmp_path_factory.mktemp(cls.__name__), limit_val_batches=0))


@every_model
def test_checkpoint(cls, checkpoints):
    """Everything is in the file, and nothing that has to be executed."""
    model, path, _ = checkpoints(cls)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["rsgm"]["model"]["class_path"] == f"{cls.__module__}.{cls.__qualname__}"
    assert checkpoint["rsgm"]["seed"] == 0
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} <= {"model"}
    again = rsgm.load(path)
    assert type(again) is cls
    assert not again.training
    x = points(5)
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(5, seed=0), model.sample(5, seed=0))
    # two steps have left their mark, the same in both
    if model.state_dict():
        assert not torch.equal(ready(cls).log_prob(x), model.log_prob(x))
    assert again.description == model.description


@every_learned_model
def test_validation_runs_in_inference_mode(cls, tmp_path):
    _, _, metrics = trained(cls, tmp_path, limit_val_batches=1)
    assert math.isfinite(metrics["val/nll"])
    assert metrics["val/nfe"] >= 0


@every_model
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_torn_file(cls, share, checkpoints, tmp_path):
    whole, path = checkpoints(cls)[1].read_bytes(), tmp_path / "torn.ckpt"
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "is torn or is not a checkpoint")


def refused(path: Path, message: str) -> None:
    """In one sentence that names the file."""
    for read in (read_checkpoint, rsgm.load):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(f"{path} ")
        assert message in text
        assert "\n" not in text
        assert text.endswith(".")
        assert len(text) < len(str(path)) + 200


class Payload:
    """What a hostile file would do."""

    def __reduce__(self):
        return pytest.fail, ("the file was executed",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"lat,lon\n1,2\n",
        b"seed_everything: 0\nmodel:\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        bytes(1000),
        pickle.dumps({"rsgm": Payload(), "state_dict": {}}, protocol=2),
        pickle.dumps({"rsgm": {}, "state_dict": {}}),
    ],
    ids=["empty", "text", "csv", "yaml", "png", "zip", "zeros", "hostile", "pickle"],
)
def test_foreign_file(content, tmp_path):
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(content)
    refused(path, "is torn or is not a checkpoint")


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"state_dict": {}}, {"rsgm": {}}, torch.zeros(3), None],
    ids=["list", "lightning", "no weights", "tensor", "none"],
)
def test_checkpoint_of_another_program(content, tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    refused(path, "was not written by rsgm: it has no description of a model")


def test_hostile_checkpoint(tmp_path):
    """In the format of PyTorch, with an object that runs code when it is read."""
    path = tmp_path / "hostile.ckpt"
    torch.save({"rsgm": {"model": Payload()}, "state_dict": {}}, path)
    refused(path, "is torn or is not a checkpoint")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at .*nothing\.ckpt"):
        rsgm.load(tmp_path / "nothing.ckpt")
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at"):
        rsgm.load(tmp_path)


def test_checkpoint_with_a_class_that_is_not_admitted(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"rsgm": {"format": 2, "model": {"class_path": "subprocess.Popen"}}, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"names 'subprocess.Popen', which is not a class admitted here"):
        rsgm.load(path)


def test_a_model_that_cannot_be_described_fails_before_training(tmp_path):
    model = RSGM(Sphere(2), network=lambda i, o: MLP(i, o, hidden=[4]))
    with pytest.raises(TypeError, match="cannot be written into a checkpoint"):
        quiet_trainer(tmp_path, max_steps=1).fit(Training(model), torch.utils.data.DataLoader(points(4)))
    with pytest.raises(TypeError, match="cannot be written into a checkpoint"):
        model.save(tmp_path / "model.ckpt")
    assert not list(tmp_path.glob("model*"))


# ---- training


def test_equal_seeds_give_equal_weights(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (trained(RSGM, tmp_path / name, limit_val_batches=0)[0] for name in "ab")
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_models_fitted_in_one_pass_see_train_and_val():
    """The training points are kept, the weights are chosen on the validation points, and none on the test points."""
    data = LawData(train_size=80, val_size=30, test_size=30)
    model, again = (KernelDensity(SPHERE, **SMALL["KernelDensity"]) for _ in range(2))
    rsgm.fit(model, data)
    again.fit_points(data.train.points, data.val.points)
    assert torch.equal(model.points, data.train.points)
    assert torch.equal(model.weights, again.weights)


def test_training_learns():
    """In 150 steps on a bump the density of fresh points, and the samples, are no longer those of the uniform law."""
    torch.manual_seed(0)
    model = RSGM(Sphere(2), network=partial(MLP, hidden=[32, 32]), loss=ImplicitScoreMatching())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(150):
        optimizer.zero_grad()
        model.loss(points(128, seed=step, dtype=torch.float32))["loss"].mean().backward()
        optimizer.step()
    fresh = points(100, seed=1000)
    assert model.log_prob(fresh).mean() > -math.log(4 * math.pi) + 0.8
    # of the data this is 0.84, of the uniform law 0 +- 0.03
    assert (model.sample(500, seed=0) @ torch.tensor([0.6, 0.0, 0.8])).mean() > 0.5


# ---- kernel densities


def test_kernel_density_by_formula():
    """One width: the mixture of the bumps and the uniform law, with weights that maximise the likelihood."""
    model = KernelDensity(Sphere(2), widths=1, min_width=0.3, max_width=0.3)
    train, x = points(40), points(6, seed=2)
    anywhere = SPHERE.random_uniform(20, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    val = torch.cat([points(50, seed=1), anywhere])
    model.fit_points(train, val)

    def mixture(y: torch.Tensor, weights: tuple[float, float]) -> torch.Tensor:
        bumps = SPHERE.bump_log_prob(y[:, None], train, torch.tensor(0.3, dtype=torch.float64)).exp().mean(1)
        return (weights[0] / (4 * math.pi) + weights[1] * bumps).log()

    uniform, bumps = model.weights.tolist()
    assert torch.allclose(model.log_prob(x), mixture(x, (uniform, bumps)), rtol=0, atol=1e-12)
    assert uniform + bumps == pytest.approx(1, abs=1e-6)
    best = mixture(val, (uniform, 1 - uniform)).mean()
    for other in (0.98 * uniform, 1.02 * uniform):
        assert mixture(val, (other, 1 - other)).mean() < best


def test_kernel_density_of_many_points():
    """More points than are held at a time: the mean over all."""
    model = KernelDensity(Euclidean(1), widths=200, min_width=0.3, max_width=3.0)
    generator = torch.Generator().manual_seed(0)
    train, x = torch.randn(3_000, 1, generator=generator, dtype=torch.float64), torch.randn(3, 1, generator=generator)
    model.fit_points(train, x)
    bumps = Euclidean(1).bump_log_prob(x.double()[:, None, None], train[:, None], model.widths).exp().mean(1)
    assert torch.allclose(model.log_prob(x), (bumps @ model.weights[1:]).log(), rtol=0, atol=1e-12)


def test_kernel_density_widths():
    """Those that grow by the square root of two, as far as the largest allows; or so many from end to end."""
    widths = KernelDensity(Sphere(2)).widths
    assert len(widths) == 26
    torch.testing.assert_close(widths[1:] / widths[:-1], torch.full_like(widths[1:], 2**0.5), rtol=1e-15, atol=0)
    assert widths[0] == 1e-4
    assert 0.7 / 2**0.5 < widths[-1] <= 0.7
    assert KernelDensity(Sphere(2), min_width=0.25, max_width=0.5).widths.tolist() == [0.25, 0.25 * 2**0.5, 0.5]
    assert KernelDensity(Sphere(2), widths=3, min_width=0.25, max_width=1.0).widths.tolist() == [0.25, 0.5, 1.0]


def test_samples_are_drawn_in_parts(monkeypatch):
    """Each part of the points with its own rows of the context, one after the other of one generator."""
    sizes, model = [], RSGM(SPHERE)

    def draw(n, context, generator):
        sizes.append(n)
        u = torch.rand(n, generator=generator)
        x = SPHERE.origin(n, 3)
        return x if context is None else x * 0 + u[:, None] + context[:, :1]

    monkeypatch.setattr(base, "_DRAWN", 10)
    monkeypatch.setattr(model, "draw", draw)
    monkeypatch.setattr(model, "given", lambda context, shape: context)
    context = torch.arange(23.0)[:, None]
    x = model.sample(23, context, seed=3)
    assert sizes == [10, 10, 3]
    assert model.sample((4, 5), seed=0).shape == (4, 5, 3)
    assert sizes == [10, 10, 3, 10, 10]
    assert torch.equal(x[:, 0] - context[:, 0] > 0, torch.ones(23, dtype=torch.bool))
    assert len(set((x[:, 0] - context[:, 0]).tolist())) == 23
    assert torch.equal(x, model.sample(23, context, seed=3))


def test_kernel_density_samples_follow_its_density():
    """E log q by samples and by quadrature; 5 standard errors, false alarm 6e-7."""
    model = ready(KernelDensity)
    nodes, weights = quadrature(SPHERE, 80)
    log_prob = model.log_prob(nodes)
    expected = float(weights @ (log_prob.exp() * log_prob))
    found = model.log_prob(model.sample(5_000, seed=0))
    assert abs(float(found.mean()) - expected) < 5 * float(found.std()) / 5_000**0.5


def test_kernel_density_without_a_uniform_law():
    """On the line its weight is zero; the density integrates to one and the samples follow it."""
    model = KernelDensity(Euclidean(1), widths=5, min_width=0.01)
    x = torch.randn(120, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model.fit_points(x[:80], x[80:])
    assert model.weights[0] == 0
    nodes = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    density = model.log_prob(nodes).exp()
    assert float(torch.trapezoid(density, nodes[:, 0])) == pytest.approx(1, abs=1e-4)
    mean = float(torch.trapezoid(density * nodes[:, 0], nodes[:, 0]))
    samples = model.sample(5_000, seed=0)
    assert abs(float(samples.mean()) - mean) < 5 * float(samples.std()) / 5_000**0.5


def test_kernel_density_of_repeated_and_of_far_points():
    """Densities underflow to zero, and their logarithms do not."""
    model = KernelDensity(Sphere(2), widths=5, min_width=1e-5)
    north = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    model.fit_points(north.repeat(10, 1), north.repeat(3, 1))
    # all of the weight goes to the smallest width: log(kappa / 2 pi)
    assert float(model.log_prob(north)) == pytest.approx(10 * math.log(10) - math.log(2 * math.pi), abs=1e-3)
    assert float(model.log_prob(-north)) < -30


@pytest.mark.parametrize(
    "arguments",
    [{"min_width": 0.0}, {"min_width": 0.5, "max_width": 0.1}, {"max_width": float("inf")}, {"widths": 0}],
    ids=str,
)
def test_kernel_density_arguments(arguments):
    with pytest.raises(ValueError, match=r"0 < min_width <= max_width, and widths >= 1 or None, are needed, found"):
        KernelDensity(Sphere(2), **arguments)


@pytest.mark.parametrize("manifold", [Euclidean(2), Hyperbolic(2)], ids=str)
def test_kernels_reach_any_distance(manifold):
    """Where every kernel is less than the least number, the density still has a logarithm, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    origin = manifold.origin(80, *manifold.shape, dtype=torch.float64)
    x = manifold.expmap(origin, manifold.random_tangent(origin, generator))
    weights = torch.rand(80, generator=generator, dtype=torch.float64)
    model = KernelDensity(manifold, min_width=0.01, max_width=0.3)
    model.fit_points(x[:60], x[60:], weights=(weights[:60], weights[60:]))
    far = manifold.expmap(x[:3], 40 * manifold.random_tangent(x[:3], generator)).requires_grad_()
    bumps = manifold.bump_log_prob(far[:, None, None], model.points[:, None], model.widths)
    log_parts = (bumps + (weights[:60] / weights[:60].sum()).log()[:, None]).logsumexp(1)
    expected = (log_parts + model.weights[1:].log()).logsumexp(1)
    found = model.log_prob(far)
    assert found.max() < -800
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value.sum(), far, retain_graph=True)[0] for value in (found, expected)]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if manifold.vector_space:  # coordinates on the hyperboloid are of the size of e^40 there
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=0)


@pytest.mark.parametrize("widths", [(1.0,), (0.5, 1.0)])
def test_kernels_where_sums_are_denormal(widths):
    """Between what double precision sees and what it does not, and on both sides, the law is normal."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    model = KernelDensity(Euclidean(1), widths=len(widths), min_width=widths[0], max_width=widths[-1])
    model.fit_points(zero, zero + 0.3)
    model.weights[1:] = 1 / len(widths)
    x = torch.linspace(35, 40, 101, dtype=torch.float64)[:, None].requires_grad_()
    found, normal = model.log_prob(x), torch.distributions.Normal(0 * zero[0], 1.0)
    torch.testing.assert_close(found, normal.log_prob(x)[:, 0] - math.log(len(widths)), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], -x, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls", [KernelDensity, AdaptiveKernelDensity, KentMixture])
def test_a_fit_needs_points_that_count(cls):
    """`rsgm.fit` holds out some that do."""
    sphere = Sphere(2)
    x = sphere.random_uniform(40, 3, generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones(20), torch.zeros(20)
    wrong = [
        (x[:20], x[20:], (zeros, ones), "all weights of the training points are zero"),
        (x[:0], x[20:], None, "found no training points"),
    ]
    if cls is not AdaptiveKernelDensity:  # which needs no others
        wrong.append((x[:20], x[20:], (ones, zeros), "all weights of the validation points are zero"))
        wrong.append((x[:20], x[:0], None, "found no validation points"))
    for train, val, weights, words in wrong:
        with pytest.raises(ValueError, match=f"{cls.__name__}: {words}"):
            cls(sphere).fit_points(train, val, weights=weights)
    weights = torch.zeros(40)
    weights[:6] = 1
    model = rsgm.fit(cls(sphere), x, weights=weights)
    assert torch.isfinite(model.log_prob(x)).all()
    with pytest.raises(ValueError, match="found 1 that counts"):
        rsgm.fit(cls(sphere), x, weights=torch.eye(40)[0])


def test_kernel_density_without_points():
    with pytest.raises(RuntimeError, match="KernelDensity has no points yet; call fit_points, or train it"):
        KernelDensity(Sphere(2)).log_prob(points(2))


# ---- RSGM


def test_rsgm_needs_a_compact_manifold():
    with pytest.raises(ValueError, match="infinite volume"):
        RSGM(Euclidean(2), network=partial(MLP, hidden=[4]))


def test_rsgm_score_is_the_field_over_sigma():
    """sigma(t)^2 = 1 - exp(-s(t)): a network of order one makes a score of the right size at every time."""
    model = RSGM(Sphere(2), network=partial(MLP, hidden=[4]))
    x, t = points(20, dtype=torch.float32), torch.linspace(1e-3, 1, 20)
    sigma = (-torch.expm1(-model.process.schedule.integral(t))).sqrt()
    assert torch.allclose(model.score(t, x), model.score.field(t, x) / sigma[:, None], rtol=1e-5)
    assert sigma[0] < 2e-3


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_rsgm_on_other_spheres(dim):
    torch.manual_seed(0)
    sphere = Sphere(dim)
    network, sampler = partial(MLP, hidden=[8]), ReverseDiffusion(steps=3)
    model = RSGM(sphere, network=network, loss=ImplicitScoreMatching(), sampler=sampler)
    x = model.sample(10, seed=0)
    assert x.shape == (10, dim + 1)
    assert torch.isfinite(model.loss(x)["loss"]).all()
    assert torch.isfinite(model.log_prob(x[:3])).all()


@pytest.mark.parametrize("process", [VariancePreserving, VarianceExploding], ids=lambda cls: cls.__name__)
def test_rsgm_in_flat_space(process):
    """A few hundred steps on a bump away from the origin."""
    torch.manual_seed(0)
    model = RSGM(Euclidean(2), process=process, network=partial(MLP, hidden=[32, 32]))
    x = torch.tensor([1.0, -1.0]) + 0.3 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    before, optimizer = model.log_prob(x[:100]).mean(), torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(500):
        optimizer.zero_grad()
        model.loss(x)["loss"].mean().backward()
        optimizer.step()
    # minus the entropy of the data is -0.43
    assert model.log_prob(x[:100]).mean() > max(before + 0.5, -1.2)
    samples = model.sample(500, seed=0)
    # of the data this is 0.2, of the priors 1 and more
    assert (samples - torch.tensor([1.0, -1.0])).abs().median() < 0.35


def test_conditional_rsgm():
    """Two classes: samples and densities follow the context of each point."""
    torch.manual_seed(0)
    network = partial(MLP, hidden=[16], context_features=2)
    model = RSGM(Sphere(2), network=network, sampler=ReverseDiffusion(steps=3))
    x, context = points(4, dtype=torch.float32), torch.eye(2).repeat(2, 1)
    assert torch.isfinite(model.loss(x, context)["loss"]).all()
    assert model.sample(4, context, seed=0).shape == (4, 3)
    both = model.log_prob(x[:1].expand(2, 3), torch.eye(2))
    assert (both[0] - both[1]).abs() > 1e-3
    with pytest.raises(ValueError, match="context_features is 2, found a context of 0 features"):
        model.sample(4, seed=0)


# ---- score models in a chart


def silent(model: GenerativeModel) -> GenerativeModel:
    """With a network of zeros."""
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("chart", [Stereographic, TanhExponential], ids=lambda cls: cls.__name__)
def test_chart_model_without_a_score_is_the_pushed_prior(chart):
    model = silent(ChartSGM(Sphere(2), chart=chart, network=partial(MLP, hidden=[4])))
    x = SPHERE.random_uniform(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = chart(SPHERE).inverse(x)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    expected = normal.log_prob(y).sum(1) - chart(SPHERE).log_det(y)
    assert torch.allclose(model.log_prob(x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("dim", "resolution"), [(1, 50), (2, 30), (3, 14)])
def test_chart_model_integrates_to_one(dim, resolution):
    """Without a score; and the samples have this density."""
    sphere = Sphere(dim)
    model = silent(ChartSGM(sphere, network=partial(MLP, hidden=[4])))
    nodes, weights = quadrature(sphere, resolution)
    density = model.log_prob(nodes).exp()
    assert float(weights @ density) == pytest.approx(1, abs=1e-3)
    first = model.sample(4000, seed=0)[:, 0].double()
    # the prior is the law of the samples, but for the discretisation of the flow
    assert abs(float(first.mean()) - float(weights @ (density * nodes[:, 0]))) < 5 * float(first.std()) / 4000**0.5


def test_chart_model_resolution():
    """Twice that of the plane at the centre of the stereographic projection."""
    model = ChartSGM(Sphere(2), network=partial(MLP, hidden=[4]))
    assert model.resolution() == pytest.approx(2 * model.flat.process.resolution())


def test_chart_model_learns():
    torch.manual_seed(0)
    model = ChartSGM(Sphere(2), network=partial(MLP, hidden=[32, 32]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.zero_grad()
        model.loss(points(128, seed=step, dtype=torch.float32))["loss"].mean().backward()
        optimizer.step()
    assert model.log_prob(points(100, seed=1000)).mean() > -math.log(4 * math.pi) + 0.8
    assert (model.sample(500, seed=0) @ torch.tensor([0.6, 0.0, 0.8])).mean() > 0.5


# ---- what log_prob is given


@every_model
def test_points_a_little_off_the_manifold_are_projected(cls):
    """By every law alike: a narrow kernel sees 1e-5."""
    model = ready(cls)
    x = ready_points(model)
    if math.isinf(model.manifold.log_volume):
        return  # flat space has nothing off it
    assert model.log_prob(x).shape == (len(x),)
    torch.testing.assert_close(model.log_prob(x * (1 + 9e-6)), model.log_prob(x), rtol=1e-6, atol=1e-6)


def test_narrow_kernels_do_not_see_what_is_off_the_sphere():
    x = torch.nn.functional.normalize(points(50), dim=1)
    model = KernelDensity(SPHERE, widths=1, min_width=1e-4, max_width=1e-4)
    model.fit_points(x * (1 + 5e-5), x)
    near = SPHERE.expmap(x, 1e-4 * SPHERE.random_tangent(x, torch.Generator().manual_seed(1)))
    expected = model.log_prob(near)
    assert expected.mean() > 9
    torch.testing.assert_close(model.log_prob(near * (1 - 9e-5)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_points_that_are_not_finite_are_named(bad):
    model = KernelDensity(Euclidean(2))
    x = torch.zeros(5, 2)
    x[[1, 4], 0] = bad
    with pytest.raises(ValueError, match=r"2 of 5 points are not finite \(rows 1, 4\)"):
        model.log_prob(x)


@every_model
def test_arrays_numbers_of_numpy_and_no_points(cls):
    model, x = ready(cls), points(3)
    torch.testing.assert_close(model.log_prob(x.numpy()), model.log_prob(x), rtol=0, atol=1e-4)
    assert torch.equal(model.sample(np.int64(2), seed=np.int64(1)), model.sample(2, seed=1))
    assert model.log_prob(model.sample((2, 0))).shape == (2, 0)


def test_integers_are_not_points():
    with pytest.raises(ValueError, match=r"expected points of floating-point numbers, found torch.int64; use x.double"):
        KernelDensity(Euclidean(2)).log_prob(torch.zeros(5, 2, dtype=torch.int64))


@every_model
def test_a_rough_law_is_nearly_the_law_and_leaves_it_alone(cls):
    model = ready(cls)
    x = ready_points(model)
    before = model.log_prob(x)
    rough = model.rough()
    assert (rough.log_prob(x).double() - before.double()).abs().mean() < 0.02
    assert torch.equal(model.log_prob(x), before)
    assert model.likelihood(x).solver == ready(cls).likelihood(x).solver


def ready_points(model: GenerativeModel) -> torch.Tensor:
    """A few points of its manifold."""
    if model.manifold.shape == (3,) and math.isfinite(model.manifold.log_volume):
        return points(6)
    return model.manifold.projx(model.sample(6, seed=0).double())


def test_kernel_density_of_points_that_no_kernel_reaches():
    """They say nothing of the widths: beside others nothing changes, and alone the widest kernels are taken."""
    train, val = torch.randn(50, 2).double(), torch.randn(20, 2).double()
    far = torch.full((3, 2), 1e6).double()
    weights = []
    for points in (val, torch.cat([val, far]), far):
        model = KernelDensity(Euclidean(2), widths=4, min_width=0.1, max_width=2.0)
        model.fit_points(train, points)
        weights.append(model.weights)
    assert torch.equal(weights[0], weights[1])
    assert weights[2].tolist() == [0, 0, 0, 0, 1]


WRONG = {
    "an object for its factory": (lambda: RSGM(SPHERE, process=Brownian(SPHERE)), "RSGM: process is a factory"),
    "a network": (lambda: RSGM(SPHERE, network=MLP(3, 3)), "RSGM: network is a factory"),
    "a class for an object": (lambda: RSGM(SPHERE, loss=ImplicitScoreMatching), "RSGM: loss is an object"),
    "geoopt's manifold": (lambda: RSGM(geoopt.Sphere()), "use rsgm's or Adapted"),
    "a class of manifolds": (lambda: KernelDensity(Sphere), "RSGM|KernelDensity: expected a manifold"),
    "a number for a solver": (lambda: rsgm.CNF(SPHERE, solver=3), "CNF: solver is an object"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_parts_get_one_line(case):
    make, expected = case
    with pytest.raises(TypeError, match=expected) as error:
        make()
    assert "\n" not in str(error.value)
