"""At which times the loss is taken."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.processes.base import Process
from rsgm.schedules import GridLadder, Ladder


@dataclass(frozen=True)
class TimeSampler(ABC):
    """Draws one time per point, with the weight that the loss gives it.

    Arguments:
        stratified: one draw in each of B equal slices of the law instead of B independent draws: the same mean,
            less variance (Kingma et al. 2021, arXiv:2107.00630, appendix I)
    """

    stratified: bool = False

    @abstractmethod
    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Times whose law is this one where ``u`` is uniform in [0, 1), and their weights, ``(B,)`` each."""

    def __call__(self, process: Process, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Times and weights, ``(B,)`` each, for points ``x`` ``(B, …)`` and with their dtype and device."""
        n = len(x)
        u = torch.rand(n, generator=generator, dtype=x.dtype, device=x.device)
        if self.stratified:
            u = (u + torch.arange(n, dtype=x.dtype, device=x.device)) / n
        return self.from_uniform(process, u)


@dataclass(frozen=True)
class ContinuousTime(TimeSampler, ABC):
    """Times with a density in [eps, 1], and weights that keep the loss an average over uniform times.

    The bounds on the likelihood take these only: a sum over the levels of a ladder is no integral over time.

    Arguments:
        stratified: see `TimeSampler`
    """

    @abstractmethod
    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Times whose law is this one where ``u`` is uniform, and the density of U(eps, 1) over that of this law."""


@dataclass(frozen=True)
class UniformTime(ContinuousTime):
    """t uniform in [eps, 1]."""

    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Linear in ``u``; weight one."""
        return process.eps + (1 - process.eps) * u, torch.ones_like(u)


@dataclass(frozen=True)
class LogUniformTime(ContinuousTime):
    """log s(t) uniform: every decade of scale is seen equally often."""

    @override
    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (math.log(value) for value in _variance_ends(process))
        s = torch.exp(low + (high - low) * u)
        t = process.schedule.inverse(s).clamp(process.eps, 1)
        return t, s * (high - low) / (process.schedule.beta(t) * (1 - process.eps))


@dataclass(frozen=True)
class ImportanceTime(ContinuousTime):
    r"""t with density proportional to :math:`\beta/\sigma^2`: the least variance under likelihood weighting.

    It is uniform in the logarithm of the noise-to-signal ratio, :math:`\int \beta/\sigma^2\,dt =
    \log(\sigma^2/\alpha^2)`.

    References: Song et al. 2021, arXiv:2101.09258, section 5.1; Huang et al. 2021, arXiv:2106.02808, appendix E.

    Arguments:
        stratified: see `TimeSampler`
        constant_below: below this time the density is constant, as in the second paper with 1e-3; by default it
            grows down to the process's eps
    """

    constant_below: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.constant_below < 1:
            raise ValueError(f"ImportanceTime: constant_below must be in [0, 1), found {self.constant_below}.")

    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of the ratio's logarithm, after a straight piece below ``constant_below``."""
        start = max(self.constant_below, process.eps)
        low, high, rate = _ratio_ends(process, start)
        held = rate * (start - process.eps)
        level = u * (held + high - low) - held
        t = process.time_of_ratio(low + level.clamp_min(0))
        slope = process.schedule.beta(t) / process.std(t).square()
        t = torch.where(level < 0, process.eps + (level + held) / rate, t).clamp(process.eps, 1)
        return t, (held + high - low) / (torch.where(level < 0, rate, slope) * (1 - process.eps))


@dataclass(frozen=True)
class LadderTime(TimeSampler):
    """The levels of a ladder, equally often: the noise levels of NCSN, or the steps of the chain of DDPM.

    References: Song and Ermon 2019, arXiv:1907.05600, equation 6; Ho et al. 2020, arXiv:2006.11239, algorithm 1.

    Arguments:
        stratified: see `TimeSampler`
        ladder: the levels; of a chain `ChainLadder`
    """

    ladder: Ladder = GridLadder()

    def from_uniform(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """The level, lowest times first; weight one, so that the loss is an average over levels."""
        times = self.ladder(process.schedule, process.manifold.dim, process.eps).flip(0).to(u)
        return times[(u * len(times)).long().clamp_max(len(times) - 1)], torch.ones_like(u)


def _variance_ends(process: Process) -> list[float]:
    return process.schedule.integral(torch.tensor([process.eps, 1.0], dtype=torch.float64)).tolist()


def _ratio_ends(process: Process, start: float) -> list[float]:
    """The noise-to-signal ratio's logarithm at ``start`` and 1, and its derivative at ``start``."""
    ends = torch.tensor([start, 1.0], dtype=torch.float64)
    slope = process.schedule.beta(ends) / process.std(ends).square()
    return [*process.log_noise_to_signal(ends).tolist(), slope.tolist()[0]]
