"""How much each time counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from rsgm.processes import Process


class Weighting(ABC):
    """A weight w(t) on the loss at each time."""

    @abstractmethod
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """``(B,)`` weights."""


@dataclass(frozen=True)
class LikelihoodWeighting(Weighting):
    """β(t): the loss then bounds the Kullback-Leibler divergence (Song et al. 2021, arXiv:2101.09258)."""

    @override
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.schedule.beta(t)


@dataclass(frozen=True)
class NoiseWeighting(Weighting):
    """σ(t)²: every time contributes alike, as in the RSGM paper's denoising loss."""

    @override
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.std(t).square()


@dataclass(frozen=True)
class VarianceWeighting(Weighting):
    """s(t), the variance time."""

    @override
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.schedule.integral(t)
