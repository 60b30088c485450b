"""Tangent vector fields: a network made tangent, and the scaling that turns it into a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm import divergence
from rsgm.arguments import require_factory
from rsgm.manifolds import Manifold
from rsgm.networks import value_and_jvp


class Field(nn.Module, ABC):
    """A time-dependent tangent vector field ``f(t, x, context)`` on ``manifold``.

    ``t`` is ``(B,)``, ``x`` is ``(B, *manifold.shape)``, the value has the shape of ``x`` and is tangent there.
    A subclass needs only `forward`; override `with_divergence` where the derivative can share work.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The tangent vectors."""

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value and divergence ``(B,)`` measured along ``directions`` ``(k, B, *shape)`` (see `rsgm.divergence`)."""
        return divergence.with_divergence(lambda y: self(t, y, context), self.manifold, x, directions)


class NetworkField(Field, ABC):
    r"""A network's output f combined linearly into a tangent vector, :math:`v = B(x) f(t, x)`.

    The point is projected, the network evaluated in the precision of its weights, the output made tangent in that of
    the point: once, here. With tangent directions
    :math:`\mathrm{div}\,v = \sum_k \langle u_k, B\,Df\,u_k\rangle + c(x) \cdot f`, so no projection is
    differentiated; `correction` is the last term.

    Arguments:
        manifold: where the field lives
        network: factory of the network from its input and output sizes, a `rsgm.networks.Network` or
            any module with its `forward`
    """

    def __init__(self, manifold: Manifold, network: Callable[[int, int], nn.Module]) -> None:
        super().__init__(manifold)
        size = torch.Size(manifold.shape).numel()
        self.network = require_factory(network, f"{type(self).__name__}: network", "MLP")(size, self.outputs(manifold))

    @abstractmethod
    def outputs(self, manifold: Manifold) -> int:
        """The size of the network's output."""

    @abstractmethod
    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        """``B(x) f``: outputs ``(…, B, outputs)`` to tangent vectors ``(…, B, *shape)``."""

    @abstractmethod
    def correction(self, x: Tensor, f: Tensor) -> Tensor | float:
        """``c(x) · f``, the divergence of the combination itself, ``(B,)``."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Point projected, network, tangent combination."""
        x = self.manifold.projx(x)
        f = self.network(*self._as_weights(t, self._flat(x), context))
        return self.combine(x, f.to(x.dtype))

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value and divergence from one fused evaluation of the network."""
        x = self.manifold.projx(x)
        parts = value_and_jvp(self.network, *self._as_weights(t, self._flat(x), self._flat(directions), context))
        f, derivative = (part.to(x.dtype) for part in parts)
        trace = self.manifold.inner(x, directions, self.combine(x, derivative)).sum(0)
        return self.combine(x, f), trace + self.correction(x, f)

    def _as_weights(self, *inputs: Tensor | None) -> list[Tensor | None]:
        weight = next(self.network.parameters(), None)
        return [part if part is None or weight is None else part.to(weight.dtype) for part in inputs]

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(x.dim() - len(self.manifold.shape))


class TangentField(NetworkField):
    r"""The tangent projection of an ambient network, :math:`v = P_x f`; on :math:`\mathbb R^d`, the network.

    Its divergence is :math:`\sum_a \langle e_a, Df\,e_a\rangle + \langle H, f\rangle` with the mean curvature H:
    on the sphere :math:`\sum_a \langle e_a, Df\,e_a\rangle - d\,\langle x, f\rangle`.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.4 ("projected vectors").

    Arguments:
        manifold: where the field lives
        network: factory of the network from its input and output sizes
    """

    @override
    def outputs(self, manifold: Manifold) -> int:
        return torch.Size(manifold.shape).numel()

    @override
    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        return self.manifold.proju(x, f.unflatten(-1, self.manifold.shape))

    @override
    def correction(self, x: Tensor, f: Tensor) -> Tensor:
        return self.manifold.inner(x, self.manifold.projection_trace(x), f.unflatten(-1, self.manifold.shape))


class DivergenceFreeField(NetworkField):
    r"""Network coefficients on divergence-free fields, :math:`v = \sum_k f_k(t, x)\,K_k(x)`.

    The :math:`K_k` are Killing fields that span every tangent space (see `Manifold.combine_killing_fields`): rotations
    on spheres, the coordinate fields on tori, the left-invariant fields on SO(3). They are divergence-free, their
    combination with varying coefficients is not:
    :math:`\mathrm{div}\,v = \sum_k K_k \cdot \nabla f_k`.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.4 ("divergence-free vector fields").

    Arguments:
        manifold: one whose Killing fields are known (`Manifold.killing_field_count` is not zero)
        network: factory of the network from its input and output sizes
    """

    def outputs(self, manifold: Manifold) -> int:
        """One coefficient for each Killing field."""
        if not manifold.killing_field_count:
            raise ValueError(f"DivergenceFreeField: {manifold} has no known divergence-free fields; use TangentField.")
        return manifold.killing_field_count

    @override
    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        return self.manifold.combine_killing_fields(x, f)

    def correction(self, x: Tensor, f: Tensor) -> float:
        """Zero: the basis is divergence-free."""
        return 0.0


class FrameField(NetworkField):
    r"""Network components in the manifold's frame, :math:`v = \sum_a f_a(t, x)\,e_a(x)`: as long as the output is.

    On hyperbolic space the frame is that of the origin carried along geodesics. The other fields are longer by the
    exponential of the distance from there, so that the flow of an untrained network leaves the space in finite time.
    Its divergence is :math:`\sum_a e_a \cdot \nabla f_a + f_a\,\mathrm{div}\,e_a`.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.4 ("parallel transported vectors").

    Arguments:
        manifold: one whose `Manifold.frame` is smooth everywhere: hyperbolic and flat spaces, tori, SO(3), products
        network: factory of the network from its input and output sizes

    Raises:
        ValueError: for another manifold
    """

    @override
    def outputs(self, manifold: Manifold) -> int:
        if not manifold.smooth_frame:
            raise ValueError(f"FrameField: {manifold} has no known frame that is smooth everywhere; use TangentField.")
        return manifold.dim

    @override
    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        return self.manifold.from_frame(x, f)

    @override
    def correction(self, x: Tensor, f: Tensor) -> Tensor:
        return (f * self.manifold.frame_divergence(x)).sum(-1)
