"""Normal laws made for a manifold: wrapped by the exponential map, and Brownian."""

from __future__ import annotations

import math

import torch
from scipy.special import gammainccinv
from torch import Tensor
from torch.distributions.constraints import Constraint, independent
from typing_extensions import override

from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.checks import OnManifold, PositiveFinite, floating
from rsgm.manifolds import Manifold

#: share of a normal law that may be longer than geodesics are shortest
_BEYOND = 1e-7


class WrappedNormal(ManifoldDistribution):
    r"""The law of :math:`\exp_\mu(v)` for a normal v in the tangent space at :math:`\mu`.

    .. math:: \log p(x) = \log N(\log_\mu(x); 0, \mathrm{diag}\,\sigma^2) - \log|\det d\exp_\mu|

    References: Nagano et al. 2019, arXiv:1902.02992; Mathieu et al. 2019, arXiv:1901.06033.

    Arguments:
        manifold: one that knows `log_det_exp`
        loc: :math:`\mu`, points ``(*batch, *shape)``; by default the manifold's origin
        scale: :math:`\sigma`, a number, or ``(dim,)`` or ``(*batch, dim)`` along the axes of ``manifold.frame(loc)``
        validate_args: check ``loc`` and values (default: as `torch.distributions` does)

    Raises:
        ValueError: a ``loc`` that is no point, a scale that is not positive and finite, or one so large that the tails
            would wrap round a compact manifold

    Example:
        >>> from rsgm.manifolds import Hyperbolic
        >>> plane = Hyperbolic(2)
        >>> law = WrappedNormal(plane, plane.origin(3), 0.5)
        >>> law.log_prob(plane.origin(3))
        tensor(-0.4516)
    """

    has_rsample = True

    def __init__(
        self,
        manifold: Manifold,
        loc: Tensor | None = None,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        loc = manifold.origin(*manifold.shape) if loc is None else loc
        loc, event = floating(loc), torch.Size(manifold.shape)
        batch = _batch("WrappedNormal", loc, event)
        # a number keeps its digits: points may come in any precision
        scale = torch.as_tensor(scale, dtype=torch.float64)
        if scale.shape[-1:] not in (torch.Size(), torch.Size([1]), torch.Size([manifold.dim])):
            raise ValueError(
                f"WrappedNormal: scale must be a number or end with the shape ({manifold.dim},) of a tangent vector, "
                f"found {tuple(scale.shape)}."
            )
        batch = torch.broadcast_shapes(batch, scale.shape[:-1])
        self.manifold, self.loc, self.scale = manifold, loc.expand(batch + event), scale.expand(*batch, manifold.dim)
        wrong = scale[~PositiveFinite(loc.dtype).check(scale)]
        if len(wrong):
            raise ValueError(f"WrappedNormal: scale must be positive, found {float(wrong[0])}, and it must be finite.")
        for axes, radius, _ in manifold.cuts:
            widest, bound = self.scale[..., axes].max(), radius / math.sqrt(2 * gammainccinv(len(axes) / 2, _BEYOND))
            if widest > bound:
                raise ValueError(
                    f"WrappedNormal: with the scale {float(widest):.3g} the tails wrap round {manifold}, whose "
                    f"geodesics are shortest up to {radius:.3g}; use BrownianLaw there, or a scale below {bound:.3g}."
                )
        super().__init__(batch, event, validate_args=validate_args)

    @property
    @override
    def batched(self) -> dict[str, int]:
        return {"loc": len(self.event_shape), "scale": 1}

    @property
    @override
    def arg_constraints(self) -> dict[str, Constraint]:
        return {"loc": OnManifold(self.manifold), "scale": independent(PositiveFinite(self.loc.dtype), 1)}

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        value = self._point(value)
        loc, scale = self.loc.to(value), self.scale.to(value)
        u = self.manifold.logmap(loc, value)
        components = self.manifold.inner(loc, self._frame(loc, u.dim()), u).movedim(0, -1)
        normal = -0.5 * (components / scale).square().sum(-1) - scale.log().sum(-1)
        return normal - 0.5 * self.manifold.dim * math.log(2 * math.pi) - self.manifold.log_det_exp(loc, u)

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = self.loc.device if generator is None else generator.device
        loc, scale = self.loc.to(device), self.scale.to(device, self.loc.dtype)
        z = torch.randn(n, *scale.shape, generator=generator, dtype=loc.dtype, device=device)
        return self.manifold.expmap(loc.expand(n, *loc.shape), self.manifold.from_frame(loc, scale * z))

    @property
    def mode(self) -> Tensor:
        """``loc``, where geodesics never meet again; elsewhere the density may be unbounded where they do."""
        return super().mode if math.isfinite(self.manifold.injectivity_radius) else self.loc

    def _frame(self, loc: Tensor, dims: int) -> Tensor:
        """The frame with the axes that let it broadcast with points of so many axes."""
        frame = self.manifold.frame(loc)
        return frame.reshape(len(frame), *(1,) * (dims - loc.dim()), *loc.shape)


class BrownianLaw(ManifoldDistribution):
    r"""Brownian motion from ``loc`` at variance time s: the heat kernel, a normal law made for the manifold.

    On flat space and flat tori it is the (wrapped) normal of variance s, on SO(3) the IGSO(3) law.

    Arguments:
        manifold: one with a known heat kernel
        loc: the centre, points ``(*batch, *shape)``
        time: s > 0, radians\ :sup:`2`, a number or a tensor that broadcasts with ``batch``
        validate_args: check the arguments and values (default: as `torch.distributions` does)

    Raises:
        ValueError: a ``loc`` that is no point, or a time that is not positive and finite
    """

    def __init__(
        self, manifold: Manifold, loc: Tensor, time: Tensor | float, validate_args: bool | None = None
    ) -> None:
        loc, event = floating(loc), torch.Size(manifold.shape)
        batch = _batch("BrownianLaw", loc, event)
        # a number keeps its digits: points may come in any precision
        time = torch.as_tensor(time, dtype=torch.float64, device=loc.device)
        batch = torch.broadcast_shapes(batch, time.shape)
        self.manifold, self.loc, self.time = manifold, loc.expand(batch + event), time.expand(batch)
        super().__init__(batch, event, validate_args=validate_args)

    @property
    @override
    def batched(self) -> dict[str, int]:
        return {"loc": len(self.event_shape), "time": 0}

    @property
    @override
    def arg_constraints(self) -> dict[str, Constraint]:
        return {"loc": OnManifold(self.manifold), "time": PositiveFinite(self.loc.dtype)}

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        value = self._point(value)
        batch = value.shape[: value.dim() - len(self.event_shape)]
        loc, time = self.loc.to(value).expand_as(value), self.time.to(value).expand(batch)
        return self.manifold.heat_kernel_log_prob(loc, value, time)

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        loc, time = self.loc.expand(n, *self.loc.shape), self.time.to(self.loc).expand(n, *self.time.shape)
        return self.manifold.heat_kernel_sample(loc, time, generator)

    @property
    @override
    def mode(self) -> Tensor:
        return self.loc


def _batch(owner: str, loc: Tensor, event: torch.Size) -> torch.Size:
    """The batch shape of points ``loc`` of the shape ``event``."""
    batch = loc.shape[: max(0, loc.dim() - len(event))]
    if loc.shape[len(batch) :] != event:
        raise ValueError(f"{owner}: loc must end with the shape {tuple(event)} of a point, found {tuple(loc.shape)}.")
    return batch
