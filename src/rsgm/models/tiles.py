"""Wrapped normal kernels of a few centres, at a few points."""

from __future__ import annotations

import copy
import math

import torch
from scipy.special import gammaincinv
from torch import Tensor

from rsgm.manifolds import Manifold

#: stands for the logarithm of zero where a derivative is taken: that of the logarithm itself would be no number
NOTHING = -1e30
#: least logarithm of the determinant of exp, for each direction in which it vanishes
_LEAST_LOG_DET = -30.0


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
        precision = (axes * widths[..., None, :].pow(-2)) @ axes.mT
        quadratic = _pack(precision)
        self.log_constant = log_weights - widths.log().sum(-1) - 0.5 * manifold.dim * math.log(2 * math.pi)
        self.cuts, self.limit, self.least = manifold.cuts, None, least_log_det(manifold)
        if self.cuts:
            self._bound(axes, widths, precision)
        constants = torch.stack([self.log_constant, torch.ones_like(self.log_constant)], -1)
        self.coefficients = torch.cat([constants, -0.5 * quadratic], -1)

    def _bound(self, axes: Tensor, widths: Tensor, precision: Tensor) -> None:
        """Where geodesics are shortest up to a finite length only."""
        self.steepest = widths.amin(-1).pow(-2)
        self.bounded, self.circles = [axis for cut in self.cuts for axis in cut.axes], []
        half, self.alone = torch.full_like(self.log_constant, 0.5 * len(self.bounded)), widths[..., :0]
        if len(self.cuts) == 1 and len(self.bounded) == self.manifold.dim:
            self.limit = self.cuts[0].radius ** 2 / widths.square().amax(-1)
        else:
            covariance = (axes * widths[..., None, :].square()) @ axes.mT
            if len(self.bounded) < self.manifold.dim:
                precision = torch.linalg.inv(covariance[..., self.bounded, :][..., self.bounded])
            lines = [cut for cut in self.cuts if len(cut.axes) == 1]
            self.circles, radius = [cut.axes[0] for cut in lines], widths.new_tensor([cut.radius for cut in lines])
            limit = radius.square() / covariance.diagonal(dim1=-2, dim2=-1)[..., self.circles]
            # a circle that the others say nothing of is cut by itself
            alone = (covariance[..., self.circles, :] != 0).sum(-1) == 1
            self.alone, limits = limit.masked_fill(~alone, math.inf), [limit.masked_fill(alone, math.inf)]
            for axes_, radius_, _ in self.cuts:
                if len(axes_) > 1:
                    longest = torch.linalg.eigvalsh(covariance[..., axes_, :][..., axes_])[..., -1:]
                    limits.append(radius_**2 / longest)
            self.limit = torch.cat(limits, -1).amin(-1)
            joint = torch.ones_like(widths)
            joint[..., self.circles] = (~alone).to(joint)
            precision, half = precision * joint[..., self.bounded, None], (half - 0.5 * alone.sum(-1)).clamp_min(0.5)
        self.precision, self.half, self.bounding = precision, half, _pack(precision)
        share = torch.special.gammainc(half, 0.5 * self.limit) * (0.5 * self.alone).sqrt().erf().prod(-1)
        self.log_constant = self.log_constant - share.log()

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
        falls = -log_det.clamp_min(self.least)
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

    def held(self, v: Tensor, covariance: Tensor, generator: torch.Generator) -> Tensor:
        """Draws ``(n, dim)`` of normal laws, held to what the only kernel of each centre reaches.

        What is beyond keeps its direction, of which the length is independent, and gets one of the lengths within.
        """
        if self.limit is None:
            return v
        inner, round_ = v[:, self.bounded], v[:, self.circles]
        pull = (self.precision[:, 0] @ inner[..., None])[..., 0]
        variance = covariance.diagonal(dim1=-2, dim2=-1)[:, self.circles]
        square = torch.cat([round_.square() / variance, (inner * pull).sum(1, keepdim=True)], 1)
        limit = torch.cat([self.alone[:, 0], self.limit], 1)
        beyond = square >= limit
        if not bool(beyond.any()):
            return v
        half = torch.cat([torch.full_like(round_, 0.5), self.half], 1)
        u = torch.rand(square.shape, generator=generator, dtype=v.dtype, device=v.device)
        share = u * torch.special.gammainc(half, 0.5 * limit)
        within = 2 * torch.from_numpy(gammaincinv(half.cpu().numpy(), share.cpu().numpy())).to(v)
        change = torch.where(beyond, (within / square).sqrt() - 1, 0.0)
        v = v + change[:, -1:] * (covariance[:, :, self.bounded] @ pull[..., None])[..., 0]
        v[:, self.circles] += change[:, :-1] * round_
        return v


def _exp(x: Tensor) -> Tensor:
    """By powers of two: where `torch.exp` underflows it takes tens of times longer."""
    return (x * (1 / math.log(2))).exp2()


def least_log_det(manifold: Manifold) -> float:
    """The logarithm of the determinant of exp where geodesics are taken to meet again, and a kernel to be bounded."""
    return _LEAST_LOG_DET * max(1, sum(cut.order for cut in manifold.cuts))


def _pairs(v: Tensor) -> list[Tensor]:
    """The products of pairs of components."""
    parts = v.unbind(-1)
    return [parts[i] * parts[j] for i in range(len(parts)) for j in range(i, len(parts))]


def _pack(matrix: Tensor) -> Tensor:
    """The coefficients of the products of `_pairs` in a quadratic form."""
    row, column = torch.triu_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., row, column] * torch.where(row == column, 1.0, 2.0).to(matrix)
