"""Laws made of laws: mixtures and products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from rsgm.distributions.base import ManifoldDistribution
from rsgm.manifolds import Product


class Mixture(ManifoldDistribution):
    r"""A finite mixture, :math:`p = \sum_k w_k p_k`.

    Arguments:
        components: a law with batch shape ``(K,)``
        weights: ``(K,)``, positive, of any sum; None for equal weights

    Raises:
        ValueError: components without a batch axis, or other weights
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, components: ManifoldDistribution, weights: Tensor | None = None) -> None:
        if len(components.batch_shape) != 1:
            raise ValueError(f"Mixture: components need batch shape (K,), found {tuple(components.batch_shape)}.")
        self.components, self.manifold, self.count = components, components.manifold, components.batch_shape[0]
        weights = torch.ones(self.count, dtype=torch.float64) if weights is None else weights
        if weights.shape != (self.count,) or not bool((weights > 0).all()):
            raise ValueError(f"Mixture: {self.count} positive weights are needed, found {weights}.")
        self.weights = weights / weights.sum()
        super().__init__((), components.event_shape, validate_args=False)

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-densities ``(..., K)`` of points ``(..., *event)``."""
        return self.components.log_prob(value.unsqueeze(value.dim() - len(self.event_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats."""
        parts = self.component_log_prob(value)
        return (parts + self.weights.log().to(parts)).logsumexp(-1)

    def draw_with_component(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws and the component ``(n,)`` that each came from."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.components.take(component).draw(1, generator)[0], component

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws."""
        return self.draw_with_component(n, generator)[0]


class ProductDistribution(ManifoldDistribution):
    """Independent laws on the factors of a product.

    Arguments:
        manifold: the product
        factors: a law on each of its factors
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Product, factors: Sequence[ManifoldDistribution]) -> None:
        self.manifold, self.factors = manifold, list(factors)
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the factors' log-densities."""
        parts = self.manifold.split(value)
        return sum(factor.log_prob(part) for factor, part in zip(self.factors, parts, strict=True))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws on the generator's device."""
        return self.manifold.join(factor.draw(n, generator) for factor in self.factors)
