"""The programs in `examples/` run as they are, and are as short as they are said to be."""

import runpy
from pathlib import Path

import pytest

from helpers import with_small_networks

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_programs():
    assert len(EXAMPLES) >= 15


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with_small_networks(monkeypatch)
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert out
    assert "nan" not in out
    assert len(path.read_text().splitlines()) <= 30
