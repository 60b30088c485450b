"""Files that take no other's place, and are never there in part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``, which takes that name when it is whole, and none that exists.

    Raises:
        FileExistsError: where there is a file already, before anything is written
        FileNotFoundError: where there is no such folder
    """
    require_free(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        # unlike a renaming, a link does not take the place of another file
        os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def require_free(path: Path) -> None:
    """Raise the errors of `new_file`."""
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another file, nothing is overwritten.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} for {path.name}; make it first.")
