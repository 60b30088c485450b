"""What the README tells a user to type is understood, and what it shows exists."""

import re
import shlex
from pathlib import Path

import pytest

from rsgm import EarthData, cli

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
    monkeypatch.setattr(cli, "read_checkpoint", lambda path: {})
    seen = []
    monkeypatch.setattr(cli, "_train", lambda command: seen.append(command) or 0)
    arguments = shlex.split(command)[2:]
    assert cli.train([*arguments, "--trainer.accelerator=cpu", "--trainer.devices=1"]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "python"])
def test_python_compiles(text):
    compile(text, "README.md", "exec")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:configs|data|tests)/[\w/]+\.(?:yaml|md|py)", README))))
def test_paths_exist(path):
    assert (ROOT / path).is_file()
