"""Tangent vector fields: a network made tangent, and the scaling that turns it into a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rsgm import divergence
from rsgm.manifolds import Manifold
from rsgm.networks import Network


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

    The point is projected, the network evaluated, the output made tangent: once, here. With tangent directions
    :math:`\mathrm{div}\,v = \sum_k \langle u_k, B\,Df\,u_k\rangle + c(x) \cdot f`, so no projection is
    differentiated; `correction` is the last term.

    Arguments:
        manifold: where the field lives
        network: factory of the network from its input and output sizes
    """

    def __init__(self, manifold: Manifold, network: Callable[[int, int], Network]) -> None:
        super().__init__(manifold)
        size = torch.Size(manifold.shape).numel()
        self.network = network(size, self.outputs(manifold))

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
        return self.combine(x, self.network(t, self._flat(x), context))

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value and divergence from one fused evaluation of the network."""
        x = self.manifold.projx(x)
        f, derivative = self.network.jvp(t, self._flat(x), self._flat(directions), context)
        trace = self.manifold.inner(x, directions, self.combine(x, derivative)).sum(0)
        return self.combine(x, f), trace + self.correction(x, f)

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

    def outputs(self, manifold: Manifold) -> int:
        """The ambient dimension."""
        return torch.Size(manifold.shape).numel()

    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        """The tangent projection."""
        return self.manifold.proju(x, f.unflatten(-1, self.manifold.shape))

    def correction(self, x: Tensor, f: Tensor) -> Tensor:
        """``<H, f>``."""
        return self.manifold.inner(x, self.manifold.mean_curvature(x), f.unflatten(-1, self.manifold.shape))


class DivergenceFreeField(NetworkField):
    r"""Rotations of S² with network coefficients, :math:`v = \Omega(t, x) \times x`.

    The three Killing fields :math:`K_{ij} = x_i e_j - x_j e_i` span every tangent space and are divergence-free
    (the combination is not), so :math:`\mathrm{div}\,v = \sum_{ij} K_{ij} \cdot \nabla f_{ij}`.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.4 ("divergence-free vector fields").

    Arguments:
        manifold: a `Sphere` of dimension 2
        network: factory of the network from its input and output sizes
    """

    def outputs(self, manifold: Manifold) -> int:
        """Three coefficients."""
        if manifold.shape != (3,) or manifold.dim != 2:
            raise ValueError(f"DivergenceFreeField is defined on Sphere(2), found {manifold}; use TangentField there.")
        return 3

    def combine(self, x: Tensor, f: Tensor) -> Tensor:
        """``Ω × x``."""
        return torch.linalg.cross(f, x.expand_as(f))

    def correction(self, x: Tensor, f: Tensor) -> float:
        """Zero: the basis is divergence-free."""
        return 0.0


class ScaledField(Field):
    r"""A score from a field of order one, :math:`s_\theta(t, x) = v_\theta(t, x) / \sigma(t)`.

    Near the data the score grows as :math:`1/\sigma(t)`; the network need not.

    Arguments:
        field: the field v
        scale: ``t -> σ(t)``, ``(B,) -> (B,)``
    """

    def __init__(self, field: Field, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__(field.manifold)
        self.field, self.scale = field, scale

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``v / σ``."""
        scale = self.scale(t)
        return self.field(t, x, context) / scale.reshape(-1, *(1,) * (x.dim() - 1))

    def with_divergence(
        self, t: Tensor, x: Tensor, directions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both divided by σ, which does not depend on the point."""
        value, div = self.field.with_divergence(t, x, directions, context)
        scale = self.scale(t)
        return value / scale.reshape(-1, *(1,) * (x.dim() - 1)), div / scale
