"""A generative model as a distribution of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rsgm.distributions import ManifoldDistribution

if TYPE_CHECKING:
    from rsgm.models.base import GenerativeModel


class ModelDistribution(ManifoldDistribution):
    """The law of a model, given its context.

    The model is shared, not copied. `Independent`, `MixtureSameFamily` and plates take it as any other distribution.

    Arguments:
        model: the law
        context: of a conditional model, ``(*batch, features)``; the batch shape is that of its rows
        validate_args: check that values are points of the manifold

    Raises:
        ValueError: for a context that is no vector

    Example:
        >>> import rsgm
        >>> law = rsgm.RSGM(rsgm.Sphere(2)).distribution()
        >>> law.log_prob(law.sample((2, 3))).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, model: GenerativeModel, context: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        if context is not None:
            context = torch.as_tensor(context)
            if context.dim() < 1:
                raise ValueError("expected a context (*batch, features), found a number.")
        self.model, self.manifold, self.context = model, model.manifold, context
        batch = torch.Size() if context is None else context.shape[:-1]
        super().__init__(batch, torch.Size(model.manifold.shape), validate_args)

    @property
    def batched(self) -> Mapping[str, int]:
        """The context, if there is one."""
        return {} if self.context is None else {"context": 1}

    def __repr__(self) -> str:
        given = "" if self.context is None else f", context {tuple(self.context.shape)}"
        return f"ModelDistribution({type(self.model).__name__} on {self.manifold}{given})"

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of each law of the batch, ``(n, *batch, *event)``."""
        shape = (n, *self.batch_shape)
        if not torch.Size(shape).numel():
            return torch.empty(*shape, *self.event_shape, device=self.model.device)
        generator = generator or self.model.generator(int(torch.randint(2**62, ())))
        given = self.model.given(self.context, shape)
        return self.model.draw(torch.Size(shape).numel(), given, generator).reshape(*shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, nats, differentiable in the value."""
        return self.model.log_prob(self._point(value), self.context)
