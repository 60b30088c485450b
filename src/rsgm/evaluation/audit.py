"""Anybody's density and samples examined: what may be claimed of them, and what may not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor

from rsgm.arguments import require_instance
from rsgm.data import ManifoldData, PointsData
from rsgm.evaluation.audited import (
    Claimed,
    Points,
    ScoredPoints,
    drawn_points,
    numbers_of,
    peak_width,
    points_of,
    tested_points,
)
from rsgm.evaluation.baseline import KernelBaseline, density_integral, kernel_density
from rsgm.evaluation.claims import claims, page
from rsgm.evaluation.evaluate import Evaluation, resolution
from rsgm.evaluation.figures import contexts_in_turn
from rsgm.likelihood import Draws
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.metrics import Integral, compare_points, summary
from rsgm.models import GenerativeModel
from rsgm.progress import visible

#: places, below which points cannot be split for kernels around them
_FEWEST = 10


class Audit(NamedTuple):
    """What `audit` found.

    Fields:
        findings: numbers, and the sentences that follow from them, as plain data
    """

    findings: dict[str, Any]

    @property
    def text(self) -> str:
        """A page that says what may be claimed, what may not, and what has not been shown."""
        return page(self.findings)


def audit(
    model: GenerativeModel | None = None,
    *,
    log_prob: Callable[[Tensor], Points] | None = None,
    sample: Callable[[int], Points] | Points | tuple[Points, Points] | None = None,
    scored: tuple[Points, Points] | tuple[Points, Points, Points] | None = None,
    grid: tuple[Points, Points, Points] | None = None,
    manifold: Manifold | None = None,
    data: ManifoldData | Points | None = None,
    samples: int = 2000,
) -> Audit:
    """Examine a model, or what others say of theirs: a density, samples, or numbers of either.

    Each is optional, and what is not given is said not to be shown. A density is integrated; with data it is compared,
    on the test points, with a kernel density of the training points and the uniform law, with and without the test
    points that are training points. Samples are held against the test points, beside fresh data. A density's own
    samples should be as likely as test points, in the mean and in law: where density and sampler are right, the share
    of samples with a lower density than a test point is uniform over the test points (calibration). The largest
    difference from that is the statistic of Kolmogorov and Smirnov for the log-densities of both; its p-value counts
    places.

    Arguments:
        model: the law, in the place of ``log_prob`` and ``sample``
        log_prob: log-densities ``(n,)`` of points ``(n, *manifold.shape)``, float64, by the Riemannian volume, in nats
        sample: a function that draws n points; or points; or points and their log-densities
        scored: test points and their log-densities, where ``log_prob`` is not at hand, and perhaps what each counts
        grid: points all over the manifold, their log-densities, and the volumes of the cells that they stand for, such
            as those of `Manifold.grid`
        manifold: where the points live; by default the model's or the data's
        data: a data set with its splits, whose train part the density was fitted to, or points
        samples: how many to draw

    Raises:
        TypeError: for a model that is none
        ValueError: nothing to examine, no manifold, or what are no points or no log-densities
        SolveError: where a model's likelihood could not be computed

    Example:
        >>> from rsgm.distributions import PolarVonMisesFisher
        >>> law = PolarVonMisesFisher(concentration=5.0)
        >>> found = audit(log_prob=law.log_prob, manifold=law.manifold)
        >>> round(found.findings["integral"]["value"], 3)
        1.0
    """
    given = {"model": model, "log_prob": log_prob, "sample": sample, "scored": scored, "grid": grid}
    names = [name for name, part in given.items() if part is not None]
    if not names:
        raise ValueError(f"audit: found nothing to examine, expected one of {', '.join(given)}.")
    if names != ["model"] and ("model" in names or {"log_prob"} < set(names) - {"sample"}):
        raise ValueError(
            f"audit: found {' and '.join(names)}. A model is examined alone, and log_prob is asked itself about what "
            "scored and grid would say: leave the others out."
        )
    if model is not None:
        require_instance(model, GenerativeModel, "audit: model, beside which functions are log_prob= and sample=,")
    own_split = isinstance(data, ManifoldData)
    manifold = _manifold(manifold, model, data if own_split else None)
    if data is not None:
        data = data if own_split else PointsData.of(manifold, data)
        data.prepare_data()
        data.setup()
        if data.test.context is not None and {"log_prob", "scored"} & set(names):
            raise ValueError("audit: the data have contexts, which only a model is given; give a model, or samples.")
    claimed = None if log_prob is None else Claimed(manifold, log_prob)
    law = model or claimed
    with visible():
        tested = tested_points(law, manifold, scored, data)
        drawn = drawn_points(model, law, manifold, sample, data, samples)
        kde = None if data is None else kernel_density(manifold, data)
        kernels = None
        if kde is not None and tested is not None:
            kernels = kde.log_density(tested.points, data.test.context)
        mass = _summed(manifold, *grid) if grid is not None else _integral(law, claimed, data, tested, drawn)
        found = {
            "of": type(model).__name__ if model is not None else "samples" if names == ["sample"] else "a density",
            "manifold": str(manifold),
            "data": None if data is None else data.provenance() | {"own_split": own_split},
            **_on_test_points(manifold, tested, kernels),
            "uniform": None if math.isinf(manifold.log_volume) else manifold.log_volume,
            "resolution": None if model is None else resolution(model, data),
            "integral": mass,
            **_by_density(tested, drawn),
            "sample_metrics": _by_distance(manifold, drawn, data, kde),
        }
    return Audit(found | {"claims": claims(found)})


def audit_evaluation(model: GenerativeModel, data: ManifoldData, found: Evaluation) -> Audit:
    """The audit of a model that was scored, which computes nothing again.

    Arguments:
        model: that was scored
        data: on whose test part
        found: by `rsgm.evaluation.score`
    """
    weights = data.part_weights("test")
    tested = ScoredPoints(data.test.points, found.log_density, data.test_places(), data.twins(), weights)
    findings = {
        "of": type(model).__name__,
        "manifold": str(model.manifold),
        "data": data.provenance() | {"own_split": True},
        **_on_test_points(model.manifold, tested, found.kernel_log_density),
        "uniform": found.metrics["baselines"]["uniform"],
        "resolution": found.metrics["resolution"],
        "integral": None if found.density is None else _as_mass(found.density) | {"near": "samples"},
        **_by_density(tested, ScoredPoints(found.draws.points, found.draws.log_density)),
        "sample_metrics": found.metrics["sample_metrics"],
    }
    return Audit(findings | {"claims": claims(findings)})


def _manifold(given: Manifold | None, model: GenerativeModel | None, data: ManifoldData | None) -> Manifold:
    """The one of all parts."""
    found = [given, *(part.manifold for part in (model, data) if part is not None)]
    found = [manifold for manifold in found if manifold is not None]
    if not found:
        raise ValueError("audit: where do the points live? Give a manifold, such as manifold=Sphere(2).")
    if len(names := sorted(set(map(str, found)))) > 1:
        raise ValueError(f"audit: found points on {' and on '.join(names)}; give all the same manifold.")
    return found[0]


def _on_test_points(manifold: Manifold, tested: ScoredPoints | None, kernels: Tensor | None) -> dict[str, Any]:
    """The negative log-likelihood, that of a kernel density, and by how much it is larger; with and without twins."""
    values: dict[str, Tensor] = {}
    if tested is not None and tested.log_density is not None:
        values["nll"] = -tested.log_density
    if kernels is not None:
        values["kernel_density_nll"] = -kernels
    if len(values) == 2:
        values["excess_over_kernel_density"] = values["nll"] - values["kernel_density_nll"]
    found: dict[str, Any] = {"twin_share": None, "peak_width": None}
    for name in ("nll", "kernel_density_nll", "excess_over_kernel_density"):
        value = values.get(name)
        found[name] = None if value is None else summary(value, tested.places, tested.weights)
        found[f"{name}_without_twins"] = None
        if value is not None and tested.twins is not None:
            new = ~tested.twins
            weights = None if tested.weights is None else tested.weights[new]
            found[f"{name}_without_twins"] = summary(value[new], tested.places[new], weights)
    if tested is not None and tested.twins is not None:
        found["twin_share"] = float(tested.twins.double().mean())
    if "nll" in values:
        found["peak_width"] = peak_width(-float(values["nll"].min()), manifold.dim)
    return found


def _summed(manifold: Manifold, points: Points, log_density: Points, volume: Points) -> dict[str, Any]:
    """The integral by points and volumes that were given, whose error nobody knows."""
    x = points_of(manifold, points, "grid")
    value, share = numbers_of(log_density, len(x), "grid: log-densities"), numbers_of(volume, len(x), "grid: volumes")
    bad = int(((share < 0) | share.isinf()).sum())
    if bad:
        raise ValueError(f"audit: grid: volumes: {bad} of {len(x)} are negative or infinite.")
    found = {"value": float((value.exp() * share).sum()), "standard_error": None, "measured": False}
    whole = None if math.isinf(manifold.log_volume) else float(share.sum()) / math.exp(manifold.log_volume)
    return found | {"method": "sum over given points", "near": None, "share_of_volume": whole}


def _integral(
    law: GenerativeModel | None,
    claimed: Claimed | None,
    data: ManifoldData | None,
    tested: ScoredPoints | None,
    drawn: ScoredPoints | None,
) -> dict[str, Any] | None:
    """By quadrature where a function is smooth enough, else from nodes near samples or data; None where none are."""
    if law is None:
        return None
    near = drawn or tested
    hints = {"near": None if near is None else "samples" if drawn is not None else "test points"}
    known = None if near is None else (near.points, near.log_density)
    found = None if claimed is None else claimed.quadrature(known)
    if found is None and known is not None:
        points, log_density = known
        if data is None:
            # kernels around some, weighted by the others
            if len(label_places(points[::2]).unique()) < _FEWEST:
                return None
            data = PointsData(law.manifold, points[::2])
            data.setup()
            points, log_density = points[1::2], log_density[1::2]
        found = density_integral(law, data, Draws(points, log_density))
    if found is None:
        return None
    return hints | _as_mass(found)


def _as_mass(found: Integral) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("value", "standard_error", "method", "measured")}


def _by_density(tested: ScoredPoints | None, drawn: ScoredPoints | None) -> dict[str, Any]:
    """Whether samples are as likely as test points, in the mean and in law."""
    found: dict[str, Any] = {"sample_nll": None, "calibration": None}
    if drawn is None or drawn.log_density is None:
        return found
    found["sample_nll"] = summary(-drawn.log_density)
    if tested is not None and tested.log_density is not None:
        n, places = len(drawn.points), len(tested.places.unique())
        count = torch.ones_like(tested.log_density) if tested.weights is None else tested.weights.double()
        distance = _distance(tested.log_density, count, drawn.log_density)
        # rows of one place are one observation, and those of unequal weights fewer than there are (Kish 1965)
        alone = min(float(places), float(count.sum() ** 2 / count.square().sum()))
        if alone == len(count) and min(alone, n) < _FEWEST:  # where the law of many is wrong
            p_value = float(stats.ks_2samp(tested.log_density.numpy(), drawn.log_density.numpy()).pvalue)
        else:
            p_value = float(stats.kstwo.sf(distance, max(1, round(n * alone / (n + alone)))))
        found["calibration"] = {"distance": distance, "p_value": p_value, "places": places, "samples": n}
    return found


def _distance(values: Tensor, count: Tensor, others: Tensor) -> float:
    """The largest difference of the distribution functions of weighted values and of others (Kolmogorov, Smirnov)."""
    both, row = torch.unique(torch.cat([values, others]), return_inverse=True)
    shares = torch.cat([count / count.sum(), torch.full_like(others, -1 / len(others))])
    return float(torch.zeros_like(both).index_add(0, row, shares).cumsum(0).abs().max())


def _by_distance(
    manifold: Manifold, drawn: ScoredPoints | None, data: ManifoldData | None, kde: KernelBaseline | None
) -> dict[str, Any] | None:
    """Samples against test points, beside fresh data and the kernel density's samples."""
    if drawn is None or data is None:
        return None
    n = len(drawn.points)
    others = {} if kde is None else {"kernel_density": kde.sample(n, contexts_in_turn(data.test, n))}
    return compare_points(manifold, drawn.points, data.reference_points(), data.fresh_points, others)
