"""What every generative model shares: all of Lightning's hooks, once."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rsgm.description import describe_call
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.dynamics import Dynamics
from rsgm.seeding import seed_from
from rsgm.training import LearningRate, WarmupCosine

_REMEDIES = "lower the learning rate, raise the process's eps, or clip gradients (--trainer.gradient_clip_val=1)."

#: steps between two looks at the loss of a run that logs nothing
_CHECK_EVERY = 50

OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]


class Latents(NamedTuple):
    """Draws of a latent variable, and the points made of them.

    Fields:
        z: ``(n, latent_dim)``
        x: ``(n, *manifold.shape)``
        reconstructed: whether each x stands for one of the points that were given
    """

    z: Tensor
    x: Tensor
    reconstructed: bool = False


class NonFiniteLossError(RuntimeError):
    """Training has diverged."""


class GenerativeModel(LightningModule, ABC):
    """A probability law on a manifold, learned from points.

    Final subclasses override `loss`, `sample` and `likelihood`, and nothing of Lightning; a model that is fitted
    in one pass overrides `fit_points` too. Every random number of training is a function of (seed, step, rank),
    which makes an interrupted run continue bit for bit.

    Arguments:
        manifold: where the points live
        optimizer: factory of the optimiser from the parameters; None for Adam at a rate of 2e-4
        learning_rate: factor on its learning rate over the run
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> GenerativeModel:
        """Remember the arguments, from which a checkpoint describes the model."""
        model = super().__new__(cls)
        object.__setattr__(model, "_arguments", (args, kwargs))
        return model

    def __init__(
        self,
        manifold: Manifold,
        optimizer: OptimizerFactory | None = None,
        learning_rate: LearningRate = WarmupCosine(),
    ) -> None:
        super().__init__()
        self.manifold, self.learning_rate = manifold, learning_rate
        self.optimizer = optimizer or partial(Adam, lr=2e-4, fused=True)
        self.seed: int | None = None
        self._description: dict[str, Any] | None = None
        # of a batch: optimiser steps before it, and its place among the batches of one step
        self._position = (-1, 0)

    # what a model is

    @abstractmethod
    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """Terms ``(B,)`` for a batch of points; ``"loss"`` is minimised, all are logged."""

    @abstractmethod
    def sample(self, n: int, context: Tensor | None = None, seed: int | None = None) -> Tensor:
        """``n`` points ``(n, *manifold.shape)``; equal for equal ``seed``, fresh without one."""

    @abstractmethod
    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The log-density of points of the manifold and what it cost."""

    def rough(self) -> GenerativeModel:
        """This law with log-densities that are cheaper and a little less exact, for samples, integrals and pictures;
        itself where there is nothing to save."""
        return self

    def lower_bound(self, x: Tensor, context: Tensor | None = None) -> LogProb | None:
        """A lower bound on the log-density, reported beside `likelihood`; None where there is none."""
        return None

    def latents(self, x: Tensor, seed: int | None = None) -> dict[str, Latents]:
        """Draws of the latent variable from each of its laws, as many as there are points x; none without one."""
        return {}

    def dynamics(self, x: Tensor, seed: int | None = None) -> Dynamics | None:
        """What happens to points x over time, and to noise on its way back; None where there is no time."""
        return None

    def parameter_groups(self) -> list[Any]:
        """What the optimiser learns: parameters, or groups of them with options of their own."""
        return [p for p in self.parameters() if p.requires_grad]

    def check(self, terms: dict[str, Tensor]) -> None:
        """Raise where the means of the terms of `loss`, whenever they are logged, say that training diverges."""

    def fit_points(self, train: Tensor, val: Tensor) -> None:
        """Fit in closed form before the first step; does nothing for models that learn by gradient."""

    def resolution(self) -> float | None:
        """The finest scale the density can resolve, in radians; None where there is no such limit."""
        return None

    def solver(self) -> dict[str, Any] | None:
        """How `likelihood` solves its ODE, for the record; None where there is none."""
        return None

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(p).all()) for p in self.parameters())

    # for users

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density ``(B,)`` in nats with respect to the Riemannian volume.

        Points and context may be on any device and of any dtype; one row of context stands for all points.

        Raises:
            ValueError: for points of the wrong shape or kind, that are not finite, or off the manifold by more than
                1e-4 (nearer ones are projected), and for another number of rows of context
        """
        if tuple(x.shape[1:]) != self.manifold.shape or not len(x):
            raise ValueError(f"log_prob: expected points (B, {self.manifold.shape}), found {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise ValueError(f"log_prob: expected points of floating-point numbers, found {x.dtype}; use x.double().")
        bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()[:, 0].tolist()
        if bad:
            rows = ", ".join(map(str, bad[:10]))
            raise ValueError(f"log_prob: {len(bad)} of {len(x)} points are not finite (rows {rows}); leave them out.")
        ok, reason = self.manifold.check_point_on_manifold(x, explain=True, atol=1e-4, rtol=1e-4)
        if not ok:
            raise ValueError(f"log_prob: the points are not on {self.manifold} ({reason}); project them with projx.")
        return self.likelihood(x.to(self.device), self.given(context, len(x))).value

    def given(self, context: Tensor | None, n: int) -> Tensor | None:
        """A context ``(n, features)`` on the model's device; one row ``(features,)`` or ``(1, features)`` for each.

        Raises:
            ValueError: for another number of rows
        """
        if context is None:
            return None
        rows = torch.atleast_2d(context).to(self.device)
        if rows.dim() != 2 or len(rows) not in (1, n):
            raise ValueError(f"expected a context of {n} rows, or of one for all, found {tuple(context.shape)}.")
        return rows.expand(n, -1)

    def generator(self, seed: int | None) -> torch.Generator:
        """A generator on the model's device, freshly seeded where ``seed`` is None."""
        generator = torch.Generator(self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    @property
    def description(self) -> dict[str, Any]:
        """``{class_path, init_args}`` from which `rsgm.load` builds this model again."""
        if self._description is None:
            self._description = describe_call(type(self), *self._arguments)
        return self._description

    @description.setter
    def description(self, value: dict[str, Any]) -> None:
        self._description = value

    def redescribe(self, **arguments: Any) -> None:
        """Say in the description, and so in checkpoints, what fitting has made of constructor arguments."""
        self.description = {**self.description, "init_args": {**self.description["init_args"], **arguments}}

    def altered(self, **parts: Any) -> GenerativeModel:
        """A twin that shares all but the given attributes with this model, which stays as it is."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        for name, part in parts.items():
            setattr(twin, name, part)
        return twin

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Fail before training, not at its first checkpoint, where the model cannot be described."""
        _ = self.description
        precision = self.trainer.precision
        if precision not in ("32-true", "64-true"):
            if not precision.endswith("mixed"):
                raise ValueError(
                    f"trainer.precision is {precision}, too coarse for an average of weights to move; expected "
                    "32-true, 64-true, or, in flat space, bf16-mixed or 16-mixed."
                )
            try:
                self.manifold.require_vector_space("trainer.precision")
            except ValueError as error:
                raise ValueError(
                    f"trainer.precision is {precision}: numbers of 16 bits are too coarse for the points of "
                    f"{self.manifold}; expected 32-true or 64-true."
                ) from error

    def on_fit_start(self) -> None:
        """Fix the seed, and fit what needs no training."""
        if self.seed is None:
            self.seed = torch.initial_seed() % 2**63
        data = self.trainer.datamodule
        self.fit_points(data.train.points.to(self.device), data.val.points.to(self.device))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make every draw of this step a function of (seed, step, rank)."""
        step, (last, place) = self.global_step, self._position
        self._position = (step, place + 1 if step == last else 0)
        torch.manual_seed(seed_from("step", self.seed, *self._position, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> Tensor | None:
        """The mean loss; logged and checked every ``log_every_n_steps``, for both cost time.

        With 0, which is Lightning's "off", it is checked as often as by default.
        """
        terms = {name: value.mean() for name, value in self.loss(*batch).items()}
        loss = terms["loss"]
        if self.global_step % (self.trainer.log_every_n_steps or _CHECK_EVERY) == 0:
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"The loss is {loss.item()} at step {self.global_step}; {_REMEDIES}")
            means = {name: value.detach() for name, value in terms.items()}
            self.check(means)
            if self.trainer.log_every_n_steps:
                logged = {f"train/{name}": value for name, value in means.items()}
                self.log_dict(logged, prog_bar=True, batch_size=len(batch[0]))
        return loss if loss.requires_grad else None

    def validation_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> None:
        """The negative log-likelihood."""
        if batch_idx == 0 and not self.is_finite():
            raise NonFiniteLossError(f"The weights are not finite at step {self.global_step}; {_REMEDIES}")
        result = self.likelihood(*batch)
        options: dict[str, Any] = {"batch_size": len(batch[0]), "sync_dist": True}
        self.log("val/nll", -result.value.mean(), prog_bar=True, **options)
        self.log("val/nfe", float(result.nfe), **options)

    def configure_optimizers(self) -> Any:
        """The optimiser with its learning-rate schedule; none for a model without parameters."""
        parameters = self.parameter_groups()
        if not parameters:
            return None
        optimizer = self.optimizer(parameters)
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
        """Add the description and the seed, plain data only."""
        checkpoint.setdefault("rsgm", {}).update(model=self.description, seed=self.seed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the seed, and give buffers that grow with the data their stored size."""
        self.seed = checkpoint["rsgm"]["seed"]
        for name, buffer in self.named_buffers():
            if name in checkpoint["state_dict"]:
                buffer.resize_(checkpoint["state_dict"][name].shape)

    def __getstate__(self) -> dict[str, Any]:
        # a factory made by the command line holds the parser; a copy for averaging needs neither
        return {**super().__getstate__(), "optimizer": None, "_arguments": ((), {})}
