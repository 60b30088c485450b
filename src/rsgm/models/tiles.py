"""Wrapped normal kernels of a few centres, at a few points."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from rsgm.manifolds import Manifold

#: stands for the logarithm of zero where a derivative is taken: that of the logarithm itself would be no number
NOTHING = -1e30
#: least logarithm of the determinant of exp
LEAST_LOG_DET = -30.0


class Tile:
    """Wrapped normal kernels of a few centres (see `Kernels`), with what does not depend on where they are evaluated.

    Arguments:
        manifold: of the centres
        centres: ``(n, *shape)``
        axes: the columns are the principal axes of the covariances in the manifold's frame, ``(n, F, dim, dim)``
        widths: standard deviations along them, ``(n, F, dim)``
        log_weights: of each, ``(n, F)``, which are added to their log-densities
    """

    def __init__(
        self, manifold: Manifold, centres: Tensor, axes: Tensor, widths: Tensor, log_weights: Tensor | float = 0.0
    ) -> None:
        self.manifold, self.centres = manifold, centres
        self.frame = manifold.frame(centres)
        # v^T A v is the product of a row of these coefficients with the products of pairs of the components
        self.quadratic = _pack((axes * widths[..., None, :].pow(-2)) @ axes.mT)
        self.log_constant = log_weights - widths.log().sum(-1) - 0.5 * manifold.dim * math.log(2 * math.pi)
        self.limit, self.bounded, self.bounding = None, list(range(manifold.dim)), self.quadratic
        self._bound(axes, widths)
        constants = torch.stack([self.log_constant, torch.ones_like(self.log_constant)], -1)
        self.coefficients = torch.cat([constants, -0.5 * self.quadratic], -1)

    def _bound(self, axes: Tensor, widths: Tensor) -> None:
        """Where geodesics are shortest up to a finite length only."""
        manifold, blocks = self.manifold, _blocks(self.manifold)
        if not blocks:
            return
        self.steepest = widths.amin(-1).pow(-2)
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

    def log_sums(self, x: Tensor, weights: Tensor, families: Tensor) -> Tensor:
        """The logarithms ``(B, f, G)`` of the sums over the centres of some families, of weights ``(n, f, G)``."""
        log_kernel = self.log_prob(x, families)
        top = log_kernel.detach().amax(0)
        kernel = _exp(log_kernel - top)
        sums = [(kernel * weight[:, None]).sum(0) for weight in weights.unbind(-1)]
        return top[..., None] + torch.stack(sums, -1).log()

    def log_sum(self, x: Tensor) -> Tensor:
        """The logarithms ``(B,)`` of the sums over centres and families."""
        log_kernel = self.log_prob(x)
        top = log_kernel.detach().amax(2).amax(0)
        return top + _exp(log_kernel - top[:, None]).sum(2).sum(0).log()

    def part(self, centres: Tensor, families: Tensor) -> Tile:
        """Of some centres ``(m,)``, and of each of them some families ``(m, f)``."""
        few = copy.copy(self)
        few.centres, few.frame = self.centres[centres], self.frame[:, centres]
        at = centres[:, None], families
        few.coefficients = self.coefficients[at]
        if self.limit is not None:
            few.limit, few.bounding, few.steepest = self.limit[at], self.bounding[at], self.steepest[at]
        return few

    def log_prob(self, x: Tensor, families: Tensor | None = None) -> Tensor:
        """Log-densities ``(n, B, F)``, of some families or of all."""
        chosen = slice(None) if families is None else families
        v, log_det = self.manifold.normal_coordinates(self.centres, self.frame, x)
        products = _pairs(v)
        # geodesics that meet again leave a density without bound, on a set without volume
        falls = -log_det.clamp_min(LEAST_LOG_DET)
        # in one product: constant, log_det and quadratic form
        terms = torch.stack([torch.ones_like(falls), falls, *products], 1)
        value = torch.bmm(self.coefficients[:, chosen], terms).mT
        if self.limit is None or self._within(v, chosen):
            return value
        if len(self.bounded) < self.manifold.dim:
            products = _pairs(v[..., self.bounded])
        distance = torch.bmm(self.bounding[:, chosen], torch.stack(products, 1)).mT
        return torch.where(distance < self.limit[:, None, chosen], value, NOTHING)

    def _within(self, v: Tensor, chosen: Tensor | slice) -> bool:
        """Whether all kernels reach all of the components, by the longest of them and the least widths."""
        longest = v.detach().square().sum(-1).amax(1, keepdim=True)
        return bool((longest * self.steepest[:, chosen] < self.limit[:, chosen]).all())

    def holds(self, v: Tensor) -> Tensor:
        """Whether the only kernel of each centre reaches the components ``(n, dim)``."""
        if self.limit is None:
            return torch.ones_like(v[:, 0], dtype=torch.bool)
        return (torch.stack(_pairs(v[:, self.bounded]), -1) * self.bounding[:, 0]).sum(-1) < self.limit[:, 0]


def _exp(x: Tensor) -> Tensor:
    """By powers of two: where `torch.exp` underflows it takes tens of times longer."""
    return (x * (1 / math.log(2))).exp2()


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


def _pairs(v: Tensor) -> list[Tensor]:
    """The products of pairs of components."""
    parts = v.unbind(-1)
    return [parts[i] * parts[j] for i in range(len(parts)) for j in range(i, len(parts))]


def _pack(matrix: Tensor) -> Tensor:
    """The coefficients of the products of `_pairs` in a quadratic form."""
    row, column = torch.triu_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., row, column] * torch.where(row == column, 1.0, 2.0).to(matrix)
