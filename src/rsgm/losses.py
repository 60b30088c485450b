"""Score matching: what is compared, at which times, with which weight."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.divergence import Divergence, Exact, Hutchinson
from rsgm.fields import Field
from rsgm.manifolds.base import expand
from rsgm.processes import Process
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
    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Times for the levels ``u`` in [0, 1), and their weights, ``(B,)`` each."""

    def __call__(
        self, process: Process, like: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Times and weights, ``(B,)`` each, with the dtype and device of ``like`` ``(B, …)``."""
        n = len(like)
        u = torch.rand(n, generator=generator, dtype=like.dtype, device=like.device)
        if self.stratified:
            u = (u + torch.arange(n, dtype=like.dtype, device=like.device)) / n
        return self.quantile(process, u)


@dataclass(frozen=True)
class ContinuousTime(TimeSampler, ABC):
    """Times with a density in [eps, 1], and weights that keep the loss an average over uniform times.

    Arguments:
        stratified: see `TimeSampler`
    """

    @abstractmethod
    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Times for the levels ``u`` in [0, 1), and the density of U(eps, 1) over that of the law."""


@dataclass(frozen=True)
class UniformTime(ContinuousTime):
    """t uniform in [eps, 1]."""

    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Linear in ``u``; weight one."""
        return process.eps + (1 - process.eps) * u, torch.ones_like(u)


@dataclass(frozen=True)
class LogUniformTime(ContinuousTime):
    """log s(t) uniform: every decade of scale is seen equally often."""

    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """Geometric in s."""
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
        hold: below this time the density stays what it is there, as in the second paper with 1e-3; by default it
            grows down to the process's eps
    """

    hold: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hold < 1:
            raise ValueError(f"ImportanceTime: hold must be in [0, 1), found {self.hold}.")

    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of the ratio's logarithm, after a straight piece below ``hold``."""
        start = max(self.hold, process.eps)
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
        ladder: the levels; of a chain of T steps ``GridLadder(T, UniformTimeGrid())`` with ``eps = 1 / T``
    """

    ladder: Ladder = GridLadder()

    def quantile(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
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


class Weighting(ABC):
    """A weight w(t) on the loss at each time."""

    @abstractmethod
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """``(B,)`` weights."""


@dataclass(frozen=True)
class LikelihoodWeighting(Weighting):
    """β(t): the loss then bounds the Kullback-Leibler divergence (Song et al. 2021, arXiv:2101.09258)."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """β(t)."""
        return process.schedule.beta(t)


@dataclass(frozen=True)
class NoiseWeighting(Weighting):
    """σ(t)²: every time contributes alike, as in the RSGM paper's denoising loss."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """σ(t)²."""
        return process.std(t).square()


@dataclass(frozen=True)
class VarianceWeighting(Weighting):
    """s(t), the variance time."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """s(t)."""
        return process.schedule.integral(t)


class ScoreTarget(ABC):
    """What denoising score matching regresses on."""

    def draw(
        self, process: Process, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """A noisy point of each data point, and the target there."""
        x = process.perturb(x0, t, generator)
        return x, self(process, x0, x, t)

    @abstractmethod
    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Tangent vectors at ``x``."""


@dataclass(frozen=True)
class ExactTarget(ScoreTarget):
    """The process's own: the conditional score, or that of the last step of a simulation."""

    def draw(
        self, process: Process, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the process draws."""
        return process.perturb_with_score(x0, t, generator)

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``∇ log p_t(x | x0)``."""
        return process.conditional_score(x0, x, t)


@dataclass(frozen=True)
class TruncatedTarget(ScoreTarget):
    r"""The paper's approximation, for reproduction only: Varadhan's limit below a threshold, a cut series above.

    :math:`\log_x(x_0)/s` where :math:`s(t) \le` ``threshold``, else the gradient of the eigenfunction series up to
    degree ``terms``. With the defaults the target is wrong by 11 % (root mean square) at s = 0.5 on S².

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.3.

    Arguments:
        threshold: the switch, compared with s(t), not t; ``inf`` is Varadhan at every time
        terms: largest degree kept
    """

    threshold: float = 0.5
    terms: int = 5

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The approximate score."""
        s = process.schedule.integral(t)
        column = expand(s, x)
        varadhan = process.manifold.logmap(x, x0) / column
        if self.threshold == math.inf:
            return varadhan
        # the series is only ever used above the threshold; below, it may not even be positive
        series = process.manifold.heat_kernel_series_score(x0, x, s.clamp_min(max(self.threshold, 1e-3)), self.terms)
        return torch.where(column <= self.threshold, varadhan, series)


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
        x, target = self.target.draw(process, x0, t, generator)
        error = score(t, x, context) - target
        return 0.5 * weight * self.weighting(process, t) * process.manifold.squared_norm(x, error)
