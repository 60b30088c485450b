"""Implicit, sliced and denoising score matching."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rsgm.divergence import Divergence, Exact, Hutchinson
from rsgm.losses.targets import ExactTarget, ScoreTarget
from rsgm.losses.weightings import LikelihoodWeighting, NoiseWeighting, Weighting
from rsgm.processes import ScoreField
from rsgm.processes.times import TimeSampler, UniformTime


class Loss(ABC):
    """A training objective of a score."""

    @abstractmethod
    def __call__(
        self,
        score: ScoreField,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""


@dataclass(frozen=True)
class ScoreMatching(Loss, ABC):
    """A loss at random times. With equal time sampler and weighting all have the same expected gradient.

    Arguments:
        time: sampler of times
        weighting: w(t)
    """

    time: TimeSampler = UniformTime()
    weighting: Weighting = LikelihoodWeighting()

    def __call__(
        self,
        score: ScoreField,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""
        t, weight = self.time(score.process, x0, generator)
        return weight * self.weighting(score.process, t) * self.mismatch(score, x0, t, context, generator)

    @abstractmethod
    def mismatch(
        self,
        score: ScoreField,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """What is weighted, of each point at its time, ``(B,)``."""


@dataclass(frozen=True)
class DivergenceScoreMatching(ScoreMatching, ABC):
    r""":math:`E\,w(t)\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta)`: needs samples, no transition density.

    References: Hyvärinen 2005.

    Arguments:
        time: sampler of times
        weighting: w(t)
    """

    @property
    @abstractmethod
    def divergence(self) -> Divergence:
        """How the divergence is taken; a subclass may make it an argument."""

    def mismatch(
        self,
        score: ScoreField,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """``½ |s|² + div s`` at a draw of the process."""
        x = score.process.perturb(x0, t, generator)
        directions = self.divergence.directions(score.manifold, x, generator)
        value, div = score.with_divergence(t, x, directions, context)
        return 0.5 * score.manifold.squared_norm(x, value) + div


@dataclass(frozen=True)
class SlicedScoreMatching(DivergenceScoreMatching):
    r""":math:`E\,w(t)\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta)` with a stochastic divergence.

    One random direction: the cost does not grow with the dimension.

    References: Song et al. 2019, arXiv:1905.07088; Hutchinson 1989.

    Arguments:
        time: sampler of times
        weighting: w(t)
        divergence: the estimator
    """

    divergence: Divergence = Hutchinson()


@dataclass(frozen=True)
class ImplicitScoreMatching(DivergenceScoreMatching):
    r""":math:`E\,w(t)\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta)` with the exact divergence.

    References: Hyvärinen 2005; De Bortoli et al. 2022, arXiv:2202.02763, proposition 3.

    Arguments:
        time: sampler of times
        weighting: w(t)
    """

    divergence: ClassVar[Divergence] = Exact()


@dataclass(frozen=True)
class DenoisingScoreMatching(ScoreMatching):
    r""":math:`E\,\tfrac12 w(t)\,\|s_\theta(x_t, t) - \nabla\log p_{t|0}(x_t | x_0)\|^2`.

    The half makes its expected gradient that of `ImplicitScoreMatching`.

    References: Vincent 2011; De Bortoli et al. 2022, arXiv:2202.02763, section 3.3.

    Arguments:
        time: sampler of times
        weighting: w(t)
        target: the regressand; exact by default
    """

    weighting: Weighting = NoiseWeighting()
    target: ScoreTarget = ExactTarget()

    def mismatch(
        self,
        score: ScoreField,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """``½ |s - target|²`` at the target's draw."""
        x, target = self.target.draw(score.process, x0, t, context, generator)
        return 0.5 * score.manifold.squared_norm(x, score(t, x, context) - target)
