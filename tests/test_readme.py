"""What the README tells a user to type is understood, and what it shows exists."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers import with_small_networks
from rsgm import RSGM, EarthData, Sphere, cli
from rsgm.networks import MLP

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    part.split("#")[0].strip()
    for kind, text in BLOCKS
    for line in text.splitlines()
    for part in line.split("&&")
    if kind == "" and part.strip().startswith("python train.py")
]


def test_there_are_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_training_commands_build_everything(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_points.csv").write_text("lat,lon\n" + "".join(f"{k},{2 * k}\n" for k in range(40)))
    (tmp_path / "phi_psi.csv").write_text("phi,psi\n" + "".join(f"{k - 90},{2 * k}\n" for k in range(40)))
    (tmp_path / "poses.csv").write_text("x,qw,qx,qy,qz\n" + "".join(f"{k},0.6,0,0.8,0\n" for k in range(40)))
    last = tmp_path / "runs" / "volcano_rsgm" / "version_0" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    # the catalogues need not be here, and nothing is trained
    for name in ("prepare_data", "setup"):
        monkeypatch.setattr(EarthData, name, lambda self, stage=None: None)
    monkeypatch.setattr(cli.commands, "read_checkpoint", lambda path: {})
    seen = []
    monkeypatch.setattr(cli.commands, "_train", lambda command: seen.append(command) or 0)
    arguments = shlex.split(command)[2:]
    assert cli.train([*arguments, "--trainer.accelerator=cpu", "--trainer.devices=1"]) == 0
    assert len(seen) == 1


def test_python_runs(tmp_path, monkeypatch):
    """Every block, in the order of the page, in a folder with the checkpoint that the first command leaves."""
    monkeypatch.chdir(tmp_path)
    best = tmp_path / "runs" / "volcano_rsgm" / "version_0" / "best.ckpt"
    best.parent.mkdir(parents=True)
    RSGM(Sphere(2), network=partial(MLP, hidden=[8])).save(best)
    with_small_networks(monkeypatch)
    blocks, names = [text for kind, text in BLOCKS if kind == "python"], {}
    assert len(blocks) >= 3
    for text in blocks:
        exec(compile(text, "README.md", "exec"), names)
    assert torch.isfinite(names["log_p"]).all()
    assert torch.isfinite(names["training"].model.log_prob(names["x"])).all()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:configs|data|tests)/[\w/]+\.(?:yaml|md|py)", README))))
def test_paths_exist(path):
    assert (ROOT / path).is_file()
