"""An interrupted run continues bit for bit, however it was interrupted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from rsgm.models import CheckpointError, read_checkpoint
from rsgm.training import Training
from rsgm.training.callbacks import LastCheckpoint
from tiny import (
    CONFIGS,
    ROOT,
    best,
    compose,
    enter,
    logged,
    points,
    run,
    same,
    small_network,
    smaller,
    weights,
    without_figures,
)

#: what was learned, beside both sets of weights
STATES = ("optimizer_states", "lr_schedulers", "averaging_state", "global_step")

#: steps of 12, epochs of 5; scored elsewhere
STEPS = ["--trainer.max_steps=12", "--save_every=3"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """For training alone, without scores and figures."""
    without_figures(monkeypatch)
    monkeypatch.setattr("rsgm.cli.commands.evaluate", lambda path: {"checkpoint": str(path)})
    monkeypatch.setattr("rsgm.cli.commands.log_result", lambda *_: None)
    monkeypatch.setattr("rsgm.cli.commands.report", str)
    return enter(tmp_path, monkeypatch)


def last(name: str = "tiny", version: int = 0) -> Path:
    return best(name, version).with_name("last.ckpt")


def step(path: Path) -> int:
    return read_checkpoint(path)["global_step"]


def assert_same_run(name: str, other: str = "whole") -> None:
    """The last checkpoints, in both sets of weights and the optimiser's state, and the best, are equal bit for bit."""
    for key in ("state_dict", "current_model_state"):
        assert same(weights(last(name), key), weights(last(other), key)), key
    one, two = (read_checkpoint(last(run_name)) for run_name in (name, other))
    for key in STATES:
        assert plain_equal(one[key], two[key]), key
    assert step(best(name)) == step(best(other))
    assert same(weights(best(name)), weights(best(other)))


def plain_equal(one, two) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(plain_equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(plain_equal, one, two))
    return one == two


class Interrupted(BaseException):
    """Nothing that the commands know."""


def interrupted_run(*args: str, where: str, at: int, saved: bool = False, config: str = "tiny.yaml") -> None:
    """A run that ends at the ``at``-th call of a hook of training; ``saved`` if it may write what it has."""
    calls = 0
    hook = getattr(Training, where)

    def interrupt(self, *rest):
        nonlocal calls
        calls += 1
        if calls == at:
            raise Interrupted
        return hook(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, where, interrupt)
        if not saved:  # as a kill
            patch.setattr(LastCheckpoint, "on_exception", lambda *_: None)
        with pytest.raises(Interrupted):
            run(*args, config=config)


@pytest.mark.parametrize(
    "where, at, saved, step_left",
    [
        # in the middle of the second epoch, two steps after the last write
        ("training_step", 9, False, 6),
        # in a validation, which works on the average; at the end of an epoch
        ("validation_step", 1, True, 5),
        pytest.param("on_train_batch_start", 6, False, 5, marks=pytest.mark.slow),
        # by an error that leaves time to write
        pytest.param("training_step", 9, True, 8, marks=pytest.mark.slow),
    ],
)
def test_interrupted_run_continues_bit_for_bit(where, at, saved, step_left, folder):
    assert run(*STEPS, "--name=whole") == 0
    interrupted_run(*STEPS, where=where, at=at, saved=saved)
    assert step(last()) == step_left
    assert run(*STEPS, "--ckpt_path=last") == 0
    assert [path.name for path in (folder / "runs/tiny").iterdir()] == ["version_0"]
    assert_same_run("tiny")
    # and not because nothing was learned
    assert not same(weights(last(), "current_model_state"), compose().law.state_dict())


#: the first configuration of each class of models that learns by gradient
SAID = [(path, yaml.safe_load(path.read_text())) for path in CONFIGS if path.parent.name == "configs"]
OF_EACH_MODEL = {said["model"]["class_path"]: path for path, said in SAID[::-1] if "max_steps" in said["trainer"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EACH_MODEL)
def test_every_model_continues_bit_for_bit(name, folder):
    config = OF_EACH_MODEL[name]
    args = [*small_network(config), *smaller(config, points(folder)), "--data.steps_per_epoch=6", "--save_every=2"]
    args += ["--trainer.max_steps=6", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"]
    assert run(*args, "--name=whole", config=str(config)) == 0
    interrupted_run(*args, "--name=tiny", where="training_step", at=4, config=str(config))
    assert step(last()) == 2
    assert run(*args, "--name=tiny", "--ckpt_path=last", config=str(config)) == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("where, at", [("training_step", 9), ("validation_step", 1)])
def test_the_curve_has_every_step(where, at, folder):
    interrupted_run(*STEPS, where=where, at=at, saved=True)
    assert run(*STEPS, "--ckpt_path=last") == 0
    assert logged(last().parent) == set(range(12))


def test_epoch_boundary_that_is_also_a_write(folder):
    args = ["--trainer.max_steps=12", "--save_every=5"]
    assert run(*args, "--name=whole") == 0
    interrupted_run(*args, where="on_train_batch_start", at=6)
    assert step(last()) == 5
    assert run(*args, "--ckpt_path=last") == 0
    assert_same_run("tiny")


@pytest.mark.parametrize(
    "where, at, saved", [("validation_step", 1, True), pytest.param("training_step", 8, False, marks=pytest.mark.slow)]
)
def test_the_best_checkpoint_is_not_replaced_by_less(where, at, saved, folder):
    """A model that gets worse, interrupted after the validation that found its best weights, or during it."""
    args = ["--training.optimizer=torch.optim.SGD", "--training.optimizer.lr=0.01"]
    args += ["--training.optimizer.maximize=true", "--training.learning_rate=ConstantRate"]
    args += ["--training.averaging=0.01", "--trainer.max_steps=12", "--save_every=5"]
    assert run(*args, "--name=whole") == 0
    assert step(best("whole")) == 5
    interrupted_run(*args, where=where, at=at, saved=saved)
    assert step(last()) == 5
    assert run(*args, "--ckpt_path=last") == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("at, step_left", [(10, 3), pytest.param(15, 6, marks=pytest.mark.slow)])
def test_accumulated_gradients(at, step_left, folder):
    """Interrupted between two batches of one step as well: the step is repeated as a whole."""
    args = ["--trainer.max_steps=8", "--save_every=3", "--trainer.accumulate_grad_batches=2"]
    args += ["--data.steps_per_epoch=20"]
    assert run(*args, "--name=whole") == 0
    interrupted_run(*args, where="training_step", at=at)
    assert step(last()) == step_left
    assert run(*args, "--ckpt_path=last") == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("unit", ["steps", pytest.param("epochs", marks=pytest.mark.slow)])
def test_finished_run_can_be_extended(unit, folder):
    """To twice its length; the learning rate must not depend on the length."""
    rate = "--training.learning_rate=ConstantRate"
    short, long = {
        "steps": (["--trainer.max_steps=10"], ["--trainer.max_steps=20"]),
        "epochs": (
            ["--trainer.max_steps=-1", "--trainer.max_epochs=2"],
            ["--trainer.max_steps=-1", "--trainer.max_epochs=4"],
        ),
    }[unit]
    assert run(rate, *long, "--name=whole") == 0
    assert run(rate, *short) == 0
    assert step(last()) == 10
    assert run(rate, *long, "--ckpt_path=last") == 0
    assert step(last()) == 20
    assert_same_run("tiny")
    # what the first part said stays beside what the second said
    assert {path.name for path in last().parent.glob("*.yaml")} == {"config.yaml", "config_1.yaml"}


def test_the_seed_is_the_checkpoints(folder):
    """Whatever the command line says the second time."""
    assert run(*STEPS, "--name=whole") == 0
    interrupted_run(*STEPS, where="training_step", at=9)
    assert run(*STEPS, "--ckpt_path=last", "--seed_everything=9", "--data.seed=0") == 0
    assert_same_run("tiny")


@pytest.mark.parametrize("other", ["--data.seed=1", "--data.train_size=50"])
def test_no_run_goes_on_with_other_data(other, folder, capsys):
    """What was trained on would be among the points that are tested."""
    assert run("--trainer.max_steps=4") == 0
    held, files = last().read_bytes(), sorted(last().parent.iterdir())
    for where in ("last", last()):
        assert run(other, f"--ckpt_path={where}") == 1
        assert "test points may have been training points: found the fingerprint" in capsys.readouterr().err
    assert last().read_bytes() == held
    assert sorted(last().parent.iterdir()) == files


def test_no_model_of_one_pass_is_fitted_over_one_of_other_data(folder, capsys):
    kernels = ["--model=KernelDensity"]
    assert run(*kernels) == 0
    held = best().read_bytes()
    assert run(*kernels, "--data.seed=1", "--ckpt_path=last") == 1
    assert "test points may have been training points" in capsys.readouterr().err
    assert best().read_bytes() == held


def test_no_trainer_goes_on_with_other_data(folder):
    """Nor Lightning's own, which asks the module."""
    assert run("--trainer.max_steps=4") == 0
    parts = compose("--data.seed=1")
    with pytest.raises(CheckpointError, match="test points may have been training points"):
        parts.trainer.fit(parts.model, parts.datamodule, ckpt_path=last(), weights_only=True)


def test_time_spent_adds_up(folder):
    interrupted_run(*STEPS, where="training_step", at=9)
    before = read_checkpoint(last())["rsgm"]["training"]
    assert run(*STEPS, "--ckpt_path=last") == 0
    after = read_checkpoint(last())["rsgm"]["training"]
    assert (before["steps"], after["steps"]) == (6, 12)
    for clock in ("wall", "cpu"):
        assert after[clock] > before[clock] > 0


def test_a_checkpoint_by_name_starts_a_new_version(folder):
    assert run(*STEPS, "--name=whole") == 0
    interrupted_run(*STEPS, where="training_step", at=9)
    before = last().read_bytes()
    assert run(*STEPS, f"--ckpt_path={last()}") == 0
    assert last().read_bytes() == before
    assert same(weights(last(version=1), "current_model_state"), weights(last("whole"), "current_model_state"))


def test_last_is_the_newest_with_a_checkpoint(folder):
    assert run("--trainer.max_steps=1") == 0
    interrupted_run(*STEPS, where="training_step", at=9)
    (folder / "runs/tiny/version_2").mkdir()
    assert compose("--ckpt_path=last").run == Path("runs/tiny/version_1")


def test_last_without_a_run(folder, capsys):
    for args in ([], ["--name=other"], ["--runs=elsewhere"]):
        assert run("--ckpt_path=last", *args) == 2
        error = capsys.readouterr().err
        assert "has a last.ckpt; start one without it." in error
    assert not (folder / "runs").exists()


# ---- from a file whose weights are whole, and the rest is not


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder with a run that was interrupted in its ninth step."""
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        made = enter(tmp_path_factory.mktemp("interrupted"), patch)
        interrupted_run(*STEPS, where="training_step", at=9)
    return made


LOOP = "loops.fit_loop.epoch_loop"
#: what is damaged: where, whose keys are parted by slashes, by what, and a part of what is said of it
DAMAGED = {
    "no optimiser": ("optimizer_states", None, "found None for its optimizer_states, so that no training can go on"),
    "another optimiser": ("optimizer_states/0", {}, "KeyError: 'param_groups'"),
    "the optimiser is text": ("optimizer_states/0", "x", "no training can go on from the state in it"),
    "no optimisers": ("optimizer_states", [], r"found \[\] for its optimizer_states"),
    "its groups are none": ("optimizer_states/0/param_groups", [], "ValueError: loaded state dict has a different"),
    "a moment of another shape": ("optimizer_states/0/state/0/exp_avg", torch.zeros(2, 2), "RuntimeError: .*size"),
    "a moment is text": ("optimizer_states/0/state/0/exp_avg", "x", "TypeError|AttributeError|RuntimeError"),
    "a moment is missing": ("optimizer_states/0/state/0", {"step": torch.tensor(6.0)}, "KeyError: 'exp_avg"),
    "a rate is text": ("optimizer_states/0/param_groups/0/lr", "x", "ValueError: .* `str` values cannot be logged"),
    "no loops": ("loops", None, "found None for its loops"),
    "other loops": ("loops", {}, "KeyError: 'fit_loop'"),
    "a loop is a list": (
        "loops/fit_loop",
        [],
        "is of step 6, and training would go on at step 0: ",
    ),
    "progress is text": ("loops/fit_loop/epoch_loop.batch_progress/total/ready", "x", "TypeError"),
    "no progress": ("loops/fit_loop/epoch_loop.batch_progress", {}, "KeyError: 'total'|TypeError|AttributeError"),
    "no callbacks": ("callbacks", None, "found None for its callbacks"),
    "a callback is text": ("callbacks/EMA", "x", "no training can go on"),
    "a score is text": ("callbacks/ModelCheckpoint/kth_value", "x", "found 'x' for kth_value, expected a number"),
    "no rates": ("lr_schedulers", [], r"found \[\] for its lr_schedulers"),
    "a rate's step is text": ("lr_schedulers/0/last_epoch", "x", "TypeError"),
    "rates are text": ("lr_schedulers/0", "x", "no training can go on"),
    "no step": ("global_step", None, "found None for its global_step"),
    "no average": ("averaging_state", None, "TypeError|AttributeError"),
    "other weights": ("current_model_state", {}, "RuntimeError: Error.* in loading state_dict"),
    "no time": ("rsgm/training/wall", "x", "ValueError: could not convert string to float"),
}


@pytest.mark.parametrize("place, value, words", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_state_is_one_line(place, value, words, interrupted, folder, capsys):
    """And the file is as it was: nothing that was restored in part is written into it."""
    shutil.copytree(interrupted / "runs", folder / "runs")
    checkpoint = read_checkpoint(last())
    node, (*above, name) = checkpoint, place.split("/")
    for key in above:
        key = int(key) if isinstance(node, list) or key.isdigit() else key
        node = node[next(k for k in node if str(k).startswith(str(key)))] if isinstance(node, dict) else node[key]
    node[int(name) if name.isdigit() else name] = value
    torch.save(checkpoint, last())
    before = last().read_bytes()
    assert run(*STEPS, "--ckpt_path=last") == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("train.py: ")]
    assert re.search(words, line), line
    assert "Traceback" not in said
    assert len(line) < 500
    assert last().read_bytes() == before


# ---- by a signal, from outside

PAUSE = '''
import time
from pathlib import Path

from pytorch_lightning import Callback


class Pause(Callback):
    """Says that it is at a step, and stays there until it is let go."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            Path("paused").touch()
            while not Path("signalled").exists():
                time.sleep(0.02)
'''


def signalled_run(number: signal.Signals) -> int:
    """The exit status of ``train.py`` in a process that is signalled at the start of its eighth step."""
    Path("pause.py").write_text(PAUSE)
    pause = ["--trainer.callbacks=pause.Pause", "--trainer.callbacks.step=7"]
    command = [sys.executable, str(ROOT / "train.py"), "--config=tiny.yaml", *STEPS, *pause]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(Path.cwd())])}
    with Path("output.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
        try:
            deadline = time.monotonic() + 120
            while not Path("paused").exists():
                assert process.poll() is None, Path("output.txt").read_text()
                assert time.monotonic() < deadline, "the run did not reach its eighth step"
                time.sleep(0.05)
            process.send_signal(number)
            Path("signalled").touch()
            return process.wait(120)
        finally:
            process.kill()


@pytest.mark.slow
def test_kill_in_the_middle_of_an_epoch(folder):
    assert run(*STEPS, "--name=whole") == 0
    assert signalled_run(signal.SIGKILL) == -signal.SIGKILL
    assert step(last()) == 6
    assert not list((folder / "runs").rglob("*.part"))
    assert run(*STEPS, "--ckpt_path=last") == 0
    assert_same_run("tiny")


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_143(folder):
    assert run(*STEPS, "--name=whole") == 0
    assert signalled_run(signal.SIGTERM) == 128 + signal.SIGTERM == 143
    assert step(last()) == 8
    assert "Traceback" not in (folder / "output.txt").read_text()
    assert run(*STEPS, "--ckpt_path=last") == 0
    assert_same_run("tiny")


def test_average_is_written_as_such_where_validation_is_interrupted(folder):
    """Validation works on the average, in place of the weights; a checkpoint must not confuse them."""
    args = ["--training.learning_rate=ConstantRate", "--save_every=3"]
    assert run(*args, "--name=whole", "--trainer.max_steps=5") == 0
    interrupted_run(*args, where="validation_step", at=1, saved=True)
    for key in ("state_dict", "current_model_state"):
        assert same(weights(last(), key), weights(last("whole"), key))


def test_write_that_fails_leaves_the_old_checkpoint(folder, monkeypatch):
    """The disk is full, or the machine stops, in the middle of a write."""
    assert run(*STEPS, "--trainer.max_steps=3") == 0
    before = last().read_bytes()

    def fail(*_):
        raise Interrupted

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(Interrupted):
        run(*STEPS, "--ckpt_path=last")
    assert last().read_bytes() == before
    assert step(last()) == 3
