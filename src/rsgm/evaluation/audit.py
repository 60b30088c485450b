"""Anybody's density and samples examined: what may be claimed of them, and what may not."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor
from typing_extensions import override

from rsgm.data import ManifoldData, PointsData
from rsgm.evaluation.baseline import KernelBaseline, density_integral, kernel_density
from rsgm.evaluation.claims import claims, page
from rsgm.evaluation.evaluate import Evaluation, resolution
from rsgm.evaluation.figures import contexts_in_turn, contexts_like
from rsgm.likelihood import Draws, LogProb
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.metrics import Integral, compare_points, distances, integral, summary
from rsgm.models import GenerativeModel
from rsgm.progress import bar, visible

Points = Tensor | ArrayLike

#: points of which log-densities are asked at a time
_BATCH = 500
#: most evaluations of a function by quadrature
_NODES = 10_000
#: how far apart a row of a table and a training point may be that are one, in units of length
_SAME_ROW = 1e-6


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


class Claimed(GenerativeModel):
    """What a function claims to be a density.

    Arguments:
        manifold: where it lives
        log_prob: see `audit`
    """

    def __init__(self, manifold: Manifold, log_prob: Any) -> None:
        super().__init__(manifold)
        self._log_prob, self._highest, self._evaluations = log_prob, -math.inf, 0

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """There is no sampler."""
        raise NotImplementedError("A function that claims to be a density has no samples.")

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """What the function gives, if it is a number, or minus infinity, for each point."""
        values = []
        with bar("log-density", len(x)) as shown:
            for part in x.double().split(_BATCH):
                values.append(_numbers(self._log_prob(part), len(part), "log_prob"))
                shown.update(len(part))
        value = torch.cat(values)
        self._highest, self._evaluations = max(self._highest, float(value.max())), self._evaluations + len(x)
        return LogProb(value, 0.0)

    def quadrature(self, known: tuple[Tensor, Tensor] | None) -> Integral | None:
        """The integral, where there is a chart and enough nodes for every peak that shows.

        Arguments:
            known: points and their log-densities, near which there may be peaks
        """
        if not self.manifold.unit_cube_extent:
            return None
        before = self._evaluations
        found = integral(self.log_prob, self.manifold, known, max_nodes=_NODES)
        # what is left when nodes run short is too little to halve one more cell
        ended = self._evaluations - before <= _NODES - 4**self.manifold.dim
        return found if ended and found.measured else None

    @override
    def resolution(self) -> float | None:
        # a narrower peak as high as the highest that was seen holds less than this share of the mass
        share = 1e-3
        width = _peak_width(self._highest, self.manifold.dim)
        return width * share ** (1 / self.manifold.dim) if width < math.inf else None


class ScoredPoints(NamedTuple):
    """Points, and what is known of them.

    Fields:
        points: ``(n, *shape)``, float64
        log_density: ``(n,)``, nats
        places: of test points labels of the places, ``(n,)``
        twins: of test points whether they are training points, ``(n,)``
        weights: of test points what each counts, ``(n,)``; None where all count the same
    """

    points: Tensor
    log_density: Tensor | None
    places: Tensor | None = None
    twins: Tensor | None = None
    weights: Tensor | None = None


def audit(
    model: GenerativeModel | None = None,
    *,
    log_prob: Callable[[Tensor], Points] | None = None,
    sample: Callable[[int], Points] | Points | tuple[Points, Points] | None = None,
    scored: tuple[Points, Points] | None = None,
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
        scored: test points and their log-densities, where ``log_prob`` is not at hand
        grid: points all over the manifold, their log-densities, and the volumes that they stand for: those of
            `Manifold.grid`, or 1 / (n q) of n draws of a law with the density q
        manifold: where the points live; by default the model's or the data's
        data: a data set with its splits, whose train part the density was fitted to, or points
        samples: how many to draw

    Raises:
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
        tested = _tested(law, manifold, scored, data)
        drawn = _drawn(model, law, manifold, sample, data, samples)
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
            "resolution": None if model is None else resolution(model),
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


# ---- what was given


def _manifold(given: Manifold | None, model: GenerativeModel | None, data: ManifoldData | None) -> Manifold:
    """The one of all parts."""
    found = [given, *(part.manifold for part in (model, data) if part is not None)]
    found = [manifold for manifold in found if manifold is not None]
    if not found:
        raise ValueError("audit: where do the points live? Give a manifold, such as manifold=Sphere(2).")
    if len(names := sorted(set(map(str, found)))) > 1:
        raise ValueError(f"audit: found points on {' and on '.join(names)}; give all the same manifold.")
    return found[0]


def _points(manifold: Manifold, points: Points, name: str) -> Tensor:
    """Points in double precision, projected, if they are some."""
    try:
        return PointsData(manifold, points).rows().points
    except ValueError as error:
        raise ValueError(f"audit: {name}: {error}") from None


def _numbers(values: Points, n: int, name: str) -> Tensor:
    """As many numbers as there are points, in double precision; minus infinity is the logarithm of one."""
    found = torch.as_tensor(values).detach().double().cpu()
    if found.shape != (n,):
        raise ValueError(f"audit: {name}: found numbers of shape {tuple(found.shape)} for {n} points, expected ({n},).")
    bad = int((found.isnan() | (found == math.inf)).sum())
    if bad:
        raise ValueError(f"audit: {name}: {bad} of {n} numbers are NaN or infinite.")
    return found


def _tested(
    law: GenerativeModel | None, manifold: Manifold, scored: tuple[Points, Points] | None, data: ManifoldData | None
) -> ScoredPoints | None:
    """The test points: those that were scored elsewhere, or else the data's."""
    if scored is not None:
        x = _points(manifold, scored[0], "scored")
        twins = None if data is None else _among(manifold, x, data.train.points)
        return ScoredPoints(x, _numbers(scored[1], len(x), "scored"), label_places(x), twins)
    if data is None:
        return None
    x, context, value = data.test.points, data.test.context, None
    if law is not None:
        value = law.likelihoods(x, context).value.cpu()
    return ScoredPoints(x, value, data.test_places(), data.twins(), data.part_weights("test"))


def _among(manifold: Manifold, x: Tensor, train: Tensor) -> Tensor:
    """Which points are training points, to the digits of a table."""
    same = _SAME_ROW * min(1.0, float(train.abs().max()))
    with bar("training points among those that were scored", len(x)) as shown:
        found = []
        for part in x.split(_BATCH):
            found.append((distances(manifold, part, train) <= same).any(1))
            shown.update(len(part))
    return torch.cat(found)


def _drawn(
    model: GenerativeModel | None,
    law: GenerativeModel | None,
    manifold: Manifold,
    sample: Any,
    data: ManifoldData | None,
    n: int,
) -> ScoredPoints | None:
    """Samples, those of a conditional model under the contexts of the test points."""
    value = context = None
    if model is not None:
        context = None if data is None else contexts_like(model, data.test, n)
        sample = model.sample(n, context, seed=0)
    elif callable(sample):
        sample = sample(n)
    elif isinstance(sample, tuple):
        sample, value = sample
    if sample is None:
        return None
    x = _points(manifold, sample, "sample")
    if value is not None:
        return ScoredPoints(x, _numbers(value, len(x), "sample"))
    return ScoredPoints(x, None if law is None else law.rough().likelihoods(x, context).value.cpu())


# ---- what it says


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
        found["peak_width"] = _peak_width(-float(values["nll"].min()), manifold.dim)
    return found


def _peak_width(log_density: float, dim: int) -> float:
    """The width of a normal law with this density at its centre; infinite beyond what a number can hold."""
    exponent = -log_density / dim - 0.5 * math.log(2 * math.pi)
    return math.exp(exponent) if exponent < math.log(sys.float_info.max) else math.inf


def _summed(manifold: Manifold, points: Points, log_density: Points, volume: Points) -> dict[str, Any]:
    """The integral by points and volumes that were given, whose error nobody knows."""
    x = _points(manifold, points, "grid")
    value, share = _numbers(log_density, len(x), "grid: log-densities"), _numbers(volume, len(x), "grid: volumes")
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
