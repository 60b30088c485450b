"""The folders of runs: numbered one after another, none written over, one for all processes."""

from pathlib import Path

import pytest

from rsgm.cli import runs


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "RSGM_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "name"
    runs.release()


def test_versions_are_counted_as_numbers(base, monkeypatch):
    """Not as names, in whose order some file systems list them: 10 follows 9."""
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: sorted(glob(path, pattern)))
    for k in (9, 10, 2):
        (base / f"version_{k}").mkdir(parents=True)
        (base / f"version_{k}/last.ckpt").touch()
    assert runs.claim(base, None) == (base / "version_11", None)
    runs.release()
    # the newest that has a checkpoint
    assert runs.claim(base, "last") == (base / "version_10", str(base / "version_10/last.ckpt"))


def test_one_folder_for_all_processes(base, monkeypatch):
    """What the first has claimed its children find; a launcher's later processes make none of their own."""
    first, _ = runs.claim(base, None)
    assert runs.claim(base, "last") == (first, str(first / "last.ckpt"))
    runs.release()
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        assert runs.is_first()
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert not runs.is_first()
            folder, _ = runs.claim(base, None)
            assert not folder.exists()
            patch.setenv(name, "0")
            assert runs.is_first()
    assert [path.name for path in base.iterdir()] == ["version_0"]


def test_texts_stand_beside_what_is_there(tmp_path):
    path = tmp_path / "config.yaml"
    for text in ("a", "a", "b", "a", "b", "c"):
        runs.write_new(path, text)
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"config.yaml": "a", "config_1.yaml": "b", "config_2.yaml": "c"}
