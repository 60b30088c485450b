"""Metrics of samples on any manifold, by geodesic distances, each beside the value that fresh data reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rsgm.manifolds import Manifold
from rsgm.progress import bar
from rsgm.seeding import generator_from

#: lengths of the kernels of `squared_mmd`, in units of the median distance between reference points: each half the last
LENGTHS = (2.0, 1.0, 0.5, 0.25, 0.125)
#: k of `coverage`
NEIGHBOURS = 5
#: most points of a set, most sets of one kind, and most points of these sets together
_POINTS, _SETS, _TOTAL = 1000, 10, 4000
#: distances that differ by at most so much are equal, those of one place up to rounding; where all are below one, so
#: much of the largest
_SAME = 1e-9
#: most numbers of one temporary tensor, which then stays in a processor's cache
_CHUNK = 2**16


class Distances(NamedTuple):
    """Geodesic distances of samples and reference points.

    Fields:
        within_samples: ``(n, n)``
        within_reference: ``(m, m)``
        between: of each sample from each reference point, ``(n, m)``
    """

    within_samples: Tensor
    within_reference: Tensor
    between: Tensor

    @classmethod
    def of(cls, manifold: Manifold, samples: Tensor, reference: Tensor) -> Distances:
        """Those of points ``(n, *shape)`` and ``(m, *shape)``.

        Raises:
            ValueError: for a set without points, or with one that is not finite
        """
        _require_points("samples", samples)
        _require_points("reference points", reference)
        return cls(within(manifold, samples), within(manifold, reference), distances(manifold, samples, reference))


def _require_points(name: str, points: Tensor) -> None:
    bad = int((~torch.isfinite(points.flatten(1))).any(1).sum()) if len(points) else 0
    if bad or not len(points):
        found = f"{bad} of {len(points)} that are not finite" if bad else "none"
        raise ValueError(f"{name}: found {found}, expected finite points; leave the others out.")


def distances(manifold: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """The geodesic distances ``(n, m)`` of points ``(n, *shape)`` from points ``(m, *shape)``."""
    return torch.cat([manifold.dist(part[:, None], y) for part in x.split(_rows(y))])


def within(manifold: Manifold, x: Tensor) -> Tensor:
    """The geodesic distances ``(n, n)`` of points ``(n, *shape)`` from one another, each taken once."""
    found, rows = x.new_zeros(len(x), len(x)), _rows(x)
    for start in range(0, len(x), rows):
        part = manifold.dist(x[start : start + rows, None], x[start:])
        found[start : start + rows, start:] = part
        found[start:, start : start + rows] = part.T
    return found.fill_diagonal_(0.0)


def _tolerance(d: Distances) -> float:
    """By how much equal distances may differ, above zero."""
    largest = max(float(part.max()) for part in d)
    return max(_SAME * min(1.0, largest), math.ulp(0.0) / _SAME)


def _rows(y: Tensor) -> int:
    return max(1, _CHUNK // max(1, y.numel()))


def mmd(d: Distances) -> float:
    r"""The maximum mean discrepancy as it is printed for one-step models on manifolds since 2025.

    .. math:: \sqrt{\tfrac1{n^2} \textstyle\sum_{ij} k(x_i, x_j) + k(y_i, y_j) - 2 k(x_i, y_j)},
        \quad k(x, y) = e^{-d(x, y)^2}

    With n samples, as many test points, and the diagonals i = j, so that it is biased: two sets of one law are about
    :math:`\sqrt{2 (1 - E k) / n}` apart, which is the floor of small sets. The length of the kernel is fixed, in
    radians or units of the data, and where space is curved or closed the kernel is not positive definite: a negative
    mean counts as zero.

    References: Gretton et al. 2012, JMLR 13, equation 5; computed so in github.com/dongyeop3813/Riemannian-MeanFlow,
    ``src/eval/mmd.py``, at commit 4d0e443. On the kernel, Feragen, Lauze and Hauberg 2015, arXiv:1411.0296.
    """
    samples, reference, between = (float(part.square().neg_().exp_().mean()) for part in d)
    return math.sqrt(max(samples + reference - 2 * between, 0.0))  # in this order NaN stays NaN


def squared_mmd(d: Distances) -> float:
    r"""The squared maximum mean discrepancy of the kernels :math:`e^{-d(x, y) / \ell}`, the mean over ℓ.

    Unbiased: about zero, of either sign, for one law. The lengths ℓ are `LENGTHS` times the median distance between
    reference points. Unlike the kernel of `mmd`, this one is positive definite on spheres, in hyperbolic and in flat
    space; on other manifolds it need not be.

    References: Gretton et al. 2012, JMLR 13, equation 3; Feragen, Lauze and Hauberg 2015, arXiv:1411.0296.
    """
    n, m = d.between.shape
    if min(n, m) < 2:
        raise ValueError(f"At least two points of each law are needed, found {n} and {m}.")
    unit = d.within_reference[~torch.eye(m, dtype=torch.bool)].median().clamp_min(_tolerance(d))

    def total(part: Tensor) -> float:
        kernel = part.div(-LENGTHS[0] * unit).exp_()
        sums = [float(kernel.sum())]
        for _ in LENGTHS[1:]:  # the square of a kernel is that of half the length
            sums.append(float(kernel.square_().sum()))
        return sum(sums) / len(sums)

    def mean(part: Tensor) -> float:
        return (total(part) - len(part)) / (len(part) * (len(part) - 1))

    return mean(d.within_samples) + mean(d.within_reference) - 2 * total(d.between) / (n * m)


def nearest_neighbour_accuracy(d: Distances) -> float:
    r"""How often the nearest of all other points tells samples from reference points: 1/2 for one law, 1 far apart.

    The leave-one-out accuracy of a classifier by the nearest neighbour; below 1/2 where samples repeat the reference
    points. Of equally near neighbours, as rows of one place have, each counts for its share. In the mean it is
    :math:`(n - 1) / (2n - 1)` for two sets of n draws of one law.

    References: Lopez-Paz and Oquab 2017, arXiv:1610.06545.
    """

    tolerance = _tolerance(d)

    def right(own: Tensor, other: Tensor) -> Tensor:
        own = own.clone().fill_diagonal_(math.inf)
        nearest = torch.minimum(own.amin(1), other.amin(1))[:, None] + tolerance
        same, strange = (own <= nearest).sum(1), (other <= nearest).sum(1)
        return same / (same + strange)

    found = torch.cat([right(d.within_samples, d.between), right(d.within_reference, d.between.T)])
    return float(found.double().mean())


def coverage(d: Distances) -> float:
    """The share of reference points with a sample as near as their k-th neighbour among themselves, k = 5.

    For two sets of n draws of one law 1 - 2^-k in the mean, up to terms of 1/n; small where samples miss modes.

    References: Naeem et al. 2020, arXiv:2002.09797, section 3.
    """
    k = min(NEIGHBOURS, len(d.within_reference) - 1)
    # the point itself is the first
    radius = d.within_reference.kthvalue(k + 1, dim=1).values
    return float((d.between.amin(0) <= radius + _tolerance(d)).double().mean())


def wasserstein(d: Distances) -> float:
    r"""The Wasserstein distance :math:`W_2` of two sets of n points, by the best assignment of one to the other.

    .. math:: \min_\pi \sqrt{\tfrac1n \textstyle\sum_i d(x_i, y_{\pi(i)})^2}

    References: Villani 2009, Optimal Transport, definition 6.1.
    """
    n, m = d.between.shape
    if n != m:
        raise ValueError(f"wasserstein: expected equally many points, found {n} and {m}.")
    cost = d.between.square()
    row, column = linear_sum_assignment(cost.numpy())
    return math.sqrt(float(cost[row, column].mean()))


#: by their names in ``metrics.json``
METRICS: dict[str, Callable[[Distances], float]] = {
    "mmd": mmd,
    "squared_mmd": squared_mmd,
    "nearest_neighbour_accuracy": nearest_neighbour_accuracy,
    "coverage": coverage,
    "w2": wasserstein,
}


def compare_points(
    manifold: Manifold,
    samples: Tensor,
    reference: Tensor,
    fresh: Callable[[int, torch.Generator], Tensor],
    others: Mapping[str, Tensor] | None = None,
) -> dict[str, Any] | None:
    """Every metric of samples against reference points, beside what fresh data, and samples of others, reach.

    All sets have n points: as many as there are samples and reference points, at most 1,000. The value is the mean
    over several sets of samples, where there are enough. The floor is the mean over sets of fresh data, and
    ``floor_sd`` the standard deviation of one set: by so much the value of one set of a perfect sampler's scatters.
    All are held against the same reference points.

    A sampler that repeats the data is as good as fresh data by these metrics: whether it does is for the likelihood of
    held-out points to say.

    Arguments:
        manifold: of the points
        samples: ``(N, *shape)``
        reference: what they should be distributed as, such as test points, ``(M, *shape)``
        fresh: as many fresh points of the law of the reference points, drawn by a generator, or fewer if there are none
        others: samples of other models, at least n, by name

    Returns:
        ``n``, the numbers of sets, and for each of `METRICS` ``{value, floor, floor_sd}`` and the value of each of the
        others; None where n is less than two

    Raises:
        ValueError: for samples or reference points that are not finite
    """
    for name, points in {"samples": samples, "reference points": reference, **(others or {})}.items():
        if len(points):
            _require_points(name, points)
    n = min(_POINTS, len(samples), len(reference))
    n = min(n, len(fresh(n, generator_from("fresh points"))))
    if n < 2:
        return None
    most = min(_SETS, _TOTAL // n)
    floor = [fresh(n, generator_from("fresh points", k)) for k in range(most)]
    # of weighted rows there are now more and now fewer
    if (n := min(n, *map(len, floor))) < 2:
        return None
    order = torch.randperm(len(reference), generator=generator_from("reference points"))
    reference = reference[order[:n]].double().cpu()
    known = within(manifold, reference)
    sets = {name: points[: most * n].split(n)[: len(points) // n] for name, points in (others or {}).items()}
    sets["value"] = samples[: most * n].split(n)[: len(samples) // n]
    sets["floor"] = tuple(points[:n] for points in floor)
    found = {}
    with bar("metrics of samples", sum(map(len, sets.values())), "sets") as shown:
        for name, parts in sets.items():
            rows = []
            for part in parts:
                x = manifold.projx(part.double().cpu())
                d = Distances(within(manifold, x), known, distances(manifold, x, reference))
                rows.append([metric(d) for metric in METRICS.values()])
                shown.update()
            found[name] = torch.tensor(rows, dtype=torch.float64)
    means = {name: rows.mean(0) for name, rows in found.items()} | {"floor_sd": found["floor"].std(0)}
    rows = {metric: {name: float(mean[k]) for name, mean in means.items()} for k, metric in enumerate(METRICS)}
    return {"n": n, "sets": {"samples": len(sets["value"]), "fresh": most}, **rows}
