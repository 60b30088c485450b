"""Kernel densities whose widths and shapes follow the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.combined import fit_weights
from rsgm.manifolds import Manifold
from rsgm.models.base import Weights
from rsgm.models.kernel_mixture import KernelLaw, KernelMixture
from rsgm.models.kernels import Kernels
from rsgm.models.neighbourhoods import LeftOut, Places
from rsgm.progress import bar, visible
from rsgm.seeding import generator_from

#: share of the heaviest family's weight below which a family is left out
_NEGLIGIBLE = 1e-3
#: pairs of centres and of left-out places, or of centres and validation points, on which the weights are fitted; at
#: least so many points of either kind are seen, enough for two weights a family
_SCORED_PAIRS, _SCORED = 2**28, 1_000


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
        self.require_data(train, None, weights)
        counts, val_counts = (None, torch.ones(len(val))) if weights is None else at_least_one(weights)
        train, val = (self.manifold.projx(x.to(self.centres)) for x in (train, val))
        most = max(self.neighbours, default=1)
        # enough that those of a tenth can be left out
        with visible():
            places = Places.of(self.manifold, train, 2 * most + 16, counts)
        generator = generator_from("folds", seed)
        total = len(places.label if self.leave_out == "points" else places.points)
        if total < 2 and not len(val):
            raise ValueError(
                "AdaptiveKernelDensity: at least 2 distinct training points, or points to validate on, are needed to "
                "weigh the kernels, found 1 and none; give more, or use KernelDensity."
            )
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
