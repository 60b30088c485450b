"""What is given to an audit: functions and tables, as laws and points."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from typing_extensions import override

from rsgm.data import ManifoldData, PointsData
from rsgm.evaluation.figures import contexts_like
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.metrics import Integral, distances, integral
from rsgm.models import GenerativeModel
from rsgm.progress import bar

Points = Tensor | ArrayLike

#: points of which log-densities are asked at a time
_BATCH = 500
#: most evaluations of a function by quadrature
_NODES = 10_000
#: how far apart a row of a table and a training point may be that are one, in units of length
_SAME_ROW = 1e-6


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
                values.append(numbers_of(self._log_prob(part), len(part), "log_prob"))
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
        width = peak_width(self._highest, self.manifold.dim)
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


def points_of(manifold: Manifold, points: Points, name: str) -> Tensor:
    """Points in double precision, projected, if they are some."""
    try:
        return PointsData(manifold, points).rows().points
    except ValueError as error:
        raise ValueError(f"audit: {name}: {error}") from None


def numbers_of(values: Points, n: int, name: str) -> Tensor:
    """As many numbers as there are points, in double precision; minus infinity is the logarithm of one."""
    try:
        found = torch.as_tensor(values)
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"audit: {name}: found {type(values).__name__}, expected ({n},) real numbers.") from None
    if found.is_complex():
        raise ValueError(f"audit: {name}: found complex numbers, expected real ones.")
    found = found.detach().double().cpu()
    if found.shape != (n,):
        raise ValueError(f"audit: {name}: found numbers of shape {tuple(found.shape)} for {n} points, expected ({n},).")
    bad = int((found.isnan() | (found == math.inf)).sum())
    if bad:
        raise ValueError(f"audit: {name}: {bad} of {n} numbers are NaN or infinite.")
    return found


def tested_points(
    law: GenerativeModel | None, manifold: Manifold, scored: Sequence[Points] | None, data: ManifoldData | None
) -> ScoredPoints | None:
    """The test points: those that were scored elsewhere, or else the data's."""
    if scored is not None:
        if len(scored) not in (2, 3):
            raise ValueError(f"audit: scored: found {len(scored)} parts, expected points, log-densities, and weights.")
        x = points_of(manifold, scored[0], "scored")
        density, *weights = [numbers_of(part, len(x), "scored") for part in scored[1:]]
        if weights and not bool((weights[0] >= 0).all() and weights[0].sum() > 0):
            raise ValueError("audit: scored: found weights that are negative or all zero, expected what each counts.")
        twins = None if data is None else _among(manifold, x, data.train.points)
        return ScoredPoints(x, density, label_places(x), twins, weights[0] if weights else None)
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


def drawn_points(
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
    x = points_of(manifold, sample, "sample")
    if value is not None:
        return ScoredPoints(x, numbers_of(value, len(x), "sample"))
    return ScoredPoints(x, None if law is None else law.rough().likelihoods(x, context).value.cpu())


def peak_width(log_density: float, dim: int) -> float:
    """The width of a normal law with this density at its centre; infinite beyond what a number can hold."""
    exponent = -log_density / dim - 0.5 * math.log(2 * math.pi)
    return math.exp(exponent) if exponent < math.log(sys.float_info.max) else math.inf
