"""Processes on products of manifolds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.distributions import ProductDistribution
from rsgm.manifolds import Manifold, Product
from rsgm.processes.base import Process
from rsgm.processes.brownian import Brownian
from rsgm.processes.gaussian import VariancePreserving
from rsgm.processes.langevin import Langevin
from rsgm.schedules import LinearBeta, Schedule


class ProductProcess(Process):
    r"""Independent processes on the factors of a product, run at one rate β.

    Prior, drift, noise and conditional law are the factors' own, side by side.

    Arguments:
        manifold: the product
        schedule: β and its integral, shared; by default that of `VariancePreserving`
        eps: smallest time, shared
        factors: one factory for each factor of the manifold, from the factor, the schedule and eps; None is
            `Brownian` where the factor is compact, `VariancePreserving` where it is flat, and else `Langevin`

    Raises:
        ValueError: where the manifold is no product, or has another number of factors; for a factor that runs at
            another rate, or from another smallest time

    Example:
        >>> process = ProductProcess(Product())
        >>> process.prior.draw(2).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        manifold: Product,
        schedule: Schedule = LinearBeta(beta_1=20.0),
        eps: float = 1e-3,
        factors: Sequence[Callable[[Manifold, Schedule, float], Process]] | None = None,
    ) -> None:
        super().__init__(manifold, schedule, eps)
        if not manifold.factors:
            raise ValueError(f"ProductProcess: expected a Product, found {manifold}; use Brownian or Langevin.")
        if factors is None:
            factors = [_natural(factor) for factor in manifold.factors]
        if len(factors) != len(manifold.factors):
            raise ValueError(
                f"ProductProcess: {manifold} has {len(manifold.factors)} factors, found {len(factors)} processes."
            )
        self.factors = [make(part, schedule, eps) for make, part in zip(factors, manifold.factors, strict=True)]
        for factor in self.factors:
            if (factor.schedule, factor.eps) != (schedule, eps):
                raise ValueError(
                    f"ProductProcess: all factors run at the rate {schedule} from eps = {eps}, found "
                    f"{type(factor).__name__} with {factor.schedule} and {factor.eps}; let its factory pass on the "
                    "schedule and the eps that it is given."
                )
        self._modules_of_factors = nn.ModuleList(self.factors)
        _ = self.prior  # which checks the factors

    @property
    def prior(self) -> ProductDistribution:
        """The product of the factors' priors."""
        return ProductDistribution(self.manifold, [factor.prior for factor in self.factors])

    @override
    def follow(self, schedule: Schedule) -> None:
        super().follow(schedule)
        for factor in self.factors:
            factor.follow(schedule)

    @override
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.manifold.join(f.drift(t, part) for f, part in self._parts(x))

    def drift_with_divergence(self, t: Tensor, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """By factor; the divergences add."""
        split = zip(self._parts(x), self.manifold.split(directions), strict=True)
        drifts, divergences = zip(*(f.drift_with_divergence(t, a, u) for (f, a), u in split), strict=True)
        return self.manifold.join(drifts), sum(divergences)

    @override
    def perturb(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.manifold.join(f.perturb(part, t, generator) for f, part in self._parts(x0))

    def perturb_with_score(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Independent draws, and the factors' own vectors."""
        drawn = [f.perturb_with_score(part, t, generator) for f, part in self._parts(x0)]
        x, score = map(self.manifold.join, zip(*drawn, strict=True))
        return x, score

    @property
    def settling(self) -> float:
        """The largest of the factors'; each takes its own."""
        return max(factor.settling for factor in self.factors)

    def settle(self, x: Tensor, score: Tensor, noise: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """By factor, some of which may stay."""
        parts = zip(self._parts(x), self.manifold.split(score), strict=True)
        return self.manifold.join(f.settle(part, slope, noise, generator) for (f, part), slope in parts)

    def conditional(self, x0: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """By factor, where every factor knows its own; the log-densities add."""
        parts = zip(self._parts(x0), self.manifold.split(x), strict=True)
        log_probs, scores = zip(*(f.conditional(a, b, t) for (f, a), b in parts), strict=True)
        return sum(log_probs), self.manifold.join(scores)

    def _parts(self, x: Tensor) -> list[tuple[Process, Tensor]]:
        return list(zip(self.factors, self.manifold.split(x), strict=True))


def _natural(factor: Manifold) -> Callable[[Manifold, Schedule, float], Process]:
    if factor.factors:
        return ProductProcess
    if math.isfinite(factor.log_volume):
        return Brownian
    return VariancePreserving if factor.vector_space else Langevin
