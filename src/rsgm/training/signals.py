"""Signals that end a run: at the end of the step in flight, in all processes at the same one, or at once elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import distributed
from typing_extensions import Self, override

#: what ends a run: `kill` and job schedulers, Ctrl-C, a terminal that is gone
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(SystemExit):
    """A signal has asked for the end.

    Arguments:
        number: of the signal; the exit status is 128 more
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name
        self.remedy = "Nothing is saved; start again."


class Signals:
    """Within this context `ENDING` raise `Stopped` at once, or, while they are ``held``, are kept in ``received``.

    What the process was told to ignore, as `nohup` does, stays ignored. A second Ctrl-C is never held.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.held = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may
            found = {number: signal.getsignal(number) for number in ENDING}
            self._former = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}
            self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals, also from whoever has taken them meanwhile."""
        for number in self._former:
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise `Stopped` where a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # nothing is waited for here: not for a lock, not for another process
        again, self.received = self.received is not None, self.received or number
        if (number == signal.SIGINT) if again else (not self.held):
            raise Stopped(self.received)


class Interruption(Checkpoint):
    """Raises `Stopped` where a run can go on bit for bit: after the step in flight, or within its validation.

    It is a `Checkpoint` for its place behind the others: averages are taken and files are written when it is called.
    In a run of several processes they agree after each step, by the largest number that any of them was sent.
    Lightning's own handler, which waits for the other processes within itself, and may wait for ever, is not used.

    Arguments:
        signals: to be looked at
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.longest = 0.0
        self._start = 0.0
        self._number = 0

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        connector = trainer._signal_connector
        register = type(connector).register_signal_handlers

        def register_ours() -> None:
            register(connector)
            self.signals.install()

        connector.register_signal_handlers = register_ours

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.held = True

    @override
    def on_train_batch_start(self, *_: Any) -> None:
        self._start = time.monotonic()

    @override
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        """Stop, but not between a step and its validation, which a run that goes on would not repeat."""
        self._timed()
        self._agree(trainer)
        validates = trainer.val_check_batch and (index + 1) % trainer.val_check_batch == 0
        if not (trainer.is_last_batch or trainer.should_stop or validates):
            self._stop()

    @override
    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self._start = time.monotonic()
        self._agree(trainer)
        self._stop()
        # the weights do not change within a validation, of which a run that goes on repeats the whole
        self.signals.held = trainer.world_size > 1
        self.signals.check()

    @override
    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.signals.held = True
        self._timed()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._agree(trainer)
        self._stop()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.held = False

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.held = False

    def _agree(self, trainer: Trainer) -> None:
        """Learn what any of the processes was sent."""
        self._number = self.signals.received or self._number
        if trainer.world_size > 1:
            number = torch.tensor([self._number], device=trainer.strategy.root_device)
            distributed.all_reduce(number, op=distributed.ReduceOp.MAX)
            self._number = int(number)

    def _stop(self) -> None:
        if self._number:
            self.signals.received = self._number
            raise Stopped(self._number)

    def _timed(self) -> None:
        self.longest = max(self.longest, time.monotonic() - self._start)
