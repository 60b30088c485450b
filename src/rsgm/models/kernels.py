"""Mixtures of wrapped normal laws, one for each of many centres and families, in the frames of their tangent spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Manifold
from rsgm.models.blocks import Boxes, spatial_order
from rsgm.models.tiles import NOTHING, Tile, least_log_det
from rsgm.progress import bar

#: least points that are evaluated at a time, and centres of a block
_ROWS, _CENTRES = 128, 64
#: kernel values (points times centres times families) up to which more points are evaluated at a time; most blocks
_TILE, _BLOCKS = 2**18, 128
#: minus the logarithm of the share of a sum that may be left out
_LOST = 30.0


class Kernels(NamedTuple):
    r"""Wrapped normal kernels: the laws of :math:`\exp_{x_i}(v)` for normal v in the tangent space at a centre.

    .. math:: \log k(x) = \log N(v; 0, \Sigma) - \log P(v^T \Sigma^{-1} v < t) - \log|\det d\exp_{x_i}(v)|,
        \quad v = \log_{x_i}(x)

    Where geodesics are shortest up to a finite length R only, v is held to an ellipsoid that fits in the ball of that
    radius, :math:`t = R^2 / \max \sigma^2`, so that each point has one v and the kernel integrates to one. Its share of
    the normal law is a chi-squared probability. On products this holds along the factors with such an R, and circles
    along which v does not depend on the rest are cut one by one.

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
        axes, widths = self.axes[one], self.widths[one]
        z = torch.randn(widths.shape, generator=generator, dtype=widths.dtype, device=widths.device)
        v, covariance = (axes @ (widths * z)[..., None])[..., 0], (axes * widths[:, None].square()) @ axes.mT
        v = Tile(manifold, self.centres, axes[:, None], widths[:, None]).held(v, covariance, generator)
        return manifold.expmap(self.centres, manifold.from_frame(self.centres, v))


class _Blocks:
    """Kernels in blocks of near centres, with bounds of the sums over each."""

    def __init__(self, manifold: Manifold, kernels: Kernels, weights: Tensor) -> None:
        size = max(_CENTRES, -(-len(weights) // _BLOCKS))
        coordinates = manifold.bump_coordinates(kernels.centres)
        order = spatial_order(coordinates, size)
        kernels, weights = kernels.rows(order), weights[order]
        self.manifold, self.boxes = manifold, Boxes.around(coordinates[order], size)
        self.tiles = [Tile(manifold, *kernels.rows(slice(k, k + size))) for k in range(0, len(weights), size)]
        self.weights = weights.split(size)
        with torch.no_grad():
            self.firsts, least = Tile(manifold, *kernels.rows(slice(None, None, size))), torch.finfo(weights.dtype).tiny
            whole = torch.stack([weight.sum(0) for weight in self.weights]).clamp_min(least).log()
            share = (whole - weights[::size].amin(0).clamp_min(least).log()).amax(-1)
            self.top = torch.stack([tile.log_constant.amax(0) for tile in self.tiles]) + share
            self.rate = torch.stack([0.5 * width.amax((0, 2)).pow(-2) for width in kernels.widths.split(size)])

    @torch.no_grad()
    def near(self, x: Tensor) -> Iterator[tuple[Tile, Tensor, Tensor]]:
        """The blocks and their weights, and which of their families count for some of the points."""
        least = _known(self.firsts.log_prob(x)).amax(0) - (_LOST + math.log(len(self.tiles)))
        gaps = self.boxes.gaps(self.manifold.bump_coordinates(x))
        for gap, tile, weight, top, rate in zip(gaps.T, self.tiles, self.weights, self.top, self.rate, strict=True):
            families = (top - _fall(self.manifold, gap[:, None], rate) > least).any(0).nonzero()[:, 0]
            if len(families):
                yield tile, weight, families


class _Every:
    """Kernels of which those are found that count at near points."""

    def __init__(self, manifold: Manifold, kernels: Kernels, log_weights: Tensor) -> None:
        self.manifold, self.tile = manifold, Tile(manifold, *kernels, log_weights)
        with torch.no_grad():
            self.coordinates = manifold.bump_coordinates(kernels.centres)
            self.rate = 0.5 * kernels.widths.amax(-1).pow(-2)
            some = spatial_order(self.coordinates, _CENTRES)[::_CENTRES]
            self.some = Tile(manifold, *kernels.rows(some), log_weights[some])

    def near(self, x: Tensor, more: float) -> Iterator[Tile]:
        """Those that count beside known ones, and beside a logarithm, few at a time."""
        with torch.no_grad():
            known = _known(self.some.log_prob(x)).amax((0, 2)).clamp_min(more).amin()
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


def or_uniform(manifold: Manifold, near: Tensor, uniform: Tensor, generator: torch.Generator) -> Tensor:
    """Draws ``(n, *shape)`` of kernels, in their place of the uniform law where ``uniform`` ``(n,)`` says so."""
    if math.isinf(manifold.log_volume):  # there is none, its weight is zero, and coordinates are of any size
        return near
    n, shape = len(near), manifold.shape
    anywhere = manifold.random_uniform(n, *shape, generator=generator, dtype=near.dtype, device=near.device)
    return torch.where(uniform.reshape(n, *(1,) * len(shape)), anywhere, near).float()


def _fall(manifold: Manifold, gap: Tensor, rate: Tensor) -> Tensor:
    """The logarithm of a kernel's constant over its highest density at squared distances of at least ``gap``."""
    if not manifold.cuts:
        return gap * rate
    # up to half of the radius exp shrinks volumes at most as on a sphere, of which this is a quarter of a turn
    near = gap * rate - manifold.dim * math.log(math.pi / 2)
    far = gap.clamp_min(manifold.injectivity_radius**2 / 4) * rate
    return torch.minimum(near, far + least_log_det(manifold))


def _known(log_prob: Tensor) -> Tensor:
    """Of a point so far away that squares overflow nothing is known."""
    return log_prob.nan_to_num(nan=NOTHING)


def _of_near_points(function: Callable[[Tensor], Tensor], coordinates: Tensor, x: Tensor, size: int) -> Tensor:
    """The values of a function of at least one and at most so many points that are near one another."""
    order, values = spatial_order(coordinates, size), []
    with bar("kernels", len(x)) as shown:
        for rows in order.split(size):
            values.append(function(x[rows]))
            shown.update(len(rows))
    return torch.cat(values)[order.argsort()]
