"""Draws of a flow with the log-density of the law that they have, without the flow's divergence: to check integrals."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.divergence import Exact
from rsgm.likelihood.flows import Flow
from rsgm.likelihood.solver import integrate

#: points that choose the steps, and the accuracy which the steps are chosen for
_PILOTS, _TOLERANCE = 64, 1e-5
#: of the four slopes of a step of Runge and Kutta
_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


class Draws(NamedTuple):
    """Points and their log-densities.

    Fields:
        points: ``(n, *shape)``
        log_density: ``(n,)``, nats
    """

    points: Tensor
    log_density: Tensor


def transport(flow: Flow, n: int, context: Tensor | None, generator: torch.Generator) -> Draws:
    r"""Draws :math:`x = F(z)` of the prior's z, and the log-density q of the law that they have.

    F follows the flow back to the data in a few fixed steps of Runge and Kutta, so it is a smooth map in closed form.
    Its law is, by the change of variables in frames of the tangent spaces,

    .. math:: \log q(x) = \log p_{\mathrm{prior}}(z) - \log |\det DF(z)|,

    with the derivative DF taken forward through every step. No divergence enters and no accuracy of the steps is
    assumed. For any function p therefore :math:`E[p(x) / q(x)] = \int p`, where F is one-to-one, as a flow is; and as q
    is nearly the flow's density, so is p where it is right, and the ratio hardly varies.

    The steps are those that the adaptive solver takes for other draws of the prior.

    References: Rezende and Mohamed 2015, arXiv:1505.05770, equation 5 (the change of variables); Müller et al. 2019,
    ACM Trans. Graph. 38, "Neural importance sampling" (a flow as the proposal).

    Arguments:
        flow: whose prior is drawn
        n: number of draws
        context: ``(n, features)``, if the flow is conditional
        generator: of the draws

    Raises:
        SolveError: if the solve that chooses the steps fails
    """
    manifold = flow.manifold
    with torch.inference_mode(False), torch.no_grad():
        times = _steps(flow, context, generator)
        z = manifold.projx(flow.prior.draw(n, generator).double())
        # each point once for each direction
        x, tangents = z.repeat(manifold.dim, *(1,) * len(manifold.shape)), manifold.frame(z).flatten(0, 1)
        rows = None if context is None else context.repeat(manifold.dim, 1)
        for now, later in itertools.pairwise(times):
            x, tangents = _runge_kutta(flow, x, tangents, now, later, rows)
        x, tangents = x[:n], tangents.unflatten(0, (manifold.dim, n))
        derivative = manifold.inner(x, manifold.frame(x)[:, None], tangents).movedim(-1, 0)
        return Draws(x, flow.prior.log_prob(z) - torch.linalg.slogdet(derivative).logabsdet)


def _steps(flow: Flow, context: Tensor | None, generator: torch.Generator) -> list[float]:
    """From t = 1 to the time of the data."""
    x = flow.manifold.projx(flow.prior.draw(_PILOTS, generator).double())
    if context is not None:
        context = context[torch.arange(_PILOTS, device=context.device) % len(context)]

    def slope(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return flow.rate(t.to(y.dtype).expand(len(y)), y, Exact().directions(flow.manifold, y), context)

    times = [1.0]
    integrate(slope, flow.manifold, x, 1.0, flow.start, _TOLERANCE, accepted=times.append)
    return times


def _runge_kutta(
    flow: Flow, x: Tensor, tangents: Tensor, now: float, later: float, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One classical step of the fourth order in the ambient space, each stage projected, and its derivative."""
    h = later - now

    def moved(share: float, slope: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        step = share * h
        return torch.func.jvp(flow.manifold.projx, (x + step * slope,), (tangents + step * change,))

    def velocity(share: float, y: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return flow.velocity_along(y.new_full((len(y),), now + share * h), y, directions, context)

    slopes = [velocity(0.0, x, tangents)]
    for share in (0.5, 0.5, 1.0):
        slopes.append(velocity(share, *moved(share, *slopes[-1])))
    return moved(1.0, *(sum(w * k for w, k in zip(_WEIGHTS, part, strict=True)) for part in zip(*slopes, strict=True)))
