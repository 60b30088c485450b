"""Signs of life from what takes more than two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

_VISIBLE: ContextVar[bool] = ContextVar("visible", default=False)


@contextmanager
def visible() -> Iterator[None]:
    """Within this block bars are drawn, on stderr, terminal or not. Elsewhere, as inside training, they would collide
    with Lightning's own."""
    token = _VISIBLE.set(True)
    try:
        yield
    finally:
        _VISIBLE.reset(token)


def bar(what: str, total: float, unit: str = "points") -> tqdm:
    """A bar that appears after two seconds and vanishes when it is done; use it as a context.

    Arguments:
        what: is being done
        total: of the units
        unit: what is counted
    """
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
    # a log holds every state of a bar
    pause = 0.5 if sys.stderr.isatty() else 10
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        bar_format=form,
        delay=2,
        mininterval=pause,
        miniters=0,  # a sign also where nothing is done for long
        smoothing=0,  # what is left is estimated from all that was done
        leave=False,
        disable=not _VISIBLE.get(),
    )
