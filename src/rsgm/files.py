"""Files that are never there in part: written beside their place, flushed to disk, and only then given their name."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class WriteError(OSError):
    """A file that could not be written; what had its name before is whole."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} was not written: {error.strerror or error}. What had this name before is as it was; make room or "
            "choose another folder."
        )
        self.errno = error.errno


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``, which takes its place when it is whole and on disk.

    Raises:
        WriteError: for every error of the system, such as a full disk; the former file stays, and no rest
    """
    # one name for all times: what a killed process has left is written over
    with _written(path, path.with_name(f"{path.name}.part"), os.replace) as partial:
        yield partial


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``, which gets this name when it is whole and on disk, and takes no other's place.

    Raises:
        FileExistsError: where there is a file already, before anything is written
        FileNotFoundError: where there is no such folder
        WriteError: see `replaced_file`
    """
    require_free(path)
    with _written(path, path.with_name(f"{path.name}.{os.getpid()}.part"), _link) as partial:
        yield partial


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text in UTF-8; see `replaced_file`."""
    with replaced_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def new_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 into a file that takes no other's place; see `new_file`."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def numbered(path: Path) -> Iterator[Path]:
    """The names of a file and of what takes no other's place: ``report.html``, ``report_1.html``, …"""
    yield path
    yield from (path.with_stem(f"{path.stem}_{k}") for k in itertools.count(1))


def make_folder(path: Path) -> None:
    """Make a folder that does not exist, and those above it.

    Raises:
        FileExistsError: where there is one
        WriteError: for every other error of the system
    """
    try:
        path.mkdir(parents=True)
        flush(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise WriteError(path, error) from error


def require_free(path: Path) -> None:
    """Raise the errors of `new_file`."""
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another file, nothing is overwritten.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} for {path.name}; make it first.")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        # what a file system says that cannot do it for folders
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(file)


def _link(partial: Path, path: Path) -> None:
    """Give a file a name that is free; a renaming would take the place of another file."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # a file system without links: an empty file holds the place
        path.touch(exist_ok=False)
        os.replace(partial, path)


@contextmanager
def _written(path: Path, partial: Path, name: Callable[[Path, Path], None]) -> Iterator[Path]:
    try:
        yield partial
        flush(partial)
        name(partial, path)
        flush(path.parent)
    except FileExistsError:
        raise FileExistsError(f"{path} was made by somebody else meanwhile; nothing is overwritten.") from None
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        with suppress(OSError):  # of a folder that is not, or of one that has become read-only
            partial.unlink(missing_ok=True)
