"""Laws made of laws: mixtures and products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.arguments import require_instance
from rsgm.distributions.base import ManifoldDistribution
from rsgm.manifolds import Product
from rsgm.progress import bar


def choose(weights: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """``n`` draws ``(*batch, n)`` of components with ``weights`` ``(*batch, K)``; of none for ``n = 0``."""
    return torch.multinomial(weights, n or 1, replacement=True, generator=generator)[..., :n]


def fit_weights(log_parts: Tensor, iterations: int, count: Tensor | None = None, prior: float = 0.0) -> Tensor:
    r"""The weights ``(K,)`` with which known laws mix best, by EM from equal ones; the problem is convex.

    .. math:: w \leftarrow \frac1n \sum_i \frac{w_k p_k(x_i)}{\sum_j w_j p_j(x_i)}

    Arguments:
        log_parts: log-densities ``(n, K)`` of points under each law, one of them finite for every point
        iterations: of EM
        count: what each point counts, ``(n,)``; None where all count the same
        prior: observations more, which all laws share that have some of the points in their support

    Example:
        >>> fit_weights(torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]).log(), 100)
        tensor([0.2917, 0.7083])
    """
    possible = torch.isfinite(log_parts).any(0).to(log_parts)
    equal, count = possible / possible.sum(), torch.ones_like(log_parts[:, 0]) if count is None else count
    weights = equal
    with bar("weights of the parts", iterations, "iterations") as shown:
        for _ in range(iterations):
            share = (log_parts + weights.log()).softmax(1)
            weights = (count @ share + prior * equal) / (count.sum() + prior)
            shown.update()
    return weights


class Mixture(ManifoldDistribution):
    r"""A finite mixture, :math:`p = \sum_k w_k p_k`: the one behind every mixture of the package.

    `torch.distributions.MixtureSameFamily` takes the same components and has the same density; its draws take no
    generator, and draw from all K components to keep one.

    Arguments:
        components: a law with batch shape ``(*batch, K)``
        weights: ``(K,)`` or ``(*batch, K)``, positive and finite, of any sum; None for equal weights
        validate_args: check values (default: as `torch.distributions` does)

    Raises:
        ValueError: components without a batch axis, or other weights

    Example:
        >>> from rsgm.distributions import WrappedNormal
        >>> from rsgm.manifolds import Euclidean
        >>> law = Mixture(WrappedNormal(Euclidean(1), torch.tensor([[-1.0], [1.0]]), 0.5), torch.tensor([3.0, 1.0]))
        >>> law.draw(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 1])
        >>> law.posterior(torch.tensor([[0.0], [1.0]]))
        tensor([[0.7500, 0.2500],
                [0.0010, 0.9990]])
    """

    def __init__(
        self, components: ManifoldDistribution, weights: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        shape = require_instance(components, ManifoldDistribution, "Mixture: components").batch_shape
        if not shape.numel() or not shape:
            raise ValueError(f"Mixture: components need batch shape (*batch, K), found {tuple(shape)}.")
        self.components, self.manifold, self.count = components, components.manifold, shape[-1]
        weights = torch.ones(self.count, dtype=torch.float64) if weights is None else torch.as_tensor(weights)
        if weights.shape not in (shape[-1:], shape) or not bool(((weights > 0) & weights.isfinite()).all()):
            raise ValueError(f"Mixture: {self.count} positive weights are needed, each finite, found {weights}.")
        self.weights = (weights / weights.sum(-1, keepdim=True)).expand(shape)
        super().__init__(shape[:-1], components.event_shape, validate_args=validate_args)

    @property
    @override
    def mixture(self) -> Mixture:  # type: ignore[override]
        return self

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-densities ``(..., *batch, K)`` of points ``(..., *batch, *event)``."""
        return self.components.log_prob(value.unsqueeze(value.dim() - len(self.event_shape)))

    def joint_log_prob(self, value: Tensor) -> Tensor:
        r"""Logarithms :math:`\log w_k p_k(x)`, ``(..., *batch, K)``, of points ``(..., *batch, *event)``."""
        parts = self.component_log_prob(self._point(value))
        return parts + self.weights.log().to(parts)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        return self.joint_log_prob(value).logsumexp(-1)

    def posterior(self, value: Tensor) -> Tensor:
        r"""The probability :math:`w_k p_k(x) / p(x)` that a point came from each component, ``(..., *batch, K)``."""
        return self.joint_log_prob(value).softmax(-1)

    def draw_with_component(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws ``(n, *batch, *event)`` and the components ``(n, *batch)`` that they came from."""
        flat = self.weights.reshape(-1, self.count)
        flat = flat if generator is None else flat.to(generator.device)
        component = choose(flat, n, generator).T.reshape(n, *self.batch_shape)
        # where the components are, which need not be where the generator is
        index = component.to(self.weights.device)
        grid = torch.meshgrid([torch.arange(size, device=index.device) for size in index.shape], indexing="ij")
        return self.components.take((*grid[1:], index)).draw(1, generator)[0], component

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.draw_with_component(n, generator)[0]

    @property
    def mean(self) -> Tensor:
        """The weighted mean of the components' means."""
        parts = self.components.mean
        return (self.weights.reshape(*self.weights.shape, *(1,) * len(self.event_shape)).to(parts) * parts).sum(
            len(self.batch_shape)
        )

    @override
    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: ManifoldDistribution | None = None
    ) -> ManifoldDistribution:
        new, shape = super().expand(batch_shape, _instance), (*batch_shape, self.count)
        new.components, new.weights = self.components.expand(shape), self.weights.expand(shape)
        return new


class ProductDistribution(ManifoldDistribution):
    """Independent laws on the factors of a product.

    Arguments:
        manifold: the product
        factors: a law on each of its factors; their batch shapes broadcast
        validate_args: check values (default: as `torch.distributions` does)

    Raises:
        ValueError: for another number of laws, or laws of points of other shapes
    """

    def __init__(
        self, manifold: Product, factors: Sequence[ManifoldDistribution], validate_args: bool | None = None
    ) -> None:
        for law in factors:
            require_instance(law, ManifoldDistribution, "ProductDistribution: factors")
        expected, found = [m.shape for m in manifold.factors], [tuple(law.event_shape) for law in factors]
        if found != expected:
            raise ValueError(f"ProductDistribution: {manifold} needs laws of points {expected}, found {found}.")
        batch = torch.broadcast_shapes(*(factor.batch_shape for factor in factors))
        self.manifold, self.factors = manifold, [factor.expand(batch) for factor in factors]
        super().__init__(batch, torch.Size(manifold.shape), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the factors' log-densities."""
        parts = self.manifold.split(self._point(value))
        return sum(factor.log_prob(part) for factor, part in zip(self.factors, parts, strict=True))

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.manifold.join(factor.draw(n, generator) for factor in self.factors)

    @property
    @override
    def mean(self) -> Tensor:
        return self.manifold.join(factor.mean for factor in self.factors)

    @property
    @override
    def mode(self) -> Tensor:
        return self.manifold.join(factor.mode for factor in self.factors)

    @override
    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: ManifoldDistribution | None = None
    ) -> ManifoldDistribution:
        new = super().expand(batch_shape, _instance)
        new.factors = [factor.expand(batch_shape) for factor in self.factors]
        return new
