"""Evidence lower bounds on the log-density of a score model in flat space."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.divergence import Divergence, Hutchinson
from rsgm.likelihood.solver import LogProb, ScoreLikelihood, batches, derivatives_in
from rsgm.manifolds import expand
from rsgm.processes import ContinuousTime, ImportanceTime, Process, ScoreField


@dataclass(frozen=True)
class EvidenceLowerBound(ScoreLikelihood, ABC):
    r"""A lower bound on the log-density of the reverse SDE (λ = 0), in expectation, by random slices of time.

    .. math:: \log p(x) \ge E\big[\log p(x | y_\varepsilon) + \log p_{\mathrm{prior}}(y_1) - \log q(y_r | x)\big]
        - \int_\varepsilon^1 E\,h(t, y_t)\,dt

    with the process :math:`y_t` from x, the Tweedie estimate :math:`p(x | y_\varepsilon) = N(\hat x_0,
    \sigma_\varepsilon^2/\alpha_\varepsilon^2)`, and a rate h and a time r that a subclass chooses. All choices have the
    same expectation. One network evaluation for each slice, and one more; no ODE.

    References: Huang, Lim and Courville 2021, arXiv:2106.02808; Kingma et al. 2021, arXiv:2107.00630; Song et al. 2021,
    arXiv:2101.09258.

    Arguments:
        slices: times for each point, one in each of as many equal parts of their law
        time: the law of the times
        dtype: of the network and of the process
        batch_size: points evaluated together
        seed: of the draws, equal for every call
    """

    slices: int = 64
    time: ContinuousTime = ImportanceTime()
    dtype: Literal["float64", "float32"] = "float32"
    batch_size: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slices < 1 or self.batch_size < 1:
            raise ValueError(
                f"{type(self).__name__}: slices and batch_size must be positive, found {self.slices} and "
                f"{self.batch_size}."
            )

    @abstractmethod
    def start(self, process: Process) -> float:
        """The time r, at which the law of the process enters."""

    @abstractmethod
    def rate(
        self,
        score: ScoreField,
        x0: Tensor,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """``h(t, x)`` at points ``x`` of the process from ``x0``, ``(B,)``."""

    def __call__(
        self,
        score: ScoreField,
        x: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LogProb:
        """The bound at ``x`` ``(B, *shape)``; its standard error is that of a mean over points.

        Raises:
            ValueError: for a manifold that is not a vector space
        """
        dtype = {"float64": torch.float64, "float32": torch.float32}[self.dtype]
        generator = generator or torch.Generator(x.device).manual_seed(self.seed)
        with derivatives_in(x):
            score = copy.deepcopy(score).to(dtype).eval()
            labels = None if context is None else context.clone().to(dtype)
            values = [
                self._boundary_terms(score, part, label, generator) - self._path_integral(score, part, label, generator)
                for part, label in batches(x.clone().to(dtype), labels, self.batch_size)
            ]
        return LogProb(torch.cat(values), float(self.slices + 1), exact=False, solver=self.settings())

    def rough(self) -> EvidenceLowerBound:
        """With an eighth of the slices, in single precision: of the same mean, noisier at each point."""
        return replace(self, slices=max(1, self.slices // 8), dtype="float32")

    def settings(self) -> dict[str, Any]:
        """Method, slices and dtype."""
        return {"method": type(self).__name__, "slices": self.slices, "dtype": self.dtype}

    def _boundary_terms(
        self, score: ScoreField, x0: Tensor, context: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """The terms of both ends: all of the bound but its integral over time."""
        process = score.process
        process.manifold.require_vector_space(type(self).__name__)
        dim = process.manifold.dim

        def at(t: float) -> Tensor:
            return torch.full((len(x0),), t, dtype=x0.dtype, device=x0.device)

        first, last, start = at(process.eps), at(1.0), at(self.start(process))
        x = process.perturb(x0, first, generator)
        value, target = score(first, x, context), process.conditional_score(x0, x, first)
        # the expectation of |σ target|², which is dim, in place of its draw
        rest = process.std(first).square() * (0.5 * value.square() - value * target).flatten(1).sum(1)
        ratio = process.std(start) * process.signal(first) / process.std(first)
        # the mean of the prior's log-density over the normal law at the last time
        spread = process.std(last) / process.prior.scale
        prior = process.prior.log_prob(expand(process.signal(last), x0) * x0) - 0.5 * dim * spread.square()
        return prior - rest + dim * ratio.log()

    def _path_integral(
        self, score: ScoreField, x0: Tensor, context: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """The integral over time, by random slices."""
        process = score.process
        offset = torch.rand(len(x0), generator=generator, dtype=x0.dtype, device=x0.device)
        total = torch.zeros_like(offset, dtype=torch.float64)
        for k in range(self.slices):
            t, weight = self.time.from_uniform(process, (k + offset) / self.slices)
            x = process.perturb(x0, t, generator)
            total += weight * self.rate(score, x0, x, t, context, generator)
        return total * (1 - process.eps) / self.slices


@dataclass(frozen=True)
class DenoisingBound(EvidenceLowerBound):
    r"""The bound in terms of Kullback-Leibler divergences: no derivative of the network is taken.

    .. math:: h = \tfrac12\beta\,\|s_\theta - \nabla\log q(y_t | x)\|^2, \qquad r = 1

    Arguments:
        slices, time, dtype, batch_size, seed: see `EvidenceLowerBound`

    Example:
        >>> from rsgm.fields import TangentField
        >>> from rsgm.manifolds import Euclidean
        >>> from rsgm.networks import ResidualMLP
        >>> from rsgm.processes import Score, VariancePreserving
        >>> process = VariancePreserving(Euclidean(2))
        >>> score = Score(process, TangentField(process.manifold, ResidualMLP))
        >>> DenoisingBound(slices=4)(score, torch.zeros(3, 2)).exact
        False
    """

    @override
    def start(self, process: Process) -> float:
        return 1.0

    def rate(
        self,
        score: ScoreField,
        x0: Tensor,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """``β |s - ∇ log q|² / 2``."""
        process = score.process
        error = score(t, x, context) - process.conditional_score(x0, x, t)
        return 0.5 * process.schedule.beta(t) * process.manifold.squared_norm(x, error)


@dataclass(frozen=True)
class DivergenceBound(EvidenceLowerBound):
    r"""The bound by the divergence of the reverse drift.

    .. math:: h = \beta\,(\tfrac12\|s_\theta\|^2 + \mathrm{div}\,s_\theta) - \mathrm{div}\,b, \qquad r = \varepsilon

    References: Huang, Lim and Courville 2021, arXiv:2106.02808, theorem 3 and section 4.

    Arguments:
        slices, time, dtype, batch_size, seed: see `EvidenceLowerBound`
        divergence: one Rademacher probe by default
    """

    divergence: Divergence = Hutchinson()

    @override
    def start(self, process: Process) -> float:
        return process.eps

    def rate(
        self,
        score: ScoreField,
        x0: Tensor,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """``β (|s|² / 2 + div s) - div b``."""
        process = score.process
        directions = self.divergence.directions(process.manifold, x, generator)
        value, div = score.with_divergence(t, x, directions, context)
        _, drift_div = process.drift_with_divergence(t, x, directions)
        return process.schedule.beta(t) * (0.5 * process.manifold.squared_norm(x, value) + div) - drift_div
