"""Riemannian flow matching."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rsgm.distributions import ManifoldDistribution, default_prior
from rsgm.fields import NetworkField, TangentField
from rsgm.likelihood import ODESolver
from rsgm.likelihood.flows import FieldFlow
from rsgm.manifolds import Manifold
from rsgm.models.families import FlowModel
from rsgm.networks import MLP, Network


class FlowMatching(FlowModel):
    r"""A flow from the data to a prior, fitted by regression on the velocities of geodesics.

    .. math:: \mathcal L = \|v_\theta(t, x_t) - \dot x_t\|^2, \qquad x_t = \exp_{x_0}(t \log_{x_0} x_1)

    with :math:`x_0` a data point, :math:`x_1` a draw of the prior and t a uniform time. No solve
    while training; the minimum is a flow between the two laws.

    References: Chen and Lipman 2024, "Flow Matching on General Geometries", arXiv:2302.03660; Lipman et al. 2023,
    arXiv:2210.02747. Their time runs from the prior to the data, here it runs from the data to the prior.

    Arguments:
        manifold: where the points live
        network: factory of the network from its input and output sizes
        field: factory of the tangent field from the manifold and the network factory
        prior: factory of the law at t = 1 from the manifold; None for `default_prior`: uniform where it is compact,
            standard normal where it is flat, and so for each factor of a product
        stratified: one time in each of B equal slices of [0, 1] instead of B independent times: the same mean, less
            variance
        solver: how log-densities and samples are computed

    Example:
        >>> from functools import partial
        >>> from rsgm.manifolds import Sphere
        >>> model = FlowMatching(Sphere(2), network=partial(MLP, hidden=[16]))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        manifold: Manifold,
        network: Callable[[int, int], Network] = MLP,
        field: Callable[[Manifold, Callable[[int, int], Network]], NetworkField] = TangentField,
        prior: Callable[[Manifold], ManifoldDistribution] | None = None,
        stratified: bool = False,
        solver: ODESolver = ODESolver(),
    ) -> None:
        super().__init__(manifold)
        self.flow = FieldFlow(field(manifold, network), (prior or default_prior)(manifold))
        self.stratified, self.solver = stratified, solver

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The squared error of the velocity at one time on one geodesic from each point."""
        n = len(x)
        x1 = self.flow.prior.draw(n).to(x)
        t = torch.rand(n, dtype=x.dtype, device=x.device)
        if self.stratified:
            t = (t + torch.arange(n, dtype=x.dtype, device=x.device)) / n
        xt, velocity = self.manifold.geodesic(x, x1, t)
        error = self.flow.velocity(t, xt, context) - velocity
        return {"loss": self.manifold.squared_norm(xt, error)}
