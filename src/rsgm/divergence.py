"""Which directions a divergence is measured along, and the measurement for a general field."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.manifolds import Manifold


class Divergence(ABC):
    r"""An estimator of :math:`\mathrm{div}\,v = \sum_a \langle e_a, \nabla_{e_a} v\rangle`.

    It only chooses tangent directions :math:`u_k`; the divergence is then :math:`\sum_k \langle u_k, \nabla_{u_k}
    v\rangle`, which every field computes in its own way.
    """

    @abstractmethod
    def directions(self, manifold: Manifold, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tangent vectors ``(k, B, *shape)``."""


@dataclass(frozen=True)
class Exact(Divergence):
    """An orthonormal frame: ``dim`` directions, no variance."""

    def directions(self, manifold: Manifold, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The frame at each point."""
        return manifold.frame(x)


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """One Rademacher probe in an orthonormal tangent frame (Hutchinson 1989): unbiased, for the cost of one direction.

    Its variance is the least of all probes with independent entries, and zero in dimension one.
    """

    def directions(self, manifold: Manifold, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A combination of the frame with random signs; the frame itself is not built."""
        batch = x.shape[: x.dim() - len(manifold.shape)]
        bits = torch.randint(0, 2, (manifold.dim, *batch), generator=generator, device=x.device)
        return manifold.from_frame(x, (2 * bits - 1).to(x.dtype).movedim(0, -1))[None]


@dataclass(frozen=True)
class GaussianHutchinson(Divergence):
    """One standard normal tangent probe: unbiased, needs no frame."""

    def directions(self, manifold: Manifold, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A normal tangent vector at each point."""
        return manifold.random_tangent(x, generator)[None]


def with_divergence(
    field: Callable[[Tensor], Tensor], manifold: Manifold, x: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """The value ``(B, *shape)`` and divergence ``(B,)`` of any tangent field, by forward-mode derivatives.

    Where the ambient inner product does not vary, the tangent part of an ambient derivative along a tangent direction
    is the covariant derivative; elsewhere `Manifold.connection_trace` adds what it lacks.
    """

    def push(u: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(field, (x,), (u,))

    value, derivative = torch.func.vmap(push, out_dims=(None, 0))(directions)
    return value, manifold.inner(x, directions, derivative).sum(0) + manifold.connection_trace(x, value)
