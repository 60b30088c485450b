r"""Heat kernels of the hyperbolic plane and space of curvature -1.

There is no cut locus, so that one form serves all times, and a function of the distance alone. The kernel of the
plane is McKean's integral over the space; with :math:`\rho^2 = r^2 + 2sv^2`, :math:`X = sv^2/(\rho + r)`,
:math:`Y = (\rho + r)/2` it is

.. math:: p = \pi^{-3/2}s^{-1}e^{-s/8-r^2/2s}\int_0^\infty e^{-v^2}\Big[\frac{\sinh X}X\frac{\sinh Y}Y\Big]^{-1/2}dv,

whose integrand is even and analytic in v: the midpoint rule converges exponentially.

References:
    McKean, "An upper bound to the spectrum of Delta on a manifold of negative curvature", 1970
    Grigor'yan and Noguchi, "The heat kernel on hyperbolic space", 1998
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from rsgm.heat_kernels.base import (
    TABLE_R1,
    TABLE_S1,
    TABLE_SHAPE,
    Number,
    cached,
    chi_norms,
    interpolate,
    power_series,
    table_times,
    tensors,
)

_R0 = 0.02  # the columns of the table are even in log(1 + r / r0)


@dataclass(frozen=True)
class HyperbolicKernel:
    """Heat kernel of a hyperbolic space of curvature -1.

    Arguments:
        name: unique name, also the identity of the kernel in caches
        dim: dimension of the space
        evaluate: ``(distance, s) -> (log-density, score)``, of tensors of one shape and type

    Example:
        >>> HYPERBOLIC2.log_prob(0.3, s=0.1)
        tensor(-0.0094)
        >>> HYPERBOLIC2.score(torch.tensor([0.5, 3.0]), s=0.25)
        tensor([ -2.0813, -12.3346])
    """

    name: str
    dim: int
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = field(compare=False, repr=False)

    def log_prob(self, distance: Number, s: Number) -> Tensor:
        """The log-density log p_s, nats, at distances >= 0 and times s > 0: numbers, arrays or tensors."""
        return self.evaluate(*torch.broadcast_tensors(*tensors(distance, s)))[0]

    def score(self, distance: Number, s: Number) -> Tensor:
        """The derivative of log p_s in the distance, which is never positive."""
        return self.evaluate(*torch.broadcast_tensors(*tensors(distance, s)))[1]

    def log_volume_element(self, distance: Number) -> Tensor:
        """The log-area of the geodesic sphere; plus log p_s, it is the log-density of the distance."""
        (distance,) = tensors(distance)
        unit_area = 2 * math.pi ** (self.dim / 2) / math.gamma(self.dim / 2)
        return math.log(unit_area) + (self.dim - 1) * (torch.log(distance) + log_sinhc(distance)[0])

    def sample_distance(self, r: Number, s: Number) -> Tensor:
        r"""Distances of Brownian motion, exactly in law, from norms of standard normal tangent vectors.

        :math:`\rho = F_s^{-1}(F_\chi(r))`, with :math:`F_s` the distribution function of the distance and
        :math:`F_\chi` that of the chi law with ``dim`` degrees of freedom; it increases with r, and tends to
        :math:`\sqrt s\,r` as :math:`s\to0`. The table holds :math:`\log\tfrac\rho{\sqrt s\,r}`: smooth, precise in both
        tails.

        Arguments:
            r: norms, any shape
            s: variance times in [0, 25], which broadcast with ``r``; past 25 the result is NaN
        """
        r, s = tensors(r, s)
        r, s = torch.broadcast_tensors(r.clamp(max=TABLE_R1), s)
        column = torch.log1p(r / _R0) / math.log1p(TABLE_R1 / _R0)
        log_ratio = interpolate(_sampling_table(self, r.dtype, r.device), s.clamp(max=TABLE_S1), column)
        return torch.where(s <= TABLE_S1, torch.sqrt(s) * r * torch.exp(log_ratio), math.nan)


# sinhc x = sinh x / x = sum x^2n / (2n+1)!: (sinhc x - 1) / x^2 and sinhc'(x) / x, for x <= 2
_SINHC = [1 / math.factorial(2 * n + 3) for n in range(12)]
_SLOPE = [(2 * n + 2) / math.factorial(2 * n + 3) for n in range(12)]


def log_sinhc(x: Tensor) -> tuple[Tensor, Tensor]:
    """``log(sinh x / x)`` and its slope over x, ``(coth x - 1/x) / x``, for x >= 0: precise everywhere."""
    small, large = x.clamp(max=2), x.clamp(min=2)
    square = small * small
    rest = square * power_series(square, _SINHC, 8)
    decay = torch.exp(-2 * large)
    low = torch.log1p(rest), power_series(square, _SLOPE, 8) / (1 + rest)
    high = large + torch.log1p(-decay) - torch.log(2 * large), ((1 + decay) / (1 - decay) - 1 / large) / large
    return torch.where(x < 2, low[0], high[0]), torch.where(x < 2, low[1], high[1])


def _plane(r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    double = r.dtype == torch.float64
    count, most, fall = (31, 6.2, 50.0) if double else (18, 4.5, 30.0)
    # at large s it is exp(-rho / 2) that falls first; the integral does not depend on the nodes
    reach = torch.sqrt(fall * (fall + 2 * r.detach()) / (2 * s.detach())).clamp(max=most)
    step = reach / count
    v = (torch.arange(count, dtype=r.dtype, device=r.device).view(-1, *[1] * r.ndim) + 0.5) * step
    spread = s * v * v
    rho = torch.sqrt(r * r + 2 * spread)
    x, y = spread / (rho + r), (rho + r) / 2
    (log_x, slope_x), (log_y, slope_y) = log_sinhc(x), log_sinhc(y)
    log_r = log_sinhc(r)[0]
    # relative to [sinh r / r]^(-1/2), which the small x leaves over
    rest = log_x + log_y - log_r
    weight = torch.exp(-v * v - rest / 2)
    total = weight.sum(0)
    slope_x, slope_y = x * slope_x, y * slope_y
    # F(Y) - F(X) for F = coth - 1/x, over r = Y - X: by sinh r = sinh(Y - X) where the two are close
    close = 2 * x > y
    apart = torch.where(close, y, y - x)
    difference = torch.where(close, -2 / spread * torch.expm1(-rest), (slope_y - slope_x) / apart)
    ratio = ((slope_x + slope_y) / rho + difference) / 4
    log_prob = torch.log(step * total) - 1.5 * math.log(math.pi) - torch.log(s) - s / 8
    score = -r * (1 / s + (weight * ratio).sum(0) / total)
    return log_prob - log_r / 2 - r * r / (2 * s), score


def _space(r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`p = (2\pi s)^{-3/2}\tfrac r{\sinh r}e^{-s/2-r^2/2s}`."""
    log_r, slope = log_sinhc(r)
    return -1.5 * torch.log(2 * math.pi * s) - log_r - s / 2 - r * r / (2 * s), -r * (1 / s + slope)


@cached
def _sampling_table(kernel: HyperbolicKernel, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What `sample_distance` interpolates, flattened; built in up to a second, once, in float64."""
    if (dtype, device) != (torch.float64, torch.device("cpu")):
        return _sampling_table(kernel, torch.float64, torch.device("cpu")).to(device, dtype)
    table = np.zeros(TABLE_SHAPE)
    # Gauss-Legendre cells, geometric towards the origin: the distribution function is precise there too
    edges = np.concatenate([[0], 2 ** (np.arange(-60, 0) / 4) / 160, np.linspace(1 / 160, 1, 160)])
    nodes, node_weights = np.polynomial.legendre.leggauss(4)
    cells = torch.from_numpy(edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2)
    columns = np.linspace(0, math.log1p(TABLE_R1 / _R0), TABLE_SHAPE[1])
    for row, s in enumerate(table_times()[1:], start=1):
        top = (kernel.dim - 1) / 2 * s + 9.5 * math.sqrt(s)
        time = torch.tensor(s, dtype=torch.float64)
        log_radial = kernel.log_prob(top * cells, time) + kernel.log_volume_element(top * cells)
        mass = np.diff(edges) * (torch.exp(log_radial).numpy() * node_weights).sum(1)
        r = chi_norms(mass, kernel.dim)  # where the chi law has the same quantile
        log_ratio = np.log(top * edges[1:-1] / (math.sqrt(s) * r))
        # at r = 0 both densities are constant, and their quotient is the limit of (rho/r)^dim
        log_origin = kernel.log_prob(torch.zeros_like(time), time).item()
        limit = -log_origin / kernel.dim - math.log(2 * math.pi * s) / 2
        spline = CubicSpline(np.log1p(np.append(0, r) / _R0), np.append(limit, log_ratio))
        table[row] = spline(columns)
    return torch.from_numpy(table.ravel())


HYPERBOLIC2 = HyperbolicKernel("hyperbolic2", 2, _plane)
HYPERBOLIC3 = HyperbolicKernel("hyperbolic3", 3, _space)
