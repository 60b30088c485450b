"""How fast the noise grows: β(t), its integral s(t) and the inverse."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.arguments import require_positive


class Schedule(ABC):
    r"""A noise rate :math:`\beta(t)` on [0, 1] with its exact integral.

    :math:`s(t) = \int_0^t \beta(u)\,du` is the variance time: Brownian motion run for it has the heat kernel
    :math:`p_{s(t)}`.
    """

    #: steps of the chain that the schedule was made of; None in continuous time
    count: int | None = None

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        r""":math:`\beta(t)`, per unit of t."""

    @abstractmethod
    def integral(self, t: Tensor) -> Tensor:
        """The variance time s(t)."""

    @abstractmethod
    def inverse(self, s: Tensor) -> Tensor:
        """The t with ``integral(t) == s``."""

    def chain(self, owner: str) -> int:
        """`count`, which ``owner`` needs.

        Raises:
            ValueError: in continuous time
        """
        if self.count is None:
            raise ValueError(
                f"{owner} counts the steps of a chain, and the process's {type(self).__name__} has none; give it a "
                "discrete schedule, such as DiscreteLinear."
            )
        return self.count

    def fit(self, points: Tensor) -> Schedule:
        """The schedule for training points ``(N, *shape)``: this one, unless it leaves its range to them."""
        return self


@dataclass(frozen=True)
class LinearBeta(Schedule):
    r""":math:`\beta(t) = \beta_0 + t(\beta_1 - \beta_0)` (Song et al. 2021, arXiv:2011.13456, appendix C).

    Arguments:
        beta_0: rate at the data, t = 0
        beta_1: rate at the prior, t = 1

    Example:
        >>> LinearBeta(beta_0=0.001, beta_1=5.0).integral(torch.tensor(1.0))
        tensor(2.5005)
    """

    beta_0: float = 1e-3
    beta_1: float = 5.0

    def __post_init__(self) -> None:
        require_positive("LinearBeta", beta_0=self.beta_0, beta_1=self.beta_1)

    @override
    def beta(self, t: Tensor) -> Tensor:
        return self.beta_0 + t * (self.beta_1 - self.beta_0)

    @override
    def integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_0 + 0.5 * (self.beta_1 - self.beta_0) * t)

    def inverse(self, s: Tensor) -> Tensor:
        """The root of the quadratic, in the form that does not cancel."""
        root = (self.beta_0**2 + 2 * (self.beta_1 - self.beta_0) * s).clamp_min(0).sqrt()
        return 2 * s / (self.beta_0 + root)


@dataclass(frozen=True)
class QuadraticBeta(Schedule):
    r""":math:`\beta(t) = \beta_0 + t^2(\beta_1 - \beta_0)`, with :math:`\beta_1 > \beta_0`.

    Arguments:
        beta_0: rate at the data, t = 0
        beta_1: rate at the prior, t = 1
    """

    beta_0: float = 1e-3
    beta_1: float = 5.0

    def __post_init__(self) -> None:
        require_positive("QuadraticBeta", beta_0=self.beta_0)
        if not self.beta_1 > self.beta_0:
            raise ValueError(f"QuadraticBeta: beta_1 must exceed beta_0 = {self.beta_0}, found {self.beta_1}.")

    @override
    def beta(self, t: Tensor) -> Tensor:
        return self.beta_0 + t.square() * (self.beta_1 - self.beta_0)

    @override
    def integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_0 + (self.beta_1 - self.beta_0) / 3 * t.square())

    def inverse(self, s: Tensor) -> Tensor:
        """The one real root of the depressed cubic, by hyperbolic functions."""
        third = (self.beta_1 - self.beta_0) / 3
        scale = math.sqrt(self.beta_0 / (3 * third))
        return 2 * scale * torch.sinh(torch.asinh(1.5 * s / (self.beta_0 * scale)) / 3)


@dataclass(frozen=True)
class ConstantBeta(Schedule):
    r""":math:`\beta(t) = \beta`.

    Arguments:
        rate: the constant β
    """

    rate: float = 5.0

    def __post_init__(self) -> None:
        require_positive("ConstantBeta", rate=self.rate)

    @override
    def beta(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.rate)

    @override
    def integral(self, t: Tensor) -> Tensor:
        return self.rate * t

    @override
    def inverse(self, s: Tensor) -> Tensor:
        return s / self.rate


@dataclass(frozen=True)
class GeometricVariance(Schedule):
    r""":math:`s(t) = s_{\min}(s_{\max}/s_{\min})^t`: the same share of times for every decade of scale.

    For sharp data. The integral starts at ``s_min``, not at 0, so every time is safe to evaluate.

    Arguments:
        s_min: variance time at t = 0, radians²; its root is the finest resolved scale
        s_max: variance time at t = 1
    """

    s_min: float = 1e-6
    s_max: float = 4.0

    def __post_init__(self) -> None:
        require_positive("GeometricVariance", s_min=self.s_min)
        if not self.s_max > self.s_min:
            raise ValueError(f"GeometricVariance: s_max must exceed s_min = {self.s_min}, found {self.s_max}.")

    @override
    def beta(self, t: Tensor) -> Tensor:
        return self.integral(t) * math.log(self.s_max / self.s_min)

    @override
    def integral(self, t: Tensor) -> Tensor:
        return self.s_min * torch.exp(t * math.log(self.s_max / self.s_min))

    @override
    def inverse(self, s: Tensor) -> Tensor:
        return (s / self.s_min).log() / math.log(self.s_max / self.s_min)
