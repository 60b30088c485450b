r"""Heat kernels of the circle, the spheres and the rotation group.

Every function takes the distance and the codistance (pi - distance), each computed accurately, from chords and
never from an arccosine: a kernel next to its cut locus is a function of the latter. Below s = 1.5 the kernel is a sum
over images (the geodesics that wind round the manifold), above it is its eigenfunction series; on its own side each is
free of cancellation, in float32 too.

References:
    De Bortoli et al., "Riemannian Score-Based Generative Modelling", 2022, https://arxiv.org/abs/2202.02763
    Leach et al., "Denoising Diffusion Probabilistic Models on SO(3) for Rotational Alignment", 2022: IGSO(3)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import special
from scipy.interpolate import CubicSpline
from torch import Tensor

from rsgm.heat_kernels.base import (
    TABLE_R1,
    TABLE_S1,
    TABLE_SHAPE,
    cached,
    chi_norms,
    interpolate,
    power_series,
    table_times,
)

_SWITCH = 1.5  # variance time at which the images hand over to the series
_DEGREE = 7  # of the series from there on: exp(-8 * 9 * 1.5 / 2) is far below the rounding of float64


@dataclass(frozen=True)
class HeatKernel:
    r"""Heat kernel of a sphere or of SO(3) with the rotation angle as the distance; the cut locus is at pi.

    $p_s = \tfrac1{\mathrm{vol}}\sum_l e^{-\lambda_ls/2}\varphi_l(d)$ with the eigenvalues $\lambda_l$ of
    $-\Delta$ and its zonal eigenfunctions, $\varphi_l(0)$ the multiplicity; for s < 1.5 summed over images.

    References:
        De Bortoli et al. 2022, https://arxiv.org/abs/2202.02763 (heat kernels of compact manifolds).

    Arguments:
        name: unique name, also the identity of the kernel in caches.
        dim: dimension of the manifold.
        volume: its Riemannian volume.
        sphere: True for spheres (the cut locus is a point), False for SO(3) (it is a projective plane).
        images: `(distance, codistance, s) -> (log-density, score)`, valid for s <= 1.5.

    Example:
        >>> distance, s = torch.tensor([0.5, 3.0]), torch.tensor(0.25)
        >>> SPHERE2.score(distance, torch.pi - distance, s)
        tensor([-1.9145, -7.5577])
    """

    name: str
    dim: int
    volume: float = field(compare=False)
    sphere: bool = field(compare=False)
    images: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = field(compare=False, repr=False)

    def log_density(self, distance: Tensor, codistance: Tensor, s: Tensor) -> Tensor:
        """Return log p_s, given distance in [0, pi], codistance = pi - distance and s > 0, of one dtype."""
        return self._evaluate(distance, codistance, s)[0]

    def score(self, distance: Tensor, codistance: Tensor, s: Tensor) -> Tensor:
        """Return d log p_s / d distance, which is never positive; arguments as in `log_density`."""
        return self._evaluate(distance, codistance, s)[1]

    def log_volume_element(self, distance: Tensor, codistance: Tensor) -> Tensor:
        """Return the log-area of the geodesic sphere; plus log p_s, it is the log-density of the distance."""
        radius = 2 * torch.sin(distance / 2) * (torch.sin(codistance / 2) if self.sphere else 1)
        unit_area = 2 * math.pi ** (self.dim / 2) / math.gamma(self.dim / 2)
        return math.log(unit_area) + torch.special.xlogy(self.dim - 1, radius)

    def sample_distance(self, r: Tensor, s: Tensor) -> Tensor:
        r"""Map norms of standard normal tangent vectors to distances of Brownian motion, exactly in law.

        $\rho = F_s^{-1}(F_\chi(r))$, with $F_s$ the distribution function of the distance and $F_\chi$ that
        of the chi law with `dim` degrees of freedom; increases with r, tends to $\sqrt s\,r$ as $s\to0$. The
        table holds $\tfrac{\pi}{\sqrt s\,r}\,\mathrm{artanh}\tfrac\rho\pi$: smooth, precise in both tails.

        Arguments:
            r: norms, any shape.
            s: variance times >= 0, broadcast against `r`; past s = 25 the law is uniform to 1e-11.
        """
        if self.dim == 1:  # the wrapped Gaussian, folded
            angle = torch.remainder(torch.sqrt(s) * r, 2 * math.pi)
            return torch.minimum(angle, 2 * math.pi - angle)
        r, s = torch.broadcast_tensors(r.clamp(max=TABLE_R1), s.clamp(max=TABLE_S1))
        ratio = interpolate(_sampling_table(self, r.dtype, r.device), s, r / TABLE_R1)
        return math.pi * torch.tanh(torch.sqrt(s) * r * ratio / math.pi)

    def _evaluate(self, distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        distance, codistance, s = torch.broadcast_tensors(distance, codistance, s)
        log_images, images_score = self.images(distance, codistance, s.clamp(max=_SWITCH))
        spectrum = _spectrum(self.dim, self.sphere, _DEGREE, distance.dtype, distance.device)
        series, slope = _series(spectrum, distance, codistance, s.clamp(min=_SWITCH))
        early = s < _SWITCH
        log_density = torch.where(early, log_images, torch.log(series) - math.log(self.volume))
        return log_density, torch.where(early, images_score, slope / series)


# The approximate score of the original article ------------------------------------------


def truncated_series_score(
    dim: int, distance: Tensor, codistance: Tensor, s: Tensor, n_max: int, sphere: bool = True
) -> Tensor:
    r"""Return the score of the eigenfunction series of S^dim, or of SO(3), cut at degree `n_max`.

    $p \propto \sum_{l\le n_{max}}e^{-l(l+dim-1)s/2}\,\tfrac{2l+dim-1}{dim-1}\,C_l^{((dim-1)/2)}(\cos d)$, on
    the circle $1 + 2\sum_l e^{-l^2s/2}\cos ld$, on SO(3) $\sum_l e^{-l(l+1)s/2}(2l+1)\sin((l+\tfrac12)d)
    /\sin\tfrac d2$. At small s the cut series takes both signs and its score is wrong; there De Bortoli et al.
    2022 use Varadhan's.

    Arguments:
        dim: dimension of the sphere, at least 1; 3 for SO(3).
        distance: angles in [0, pi].
        codistance: pi - distance.
        s: variance times, broadcast against the distances.
        n_max: last degree kept, at least 0 (the uniform law, of score 0).
        sphere: False for SO(3).

    Raises:
        ValueError: if `dim` or `n_max` is out of range.
    """
    if dim < 1 or n_max < 0:
        raise ValueError(f"found dim={dim}, n_max={n_max}; a truncated series needs dim >= 1 and n_max >= 0")
    distance, codistance, s = torch.broadcast_tensors(distance, codistance, s)
    spectrum = _spectrum(dim, sphere, n_max, distance.dtype, distance.device)
    series, slope = _series(spectrum, distance, codistance, s)
    return slope / series


# Eigenfunction series ---------------------------------------------------------------------------------------


@cached
def _spectrum(dim: int, sphere: bool, degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return half the eigenvalues, (degree + 1,), and the zonal functions in cosines, (frequency, degree)."""
    zonal = np.zeros((degree + 1, degree + 1))
    power = np.cumprod(np.append(1.0, ((dim - 1) / 2 + np.arange(degree)) / np.arange(1, degree + 1)))
    for l in range(degree + 1):
        if not sphere:  # 2l+1 times the character sin((l+1/2)x)/sin(x/2) of SO(3)
            zonal[0, l], zonal[1 : l + 1, l] = 2 * l + 1, 2 * (2 * l + 1)
        elif dim == 1:
            zonal[l, l] = 2 if l else 1
        else:  # Gegenbauer: C_l = sum_j (a)_j/j! (a)_{l-j}/(l-j)! cos (l-2j)x
            np.add.at(zonal[:, l], np.abs(l - 2 * np.arange(l + 1)), power[: l + 1] * power[l::-1])
            zonal[:, l] *= (2 * l + dim - 1) / (dim - 1)
    degrees = np.arange(degree + 1.0)
    half_eigenvalues = degrees * (degrees + (dim - 1 if sphere else 1)) / 2
    return torch.from_numpy(half_eigenvalues).to(device, dtype), torch.from_numpy(zonal).to(device, dtype)


def _series(spectrum: tuple[Tensor, Tensor], distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return the series (its mean over the manifold is 1) and its derivative in the distance."""
    half_eigenvalues = spectrum[0].view(-1, *[1] * distance.ndim)
    with torch.autocast(distance.device.type, enabled=False):  # half precision is not enough for this product
        amplitude = torch.tensordot(spectrum[1], torch.exp(-half_eigenvalues * s), dims=1)
    order = torch.arange(len(half_eigenvalues), dtype=s.dtype, device=s.device).view(half_eigenvalues.shape)
    far = distance > codistance  # there, cos k d = (-1)^k cos k(pi - d)
    x = order * torch.where(far, codistance, distance)
    amplitude = torch.where(far, amplitude * (1 - 2 * (order % 2)), amplitude)
    slope = (amplitude * order * torch.sin(x)).sum(0)
    return (amplitude * torch.cos(x)).sum(0), torch.where(far, slope, -slope)


# Sums over images -------------------------------------------------------------------------------------------
#
# `m` is the smaller one of distance and codistance. The half of the manifold around the origin and the half
# around the cut locus have different forms; both are evaluated at m in [0, pi/2], where both are finite, and
# a mask chooses. Odd functions are held as m times a function of m^2: scores keep their precision next to 0.

# sinhc z = sinh z / z = sum z^2n / (2n+1)!, and sinhc'(z) / z, for z <= 1
_SINHC = [1 / math.factorial(2 * n + 1) for n in range(9)]
_SINHC_SLOPE = [(2 * n + 2) / math.factorial(2 * n + 3) for n in range(9)]
# x/sin x and (1/x - cot x)/x are sums over poles at k pi; these are the Taylor series of the sums over k >= 3
_EVEN = 2.0 * np.arange(1, 10)
_CSC = (2 * (2 * math.pi) ** -_EVEN * (special.zeta(_EVEN, 1.5) - special.zeta(_EVEN, 2))).tolist()
_COT = (2 * math.pi**-_EVEN * special.zeta(_EVEN, 3)).tolist()


def _csc_cot(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return x/sin x and (1/x - cot x)/x, given x^2 <= (pi/2)^2."""
    pole1, pole2 = 1 / (math.pi**2 - square), 1 / (4 * math.pi**2 - square)
    csc = 1 + square * (2 * (pole1 - pole2) + power_series(square, _CSC))
    return csc, 2 * (pole1 + pole2) + power_series(square, _COT)


def _hyperbolic(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(-z) times cosh z, sinhc z and sinhc'(z)/z, for z >= 0."""
    q, small, large = torch.expm1(-2 * z), z.clamp(max=1), z.clamp(min=1)
    square, decay, is_small, cosh = small * small, torch.exp(-small), z < 1, 1 + q / 2
    sinhc = torch.where(is_small, decay * power_series(square, _SINHC), -q / (2 * large))
    slope = (cosh - sinhc) / (large * large)
    return cosh, sinhc, torch.where(is_small, decay * power_series(square, _SINHC_SLOPE), slope)


def _winding(m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return E and E'/m, the images m -+ 2 pi on SO(3) relative to the principal one; on S^3 they are -E.

    $E = \tfrac1m[(2\pi-m)e^{-2\pi(\pi-m)/s} - (2\pi+m)e^{-2\pi(\pi+m)/s}]
       = e^{-\pi k}(4\pi k\,\mathrm{sinhc}\,km - 2\cosh km)$, $k = 2\pi/s$.
    """
    k = 2 * math.pi / s.clamp(min=0.2)  # for smaller s and m <= pi/2, E < 1e-20, but it could overflow
    cosh, sinhc, slope = _hyperbolic(k * m)
    scale = torch.exp(k * (m - math.pi))
    return scale * (4 * math.pi * k * sinhc - 2 * cosh), scale * k * k * (4 * math.pi * k * slope - 2 * sinhc)


_Pair = Callable[[float, Tensor, Tensor], tuple[Tensor, Tensor]]


def _pairs(pair: _Pair, sign: int, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the pairs of images at m -+ a, which are symmetric about the cut locus, over a = pi, 3 pi."""
    weight, slope = pair(math.pi, m, s)
    if m.dtype == torch.float64:  # relative to the first pair the second one is below 1e-7
        weight3, slope3 = pair(3 * math.pi, m, s)
        factor = sign * torch.exp(2 * math.pi * (m - 2 * math.pi) / s)
        weight, slope = weight + factor * weight3, slope + factor * slope3
    return weight, slope


def _circle_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Wrapped Gaussian: images $\theta + 2\pi\{-2,-1,0,1\}$."""
    k = 2 * math.pi / s
    w1, w2, w3 = (torch.exp(-k * a) for a in (codistance, math.pi + distance, 2 * (math.pi + codistance)))
    rest = w1 + w2 + w3
    near = distance + 2 * math.pi * w1 * torch.expm1(-2 * k * distance) / (1 + rest)
    odd = -torch.expm1(-k * codistance) - 3 * w2 * torch.expm1(-3 * k * codistance)
    far = math.pi * odd / (1 + rest) - codistance
    log_density = torch.log1p(rest) - distance * distance / (2 * s) - torch.log(2 * math.pi * s) / 2
    return log_density, -torch.where(distance > codistance, far, near) / s


def _rotation_pair(a: float, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    z = a * m / s
    sinh = -torch.expm1(-2 * z) / 2
    cosh = 1 - sinh
    return a * cosh - m * sinh, sinh * ((a * a + m * m) / s - 1) - 2 * z * cosh


def _rotation_weight(far: Tensor, m: Tensor, low: Tensor, high: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return $\tfrac{\omega/2}{\sin(\omega/2)}(1+E)$, score/sin(omega/2); low, high: sin(m/2), cos(m/2)."""
    csc, cot = _csc_cot(m * m / 4)
    winding, winding_slope = _winding(m, s)
    near_ratio = 2 * csc * (cot / 4 - 1 / s + winding_slope / (1 + winding))
    weight, slope = _pairs(_rotation_pair, -1, m, s)
    far_ratio = -(slope / weight + low / (2 * high)) / high
    return torch.where(far, weight / high, csc * (1 + winding)), torch.where(far, far_ratio, near_ratio)


def _rotation_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""IGSO(3): $p = (2\pi s)^{-3/2}e^{s/8-\omega^2/2s}\tfrac{\omega/2}{\sin(\omega/2)}(1+E)$."""
    far = distance > codistance
    m = torch.where(far, codistance, distance)
    low, high = torch.sin(m / 2), torch.cos(m / 2)
    weight, ratio = _rotation_weight(far, m, low, high, s)
    log_density = torch.log(weight) - 1.5 * torch.log(2 * math.pi * s) + s / 8 - distance * distance / (2 * s)
    return log_density, ratio * torch.where(far, high, low)


def _sphere2_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Average of IGSO(3) over the fibres of the Riemannian submersion SO(3) -> S^2, circles of length 2 pi.

    $p(\theta) = 4\int_0^{\pi/2}p_{SO(3)}(\phi)\,db$, $\cos\tfrac\phi2 = \cos\tfrac\theta2\cos b$, exactly;
    the score is $\sin\tfrac\theta2$ times the average of $\cos b\,$score$(\phi)/\sin\tfrac\phi2$. Trapezoids.
    """
    double = distance.dtype == torch.float64
    intervals, reach = (24, 8.5) if double else (12, 6.0)  # reach in standard deviations of the peak in b
    sine, cosine = torch.sin(distance / 2), torch.sin(codistance / 2)
    # The integral does not depend on its nodes, so they are constants to differentiation.
    theta = distance.detach()
    variance = sine.detach() / (2 * theta * cosine.detach()).clamp(min=1e-20)
    variance = s.detach() * torch.where(theta < 1e-3, 0.25, variance)
    step = (reach * torch.sqrt(variance)).clamp(max=math.pi / 2) / intervals
    b = torch.arange(intervals + 1, dtype=step.dtype, device=step.device).view(-1, *[1] * step.ndim) * step
    sin_b_squared, cos_b = torch.sin(b).square(), torch.cos(b).clamp(min=0)
    # sin(phi/2) and cos(phi/2); the clamp saves the gradient of the root at the origin
    sine_squared = sine * sine + cosine * cosine * sin_b_squared
    sin_phi, cos_phi = torch.sqrt(sine_squared.clamp(min=1e-28 if double else 1e-14)), cosine * cos_b
    far = sin_phi > cos_phi
    low, high = torch.where(far, cos_phi, sin_phi), torch.where(far, sin_phi, cos_phi)
    weight, ratio = _rotation_weight(far, 2 * torch.atan2(low, high), low, high, s)
    # phi - theta from the sine and the cosine of its half, over cos(theta/2): positive terms only
    gap_cos = (sin_phi + cos_b * sine) * (cosine * cos_phi + sin_phi * sine)
    gap = 2 * torch.atan2(cosine * sin_b_squared, gap_cos)
    weight = weight * torch.exp(gap * (2 * distance + gap) / (-2 * s))
    weight = torch.cat([weight[:1] / 2, weight[1:-1], weight[-1:] / 2])
    total = weight.sum(0)
    log_density = torch.log(4 * step * total) - 1.5 * torch.log(2 * math.pi * s) + s / 8
    return log_density - distance * distance / (2 * s), sine * (weight * ratio * cos_b).sum(0) / total


def _sphere3_pair(a: float, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    cosh, sinhc, sinhc_slope = _hyperbolic(a * m / s)
    return a * a / s * sinhc - cosh, (a / s) ** 2 * (a * a / s * sinhc_slope - sinhc)


def _sphere3_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""S^3: $p = (2\pi s)^{-3/2}e^{s/2-\theta^2/2s}\tfrac\theta{\sin\theta}(1-E)$."""
    far = distance > codistance
    m = torch.where(far, codistance, distance)
    csc, cot = _csc_cot(m * m)
    winding, winding_slope = _winding(m, s)
    near_score = distance * (cot - 1 / s - winding_slope / (1 - winding))
    weight, slope = _pairs(_sphere3_pair, 1, m, s)
    far_score = -codistance * (slope / weight - 1 / s + cot)
    log_weight = torch.log(csc * torch.where(far, 2 * weight, 1 - winding))
    log_density = log_weight - 1.5 * torch.log(2 * math.pi * s) + s / 2 - distance * distance / (2 * s)
    return log_density, torch.where(far, far_score, near_score)


# Sampling ---------------------------------------------------------------------------------------------------


@cached
def _sampling_table(kernel: HeatKernel, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Tabulate what `sample_distance` interpolates, flattened; up to a second, once, in float64."""
    if (dtype, device) != (torch.float64, torch.device("cpu")):
        return _sampling_table(kernel, torch.float64, torch.device("cpu")).to(device, dtype)
    table = np.ones(TABLE_SHAPE)
    # Gauss-Legendre cells in 1 - rho/top, geometric towards the far end: the survival function is precise
    edges = np.concatenate([np.linspace(1, 1 / 160, 160), 2 ** (-np.arange(1, 105) / 4) / 160, [0]])
    nodes, node_weights = np.polynomial.legendre.leggauss(4)
    rest = torch.from_numpy(edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2)
    for row, s in enumerate(table_times()[1:], start=1):
        top = min(math.pi, 9.5 * math.sqrt(s))
        distance, codistance = top * (1 - rest), math.pi - top + top * rest
        time, zero = torch.full_like(rest, s), torch.zeros_like(rest[0, 0])
        log_radial = kernel.log_density(distance, codistance, time)
        log_radial = log_radial + kernel.log_volume_element(distance, codistance)
        log_origin = kernel.log_density(zero, zero + math.pi, zero + s).item()
        mass = -np.diff(edges) * (torch.exp(log_radial).numpy() * node_weights).sum(1)
        r = chi_norms(mass, kernel.dim)  # where the chi law has the same quantile
        u = 1 - top / math.pi + top / math.pi * edges[1:-1]  # 1 - rho/pi; artanh(1 - u) = log(2/u - 1)/2
        ratio = math.pi / 2 * np.log(2 / u - 1) / (math.sqrt(s) * r)
        # at r = 0 both densities are constant, and their quotient is the limit of (rho/r)^dim
        limit = math.exp(-log_origin / kernel.dim) / math.sqrt(2 * math.pi * s)
        spline = CubicSpline(np.append(0, r), np.append(limit, ratio))
        table[row] = spline(np.linspace(0, TABLE_R1, TABLE_SHAPE[1]))
    return torch.from_numpy(table.ravel())


CIRCLE = HeatKernel("circle", 1, 2 * math.pi, True, _circle_images)
SPHERE2 = HeatKernel("sphere2", 2, 4 * math.pi, True, _sphere2_images)
SPHERE3 = HeatKernel("sphere3", 3, 2 * math.pi**2, True, _sphere3_images)
ROTATION = HeatKernel("rotation", 3, 8 * math.pi**2, False, _rotation_images)
