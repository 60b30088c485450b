"""Every configuration runs a step and an evaluation; every overlay fits on one."""

import functools
import inspect
import json
import math
import sys
import typing
from types import SimpleNamespace

import pytest
import yaml
from jsonargparse import _typehints
from jsonargparse._util import import_object
from pytorch_lightning import Trainer

import rsgm
from rsgm.cli import TrainCLI
from rsgm.cli.parser import Parser, _carry_over, _rank, mended
from rsgm.evaluation import evaluate, load_data
from rsgm.evaluation.baseline import integral
from rsgm.evaluation.figures import sample_like
from rsgm.models import read_checkpoint
from rsgm.training import Training
from tiny import CONFIGS, EVERY_CONFIG, ROOT, best, compose, enter, points, run, small_network, smaller, without_figures

OVERLAYS = sorted((ROOT / "configs/trainer").glob("*.yaml"))
EVERY = pytest.mark.parametrize("config", EVERY_CONFIG)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    monkeypatch.setattr("rsgm.evaluation.baseline.integral", functools.partial(integral, levels=0))
    # and an untrained flow is rough
    monkeypatch.setattr("rsgm.likelihood.draws._TOLERANCE", 1e-2)
    return enter(tmp_path, monkeypatch)


@EVERY
def test_one_step_and_one_evaluation(config, folder, monkeypatch):
    # of an untrained model a few samples and nodes are as good as thousands
    monkeypatch.setattr("rsgm.cli.commands.evaluate", functools.partial(evaluate, samples=20))
    monkeypatch.setattr("rsgm.evaluation.baseline._NODES", 40)
    monkeypatch.setattr("rsgm.evaluation.baseline._BATCH", 20)
    data = smaller(config, points(folder))
    args = [*small_network(config), *data, "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    assert run(*args, *quiet, config=str(config)) == 0
    path = best(config.stem)
    found = json.loads((path.parent / "metrics.json").read_text())
    assert math.isfinite(found["nll"]["mean"])
    assert found["nll"]["n"] == found["split"]["sizes"]["test"] > 0
    checkpoint = read_checkpoint(path)
    model, data = rsgm.load(path), load_data(checkpoint)
    assert checkpoint["rsgm"]["training"]["steps"] == (1 if model.trainable else 0)
    assert sample_like(model, data.test, 3).shape == (3, *model.manifold.shape)


@EVERY
def test_configs_are_short_and_say_what_they_are(config):
    lines = config.read_text().splitlines()
    assert len(lines) <= 45
    assert lines[0].startswith("# ")
    said = yaml.safe_load(config.read_text())
    assert {"seed_everything", "model", "data", "trainer"} <= said.keys()
    one_pass = ("AdaptiveKernelDensity", "KernelDensity", "KentMixture", "ModelMixture", "ExactScore")
    in_one_pass = said["model"]["class_path"] in one_pass
    assert in_one_pass or said["trainer"].keys() & {"max_steps", "max_epochs"}, "without an end"
    # the run folder has the name of the file
    assert "name" not in said


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_fit(overlay, folder, monkeypatch):
    """Parsed together with an experiment: its trainer is what the overlay says, and nothing else changes."""
    made = {}

    def record(self, config, callbacks):
        made.update(config)
        return SimpleNamespace(precision="32-true")

    monkeypatch.setattr("rsgm.cli.commands.TrainCLI._instantiate_trainer", record)
    config = ROOT / "configs/volcano_rsgm.yaml"
    data = f"--data.path={points(folder)}"
    alone = compose(data, config=str(config)).config
    plain, made = dict(made), {}
    cli = compose(f"--config={overlay}", data, config=str(config))
    said = yaml.safe_load(overlay.read_text())
    assert said.keys() == {"trainer"}
    for key, value in said["trainer"].items():
        assert str(made[key]) == str(value)
    others = {key for key in plain if key not in {*said["trainer"], "logger", "plugins", "callbacks"}}
    assert {key: made[key] for key in others} == {key: plain[key] for key in others}
    assert cli.config.model == alone.model
    assert cli.config.training == alone.training
    assert cli.config.data == alone.data


def numbers(node, path=()) -> list[tuple[tuple, float]]:
    """Every number of a file, and its place."""
    if isinstance(node, (dict, list)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return [found for key, value in items for found in numbers(value, (*path, key))]
    return [(path, node)] if isinstance(node, (int, float)) and not isinstance(node, bool) else []


def place(node, path):
    return functools.reduce(lambda inner, key: inner[key], path, node)


def admits_int(annotation) -> bool:
    return annotation is int or any(map(admits_int, typing.get_args(annotation)))


def annotation_at(config: dict, path: tuple):
    """Of the constructor argument that the innermost ``class_path`` of a place has."""
    if "init_args" not in path:
        return typing.get_type_hints(Training.__init__)[path[1]]
    depth = max(i for i, key in enumerate(path) if key == "init_args")
    cls = import_object(place(config, path[:depth])["class_path"])
    return typing.get_type_hints(cls.__init__)[path[depth + 1]]


def same_number(said, found, admits: bool) -> bool:
    """Equal and of one type; an integer where only fractions make sense is that fraction."""
    return said == found and (type(said) is type(found) or (type(said) is int and type(found) is float and not admits))


def test_a_number_of_another_type_is_noticed():
    """Or else the tests below could not fail: 1 is one batch, 1.0 is all of them."""
    assert same_number(1, 1, admits=True)
    assert same_number(1, 1.0, admits=False)
    assert not same_number(1, 1.0, admits=True)
    assert not same_number(1.0, 1, admits=True)
    assert not same_number(0.5, 0.25, admits=False)
    assert dict(numbers({"a": [1, {"b": 2.0}], "c": True, "d": "3"})) == {("a", 0): 1, ("a", 1, "b"): 2.0}


@pytest.mark.parametrize("path", [*CONFIGS, *OVERLAYS], ids=lambda path: "/".join(path.parts[-2:]))
def test_every_number_reaches_the_trainer(path, tmp_path):
    """With its type, and so with its meaning."""
    said = {"trainer": yaml.safe_load(path.read_text())["trainer"]}
    file = tmp_path / "trainer.yaml"
    file.write_text(yaml.safe_dump(said))
    parser = Parser(parser_mode="omegaconf+")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_argument("--config", action="config")
    with mended():
        found = parser.parse_args([f"--config={file}"]).as_dict()
    hints = typing.get_type_hints(inspect.unwrap(Trainer.__init__))
    for at, number in numbers(said):
        assert same_number(number, place(found, at), admits_int(hints[at[1]])), f"{at}: {number} {place(found, at)!r}"


@EVERY
def test_every_number_reaches_its_class(config, monkeypatch):
    """What the constructors are called with is what the file says, to its type."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(TrainCLI, "instantiate_classes", lambda self: None)
    found = TrainCLI([f"--config={config}"]).config.as_dict()
    said = yaml.safe_load(config.read_text())
    for section in {"model", "training", "data"} & said.keys():
        for path, number in numbers({section: said[section]}):
            admits = admits_int(annotation_at(found, path))
            assert same_number(number, place(found, path), admits), f"{path}: {number} is {place(found, path)!r}"
    assert found["seed_everything"] == said["seed_everything"]


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("2", 2)])
def test_a_count_is_no_share(text, expected, folder):
    """Neither on the command line nor in a file, whichever type the annotation names first."""
    (folder / "more.yaml").write_text(f"trainer: {{limit_train_batches: {text}, limit_val_batches: {text}}}")
    trainer = compose("--config=more.yaml", f"--trainer.val_check_interval={text}", "--trainer.devices=1").trainer
    for name in ("limit_train_batches", "limit_val_batches", "val_check_interval"):
        found = getattr(trainer, name)
        assert found == expected
        assert type(found) is type(expected)
    assert trainer.num_devices == 1


def test_the_parser_replaces_what_is_there():
    """Functions of jsonargparse's private part: another version may name or call them otherwise."""
    names = {"union_subtype_sort_key": _rank, "discard_init_args_on_class_path_change": _carry_over}
    with mended():
        mends = {name: getattr(_typehints, name) for name in names}
    for name, original in names.items():
        ours = mends[name]
        assert ours is not original
        assert getattr(_typehints, name) is original  # outside of the command nothing is changed
        assert len(inspect.signature(ours).parameters) == len(inspect.signature(original).parameters)
        assert original.__module__ == "jsonargparse._typehints"


def test_something_is_tested():
    assert {path.stem for path in CONFIGS} >= {"volcano_rsgm", "s2_toy_rsgm"}
    assert {path.stem for path in OVERLAYS} >= {"cpu", "gpu", "ddp", "multinode"}
    assert not set(CONFIGS) & set(OVERLAYS)
