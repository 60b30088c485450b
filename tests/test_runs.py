"""The folders of runs: numbered one after another, none written over, one for all processes."""

import os
import signal
from pathlib import Path

import pytest

from rsgm.cli import runs
from rsgm.cli.explain import UsageError

#: of a process in its run, on its machine, and of its machine, as launchers say them
RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    for name in (*RANKS, "RSGM_RUN_FOLDER", "RSGM_STARTED_BY"):
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
    runs.keep()
    runs.release()
    for name in RANKS:
        assert runs.is_first()
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert not runs.is_first()
            folder, _ = runs.claim(base, None)
            assert not folder.exists()
            runs.release()
            patch.setenv(name, "0")
            assert runs.is_first()
    assert [path.name for path in base.iterdir()] == ["version_0"]


@pytest.mark.parametrize("node", ["0", "1"])
def test_who_has_started_a_process(node, base, monkeypatch):
    """On every machine the first process of it, which starts the others there; a launcher is nobody's business."""
    monkeypatch.setenv("NODE_RANK", node)
    folder, _ = runs.claim(base, None)
    assert runs.starter() is None
    child = os.fork()
    if child == 0:
        os.environ["LOCAL_RANK"] = "1"
        found = runs.starter() == os.getppid(), runs.claim(base, None)[0] == folder, not runs.is_first()
        os._exit(0 if all(found) else 1)
    assert os.waitpid(child, 0)[1] == 0
    runs.release()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runs.starter() is None


def test_texts_stand_beside_what_is_there(tmp_path):
    path = tmp_path / "config.yaml"
    for text in ("a", "a", "b", "a", "b", "c"):
        runs.write_new(path, text)
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"config.yaml": "a", "config_1.yaml": "b", "config_2.yaml": "c"}


def test_a_folder_is_in_one_hand(base):
    """A second process, or the same one a second time, cannot continue a run that goes on."""
    folder, _ = runs.claim(base, None)
    (folder / "last.ckpt").touch()
    os.environ.pop("RSGM_RUN_FOLDER")
    with pytest.raises(UsageError, match="version_0 is in use: another process is at work on this run"):
        runs.claim(base, "last")
    # a new version is nobody's business
    assert runs.claim(base, None)[0].name == "version_1"
    runs.release()
    assert runs.claim(base, "last") == (folder, str(folder / "last.ckpt"))


def test_the_lock_of_a_killed_process_is_free(base):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        folder, _ = runs.claim(base, None)
        (folder / "last.ckpt").touch()
        os.write(write, b"held")
        signal.pause()
    try:
        assert os.read(read, 4) == b"held"
        with pytest.raises(UsageError, match="is in use"):
            runs.claim(base, "last")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert runs.claim(base, "last")[0].name == "version_0"


@pytest.mark.parametrize("left", [(), ("config.yaml", "events.out.tfevents.1")])
def test_a_start_that_failed_leaves_nothing(left, base):
    folder, _ = runs.claim(base / "deep/er", None)
    for name in left:
        (folder / name).touch()
    runs.release()
    assert not (base / "deep").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "notes.txt"])
def test_what_somebody_has_written_stays(name, base):
    folder, _ = runs.claim(base, None)
    (folder / name).touch()
    runs.release()
    assert (folder / name).exists()


def test_home_is_meant_by_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runs.base("~/x", "a/b") == tmp_path / "x/a/b"
    assert runs.base("x y", "Grüße=1") == Path("x y/Grüße=1")
    with pytest.raises(UsageError, match=r"--runs is '~no_such_user_/x'"):
        runs.base("~no_such_user_/x", "a")


@pytest.mark.parametrize(
    "folder, name",
    [
        ("file://x", "a"),
        ("s3://bucket", "a"),
        ("x", "exp::1"),
        ("x", ".."),
        ("x", "a/../../b"),
        ("x", "/tmp/a"),
        ("x", "~/a"),
        ("", "a"),
        ("x", " "),
        ("x", "."),
        ("x", "a\nb"),
        ("x\0", "a"),
    ],
)
def test_what_is_no_name_of_a_run(folder, name):
    with pytest.raises(UsageError, match=r"--(runs|name) is '.*', expected"):
        runs.base(folder, name)
