"""The baseline: a flat score model in a chart of the manifold."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.charts import Chart, Stereographic
from rsgm.description import describe
from rsgm.fields import Field, NetworkField, TangentField
from rsgm.likelihood import Draws, EvidenceLowerBound, LogProb, ODESolver, ScoreLikelihood
from rsgm.losses import DenoisingScoreMatching, Loss
from rsgm.manifolds import Euclidean, Manifold
from rsgm.models.base import GenerativeModel, Weights
from rsgm.models.rsgm import RSGM
from rsgm.networks import MLP, Network
from rsgm.processes import Prediction, Process, Score, VariancePreserving
from rsgm.samplers import ReverseDiffusion, Sampler
from rsgm.schedules import LinearBeta


class ChartSGM(GenerativeModel):
    r"""A score model of the points' coordinates, :math:`\log p(x) = \log q(y) - \log|\det \partial x/\partial y|`.

    The model q is an `RSGM` on flat space. Near the points without coordinates the chart, not the data, decides.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 5 ("stereographic", "exp-wrapped"); Gemici,
    Rezende and Mohamed 2016, arXiv:1611.02304.

    Arguments:
        manifold: where the points live
        chart: factory of the chart from the manifold
        process: factory of the forward process from a Euclidean space; None for `VariancePreserving` with
            ``LinearBeta(beta_1=6)``
        network: factory of the network from its input and output sizes
        field: factory of the vector field from the Euclidean space and the network factory
        prediction: factory of the score from the process and the vector field
        loss: the training objective
        sampler: how samples are drawn
        likelihood: how log-densities are computed
        bound: a lower bound that is reported beside them

    Example:
        >>> from functools import partial
        >>> from rsgm.manifolds import Sphere
        >>> model = ChartSGM(Sphere(2), network=partial(MLP, hidden=[16]))
        >>> model.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        manifold: Manifold,
        chart: Callable[[Manifold], Chart] = Stereographic,
        process: Callable[[Manifold], Process] | None = None,
        network: Callable[[int, int], Network] = MLP,
        field: Callable[[Manifold, Callable[[int, int], Network]], NetworkField] = TangentField,
        prediction: Callable[[Process, Field], Prediction] = Score,
        loss: Loss = DenoisingScoreMatching(),
        sampler: Sampler = ReverseDiffusion(),
        likelihood: ScoreLikelihood = ODESolver(),
        bound: EvidenceLowerBound | None = None,
    ) -> None:
        super().__init__(manifold)
        self.chart = chart(manifold)
        process = process or partial(VariancePreserving, schedule=LinearBeta(beta_1=6.0))
        self.flat = RSGM(Euclidean(manifold.dim), process, network, field, prediction, loss, sampler, likelihood, bound)

    def loss(self, x: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        """The score-matching loss of the coordinates."""
        return self.flat.loss(self.chart.inverse(x), context)

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """The points of ``n`` sampled coordinates."""
        return self.chart.forward(self.flat.draw(n, context, generator))

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """That of the coordinates, less the log-determinant of the chart.

        Raises:
            ValueError: for points without coordinates
        """
        y = self._coordinates(x)
        return self._pushed(self.flat.likelihood(y, context), y)

    def lower_bound(self, x: Tensor, context: Tensor | None = None) -> LogProb | None:
        """By ``bound``, if there is one."""
        y = self._coordinates(x)
        result = self.flat.lower_bound(y, context)
        return None if result is None else self._pushed(result, y)

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Fit the chart, then a schedule that leaves its range to the coordinates of the training points.

        Raises:
            ValueError: for points without coordinates
        """
        for part in (train, val):
            self._refuse_missing(part)
        self.chart.fit(train)
        before = self.flat.process.schedule
        self.flat.fit_points(self.chart.inverse(train), self.chart.inverse(val))
        if self.flat.process.schedule is not before:
            self.redescribe(process=describe(self.flat.process, skip=1))

    def resolution(self) -> float:
        """That of the flat model, in units of length at the centre of the chart."""
        centre = torch.zeros(self.manifold.dim, device=self.device)
        scale = float(self.chart.log_det(centre)) / self.manifold.dim
        return self.flat.resolution() * math.exp(scale)

    @override
    def transported(self, n: int, context: Tensor | None, generator: torch.Generator) -> Draws:
        y, log_density = self.flat.transported(n, context, generator)
        x = self.chart.forward(y)
        # the likelihood knows one of the coordinates of a point; what has others adds nothing to its integral
        known = (self.chart.inverse(x) - y).norm(dim=-1) <= 1e-6 * (1 + y.norm(dim=-1))
        return Draws(x, torch.where(known, log_density - self.chart.log_det(y), torch.inf))

    @override
    def rough(self) -> GenerativeModel:
        return self.altered(flat=self.flat.rough())

    def _coordinates(self, x: Tensor) -> Tensor:
        x = self.manifold.projx(x.double())
        self._refuse_missing(x)
        return self.chart.inverse(x)

    def _refuse_missing(self, x: Tensor) -> None:
        rows = self.chart.misses(x).nonzero()[:, 0].tolist()
        if rows:
            raise ValueError(
                f"ChartSGM: {len(rows)} of {len(x)} points have no coordinates in the chart {self.chart._get_name()}: "
                f"they are where it tears {self.manifold} (rows {', '.join(map(str, rows[:10]))}). Leave them out, "
                "turn the data, or choose a model without a chart."
            )

    def _pushed(self, result: LogProb, y: Tensor) -> LogProb:
        return result._replace(value=result.value - self.chart.log_det(y))
