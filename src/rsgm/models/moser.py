"""Moser flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions import Uniform
from rsgm.divergence import Divergence, Exact
from rsgm.fields import Field, NetworkField, TangentField
from rsgm.likelihood import ODESolver
from rsgm.likelihood.flows import Flow
from rsgm.manifolds import Manifold, expand
from rsgm.models.families import FlowModel
from rsgm.networks import MLP, Network


class MoserFlow(Flow):
    r"""The flow :math:`\dot x = -u / g` from the density :math:`\nu r_+` to the uniform density :math:`\nu`.

    .. math:: r = 1 - \mathrm{div}\,u, \quad r_+ = \max(\varepsilon, r), \quad g(t, x) = t + (1 - t)\,r_+(x)

    Along it :math:`\tfrac{d}{dt}\log g = (1 - r_+)/g - (1 - t)\,u \cdot \nabla r_+ / g^2`, with which the divergence is

    .. math:: \mathrm{div}(-u/g) = \frac{r - 1}{g} + \frac{(1 - t)\,u \cdot \nabla r_+}{g^2}
        = \frac{r - r_+}{g} - \frac{d}{dt} \log g .

    The last term integrates to :math:`\log r_+(x_0)`, so the log-density of the ODE is :math:`\log \nu r_+(x_0)` less
    what the path crosses of the region where r is clamped, without second derivatives of the network, everywhere.

    References: Rozen et al. 2021, "Moser Flow", arXiv:2108.08052; Moser 1965.

    Arguments:
        field: u, taken at t = 0
        eps: the floor of r, relative to the uniform density
    """

    def __init__(self, field: Field, eps: float = 1e-5) -> None:
        super().__init__(field.manifold, Uniform(field.manifold))
        self.field, self.eps = field, eps

    def ratio(self, x: Tensor, directions: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """u, and r measured along ``directions``, ``(B,)``."""
        u, div = self.field.with_divergence(x.new_zeros(len(x)), x, directions, context)
        return u, 1 - div

    @override
    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._both(t, x, context)[0]

    def rate(self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The velocity and ``(r - r+) / g``; r is exact whatever the ``directions``, for it defines the flow."""
        return self._both(t, x, context)

    @override
    def velocity_along(
        self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        # by differentiating backward twice, for the fused derivatives of networks have no forward one
        return torch.autograd.functional.jvp(lambda y: self.velocity(t, y, context), x, tangents)

    @override
    def boundary(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.ratio(x, self.manifold.frame(x), context)[1].clamp_min(self.eps).log()

    def _both(self, t: Tensor, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        u, r = self.ratio(x, self.manifold.frame(x), context)
        floored = r.clamp_min(self.eps)
        g = t + (1 - t) * floored
        return -u / expand(g, x), (r - floored) / g


class Moser(FlowModel):
    r"""A Moser flow: a vector field whose divergence is the density, relative to the uniform density :math:`\nu`.

    .. math:: \mathcal L = -\log(\nu r_+(x)) + \alpha\,E_{y \sim \nu}\,r_-(y), \qquad
        r = 1 - \mathrm{div}\,u, \quad r_+ = \max(\varepsilon, r), \quad r_- = \varepsilon - \min(\varepsilon, r)

    No solve while training. :math:`\nu r_+` is not normalised where r is clamped; the log-density is that of the flow
    (see `MoserFlow`). Everything is relative to :math:`\nu`, so nothing underflows in high dimension.

    References: Rozen, Grover, Nickel, Lipman 2021, "Moser Flow: Divergence-based Generative Modeling on Manifolds",
    arXiv:2108.08052.

    Arguments:
        manifold: where the points live; compact
        network: factory of the network from its input and output sizes; it is evaluated at t = 0
        field: factory of the tangent field u from the manifold and the network factory
        alpha: weight of the penalty on negative densities
        uniform_points: K, drawn at each step for the penalty
        eps: the floor of the density, relative to the uniform density
        divergence: of training; a stochastic one makes the logarithm biased downwards
        solver: how log-densities and samples are computed

    Raises:
        ValueError: for a manifold that is not compact

    Example:
        >>> from functools import partial
        >>> from rsgm.manifolds import Sphere
        >>> model = Moser(Sphere(2), network=partial(MLP, hidden=[16]))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        manifold: Manifold,
        network: Callable[[int, int], Network] = MLP,
        field: Callable[[Manifold, Callable[[int, int], Network]], NetworkField] = TangentField,
        alpha: float = 100.0,
        uniform_points: int = 1000,
        eps: float = 1e-5,
        divergence: Divergence = Exact(),
        solver: ODESolver = ODESolver(),
    ) -> None:
        super().__init__(manifold)
        if not (alpha >= 0 and uniform_points >= 1 and eps > 0):
            raise ValueError(
                "Moser: alpha >= 0, uniform_points >= 1 and eps > 0 are needed, found "
                f"{alpha}, {uniform_points} and {eps}."
            )
        self.flow = MoserFlow(field(manifold, network), eps)
        self.alpha, self.uniform_points, self.divergence, self.solver = alpha, uniform_points, divergence, solver

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The negative log of the floored density of each point, and the penalty, the same for all."""
        n, k, eps = len(x), self.uniform_points, self.flow.eps
        y = self.manifold.random_uniform(k, *self.manifold.shape, dtype=x.dtype, device=x.device)
        if context is not None:
            # the density is constrained under every context of the batch in turn
            context = torch.cat([context, context[torch.arange(k, device=x.device) % n]])
        points = torch.cat([x, y])
        _, r = self.flow.ratio(points, self.divergence.directions(self.manifold, points), context)
        nll = self.manifold.log_volume - r[:n].clamp_min(eps).log()
        penalty = (eps - r[n:].clamp_max(eps)).mean().expand(n)
        return {"loss": nll + self.alpha * penalty, "floored_nll": nll, "penalty": penalty}
