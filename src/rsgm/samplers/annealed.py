"""Langevin dynamics as samplers: at one level of noise, and down a ladder of levels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.processes import Process, ScoreField
from rsgm.progress import each
from rsgm.samplers.base import Sampler
from rsgm.samplers.langevin import langevin
from rsgm.schedules import AutomaticLadder, Ladder, langevin_step


class Start(ABC):
    """Where Langevin dynamics starts."""

    @abstractmethod
    def __call__(self, process: Process, n: int, generator: torch.Generator | None) -> Tensor:
        """``(n, *shape)`` points."""


@dataclass(frozen=True)
class PriorStart(Start):
    """The prior of the process, whose standard deviation is that of the largest level."""

    @override
    def __call__(self, process: Process, n: int, generator: torch.Generator | None) -> Tensor:
        return process.prior.draw(n, generator)


@dataclass(frozen=True)
class BoxStart(Start):
    """Uniform in a cube of the ambient space (and projected, on a manifold).

    Arguments:
        low, high: bounds of each coordinate
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"BoxStart: low must be below high, found {self.low} and {self.high}.")

    @override
    def __call__(self, process: Process, n: int, generator: torch.Generator | None) -> Tensor:
        device = None if generator is None else generator.device
        u = torch.rand(n, *process.manifold.shape, generator=generator, device=device)
        return process.manifold.projx(self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class LangevinDynamics(Sampler):
    """Langevin dynamics at the least noise, ``process.eps``, alone: slow between modes, whose weights it loses.

    References: Song and Ermon 2019, arXiv:1907.05600, section 3.2.

    Arguments:
        steps: their number
        step: their size h (see `langevin`)
        start: where they start
    """

    steps: int = 1000
    step: float = 0.005
    start: Start = PriorStart()

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.step > 0:
            raise ValueError(f"LangevinDynamics: steps and step must be positive, found {self.steps} and {self.step}.")

    @torch.no_grad()
    @override
    def states(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        x = self.start(score.process, n, generator)
        t = x.new_full((n,), score.process.eps)
        yield x
        for _ in each(range(self.steps), self.steps, "samples", "steps"):
            x = langevin(score.manifold, lambda y: score(t, y, context), x, self.step, 1, generator)
            yield x


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    r"""Langevin dynamics at one level of noise after the other, with steps :math:`h_i = r \sigma_i^2`, then denoising.

    References: Song and Ermon 2019, arXiv:1907.05600, algorithm 1; 2020, arXiv:2006.09011, techniques 2 and 4.

    Arguments:
        ladder: the levels
        steps: at each level
        step: :math:`r = \epsilon / \sigma_L^2`, in (0, 1); None for technique 4 (see `rsgm.schedules.langevin_step`)
        start: where the first level starts
        denoise: whether the last move is Tweedie's estimate of the data point
    """

    ladder: Ladder = AutomaticLadder()
    steps: int = 20
    step: float | None = None
    start: Start = PriorStart()
    denoise: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"AnnealedLangevin: steps must be at least 1, found {self.steps}.")
        if self.step is not None and not 0 < self.step < 1:
            raise ValueError(
                f"AnnealedLangevin: step is ε / σ², in units of the variance of the level, and in (0, 1); found "
                f"{self.step}."
            )

    @torch.no_grad()
    def states(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Where each level, and the last move, leads."""
        process = score.process
        levels = self.ladder(process.schedule, process.manifold.dim, process.eps)
        x = self.start(process, n, generator)
        yield x
        r = self.step or self._solved(process, levels)
        for level in each(levels.to(x), len(levels), "samples", "levels"):
            t = level.expand(n)
            h = r * process.std(t).square()
            x = langevin(process.manifold, lambda y, t=t: score(t, y, context), x, h, self.steps, generator)
            yield x
        if self.denoise:
            yield process.denoise(t, x, score(t, x, context))

    def _solved(self, process: Process, levels: Tensor) -> float:
        first, last = process.std(levels[[0, -1]]).tolist()
        return langevin_step((first / last) ** (1 / max(1, len(levels) - 1)), self.steps)
