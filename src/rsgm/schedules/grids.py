"""Grids of times."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.schedules.rates import Schedule


class TimeGrid(ABC):
    """A decreasing grid of times from 1 to ``eps`` for a sampler."""

    @abstractmethod
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        """``(steps + 1,)`` times in float64, from 1 down to ``eps``."""


@dataclass(frozen=True)
class UniformTimeGrid(TimeGrid):
    """Equal steps of t."""

    @override
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        return torch.linspace(1.0, eps, steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class UniformVarianceGrid(TimeGrid):
    """Equal steps of the variance time s."""

    @override
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        ends = schedule.integral(torch.tensor([1.0, eps], dtype=torch.float64))
        return schedule.inverse(torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64))


@dataclass(frozen=True)
class GeometricVarianceGrid(TimeGrid):
    """Equal steps of log s: the same number of steps for every decade of scale, for sharp data."""

    @override
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        ends = schedule.integral(torch.tensor([1.0, eps], dtype=torch.float64)).log()
        grid = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
        return schedule.inverse(grid.exp())


@dataclass(frozen=True)
class DeviationGrid(TimeGrid):
    r"""Equal steps of :math:`\sigma^{1/\rho}`, :math:`\sigma = \sqrt s`: some at every scale, more at the coarse ones.

    References: Karras et al. 2022, arXiv:2206.00364, equation 5.

    Arguments:
        rho: ρ; 1 is equal steps of σ, infinity `GeometricVarianceGrid`
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.rho < math.inf:
            raise ValueError(f"DeviationGrid: rho must be positive and finite, found {self.rho}.")

    @override
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        power = 2 * self.rho
        high, low = (schedule.integral(torch.tensor([1.0, eps], dtype=torch.float64)) ** (1 / power)).tolist()
        return schedule.inverse(torch.linspace(high, low, steps + 1, dtype=torch.float64) ** power)


@dataclass(frozen=True)
class PowerTimeGrid(TimeGrid):
    r""":math:`t = \epsilon + (1 - \epsilon) u^k` with equal steps of u: shorter steps near the data.

    Arguments:
        power: k
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"PowerTimeGrid: power must be positive, found {self.power}.")

    @override
    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        u = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        return eps + (1 - eps) * u**self.power


@dataclass(frozen=True)
class IndexGrid(TimeGrid):
    """Some of the times k / ``count`` of a chain, as evenly as possible: no others were trained.

    Arguments:
        count: steps of the chain; None for those of the process's discrete schedule
    """

    count: int | None = None

    def __call__(self, schedule: Schedule, steps: int, eps: float) -> Tensor:
        """Rounded to whole numbers of steps of the chain.

        Raises:
            ValueError: more steps than there are times from ``eps`` to 1, or no chain
        """
        count = self.count or schedule.chain("IndexGrid")
        first = round(eps * count)
        if steps > count - first:
            raise ValueError(f"IndexGrid: {count - first} steps from 1 to {eps:g} at most, found {steps}.")
        return torch.linspace(count, first, steps + 1, dtype=torch.float64).round() / count
