"""Kernel densities whose widths and shapes follow the data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.combined import choose, fit_weights
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.models.base import GenerativeModel, Weights
from rsgm.models.blocks import nearest
from rsgm.models.kernels import Kernels, or_uniform
from rsgm.models.tiles import NOTHING
from rsgm.progress import bar, visible
from rsgm.seeding import generator_from

#: what is left out to see how well kernels explain what they have not seen: places with all of their points, points, or
#: all places in a cube of coordinates with sides of this length
LeftOut = Literal["places", "points"] | float

#: neighbours whose offsets are computed at a time
_PAIRS = 2**20
#: share of the heaviest family's weight below which a family is left out
_NEGLIGIBLE = 1e-3
#: pairs of centres and of left-out places, or of centres and validation points, on which the weights are fitted; at
#: least so many points of either kind are seen, enough for two weights a family
_SCORED_PAIRS, _SCORED = 2**28, 1_000


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


class KernelLaw(NamedTuple):
    """Kernels, and what each of them and the uniform law weigh.

    Fields:
        kernels: of n centres and F families
        weights: of each kernel, ``(n, F)``
        uniform: weight of the uniform law, ``()``; zero where there is none
    """

    kernels: Kernels
    weights: Tensor
    uniform: Tensor


class KernelMixture(GenerativeModel):
    """A mixture of kernels and of the uniform law where there is one; a subclass says how they come from the points.

    Arguments:
        manifold: where the points live; one that knows ``logmap`` and ``log_det_exp``
        min_width: the smallest standard deviation of a kernel, in units of length (on spheres, tori and SO(3) radians)
        max_width: the largest
        leave_out: ``"places"``, ``"points"`` or a length

    Raises:
        ValueError: for widths out of range, and something else that is left out
    """

    centres: Tensor

    def __init__(self, manifold: Manifold, min_width: float, max_width: float, leave_out: LeftOut) -> None:
        super().__init__(manifold)
        bound = manifold.injectivity_radius / 4
        if not (0 < min_width <= max_width < math.inf and max_width <= bound):
            raise ValueError(
                f"{type(self).__name__}: 0 < min_width <= max_width <= {bound:.3g} is needed, found {min_width} and "
                f"{max_width}."
            )
        named = leave_out in ("places", "points")
        if not named and not (isinstance(leave_out, (int, float)) and 0 < leave_out < math.inf):
            raise ValueError(
                f"{type(self).__name__}: leave_out is {leave_out!r}, expected places, points, or a length above 0."
            )
        self.min_width, self.max_width, self.leave_out = min_width, max_width, leave_out

    @abstractmethod
    def law(self) -> KernelLaw:
        """The mixture as it is now, in float64.

        Raises:
            RuntimeError: before `fit_points`
        """

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A kernel, or the uniform law; then a draw from it."""
        kernels, weights, uniform = self.law()
        place = choose(torch.cat([weights.sum(1), uniform[None]]), n, generator)
        anywhere = place == len(weights)
        place = place.clamp_max(len(weights) - 1)
        family = choose(weights[place], 1, generator)[:, 0]
        near = kernels.rows(place).draw(self.manifold, family, generator)
        return or_uniform(self.manifold, near, anywhere, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64."""
        law = self.law()
        # narrow kernels tell a point on the manifold from one a little off it
        x = self.manifold.projx(x.to(law.weights))
        uniform = float(law.uniform.log() - self.manifold.log_volume) if law.uniform > 0 else NOTHING
        log_sum = law.kernels.log_sum(self.manifold, x, law.weights.log(), uniform)
        value = torch.logaddexp(log_sum, torch.full_like(log_sum, uniform))
        return LogProb(torch.where(value > 0.5 * NOTHING, value, -math.inf), 0.0)

    @override
    def resolution(self) -> float:
        return self.min_width

    @property
    @override
    def fitted(self) -> bool:
        return len(self.centres) > 0


class AdaptiveKernelDensity(KernelMixture):
    r"""A mixture of kernels whose widths and shapes come from the neighbourhood of each place, and of the uniform law.

    .. math:: q(x) = \frac{w_0}{\mathrm{vol}} + \sum_f \sum_i (w_f p_i + w'_f p'_i)\,k(x; x_i, \Sigma_{if})

    The kernels are wrapped normal laws, exactly normalised, at the distinct training points :math:`x_i`: dense regions
    get narrow ones, and points on a line long ones. The families f of covariances :math:`\Sigma_{if}` are fixed widths;
    the distance to the k-th nearest place times a factor (Breiman, Meisel & Purcell 1977); and the covariance of the k
    nearest places, a share of it made isotropic, times a factor squared. In each family the places weigh equally,
    :math:`p_i`, and by how much more often they occur than the rarest, :math:`p'_i`: a place that was seen m times is
    met again in proportion to m - d, with a discount d that the data choose (Pitman & Yor 1997).

    The weights of the families maximise, by EM, the likelihood of the training points under the kernels of the other
    folds, and of the validation points under all. Folds consist of whole places, and a place that is left out is no
    neighbour either: repeated points do not draw the weight to the narrowest kernels. Where new points do fall on known
    places, as on a random split, folds of single points say how often; where they are far from known ones, as where
    blocks are held out, folds of blocks say how far. Of more than 16,000 places EM sees a random part, so many that
    fitting takes about as long as with 16,000, but at least 1,000 places and as many validation points.

    References: Abramson 1982, "On bandwidth variation in kernel estimates", Ann. Stat. 10; Silverman 1986, "Density
    estimation", sections 5.2 and 5.3; Vincent & Bengio 2003, "Manifold Parzen windows", NeurIPS; Pitman & Yor 1997,
    "The two-parameter Poisson-Dirichlet distribution derived from a stable subordinator", Ann. Probab. 25.

    Arguments:
        manifold: where the points live; one that knows ``logmap`` and ``log_det_exp``
        widths: number of the fixed widths, which are geometric
        min_width: the smallest standard deviation of a kernel, in units of length (on spheres, tori and SO(3) radians)
        max_width: the largest
        neighbours: the k, each a family of either kind for each factor; for a covariance at least 2 dim are needed
        factors: on the distance to the k-th neighbour, and on the standard deviations of the k nearest
        isotropic: share of the mean variance in a local covariance, in (0, 1]
        folds: number of parts of the places, or of the points, each left out once
        iterations: of EM
        leave_out: what a fold consists of: ``"places"`` with all of their points, single ``"points"``, or all places in
            cubes with sides of this length, of the coordinates in which the manifold is embedded

    Raises:
        ValueError: for arguments out of range

    Example:
        >>> from rsgm.manifolds import Torus
        >>> torus = Torus(2)
        >>> points = torus.random_uniform(60, *torus.shape, generator=torch.Generator().manual_seed(0))
        >>> model = AdaptiveKernelDensity(torus, min_width=0.05)
        >>> model.fit_points(points[:50], points[50:])
        >>> model.log_prob(points).shape
        torch.Size([60])
    """

    def __init__(
        self,
        manifold: Manifold,
        widths: int = 10,
        min_width: float = 1e-4,
        max_width: float = 0.5,
        neighbours: Sequence[int] = (1, 2, 4, 8, 16, 32),
        factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
        isotropic: float = 0.05,
        folds: int = 10,
        iterations: int = 500,
        leave_out: LeftOut = "places",
    ) -> None:
        super().__init__(manifold, min_width, max_width, leave_out)
        if widths < 0 or folds < 2:
            raise ValueError(
                f"AdaptiveKernelDensity: widths >= 0 and folds >= 2 are needed, found {widths} and {folds}."
            )
        if any(k < 1 for k in neighbours) or any(not 0 < c < math.inf for c in factors) or not 0 < isotropic <= 1:
            raise ValueError(
                "AdaptiveKernelDensity: neighbours >= 1, factors > 0 and isotropic in (0, 1] are needed, found "
                f"{list(neighbours)}, {list(factors)} and {isotropic}."
            )
        if not widths and not (neighbours and factors):
            raise ValueError("AdaptiveKernelDensity: no kernels; give widths >= 1, or neighbours and factors.")
        self.isotropic = isotropic
        self.neighbours, self.factors = tuple(neighbours), tuple(factors)
        self.widths, self.folds, self.iterations = widths, folds, iterations
        self.register_buffer("uniform", torch.zeros((), dtype=torch.float64))
        dim = manifold.dim
        shapes = {
            "centres": manifold.shape,
            "kernel_axes": (0, dim, dim),
            "kernel_widths": (0, dim),
            "kernel_weights": (0,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.empty(0, *shape, dtype=torch.float64))

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Find the places and their neighbours; fit the weights of the families.

        Arguments:
            train: points whose places are the centres of the kernels
            val: further points for the weights
            seed: of the folds
            weights: what each point of both counts
        """
        counts, val_counts = (None, torch.ones(len(val))) if weights is None else at_least_one(weights)
        train, val = (self.manifold.projx(x.to(self.centres)) for x in (train, val))
        most = max(self.neighbours, default=1)
        # enough that those of a tenth can be left out
        with visible():
            places = Places.of(self.manifold, train, 2 * most + 16, counts)
        generator = generator_from("folds", seed)
        total = len(places.label if self.leave_out == "points" else places.points)
        scored = max(_SCORED, _SCORED_PAIRS // len(places.points))
        parts, repeats = [], []
        with visible(), bar("adaptive kernel density", min(scored, total) + min(scored, len(val))) as shown:
            for points, count, rest in places.left_out(
                self.manifold, self.leave_out, self.folds, most, generator, scored
            ):
                parts.append(self._log_parts(points, rest))
                repeats.append(count)
                shown.update(len(points))
            seen_val = torch.randperm(len(val), generator=generator).to(places.index) < scored
            parts.append(self._log_parts(val[seen_val], places))
            repeats.append(val_counts.to(val)[seen_val] / seen_val.double().mean())
            shown.update(len(parts[-1]))
        with visible():
            shares = fit_weights(torch.cat(parts), self.iterations, torch.cat(repeats), prior=1.0)
        of_family = shares[1:].reshape(-1, 2)
        kept = of_family.sum(1) >= _NEGLIGIBLE * of_family.sum(1).max()
        of_family = of_family[kept] * (shares[1:].sum() / of_family[kept].sum())
        kernels = self._kernels(places)
        self.uniform, self.centres = shares[0], places.points
        self.kernel_axes = kernels.axes[:, kept].contiguous()
        self.kernel_widths = kernels.widths[:, kept].contiguous()
        self.kernel_weights = (_place_weights(places) @ of_family.mT).contiguous()

    @override
    def law(self) -> KernelLaw:
        self.require_fitted()
        return KernelLaw(Kernels(self.centres, self.kernel_axes, self.kernel_widths), self.kernel_weights, self.uniform)

    def _kernels(self, places: Places) -> Kernels:
        """The kernels of all families."""
        n, dim = len(places.points), self.manifold.dim
        eye = torch.eye(dim).to(places.points).expand(n, dim, dim)
        ratio = torch.linspace(0, 1, self.widths).to(places.points)
        fixed = self.min_width * (self.max_width / self.min_width) ** ratio
        widths, axes = [width.expand(n, dim) for width in fixed], [eye] * self.widths
        for k in self.neighbours:
            # a place alone has no neighbours: nothing is known of the scale
            reach = places.reach(k, self.max_width)[:, None].expand(n, dim)
            widths += [factor * reach for factor in self.factors]
            axes += [eye] * len(self.factors)
            if k < 2 * dim:
                continue
            variances, principal = places.spread(k)
            variances = variances.clamp_min(0).lerp(variances.mean(1, keepdim=True), self.isotropic)
            widths += [factor * variances.sqrt() for factor in self.factors]
            axes += [principal] * len(self.factors)
        return Kernels(
            places.points, torch.stack(axes, 1), torch.stack(widths, 1).clamp(self.min_width, self.max_width)
        )

    def _log_parts(self, x: Tensor, places: Places) -> Tensor:
        """Log-densities ``(B, 1 + 2 F)`` of the uniform law, then of each family with either weighting of places."""
        kernels = self._kernels(places)
        weights = _place_weights(places)[:, None].expand(-1, kernels.widths.shape[1], -1)
        uniform = x.new_full((len(x), 1), -self.manifold.log_volume)
        return torch.cat([uniform, kernels.log_sums(self.manifold, x, weights).flatten(1)], 1)


def at_least_one(weights: Weights) -> Weights:
    """The weights, scaled up where their mean is less than one, for the prior of the fit counts as one observation."""
    train, val = weights
    scale = max(1.0, 1 / float(torch.cat([train, val]).mean()))
    return train * scale, val * scale


def _place_weights(places: Places) -> Tensor:
    """The weights ``(n, 2)`` of the places: equal, and by how much more they occur than the rarest."""
    equal, more = torch.full_like(places.count, 1 / len(places.count)), places.count - places.count.min()
    return torch.stack([equal, more / more.sum() if more.any() else equal], 1)
