"""Flat space."""

from __future__ import annotations

import math

import geoopt
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.arguments import require_count
from rsgm.heat_kernels import Number, like
from rsgm.manifolds.base import Manifold
from rsgm.manifolds.tensors import expand


class Euclidean(Manifold, geoopt.Euclidean):
    r"""Flat space :math:`\mathbb R^d`: the heat kernel is :math:`N(x_0, s I)`.

    Arguments:
        dim: the dimension d; points have shape ``(d,)``

    Example:
        >>> space = Euclidean(2)
        >>> space.heat_kernel_score(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.5]))
        tensor([[-2., -2.]])
    """

    log_volume = math.inf
    smooth_frame = True

    def __init__(self, dim: int = 2) -> None:
        require_count("Euclidean", dim=dim)
        super().__init__(dim, (dim,))
        self.killing_field_count, self.periods = dim, (math.inf,) * dim

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """The Euclidean product of the ambient space, of no vectors too, of which geoopt's fails."""
        return (u * (u if v is None else v)).sum(-1, keepdim=keepdim)

    def frame(self, x: Tensor) -> Tensor:
        """The coordinate basis, ``(dim, *batch, dim)``."""
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return eye.reshape(self.dim, *(1,) * (x.dim() - 1), self.dim).expand(self.dim, *x.shape)

    @override
    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        return components

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @override
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        return torch.linalg.vector_norm(x - y, dim=-1, keepdim=keepdim)

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        velocity = x1 - x0
        return x0 + expand(t, x0) * velocity, velocity

    @override
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        self._check_size(size)
        return torch.zeros(size, dtype=dtype, device=device)

    @override
    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        return f

    @override
    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        return u.new_zeros(u.shape[:-1])

    @override
    def log_det_exp_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    @override
    def log_det_exp_laplacian(self, x: Tensor, y: Tensor) -> Tensor:
        return y.new_zeros(y.shape[:-1])

    #: normal draws, as in geoopt
    random = geoopt.Euclidean.random

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)

    def bump_log_constant(self, width: Tensor) -> Tensor:
        """Of normal laws of standard deviation ``width``."""
        return -self.dim * (width.log() + 0.5 * math.log(2 * math.pi))

    @override
    def bump_coordinates(self, x: Tensor) -> Tensor:
        return x

    @override
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return centre + width[..., None] * self.random_tangent(centre, generator)

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Exact: a normal draw of variance ``s``."""
        return x0 + expand(like(s, x0).sqrt(), x0) * self.random_tangent(x0, generator)

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        """Normal log-density of variance ``s``, and ``(x0 - x) / s``."""
        s = like(s, x)
        return self.bump_log_prob(x, x0, s.sqrt()), (x0 - x) / expand(s, x)
