"""Charts of curved manifolds."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.charts.base import Chart
from rsgm.manifolds import Manifold
from rsgm.manifolds.tensors import even_norm, safe_norm

#: distance to a point without coordinates, radians: an angle of 180 degrees in single precision is that far off
_MISSED = 1e-7


class Stereographic(Chart):
    r"""The stereographic projection of a sphere from the antipode of its first axis.

    .. math:: x = \frac{(1 - |y|^2,\; 2y)}{1 + |y|^2}, \qquad
        \log|\det| = d\,(\log 2 - \log(1 + |y|^2))

    The antipode itself has no coordinates (see `misses`); `inverse` gives it those of a neighbour at the distance of
    one rounding error.

    References: Gemici, Rezende and Mohamed 2016, arXiv:1611.02304.

    Arguments:
        manifold: a sphere

    Raises:
        ValueError: for another manifold

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> Stereographic(Sphere(2)).forward(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__(manifold)
        x = self.forward(torch.ones(manifold.dim))
        if x.shape != manifold.shape or not manifold.check_point_on_manifold(x):
            raise ValueError(f"Stereographic: {manifold} is not a sphere; choose ExponentialWrap.")

    def forward(self, y: Tensor) -> Tensor:
        """``(1 - |y|², 2 y) / (1 + |y|²)``."""
        square = y.square().sum(-1, keepdim=True)
        return torch.cat([1 - square, 2 * y], -1) / (1 + square)

    def inverse(self, x: Tensor) -> Tensor:
        """``x[1:] / (1 + x[0])``, without cancellation near the antipode."""
        first, rest = x[..., :1], x[..., 1:]
        square = rest.square().sum(-1, keepdim=True)
        step = torch.zeros_like(rest)
        step[..., 0] = torch.finfo(x.dtype).eps
        lost = (first < 0) & (square == 0)
        rest, square = torch.where(lost, step, rest), torch.where(lost, step[..., :1].square(), square)
        # (1 + x0)(1 - x0) = |rest|²
        return rest / torch.where(first < 0, square / (1 - first.clamp_max(0)), 1 + first.clamp_min(0))

    def misses(self, x: Tensor) -> Tensor:
        """The antipode, to the rounding of single precision."""
        return (x[..., 0] < 0) & (safe_norm(x[..., 1:]) < _MISSED)

    def log_det(self, y: Tensor) -> Tensor:
        """``dim (log 2 - log(1 + |y|²))``."""
        return self.manifold.dim * (math.log(2) - y.square().sum(-1).log1p())


class ExponentialWrap(Chart):
    r"""The exponential map at the origin, :math:`x = \exp_o(\sum_a y_a e_a)` with an orthonormal frame e.

    A bijection for hyperbolic and flat spaces. Where the injectivity radius R is finite it is one-to-one only for
    :math:`|y| < R`: a law that reaches beyond wraps around, its samples are right, and `inverse` finds only the
    shortest of the coordinates of a point, so that the density of the others is missing. On spheres beyond the circle
    all coordinates of length R are one point, the antipode of the origin, which has none.

    References: Falorsi et al. 2019, arXiv:1903.02958; Nagano et al. 2019, arXiv:1902.02992.

    Arguments:
        manifold: one with a known `Manifold.log_det_exp`

    Raises:
        NotImplementedError: where it is not known

    Example:
        >>> from rsgm.manifolds import Sphere
        >>> chart = ExponentialWrap(Sphere(2))
        >>> chart.log_det(torch.tensor([0.0, 1.0]))
        tensor(-0.1726)
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__(manifold)
        self.radius = manifold.injectivity_radius
        self.log_det(torch.zeros(manifold.dim))

    @override
    def forward(self, y: Tensor) -> Tensor:
        return self.manifold.expmap(*self._tangent(y))

    def inverse(self, x: Tensor) -> Tensor:
        """The coordinates of ``log_o(x)``."""
        origin, frame = self._frame(x)
        u = self.manifold.logmap(origin.expand_as(x), x)
        return torch.stack([self.manifold.inner(origin, e, u) for e in frame], -1)

    def misses(self, x: Tensor) -> Tensor:
        """Where the exponential map collapses all directions but one, as it does at the antipode in a sphere."""
        # single precision would lose the last digits of the distance to it
        return self.log_det(self.inverse(x.double())) < (self.manifold.dim - 1) * math.log(_MISSED)

    @override
    def log_det(self, y: Tensor) -> Tensor:
        return self.manifold.log_det_exp(*self._tangent(y))

    def _frame(self, x: Tensor) -> tuple[Tensor, Tensor]:
        origin = self.manifold.origin(*self.manifold.shape, dtype=x.dtype, device=x.device)
        return origin, self.manifold.frame(origin)

    def _tangent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The origin and the vector ``y`` in its frame."""
        origin, frame = self._frame(y)
        u = torch.tensordot(y, frame, 1)
        return origin.expand_as(u), u


class TanhExponential(Chart):
    r"""All of flat space onto the ball that the exponential map does not fold, of radius R.

    .. math:: x = \exp_o\!\Big(R \tanh(r) \frac yr\Big), \qquad \log|\det| = d \log R + (d - 1) \log\frac{\tanh r}r
        + \log(1 - \tanh^2 r) + \log|\det D\exp_o|, \qquad r = |y|

    The baseline of the RSGM paper on SO(3). Points next to the edge of the ball, where y is infinite, get the
    coordinates of those at :math:`R\sqrt{1 - 10^{-7}}`; the antipode in a sphere has none.

    References: De Bortoli et al. 2022, arXiv:2202.02763, appendix O; Falorsi et al. 2019, arXiv:1903.02958.

    Arguments:
        manifold: one with a finite injectivity radius R

    Raises:
        ValueError: where it is infinite
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__(manifold)
        if math.isinf(manifold.injectivity_radius):
            raise ValueError(f"TanhExponential: {manifold} has an infinite injectivity radius; choose ExponentialWrap.")
        self._exponential = ExponentialWrap(manifold)

    def forward(self, y: Tensor) -> Tensor:
        """``exp_o(R tanh(r) y / r)``."""
        return self._exponential.forward(self._shrink(y))

    def inverse(self, x: Tensor) -> Tensor:
        """``artanh(|u| / R) u / |u|`` of ``u = log_o(x)``."""
        z = self._exponential.inverse(x) / self.manifold.injectivity_radius
        square = z.square().sum(-1, keepdim=True)
        small = square < 1e-4
        length = torch.where(small, torch.full_like(square, 0.5), square).sqrt()
        ratio = length.clamp_max((1 - 1e-7) ** 0.5).atanh() / length
        return z * torch.where(small, 1 + square / 3 + square.square() / 5, ratio)

    @override
    def misses(self, x: Tensor) -> Tensor:
        return self._exponential.misses(x)

    def log_det(self, y: Tensor) -> Tensor:
        """Computed in float64, for the sine of an angle near π has no digits in float32."""
        dtype, y = y.dtype, y.double()
        r, dim = even_norm(y), self.manifold.dim
        sech = 2 * (math.log(2) - r - torch.log1p(torch.exp(-2 * r)))
        radial = dim * math.log(self.manifold.injectivity_radius) + (dim - 1) * _tanhc(r).log() + sech
        return (radial + self._exponential.log_det(self._shrink(y))).to(dtype)

    def _shrink(self, y: Tensor) -> Tensor:
        return self.manifold.injectivity_radius * _tanhc(safe_norm(y, keepdim=True)) * y


def _tanhc(r: Tensor) -> Tensor:
    """``tanh(r) / r``."""
    square = r.square()
    small = square < 1e-4
    large = torch.where(small, torch.ones_like(r), r)
    return torch.where(small, 1 - square / 3 + 2 / 15 * square.square(), large.tanh() / large)
