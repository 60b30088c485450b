"""The processes of one run: none outlives the others, and none waits for one that is gone."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from typing_extensions import Self

from rsgm.training.signals import ENDING, Signals

#: seconds that a process has to end, beside its longest step, once it was asked to or another one is gone
GRACE = 10.0
#: seconds between two looks
_POLL = 0.5


class ProcessLost(RuntimeError):
    """Another process of the run has ended, without which it cannot go on."""


class Watch:
    """Within this context a thread sees to it that this process of several ends when it has to.

    The main thread may be in a call that waits for another process, where no handler of a signal is run. So the thread
    reads signals as they come, looks after the processes that this one has started, and after the one that has started
    this one. Once a signal has come or one of them is gone, the main thread has so many seconds to save and to end;
    then the process ends without it, and those that it has started with it.

    Lightning's own observer would kill this process, while it saves, as soon as another one has ended.

    Arguments:
        trainer: of the run; with one process there is nothing to watch
        signals: of this process
        longest: the seconds of the longest step so far
        starter: the process of the run that has started this one; None where a launcher has
    """

    def __init__(self, trainer: Trainer, signals: Signals, longest: Callable[[], float], starter: int | None) -> None:
        self._launcher = trainer.strategy.launcher
        self._signals, self._longest, self._starter = signals, longest, starter
        self._many = trainer.world_size > 1 and threading.current_thread() is threading.main_thread()
        self._children: list[subprocess.Popen[bytes]] = []
        self._needed = True
        self._done = threading.Event()
        self._deadline: float | None = None
        self._asked: int | None = None

    def __enter__(self) -> Self:
        if self._many:
            self._told, self._tell = os.pipe()
            os.set_blocking(self._tell, False)
            os.set_blocking(self._told, False)
            self._former = signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="processes", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the processes that this one has started, but not for ever."""
        if not self._many:
            return
        self._adopt()
        deadline = time.monotonic() + GRACE / 2
        for child in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._done.set()
        self._thread.join()
        signal.set_wakeup_fd(self._former)
        os.close(self._tell)
        os.close(self._told)

    def part(self) -> None:
        """The others are no longer needed, however they end."""
        self._needed = False

    def lost(self, error: RuntimeError) -> str | None:
        """Which process is gone, as a sentence; None where an error, of this one, has another reason."""
        deadline = time.monotonic() + GRACE / 2
        while self._many and time.monotonic() < deadline:
            self._adopt()
            found = self._gone()
            if found is not None:
                return found
            time.sleep(_POLL / 5)
        # of processes that a launcher has started, only a broken connection tells
        return "another process of the run has ended" if re.search("onnection (closed|reset)", str(error)) else None

    def status(self) -> int | None:
        """The signal that one of the processes ended by in good order, as all of them are to."""
        found = {child.poll() for child in self._children}
        return next((int(number) for number in ENDING if 128 + number in found), None)

    def _watch(self) -> None:
        while not self._done.is_set():
            readable, _, _ = select.select([self._told], [], [], _POLL)
            numbers = os.read(self._told, 64) if readable else b""
            self._adopt()
            asked = any(number in numbers for number in ENDING)
            if self._deadline is None and (asked or self._gone() is not None):
                self._deadline = time.monotonic() + GRACE + self._longest()
                self._asked = next((number for number in ENDING if number in numbers), None)
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._give_up()

    def _adopt(self) -> None:
        """Take the processes from Lightning's observer, which has nobody to observe then."""
        if isinstance(self._launcher, _SubprocessScriptLauncher):
            self._children += self._launcher.procs
            self._launcher.procs.clear()

    def _gone(self) -> str | None:
        for rank, child in enumerate(self._children if self._needed else (), 1):
            if child.poll():
                return f"process {rank} of the run has ended with status {child.returncode}"
        if self._starter is not None and os.getppid() != self._starter:
            return "the process of the run that has started this one has ended"
        return None

    def _give_up(self) -> None:
        """End, whatever the main thread is waiting for."""
        asked = self._asked or self._signals.received or self.status()
        why = signal.Signals(asked).name if asked else self._gone()
        print(
            f"Ended after {GRACE + self._longest():.0f} s, in which this process was waiting for another one ({why}); "
            "last.ckpt is as it was last written. --ckpt_path last goes on.",
            file=sys.stderr,
            flush=True,
        )
        for child in self._children:
            if child.poll() is None:
                child.kill()
        os._exit(128 + asked if asked else 1)
