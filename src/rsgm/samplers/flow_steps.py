"""Steps of the probability flow, which draw from the law that is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from rsgm.manifolds import expand
from rsgm.processes import Reverse
from rsgm.samplers.steppers import Step, Stepper, end_of_flow
from rsgm.schedules import DeviationGrid, TimeGrid

#: of a share of the way in σ and a move: σ's whole way times the slope at the move's end, carried back to its start
Slope = Callable[[float, Tensor | float], Tensor]

#: Langevin steps at t = 1 before the flow. On T² × S¹ after s = 2.5, which leaves 29 % of the slowest modes, the centre
#: with a tenth of the weight has 10.2 % of the samples after them, and 10.5 % after ten
_SETTLING = 18


class FlowStepper(Stepper, ABC):
    r"""A step of the probability flow from σ to σ', along geodesics, where :math:`\sigma = \sqrt s`.

    .. math:: \frac{dx}{d\sigma} = 2\sigma\Big(\frac b\beta - \frac12 s_\theta\Big)

    Near data of scale :math:`\sigma_0` a point at the distance r follows :math:`r \propto \sqrt{\sigma_0^2 +
    \sigma^2}`, which is a line at large σ and a parabola at small ones: few steps are enough in σ, not in t. Slopes
    at other points are carried back to the start of the step in parallel.

    A flow moves an error of its start on to the samples; the reversed diffusion forgets it. So the draws of the
    prior first take 18 Langevin steps at t = 1, where the process knows how (`rsgm.processes.Process.settle`). From
    ``eps`` to the data it takes the flow's own Euler step, :math:`x \leftarrow \exp_x(s(\varepsilon)(\tfrac12 s_\theta
    - b/\beta))`: half of Tweedie's move, whose end has too little variance by the part :math:`s(\varepsilon) /
    \sigma_0^2`; without a move it has as much too much. Half a move is right to second order in that part.

    A subclass says how slopes make a move.
    """

    grid: ClassVar[TimeGrid] = DeviationGrid()

    @abstractmethod
    def move(self, slope: Slope) -> Tensor:
        """The tangent vector from the start of the step to its end."""

    def start(self, step: Step, x: Tensor) -> Tensor:
        """After the Langevin steps; the last one adds half of the noise, which makes them exact to second order."""
        if step.process.settling == 0:
            return x
        for left in reversed(range(_SETTLING)):
            score = step.score(step.t, x, step.context)
            x = step.process.settle(x, score, 1.0 if left else 0.5, step.generator)
        return x

    def __call__(self, step: Step, x: Tensor) -> Tensor:
        """One step; its ends are those of ``step``, its stages are equal parts of σ."""
        process, manifold = step.process, step.process.manifold
        flow = Reverse(step.score, 1.0)
        high, low = (process.schedule.integral(t).sqrt() for t in (step.t, step.t_next))

        def slope(share: float, move: Tensor | float) -> Tensor:
            sigma = high - share * (high - low)
            t = step.t if share == 0 else step.t_next if share == 1 else process.schedule.inverse(sigma.square())
            y = x if share == 0 else manifold.expmap(x, move)
            found = expand(2 * sigma * (high - low), x) * flow.velocity(t, y, step.context)
            return found if share == 0 else manifold.transp(y, x, found)

        return manifold.expmap(x, self.move(slope))

    def denoise(self, step: Step, x: Tensor, t: Tensor) -> Tensor:
        """The flow's own step to the data."""
        return end_of_flow(step, x, t)


@dataclass(frozen=True)
class Heun(FlowStepper):
    """The second-order step, two evaluations of the score: the mean of the slopes at both ends.

    References: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """

    steps: ClassVar[int] = 40

    def move(self, slope: Slope) -> Tensor:
        """The mean of two slopes."""
        first = slope(0, 0.0)
        return (first + slope(1, first)) / 2


@dataclass(frozen=True)
class RungeKutta(FlowStepper):
    r"""The classical step, four evaluations of the score: of fourth order in flat space and along one geodesic.

    Elsewhere parallel transport stands for the inverse differential of exp, which leaves a term of second order with
    the factor of the curvature times the square of the move.

    References: Kutta 1901; Hairer, Nørsett and Wanner 1993, "Solving Ordinary Differential Equations I", II.1.
    """

    steps: ClassVar[int] = 20

    @override
    def move(self, slope: Slope) -> Tensor:
        first = slope(0, 0.0)
        second = slope(0.5, first / 2)
        third = slope(0.5, second / 2)
        return (first + 2 * (second + third) + slope(1, third)) / 6
