"""How fast a network learns over a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override


class LearningRate(ABC):
    """A factor on the optimiser's learning rate at each step of a training run."""

    #: whether the factor depends on the length of the run
    needs_total: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, step: int, total: float) -> float:
        """The factor at ``step`` of ``total``, which is infinite for a run that ends by the clock, or by hand."""


@dataclass(frozen=True)
class WarmupCosine(LearningRate):
    """Linear from ``1 / warmup`` over ``warmup`` steps, then a cosine to 0 at the end (Loshchilov & Hutter 2017).

    In a run of unknown length the cosine does not begin: the factor stays 1.

    Arguments:
        warmup: number of steps
    """

    warmup: int = 100

    def __call__(self, step: int, total: float) -> float:
        """The factor at ``step`` of ``total``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, total - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class ConstantRate(LearningRate):
    """One, after a linear warm-up.

    Arguments:
        warmup: number of steps
    """

    warmup: int = 0

    needs_total: ClassVar[bool] = False

    @override
    def __call__(self, step: int, total: float) -> float:
        return min(1.0, (step + 1) / max(1, self.warmup))
