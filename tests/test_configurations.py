"""Configurations by name, in a checkout and out of a wheel."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from rsgm import configurations
from rsgm.cli import main
from rsgm.cli.configs import by_name
from tiny import ROOT


def test_names_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = configurations.names()
    assert {"volcano_rsgm", "trainer/ddp", "paper/earth_rsgm"} <= set(names)
    assert not any(name.startswith("sweep/") for name in names)
    for name in ("volcano_rsgm", "volcano_rsgm.yaml", "configs/volcano_rsgm.yaml"):
        assert Path(configurations.find(name)).samefile(ROOT / "configs" / "volcano_rsgm.yaml")
    Path("volcano_rsgm").write_text("one's own file comes first")
    assert configurations.find("volcano_rsgm") == "volcano_rsgm"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no file vulcano_rsgm.*Did you mean volcano_rsgm"):
        configurations.find("vulcano_rsgm")


def test_names_on_a_command_line():
    file = str(configurations.folder() / "volcano_rsgm.yaml")
    assert by_name(["--config=volcano_rsgm", "--config", "volcano_rsgm"]) == [f"--config={file}", "--config", file]
    others = ["--name", "volcano_rsgm", "--config={data: {}}", "--data.name=config"]
    assert by_name(others) == others


def test_the_list_says_what_each_is(capsys):
    assert main(["configs"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == configurations.names()
    assert lines["volcano_rsgm"].startswith("Volcanic eruptions")
    assert main(["configs", "volcano_rsgm"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs" / "volcano_rsgm.yaml").read_text()


@pytest.mark.slow
def test_a_wheel_works_without_the_repository(tmp_path):
    """In an empty folder, of an environment that has the dependencies and, of this package, the wheel alone."""

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    venv.create(tmp_path / "env", with_pip=True)
    (site,) = (tmp_path / "env").rglob("site-packages")
    rsgm, python = (tmp_path / "env" / "bin" / name for name in ("rsgm", "python"))
    # by the pip of that environment: another one would take the package out of its own
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").iterdir()
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    # the dependencies are those of the tests; a .pth of this folder is not read, so an editable package stays out
    environment["PYTHONPATH"] = os.pathsep.join([str(site), *(path for path in sys.path if "site-packages" in path)])
    said = run(python, "-c", "import rsgm; print(rsgm.__file__, rsgm.__version__)")
    assert said.split() == [str(site / "rsgm" / "__init__.py"), wheel.name.split("-")[1]]
    assert "volcano_rsgm " in run(rsgm, "configs")
    small = ["--trainer.max_steps=3", "--data.train_size=100", "--data.val_size=20", "--data.test_size=20"]
    assert "test NLL (nats)" in run(rsgm, "train", "--config", "s2_toy_fm", *small)
    assert (tmp_path / "runs" / "s2_toy_fm" / "version_0" / "metrics.json").exists()
