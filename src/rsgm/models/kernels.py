"""Mixtures of wrapped normal laws, one for each of many centres and families, in the frames of their tangent spaces."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Manifold

#: stands for the logarithm of zero where a derivative is taken: that of the logarithm itself would be no number
NOTHING = -1e30

#: pairs times families that are held at a time, and centres
_TILE, _CENTRES = 2**19, 512


class Kernels(NamedTuple):
    r"""Wrapped normal kernels: the laws of :math:`\exp_{x_i}(v)` for normal v in the tangent space at a centre.

    .. math:: \log k(x) = \log N(v; 0, \Sigma) - \log P(v^T \Sigma^{-1} v < t) - \log|\det d\exp_{x_i}(v)|,
        \quad v = \log_{x_i}(x)

    Where geodesics are shortest up to a finite length R only, v is held to an ellipsoid that fits in the ball of that
    radius, :math:`t = R^2 / \max \sigma^2`, so that each point has one v and the kernel integrates to one. Its share of
    the normal law is a chi-squared probability. On products this holds along the factors with such an R.

    Fields:
        centres: :math:`x_i`, ``(n, *shape)``
        axes: the columns are the principal axes of the covariances in the manifold's frame, ``(n, F, dim, dim)``
        widths: standard deviations along them, ``(n, F, dim)``
    """

    centres: Tensor
    axes: Tensor
    widths: Tensor

    def rows(self, index: Tensor | slice) -> Kernels:
        """The kernels of some of the centres."""
        return Kernels(self.centres[index], self.axes[index], self.widths[index])

    def log_sums(self, manifold: Manifold, x: Tensor, weights: Tensor) -> Tensor:
        r"""The logarithms of :math:`\sum_i w_{ifg} k_{if}(x)`, ``(B, F, G)``, for positive weights ``(n, F, G)``.

        Arguments:
            manifold: of the centres
            x: points ``(B, *shape)``
            weights: of each centre and family, in each of G sums
        """
        families, groups = weights.shape[1:]
        rows = max(1, _TILE // (families * min(_CENTRES, len(weights))))
        chunks = x.split(rows)
        totals = [x.new_full((len(chunk), families, groups), NOTHING) for chunk in chunks]
        for start in range(0, len(weights), _CENTRES):
            part, weight = _Tile(manifold, self.rows(slice(start, start + _CENTRES))), weights[start : start + _CENTRES]
            for number, chunk in enumerate(chunks):
                log_kernel = part.log_prob(chunk)
                top = log_kernel.detach().amax(0)
                kernel = (log_kernel - top).exp()
                sums = torch.stack([(kernel * weight[:, None, :, g]).sum(0) for g in range(groups)], -1)
                totals[number] = torch.logaddexp(totals[number], top[..., None] + sums.log())
        return torch.cat(totals)

    def draw(self, manifold: Manifold, family: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of the kernel ``family`` ``(n,)`` of each centre."""
        one = torch.arange(len(family), device=family.device), family
        chosen = Kernels(self.centres, self.axes[one][:, None], self.widths[one][:, None])
        within = _Tile(manifold, chosen)
        v, wanted = torch.zeros_like(chosen.widths[:, 0]), torch.ones_like(family, dtype=torch.bool)
        while bool(wanted.any()):
            z = torch.randn(v.shape, generator=generator, dtype=v.dtype, device=v.device)
            proposal = (chosen.axes[:, 0] @ (chosen.widths[:, 0] * z)[..., None])[..., 0]
            v = torch.where(wanted[:, None], proposal, v)
            wanted = ~within.holds(v)
        return manifold.expmap(self.centres, manifold.from_frame(self.centres, v))


class _Tile:
    """Kernels of a few centres, with what does not depend on where they are evaluated."""

    def __init__(self, manifold: Manifold, kernels: Kernels) -> None:
        self.manifold, self.centres = manifold, kernels.centres
        axes, widths = kernels.axes, kernels.widths
        self.frame = manifold.frame(kernels.centres)[:, :, None]
        # v^T A v is the product of a row of these coefficients with the products of pairs of the components
        self.quadratic = _pack((axes * widths[..., None, :].pow(-2)) @ axes.mT)
        self.log_constant = -widths.log().sum(-1) - 0.5 * manifold.dim * math.log(2 * math.pi)
        self.limit, self.bounded, self.bounding = None, list(range(manifold.dim)), self.quadratic
        blocks = _blocks(manifold)
        if not blocks:
            return
        self.bounded = [axis for block, _ in blocks for axis in block]
        if len(blocks) == 1 and len(self.bounded) == manifold.dim:
            self.limit = blocks[0][1] ** 2 / widths.square().amax(-1)
        else:
            covariance = (axes * widths[..., None, :].square()) @ axes.mT
            limits = [
                radius**2 / torch.linalg.eigvalsh(covariance[..., block, :][..., block])[..., -1]
                for block, radius in blocks
            ]
            self.limit = torch.stack(limits).amin(0)
            if len(self.bounded) < manifold.dim:
                inner = covariance[..., self.bounded, :][..., self.bounded]
                self.bounding = _pack(torch.linalg.inv(inner))
        half = self.limit.new_tensor(0.5 * len(self.bounded))
        self.log_constant = self.log_constant - torch.special.gammainc(half, 0.5 * self.limit).log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities ``(n, B, F)``."""
        u = self.manifold.logmap(self.centres[:, None], x[None])
        v = self.manifold.inner(self.centres[:, None], self.frame, u).movedim(0, -1)
        # geodesics that meet again leave a density without bound, on a set without volume
        log_det = self.manifold.log_det_exp(self.centres[:, None], u).clamp_min(-30.0)[..., None]
        distance = torch.bmm(_pairs(v), self.quadratic.mT)
        value = self.log_constant[:, None] - 0.5 * distance - log_det
        if self.limit is None:
            return value
        if self.bounding is not self.quadratic:
            distance = torch.bmm(_pairs(v[..., self.bounded]), self.bounding.mT)
        return torch.where(distance < self.limit[:, None], value, NOTHING)

    def holds(self, v: Tensor) -> Tensor:
        """Whether the only kernel of each centre reaches the components ``(n, dim)``."""
        if self.limit is None:
            return torch.ones_like(v[:, 0], dtype=torch.bool)
        return (_pairs(v[:, self.bounded]) * self.bounding[:, 0]).sum(-1) < self.limit[:, 0]


def _blocks(manifold: Manifold, first: int = 0) -> list[tuple[list[int], float]]:
    """The axes of the frame along which geodesics are shortest up to a finite length only, and this length."""
    if not manifold.factors:
        axes = list(range(first, first + manifold.dim))
        return [(axes, manifold.injectivity_radius)] if math.isfinite(manifold.injectivity_radius) else []
    blocks = []
    for factor in manifold.factors:
        blocks += _blocks(factor, first)
        first += factor.dim
    return blocks


def _pairs(v: Tensor) -> Tensor:
    """The products of pairs of components."""
    row, column = torch.triu_indices(v.shape[-1], v.shape[-1], device=v.device)
    return v[..., row] * v[..., column]


def _pack(matrix: Tensor) -> Tensor:
    """The coefficients of the products of `_pairs` in a quadratic form."""
    row, column = torch.triu_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., row, column] * torch.where(row == column, 1.0, 2.0).to(matrix)
