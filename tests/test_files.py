"""Files are whole or not there: disks that are full, folders that are forbidden, errors of the machine."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

import rsgm
from rsgm.cli.errors import _text as told
from rsgm.evaluation.evaluate import write
from rsgm.files import WriteError, make_folder, new_file, numbered, replaced_file, write_text
from rsgm.models import CheckpointError, read_checkpoint, write_checkpoint
from rsgm.plots.style import new_figure


@pytest.fixture
def full_disk():
    """No file of this process may be longer than a kilobyte, which the system tells as it tells of a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def model() -> rsgm.KernelDensity:
    found = rsgm.KernelDensity(rsgm.Sphere(2))
    found.fit_points(*(rsgm.Sphere(2).random_uniform(n, 3) for n in (300, 30)))
    return found


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_texts_are_in_utf_8_wherever_they_are_written(tmp_path):
    """Also where the locale's encoding knows no minus sign, as Latin-1 and ASCII."""
    line = "from pathlib import Path; from rsgm.files import new_text, write_text; "
    line += "text = '\\u2212.5 \\xb1 .1'; write_text(Path('old'), text); new_text(Path('new'), text)"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, env=ascii_only, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"−.5 ± .1"}


def test_names_that_take_no_others(tmp_path):
    names = numbered(tmp_path / "metrics.json")
    assert [next(names).name for _ in range(3)] == ["metrics.json", "metrics_1.json", "metrics_2.json"]


def test_a_full_disk_leaves_the_former_file_and_no_rest(tmp_path, full_disk):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(WriteError, match=r"a\.txt was not written: File too large\. What had this name"):
        write_text(path, "x" * 4096)
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "before"


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, model, full_disk):
    path = tmp_path / "a.ckpt"
    path.write_text("before")
    with pytest.raises(WriteError, match="was not written"):
        write_checkpoint(model, path)
    assert names(tmp_path) == ["a.ckpt"]
    assert path.read_text() == "before"


def test_a_full_disk_leaves_no_evaluation(tmp_path, full_disk):
    """A picture, or the numbers, do not fit; after that there is room."""
    drawn = new_figure(2, 2)
    for metrics, figures in (({"a": 1}, {"samples": drawn}), ({"a": "x" * 2000}, {})):
        with pytest.raises(WriteError):
            write(tmp_path, metrics, figures)
        assert names(tmp_path) == []
    write(tmp_path, {"a": 1}, {})
    assert names(tmp_path) == ["metrics.json"]


def test_evaluations_take_the_next_free_name(tmp_path):
    drawn = new_figure(2, 2)
    for _ in range(2):
        write(tmp_path, {"a": 1}, {"samples": drawn})
    assert names(tmp_path) == ["figures", "figures_1", "metrics.json", "metrics_1.json"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_error_of_the_system_is_one_sentence(call, number, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(WriteError) as raised:
            write_text(path, "after")
    assert told(raised.value).startswith(f"{path} was not written: {os.strerror(number)}.")
    assert "\n" not in told(raised.value)
    assert raised.value.errno == number
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "before")


def write_late(path) -> None:
    with new_file(path) as partial:
        partial.write_text("mine")
        path.write_text("theirs")


def test_a_new_file_takes_no_place(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    with pytest.raises(FileExistsError, match="made by somebody else"):
        write_late(path)
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "theirs")

    def no_links(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with new_file(tmp_path / "b.txt") as partial:
        partial.write_text("mine")
    assert (names(tmp_path), (tmp_path / "b.txt").read_text()) == (["a.txt", "b.txt"], "mine")
    with pytest.raises(FileExistsError, match="made by somebody else"):
        write_late(tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "theirs"


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / "a.txt.part").write_text("torn")
    with replaced_file(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(WriteError, match="Not a directory"):
        make_folder(tmp_path / "a/b")


def test_every_flipped_bit_of_the_weights_is_noticed(tmp_path, model):
    path = tmp_path / "a.ckpt"
    write_checkpoint(model, path)
    whole = path.read_bytes()
    weights = read_checkpoint(path)["state_dict"]
    raw = max(weights.values(), key=torch.Tensor.numel).numpy().tobytes()
    start = whole.index(raw)
    for k in range(20):
        place, bit = start + (k * len(raw)) // 20, k % 8
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="has changed since it was written: the checksum of"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert read_checkpoint(path)["state_dict"].keys() == weights.keys()


def test_a_forbidden_checkpoint_is_not_called_torn(tmp_path, model, monkeypatch):
    path = tmp_path / "a.ckpt"
    write_checkpoint(model, path)

    def forbid(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("zipfile.is_zipfile", forbid)
    with pytest.raises(PermissionError, match="may not be read by this user; see to its permissions"):
        read_checkpoint(path)
