"""How fast a network learns over a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


class LearningRate(ABC):
    """A factor on the optimiser's learning rate at each step of a training run."""

    @abstractmethod
    def __call__(self, step: int, total: int) -> float:
        """The factor at ``step`` of ``total``."""


@dataclass(frozen=True)
class WarmupCosine(LearningRate):
    """Linear from 0 over ``warmup`` steps, then a cosine to 0 at the end (Loshchilov & Hutter 2017).

    Arguments:
        warmup: number of steps
    """

    warmup: int = 100

    def __call__(self, step: int, total: int) -> float:
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

    def __call__(self, step: int, total: int) -> float:
        """The factor at ``step``."""
        return min(1.0, (step + 1) / max(1, self.warmup))
