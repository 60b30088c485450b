"""What happens beside training: averaged weights, checkpoints that survive a kill, figures, the record of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from rsgm.data import ManifoldData
from rsgm.models import write_tensors


class EMA(WeightAveraging):
    r"""An exponential moving average of the weights, used for validation and written into checkpoints.

    After k steps its decay is :math:`\min(d, (1 + k) / (10 + k))`: a fixed decay of 0.999 would leave 8 % of the
    untrained weights in the average of 2,500 steps.

    References: Song et al. 2021, arXiv:2011.13456, whose code has this warm-up.

    Arguments:
        decay: d, of the average, per step

    Raises:
        ValueError: for a decay outside [0, 1]
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay must be in [0, 1], found {decay}.")
        super().__init__(use_buffers=False)
        self.decay = decay
        self._swapped = False
        self._tensors: tuple[list[Tensor], list[Tensor]] = [], []
        self._steps = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the weights in the precision that they are trained in, not in the one that they were made in."""
        trainer.precision_plugin.convert_module(pl_module)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the weights, and what ``fit_points`` has fitted since the copy was made."""
        self._copy_buffers(pl_module)
        averages, weights = self._average_model.module.parameters(), pl_module.parameters()
        self._tensors = [value.detach() for value in averages], [value.detach() for value in weights]
        self._steps = int(self._average_model.n_averaged)

    def _copy_buffers(self, pl_module: LightningModule) -> None:
        """Those of the model, which are not averaged: they are wanted where the average is, not at each step."""
        for copied, buffer in zip(self._average_model.module.buffers(), pl_module.buffers(), strict=True):
            if copied.shape != buffer.shape:
                copied.resize_(buffer.shape)
            copied.copy_(buffer)

    @override
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        # torch's `AveragedModel.update_parameters` gathers and groups the weights anew, 0.3 ms at each step, and asks
        # the device for the number of steps
        if trainer.global_step > self._latest_update_step:
            averages, weights = self._tensors
            if self._steps:
                self._average(averages, weights, self._steps)
            else:
                torch._foreach_copy_(averages, weights)
            self._steps += 1
            self._average_model.n_averaged.fill_(self._steps)
            self._latest_update_step = trainer.global_step

    def _average(self, averages: list[Tensor], weights: list[Tensor], steps: int) -> None:
        torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place of the weights."""
        self._copy_buffers(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)
        self._swapped = True

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self._swapped = False

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is not None and not self._swapped:
            self._copy_buffers(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._copy_buffers(pl_module)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the weights back where validation was interrupted, before `LastCheckpoint` writes them."""
        if self._swapped:
            self.on_validation_epoch_end(trainer, pl_module)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: whatever stops the machine leaves the old checkpoint or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write, flush to disk, rename."""
        write_tensors(checkpoint, Path(path))


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` current: every so many steps, after each epoch, and where training is interrupted.

    Weights that are not finite are never written: the file keeps the last good ones.

    Arguments:
        path: the file
        every: steps between two writes
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._saved = -1
        #: whether a batch was trained on, so that all of the state that a run may have gone on from was of use
        self.begun = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write, if it is time, but not between an epoch and its validation, which a resumed run would not repeat."""
        self.begun, step = True, trainer.global_step
        if step and step % self.every == 0 and not trainer.is_last_batch and not trainer.should_stop:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Write, so that a resumed run knows the best value so far and does not replace ``best.ckpt`` by less."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._saved = -1
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write, so that a run which ends by ``max_epochs`` or ``max_time`` leaves its last step."""
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Write, unless the last step did; a model fitted without steps is written here."""
        if self._saved < 0:
            self._save(trainer)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write without waiting for the other processes, one of which may be gone.

        A validation is repeated as a whole by the run that goes on. That at the end of a run it would not repeat: the
        file stays as it is, unless there is none. Before the first batch there is nothing new, or what was restored in
        part.
        """
        if not self.begun or not trainer.global_step or not trainer.is_global_zero:
            return
        loop = trainer.fit_loop.epoch_loop
        if trainer.validating:
            ended = trainer.global_step == trainer.max_steps or trainer.current_epoch + 1 == trainer.max_epochs
            if ended and self.path.exists():
                return
            progress = loop.val_loop.batch_progress
            progress.reset()
            progress.increment_ready()
            progress.increment_started()
        elif loop.batch_progress.total.ready > loop.batch_progress.total.processed and not loop._should_accumulate():
            # within a step, which Lightning takes for done when it counts the steps of the curve
            loop._batches_that_stepped -= 1
        if self._is_due(trainer):
            _log(trainer)
            contents = trainer._checkpoint_connector.dump_checkpoint()
            trainer.strategy.save_checkpoint(contents, self.path)
            self._saved = trainer.global_step

    def _save(self, trainer: Trainer) -> None:
        if self._is_due(trainer):
            _log(trainer)
            trainer.save_checkpoint(self.path)
            self._saved = trainer.global_step

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether there is something to write."""
        return self._saved != trainer.global_step and trainer.lightning_module.model.is_finite()


def _log(trainer: Trainer) -> None:
    """Write what is to be logged up to this step, which a run that goes on from here does not log again."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    if progress.processed > progress.completed:  # of this step Lightning does it after the callbacks
        trainer._logger_connector.update_train_step_metrics()
    for logger in trainer.loggers:
        logger.save()


class FinalValidation(Callback):
    """Validates at the last step of a run, wherever in an epoch it is: ``best.ckpt`` is what was validated as best."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so, where there is no other validation."""
        batches, first = trainer.max_steps * trainer.accumulate_grad_batches, trainer.val_check_batch
        if trainer.enable_validation and not trainer.global_step and first and 0 < batches < first:
            rank_zero_info(
                f"max_steps={trainer.max_steps} ends this run before the first of its regular validations, which are "
                f"every {first} batches: it is validated once, at its end."
            )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ask for it in the way in which Lightning validates a run that is stopped early."""
        last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or last_epoch:
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1


class Cost(Callback):
    """Adds to each checkpoint what training, without validation, has cost: seconds, steps and points.

    The points are those of the train part, or all that were drawn from a stream of fresh ones; None of a plain loader.
    """

    def __init__(self) -> None:
        self.spent = {"wall": 0.0, "cpu": 0.0}
        self._start: tuple[float, float] | None = None

    @override
    def on_train_start(self, *_: Any) -> None:
        self._start = time.perf_counter(), time.process_time()

    @override
    def on_validation_start(self, *_: Any) -> None:
        self._stop()

    @override
    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.training or trainer.validating:
            self.on_train_start()

    @override
    def on_train_end(self, *_: Any) -> None:
        self._stop()

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._start is not None:
            self._stop()
            self.on_train_start()
        steps, data, points = trainer.global_step, trainer.datamodule, None
        if isinstance(data, ManifoldData):
            drawn = steps * trainer.accumulate_grad_batches * data.batch_size
            points = drawn if data.fresh else len(data.train.points)
        checkpoint.setdefault("rsgm", {})["training"] = {**self.spent, "steps": steps, "points": points}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count on from the interrupted run."""
        training = checkpoint["rsgm"]["training"]
        self.spent = {clock: float(training[clock]) for clock in ("wall", "cpu")}

    def _stop(self) -> None:
        if self._start is not None:
            self.spent["wall"] += time.perf_counter() - self._start[0]
            self.spent["cpu"] += time.process_time() - self._start[1]
            self._start = None
