"""What the pages tell a user to type is understood, and what they show runs."""

import json
import re
import shlex
import sys
from inspect import signature
from itertools import product
from pathlib import Path

import pytest
import torch

from conftest import concrete
from helpers import with_small_networks
from rsgm import EarthData, ManifoldData, cli, configurations
from rsgm.cli import commands as program
from rsgm.data import RotationData, TableData, TorusData
from rsgm.sweeps import Sweep

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
#: kind and text of what is fenced; of indented fences there are none
BLOCKS = {
    name: re.findall(r"^```([^\n]*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE) for name, page in PAGES.items()
}
#: what is in backticks within a line, outside of fences
INLINE = {
    name: re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE))
    for name, page in PAGES.items()
}
#: what stands for something that a user has
UNKNOWN = ("<", "…", "FILE", "PATH")


def lines() -> list[str]:
    """All that is to be typed, fenced or within a line, without what the shell does with it."""
    fenced = [text.replace("\\\n", " ") for blocks in BLOCKS.values() for kind, text in blocks if kind in ("", "shell")]
    parts = [part for text in fenced for line in text.splitlines() for part in line.split("&&")]
    inline = [code for codes in INLINE.values() for code in codes if not any(mark in code for mark in UNKNOWN)]
    # the first column of the tables of results says what comes after --config
    results = re.findall(r"^\| `([^`]+)`", PAGES["docs/results.md"], flags=re.MULTILINE)
    inline += [f"rsgm train --config {code}" for code in results if code.split()[0] in configurations.names()]
    return list(dict.fromkeys(re.split(r" #|  | > ", part.strip())[0] for part in [*parts, *inline]))


def commands(*programs: str) -> list[str]:
    """The arguments of each command that begins with one of these."""
    found = [line.removeprefix(f"{name} ") for name in programs for line in lines() if line.startswith(f"{name} --")]
    return [command for command in dict.fromkeys(found) if command not in ("--config", "--help")]


TRAIN, EVALUATE = commands("python train.py", "rsgm train"), commands("python evaluate.py", "rsgm evaluate")


def test_there_are_commands():
    assert len(TRAIN) >= 60
    assert len(EVALUATE) >= 12
    assert len(commands("rsgm audit")) >= 2


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with the tables that the pages name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    numbers = [f"{k},{k / 9},20{10 + k}-01-01" for k in range(40)]
    events = [f"{k},{2 * k},{'ab'[k % 2]},{row}" for k, row in enumerate(numbers)]
    angles = [f"{k - 90},{2 * k},{'GA'[k % 2]},{k // 4}" for k in range(40)]
    for name, header, rows in (
        ("my_points", "lat,lon,kind,depth,mag,time", events),
        ("events", "lat,lon,kind,depth,mag,time", events),
        ("quakes", "lat,lon,kind,depth,mag,time", [row.replace(",0,", ",1,") for row in events]),
        ("phi_psi", "phi,psi,resname,chain", angles),
        ("wind", "direction,speed", [f"{k},{k + 1}" for k in range(40)]),
        ("rotations", "qw,qx,qy,qz", ["0.6,0,0.8,0"] * 40),
        ("chest", "chest_w,chest_x,chest_y,chest_z", ["0.6,0,0.8,0"] * 40),
        ("no_header", "0.6,0,0,0.8", ["0.6,0,0.8,0"] * 40),
        ("poses", "clip,x,y,z,qw,qx,qy,qz", [f"{k // 4},{k},{k % 7},{k % 5},0.6,0,0.8,0" for k in range(40)]),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "mine.yaml").write_text(next(text for _, text in BLOCKS["docs/extending.md"] if "# mine.yaml" in text))
    own_loss = (ROOT / "examples" / "own_loss.py").read_text()
    (tmp_path / "my_module.py").write_text(own_loss.partition("\n\n\npoints = ")[0])
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_module", None)  # there are others of this name


@pytest.fixture
def composed(tables, monkeypatch):
    """Builds a run of arguments and does not train it; the exit status."""
    last = tables / "runs" / "volcano_rsgm" / "version_0" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    monkeypatch.setattr(program, "read_checkpoint", lambda path: {})
    monkeypatch.setattr(program, "_train", lambda command: 0)

    def build(arguments: list[str]) -> int:
        with monkeypatch.context() as patch:
            if not any(".csv" in argument for argument in arguments):  # the data sets need not be here
                patch.setattr(program, "fill_in", lambda *_: None)
                for cls, name in product((ManifoldData, *concrete(ManifoldData)), ("prepare_data", "setup")):
                    patch.setattr(cls, name, lambda self, stage=None: None)
            return cli.train([*arguments, "--trainer.accelerator=cpu", "--trainer.devices=1"])

    return build


@pytest.mark.parametrize("command", TRAIN)
def test_training_commands_build_everything(command, composed):
    assert composed(shlex.split(command)) == 0


@pytest.mark.parametrize("command", EVALUATE)
def test_evaluation_commands_are_options(command, monkeypatch, tables, capsys):
    """Of the parser, with one of the answers at most; what they do is tested in test_answers.py."""
    seen = []
    monkeypatch.setattr("rsgm.cli.evaluate._answer", lambda options: seen.append(options) or "done")
    assert cli.evaluate_command(shlex.split(command)) == 0
    assert capsys.readouterr().out == "done\n"
    assert (seen[0].out is None) == ("--out" not in command)


@pytest.mark.parametrize("command", commands("rsgm audit"))
def test_audit_commands_are_options(command, tables, monkeypatch, capsys):
    class Found:
        text = "done"

    monkeypatch.setattr("rsgm.cli.audit._audit", lambda options, data: Found)
    assert cli.main(["audit", *shlex.split(command)]) == 0, capsys.readouterr().err


def test_sweeps_are_read(tmp_path, monkeypatch, capsys):
    """Those of the commands, and the one that a page writes out."""
    seen = []
    monkeypatch.setattr("rsgm.cli.sweep._sweep", lambda plan, options: seen.append(plan.name) or 0)
    monkeypatch.chdir(ROOT)
    given = [line.removeprefix("rsgm sweep ") for line in lines() if line.startswith("rsgm sweep ")]
    assert len(given) >= 4
    for arguments in given:
        assert cli.main(["sweep", *shlex.split(arguments)]) == 0, capsys.readouterr().err
    assert set(seen) == {"earth"}
    (tmp_path / "own.yaml").write_text(next(text for _, text in BLOCKS["docs/running.md"] if "grid:" in text))
    assert len(list(Sweep.read(tmp_path / "own.yaml").trials)) == 12


def test_other_verbs_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a" / "version_0"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text(json.dumps({"model": "RSGM", "nll": {"mean": 1.5}}))
    given = [shlex.split(line)[1:] for line in lines() if re.match(r"rsgm (runs|configs)\b", line)]
    assert {arguments[0] for arguments in given} == {"runs", "configs"}
    for arguments in given:
        assert cli.main(arguments) == 0, capsys.readouterr().err
        assert ("volcano_rsgm" if arguments[0] == "configs" else "a/version_0") in capsys.readouterr().out


def test_programs_exist():
    named = {line.split()[1] for line in lines() if re.match(r"python [\w/]+\.py", line)}
    assert {"train.py", "examples/catalogue.py", "tests/benchmarks/scale.py"} <= named
    # those of other code, on the page about moving from it, end with an argument of theirs
    theirs = set(
        re.findall(r"`python ([\w/]+\.py)[^`]*`", re.sub(r"\|[^|\n]*\|$", "|", PAGES["docs/moving.md"], flags=re.M))
    )
    for name in named - theirs:
        assert (ROOT / name).is_file(), name


FAMILIES = "rsgm|fm|cnf|moser|kde|akde|nkde|kent|mixture|stereo|exp|spline|ddpm|ddim|ncsn|ebm|sdeflow|langevin"


@pytest.mark.parametrize("page", PAGES)
def test_configurations_exist(page):
    for code in INLINE[page]:
        word = code.split()[0]
        if re.fullmatch(rf"(paper/|trainer/)\w+|[a-z0-9]+_({FAMILIES})", word):
            assert word in configurations.names(), f"{page}: {code}"


#: options within the text of a page
OPTIONS = sorted({c for codes in INLINE.values() for c in codes if re.match(r"--(data|model|training|trainer)\b", c)})
#: runs that such an option may be one of: a configuration, and what it needs
BASES = [
    "torus_rsgm",
    "flood_rsgm",
    "earth_fm",
    "earth_akde",
    "torus_moser",
    "moons_sdeflow",
    "moons_ebm",
    "angles --data.path=phi_psi.csv --data.angles=[phi,psi] --data.group=chain",
    "earth --data.path=quakes.csv --data.time=time",
    "table --data.path=quakes.csv --data.numbers=[mag,depth]",
    "rotations --data.path=chest.csv",
    "rotations --data.path=no_header.csv",
]


@pytest.mark.parametrize("option", [code for code in OPTIONS if not any(mark in code for mark in UNKNOWN)])
def test_options_exist(option, composed, capsys):
    """Some run takes it; of one without a value, some run knows it."""
    found = []
    for base in BASES:
        given = shlex.split(f"--config={base}") + (shlex.split(option) if "=" in option else [f"{option}=?"])
        status = composed(given)
        found.append(capsys.readouterr().err)
        if status == 0 or ("=" not in option and "unknown key" not in found[-1]):
            return
    pytest.fail("\n".join(found))


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`--data\.(\w+)", PAGES["docs/own_data.md"]))))
def test_options_of_tables_exist(option):
    fields = {name for cls in (EarthData, TorusData, RotationData, TableData) for name in signature(cls).parameters}
    assert option in fields


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/numbers.md"])
def test_python_runs(page, tmp_path, monkeypatch):
    """Every block, in the order of the page; cells of other pages run where the documentation is built."""
    monkeypatch.chdir(tmp_path)
    with_small_networks(monkeypatch)
    blocks, names = [text for kind, text in BLOCKS[page] if kind == "python"], {}
    assert blocks
    for text in blocks:
        exec(compile(text, page, "exec"), names)
    if "model" in names:
        assert torch.isfinite(names["model"].log_prob(names["points"])).all()


def test_no_code_is_left_out():
    """Code of a page is run here, or in a cell; shell and other kinds are looked at above."""
    kinds = {kind for blocks in BLOCKS.values() for kind, _ in blocks}
    assert {kind for kind in kinds if not kind.startswith("{")} <= {"", "shell", "python", "yaml", "bibtex"}
    assert {name for name, blocks in BLOCKS.items() if "python" in dict(blocks)} == {
        "README.md",
        "docs/index.md",
        "docs/numbers.md",
    }


def test_results_are_those_of_the_generated_page():
    """The short table, rounded, of the columns of RESULTS.md that hold whole places out."""

    def cells(line: str) -> list[str]:
        return [cell.strip() for cell in line.strip("|").split("|")]

    page = (ROOT / "RESULTS.md").read_text().partition("## Places on the Earth")[2].partition("###")[0]
    rows = {row[0]: row[1:] for row in map(cells, re.findall(r"^\|.*\|$", page, flags=re.MULTILINE))}
    honest = [k for k, name in enumerate(rows["NLL, nats"]) if re.search("location|block", name)]
    names = {
        "kernel density": "kernel density",
        "kernels that follow their neighbours": "adaptive kernel density",
        "kernels that are learned": "learned kernel density",
        "RSGM": "RSGM, denoising score matching",
    }
    table = PAGES["README.md"].partition("## Results")[2].partition("The kernel density is")[0]
    shown = {row[0]: row[1:] for row in map(cells, re.findall(r"^\|.*\|$", table, flags=re.MULTILINE)[2:])}
    assert list(shown) == list(names)
    for name, own in names.items():
        for text, k in zip(shown[name], honest, strict=True):
            found, wanted = (re.findall(r"-?\d+\.\d+", cell.replace("−", "-")) for cell in (text, rows[own][k]))
            if wanted:  # not every run is made yet
                assert all(abs(float(a) - float(b)) <= 0.0051 for a, b in zip(found, wanted, strict=True)), (name, text)


def test_differences_are_those_of_the_generated_page():
    """To the kernel density on the same splits, of the sentence below the short table."""
    page = (ROOT / "RESULTS.md").read_text()

    def paired(case: str, method: str) -> list[str]:
        section = page.partition(f"\n### {case}\n")[2].partition("\n### ")[0]
        head, row = (
            [cell.strip() for cell in re.search(rf"^\| {name} \|.*$", section, flags=re.MULTILINE)[0].split("|")]
            for name in ("method", method)
        )
        numbers = row[head.index("minus kernel density")].replace("−", "").split(" ± ")
        return [f"{float(number):.2f}".removeprefix("0") for number in numbers]

    adaptive, learned = "adaptive kernel density", "learned kernel density"
    expected = [
        *paired("volcano location", adaptive),
        *(paired(case, adaptive)[0] for case in ("earthquake location", "flood location", "fire block")),
        *paired("fire block", learned),
        *paired("volcano location", learned),
        *(paired(case, learned)[0] for case in ("earthquake location", "flood location")),
    ]
    sentence = PAGES["README.md"].partition("On the same splits")[2].partition("RSGM beats it")[0]
    assert re.findall(r"\.\d\d", sentence) == expected
