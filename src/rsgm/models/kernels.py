"""Mixtures of wrapped normal laws, one for each of many centres and families, in the frames of their tangent spaces."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Manifold
from rsgm.models.blocks import Boxes, spatial_order
from rsgm.progress import bar

#: stands for the logarithm of zero where a derivative is taken: that of the logarithm itself would be no number
NOTHING = -1e30

#: points and centres whose pairs are held at a time, more points where these times families are few; most blocks
_ROWS, _CENTRES, _TILE, _BLOCKS = 128, 64, 2**18, 128
#: minus the logarithm of the share of a sum that may be left out; least logarithm of the determinant of exp
_LOST, _LOG_DET = 30.0, -30.0


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

        Of near centres those families are left out of which all kernels together are less, by the box around the
        centres, than e^-30 of one that is known: each sum is right to 1e-11 relative.

        Arguments:
            manifold: of the centres
            x: points ``(B, *shape)``
            weights: of each centre and family, in each of G sums
        """
        if not len(x):
            return x.new_zeros(0, *weights.shape[1:])
        blocks = _Blocks(manifold, self, weights)

        def sums(chunk: Tensor) -> Tensor:
            total = chunk.new_full((len(chunk), *weights.shape[1:]), NOTHING)
            for tile, weight, families in blocks.near(chunk):
                added = tile.log_sums(chunk, weight[:, families], families)
                total = total.index_copy(1, families, torch.logaddexp(total[:, families], added))
            return total

        rows = max(_ROWS, _TILE // blocks.weights[0][..., 0].numel())
        return _of_near_points(sums, manifold.bump_coordinates(x), x, rows)

    def log_sum(self, manifold: Manifold, x: Tensor, log_weights: Tensor, more: float = NOTHING) -> Tensor:
        r"""The logarithm of :math:`\sum_{if} w_{if} k_{if}(x)`, ``(B,)``.

        Of all kernels those are left out which, together, are less at near points than e^-30 of one that is known, or
        of what is said to be added: the whole is right to 1e-11 relative.

        Arguments:
            manifold: of the centres
            x: points ``(B, *shape)``
            log_weights: of each centre and family, ``(n, F)``
            more: logarithm of what will be added to the sum
        """
        if not len(x):
            return x.new_zeros(0)
        every = _Every(manifold, self, log_weights)

        def sums(chunk: Tensor) -> Tensor:
            parts = [part.log_sum(chunk) for part in every.near(chunk, more)]
            return torch.stack(parts or [chunk.new_full((len(chunk),), NOTHING)]).logsumexp(0)

        rows = max(_ROWS, _TILE // log_weights.numel())
        return _of_near_points(sums, manifold.bump_coordinates(x), x, rows)

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


class _Blocks:
    """Kernels in blocks of near centres, with bounds of the sums over each."""

    def __init__(self, manifold: Manifold, kernels: Kernels, weights: Tensor) -> None:
        size = max(_CENTRES, -(-len(weights) // _BLOCKS))
        coordinates = manifold.bump_coordinates(kernels.centres)
        order = spatial_order(coordinates, size)
        kernels, weights = kernels.rows(order), weights[order]
        self.manifold, self.boxes = manifold, Boxes.around(coordinates[order], size)
        self.tiles = [_Tile(manifold, kernels.rows(slice(k, k + size))) for k in range(0, len(weights), size)]
        self.weights = weights.split(size)
        with torch.no_grad():
            self.firsts, least = _Tile(manifold, kernels.rows(slice(None, None, size))), torch.finfo(weights.dtype).tiny
            whole = torch.stack([weight.sum(0) for weight in self.weights]).clamp_min(least).log()
            share = (whole - weights[::size].amin(0).clamp_min(least).log()).amax(-1)
            self.top = torch.stack([tile.log_constant.amax(0) for tile in self.tiles]) + share
            self.rate = torch.stack([0.5 * width.amax((0, 2)).pow(-2) for width in kernels.widths.split(size)])

    @torch.no_grad()
    def near(self, x: Tensor) -> Iterator[tuple[_Tile, Tensor, Tensor]]:
        """The blocks and their weights, and which of their families count for some of the points."""
        least = self.firsts.log_prob(x).amax(0) - (_LOST + math.log(len(self.tiles)))
        gaps = self.boxes.gaps(self.manifold.bump_coordinates(x))
        for gap, tile, weight, top, rate in zip(gaps.T, self.tiles, self.weights, self.top, self.rate, strict=True):
            families = (top - _fall(self.manifold, gap[:, None], rate) > least).any(0).nonzero()[:, 0]
            if len(families):
                yield tile, weight, families


class _Every:
    """Kernels of which those are found that count at near points."""

    def __init__(self, manifold: Manifold, kernels: Kernels, log_weights: Tensor) -> None:
        self.manifold, self.tile = manifold, _Tile(manifold, kernels, log_weights)
        with torch.no_grad():
            self.coordinates = manifold.bump_coordinates(kernels.centres)
            self.rate = 0.5 * kernels.widths.amax(-1).pow(-2)
            some = spatial_order(self.coordinates, _CENTRES)[::_CENTRES]
            self.some = _Tile(manifold, kernels.rows(some), log_weights[some])

    def near(self, x: Tensor, more: float) -> Iterator[_Tile]:
        """Those that count beside known ones, and beside a logarithm, few at a time."""
        with torch.no_grad():
            known = self.some.log_prob(x).amax((0, 2)).clamp_min(more).amin()
            gap = Boxes.around(self.manifold.bump_coordinates(x), len(x)).gaps(self.coordinates)
            highest = self.tile.log_constant - _fall(self.manifold, gap, self.rate)
            counts = highest > known - (_LOST + math.log(highest.numel()))
            number, centres = counts.sum(1).sort(descending=True, stable=True)
            centres = centres[: int((number > 0).sum())]
            families = counts[centres].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        while len(centres):
            # centres with about as many kernels that count
            most = int(counts[centres[0]].sum())
            few = max(1, _TILE // (most * len(x)))
            yield self.tile.part(centres[:few], families[:few, :most])
            centres, families = centres[few:], families[few:]


def _fall(manifold: Manifold, gap: Tensor, rate: Tensor) -> Tensor:
    """The logarithm of a kernel's constant over its highest density at squared distances of at least ``gap``."""
    radius = manifold.injectivity_radius
    if math.isinf(radius):
        return gap * rate
    # up to half of the radius exp shrinks volumes at most as on a sphere, of which this is a quarter of a turn
    near = gap * rate - manifold.dim * math.log(math.pi / 2)
    return torch.minimum(near, gap.clamp_min(radius**2 / 4) * rate + _LOG_DET)


def _of_near_points(function: Callable[[Tensor], Tensor], coordinates: Tensor, x: Tensor, size: int) -> Tensor:
    """The values of a function of at least one and at most so many points that are near one another."""
    order, values = spatial_order(coordinates, size), []
    with bar("kernels", len(x)) as shown:
        for rows in order.split(size):
            values.append(function(x[rows]))
            shown.update(len(rows))
    return torch.cat(values)[order.argsort()]


class _Tile:
    """Kernels of a few centres, with what does not depend on where they are evaluated."""

    def __init__(self, manifold: Manifold, kernels: Kernels, log_weights: Tensor | float = 0.0) -> None:
        self.manifold, self.centres = manifold, kernels.centres
        axes, widths = kernels.axes, kernels.widths
        self.frame = manifold.frame(kernels.centres)[:, :, None]
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

    def part(self, centres: Tensor, families: Tensor) -> _Tile:
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
        u = self.manifold.logmap(self.centres[:, None], x[None])
        v = self.manifold.inner(self.centres[:, None], self.frame, u).movedim(0, -1)
        # geodesics that meet again leave a density without bound, on a set without volume
        log_det = self.manifold.log_det_exp(self.centres[:, None], u).clamp_min(_LOG_DET)
        products = _pairs(v)
        # in one product: constant, log_det and quadratic form
        terms = torch.cat([torch.stack([torch.ones_like(log_det), -log_det], -1), products], -1)
        value = torch.bmm(terms, self.coefficients[:, chosen].mT)
        if self.limit is None or self._within(v, chosen):
            return value
        if len(self.bounded) < self.manifold.dim:
            products = _pairs(v[..., self.bounded])
        distance = torch.bmm(products, self.bounding[:, chosen].mT)
        return torch.where(distance < self.limit[:, None, chosen], value, NOTHING)

    def _within(self, v: Tensor, chosen: Tensor | slice) -> bool:
        """Whether all kernels reach all of the components, by the longest of them and the least widths."""
        longest = v.detach().square().sum(-1).amax(1, keepdim=True)
        return bool((longest * self.steepest[:, chosen] < self.limit[:, chosen]).all())

    def holds(self, v: Tensor) -> Tensor:
        """Whether the only kernel of each centre reaches the components ``(n, dim)``."""
        if self.limit is None:
            return torch.ones_like(v[:, 0], dtype=torch.bool)
        return (_pairs(v[:, self.bounded]) * self.bounding[:, 0]).sum(-1) < self.limit[:, 0]


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


def _pairs(v: Tensor) -> Tensor:
    """The products of pairs of components."""
    row, column = torch.triu_indices(v.shape[-1], v.shape[-1], device=v.device)
    return v[..., row] * v[..., column]


def _pack(matrix: Tensor) -> Tensor:
    """The coefficients of the products of `_pairs` in a quadratic form."""
    row, column = torch.triu_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., row, column] * torch.where(row == column, 1.0, 2.0).to(matrix)
