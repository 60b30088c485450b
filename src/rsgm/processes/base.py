"""Forward noising processes and their reversals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rsgm import divergence
from rsgm.distributions import ManifoldDistribution
from rsgm.fields import Field
from rsgm.manifolds import Manifold, expand, mixture_score
from rsgm.schedules import Schedule


class Process(nn.Module, ABC):
    r"""A forward diffusion :math:`dX = b(t, X)\,dt + \sqrt{\beta(t)}\,dB` from the data (t = 0) to a prior (t = 1).

    Arguments:
        manifold: the state space
        schedule: β and its integral
        eps: smallest time that is trained on, sampled to and scored from; it sets the finest resolved scale
            sqrt(s(eps))
    """

    #: variance time of a step of `settle`, as a part of s(1); 0 where points stay
    settling: float = 0.0

    def __init__(self, manifold: Manifold, schedule: Schedule, eps: float) -> None:
        super().__init__()
        if not 0 <= eps < 1:
            raise ValueError(f"{type(self).__name__}: eps must be in [0, 1), found {eps}.")
        if not float(schedule.integral(torch.tensor(eps, dtype=torch.float64))) > 0:
            raise ValueError(
                f"{type(self).__name__}: no noise at eps = {eps}, where the score is infinite; use eps > 0 or a "
                "schedule that starts above zero, such as GeometricVariance."
            )
        self.manifold, self.schedule, self.eps = manifold, schedule, eps

    @property
    @abstractmethod
    def prior(self) -> ManifoldDistribution:
        """The law at t = 1 from which samples start."""

    @abstractmethod
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``b(t, x)``, a tangent vector."""

    @abstractmethod
    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of X_t given X_0 = ``x0``, at one time ``(B,)`` per point."""

    @abstractmethod
    def conditional(self, x0: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``log p_t(x | x0)``, ``(B,)``, and its gradient in x, which share their work.

        Raises:
            NotImplementedError: where there is no formula; train with implicit score matching
        """

    def conditional_score(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``∇_x log p_t(x | x0)``: the target of denoising score matching."""
        return self.conditional(x0, x, t)[1]

    def mixture_score(self, x0: Tensor, counts: Tensor, x: Tensor, t: Tensor) -> Tensor:
        r""":math:`\nabla_x \log \sum_j p_t(x \mid x_j)`, the mean of conditional scores that the likely points weigh.

        Arguments:
            x0: points that each ``x`` may come from, ``(B, n, *shape)``
            counts: those that it may, ``(B, n)``; at least one of each row
            x: noisy points, ``(B, *shape)``
            t: their times, ``(B,)``
        """
        rows, n = counts.shape
        log_prob, score = self.conditional(x0.flatten(0, 1), x.repeat_interleave(n, 0), t.repeat_interleave(n))
        return mixture_score(self.manifold, log_prob.view(rows, n), score.view_as(x0), counts, x)

    def perturb_with_score(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """A draw of X_t, and a vector there whose mean given X_t is the score: the conditional one, if it is known."""
        x = self.perturb(x0, t, generator)
        return x, self.conditional_score(x0, x, t)

    def std(self, t: Tensor) -> Tensor:
        """The scale σ(t) of the noise, by which a network's output is divided to make a score.

        ``sqrt(1 - exp(-s(t)))``: one at late times, ``sqrt(s)`` at early ones.
        """
        return (-torch.expm1(-self.schedule.integral(t))).sqrt()

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and its divergence ``(B,)`` measured along ``directions`` (see `rsgm.divergence`)."""
        return divergence.with_divergence(lambda y: self.drift(t, y), self.manifold, x, directions)

    def diffusion(self, t: Tensor) -> Tensor:
        """``sqrt(β(t))``."""
        return self.schedule.beta(t).sqrt()

    def signal(self, t: Tensor) -> Tensor:
        """The factor α(t) of ``X_t = α x0 + σ z``.

        Raises:
            ValueError: where the law of X_t given X_0 is not of this form
        """
        raise ValueError(
            f"{type(self).__name__} on {self.manifold} has no normal law α x0 + σ z at time t, so the noise and the "
            "data are no predictions of a network; choose Score, or VariancePreserving or VarianceExploding."
        )

    def log_noise_to_signal(self, t: Tensor) -> Tensor:
        """The integral of β/σ² and the logarithm of σ²/α²; ``log(exp(s) - 1)`` where ``σ² = 1 - exp(-s)``."""
        s = self.schedule.integral(t)
        return s + (-torch.expm1(-s)).log()

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The t with ``log_noise_to_signal(t) == ratio``."""
        return self.schedule.inverse(torch.nn.functional.softplus(ratio))

    def contraction(self, t: Tensor, t_next: Tensor) -> Tensor:
        """The factor on the mean of X from ``t_next`` to ``t``: one for Brownian motion."""
        return torch.ones_like(t)

    def denoise(self, t: Tensor, x: Tensor, score: Tensor) -> Tensor:
        """Tweedie's estimate of X_0 given X_t = ``x`` and the score there, to first order in s(t)."""
        return self.manifold.expmap(x, expand(self.schedule.integral(t), x) * score)

    def settle(self, x: Tensor, score: Tensor, noise: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        r"""A Langevin step at t = 1, by which draws of the prior come nearer to the law there.

        A move along half of the score's excess over the prior's for the variance time ``settling`` s(1), then the part
        ``noise`` of that time of a motion that keeps the prior exactly: where prior and law are equal any step leaves
        them so, however long. Without such a motion, as here, the points stay.
        """
        return x

    def fit(self, points: Tensor) -> bool:
        """Let a schedule that leaves its range to the training points ``(N, *shape)`` see them; whether one did."""
        before = self.schedule
        self.follow(before.fit(points))
        return self.schedule is not before

    def follow(self, schedule: Schedule) -> None:
        """Run at another rate."""
        self.schedule = schedule

    def resolution(self) -> float:
        """The finest resolved scale ``sqrt(s(eps))``, radians on a unit sphere."""
        return float(self.schedule.integral(torch.tensor(self.eps, dtype=torch.float64)).sqrt())


class ScoreField(Field, ABC):
    r"""A score, :math:`s(t, x) = \nabla\log p_t(x)`, and the process whose law :math:`p_t` is.

    Arguments:
        process: the forward process
    """

    def __init__(self, process: Process) -> None:
        super().__init__(process.manifold)
        self.process = process


@dataclass(frozen=True, eq=False)
class Reverse:
    r"""The λ-family of reversals of a process, all with its marginals if the score is exact.

    .. math:: dX = [-b + (1 - \lambda/2)\,\beta\,s_\theta]\,d\tau + \sqrt{(1 - \lambda)\beta}\,dB,\quad \tau = 1 - t

    References: Huang et al. 2021, arXiv:2106.02808, section 5; on manifolds De Bortoli et al. 2022, section 3.

    Arguments:
        score: :math:`s_\theta`
        lmbd: λ in [0, 1]; 0 is the reverse SDE, 1 the probability-flow ODE

    Raises:
        ValueError: for another λ
    """

    score: ScoreField
    lmbd: float

    def __post_init__(self) -> None:
        if not 0 <= self.lmbd <= 1:
            raise ValueError(f"Reverse: lmbd must be in [0, 1], found {self.lmbd}.")

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The drift per unit of variance time, ``(1 - λ/2) score - b / β``."""
        drift = self.score.process.drift(t, x) / expand(self.score.process.schedule.beta(t), x)
        return (1 - self.lmbd / 2) * self.score(t, x, context) - drift

    def increment(self, t: Tensor, t_next: Tensor, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean displacement and noise standard deviation of a step from t down to t_next, with the exact Δs.

        The drift runs for Δs / β, not for Δt: where it and the score cancel, as in the prior, nothing moves.
        """
        integral = self.score.process.schedule.integral
        ds = integral(t) - integral(t_next)
        return expand(ds, x) * self.velocity(t, x, context), ((1 - self.lmbd) * ds).sqrt()
