"""Normal laws made for a manifold: wrapped by the exponential map, and Brownian."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from rsgm.distributions.base import ManifoldDistribution
from rsgm.manifolds import Manifold


class WrappedNormal(ManifoldDistribution):
    r"""The law of :math:`\exp_\mu(v)` for a normal v in the tangent space at :math:`\mu`.

    .. math:: \log p(x) = \log N(\log_\mu(x); 0, \mathrm{diag}\,\sigma^2) - \log|\det d\exp_\mu|

    References: Nagano et al. 2019, arXiv:1902.02992; Mathieu et al. 2019, arXiv:1901.06033.

    Arguments:
        manifold: one that knows `log_det_exp`
        loc: :math:`\mu`, points ``(*batch, *shape)``; by default the manifold's origin
        scale: :math:`\sigma`, a number, or ``(dim,)`` or ``(*batch, dim)`` along the axes of ``manifold.frame(loc)``

    Raises:
        ValueError: a ``loc`` of the wrong shape, a scale that is not positive, or one so large that the tails would
            wrap round a compact manifold

    Example:
        >>> from rsgm.manifolds import Hyperbolic
        >>> plane = Hyperbolic(2)
        >>> law = WrappedNormal(plane, plane.origin(3), 0.5)
        >>> law.log_prob(plane.origin(3))
        tensor(-0.4516)
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, loc: Tensor | None = None, scale: Tensor | float = 1.0) -> None:
        event = torch.Size(manifold.shape)
        loc = manifold.origin(*event) if loc is None else loc
        batch = loc.shape[: loc.dim() - len(event)]
        if loc.shape[len(batch) :] != event:
            raise ValueError(
                f"WrappedNormal: loc must end with the shape {tuple(event)} of a point, found {tuple(loc.shape)}."
            )
        # a number keeps its digits: points may come in any precision
        scale = torch.as_tensor(scale, dtype=torch.float64)
        self.manifold, self.loc, self.scale = manifold, loc, scale.expand(*batch, manifold.dim)
        if not bool((self.scale > 0).all()):
            raise ValueError(f"WrappedNormal: scale must be positive, found {float(scale.min())}.")
        if float(self.scale.max()) > manifold.injectivity_radius / 6:
            raise ValueError(
                f"WrappedNormal: with the scale {float(self.scale.max()):.3g} the tails wrap round {manifold}, whose "
                f"geodesics are shortest up to {manifold.injectivity_radius:.3g}; use BrownianLaw "
                "there, or a scale six times smaller than that length."
            )
        super().__init__(batch, event, validate_args=False)

    def take(self, index: Tensor) -> WrappedNormal:
        """The laws that ``index`` selects."""
        return WrappedNormal(self.manifold, self.loc[index], self.scale[index])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *batch, *shape)``."""
        loc, scale = self.loc.to(value), self.scale.to(value)
        u = self.manifold.logmap(loc, value)
        components = self.manifold.inner(loc, self._frame(loc, u.dim()), u).movedim(0, -1)
        normal = -0.5 * (components / scale).square().sum(-1) - scale.log().sum(-1)
        return normal - 0.5 * self.manifold.dim * math.log(2 * math.pi) - self.manifold.log_det_exp(loc, u)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *shape)`` on the generator's device."""
        device = self.loc.device if generator is None else generator.device
        loc, scale = self.loc.to(device), self.scale.to(device, self.loc.dtype)
        z = torch.randn(n, *scale.shape, generator=generator, dtype=loc.dtype, device=device)
        frame = self._frame(loc, 1 + loc.dim())
        components = (scale * z).movedim(-1, 0).reshape(-1, n, *self.batch_shape, *(1,) * len(self.event_shape))
        return self.manifold.expmap(loc.expand(n, *loc.shape), (components * frame).sum(0))

    def _frame(self, loc: Tensor, dims: int) -> Tensor:
        """The frame with the axes that let it broadcast with points of so many axes."""
        frame = self.manifold.frame(loc)
        return frame.reshape(len(frame), *(1,) * (dims - loc.dim()), *loc.shape)


class BrownianLaw(ManifoldDistribution):
    r"""Brownian motion from ``loc`` at variance time s: the heat kernel, a normal law made for the manifold.

    On flat space and flat tori it is the (wrapped) normal of variance s, on SO(3) the IGSO(3) law.

    Arguments:
        manifold: one with a known heat kernel
        loc: the centre, one point
        time: s > 0, radians\ :sup:`2`
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, loc: Tensor, time: float) -> None:
        self.manifold, self.loc, self.time = manifold, loc, time
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *shape)``."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return self.manifold.heat_kernel_log_prob(self.loc.expand_as(value), value, value.new_full(batch, self.time))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *shape)``."""
        centre = self.loc.expand(n, *self.event_shape)
        return self.manifold.heat_kernel_sample(centre, centre.new_full((n,), self.time), generator)
