"""Drawing from a score model: steppers, and the one loop over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.fields import Field
from rsgm.flows import ScoreFlow
from rsgm.likelihood import ProbabilityFlow
from rsgm.processes import Process, reverse
from rsgm.schedules import TimeGrid, UniformTimeGrid


class Stepper(ABC):
    """One step of a reversed process."""

    @abstractmethod
    def __call__(
        self,
        process: Process,
        score: Field,
        x: Tensor,
        t: Tensor,
        t_next: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
        last: bool,
    ) -> Tensor:
        """The state at ``t_next < t`` (both ``(B,)``); a step that is ``last`` adds no noise."""


@dataclass(frozen=True)
class GeodesicEulerMaruyama(Stepper):
    r""":math:`x \leftarrow \exp_x(-b|\Delta t| + (1 - \lambda/2)\Delta s\,s_\theta + \sqrt{(1 - \lambda)\Delta s}\,z)`.

    References: Jorgensen 1975; De Bortoli et al. 2022, arXiv:2202.02763, algorithm 1.

    Arguments:
        lmbd: λ in [0, 1]; 0 is the reverse SDE, 1 the probability flow
    """

    lmbd: float = 0.0

    def __call__(
        self,
        process: Process,
        score: Field,
        x: Tensor,
        t: Tensor,
        t_next: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
        last: bool,
    ) -> Tensor:
        """One geodesic step."""
        move, std = reverse(process, score, self.lmbd).increment(t, t_next, x, context)
        if self.lmbd < 1 and not last:
            std = std.reshape(-1, *(1,) * (x.dim() - 1))
            move = move + std * process.manifold.random_tangent(x, generator)
        return process.manifold.expmap(x, move)


@dataclass(frozen=True)
class Heun(Stepper):
    """The probability flow by a second-order step: the mean of the slopes at both ends, transported to one."""

    def __call__(
        self,
        process: Process,
        score: Field,
        x: Tensor,
        t: Tensor,
        t_next: Tensor,
        context: Tensor | None,
        generator: torch.Generator | None,
        last: bool,
    ) -> Tensor:
        """One geodesic Heun step."""
        manifold, flow = process.manifold, reverse(process, score, 1.0)
        step = (t - t_next).reshape(-1, *(1,) * (x.dim() - 1))
        slope = flow.drift(t, x, context)
        end = manifold.expmap(x, step * slope)
        back = manifold.transp(end, x, flow.drift(t_next, end, context))
        return manifold.expmap(x, 0.5 * step * (slope + back))


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

    The last step adds no noise; the move :math:`x \\leftarrow \\exp_x(s(\\varepsilon)\\,s_\\theta(x, \\varepsilon))`
    is the first-order Tweedie estimate of the data point.

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
            last = i == self.steps - 1
            x = self.stepper(process, score, x, t, t_next, context, generator, last)
        if self.denoise:
            t = times[-1].expand(n)
            s = process.schedule.integral(t).reshape(-1, *(1,) * (x.dim() - 1))
            x = process.manifold.expmap(x, s * score(t, x, context))
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
