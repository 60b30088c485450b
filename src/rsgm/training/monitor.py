"""What is said of a run while it lasts: curves beside the loss, what it will do, and how long that takes."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from rsgm.data import ManifoldData
from rsgm.progress import duration

#: steps, or seconds, after which the rest of a run is estimated; seconds that are left and worth telling
_STEPS, _SECONDS, _SHORT = 50, 10.0, 2.0


class Curves(Callback):
    """Logs, wherever the loss is logged, the learning rate, the gradient's norm and the steps per second.

    ``train/lr`` is that of the step, with ``/1`` and so on for further groups of parameters; ``train/gradient_norm`` is
    Euclidean, over all parameters and before clipping; ``train/steps_per_second`` is since the last of these steps, by
    the wall, without validation.
    """

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter(), trainer.global_step

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # from the start of the next step on
        self._since = time.perf_counter(), trainer.global_step

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not trainer.log_every_n_steps or not pl_module.logs:
            return
        groups = optimizer.param_groups
        found: dict[str, Any] = {f"train/lr{f'/{k}' if k else ''}": group["lr"] for k, group in enumerate(groups)}
        found["train/gradient_norm"] = gradient_norm(optimizer) / _scale(trainer, optimizer)
        now, (then, first) = time.perf_counter(), self._since or (math.nan, 0)
        if trainer.global_step > first:
            found["train/steps_per_second"] = (trainer.global_step - first) / (now - then)
            self._since = now, trainer.global_step
        pl_module.log_dict(found)


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """The Euclidean norm of the gradients of all of an optimiser's parameters, as one tensor on their device."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros(())


def _scale(trainer: Trainer, optimizer: Optimizer) -> float:
    """Of the gradients of 16-mixed training, where a fused optimiser has not yet divided by it."""
    scaled = trainer.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False)
    return trainer.scaler.get_scale() if scaled else 1.0


class Outlook(Callback):
    """Says at the start of a run what it will do, and after 50 steps, or 10 seconds, for how long."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None
        self._told = True

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.print(f"{_model(trainer)}\n{_course(trainer)}.")
        self._since, self._told = None, math.isinf(trainer.estimated_stepping_batches)

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._told:
            return
        if self._since is None:  # the first step is slow
            if trainer.global_step:
                self._since = time.perf_counter(), trainer.global_step
            return
        if trainer.global_step - self._since[1] >= _STEPS or time.perf_counter() - self._since[0] >= _SECONDS:
            self._tell(trainer, pl_module)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was trained before a validation is enough to judge by."""
        if not self._told and self._since is not None:
            self._tell(trainer, pl_module)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (start, first), step = self._since, trainer.global_step
        if step == first:
            return
        self._told = True
        left = trainer.estimated_stepping_batches - step
        seconds = left * (time.perf_counter() - start) / (step - first)
        if seconds > _SHORT:
            pl_module.print(f"About {duration(seconds)} to go for the {left:,} steps that are left, beside validation.")


def _model(trainer: Trainer) -> str:
    """What is learned, and from how much."""
    model, data = trainer.lightning_module.model, trainer.datamodule
    text = f"{type(model).__name__} on {model.manifold}, {sum(p.numel() for p in model.parameters()):,} parameters"
    if not isinstance(data, ManifoldData):
        return text
    train = "fresh points of a law" if data.fresh else f"{len(data.train.points):,} points"
    batch = data.batch_size * trainer.accumulate_grad_batches
    return f"{text}; {train} to train on, {batch:,} a step, and {len(data.val.points):,} to validate on"


def _course(trainer: Trainer) -> str:
    """How long it is trained, and when it is validated."""
    total, done = trainer.estimated_stepping_batches, trainer.global_step
    text = "Until it is stopped" if math.isinf(total) else f"{int(total):,} steps"
    if done:
        text += f", of which {done:,} are done"
    if not trainer.enable_validation:
        return f"{text}, never validated"
    interval = trainer._val_check_time_interval
    if interval is not None:
        return f"{text}, validated every {duration(interval)} and at the end"
    batches = trainer.val_check_batch
    if math.isinf(batches):
        return f"{text}, validated after each epoch and at the end"
    if batches == trainer.num_training_batches:
        batches *= trainer.check_val_every_n_epoch or 1
    every = batches / trainer.accumulate_grad_batches
    return f"{text}, validated {f'every {every:,.0f} and ' if every < total else ''}at the end"
