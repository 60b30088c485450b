"""Forward noising processes and their reversals."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rsgm import divergence
from rsgm.distributions import ManifoldDistribution, Normal, Uniform
from rsgm.fields import Field
from rsgm.manifolds import Manifold
from rsgm.schedules import GeometricVariance, LinearBeta, Schedule


class Process(nn.Module, ABC):
    r"""A forward diffusion :math:`dX = b(t, X)\,dt + \sqrt{\beta(t)}\,dB` from the data (t = 0) to a prior (t = 1).

    Arguments:
        manifold: the state space
        schedule: β and its integral
        eps: smallest time that is trained on, sampled to and scored from; it sets the finest resolved scale
            sqrt(s(eps))
    """

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
    def conditional_score(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``∇_x log p_t(x | x0)``: the target of denoising score matching."""

    @abstractmethod
    def std(self, t: Tensor) -> Tensor:
        """The scale σ(t) of the noise, by which a network's output is divided to make a score."""

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and its divergence ``(B,)`` measured along ``directions`` (see `rsgm.divergence`)."""
        return divergence.with_divergence(lambda y: self.drift(t, y), self.manifold, x, directions)

    def diffusion(self, t: Tensor) -> Tensor:
        """``sqrt(β(t))``."""
        return self.schedule.beta(t).sqrt()

    def resolution(self) -> float:
        """The finest resolved scale ``sqrt(s(eps))``, radians on a unit sphere."""
        return float(self.schedule.integral(torch.tensor(self.eps, dtype=torch.float64)).sqrt())


class Brownian(Process):
    r"""Brownian motion on a compact manifold, run at rate β: no drift, uniform prior, the heat kernel in between.

    :math:`p_{t|0}` is the heat kernel at :math:`s(t) = \int_0^t \beta`, sampled exactly where the manifold knows
    how (no simulation while training).

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.1.

    Arguments:
        manifold: a compact manifold
        schedule: β and its integral; at s(1) = 2.5 the slowest mode of S² is left with 8 % of its amplitude
        eps: smallest time

    Raises:
        ValueError: where the manifold is not compact

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> process = Brownian(Sphere(2))
        >>> north = torch.tensor([[0.0, 0.0, 1.0]])
        >>> process.perturb(north, torch.tensor([0.5])).shape
        torch.Size([1, 3])
    """

    def __init__(self, manifold: Manifold, schedule: Schedule = LinearBeta(), eps: float = 1e-3) -> None:
        super().__init__(manifold, schedule, eps)
        self._prior = Uniform(manifold)

    @property
    def prior(self) -> Uniform:
        """The uniform law."""
        return self._prior

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(x)

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros."""
        return torch.zeros_like(x), torch.zeros_like(t)

    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A heat-kernel draw at variance time s(t), counted from 0."""
        return self.manifold.heat_kernel_sample(x0, self.schedule.integral(t), generator)

    def conditional_score(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The heat kernel's score at s(t)."""
        return self.manifold.heat_kernel_score(x0, x, self.schedule.integral(t))

    def std(self, t: Tensor) -> Tensor:
        """``sqrt(1 - exp(-s(t)))``."""
        return (-torch.expm1(-self.schedule.integral(t))).sqrt()


class VariancePreserving(Process):
    r"""The Ornstein-Uhlenbeck process of flat space, :math:`dX = -\tfrac12\beta X\,dt + \sqrt\beta\,dB`, prior N(0, I).

    .. math:: X_t = e^{-s/2} x_0 + \sigma z, \qquad \sigma^2 = 1 - e^{-s}, \qquad s(t) = \int_0^t \beta

    Data of mean zero and unit variance keep both; scale other data first.

    References: Song et al. 2021, arXiv:2011.13456, section 3.4 and appendix C.

    Arguments:
        manifold: a Euclidean space
        schedule: β and its integral; at s(1) = 10 the data are left with 0.7 % of their amplitude
        eps: smallest time

    Raises:
        ValueError: where the manifold is not a vector space

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> process = VariancePreserving(Euclidean(2))
        >>> process.conditional_score(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([1.0]))
        tensor([[-1.0000, -1.0000]])
    """

    def __init__(self, manifold: Manifold, schedule: Schedule = LinearBeta(beta_1=20.0), eps: float = 1e-3) -> None:
        super().__init__(manifold, schedule, eps)
        self._prior = Normal(manifold)

    @property
    def prior(self) -> Normal:
        """The standard normal law."""
        return self._prior

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``-β x / 2``."""
        return -0.5 * _like(self.schedule.beta(t), x) * x

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The divergence is ``-β dim / 2``."""
        return self.drift(t, x), -0.5 * self.manifold.dim * self.schedule.beta(t)

    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``exp(-s/2) x0 + σ z``."""
        return self._decay(x0, t) + _like(self.std(t), x0) * self.manifold.random_tangent(x0, generator)

    def conditional_score(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``(exp(-s/2) x0 - x) / σ²``."""
        return (self._decay(x0, t) - x) / _like(self.std(t).square(), x)

    def std(self, t: Tensor) -> Tensor:
        """``sqrt(1 - exp(-s(t)))``."""
        return (-torch.expm1(-self.schedule.integral(t))).sqrt()

    def _decay(self, x0: Tensor, t: Tensor) -> Tensor:
        return _like((-0.5 * self.schedule.integral(t)).exp(), x0) * x0


class VarianceExploding(Process):
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

    def __init__(
        self,
        manifold: Manifold,
        schedule: Schedule = GeometricVariance(s_min=1e-4, s_max=100.0),
        eps: float = 1e-3,
    ) -> None:
        super().__init__(manifold, schedule, eps)
        self._prior = Normal(manifold, float(schedule.integral(torch.tensor(1.0, dtype=torch.float64)).sqrt()))

    @property
    def prior(self) -> Normal:
        """``N(0, s(1) I)``."""
        return self._prior

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(x)

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros."""
        return torch.zeros_like(x), torch.zeros_like(t)

    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``x0 + sqrt(s) z``."""
        return self.manifold.heat_kernel_sample(x0, self.schedule.integral(t), generator)

    def conditional_score(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``(x0 - x) / s``."""
        return self.manifold.heat_kernel_score(x0, x, self.schedule.integral(t))

    def std(self, t: Tensor) -> Tensor:
        """``sqrt(s(t))``."""
        return self.schedule.integral(t).sqrt()


class Score(Field):
    r"""A score from a field of order one, :math:`s_\theta(t, x) = v_\theta(t, x) / \sigma(t) + 2 b(t, x) / \beta(t)`.

    Near the data the score grows as :math:`1/\sigma(t)`; the network need not. With the second term, the score of
    the prior where the process is reversible, a network of zeros makes the reverse process equal to the forward one.

    References: De Bortoli et al. 2022, arXiv:2202.02763.

    Arguments:
        process: the forward process
        field: the field v
    """

    def __init__(self, process: Process, field: Field) -> None:
        super().__init__(process.manifold)
        self.process, self.field = process, field

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``v / σ + 2 b / β``."""
        rest = 2 * self.process.drift(t, x) / _like(self.process.schedule.beta(t), x)
        return self.field(t, x, context) / _like(self.process.std(t), x) + rest

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two parts' values and divergences; σ and β do not depend on the point."""
        value, div = self.field.with_divergence(t, x, directions, context)
        drift, drift_div = self.process.drift_with_divergence(t, x, directions)
        std, beta = self.process.std(t), self.process.schedule.beta(t)
        return value / _like(std, x) + 2 * drift / _like(beta, x), div / std + 2 * drift_div / beta


class Reverse:
    r"""The λ-family of reversals of a process, all with its marginals if the score is exact.

    .. math:: dX = [-b + (1 - \lambda/2)\,\beta\,s_\theta]\,d\tau + \sqrt{(1 - \lambda)\beta}\,dB,\quad \tau = 1 - t

    References: Huang et al. 2021, arXiv:2106.02808, section 5; on manifolds De Bortoli et al. 2022, section 3.

    Arguments:
        process: the forward process
        score: the field :math:`s_\theta`
        lmbd: λ in [0, 1]; 0 is the reverse SDE, 1 the probability-flow ODE
    """

    def __init__(self, process: Process, score: Field, lmbd: float) -> None:
        if not 0 <= lmbd <= 1:
            raise ValueError(f"reverse: lmbd must be in [0, 1], found {lmbd}.")
        self.process, self.score, self.lmbd = process, score, lmbd

    def drift(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The drift in reversed time, a tangent vector."""
        beta = _like(self.process.schedule.beta(t), x)
        return (1 - self.lmbd / 2) * beta * self.score(t, x, context) - self.process.drift(t, x)

    def diffusion(self, t: Tensor) -> Tensor:
        """``sqrt((1 - λ) β(t))``."""
        return (1 - self.lmbd) ** 0.5 * self.process.diffusion(t)

    def increment(self, t: Tensor, t_next: Tensor, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean displacement and noise standard deviation of a step from t down to t_next, with the exact Δs."""
        integral = self.process.schedule.integral
        ds = integral(t) - integral(t_next)
        move = (1 - self.lmbd / 2) * _like(ds, x) * self.score(t, x, context)
        return move - _like(t - t_next, x) * self.process.drift(t, x), ((1 - self.lmbd) * ds).sqrt()


def reverse(process: Process, score: Field, lmbd: float) -> Reverse:
    """The reversal of ``process`` with index λ (see `Reverse`)."""
    return Reverse(process, score, lmbd)


def _like(coefficient: Tensor, x: Tensor) -> Tensor:
    return coefficient.reshape(-1, *(1,) * (x.dim() - 1))
