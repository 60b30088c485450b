"""What `rsgm` asks of a law on a manifold."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution

from rsgm.manifolds import Manifold


class ManifoldDistribution(Distribution, ABC):
    """A law on a manifold, with respect to its Riemannian volume, that draws from a given generator."""

    manifold: Manifold

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *event)`` from ``generator`` (default: the global one)."""

    def take(self, index: Tensor) -> ManifoldDistribution:
        """The members of a batch ``(K,)`` of laws that ``index`` selects."""
        raise NotImplementedError(f"{type(self).__name__} does not select from a batch of laws.")

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Exact draws ``(*sample_shape, *batch, *event)`` from the global generator."""
        shape = torch.Size(sample_shape)
        return self.draw(shape.numel()).reshape(shape + self.batch_shape + self.event_shape)
