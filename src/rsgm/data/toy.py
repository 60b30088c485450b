"""Synthetic laws with a known density: training streams fresh points, validation and test sets are fixed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rsgm.data.base import Batch, ManifoldData
from rsgm.distributions import VonMisesFisher
from rsgm.manifolds import Sphere
from rsgm.seeding import generator_from


class VonMisesFisherData(ManifoldData):
    r"""The von Mises-Fisher law around the first axis of :math:`S^d`; by default the toy of the RSGM code.

    The best reachable negative log-likelihood is the entropy, 0.1298268653 nats for :math:`\kappa = 15` on
    :math:`S^2`; `true_log_prob` of the test points gives its value on the same draw.

    References: De Bortoli et al. (2022), arXiv:2202.02763, code ``s2_toy``.

    Arguments:
        dim: d
        concentration: :math:`\kappa`
        train_size: fixed train points, for models that are fitted to a set; steps of training see fresh ones
        val_size, test_size: points of the fixed sets
        batch_size, seed, steps_per_epoch, eval_batch_size: see `ManifoldData`

    Example:
        >>> data = VonMisesFisherData(train_size=100, val_size=10, test_size=1000)
        >>> data.setup()
        >>> x, _ = data.train_batch(step=0)
        >>> x.shape, bool(abs(data.true_log_prob(data.test.points).mean() + 0.13) < 0.1)
        (torch.Size([512, 3]), True)
    """

    def __init__(
        self,
        dim: int = 2,
        concentration: float = 15.0,
        train_size: int = 4_000,
        val_size: int = 1_000,
        test_size: int = 10_000,
        batch_size: int = 512,
        seed: int | None = None,
        steps_per_epoch: int = 500,
        eval_batch_size: int = 512,
    ) -> None:
        super().__init__(batch_size, "random", seed, steps_per_epoch, eval_batch_size)
        self.dim, self.concentration = dim, concentration
        self.train_size, self.val_size, self.test_size = train_size, val_size, test_size

    @cached_property
    def manifold(self) -> Sphere:
        """The unit sphere in R^(dim + 1)."""
        return Sphere(self.dim)

    @cached_property
    def law(self) -> VonMisesFisher:
        """What the points are drawn from."""
        axis = torch.eye(self.dim + 1, dtype=torch.float64)[0]
        return VonMisesFisher(self.manifold, axis, self.concentration)

    def points(self) -> Tensor:
        """The points of the three fixed sets."""
        n = self.train_size + self.val_size + self.test_size
        return self.law.draw(n, generator_from("points", self.seed))

    def sizes(self, n: int) -> tuple[int, int]:
        """The sizes asked for."""
        return self.train_size, self.val_size

    def batch(self, generator: torch.Generator, n: int) -> Batch:
        """``n`` fresh points."""
        return self.law.draw(n, generator), None

    def true_log_prob(self, x: Tensor) -> Tensor:
        """The exact log-density (B,), nats, float64."""
        return self.law.log_prob(x.double())

    def provenance(self) -> dict[str, Any]:
        """As the base class; the source is the law."""
        source = f"generated: von Mises-Fisher on S^{self.dim}, concentration {self.concentration:g}"
        return super().provenance() | {"source": source}
