"""Training: the only LightningModule, which wraps every model that learns by gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Adam, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from rsgm.arguments import require_factory, require_instance
from rsgm.data import ManifoldData
from rsgm.models import (
    CheckpointError,
    GenerativeModel,
    NonFiniteLossError,
    Weights,
    load,
    record,
    require_weights,
    weights_in,
    written_by,
)
from rsgm.seeding import StepCounter, seed_from, set_seed
from rsgm.training.callbacks import EMA, Cost
from rsgm.training.learning import LearningRate, WarmupCosine
from rsgm.training.monitor import Curves

_REMEDIES = "lower the learning rate, raise the process's eps, or clip gradients (--trainer.gradient_clip_val=1)."

#: steps between two looks at the loss of a run that logs nothing
_CHECK_EVERY = 50

OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]
Batch = Tensor | Sequence[Tensor | None]

#: what Lightning restores of a checkpoint, or, some of it, leaves out without a word
_STATE = {
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}


class Training(LightningModule):
    """How a model is learned by gradient: what a `pytorch_lightning.Trainer` fits, validates and tests.

    A batch is a tensor of points, or points, their context and their weights, of which the latter may be left out, as a
    `torch.utils.data.DataLoader` of a `TensorDataset` yields them; or it comes from a `rsgm.ManifoldData`. By their
    weights the points of a batch are drawn from it once more, so that a batch should be of many. Every random number of
    training is a function of (seed, step, rank), which makes an interrupted run continue bit for bit.

    Arguments:
        model: what is learned
        optimizer: factory of the optimiser from the parameters; None for Adam at a rate of 2e-4
        learning_rate: factor on its learning rate over the run
        averaging: decay of the average of the weights, with which the model is validated, saved and left at the end
            (see `rsgm.training.EMA`); None for the weights of the last step

    Raises:
        TypeError: for what is not a model, and an optimiser in the place of its factory
        ValueError: for a model without parameters, which is fitted by ``fit_points``

    Example:
        >>> import rsgm
        >>> Training(rsgm.RSGM(rsgm.Sphere(2)), optimizer=partial(Adam, lr=1e-3)).averaging
        0.999
    """

    def __init__(
        self,
        model: GenerativeModel,
        optimizer: OptimizerFactory | None = None,
        learning_rate: LearningRate = WarmupCosine(),
        averaging: float | None = 0.999,
    ) -> None:
        super().__init__()
        if not require_instance(model, GenerativeModel, "Training: model").trainable:
            raise ValueError(
                f"Training: {type(model).__name__} learns nothing by gradient; call its fit_points(train, val), or "
                "rsgm.fit, and no Trainer is needed."
            )
        if averaging is not None:
            EMA(averaging)  # which refuses what is no decay, here and not after a run folder is made
        self.model, self.learning_rate, self.averaging = model, learning_rate, averaging
        self.optimizer = (
            partial(Adam, lr=2e-4, fused=True)
            if optimizer is None
            else require_factory(optimizer, "Training: optimizer", "Adam")
        )
        self.seed: int | None = None
        self._position = StepCounter()
        self._goes_on_at: int | None = None
        self._validation: dict[str, float] | None = None

    def configure_callbacks(self) -> list[Callback]:
        """The averaged weights, what training costs and, with a logger, `Curves`; nothing where nothing is trained."""
        if self.trainer.state.fn != "fit":
            return []
        return [
            Cost(),
            *([Curves()] if self.trainer.loggers else []),
            *([] if self.averaging is None else [EMA(self.averaging)]),
        ]

    def setup(self, stage: str) -> None:
        """Fail before training, not at its first checkpoint, where the model cannot be described."""
        _ = self.model.description
        self.require_precision(self.trainer.precision)

    def require_precision(self, precision: str) -> None:
        """Raise a ValueError for numbers, named as by ``Trainer.precision``, that are too coarse for this model."""
        if precision in ("32-true", "64-true"):
            return
        if not precision.endswith("mixed"):
            raise ValueError(
                f"trainer.precision is {precision}, too coarse for an average of weights to move; expected "
                "32-true, 64-true, or, in flat space, bf16-mixed or 16-mixed."
            )
        self.model.manifold.require_vector_space(
            f"trainer.precision is {precision}, and 16 bits are too coarse for points of a curved space: use 32-true"
        )

    def on_fit_start(self) -> None:
        """Fix the seed, and fit what is fitted in one pass."""
        if self.seed is None:
            self.seed = torch.initial_seed() % 2**63
        if self.model.needs_points:
            train, val, weights = self._points()
            self.model.fit_points(train.to(self.device), val.to(self.device), self.seed, weights)

    def on_train_start(self) -> None:
        """Begin where the checkpoint says, if there is one.

        Raises:
            CheckpointError: where Lightning has found another place in it
        """
        if self._goes_on_at not in (None, self.global_step):
            raise CheckpointError(
                f"The checkpoint is of step {self._goes_on_at}, and training would go on at step {self.global_step}: "
                "its loops are damaged."
            )
        self._goes_on_at = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make every draw of this step a function of (seed, step, rank)."""
        if batch_idx == 0:  # of a loader of one's own nobody has looked at the points
            self.model.require_points(unpack(batch)[0], "a batch of training")
        seed = seed_from("step", self.seed, *self._position(self.global_step), self.global_rank)
        set_seed(seed, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss; checked at the first step and where `logs`, for both cost time."""
        x, context, weight = unpack(batch)
        if weight is not None:
            if not bool(weight.any()):
                raise ValueError("a batch of training: all weights are zero, expected some above zero; make it larger.")
            # drawn as often as they count: a loss may compare its points with others of the batch
            rows = torch.multinomial(weight, len(x), replacement=True)
            x, context = x[rows], None if context is None else context[rows]
        terms = {name: value.mean() for name, value in self.model.loss(x, context).items()}
        loss = terms["loss"]
        if self.logs or not self.global_step:
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"The loss is {loss.item()} at step {self.global_step}; {_REMEDIES}")
            means = {name: value.detach() for name, value in terms.items()}
            self.model.check(means, self.global_step)
            if self.trainer.log_every_n_steps:
                logged = {f"train/{name}": value for name, value in means.items()}
                self.log_dict(logged, prog_bar=True, batch_size=len(x))
        return loss

    @property
    def logs(self) -> bool:
        """Whether Lightning writes what this step logs: each ``log_every_n_steps``-th, and the last.

        With 0, which is Lightning's "off", it is every 50th, at which the loss is checked.
        """
        step = self.global_step + 1
        return step % (self.trainer.log_every_n_steps or _CHECK_EVERY) == 0 or step == self.trainer.max_steps

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and not self.model.is_finite():
            raise NonFiniteLossError(f"The weights are not finite at step {self.global_step}; {_REMEDIES}")
        self._log_likelihood("val", batch)

    @override
    def on_validation_epoch_end(self) -> None:
        """Note its numbers, which all processes have together: one that is ended writes them by itself."""
        if not self.trainer.sanity_checking:
            found = self.trainer.callback_metrics
            self._validation = {name[4:]: float(value) for name, value in found.items() if name.startswith("val/")}

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._log_likelihood("test", batch)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The log-density of points, as `GenerativeModel.log_prob`."""
        return self.model.log_prob(x, context)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The log-density of each point."""
        return self(*unpack(batch)[:2])

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser with its learning-rate schedule."""
        optimizer = self.optimizer(self.model.parameter_groups())
        if isinstance(optimizer, SparseAdam):
            raise ValueError("training.optimizer is SparseAdam, and no model here has sparse gradients; choose Adam.")
        rate, total = self.learning_rate, self.trainer.estimated_stepping_batches
        if rate.needs_total and math.isinf(total):
            rank_zero_warn(
                f"The length of this run is not known, so {rate} does not lower the learning rate; for its descent set "
                "trainer.max_steps or trainer.max_epochs."
            )
        # a plain function: LambdaLR would write the attributes of any other callable into the checkpoint
        scheduler = LambdaLR(optimizer, lambda step: rate(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record of the model, of its data where they can be built again, and of its last validation."""
        more: dict[str, Any] = {"seed": self.seed, "validation": self._validation}
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ManifoldData):
            more |= data.record()
        checkpoint.setdefault("rsgm", {}).update(record(self.model, **more))

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Training:
        """A checkpoint's model in a `Training` of the given arguments: its own are not in the file."""
        return super().load_from_checkpoint(checkpoint_path, *args, **{"model": load(checkpoint_path), **kwargs})

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with its seed.

        Raises:
            CheckpointError: for weights of another model, or of another version of this one, and where training is to
                go on, for one that does not say from where, and for other data
        """
        with written_by(checkpoint, "The checkpoint"):
            require_weights(self.model, weights_in(checkpoint))
            if self._trainer is not None and self.trainer.state.fn == "fit":
                _require_state(checkpoint)
                self._goes_on_at = checkpoint["global_step"]
                self._validation = checkpoint["rsgm"].get("validation")
        if self._goes_on_at is not None and isinstance(self.trainer.datamodule, ManifoldData):
            require_same_data(checkpoint, self.trainer.datamodule)
        self.seed = checkpoint["rsgm"].get("seed")

    def _log_likelihood(self, part: str, batch: Batch) -> None:
        x, context, weight = unpack(batch)
        self.model.require_points(x, f"a batch of {part}")
        result = self.model.likelihood(x, context)
        # a batch counts in the mean what its points do together
        total: Any = len(x) if weight is None else float(weight.sum())
        nll = -result.value.mean() if weight is None else -(result.value * weight).sum() / (total or 1.0)
        self.log(f"{part}/nll", nll, prog_bar=True, batch_size=total, sync_dist=True)
        self.log(f"{part}/nfe", float(result.nfe), batch_size=len(x), sync_dist=True)

    def _points(self) -> tuple[Tensor, Tensor, Weights | None]:
        """The training points, the validation points and their weights; of a plain loader those of training twice."""
        data = self.trainer.datamodule
        if isinstance(data, ManifoldData):
            weights = data.weights_to_fit()
            weights = None if weights is None else tuple(part.to(self.device) for part in weights)
            return data.train.points, data.val.points, weights
        self.trainer.fit_loop.setup_data()
        points, _, weights = zip(*map(unpack, self.trainer.train_dataloader), strict=True)
        train, weight = (None if part[0] is None else torch.cat(part).cpu() for part in (points, weights))
        # each process has its share, and all need the same model
        train, weight = self.trainer.strategy.broadcast((train, weight))
        return train, train, None if weight is None else (weight.to(self.device), weight.to(self.device))


def unpack(batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The points of a batch, their context and their weights, if it has them.

    Raises:
        ValueError: for a batch of another form
    """
    if isinstance(batch, Tensor):
        return batch, None, None
    if isinstance(batch, Sequence) and 1 <= len(batch) <= 3 and isinstance(batch[0], Tensor):
        return (*batch, None, None)[:3]
    found = type(batch).__name__ + (f" of {len(batch)}" if isinstance(batch, Sequence) else "")
    raise ValueError(f"expected a batch of points, or of points and their context, found {found}; weights are third.")


def require_same_data(checkpoint: dict[str, Any], data: ManifoldData) -> None:
    """Raise a CheckpointError where a run would go on with other data or in other parts: its test points would be
    among those that were trained on."""
    expected = checkpoint["rsgm"].get("fingerprint")
    if expected not in (None, data.fingerprint):
        raise CheckpointError(
            "The data, or their parts, are not those that the checkpoint was trained on, so that test points may have "
            f"been training points: found the fingerprint {data.fingerprint}, expected {expected}. Go on with the "
            "file, split and seed of then (--data.seed is that of --seed_everything unless it is given), or start "
            "without the checkpoint; rsgm.fit(rsgm.load(FILE), points) goes on with any points."
        )


def _require_state(checkpoint: dict[str, Any]) -> None:
    """Raise a ValueError, unless there is a state of each kind, of one optimiser."""
    for name, kind in _STATE.items():
        found = checkpoint.get(name)
        if not isinstance(found, kind) or (kind is list and len(found) != 1):
            raise ValueError(
                f"found {found!r:.60} for its {name}, so that no training can go on from it; train.py and "
                "Trainer.save_checkpoint write one that has it."
            )
    for state in checkpoint["callbacks"].values():
        for name in ("best_model_score", "current_score", "kth_value"):  # of Lightning's ModelCheckpoint
            score = state.get(name) if isinstance(state, dict) else None
            if not (score is None or (isinstance(score, Tensor) and score.numel() == 1)):
                raise ValueError(f"found {score!r:.60} for {name}, expected a number in a tensor.")
