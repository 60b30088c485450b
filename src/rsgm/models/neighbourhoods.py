"""What is near each place of a set of points, also without those that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.models.blocks import nearest

#: what is left out to see how well kernels explain what they have not seen: places with all of their points, points, or
#: all places in a cube of coordinates with sides of this length
LeftOut = Literal["places", "points"] | float

#: neighbours whose offsets are computed at a time
_PAIRS = 2**20


class Places(NamedTuple):
    """Distinct points, and what is near each of them.

    Fields:
        points: ``(n, *shape)``
        count: how often each occurs, or what its points count together, ``(n,)``
        index: of the nearest others, the nearest first, ``(n, k)``
        distance: to them, ``(n, k)``
        offset: their components in the frame of the tangent space, ``(n, k, dim)``
        label: the place of each point that counts something, ``(N,)``
        weight: what each of those points counts, ``(N,)``
    """

    points: Tensor
    count: Tensor
    index: Tensor
    distance: Tensor
    offset: Tensor
    label: Tensor
    weight: Tensor

    @classmethod
    def of(cls, manifold: Manifold, points: Tensor, neighbours: int, weights: Tensor | None = None) -> Places:
        """The places among points that count something, and up to so many neighbours of each."""
        if weights is not None:
            points, weights = points[weights > 0], weights[weights > 0].to(points)
        label = label_places(points.cpu()).to(points.device)
        weights = torch.ones_like(label, dtype=points.dtype) if weights is None else weights
        count = torch.bincount(label, weights)
        rows = torch.arange(len(label), device=label.device)
        first = torch.full_like(rows[: len(count)], len(label)).scatter_reduce(0, label, rows, "amin")
        places = points[first]
        near = _neighbours(manifold, places, min(neighbours, len(places) - 1), torch.arange(len(places)).to(label))
        return cls(places, count, *near, label, weights)

    def left_out(
        self,
        manifold: Manifold,
        kind: LeftOut,
        folds: int,
        neighbours: int,
        generator: torch.Generator,
        scored: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Places]]:
        """Points of each fold, what they count, and the places that are left without the fold.

        Arguments:
            manifold: of the points
            kind: what a fold consists of
            folds: number of parts, at most one for each place, point or cube
            neighbours: that are kept of each place
            generator: of the folds
            scored: about how many places or points are seen of all folds together, which then count for all; None for
                all
        """
        n, single = len(self.points), kind == "points"
        # rows are cut into folds by groups: each point by itself, each place, or the places of a cube
        place, weight = (self.label, self.weight) if single else (torch.arange(n).to(self.label), self.count)
        group = torch.arange(len(place)).to(place)
        if not isinstance(kind, str):
            cube = (manifold.bump_coordinates(self.points) / kind).floor()
            group = torch.unique(cube, dim=0, return_inverse=True)[1]
        groups = int(group.max()) + 1
        if groups < 2 and not isinstance(kind, str):
            raise ValueError(f"leave_out is {kind}: all {n} places are in one cube of that size; choose a smaller one.")
        order = torch.randperm(groups, generator=generator).to(place)[group]
        fold = order % min(folds, groups)
        seen = order * len(place) < (len(place) if scored is None else scored) * groups
        none = torch.zeros_like(self.count)
        for number in range(min(folds, groups)):
            out = fold == number
            kept, shown = ~out if single else ~out[self.label], out & seen
            label = self.label[kept]
            rest = self._replace(
                count=none.index_add(0, label, self.weight[kept]), label=label, weight=self.weight[kept]
            )
            at = torch.bincount(place[shown], minlength=n).nonzero()[:, 0]
            if len(at) and len(label):
                count = none.index_add(0, place[shown], weight[shown])[at] / seen.double().mean()
                gone = torch.bincount(label, minlength=n) == 0
                yield self.points[at], count, rest.without(manifold, gone, neighbours)

    def without(self, manifold: Manifold, out: Tensor, neighbours: int) -> Places:
        """The places that are not ``out``, and so many neighbours of each among themselves, or all there are.

        Arguments:
            manifold: of the points
            out: bool ``(n,)``
            neighbours: at most as many as are kept of each place now
        """
        points, stays = self.points[~out], ~out[self.label]
        kept, k = ~out[self.index[~out]], min(neighbours, len(points) - 1)
        new = (~out).cumsum(0) - 1
        # the neighbours that stay, in their order, before those that go
        order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
        index, distance = new[self.index[~out].gather(1, order)], self.distance[~out].gather(1, order)
        offset = self.offset[~out].gather(1, order[..., None].expand(-1, -1, self.offset.shape[-1]))
        # where more went than were kept in reserve, those beyond are not known
        few = (kept.sum(1) < k).nonzero()[:, 0]
        if len(few):
            index[few], distance[few], offset[few] = _neighbours(manifold, points, k, few)
        return Places(points, self.count[~out], index, distance, offset, new[self.label[stays]], self.weight[stays])

    def reach(self, k: int, alone: float) -> Tensor:
        """The distance ``(n,)`` to the k-th nearest, or to the farthest that there is; of a place alone as given."""
        near = self.distance.shape[1]
        return self.distance[:, min(k, near) - 1] if near else self.distance.new_full((len(self.points),), alone)

    def spread(self, k: int) -> tuple[Tensor, Tensor]:
        """Variances ``(n, dim)`` and principal axes ``(n, dim, dim)`` of the k nearest about each place."""
        near = self.offset[:, :k]
        return torch.linalg.eigh(near.mT @ near / max(1, near.shape[1]))


def _neighbours(manifold: Manifold, places: Tensor, k: int, of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices and distances ``(m, k)`` of the k nearest others of some places, and their offsets ``(m, k, dim)``."""
    if k < 1:
        none = places.new_empty(len(of), 0, manifold.dim)
        return none[..., 0].long(), none[..., 0], none
    distance, index = nearest(manifold, places, k, of)
    offset = []
    for rows, near in zip(of.split(max(1, _PAIRS // k)), index.split(max(1, _PAIRS // k)), strict=True):
        at = places[rows]
        tangent = manifold.logmap(at[:, None], places[near])
        offset.append(manifold.inner(at[:, None], manifold.frame(at)[:, :, None], tangent).movedim(0, -1))
    return index, distance, torch.cat(offset)
