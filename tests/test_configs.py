"""Every configuration runs a step and an evaluation; every overlay fits on one."""

import functools
import json
import math

import pytest
import yaml

import rsgm
from rsgm.evaluation import load_data
from rsgm.figures import sample_like
from rsgm.models import read_checkpoint
from rsgm.yardstick import integral
from test_cli import CONFIGS, EVERY_CONFIG, ROOT, best, compose, enter, points, run, smaller, without_figures

OVERLAYS = sorted((ROOT / "configs/trainer").glob("*.yaml"))
EVERY = pytest.mark.parametrize("config", EVERY_CONFIG)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    monkeypatch.setattr("rsgm.yardstick.integral", functools.partial(integral, levels=0))
    monkeypatch.setattr("rsgm.yardstick._NODES", 20)
    return enter(tmp_path, monkeypatch)


#: what costs time: sizes of networks, numbers of slices and of restarts
SMALL = {"hidden": "[8,8]", "width": "8", "channels": "4", "slices": "2", "restarts": "1"}


def small_network(config) -> list[str]:
    """Overrides for the parts that have a size, at any depth of the model."""

    def find(node, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        inner = node.get("init_args", {})
        own = [f"--{path}.{key}={value}" for key, value in SMALL.items() if key in inner]
        return own + [found for key, value in inner.items() for found in find(value, f"{path}.{key}")]

    return find(yaml.safe_load(config.read_text())["model"], "model")


@EVERY
def test_one_step_and_one_evaluation(config, folder):
    data = smaller(config, points(folder))
    args = [*small_network(config), *data, "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    assert run(*args, *quiet, config=str(config)) == 0
    path = best(config.stem)
    found = json.loads((path.parent / "metrics.json").read_text())
    assert math.isfinite(found["nll"]["mean"])
    assert found["nll"]["n"] == found["split"]["sizes"]["test"] > 0
    checkpoint = read_checkpoint(path)
    assert checkpoint["global_step"] == 1
    model, data = rsgm.load(path), load_data(checkpoint)
    assert sample_like(model, data.test, 3).shape == (3, *model.manifold.shape)


@EVERY
def test_configs_are_short_and_say_what_they_are(config):
    lines = config.read_text().splitlines()
    assert len(lines) <= 45
    assert lines[0].startswith("# ")
    said = yaml.safe_load(config.read_text())
    assert {"seed_everything", "model", "data", "trainer"} <= said.keys()
    assert said["trainer"].keys() & {"max_steps", "max_epochs"}, "without an end"
    # the run folder has the name of the file
    assert "name" not in said


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_fit(overlay, folder, monkeypatch):
    """Parsed together with an experiment: its trainer is what the overlay says, and nothing else changes."""
    made = {}

    def record(self, config, callbacks):
        made.update(config)

    monkeypatch.setattr("rsgm.cli.TrainCLI._instantiate_trainer", record)
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
    assert cli.config.data == alone.data


def test_something_is_tested():
    assert {path.stem for path in CONFIGS} >= {"volcano_rsgm", "s2_toy_rsgm"}
    assert {path.stem for path in OVERLAYS} >= {"cpu", "gpu", "ddp", "multinode"}
    assert not set(CONFIGS) & set(OVERLAYS)
