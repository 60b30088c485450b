"""The processes of flat space: normal laws in between."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions import Normal
from rsgm.manifolds import Manifold, expand
from rsgm.processes.base import Process
from rsgm.schedules import GeometricVariance, LinearBeta, Schedule


class GaussianProcess(Process, ABC):
    r"""A process of flat space with a normal law in between, :math:`X_t = \alpha(t)\,x_0 + \sigma(t)\,z`.

    A subclass says what `drift`, `signal` (α), `std` (σ) and `prior` are.
    """

    @abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """α(t)."""

    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``α x0 + σ z``."""
        return expand(self.signal(t), x0) * x0 + expand(self.std(t), x0) * self.manifold.random_tangent(x0, generator)

    def conditional(self, x0: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``N(α x0, σ² I)``, whose score is ``(α x0 - x) / σ²``."""
        return self.manifold.heat_kernel(expand(self.signal(t), x0) * x0, x, self.std(t).square())

    @override
    def contraction(self, t: Tensor, t_next: Tensor) -> Tensor:
        return self.signal(t) / self.signal(t_next)

    def settle(self, x: Tensor, score: Tensor, noise: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        r"""A step along the score less that of the prior, then an Ornstein-Uhlenbeck step that keeps the prior."""
        variance = self.prior.scale**2
        s = self.settling * self.schedule.integral(x.new_ones(()))
        x = x + s / 2 * (score + x / variance)
        kept = (-noise * s / variance).exp()
        return kept.sqrt() * x + (variance * (1 - kept)).sqrt() * self.manifold.random_tangent(x, generator)

    def denoise(self, t: Tensor, x: Tensor, score: Tensor) -> Tensor:
        """``(x + σ² score) / α``, which is exact."""
        return (x + expand(self.std(t).square(), x) * score) / expand(self.signal(t), x)


class VariancePreserving(GaussianProcess):
    r"""The Ornstein-Uhlenbeck process of flat space, :math:`dX = -\tfrac12\beta X\,dt + \sqrt\beta\,dB`, prior N(0, I).

    .. math:: X_t = e^{-s/2} x_0 + \sigma z, \qquad \sigma^2 = 1 - e^{-s}, \qquad s(t) = \int_0^t \beta

    Data of mean zero and unit variance keep both; scale other data first.

    References: Song et al. 2021, arXiv:2011.13456, section 3.4 and appendix C.

    Arguments:
        manifold: a Euclidean space
        schedule: β and its integral; at s(1) = 10 the data are left with 0.7 % of their amplitude
        eps: smallest time; None for the first step 1 / T of a discrete schedule of T steps, and 1e-3 in continuous time

    Raises:
        ValueError: where the manifold is not a vector space

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> process = VariancePreserving(Euclidean(2))
        >>> process.conditional_score(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([1.0]))
        tensor([[-1.0000, -1.0000]])
    """

    settling = 0.3

    def __init__(
        self, manifold: Manifold, schedule: Schedule = LinearBeta(beta_1=20.0), eps: float | None = None
    ) -> None:
        if eps is None:
            eps = 1e-3 if schedule.count is None else 1 / schedule.count
        super().__init__(manifold, schedule, eps)
        self._prior = Normal(manifold)

    @property
    @override
    def prior(self) -> Normal:
        return self._prior

    @override
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return -0.5 * expand(self.schedule.beta(t), x) * x

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The divergence is ``-β dim / 2``."""
        return self.drift(t, x), -0.5 * self.manifold.dim * self.schedule.beta(t)

    @override
    def signal(self, t: Tensor) -> Tensor:
        return (-0.5 * self.schedule.integral(t)).exp()


class VarianceExploding(GaussianProcess):
    r"""Brownian motion in flat space, :math:`X_t \sim N(x_0, s(t) I)`, with the prior :math:`N(0, s(1) I)`.

    The prior is that of data at the origin: s(1) must be large against their spread.

    References: Song and Ermon 2019, arXiv:1907.05600; Song et al. 2021, arXiv:2011.13456, section 3.4.

    Arguments:
        manifold: a Euclidean space
        schedule: β and its integral
        eps: smallest time

    Raises:
        ValueError: where the manifold is not a vector space

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> VarianceExploding(Euclidean(2)).prior.entropy()
        tensor(7.4430)
    """

    # a normal law of the variance s(1) forgets at the rate 1 / s(1), more slowly than the others
    settling = 0.8

    def __init__(
        self,
        manifold: Manifold,
        schedule: Schedule = GeometricVariance(s_min=1e-4, s_max=100.0),
        eps: float = 1e-3,
    ) -> None:
        super().__init__(manifold, schedule, eps)
        _ = self.prior  # which checks the manifold

    @property
    @override
    def prior(self) -> Normal:
        # not kept: the schedule may be fitted
        return Normal(self.manifold, float(self.std(torch.tensor(1.0, dtype=torch.float64))))

    @override
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @override
    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), torch.zeros_like(t)

    @override
    def signal(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    @override
    def std(self, t: Tensor) -> Tensor:
        return self.schedule.integral(t).sqrt()

    @override
    def log_noise_to_signal(self, t: Tensor) -> Tensor:
        return self.schedule.integral(t).log()

    @override
    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return self.schedule.inverse(ratio.exp())
