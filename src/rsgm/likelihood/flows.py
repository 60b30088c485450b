"""Flows: the ODEs that carry data to a prior."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.distributions import ManifoldDistribution
from rsgm.fields import Field
from rsgm.manifolds import Manifold, expand
from rsgm.processes import ScoreField


class Flow(nn.Module, ABC):
    r"""An ODE :math:`\dot x = v(t, x)` that carries the data, at t = ``start``, to a prior, at t = 1.

    .. math:: \log p(x) = \log p_{\mathrm{prior}}(x_1) + \int_{\mathrm{start}}^1 \mathrm{div}\,v(t, x_t)\,dt

    A subclass may take a total derivative :math:`\tfrac{d}{dt} h(t, x_t)` out of the divergence, where that is
    cheaper or smoother, and give its integral in `boundary`.

    References: Chen et al. 2018, arXiv:1806.07366; Mathieu and Nickel 2020, arXiv:2006.10605.

    Arguments:
        manifold: where the points live
        prior: the law at t = 1
        start: the time of the data
    """

    def __init__(self, manifold: Manifold, prior: ManifoldDistribution, start: float = 0.0) -> None:
        super().__init__()
        self.manifold, self.prior, self.start = manifold, prior, start

    @abstractmethod
    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``v(t, x)``, a tangent vector."""

    @abstractmethod
    def rate(self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The velocity, and its divergence ``(B,)`` but for the total derivative of `boundary`."""

    def velocity_along(
        self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The velocity, and its derivative along one tangent vector at each point; by forward differentiation."""
        return torch.func.jvp(lambda y: self.velocity(t, y, context), (x,), (tangents,))

    def boundary(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """What `rate` leaves out of the integral from the data points ``x``, ``(B,)``; nothing by default."""
        return x.new_zeros(len(x))


class FieldFlow(Flow):
    """The flow of a field.

    Arguments:
        field: the velocity
        prior: the law at t = 1
    """

    def __init__(self, field: Field, prior: ManifoldDistribution) -> None:
        super().__init__(field.manifold, prior)
        self.field = field

    @override
    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.field(t, x, context)

    def rate(self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The field and its divergence."""
        return self.field.with_divergence(t, x, directions, context)


class ScoreFlow(Flow):
    r"""The probability flow of a score model, :math:`v = b - \tfrac12 \beta s_\theta`, from ``process.eps`` on.

    References: Song et al. 2021, arXiv:2011.13456, section 4.3; De Bortoli et al. 2022, arXiv:2202.02763,
    appendix D.

    Arguments:
        score: :math:`s_\theta`
    """

    def __init__(self, score: ScoreField) -> None:
        process = score.process
        super().__init__(process.manifold, process.prior, process.eps)
        self.process, self.score = process, score

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The drift less half the score."""
        return self.process.drift(t, x) - expand(self._half(t), x) * self.score(t, x, context)

    def rate(self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The two parts' values and divergences."""
        score, div = self.score.with_divergence(t, x, directions, context)
        drift, drift_div = self.process.drift_with_divergence(t, x, directions)
        half = self._half(t)
        return drift - expand(half, x) * score, drift_div - half * div

    def _half(self, t: Tensor) -> Tensor:
        return 0.5 * self.process.schedule.beta(t)
