"""Sums of bumps of many widths over many centres, of which each point sees those within reach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from rsgm.manifolds import Manifold
from rsgm.models.blocks import Boxes, spatial_order

#: points and centres whose pairs are held at a time: they stay in the cache
_ROWS, _COLUMNS = 128, 512
#: pairs times widths that are held at a time on CUDA
_FAR = 2**22
#: minus the logarithm of the share of a sum that may be left out; exponent beyond which exp is zero
_LOST, _UNDERFLOW = 30.0, 746.0
#: rounding of the logarithm of a kernel; squarings in a row, each of which doubles the relative error
_ROUNDING, _SQUARINGS = 1e-12, 8


def bump_sums(
    manifold: Manifold, centres: Tensor, widths: Tensor, counts: Tensor | None, x: Tensor, shown: tqdm
) -> Tensor:
    """The sums ``(B, W)`` of `BumpSums` at points, which move a bar by one each.

    On CUDA, where all pairs are done sooner than it is told which of them count, no value is looked at.
    """
    if x.is_cuda or x.is_meta:
        return all_pairs(manifold, centres, widths, counts, x, shown)
    return BumpSums(manifold, centres, widths, counts)(x, shown)


def all_pairs(
    manifold: Manifold, centres: Tensor, widths: Tensor, counts: Tensor | None, x: Tensor, shown: tqdm
) -> Tensor:
    """The same, of all pairs with an exponential each."""
    total, rates = [], 0.5 * widths.pow(-2)[:, None]
    for rows in x.split(max(1, _FAR // (len(widths) * min(len(centres), _FAR)))):
        part = rows.new_zeros(len(rows), len(widths))
        for start in range(0, len(centres), _FAR):
            own = slice(start, start + _FAR)
            square, log_factor = manifold.bump_pair(rows[:, None, None], centres[own])
            kernel = (log_factor - square * rates).exp()
            part = part + (kernel.sum(-1) if counts is None else kernel @ counts[own])
        total.append(part)
        shown.update(len(rows))
    return torch.cat(total)


class BumpSums:
    r"""The sums :math:`\sum_i e^{-r^2(x, c_i) / 2h^2 + f(x, c_i)}` of `Manifold.bump_log_prob` for many widths h.

    Blocks of near points meet blocks of near centres. Of each pair of blocks those widths are left out for which, by
    the box around the centres, all terms together are less than e^-30 of the term of a centre that is known; each sum
    is right to 1e-12 relative where it does not underflow. Where widths follow one another by the factor sqrt 2, the
    exponentials of the narrower are the squares of those of the wider.

    Time: the widths that reach everywhere see all pairs, the others few; memory does not grow with either number.

    Arguments:
        manifold: one with bumps
        centres: ``(n, *shape)``, float64
        widths: ascending, ``(W,)``
        counts: what each centre counts in the sums, positive, ``(n,)``; None where all count one
    """

    def __init__(self, manifold: Manifold, centres: Tensor, widths: Tensor, counts: Tensor | None = None) -> None:
        self.manifold, self.widths = manifold, widths.flip(0)
        counts = centres.new_ones(len(centres)) if counts is None else counts
        coordinates = manifold.bump_coordinates(centres)
        order = spatial_order(coordinates, _COLUMNS)
        self.centres, self.boxes = centres[order], Boxes.around(coordinates[order], _COLUMNS)
        self.blocks, self.firsts = self.centres.split(_COLUMNS), self.centres[::_COLUMNS]
        counts = counts[order]
        # None where they are one, for a sum is faster than a product
        self.counts = None if bool((counts == 1).all()) else counts.split(_COLUMNS)
        self.log_share = counts.sum().log() - counts[::_COLUMNS].log()
        # of powers of two, for exp itself takes tens of times longer where it underflows
        self.rates = [-0.5 / (math.log(2) * width**2) for width in self.widths.tolist()]
        # how often the last kernel that was no square has been squared for each width
        self.squarings = [0]
        for wide, narrow in itertools.pairwise(self.rates):
            last = self.squarings[-1]
            self.squarings.append(last + 1 if abs(narrow / wide - 2) < 1e-14 and last < _SQUARINGS else 0)

    def __call__(self, x: Tensor, shown: tqdm) -> Tensor:
        """At points ``(B, *shape)``: the sums ``(B, W)``, which move a bar by one each."""
        if not len(x):
            return x.new_zeros(0, len(self.widths))
        most = max(_ROWS, _ROWS * _COLUMNS // len(self.centres))
        order, sums = spatial_order(self.manifold.bump_coordinates(x), most), []
        for rows in order.split(most):
            sums.append(self._of_near_points(x[rows]))
            shown.update(len(rows))
        return torch.cat(sums)[order.argsort()].flip(1)

    def _of_near_points(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(self.widths), len(x))
        for block, count in self._within_reach(x.detach()):
            error = -_ROUNDING / self.rates[count - 1]
            square, log_factor = self.manifold.bump_table(x, self.blocks[block], error)
            factor = log_factor.exp() if self.counts is None else log_factor.exp() * self.counts[block]
            total[:count] += torch.stack(list(self._sums(square, factor, count)))
        return total.T

    def _sums(self, square: Tensor, factor: Tensor, count: int) -> Iterator[Tensor]:
        """Of one table of pairs, for so many widths from the largest on."""
        kernel = square
        for rate, squared in zip(self.rates[:count], self.squarings, strict=False):
            kernel = kernel * kernel if squared else (square * rate).exp2()
            yield kernel.sum(1) * factor if factor.dim() == 0 else (kernel * factor).sum(1)

    @torch.no_grad()
    def _within_reach(self, x: Tensor) -> list[tuple[int, int]]:
        """The blocks of centres that near points see, each with the number of widths, from the largest on."""
        gap = self.boxes.gaps(self.manifold.bump_coordinates(x))
        square, log_factor = self.manifold.bump_table(x, self.firsts, 0.0)
        nearest, which = square.min(1, keepdim=True)
        margin = _LOST + self.log_share[which] - log_factor.expand_as(square).gather(1, which)
        # the squared width up to which a block is out of reach of a point; where squares overflow there is no other
        out = torch.maximum((gap - nearest) / (2 * margin), gap / (2 * _UNDERFLOW))
        out = out.masked_fill(gap.isinf(), math.inf).amin(0)
        counts = (self.widths.square()[:, None] > out).sum(0).tolist()
        return [(block, count) for block, count in enumerate(counts) if count]
