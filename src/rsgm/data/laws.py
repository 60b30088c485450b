"""Laws with a known density as data: fixed sets, and on request a stream of fresh points to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from rsgm.arguments import require_count, require_instance
from rsgm.data.base import Batch, ManifoldData
from rsgm.data.covariates import Category
from rsgm.distributions import EuclideanLaw, ManifoldDistribution, PolarVonMisesFisher
from rsgm.manifolds import Manifold
from rsgm.seeding import generator_from


@dataclass(eq=False, repr=False)
class LawData(ManifoldData):
    """Points drawn from a law; of a mixture, on request, with the component, one-hot, as their context.

    `true_log_prob` of the test points is what a perfect model reaches on the same draw.

    Arguments:
        law: what the points are drawn from; by default the toy of the RSGM code
        conditional: give the component of a mixture as context, and score given it
        train_size, val_size, test_size: points of the fixed sets
        fresh: whether training batches are fresh draws of the law, without end; otherwise they come from the fixed
            train points, which are all that a model that is fitted to a set, such as the kernel density, ever sees
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        ValueError: a size that is not positive, or components asked of a law that has none

    Example:
        >>> from rsgm.distributions import Moons
        >>> data = LawData(Moons(noise=0.1), train_size=10, val_size=10, test_size=100)
        >>> data.setup()
        >>> x, context = data.train_batch(step=0)
        >>> x.shape, data.true_log_prob(data.test.points).shape
        (torch.Size([512, 2]), torch.Size([100]))
    """

    law: ManifoldDistribution = field(default_factory=PolarVonMisesFisher)
    _: KW_ONLY
    conditional: bool = False
    train_size: int = 4_000
    val_size: int = 1_000
    test_size: int = 2_000
    fresh: bool = True
    split: str = field(default="random", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("LawData", train_size=self.train_size, val_size=self.val_size, test_size=self.test_size)
        if require_instance(self.law, ManifoldDistribution, "LawData: law").batch_shape:
            raise ValueError(f"LawData: expected one law, found a batch of {tuple(self.law.batch_shape)}; take one.")
        if self.conditional and self.law.mixture is None:
            raise ValueError(
                f"LawData: conditional data need a mixture, whose component is the context; {type(self.law).__name__} "
                "is none. Leave conditional out, or choose a mixture."
            )

    @cached_property
    @override
    def manifold(self) -> Manifold:
        return self.law.manifold

    @property
    @override
    def reference_law(self) -> EuclideanLaw | None:  # type: ignore[override]
        return self.law if isinstance(self.law, EuclideanLaw) else None

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """``n`` fresh points and, if conditional, their components."""
        if not self.conditional:
            return self.law.draw(n, generator), None
        x, component = self.law.mixture.draw_with_component(n, generator)
        return x, F.one_hot(component, self.law.mixture.count).to(x)

    @property
    @override
    def context_names(self) -> tuple[str, ...]:
        return ("component",) if self.conditional else ()

    @override
    def encode_context(self, cells: Mapping[str, Sequence[str]]) -> Tensor:
        return self._component.encode(cells["component"]) if self.conditional else super().encode_context(cells)

    @override
    def decode_context(self, context: Tensor) -> list[tuple[str, ...]]:
        return [(name,) for name in self._component.decode(context)]

    @property
    def _component(self) -> Category:
        return Category("component", tuple(map(str, range(self.law.mixture.count))))

    @override
    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        x, context = self.draw(self.train_size + self.val_size + self.test_size, generator_from("points", self.seed))
        return x if context is None else (x, context)

    @override
    def sizes(self, n: int) -> tuple[int, int]:
        return self.train_size, self.val_size

    @override
    def batch(self, generator: torch.Generator, n: int) -> Batch:
        return self.draw(n, generator) if self.fresh else super().batch(generator, n)

    @override
    def fresh_points(self, n: int, generator: torch.Generator) -> Tensor:
        return self.law.draw(n, generator)

    @override
    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            return self.law.log_prob(x.double())
        return self.law.mixture.component_log_prob(x.double()).gather(1, context.argmax(1, keepdim=True))[:, 0]

    @override
    def description(self) -> dict[str, Any] | None:
        try:
            return super().description()
        except TypeError:  # a law that does not keep its arguments, such as a mixture of tensors
            return None

    @override
    def provenance(self) -> dict[str, Any]:
        name = type(self.law).__name__
        source = f"generated ({name} on {self.manifold})"
        return super().provenance() | {"name": name, "source": source, "fresh": self.fresh}
