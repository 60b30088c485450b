"""Training by a Trainer with loaders of every kind, and `rsgm.fit`: what is learned, what is left, what is refused."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

import rsgm
from helpers import learned, quiet_trainer
from rsgm import RSGM, Euclidean, KernelDensity, LawData, NeuralKernelDensity, PointsData, Sphere, Training
from rsgm.models import CheckpointError, NonFiniteLossError, read_checkpoint
from rsgm.networks import MLP
from rsgm.processes import VarianceExploding
from rsgm.schedules import AutomaticVariance
from rsgm.seeding import seed_from
from rsgm.training import ConstantRate, WarmupCosine
from rsgm.training.figures import ValidationFigure

LABELS = torch.eye(2).repeat(32, 1)
ADAM = partial(torch.optim.Adam, lr=1e-2)


def points(n: int = 64, seed: int = 0) -> torch.Tensor:
    """Around a place of the sphere."""
    centre = torch.tensor([0.6, 0.0, 0.8]).expand(n, 3)
    return Sphere(2).bump_sample(centre, torch.tensor(0.4), torch.Generator().manual_seed(seed))


def small(features: int = 0, seed: int = 0) -> RSGM:
    torch.manual_seed(seed)
    return RSGM(Sphere(2), network=partial(MLP, hidden=[16, 16], context_features=features))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- what a Trainer is given


class OwnModule(LightningDataModule):
    """As a user writes one."""

    def train_dataloader(self):
        return DataLoader(points(), batch_size=16)

    def val_dataloader(self):
        return DataLoader(points(10, seed=1), batch_size=10)


@pytest.mark.parametrize("kind", ["tensor", "one of a data set", "with context", "module"])
def test_loaders(kind, tmp_path):
    """The loss falls on them, and validation says what the model says afterwards."""
    x, val, context = points(), points(10, seed=1), None
    model = small(features=2 if kind == "with context" else 0)
    before = weights(model)
    if kind == "tensor":
        data = {"train_dataloaders": DataLoader(x, batch_size=16), "val_dataloaders": DataLoader(val, batch_size=10)}
    elif kind == "one of a data set":
        data = {
            "train_dataloaders": DataLoader(TensorDataset(x), batch_size=16),
            "val_dataloaders": DataLoader(TensorDataset(val), batch_size=10),
        }
    elif kind == "with context":
        context = LABELS[:10]
        data = {
            "train_dataloaders": DataLoader(TensorDataset(x, LABELS), batch_size=16),
            "val_dataloaders": DataLoader(TensorDataset(val, context), batch_size=10),
        }
    else:
        data = {"datamodule": OwnModule()}
    trainer, training = quiet_trainer(tmp_path, max_epochs=2), Training(model, ADAM)
    trainer.fit(training, **data)
    assert trainer.global_step == 8
    after = weights(model)
    assert all(value.isfinite().all() for value in after.values())
    assert not same(before, after)
    found = float(trainer.callback_metrics["val/nll"])
    assert found == pytest.approx(-float(model.log_prob(val, context).mean()), abs=1e-5)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    record = read_checkpoint(tmp_path / "model.ckpt")["rsgm"]
    assert (record["training"]["steps"], record["training"]["points"]) == (8, None)
    assert "data" not in record
    assert same(weights(rsgm.load(tmp_path / "model.ckpt")), after)


def test_a_batch_of_another_form_is_named(tmp_path):
    loader = DataLoader([{"x": point} for point in points()], batch_size=16)
    with pytest.raises(ValueError, match="expected a batch of points, or of points and their context, found dict"):
        quiet_trainer(tmp_path, max_steps=1).fit(Training(small()), loader)


def weighted(x: torch.Tensor, weight: torch.Tensor, batch_size: int) -> DataLoader:
    """Points without a context, in their order, and what they count."""
    parts = zip(x.split(batch_size), weight.split(batch_size), strict=True)
    return DataLoader([(some, None, count) for some, count in parts], batch_size=None)


def test_the_weights_of_a_loader_are_of_any_scale(tmp_path):
    model, x, weight = small().eval(), points(20), torch.arange(20.0) * (torch.arange(20) >= 5)
    (found,) = quiet_trainer(tmp_path).test(Training(model), weighted(x, weight, 5), verbose=False)
    expected = -float(model.log_prob(x) @ weight.double() / weight.sum())
    assert found["test/nll"] == pytest.approx(expected, abs=1e-5)


def test_a_loss_sees_the_points_of_a_batch_as_often_as_they_count(tmp_path):
    """A loss that compares a point with others of its batch knows no weights."""
    model, x, seen = small(), points(), []
    weight = torch.where(torch.arange(64) % 32 < 24, 0.0, torch.where(torch.arange(64) % 32 < 28, 3.0, 1.0))
    inner = model.objective
    model.objective = lambda score, x0, context: seen.append(x0) or inner(score, x0, context)
    quiet_trainer(tmp_path, max_steps=40).fit(Training(model), weighted(x, weight, 32))
    shares = (torch.cat(seen)[:, None] == x).all(-1).double().mean(0)
    torch.testing.assert_close(shares, weight.double() / weight.sum(), rtol=0, atol=0.02)


def test_a_model_that_keeps_the_points_of_a_loader_keeps_their_weights(tmp_path):
    model, x = NeuralKernelDensity(Sphere(2), min_width=0.05), points()
    quiet_trainer(tmp_path, max_steps=1).fit(Training(model), weighted(x, torch.arange(64.0) % 2, 32))
    assert len(model.centres) == 32
    with pytest.raises(ValueError, match="all weights are zero, expected some above zero"):
        quiet_trainer(tmp_path, max_steps=1).fit(Training(small()), weighted(x, torch.zeros(64), 32))


def test_a_checkpoint_of_a_trainer_is_one_of_ours(tmp_path):
    """Lightning's own callback, its `load_from_checkpoint` and its `predict`, at the model's averaged weights."""
    training = Training(small(), averaging=0.9)
    trainer = quiet_trainer(tmp_path, max_steps=3)
    trainer.fit(training, DataLoader(points(), batch_size=16))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    again = Training.load_from_checkpoint(tmp_path / "own.ckpt", averaging=0.5)
    assert again.averaging == 0.5
    assert same(weights(again.model), weights(training.model))
    assert same(weights(again.model), weights(rsgm.load(tmp_path / "own.ckpt")))
    predicted = torch.cat(trainer.predict(again, DataLoader(points(), batch_size=16)))
    torch.testing.assert_close(predicted, training.model.log_prob(points()), rtol=0, atol=1e-4)


def test_test_scores_the_weights_that_are_left(tmp_path):
    model, test = small(), points(10, seed=2)
    trainer, training = quiet_trainer(tmp_path, max_steps=5), Training(model, ADAM)
    trainer.fit(training, DataLoader(points(), batch_size=16))
    (found,) = trainer.test(training, DataLoader(test, batch_size=10), verbose=False)
    result = model.likelihood(test)
    assert found == {"test/nll": pytest.approx(-float(result.value.mean())), "test/nfe": result.nfe}


def test_figures_are_of_the_weights_that_are_validated(tmp_path):
    """That is, of the average: what is left at the end."""
    seen = []

    class Seen(ValidationFigure):
        name = "seen"

        def draw(self, model, data, about):
            seen.append((weights(model), about))

    model, data = small(), LawData(train_size=20, val_size=5, test_size=5, batch_size=8, steps_per_epoch=4)
    logger = TensorBoardLogger(tmp_path)
    trainer = quiet_trainer(tmp_path, max_steps=4, callbacks=[Seen()], logger=logger, log_every_n_steps=1)
    trainer.fit(Training(model, ADAM, averaging=0.9), data)
    ((found, about),) = seen
    assert same(found, weights(model))
    assert about.endswith(f"step 4, validation NLL {float(trainer.callback_metrics['val/nll']):.3f}".replace("-", "−"))


class Record(Callback):
    """The weights after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.seen.append(weights(pl_module.model))


@pytest.mark.parametrize("averaging", [None, 0.3])
def test_the_average_is_what_is_left(averaging, tmp_path):
    """From the weights after the first step on; or the weights of the last step."""
    model, record = small(), Record()
    trainer = quiet_trainer(tmp_path, max_steps=5, callbacks=[record])
    trainer.fit(Training(model, ADAM, ConstantRate(), averaging), DataLoader(points(), batch_size=16))
    assert len(record.seen) == 5
    if averaging is None:
        assert same(weights(model), record.seen[-1])
        return
    expected = record.seen[0]
    for k, raw in enumerate(record.seen[1:], start=1):
        decay = min(averaging, (1 + k) / (10 + k))
        expected = {name: decay * expected[name] + (1 - decay) * raw[name] for name in raw}
    for name, value in weights(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    assert not same(weights(model), record.seen[-1])


def test_draws_and_learning_rate_of_each_batch(tmp_path, monkeypatch):
    """The draws are a function of (seed, step, place in the step, rank), the rate of the step and of their number."""
    seeds, rates, loss = [], [], RSGM.loss
    rate = WarmupCosine(warmup=2)
    training = Training(RSGM(Sphere(2), network=partial(MLP, hidden=[4])), ADAM, rate)

    def watched(self, x, context=None):
        seeds.append(torch.initial_seed())
        rates.append(training.trainer.optimizers[0].param_groups[0]["lr"])
        return loss(self, x, context)

    monkeypatch.setattr(RSGM, "loss", watched)
    monkeypatch.setattr(Training, "global_rank", 3)
    trainer = quiet_trainer(tmp_path, max_steps=5, accumulate_grad_batches=2, limit_val_batches=0)
    data = LawData(train_size=20, val_size=5, test_size=5, batch_size=4, steps_per_epoch=20)
    trainer.fit(training, data)
    places = [(step, place) for step in range(5) for place in range(2)]
    assert seeds == [seed_from("step", training.seed, step, place, 3) for step, place in places]
    assert rates == pytest.approx([1e-2 * rate(step, 5) for step, _ in places])


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    model = RSGM(Sphere(2), network=partial(MLP, hidden=[4]))
    data = LawData(train_size=20, val_size=5, test_size=5, batch_size=4, steps_per_epoch=2)
    with torch.no_grad():
        model.score.field.network.layers[0].weight[0, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match=r"The loss is nan at step 0; lower the learning rate"):
        quiet_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(Training(model), data)


def test_an_automatic_schedule_sees_the_points_of_a_plain_loader(tmp_path):
    """Before the first step, and the checkpoint says what it has made of them."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([3.0, -2.0])
    process = partial(VarianceExploding, schedule=AutomaticVariance())
    model = RSGM(Euclidean(2), process, network=partial(MLP, hidden=[8]))
    assert model.needs_points
    trainer = quiet_trainer(tmp_path, max_steps=2)
    trainer.fit(Training(model), DataLoader(x, batch_size=10))
    expected = AutomaticVariance().fit(x)
    assert model.process.schedule == expected != AutomaticVariance()
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert rsgm.load(tmp_path / "model.ckpt").process.schedule == expected


def test_what_learns_nothing_by_gradient_is_refused():
    with pytest.raises(
        ValueError, match=r"Training: KernelDensity learns nothing by gradient; call .*rsgm\.fit"
    ) as error:
        Training(KernelDensity(Sphere(2)))
    assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="Training: model is an object: expected an instance of GenerativeModel"):
        Training(torch.nn.Linear(2, 2))


# ---- copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("make", [small, lambda: KernelDensity(Sphere(2), widths=4)], ids=["RSGM", "KernelDensity"])
def test_copies_are_models_of_their_own(duplicate, make):
    """Fitted, they say the same; fitted again, the original stays as it is."""
    x = points()
    model = rsgm.fit(make(), x, steps=3)
    again, before = duplicate(model), weights(model)
    assert again.description == model.description
    assert same(weights(again), before)
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(4, seed=0), model.sample(4, seed=0))
    rsgm.fit(again, points(seed=9), steps=3)
    assert same(weights(model), before)
    assert not same(weights(again), before)
    assert again.description == model.description


def test_a_copy_of_what_cannot_be_described_cannot_be_either():
    model = RSGM(Sphere(2), network=lambda i, o: MLP(i, o, hidden=[4]))
    again = copy.deepcopy(model)
    assert torch.equal(again.log_prob(points(3)), model.log_prob(points(3)))
    with pytest.raises(TypeError, match="cannot be written into a checkpoint"):
        _ = again.description


def test_two_models_learn_apart():
    one, other = small(), small(seed=1)
    before = weights(other)
    rsgm.fit(one, points(), steps=3)
    assert same(weights(other), before)
    assert not {id(part) for part in one.modules()} & {id(part) for part in other.modules()}
    assert other.training
    assert not one.training


# ---- fit


def test_fit_learns():
    """In 200 steps on a bump the density of fresh points is no longer that of the uniform law."""
    model = small()
    assert rsgm.fit(model, points(1000), steps=200, batch_size=128, optimizer=ADAM) is model
    assert model.log_prob(points(100, seed=1)).mean() > -math.log(4 * math.pi) + 0.8


def test_tensors_arrays_and_lists_are_fitted_alike():
    x, first = points().double(), small()
    forms = [x, x.float(), x.numpy(), x.tolist(), PointsData(Sphere(2), x)]
    fitted = [rsgm.fit(copy.deepcopy(first), form, steps=3, batch_size=8) for form in forms]
    for model in fitted[1:4]:
        assert same(weights(model), weights(fitted[0]))
    # of a data module the train part alone, in its own batches
    assert not same(weights(fitted[4]), weights(first))
    assert not same(weights(fitted[4]), weights(fitted[0]))


def test_a_frame_of_places():
    """Of latitudes and longitudes in degrees, in any order, beside other columns."""
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    lat, lon = generator.uniform(-90, 90, 60), generator.uniform(-180, 180, 60)
    frame = pandas.DataFrame({"id": list("ab") * 30, "Longitude": lon, "lat": lat})
    phi, theta = np.radians(lon), np.radians(lat)
    x = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)], 1)
    one, other = (rsgm.fit(KernelDensity(Sphere(2), widths=4), form) for form in (frame, x))
    torch.testing.assert_close(one.points, other.points, rtol=0, atol=1e-12)
    test = points(5).double()
    torch.testing.assert_close(one.log_prob(test), other.log_prob(test), rtol=0, atol=1e-9)
    places = weights(rsgm.fit(small(), frame, steps=2)), weights(rsgm.fit(small(), x, steps=2))
    for name, value in places[0].items():
        torch.testing.assert_close(value, places[1][name], rtol=0, atol=1e-5)


def test_a_frame_of_coordinates():
    """x, y and z are coordinates; x and y without z the axes of a map."""
    pandas = pytest.importorskip("pandas")
    x = points(20).double()
    frame = pandas.DataFrame(x.numpy(), columns=["x", "y", "z"])
    torch.testing.assert_close(PointsData.of(Sphere(2), frame).points(), x, rtol=0, atol=1e-6)
    place = PointsData.of(Sphere(2), pandas.DataFrame({"x": [90.0], "y": [0.0]})).points()
    torch.testing.assert_close(place, torch.tensor([[0.0, 1.0, 0.0]]).double(), rtol=0, atol=1e-12)


def test_a_loader_is_fitted_in_its_own_batches():
    model = small()
    before = weights(model)
    assert not same(weights(rsgm.fit(model, DataLoader(TensorDataset(points()), batch_size=16), steps=3)), before)
    with pytest.raises(ValueError, match="needs a ManifoldData, found DataLoader"):
        rsgm.fit(KernelDensity(Sphere(2)), DataLoader(points()))


@pytest.mark.parametrize(
    "wrong, message",
    [(5 * points(), "are not on Sphere.*project them"), (points()[:, :2], r"expected points \(\*batch, 3\), found")],
)
def test_points_of_a_loader_are_checked(wrong, message, tmp_path):
    """They would train a model of the sphere in silence."""
    trainer, training, loader = quiet_trainer(tmp_path, max_steps=1), Training(small()), DataLoader(wrong, batch_size=8)
    with pytest.raises(ValueError, match=f"a batch of training: .*{message}"):
        trainer.fit(training, loader)
    with pytest.raises(ValueError, match=f"a batch of test: .*{message}"):
        trainer.test(training, loader)


def test_one_point_has_none_to_hold_out():
    with pytest.raises(ValueError, match="needs two or more; found 1"):
        rsgm.fit(KernelDensity(Sphere(2)), points(1))


def test_a_fitted_model_is_fitted_again_in_training_mode():
    modes = []

    class Modes(Callback):
        def on_train_batch_start(self, trainer, training, *_):
            modes.append(all(part.training for part in training.modules()))

    model = rsgm.fit(small(), points(), steps=1)
    assert not model.training
    rsgm.fit(model, points(), steps=1, callbacks=[Modes()])
    assert modes == [True]
    assert not model.training


def test_arguments_of_fit_are_checked_before_anything_is_made():
    with pytest.raises(TypeError, match=r"fit: model is an object: expected RSGM\(...\), found the class RSGM"):
        rsgm.fit(RSGM, points())
    with pytest.raises(TypeError, match="Training: optimizer is a factory: expected Adam"):
        rsgm.fit(small(), points(), optimizer=torch.optim.Adam(small().parameters()))
    with pytest.raises(ValueError, match="KernelDensity knows no context"):
        rsgm.fit(KernelDensity(Sphere(2)), points(), LABELS)
    with pytest.raises(TypeError, match=r"expected the path of a checkpoint, found the model RSGM; save it first"):
        rsgm.evaluate(small())
    for wrong in ({"batch_size": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match="expected steps >= 0 and batch_size >= 1"):
            rsgm.fit(small(), points(), **wrong)


def test_a_kernel_density_keeps_nine_tenths_or_the_train_part():
    x, data = points().double(), PointsData(Sphere(2), points())
    whole = rsgm.fit(KernelDensity(Sphere(2), widths=4), x)
    assert len(whole.points) == 58
    assert not whole.training
    # each one of those that were given
    assert Sphere(2).dist(whole.points[:, None], x).amin(1).max() < 1e-6
    part = rsgm.fit(KernelDensity(Sphere(2), widths=4), data)
    assert torch.equal(part.points, Sphere(2).projx(data.train.points))
    with pytest.raises(ValueError, match="fitted in one pass needs a ManifoldData, found OwnModule"):
        rsgm.fit(KernelDensity(Sphere(2)), OwnModule())


def test_fit_gives_each_point_its_context():
    model = small(features=2)
    # the one label on one side, the other on the other
    x = points(64) * torch.where(LABELS[:, :1] > 0, 1.0, -1.0)
    rsgm.fit(model, x, LABELS, steps=150, batch_size=64, optimizer=ADAM)
    right, wrong = model.log_prob(x, LABELS), model.log_prob(x, LABELS.flip(1))
    assert right.mean() > wrong.mean() + 1
    with pytest.raises(ValueError, match="fit: a PointsData brings its own context; found another one beside it"):
        rsgm.fit(model, PointsData(Sphere(2), points()), LABELS)
    with pytest.raises(ValueError, match=r"found a context of shape \(63, 2\)"):
        rsgm.fit(model, x, LABELS[:63])


def test_points_off_the_manifold_are_refused_before_anything_is_learned():
    model = small()
    before = weights(model)
    with pytest.raises(ValueError, match=r"is not on"):
        rsgm.fit(model, 1.5 * points(), steps=1)
    assert same(weights(model), before)


def test_equal_seeds_give_equal_models_and_nothing_else_is_drawn():
    """Whatever the state of the global generators is, which stay as they are."""
    first, fitted = small(), []
    for seed, state in ((0, 1), (0, 2), (5, 1)):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        fitted.append(weights(rsgm.fit(copy.deepcopy(first), points(), steps=3, seed=seed)))
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert same(fitted[0], fitted[1])
    assert not same(fitted[0], fitted[2])


# ---- files


def test_double_precision_is_kept_in_a_file(tmp_path):
    model = small().double()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1e-9)
    model.save(tmp_path / "double.ckpt")
    assert same(weights(rsgm.load(tmp_path / "double.ckpt")), weights(model))


def test_saved_and_loaded(tmp_path):
    model, x = rsgm.fit(small(), points(), steps=3), points(5, seed=3)
    model.save(tmp_path / "model.ckpt")
    again = rsgm.load(tmp_path / "model.ckpt")
    assert not again.training
    assert again.description == model.description
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert torch.equal(again.sample(5, seed=0), model.sample(5, seed=0))
    # a file takes the place of the former when it is whole
    again.save(str(tmp_path / "model.ckpt"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
    # what was loaded learns on
    rsgm.fit(again, points(), steps=3)
    assert not same(weights(again), weights(model))


@pytest.mark.parametrize(("found", "writer"), [(None, "0.1.0 or a former one"), (1, "0.1.0"), (3, "9.0.0")])
def test_a_checkpoint_of_another_format_is_met_with_a_sentence(found, writer, tmp_path):
    path, _ = learned(KernelDensity(Sphere(2), widths=4), PointsData(Sphere(2), points()), tmp_path)
    checkpoint = torch.load(path, weights_only=True)
    record = {"format": found, "version": writer}
    if found is None:
        checkpoint["rsgm"] = {key: value for key, value in checkpoint["rsgm"].items() if key not in record}
    else:
        checkpoint["rsgm"] |= record
    torch.save(checkpoint, path)
    for read in (read_checkpoint, rsgm.load, rsgm.evaluate):
        with pytest.raises(CheckpointError) as error:
            read(path)
        text = str(error.value)
        assert text.startswith(f"{path} has format {found or 1}, of version {writer} of rsgm; this is version ")
        assert text.endswith("which reads format 2. Install the version that wrote it, or train again.")
        assert "\n" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "a renamed weight",
            "none for score.field.network.layers.0.weight; beside them score.field.network.first.weight",
        ),
        ("another size", r"of another shape score.field.network.layers.0.weight \(17, 4\) for \(16, 4\)"),
        ("an unknown argument", "RSGM has no argument 'temperature'; it knows manifold, process"),
    ],
)
@pytest.mark.parametrize("writer", ["9.0.0", None])
def test_what_another_version_has_changed_is_named_with_its_writer(change, said, writer, tmp_path):
    """By `load`, and where a run goes on; files that do not name their version are read like the others."""
    model, path = small(), tmp_path / "model.ckpt"
    trainer, training = quiet_trainer(tmp_path, max_steps=1), Training(model)
    trainer.fit(training, DataLoader(points(), batch_size=16))
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    record, weights = checkpoint["rsgm"], checkpoint["state_dict"]
    record.pop("version")
    torch.save(checkpoint, path)
    assert same(rsgm.load(path).state_dict(), model.state_dict())
    if writer is not None:
        record["version"] = writer
    name = "model.score.field.network.layers.0.weight"
    if change == "a renamed weight":
        weights[name.replace("layers.0", "first")] = weights.pop(name)
    elif change == "another size":
        weights[name] = torch.zeros(17, 4)
    else:
        record["model"]["init_args"]["temperature"] = 1.0
    torch.save(checkpoint, path)
    expected = f"of version {writer or 'unknown'} of rsgm .*{said}.* Install the version that wrote it, or train again."
    with pytest.raises(CheckpointError, match=expected):
        rsgm.load(path)
    if change != "an unknown argument":  # a run goes on with the model of its configuration
        again = quiet_trainer(tmp_path, max_steps=2)
        with pytest.raises(CheckpointError, match=expected):
            again.fit(Training(small()), DataLoader(points(), batch_size=16), ckpt_path=path, weights_only=True)


def test_the_average_of_the_command_is_the_default():
    assert Training(small()).averaging == 0.999
