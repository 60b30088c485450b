"""Heat kernels of compact manifolds at small times: sums over images, the geodesics that wind round the manifold.

``m`` is the smaller one of distance and codistance. The half of the manifold around the origin and the half around the
cut locus have different forms; both are evaluated at m in [0, pi/2], where both are finite, and a mask chooses. Odd
functions are held as m times a function of m^2: scores keep their precision next to 0.

A mask is a tensor of zeros and ones, and `torch.lerp` chooses by it, exactly: on a CPU in a twentieth of the time that
`torch.where` takes, whose branches are not foreseen. (`torch.minimum` halves the derivative where both are equal.)
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import special
from torch import Tensor

from rsgm.heat_kernels.base import power_series

#: logarithm of parts that do not count; where it underflows `torch.exp` takes ten times longer
_FAINT = -60.0
# sinhc z = sinh z / z = sum z^2n / (2n+1)!, and sinhc'(z) / z, for z <= 1
_SINHC = [1 / math.factorial(2 * n + 1) for n in range(9)]
_SINHC_SLOPE = [(2 * n + 2) / math.factorial(2 * n + 3) for n in range(9)]
# x/sin x and (1/x - cot x)/x are sums over poles at k pi; these are the Taylor series of the sums over k >= 3
_EVEN = 2.0 * np.arange(1, 10)
_CSC = (2 * (2 * math.pi) ** -_EVEN * (special.zeta(_EVEN, 1.5) - special.zeta(_EVEN, 2))).tolist()
_COT = (2 * math.pi**-_EVEN * special.zeta(_EVEN, 3)).tolist()


def _mask(condition: Tensor, like: Tensor) -> Tensor:
    """Ones where the condition is met, of the type of ``like``."""
    return condition.to(like.dtype)


def _csc_cot(square: Tensor) -> tuple[Tensor, Tensor]:
    """``x / sin x`` and ``(1/x - cot x) / x`` of the square of x, at most (pi/2)^2."""
    pole1, pole2 = 1 / (math.pi**2 - square), 1 / (4 * math.pi**2 - square)
    csc = 1 + square * (2 * (pole1 - pole2) + power_series(square, _CSC))
    return csc, 2 * (pole1 + pole2) + power_series(square, _COT)


def _hyperbolic(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``exp(-z)`` times ``cosh z``, ``sinhc z`` and ``sinhc'(z) / z``, for z >= 0."""
    q, small, large = torch.expm1(-2 * z), z.clamp(max=1), z.clamp(min=1)
    square, decay, is_small, cosh = small * small, torch.exp(-small), _mask(z < 1, z), 1 + q / 2
    sinhc = torch.lerp(-q / (2 * large), decay * power_series(square, _SINHC), is_small)
    slope = (cosh - sinhc) / (large * large)
    return cosh, sinhc, torch.lerp(slope, decay * power_series(square, _SINHC_SLOPE), is_small)


def _winding(m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""E and E'/m, the images m -+ 2 pi on SO(3) relative to the principal one; on S^3 they are -E.

    .. math:: E = \tfrac1m[(2\pi-m)e^{-2\pi(\pi-m)/s} - (2\pi+m)e^{-2\pi(\pi+m)/s}]
        = e^{-\pi k}(4\pi k\,\mathrm{sinhc}\,km - 2\cosh km), \qquad k = 2\pi/s
    """
    k = 2 * math.pi / s.clamp(min=0.2)  # for smaller s and m <= pi/2, E < 1e-20, but it could overflow
    cosh, sinhc, slope = _hyperbolic(k * m)
    scale = torch.exp((k * (m - math.pi)).clamp(min=_FAINT))
    return scale * (4 * math.pi * k * sinhc - 2 * cosh), scale * k * k * (4 * math.pi * k * slope - 2 * sinhc)


_Pair = Callable[[float, Tensor, Tensor], tuple[Tensor, Tensor]]


def _pairs(pair: _Pair, sign: int, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over a = pi, 3 pi of the pairs of images at m -+ a, which are symmetric about the cut locus."""
    weight, slope = pair(math.pi, m, s)
    if m.dtype == torch.float64:  # relative to the first pair the second one is below 1e-7
        weight3, slope3 = pair(3 * math.pi, m, s)
        factor = sign * torch.exp(2 * math.pi * (m - 2 * math.pi) / s)
        weight, slope = weight + factor * weight3, slope + factor * slope3
    return weight, slope


def circle_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Wrapped Gaussian: images :math:`\theta + 2\pi\{-2,-1,0,1\}`."""
    k = 2 * math.pi / s
    w1, w2, w3 = (
        torch.exp((-k * a).clamp(min=_FAINT)) for a in (codistance, math.pi + distance, 2 * (math.pi + codistance))
    )
    rest = w1 + w2 + w3
    near = distance + 2 * math.pi * w1 * torch.expm1(-2 * k * distance) / (1 + rest)
    odd = -torch.expm1(-k * codistance) - 3 * w2 * torch.expm1(-3 * k * codistance)
    far = math.pi * odd / (1 + rest) - codistance
    log_prob = torch.log1p(rest) - distance * distance / (2 * s) - torch.log(2 * math.pi * s) / 2
    return log_prob, -torch.lerp(near, far, _mask(distance > codistance, s)) / s


def _rotation_pair(a: float, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    z = a * m / s
    sinh = -torch.expm1(-2 * z) / 2
    cosh = 1 - sinh
    return a * cosh - m * sinh, sinh * ((a * a + m * m) / s - 1) - 2 * z * cosh


def _rotation_weight(far: Tensor, m: Tensor, low: Tensor, high: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\tfrac{\omega/2}{\sin(\omega/2)}(1+E)`, and the score over sin(ω/2); low, high: sin(m/2), cos(m/2)."""
    csc, cot = _csc_cot(m * m / 4)
    winding, winding_slope = _winding(m, s)
    near_ratio = 2 * csc * (cot / 4 - 1 / s + winding_slope / (1 + winding))
    weight, slope = _pairs(_rotation_pair, -1, m, s)
    far_ratio = -(slope / weight + low / (2 * high)) / high
    return torch.lerp(csc * (1 + winding), weight / high, far), torch.lerp(near_ratio, far_ratio, far)


def rotation_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""IGSO(3): :math:`p = (2\pi s)^{-3/2}e^{s/8-\omega^2/2s}\tfrac{\omega/2}{\sin(\omega/2)}(1+E)`."""
    far = _mask(distance > codistance, s)
    m = torch.lerp(distance, codistance, far)
    low, high = torch.sin(m / 2), torch.cos(m / 2)
    weight, ratio = _rotation_weight(far, m, low, high, s)
    log_prob = torch.log(weight) - 1.5 * torch.log(2 * math.pi * s) + s / 8 - distance * distance / (2 * s)
    return log_prob, ratio * torch.lerp(low, high, far)


def sphere2_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Average of IGSO(3) over the fibres of the Riemannian submersion SO(3) -> S^2, circles of length 2 pi.

    .. math:: p(\theta) = 4\int_0^{\pi/2}p_{SO(3)}(\phi)\,db, \qquad \cos\tfrac\phi2 = \cos\tfrac\theta2\cos b

    exactly, by the trapezoidal rule; the score is :math:`\sin\tfrac\theta2` times the average of cos b times the score
    at :math:`\phi` over :math:`\sin\tfrac\phi2`.
    """
    double = distance.dtype == torch.float64
    # reach in standard deviations of the peak in b; the trapezoid's error is exp(-2 (pi intervals / reach)^2)
    intervals, reach = (12, 8.5) if double else (6, 6.0)
    sine, cosine = torch.sin(distance / 2), torch.sin(codistance / 2)
    # The integral does not depend on its nodes, so they are constants to differentiation.
    theta = distance.detach()
    variance = sine.detach() / (2 * theta * cosine.detach()).clamp(min=1e-20)
    variance = s.detach() * torch.lerp(variance, variance.new_full((), 0.25), _mask(theta < 1e-3, s))
    step = (reach * torch.sqrt(variance)).clamp(max=math.pi / 2) / intervals
    b = torch.arange(intervals + 1, dtype=step.dtype, device=step.device).view(-1, *[1] * step.ndim) * step
    sin_b_squared, cos_b = torch.sin(b).square(), torch.cos(b).clamp(min=0)
    # sin(phi/2) and cos(phi/2); the clamp saves the gradient of the root at the origin
    sine_squared = sine * sine + cosine * cosine * sin_b_squared
    sin_phi, cos_phi = torch.sqrt(sine_squared.clamp(min=1e-28 if double else 1e-14)), cosine * cos_b
    far = _mask(sin_phi > cos_phi, s)
    low, high = torch.lerp(sin_phi, cos_phi, far), torch.lerp(cos_phi, sin_phi, far)
    weight, ratio = _rotation_weight(far, 2 * torch.atan2(low, high), low, high, s)
    # phi - theta from the sine and the cosine of its half, over cos(theta/2): positive terms only
    gap_cos = (sin_phi + cos_b * sine) * (cosine * cos_phi + sin_phi * sine)
    gap = 2 * torch.atan2(cosine * sin_b_squared, gap_cos)
    weight = weight * torch.exp((gap * (2 * distance + gap) / (-2 * s)).clamp(min=_FAINT))
    weight = torch.cat([weight[:1] / 2, weight[1:-1], weight[-1:] / 2])
    total = weight.sum(0)
    log_prob = torch.log(4 * step * total) - 1.5 * torch.log(2 * math.pi * s) + s / 8
    return log_prob - distance * distance / (2 * s), sine * (weight * ratio * cos_b).sum(0) / total


def _sphere3_pair(a: float, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    cosh, sinhc, sinhc_slope = _hyperbolic(a * m / s)
    return a * a / s * sinhc - cosh, (a / s) ** 2 * (a * a / s * sinhc_slope - sinhc)


def sphere3_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""S^3: :math:`p = (2\pi s)^{-3/2}e^{s/2-\theta^2/2s}\tfrac\theta{\sin\theta}(1-E)`."""
    far = _mask(distance > codistance, s)
    m = torch.lerp(distance, codistance, far)
    csc, cot = _csc_cot(m * m)
    winding, winding_slope = _winding(m, s)
    near_score = distance * (cot - 1 / s - winding_slope / (1 - winding))
    weight, slope = _pairs(_sphere3_pair, 1, m, s)
    far_score = -codistance * (slope / weight - 1 / s + cot)
    log_weight = torch.log(csc * torch.lerp(1 - winding, 2 * weight, far))
    log_prob = log_weight - 1.5 * torch.log(2 * math.pi * s) + s / 2 - distance * distance / (2 * s)
    return log_prob, torch.lerp(near_score, far_score, far)
