"""What `rsgm` asks of a law on a manifold."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from rsgm.distributions.checks import OnManifold, floating
from rsgm.manifolds import Manifold


class ManifoldDistribution(Distribution, ABC):
    """A law on a manifold, with respect to its Riemannian volume, that draws from a given generator.

    As elsewhere in `torch.distributions`, parameters and values are checked unless ``validate_args=False``: a value
    is a point of the manifold, its `support`. `mean` is the expectation of the ambient coordinates, in general no
    point.

    A subclass says what `draw` and ``log_prob`` are, calls `_point` on values, and names its batched parameters in
    `batched`, from which `expand` and `take` follow.
    """

    manifold: Manifold
    #: the law as a `Mixture`, whose components have log-densities and draws of their own; None for others
    mixture: ManifoldDistribution | None = None

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *event)`` from ``generator`` (default: the global one)."""

    @property
    def batched(self) -> Mapping[str, int]:
        """Names of the parameters that carry the batch shape, each with the number of its axes after the batch."""
        return {}

    @property
    def arg_constraints(self) -> dict[str, Constraint]:
        """What the parameters have to be, by name."""
        return {}

    @property
    def support(self) -> Constraint:
        """The points of the manifold."""
        return OnManifold(self.manifold)

    @property
    def mean(self) -> Tensor:
        """The expectation ``(*batch, *event)`` of the ambient coordinates, where it is known."""
        self._unknown("mean", "average draws, and project the average with projx for a point")

    @property
    def mode(self) -> Tensor:
        """The point ``(*batch, *event)`` of the largest density, where it is known and unique."""
        self._unknown("mode", "maximise log_prob")

    @property
    def variance(self) -> Tensor:
        """Not known; it would be that of the ambient coordinates."""
        self._unknown("variance", "take that of draws")

    def entropy(self) -> Tensor:
        """The differential entropy, nats, shape ``batch``, where it is known."""
        self._unknown("entropy", "average -log_prob over draws")

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Exact draws ``(*sample_shape, *batch, *event)`` from the global generator; no gradient flows through them."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            return self.draw(shape.numel()).reshape(shape + self.batch_shape + self.event_shape)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws that are differentiable in the parameters, where ``has_rsample``."""
        if not self.has_rsample:
            self._unknown("rsample: its draws have no derivative in its parameters", "use sample")
        shape = torch.Size(sample_shape)
        return self.draw(shape.numel()).reshape(shape + self.batch_shape + self.event_shape)

    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: ManifoldDistribution | None = None
    ) -> ManifoldDistribution:
        """The law with a batch shape that its own broadcasts to; memory is shared."""
        batch, own = torch.Size(batch_shape), self.batch_shape
        fits = all(a in (1, b) for a, b in zip(own[::-1], batch[::-1], strict=False))
        if len(own) > len(batch) or not fits or any(size < 0 for size in batch):
            raise ValueError(
                f"{type(self).__name__}.expand: the batch shape {tuple(own)} does not expand to {tuple(batch)}."
            )
        return self._changed(lambda part, axes: part.expand(batch + part.shape[part.dim() - axes :]), batch, _instance)

    def take(self, index: Tensor | tuple[Tensor, ...]) -> ManifoldDistribution:
        """The laws of a batch that ``index`` selects, as in indexing a tensor of the batch shape."""
        if not self.batched:
            raise NotImplementedError(f"{type(self).__name__} does not select from a batch of laws.")
        name, axes = next(iter(self.batched.items()))
        selected = getattr(self, name)[index]
        return self._changed(lambda part, _: part[index], selected.shape[: selected.dim() - axes])

    def __repr__(self) -> str:
        """The arguments, tensors of several numbers by their shapes, as torch prints its laws."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "validate_args"]
        kept = {name: getattr(self, name) for name in names if name in vars(self)}
        parts = {key: v.shape if isinstance(v, Tensor) and v.numel() != 1 else v for key, v in kept.items()}
        return f"{type(self).__name__}({', '.join(f'{key}: {part}' for key, part in parts.items())})"

    def _changed(
        self,
        change: Callable[[Tensor, int], Tensor],
        batch: torch.Size,
        instance: ManifoldDistribution | None = None,
    ) -> ManifoldDistribution:
        """A copy with other parameters, which are not checked again."""
        new = self.__new__(type(self)) if instance is None else instance
        parts = {name: change(getattr(self, name), axes) for name, axes in self.batched.items()}
        new.__dict__.update(self.__dict__ | parts | {"_batch_shape": batch})
        return new

    def _point(self, value: Tensor) -> Tensor:
        """The value as floating-point numbers, checked if arguments are, and broadcast with the batch.

        And the nearest point, for narrow laws tell a point from one that is a little off the manifold.
        """
        value = floating(value) if isinstance(value, Tensor) else value
        if self._validate_args:
            self._validate_sample(value)
        value = self.manifold.projx(value)
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return value.expand(*torch.broadcast_shapes(batch, self.batch_shape), *self.event_shape)

    def _unknown(self, what: str, instead: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} on {self.manifold} has no {what}; {instead}.")
