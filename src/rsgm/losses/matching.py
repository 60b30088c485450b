"""Implicit, sliced and denoising score matching."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rsgm.divergence import Divergence, Exact, Hutchinson
from rsgm.fields import Field
from rsgm.losses.targets import ExactTarget, ScoreTarget
from rsgm.losses.times import TimeSampler, UniformTime
from rsgm.losses.weightings import LikelihoodWeighting, NoiseWeighting, Weighting
from rsgm.processes import Process


class Loss(ABC):
    """A score-matching objective. With equal time sampler and weighting all have the same expected gradient."""

    @abstractmethod
    def __call__(
        self,
        score: Field,
        process: Process,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""


class SlicedScoreMatching(Loss):
    r""":math:`E\,w(t)\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta)` with a stochastic divergence.

    One random direction: the cost does not grow with the dimension.

    References: Song et al. 2019, arXiv:1905.07088; Hutchinson 1989.

    Arguments:
        time: sampler of times
        weighting: w(t)
        divergence: the estimator
    """

    def __init__(
        self,
        time: TimeSampler = UniformTime(),
        weighting: Weighting = LikelihoodWeighting(),
        divergence: Divergence = Hutchinson(),
    ) -> None:
        self.time, self.weighting, self.divergence = time, weighting, divergence

    def __call__(
        self,
        score: Field,
        process: Process,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""
        t, weight = self.time(process, x0, generator)
        x = process.perturb(x0, t, generator)
        directions = self.divergence.directions(process.manifold, x, generator)
        value, div = score.with_divergence(t, x, directions, context)
        return weight * self.weighting(process, t) * (0.5 * process.manifold.squared_norm(x, value) + div)


class ImplicitScoreMatching(Loss):
    r""":math:`E\,w(t)\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta)` with the exact divergence.

    Needs samples of the process only, no transition density.

    References: Hyvärinen 2005; De Bortoli et al. 2022, arXiv:2202.02763, proposition 3.

    Arguments:
        time: sampler of times
        weighting: w(t)
    """

    def __init__(self, time: TimeSampler = UniformTime(), weighting: Weighting = LikelihoodWeighting()) -> None:
        self.time, self.weighting = time, weighting

    def __call__(
        self,
        score: Field,
        process: Process,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""
        sliced = SlicedScoreMatching(self.time, self.weighting, Exact())
        return sliced(score, process, x0, context, generator)


class DenoisingScoreMatching(Loss):
    r""":math:`E\,\tfrac12 w(t)\,\|s_\theta(x_t, t) - \nabla\log p_{t|0}(x_t | x_0)\|^2`.

    The half makes its expected gradient that of `ImplicitScoreMatching`.

    References: Vincent 2011; De Bortoli et al. 2022, arXiv:2202.02763, section 3.3.

    Arguments:
        time: sampler of times
        weighting: w(t)
        target: the regressand; exact by default
    """

    def __init__(
        self,
        time: TimeSampler = UniformTime(),
        weighting: Weighting = NoiseWeighting(),
        target: ScoreTarget = ExactTarget(),
    ) -> None:
        self.time, self.weighting, self.target = time, weighting, target

    def __call__(
        self,
        score: Field,
        process: Process,
        x0: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of each point, ``(B,)``."""
        t, weight = self.time(process, x0, generator)
        x, target = self.target.draw(process, x0, t, context, generator)
        error = score(t, x, context) - target
        return 0.5 * weight * self.weighting(process, t) * process.manifold.squared_norm(x, error)
