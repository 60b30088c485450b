"""The folders of runs, ``<runs>/<name>/version_<k>``: none is written over."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from rsgm.cli.explain import UsageError
from rsgm.files import make_folder, numbered, write_text
from rsgm.models import read_checkpoint

#: the folder that this process works in: the file descriptor of its lock, and whether it has made it
_held: dict[Path, tuple[int, bool]] = {}
#: what fsspec, with which Lightning opens files, takes for a web address or a chain of file systems
_ADDRESS = re.compile(r"://|::")

#: tell the processes that Lightning starts for further devices which folder the first one made, and who started them
_RUN_FOLDER, _STARTED_BY = "RSGM_RUN_FOLDER", "RSGM_STARTED_BY"


def base(runs: str, name: str) -> Path:
    """The folder of all versions of a run, ``~`` being the user's home as in a shell.

    Raises:
        UsageError: for a name that leads out of the folder of runs, and what is no path of this machine
    """
    for option, text in (("--runs", runs), ("--name", name)):
        if not text.strip() or _ADDRESS.search(text) or not text.isprintable():
            raise UsageError(f"{option} is {text!r}, expected a folder of this machine: no address, no '::'.")
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or name.startswith("~") or not parts:
        raise UsageError(f"--name is {name!r}, expected a name below --runs; --runs=FOLDER says where it is.")
    return expanded(runs, "--runs") / name


def expanded(path: str, option: str) -> Path:
    """A path with the user's home in the place of ``~``, which a shell leaves alone behind ``=``."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{option} is {path!r}: {error}") from None


def claim(base: Path, checkpoint: str | None) -> tuple[Path, str | None]:
    """The folder of this run and the checkpoint that it continues: the same for all processes of the run.

    Arguments:
        base: the folder of all versions
        checkpoint: a file, from which a new version goes on; ``last``, with which the newest version goes on; or None

    Raises:
        UsageError: ``last``, and no version has one, or another process works on it
        CheckpointError: a file that is none
    """
    if _RUN_FOLDER in os.environ:
        folder = Path(os.environ[_RUN_FOLDER])
        return folder, str(folder / "last.ckpt") if checkpoint == "last" else checkpoint
    versions = sorted(int(p.name[8:]) for p in base.glob("version_*") if p.name[8:].isdigit())
    if checkpoint == "last":
        candidates = [base / f"version_{k}" / "last.ckpt" for k in reversed(versions)]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            raise UsageError(f"--ckpt_path last: no run below {base} has a last.ckpt; start one without it.")
        if is_first():
            _lock(found.parent, made=False)
        return _announce(found.parent), str(found)
    if checkpoint is not None:
        checkpoint = str(expanded(checkpoint, "--ckpt_path"))
        read_checkpoint(checkpoint)
    k = versions[-1] + 1 if versions else 0
    if not is_first():
        return _announce(base / f"version_{k}"), checkpoint
    while True:
        try:
            make_folder(base / f"version_{k}")
            _lock(base / f"version_{k}", made=True)
            return _announce(base / f"version_{k}"), checkpoint
        except FileExistsError:
            k += 1
        except OSError:
            _remove_empty(base, base.parent)
            raise


def release() -> None:
    """Forget the folder: the next run of this process gets its own. One without a checkpoint is not left behind."""
    for name in (_RUN_FOLDER, _STARTED_BY):
        os.environ.pop(name, None)
    for folder, (lock, made) in _held.items():
        if made and not any(folder.glob("*.ckpt")):
            _remove(folder)
        os.close(lock)
    _held.clear()


def keep() -> None:
    """Leave the folder behind also without a checkpoint: it has a curve."""
    _held.update({folder: (lock, False) for folder, (lock, _) in _held.items()})


def _remove(folder: Path) -> None:
    """What a run has written before its first checkpoint, and then what is empty."""
    for pattern in ("config*.yaml", "events.out.tfevents.*", "*.part"):
        for path in folder.glob(pattern):
            path.unlink()
    _remove_empty(folder, *folder.parents[:2])


def _lock(folder: Path, made: bool) -> None:
    """Hold a folder until this process ends, however that is: the system keeps the lock.

    Raises:
        UsageError: where another process holds it
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            f"{folder} is in use: another process is at work on this run. Wait for its end, or leave --ckpt_path last "
            "out to start another version."
        ) from None
    except OSError as error:
        print(f"{folder} cannot be locked ({error.strerror}); see to it that one process works on it.", file=sys.stderr)
    _held[folder] = lock, made


def is_first() -> bool:
    """Whether this is the first of the processes that a launcher started, on the first of its machines."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def starter() -> int | None:
    """The process of this run that has started this one; None of one that a launcher or a user has started."""
    pid = int(os.environ.get(_STARTED_BY, os.getpid()))
    return None if pid == os.getpid() else pid


def write_new(path: Path, text: str) -> None:
    """Write a text beside what is there: ``config.yaml``, then ``config_1.yaml``, …"""
    for target in numbered(path):
        if not target.exists():
            return write_text(target, text)
        if target.read_text(encoding="utf-8", errors="replace") == text:
            return None


def _announce(folder: Path) -> Path:
    os.environ[_RUN_FOLDER], os.environ[_STARTED_BY] = str(folder), str(os.getpid())
    return folder


def _remove_empty(*places: Path) -> None:
    for place in places:
        with suppress(OSError):  # not empty, or not there
            place.rmdir()
