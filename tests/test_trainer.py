"""The Trainer's settings mean what they say: lengths of runs, validation, logging, precision."""

import importlib.util
import math
import re
import time
import warnings
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rsgm.models import read_checkpoint
from rsgm.seeding import seed_from
from rsgm.training import Outlook, Training, monitor
from tiny import ROOT, best, compose, enter, run, same, small_network, weights, without_figures

#: the points of the plane in the place of the sphere's
FLAT = [
    *("--model.manifold=Euclidean", "--model.manifold.dim=2", "--model.process=VariancePreserving"),
    *(
        "--data=LawData",
        "--data.law=Moons",
        "--data.batch_size=32",
        "--data.train_size=60",
        "--data.val_size=20",
        "--data.test_size=30",
    ),
    "--data.steps_per_epoch=5",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Without an evaluation: it is training that is looked at."""
    without_figures(monkeypatch)
    monkeypatch.setattr("rsgm.cli.commands.evaluate", lambda path: None)
    monkeypatch.setattr("rsgm.cli.commands.log_result", lambda *_: None)
    monkeypatch.setattr("rsgm.cli.commands.report", lambda metrics: "")
    return enter(tmp_path, monkeypatch)


def values(tag: str, name: str = "tiny") -> dict[int, float]:
    """A curve of TensorBoard by its steps, counted from 0."""
    events = EventAccumulator(str(best(name).parent)).Reload()
    found = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    return {event.step: event.value for event in found}


def logged(tag: str, name: str = "tiny") -> list[int]:
    """The steps of a curve."""
    return list(values(tag, name))


@pytest.mark.parametrize(("steps", "every", "validated"), [(3, 1, [2]), (7, 1, [4, 6]), (10, 4, [9]), (10, 1, [4, 9])])
def test_every_run_is_validated_at_its_last_step(steps, every, validated, folder, caplog):
    """Also one that ends within its first epoch of five steps, which says so; best.ckpt is what was validated."""
    with caplog.at_level("INFO"):
        assert run(f"--trainer.max_steps={steps}", f"--trainer.check_val_every_n_epoch={every}") == 0
    assert logged("val/nll") == validated
    scores = [
        state["best_model_score"] for state in read_checkpoint(best())["callbacks"].values() if "best_k_models" in state
    ]
    assert len(scores) == 1
    assert math.isfinite(scores[0])
    assert ("ends this run before the first of its regular validations" in caplog.text) == (steps < 5)


def test_validation_by_the_clock(folder, monkeypatch):
    """Lightning's ``val_check_interval`` as a time; and at the end. It changes nothing of what is learned."""
    assert compose("--name=asked", "--trainer.val_check_interval=00:00:01:00").trainer._val_check_time_interval == 60
    Path("clock.yaml").write_text(Path("tiny.yaml").read_text() + "  val_check_interval: {milliseconds: 100}\n")
    assert run("--trainer.max_steps=8") == 0
    late = Outlook.on_train_batch_end
    monkeypatch.setattr(Outlook, "on_train_batch_end", lambda *args: (time.sleep(0.04), late(*args)))
    assert run("--trainer.max_steps=8", config="clock.yaml") == 0
    validated = logged("val/nll", "clock")
    assert validated[-1] == 7
    assert len(validated) >= 2  # a loaded machine takes longer for a step, and validates more often
    last = (best(name).with_name("last.ckpt") for name in ("clock", "tiny"))
    assert same(*(weights(path, "current_model_state") for path in last))


def test_curves_hold_what_was_at_their_step(folder, monkeypatch):
    """Loss, learning rate, and the gradient's norm before it is clipped; every third step of seven, and the last."""
    losses, norms, rates, step = [], [], [], Training.training_step

    def watched(self, batch, index):
        losses.append(float(step(self, batch, index).detach()))
        # the step itself has to return what has a history
        torch.manual_seed(seed_from("step", self.seed, self.global_step, 0, 0))
        return step(self, batch, index)

    def clipped(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
        gradients = [p.grad.flatten() for p in self.model.parameters()]
        norms.append(float(torch.cat(gradients).norm()))
        rates.append(optimizer.param_groups[0]["lr"])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    monkeypatch.setattr(Training, "training_step", watched)
    monkeypatch.setattr(Training, "configure_gradient_clipping", clipped)
    args = ["--trainer.max_steps=7", "--trainer.log_every_n_steps=3", "--trainer.gradient_clip_val=0.1"]
    assert run(*args, "--data.steps_per_epoch=20") == 0
    assert min(norms) > 0.1
    for name, expected in (("loss", losses), ("gradient_norm", norms), ("lr", rates)):
        found = values(f"train/{name}")
        assert list(found) == [2, 5, 6]
        assert [found[k] for k in found] == pytest.approx([expected[k] for k in found], rel=1e-5)


def test_a_run_says_what_it_will_do_and_for_how_long(folder, monkeypatch, capsys):
    monkeypatch.setattr(monitor, "_STEPS", 3)
    monkeypatch.setattr(monitor, "_SHORT", 0.0)
    assert run("--data.fresh=false", "--data.steps_per_epoch=10", "--trainer.check_val_every_n_epoch=2") == 0
    printed = capsys.readouterr().out
    assert "RSGM on Sphere(dim=2), 403 parameters; 60 points to train on, 32 a step, and 20 to validate on" in printed
    assert "10 steps, validated at the end." in printed
    assert re.findall("About 1 s to go for the (.*) steps that are left", printed) == ["6"]
    # a run that goes on says how much is behind it
    assert run("--data.fresh=false", "--ckpt_path=last", "--trainer.max_steps=12") == 0
    assert "12 steps, of which 10 are done, validated every 5 and at the end." in capsys.readouterr().out


def test_a_run_without_validation_says_so(folder):
    with pytest.warns(UserWarning, match="never validated: best.ckpt holds the weights of its end"):
        assert run("--trainer.max_steps=3", "--trainer.limit_val_batches=0") == 0
    assert read_checkpoint(best())["global_step"] == 3


@pytest.mark.parametrize("off", [[], ["--trainer.limit_val_batches=0"]])
def test_weights_that_are_not_finite_do_not_become_the_best(off, folder, capsys):
    diverging = ["--training.optimizer=torch.optim.SGD", "--training.optimizer.lr=1e38"]
    # the loss is looked at in the first step, and in the last where that is known
    length = ["--trainer.max_steps=-1", "--trainer.max_epochs=1", "--data.steps_per_epoch=3"]
    assert run(*length, "--trainer.log_every_n_steps=50", *diverging, *off) == 1
    assert "weights are not finite at" in capsys.readouterr().err
    assert not best().exists()


@pytest.mark.parametrize(
    ("rate", "warned"), [("WarmupCosine", True), pytest.param("ConstantRate", False, marks=pytest.mark.slow)]
)
def test_a_run_may_end_by_the_clock(rate, warned, folder):
    """Its length is not known: a rate that depends on it says so, and stays up."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ends = ["--trainer.max_steps=-1", "--trainer.max_time=00:00:00:01"]
        assert run(*ends, f"--training.learning_rate={rate}", "--training.learning_rate.warmup=1") == 0
    assert any("length of this run is not known" in str(warning.message) for warning in found) == warned
    assert read_checkpoint(best())["lr_schedulers"][0]["_last_lr"] == [1e-2]


def test_no_log_is_no_error(folder):
    """Lightning's ``log_every_n_steps=0``."""
    assert run("--trainer.log_every_n_steps=0") == 0
    assert not logged("train/loss")
    assert logged("val/nll") == [4, 9]


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"])
def test_what_lightning_divides_by_is_not_zero(name, folder, capsys):
    assert run(f"--trainer.{name}=0") == 2
    error = capsys.readouterr().err
    assert f"trainer.{name} is 0, expected at least 1" in error
    assert ("without validation" in error) == ("val" in name)
    assert not Path("runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("transformer_engine") is not None, reason="it is installed")
def test_a_package_that_a_setting_needs_is_named(folder, capsys):
    assert run("--trainer.precision=transformer-engine") == 2
    assert "train.py: trainer: Requirement 'transformer_engine" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_refusal_of_lightning_is_one_line(folder, capsys):
    assert run("--trainer.limit_val_batches=0.001") == 1
    assert "Try at least `limit_val_batches=1.0`" in capsys.readouterr().err


def test_double_precision(folder):
    """Weights and their average are in float64, and a resumed run continues them bit for bit."""
    double = "--trainer.precision=64-true"
    assert run(double, "--trainer.max_steps=5", "--training.learning_rate=ConstantRate", "--name=parts") == 0
    assert run(double, "--training.learning_rate=ConstantRate", "--name=parts", "--ckpt_path=last") == 0
    assert run(double, "--training.learning_rate=ConstantRate", "--name=whole") == 0
    for key in ("state_dict", "current_model_state"):
        whole, parts = (weights(best(name).with_name("last.ckpt"), key) for name in ("whole", "parts"))
        assert {value.dtype for name, value in whole.items() if "network" in name} == {torch.float64}
        assert same(whole, parts)
        # not float32 numbers in a wider type
        assert any(not torch.equal(value, value.float().double()) for value in whole.values())


@pytest.mark.parametrize(
    ("precision", "where", "expected"),
    [
        ("bf16-mixed", [], "bf16-mixed, and 16 bits are too coarse for points of a curved space"),
        ("bf16-true", [], "bf16-true, too coarse for an average of weights to move"),
        ("16-true", FLAT, "16-true, too coarse for an average of weights to move"),
    ],
)
def test_coarse_numbers_are_refused_before_training(precision, where, expected, folder, capsys):
    """Nor is there a folder of the run."""
    assert run(f"--trainer.precision={precision}", *where) == 2
    assert expected in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("loss", ["DenoisingScoreMatching", "SlicedScoreMatching", "ImplicitScoreMatching"])
def test_mixed_precision_in_flat_space(loss, folder):
    """The network computes in bfloat16; its weights stay in float32, and become finite ones."""
    args = ["--trainer.precision=bf16-mixed", f"--model.loss={loss}", "--trainer.max_steps=2", *FLAT]
    assert run(*args, "--trainer.limit_val_batches=0") == 0
    learned = {name: value for name, value in weights(best()).items() if "network" in name}
    assert {value.dtype for value in learned.values()} == {torch.float32}
    assert all(value.isfinite().all() for value in learned.values())


def test_mixed_precision_of_images(folder):
    """Of 16 bits, in a convolutional network."""
    config = ROOT / "configs/digits_ddpm.yaml"
    args = [*small_network(config), "--trainer.precision=bf16-mixed", "--trainer.max_steps=2", "--data.batch_size=8"]
    assert run(*args, "--trainer.limit_val_batches=0", config=str(config)) == 0
    assert all(value.isfinite().all() for value in weights(best("digits_ddpm")).values())


@pytest.mark.parametrize("model", ["KernelDensity", "KentMixture"])
def test_what_is_fitted_in_one_pass_makes_no_step(model, folder):
    """As in the configurations, whatever the trainer's settings are: no batch, no validation, and no idle epoch."""
    Path("fitted.yaml").write_text(
        f"model: {{class_path: {model}, init_args: {{manifold: {{class_path: Sphere, init_args: {{dim: 2}}}}}}}}\n"
        "data: {class_path: LawData, init_args: {train_size: 60, val_size: 20, test_size: 30}}\n"
        "trainer: {accelerator: cpu, devices: 1, max_epochs: 1, limit_train_batches: 1, enable_progress_bar: false}\n"
    )
    assert run(config="fitted.yaml") == 0
    assert read_checkpoint(best("fitted"))["rsgm"]["training"]["steps"] == 0
