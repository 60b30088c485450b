"""Other coordinates of flat space, in which data are easier to model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from rsgm.charts.base import Chart
from rsgm.manifolds import Manifold


class Affine(Chart):
    r""":math:`x = \mathrm{shift} + \mathrm{scale}\,y`; zero is the shift.

    Arguments:
        manifold: a Euclidean space
        shift: the centre of the data, in every coordinate
        scale: the size of the data

    Raises:
        ValueError: for a manifold that is not a vector space, and for a scale that is not positive

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> Affine(Euclidean(1), shift=0.5, scale=0.35).inverse(torch.tensor([0.85]))
        tensor([1.0000])
    """

    def __init__(self, manifold: Manifold, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(manifold)
        manifold.require_vector_space("Affine")
        if not 0 < scale < math.inf:
            raise ValueError(f"Affine: scale must be positive and finite, found {scale}.")
        self.shift, self.scale = shift, scale

    @override
    def forward(self, y: Tensor) -> Tensor:
        return self.shift + self.scale * y

    @override
    def inverse(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    @override
    def log_det(self, y: Tensor) -> Tensor:
        return y.new_full(y.shape[:-1], self.manifold.dim * math.log(self.scale))


_ROUNDING = 1e-6  # of numbers near one in single precision


class Logit(Chart):
    r"""The unit cube, with a margin: :math:`y = \mathrm{logit}(\alpha + (1 - 2\alpha)\,x)`; zero is its centre.

    Images have many pixels that are black or white: next to the faces of the cube, which this chart moves apart.

    References: Dinh et al. 2017, arXiv:1605.08803, section 4.1; Papamakarios et al. 2017, arXiv:1705.07057.

    Arguments:
        manifold: a Euclidean space, whose points are images with values in [0, 1]
        alpha: the margin, which keeps the coordinates finite

    Raises:
        ValueError: for a manifold that is not a vector space, and for a margin outside of (0, 0.5)

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> Logit(Euclidean(3)).inverse(torch.tensor([0.0, 0.5, 1.0]))
        tensor([-2.9444,  0.0000,  2.9444])
    """

    def __init__(self, manifold: Manifold, alpha: float = 0.05) -> None:
        super().__init__(manifold)
        manifold.require_vector_space("Logit")
        if not 0 < alpha < 0.5:
            raise ValueError(f"Logit: alpha must be between 0 and 0.5, found {alpha}.")
        self.alpha = alpha

    def forward(self, y: Tensor) -> Tensor:
        """``(sigmoid(y) - α) / (1 - 2 α)``: within the margin around the cube."""
        # odd in y to rounding, so that the centre is exact
        return 0.5 + 0.5 * (0.5 * y).tanh() / (1 - 2 * self.alpha)

    def inverse(self, x: Tensor) -> Tensor:
        """``logit(α + (1 - 2 α) x)``."""
        u = (1 - 2 * self.alpha) * (2 * x - 1)
        # samples in single precision may be rounded to the edge of the margin, whose coordinates are infinite
        return 2 * torch.where(u.abs() <= 1 + _ROUNDING, u.clamp(_ROUNDING - 1, 1 - _ROUNDING), u).atanh()

    def log_det(self, y: Tensor) -> Tensor:
        """Of each coordinate ``log σ(y) + log σ(-y) - log(1 - 2 α)``."""
        return (F.logsigmoid(y) + F.logsigmoid(-y)).sum(-1) - self.manifold.dim * math.log1p(-2 * self.alpha)


class Standardise(Chart):
    r"""The coordinates of another chart, with mean zero and variance one over the training points, each by itself.

    .. math:: x = \mathrm{chart}(\mathrm{mean} + \mathrm{std}\,y)

    Until it is fitted, it is the other chart.

    Arguments:
        manifold: where the points live
        chart: factory of the other chart; `Affine` on flat space
        min_std: of a coordinate that does not vary

    Example:
        >>> from rsgm.manifolds import Euclidean
        >>> chart = Standardise(Euclidean(1))
        >>> chart.fit(torch.tensor([[1.0], [3.0]]))
        >>> chart.forward(torch.tensor([0.0]))
        tensor([2.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, manifold: Manifold, chart: Callable[[Manifold], Chart] = Affine, min_std: float = 1e-3) -> None:
        super().__init__(manifold)
        self.chart, self.min_std = chart(manifold), min_std
        self.register_buffer("mean", torch.zeros(manifold.dim))
        self.register_buffer("std", torch.ones(manifold.dim))

    @override
    def fit(self, points: Tensor) -> None:
        self.chart.fit(points)
        y = self.chart.inverse(points)
        self.mean.copy_(y.mean(0))
        self.std.copy_(y.std(0).clamp_min(self.min_std))

    def forward(self, y: Tensor) -> Tensor:
        """``chart(mean + std y)``."""
        return self.chart(self._inner(y))

    def inverse(self, x: Tensor) -> Tensor:
        """``(chart⁻¹(x) - mean) / std``."""
        y = self.chart.inverse(x)
        return (y - self.mean.to(y.dtype)) / self.std.to(y.dtype)

    @override
    def misses(self, x: Tensor) -> Tensor:
        return self.chart.misses(x)

    def log_det(self, y: Tensor) -> Tensor:
        """``Σ log std`` and that of the other chart."""
        return self.std.to(y.dtype).log().sum() + self.chart.log_det(self._inner(y))

    def _inner(self, y: Tensor) -> Tensor:
        return self.mean.to(y.dtype) + self.std.to(y.dtype) * y
