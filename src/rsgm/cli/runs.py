"""The folders of runs, ``<runs>/<name>/version_<k>``: none is written over."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rsgm.cli.explain import UsageError
from rsgm.models import read_checkpoint

#: tells the processes that Lightning starts for further devices which folder the first one made
_RUN_FOLDER = "RSGM_RUN_FOLDER"


def claim(base: Path, checkpoint: str | None) -> tuple[Path, str | None]:
    """The folder of this run and the checkpoint that it continues: the same for all processes of the run.

    Arguments:
        base: the folder of all versions
        checkpoint: a file, from which a new version goes on; ``last``, with which the newest version goes on; or None

    Raises:
        UsageError: ``last``, and no version has one
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
        return _announce(found.parent), str(found)
    if checkpoint is not None:
        read_checkpoint(checkpoint)
    k = versions[-1] + 1 if versions else 0
    if not is_first():
        return base / f"version_{k}", checkpoint
    while True:
        try:
            (base / f"version_{k}").mkdir(parents=True)
            return _announce(base / f"version_{k}"), checkpoint
        except FileExistsError:
            k += 1
        except OSError:
            _remove_empty(base, base.parent)
            raise


def abandon(folder: Path) -> None:
    """Remove the folder of a run that ended before its first step, and those above that are empty without it."""
    left = list(folder.glob("*"))
    if not is_first() or any(path.name != "config.yaml" and ".tfevents." not in path.name for path in left):
        return
    for path in left:
        path.unlink()
    _remove_empty(folder, *folder.parents[:2])


def release() -> None:
    """Forget the folder: the next run of this process gets its own."""
    os.environ.pop(_RUN_FOLDER, None)


def is_first() -> bool:
    """Whether this is the first of the processes that a launcher started."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def write_new(path: Path, text: str) -> None:
    """Write a text beside what is there: ``config.yaml``, then ``config_1.yaml``, …"""
    k, target = 0, path
    while target.exists():
        if target.read_text() == text:
            return
        k += 1
        target = path.with_stem(f"{path.stem}_{k}")
    target.write_text(text)


def _announce(folder: Path) -> Path:
    os.environ[_RUN_FOLDER] = str(folder)
    return folder


def _remove_empty(*places: Path) -> None:
    for place in places:
        with contextlib.suppress(OSError):  # not empty, or not there
            place.rmdir()
