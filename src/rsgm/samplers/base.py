"""The one loop over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.fields import Field
from rsgm.flows import ScoreFlow
from rsgm.likelihood import ProbabilityFlow, SolveError
from rsgm.processes import Process
from rsgm.samplers.steppers import GeodesicEulerMaruyama, Step, Stepper
from rsgm.schedules import TimeGrid, UniformTimeGrid


class Sampler(ABC):
    """Draws points given a process and a score."""

    @abstractmethod
    def __call__(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``(n, *shape)`` points of ``process.manifold``, on the generator's device."""


@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    """The reversed process from the prior at t = 1 to ``process.eps``, then one denoising move.

    The move is Tweedie's estimate of the data point, :math:`x \\leftarrow \\exp_x(s(\\varepsilon)\\,s_\\theta(x,
    \\varepsilon))` to first order. Euler steps add no noise in the last step before it either.

    Arguments:
        steps: number of steps
        stepper: how a step is taken
        grid: where the steps lie
        denoise: whether to make the last move

    Raises:
        SolveError: from the call, for samples that are not finite
    """

    steps: int = 100
    stepper: Stepper = GeodesicEulerMaruyama()
    grid: TimeGrid = UniformTimeGrid()
    denoise: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"ReverseDiffusion: steps must be at least 1, found {self.steps}.")

    @torch.no_grad()
    def __call__(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``(n, *shape)`` points."""
        x = process.prior.draw(n, generator)
        times = self.grid(process.schedule, self.steps, process.eps).to(x)
        for i in range(self.steps):
            t, t_next = times[i].expand(n), times[i + 1].expand(n)
            step = Step(process, score, t, t_next, context, generator, last=i == self.steps - 1)
            x = self.stepper(step, x)
        if self.denoise:
            x = self.stepper.denoise(step, x, step.t_next)
        bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
        if bad:
            raise SolveError(
                f"{bad} of {n} samples are not finite after {self.steps} steps: the score carries points off to "
                "infinity. Train longer, take more steps, or choose a field and features that stay bounded there."
            )
        return x


@dataclass(frozen=True)
class ProbabilityFlowSampler(Sampler):
    """The probability flow from the prior at t = 1 to ``process.eps``, in adaptive steps: samples of the very law
    whose density the likelihood gives.

    References: Song et al. 2021, arXiv:2011.13456, section 4.3.

    Arguments:
        ode: how the flow is solved
    """

    ode: ProbabilityFlow = ProbabilityFlow()

    def __call__(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``(n, *shape)`` points."""
        return self.ode.sample(ScoreFlow(process, score), n, context, generator)
