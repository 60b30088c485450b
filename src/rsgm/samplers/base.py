"""The one loop over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsgm.likelihood import ODESolver, SolveError
from rsgm.likelihood.flows import ScoreFlow
from rsgm.processes import ScoreField
from rsgm.progress import each
from rsgm.samplers.flow_steps import RungeKutta
from rsgm.samplers.steppers import Step, Stepper
from rsgm.schedules import TimeGrid


class Sampler(ABC):
    """Draws points given a score. A subclass says which states it goes through."""

    @abstractmethod
    def states(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """``(n, *shape)`` points of ``score.manifold`` on the generator's device, from the first to the samples."""

    def variants(self) -> dict[str, Sampler]:
        """What is worth seeing beside this sampler, and itself, by name."""
        return {type(self).__name__: self}

    def __call__(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The last of its states.

        Raises:
            SolveError: for samples that are not finite
        """
        *_, x = deque(self.states(score, n, context, generator), maxlen=1)
        bad = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
        if bad:
            raise SolveError(
                f"{type(self).__name__}: {bad} of {n} samples are not finite: the score carries points off to "
                "infinity. Train longer, take more steps, or choose a field and features that stay bounded there."
            )
        return x


@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    r"""The reversed process from the prior at t = 1 to ``process.eps``, then one move to the data.

    By default the probability flow, by Runge and Kutta's step in :math:`\sigma = \sqrt s` on the grid of Karras et al.:
    99 evaluations of the score, of which 18 at t = 1 carry the prior's draws to the law there and one is the move's
    (see `rsgm.samplers.FlowStepper`). With the exact score of mixtures of heat kernels of scales of .55 to .001
    radians on spheres, tori, SO(3) and products E d² to the nearest centre is within 2 % of the law's, E[-log p]
    within .02 nats and the shares of the centres within four standard errors of 50,000 draws
    (``tests/benchmarks/bench_samplers.py``, which compares other steppers and numbers of steps), provided that s(eps)
    is below 5 % of the least variance. What it draws from, with a learned score too, is the law that the likelihood
    scores, but for the scale sqrt(s(eps)) and for what the prior lacks of the law at t = 1.

    With `GeodesicEulerMaruyama` it is the paper's sampler, with `GaussianBridge` a chain's.

    Arguments:
        steps: number of steps; None for the stepper's own
        stepper: how a step is taken, and what the last move is
        grid: where the steps lie; None for the stepper's own
        denoise: whether to make the last move
    """

    steps: int | None = None
    stepper: Stepper = RungeKutta()
    grid: TimeGrid | None = None
    denoise: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"ReverseDiffusion: steps must be at least 1, found {self.steps}.")

    @torch.no_grad()
    def states(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Where each step, and the last move, leads."""
        process = score.process
        x = process.prior.draw(n, generator)
        steps, grid = self.steps or self.stepper.step_count(process.schedule), self.grid or self.stepper.grid
        times = grid(process.schedule, steps, process.eps).to(x)
        for i in each(range(steps), steps, "samples", "steps"):
            t, t_next = times[i].expand(n), times[i + 1].expand(n)
            step = Step(score, t, t_next, context, generator, last=i == steps - 1)
            if i == 0:
                x = self.stepper.start(step, x)
                yield x
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

    That is the law at ``eps``, wider than the data's by the variance s(eps), started from the prior as it is: no last
    move is made and no step at t = 1, which the likelihood knows nothing of.

    References: Song et al. 2021, arXiv:2011.13456, section 4.3.

    Arguments:
        solver: how the flow is solved
    """

    solver: ODESolver = ODESolver()

    def states(
        self,
        score: ScoreField,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """The samples alone: the solver's own steps are not kept."""
        yield self.solver.sample(ScoreFlow(score), n, context, generator)
