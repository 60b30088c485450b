"""One run of a sweep: its name, its command, and what it depends on."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One run of ``train.py``.

    Arguments:
        case: what it is trained on, by its name in the file
        method: with what, by its name in the file
        settings: of the grid or of the search, by key
        seed: of the run, and of its data
        config: the files that ``--config`` names
        overrides: all further keys of the command line, those of ``settings`` among them
        cpus: cores, each with a thread
        gpus: devices
        contents: of the files of ``config``
        parts: trials of other methods, the same case and seed, whose checkpoints it mixes: all candidates of each
    """

    case: str
    method: str
    settings: Mapping[str, Any]
    seed: int
    config: tuple[str, ...]
    overrides: Mapping[str, Any]
    cpus: int = 1
    gpus: float = 0
    contents: Any = field(default=None, repr=False)
    parts: tuple[Trial, ...] = field(default=(), repr=False)

    @cached_property
    def key(self) -> str:
        """What the file calls it: case, method, settings and seed, fit to name a folder."""
        settings = "-".join(f"{key.rpartition('.')[2]}={as_text(value)}" for key, value in self.settings.items())
        if len(settings) > 100:  # file systems end names at 255
            settings = f"{settings[:91]}-{_digest(settings)}"
        parts = [self.case, self.method, settings, f"seed{self.seed}"]
        return "-".join(re.sub(r"[^\w=.+-]+", "_", part) for part in parts if part)

    @cached_property
    def digest(self) -> str:
        """Eight digits of what the run depends on: the contents of its files, but for comments, overrides and parts."""
        given = [self.contents, self.overrides, self.seed]
        if self.parts:
            given.append([part.digest for part in self.parts])
        return _digest(json.dumps(given, sort_keys=True, default=str))

    @property
    def name(self) -> str:
        """The name of the run: with another digest it is another run."""
        return f"{self.key}-{self.digest}"

    @property
    def arguments(self) -> list[str]:
        """Those of ``train.py``, but for the seed and the run's folder."""
        given = [f"--{key}={as_text(value)}" for key, value in self.overrides.items()]
        return [*(f"--config={path}" for path in self.config), *given]

    @property
    def shown(self) -> str:
        """The arguments as a shell takes them."""
        methods = ", ".join(dict.fromkeys(f"best.ckpt of {part.method}" for part in self.parts))
        mixed = [f"--model.models=[{methods}]"] if methods else []
        return shlex.join([*self.arguments, *mixed]).replace("--config=", "--config ")


@dataclass(frozen=True)
class Group:
    """A method on a case: its candidates, which differ in their settings, each with a trial for every seed."""

    case: str
    method: str
    candidates: tuple[tuple[Trial, ...], ...]


def as_text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
