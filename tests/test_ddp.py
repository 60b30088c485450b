"""Two processes with half of each batch do what one process does with the whole of it."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml

import rsgm
from rsgm.evaluation import load_data
from rsgm.models import read_checkpoint
from rsgm.seeding import seed_from
from tiny import METRICS, ROOT, compose, enter, printed_nll, run, same, weights

#: half a minute: each process starts a program of its own
pytestmark = pytest.mark.slow

STEPS, WORLD = 6, 2
#: gradient descent, which a gradient that is summed instead of averaged leads elsewhere; Adam would not notice
ARGS = [
    f"--trainer.max_steps={STEPS}",
    "--training.optimizer=torch.optim.SGD",
    "--training.optimizer.lr=0.05",
    "--training.optimizer.momentum=0.9",
    "--data.steps_per_epoch=3",
]


def two_processes(*args: str) -> subprocess.CompletedProcess:
    """A run, in the present folder."""
    devices = ["--trainer.accelerator=cpu", f"--trainer.devices={WORLD}", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--config=tiny.yaml", *args, *devices],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two processes, to be read only, and what the command printed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = enter(tmp_path_factory.mktemp("ddp"), patch)
        return folder, two_processes(*ARGS).stdout


def reference() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Raw weights and their average after one process has done the work of all."""
    cli = compose(*ARGS, "--name=reference")
    model, data = cli.law, cli.datamodule
    parameters = list(model.parameters())
    optimizer = cli.model.optimizer(parameters)
    factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cli.model.learning_rate(step, STEPS))
    average: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        x, _ = data.train_batch(step)
        gradients = [torch.zeros_like(p) for p in parameters]
        for rank in range(WORLD):
            torch.manual_seed(seed_from("step", 0, step, 0, rank))
            loss = model.loss(x[rank::WORLD])["loss"].mean()
            for total, gradient in zip(gradients, torch.autograd.grad(loss, parameters), strict=True):
                total += gradient / WORLD
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        factor.step()
        raw = {key: value.detach().clone() for key, value in model.state_dict().items()}
        decay = min(0.8, (1 + step) / (10 + step)) if average else 0.0
        average = {key: decay * average.get(key, 0) + (1 - decay) * raw[key] for key in raw}
    return raw, average


def test_two_processes_agree_with_one(finished, tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    initial = compose(*ARGS, "--name=initial").law.state_dict()
    raw, average = reference()
    path = finished[0] / "runs/tiny/version_0/last.ckpt"
    assert read_checkpoint(path)["global_step"] == STEPS
    found_raw, found_average = weights(path, "current_model_state"), weights(path)
    assert found_raw.keys() == raw.keys()
    for key in raw:
        torch.testing.assert_close(found_raw[key], raw[key], rtol=0, atol=1e-6)
        torch.testing.assert_close(found_average[key], average[key], rtol=0, atol=1e-6)
    # the tolerance tells a step from none, and the weights from their average
    assert max((raw[key] - initial[key]).abs().max() for key in raw) > 1e-2
    assert max((raw[key] - average[key]).abs().max() for key in raw) > 1e-3


def test_one_run_is_left(finished):
    folder, printed = finished
    assert [str(path.relative_to(folder)) for path in folder.glob("runs/*/*")] == ["runs/tiny/version_0"]
    names = sorted(path.name for path in folder.glob("runs/tiny/version_0/*"))
    events = [name for name in names if name.startswith("events.out")]
    assert len(events) == 2  # the curves of the first process, and its row of HParams
    assert sorted(set(names) - set(events)) == ["best.ckpt", "config.yaml", "figures", "last.ckpt", "metrics.json"]
    assert printed.count("Run folder: ") == printed.count("test NLL (nats)") == 1
    config = yaml.safe_load((folder / "runs/tiny/version_0/config.yaml").read_text())
    assert str(config["trainer"]["devices"]) == "2"


def test_the_number_does_not_depend_on_the_processes(finished):
    """All test points are scored once, by one process, with the weights of the best checkpoint."""
    folder, printed = finished
    found = json.loads((folder / METRICS).read_text())
    assert found["nll"]["n"] == found["split"]["sizes"]["test"] == 30
    assert found["nll"]["mean"] == pytest.approx(printed_nll(printed), abs=1e-9)
    assert found["steps"] == read_checkpoint(folder / "runs/tiny/version_0/best.ckpt")["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize("off", [[], ["--trainer.limit_val_batches=0"]])
def test_a_run_within_its_first_epoch_ends(off, tmp_path, monkeypatch):
    """Validated at its end or never: all processes write best.ckpt together."""
    enter(tmp_path, monkeypatch)
    two_processes("--trainer.max_steps=4", *off)
    assert json.loads((tmp_path / METRICS).read_text())["steps"] == 4


def test_the_best_is_chosen_on_all_validation_points(finished):
    """Not on those of the first process, which are half of them."""
    path = finished[0] / "runs/tiny/version_0/best.ckpt"
    checkpoint = read_checkpoint(path)
    (score,) = [state["best_model_score"] for name, state in checkpoint["callbacks"].items() if "val/nll" in name]
    model, data = rsgm.load(path), load_data(checkpoint)
    log_prob = model.log_prob(data.val.points)
    assert float(score) == pytest.approx(-float(log_prob.mean()), abs=1e-5)
    assert abs(float(log_prob[::WORLD].mean() - log_prob.mean())) > 1e-3


def test_batch_that_cannot_be_shared(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    cli = compose("--data.batch_size=33")
    monkeypatch.setattr(type(cli.datamodule), "_process", lambda _: (0, WORLD))
    with pytest.raises(ValueError, match="choose a multiple of 2"):
        cli.datamodule.train_dataloader()


def test_later_processes_use_the_folder_of_the_first(tmp_path, monkeypatch):
    """Under a launcher that starts all processes itself, which each read the command line."""
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for args, checkpoint in (([], None), (["--ckpt_path=last"], "runs/tiny/version_5/last.ckpt")):
        monkeypatch.setenv("RSGM_RUN_FOLDER", "runs/tiny/version_5")
        cli = compose(*args)
        assert str(cli.run) == "runs/tiny/version_5"
        assert cli.config.ckpt_path == checkpoint
    assert not (tmp_path / "runs").exists()


def test_one_process_is_its_own_reference(tmp_path, monkeypatch):
    """The loop above, for a world of one, is what the command does, bit for bit."""
    enter(tmp_path, monkeypatch)
    monkeypatch.setattr("rsgm.cli.commands.evaluate", lambda path: {})
    monkeypatch.setattr("rsgm.cli.commands.log_result", lambda *_: None)
    monkeypatch.setattr("rsgm.cli.commands.report", str)
    assert run(*ARGS) == 0
    monkeypatch.setattr(sys.modules[__name__], "WORLD", 1)
    assert same(weights(tmp_path / "runs/tiny/version_0/last.ckpt", "current_model_state"), reference()[0])
