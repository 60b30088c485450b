"""The configurations that come with the package, by name."""

from __future__ import annotations

import difflib
from pathlib import Path


def folder() -> Path:
    """Where they are: in the package where it is installed as a wheel, else at the top of its checkout."""
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def names() -> list[str]:
    """Of all of them, such as ``volcano_rsgm`` and ``trainer/ddp``; sweeps are not among them."""
    files = (file.relative_to(folder()).with_suffix("").as_posix() for file in folder().rglob("*.yaml"))
    return sorted((name for name in files if not name.startswith("sweep/")), key=lambda name: ("/" in name, name))


def find(name: str) -> str:
    """The file that a name means.

    Arguments:
        name: of a file; else of a configuration of the package, with or without ``configs/`` and ``.yaml``

    Raises:
        ValueError: neither
    """
    if Path(name).expanduser().is_file():
        return str(Path(name).expanduser())
    known = names()
    short = Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml")
    if short in known:
        return str(folder() / f"{short}.yaml")
    near = difflib.get_close_matches(short, known, 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"found no file {name}, seen from {Path.cwd()}, and no configuration of that name. Expected a YAML file, or "
        f"one of those that `rsgm configs` lists.{meant}"
    )


def about(name: str) -> str:
    """The first line of a configuration of the package, which says what it is."""
    with open(find(name), encoding="utf-8") as text:
        return text.readline().strip("# \n")
