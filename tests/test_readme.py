"""What the pages tell a user to type is understood, and what they show exists."""

import re
import shlex
from functools import partial
from inspect import signature
from pathlib import Path

import pytest
import torch

from helpers import with_small_networks
from rsgm import RSGM, EarthData, Sphere, cli
from rsgm.data import RotationData, TableData, TorusData
from rsgm.networks import MLP

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/own_data.md")}
BLOCKS = {name: re.findall(r"```(\w*)\n(.*?)```", page, flags=re.DOTALL) for name, page in PAGES.items()}


def commands(program: str) -> list[str]:
    """Of all pages, without what the shell does with them."""
    texts = [text for blocks in BLOCKS.values() for kind, text in blocks if kind == ""]
    parts = [part for text in texts for line in text.splitlines() for part in line.split("&&")]
    found = [part.split("#")[0].strip() for part in parts if part.strip().startswith(f"python {program}")]
    return list(dict.fromkeys(found))


def test_there_are_commands():
    assert len(commands("train.py")) >= 12
    assert len(commands("evaluate.py")) >= 10


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with the tables that the pages name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    numbers = [f"{k},{k / 9},20{10 + k}-01-01" for k in range(40)]
    events = [f"{k},{2 * k},{'ab'[k % 2]},{row}" for k, row in enumerate(numbers)]
    for name, header, rows in (
        ("my_points", "lat,lon,kind,depth,mag,time", events),
        ("quakes", "lat,lon,kind,depth,mag,time", [row.replace(",0,", ",1,") for row in events]),
        ("phi_psi", "phi,psi", [f"{k - 90},{2 * k}" for k in range(40)]),
        ("rotations", "qw,qx,qy,qz", ["0.6,0,0.8,0"] * 40),
        ("poses", "clip,x,y,z,qw,qx,qy,qz", [f"{k // 4},{k},{k % 7},{k % 5},0.6,0,0.8,0" for k in range(40)]),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


@pytest.mark.parametrize("command", commands("train.py"))
def test_training_commands_build_everything(command, tables, monkeypatch):
    last = tables / "runs" / "volcano_rsgm" / "version_0" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    if ".csv" not in command:  # the catalogues need not be here, and nothing is trained
        for name in ("prepare_data", "setup"):
            monkeypatch.setattr(EarthData, name, lambda self, stage=None: None)
        monkeypatch.setattr(cli.commands, "fill_in", lambda *_: None)
    monkeypatch.setattr(cli.commands, "read_checkpoint", lambda path: {})
    seen = []
    monkeypatch.setattr(cli.commands, "_train", lambda command: seen.append(command) or 0)
    arguments = shlex.split(command)[2:]
    assert cli.train([*arguments, "--trainer.accelerator=cpu", "--trainer.devices=1"]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize("command", commands("evaluate.py"))
def test_evaluation_commands_are_options(command, monkeypatch, capsys):
    """Of the parser, with one of the answers at most; what they do is tested in test_answers.py."""
    seen = []
    monkeypatch.setattr("rsgm.cli.evaluate._answer", lambda options: seen.append(options) or "done")
    assert cli.evaluate_command(shlex.split(command)[2:]) == 0
    assert capsys.readouterr().out == "done\n"
    assert (seen[0].out is None) == ("--out" not in command)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`--data\.(\w+)", PAGES["docs/own_data.md"]))))
def test_options_of_tables_exist(option):
    fields = {name for cls in (EarthData, TorusData, RotationData, TableData) for name in signature(cls).parameters}
    assert option in fields


def test_python_runs(tmp_path, monkeypatch):
    """Every block, in the order of the page, in a folder with the checkpoint that the first command leaves."""
    monkeypatch.chdir(tmp_path)
    best = tmp_path / "runs" / "volcano_rsgm" / "version_0" / "best.ckpt"
    best.parent.mkdir(parents=True)
    RSGM(Sphere(2), network=partial(MLP, hidden=[8])).save(best)
    with_small_networks(monkeypatch)
    blocks, names = [text for kind, text in BLOCKS["README.md"] if kind == "python"], {}
    assert len(blocks) >= 3
    for text in blocks:
        exec(compile(text, "README.md", "exec"), names)
    assert torch.isfinite(names["log_p"]).all()
    assert torch.isfinite(names["training"].model.log_prob(names["x"])).all()


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    text = PAGES[page]
    named = re.findall(r"(?:configs|data|docs|examples|tests)/[\w/]+\.(?:yaml|md|py)", text)
    linked = [str(Path(page).parent / link) for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for path in {*named, *linked}:
        assert (ROOT / path).exists(), path
