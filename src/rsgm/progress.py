"""Signs of life from what takes more than two seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm
from typing_extensions import override

T = TypeVar("T")
#: seconds that need no sign of life
_PATIENCE = 2.0

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


class _Bar(tqdm):
    """A bar that ends at its total, beyond which tqdm knows none and the form of ours has no number to show."""

    @override
    def update(self, n: float = 1) -> bool | None:
        return super().update(min(n, self.total - self.n))


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
    return _Bar(
        total=total,
        desc=what,
        unit=unit,
        bar_format=form,
        delay=_PATIENCE,
        mininterval=pause,
        miniters=0,  # a sign also where nothing is done for long
        smoothing=0,  # what is left is estimated from all that was done
        leave=False,
        disable=not _VISIBLE.get(),
    )


def each(items: Iterable[T], total: int, what: str, unit: str) -> Iterator[T]:
    """The items one after the other, with a `bar` of those that are done."""
    with bar(what, total, unit) as shown:
        for item in items:
            yield item
            shown.update()


def say(text: str) -> None:
    """A line on stderr, where bars are `visible`."""
    if _VISIBLE.get():
        tqdm.write(text, file=sys.stderr)


@contextmanager
def patience(text: str) -> Iterator[None]:
    """A line on stderr if this block, which cannot say how far it is, takes more than two seconds."""
    timer = threading.Timer(_PATIENCE, print, [text], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def duration(seconds: float) -> str:
    """A length of time as one would say it.

    Example:
        >>> [duration(seconds) for seconds in (0.3, 42, 100, 4000, 200000)]
        ['1 s', '42 s', '2 min', '1 h 7 min', '2 d 7 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
