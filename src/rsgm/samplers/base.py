"""The one loop over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsgm.fields import Field
from rsgm.flows import ScoreFlow
from rsgm.likelihood import ProbabilityFlow, SolveError
from rsgm.processes import Process
from rsgm.samplers.steppers import GeodesicEulerMaruyama, Step, Stepper
from rsgm.schedules import TimeGrid, UniformTimeGrid


class Sampler(ABC):
    """Draws points given a process and a score. A subclass says which states it goes through."""

    @abstractmethod
    def states(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """``(n, *shape)`` points of ``process.manifold`` on the generator's device, from the first to the samples."""

    def variants(self) -> dict[str, Sampler]:
        """What is worth seeing beside this sampler, and itself, by name."""
        return {type(self).__name__: self}

    def __call__(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The last of its states.

        Raises:
            SolveError: for samples that are not finite
        """
        *_, x = deque(self.states(process, score, n, context, generator), maxlen=1)
        bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
        if bad:
            raise SolveError(
                f"{type(self).__name__}: {bad} of {n} samples are not finite: the score carries points off to "
                "infinity. Train longer, take more steps, or choose a field and features that stay bounded there."
            )
        return x


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
    """

    steps: int = 100
    stepper: Stepper = GeodesicEulerMaruyama()
    grid: TimeGrid = UniformTimeGrid()
    denoise: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"ReverseDiffusion: steps must be at least 1, found {self.steps}.")

    @torch.no_grad()
    def states(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Where each step, and the last move, leads."""
        x = process.prior.draw(n, generator)
        yield x
        times = self.grid(process.schedule, self.steps, process.eps).to(x)
        for i in range(self.steps):
            t, t_next = times[i].expand(n), times[i + 1].expand(n)
            step = Step(process, score, t, t_next, context, generator, last=i == self.steps - 1)
            x = self.stepper(step, x)
            yield x
        if self.denoise:
            yield self.stepper.denoise(step, x, step.t_next)

    def variants(self) -> dict[str, Sampler]:
        """With each of the stepper's variants."""
        return {name: replace(self, stepper=stepper) for name, stepper in self.stepper.variants().items()}


@dataclass(frozen=True)
class ProbabilityFlowSampler(Sampler):
    """The probability flow from the prior at t = 1 to ``process.eps``, in adaptive steps: samples of the very law
    whose density the likelihood gives.

    References: Song et al. 2021, arXiv:2011.13456, section 4.3.

    Arguments:
        ode: how the flow is solved
    """

    ode: ProbabilityFlow = ProbabilityFlow()

    def states(
        self,
        process: Process,
        score: Field,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """The samples alone: the solver's own steps are not kept."""
        yield self.ode.sample(ScoreFlow(process, score), n, context, generator)
