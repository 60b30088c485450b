"""Laws with a known density as data: fixed sets, and on request a stream of fresh points to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rsgm.data.base import Batch, ManifoldData
from rsgm.distributions import ManifoldDistribution, Mixture
from rsgm.distributions.checks import require_count
from rsgm.manifolds import Manifold
from rsgm.seeding import generator_from


@dataclass(kw_only=True, eq=False, repr=False)
class LawData(ManifoldData, ABC):
    """Points drawn from a law. A subclass says what `law` is.

    `true_log_prob` of the test points is what a perfect model reaches on the same draw.

    Arguments:
        train_size, val_size, test_size: points of the fixed sets
        fresh: whether training batches are fresh draws of the law, without end; otherwise they come from the fixed
            train points, which are all that a model that is fitted to a set, such as the kernel density, ever sees
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        ValueError: a size that is not positive
    """

    train_size: int = 4_000
    val_size: int = 1_000
    test_size: int = 10_000
    batch_size: int = 512
    seed: int | None = None
    steps_per_epoch: int = 500
    eval_batch_size: int = 512
    val_points: int | None = None
    fresh: bool = True

    def __post_init__(self) -> None:
        super().__init__(
            self.batch_size, "random", self.seed, self.steps_per_epoch, self.eval_batch_size, self.val_points
        )
        sizes = {"train_size": self.train_size, "val_size": self.val_size, "test_size": self.test_size}
        require_count(type(self).__name__, **sizes)

    @property
    @abstractmethod
    def law(self) -> ManifoldDistribution:
        """What the points are drawn from."""

    @cached_property
    def manifold(self) -> Manifold:
        """The law's."""
        return self.law.manifold

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """``n`` fresh points and their context."""
        return self.law.draw(n, generator), None

    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        """The points of the three fixed sets, with their context if there is one."""
        x, context = self.draw(self.train_size + self.val_size + self.test_size, generator_from("points", self.seed))
        return x if context is None else (x, context)

    def sizes(self, n: int) -> tuple[int, int]:
        """The sizes asked for."""
        return self.train_size, self.val_size

    def batch(self, generator: torch.Generator, n: int) -> Batch:
        """``n`` fresh points, or ``n`` of the fixed train points, drawn with replacement."""
        return self.draw(n, generator) if self.fresh else super().batch(generator, n)

    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-density (B,), nats, float64."""
        return self.law.log_prob(x.double())

    def provenance(self) -> dict[str, Any]:
        """As the base class; the points are generated."""
        source = f"generated ({type(self.law).__name__} on {self.manifold})"
        return super().provenance() | {"source": source, "fresh": self.fresh}


@dataclass(kw_only=True, eq=False, repr=False)
class MixtureData(LawData, ABC):
    """Points drawn from a mixture; on request with the component, one-hot, as their context.

    Arguments:
        conditional: give the component as context, and score given it
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    conditional: bool = False

    @property
    @abstractmethod
    def law(self) -> Mixture:
        """What the points are drawn from."""

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """``n`` fresh points and, if conditional, their components."""
        x, component = self.law.draw_with_component(n, generator)
        return x, F.one_hot(component, self.law.count).to(x) if self.conditional else None

    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-density (B,), given the component where there is a context; nats, float64."""
        if context is None:
            return self.law.log_prob(x.double())
        return self.law.component_log_prob(x.double()).gather(1, context.argmax(1, keepdim=True))[:, 0]
