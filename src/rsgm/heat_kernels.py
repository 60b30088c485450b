r"""Heat kernels of the circle, the spheres and the rotation group: log-density, radial score, exact sampling.

The kernel $p_s$ solves $\partial_s p = \tfrac12\Delta p$ from a Dirac mass, so that it is the law of Brownian motion at the
variance time $s = \int_0^t\beta$. It depends on the geodesic distance alone. Every function takes the distance **and** the
codistance $\pi - d$, each computed accurately (from chords, never from an arccosine), because a kernel close to its cut locus
is a function of the latter. Densities are in nats with respect to the Riemannian volume.

Below the variance time 1.5 the kernel is a sum over images (geodesics that wind round the manifold), above it is its
eigenfunction series; each is free of cancellation on its own side, in float32 too. All functions are pure, accept any shapes
that broadcast together, and can be differentiated in forward and in reverse mode: no masked branch ever divides by zero.

References:
    De Bortoli et al., "Riemannian Score-Based Generative Modelling", 2022, https://arxiv.org/abs/2202.02763
    Leach et al., "Denoising Diffusion Probabilistic Models on SO(3) for Rotational Alignment", 2022 (the kernel IGSO(3))
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import interpolate, special
from torch import Tensor

__all__ = ["CIRCLE", "ROTATION", "SPHERE2", "SPHERE3", "HeatKernel", "truncated_series_score", "van_vleck_score",
           "varadhan_score"]  # fmt: skip

_SWITCH = 1.5  # variance time at which the images hand over to the series
_SERIES_DEGREE = 7  # exp(-8 * 9 * 1.5 / 2) is far below the precision of float64
_TABLE_S0, _TABLE_S1, _TABLE_R1 = 0.1, 25.0, 8.5  # the sampling table: scale and end in s, end in r
_TABLE_SHAPE = (112, 128)


@dataclass(frozen=True)
class HeatKernel:
    r"""The heat kernel of a compact two-point homogeneous space of injectivity radius $\pi$, or of SO(3).

    $$\log p_s = \log\textstyle\sum_{\text{images}}\;(s < 1.5), \qquad
      p_s = \tfrac1{\mathrm{vol}}\sum_l e^{-\lambda_l s/2}\varphi_l(d)\;(s \ge 1.5).$$

    Arguments:
        name: unique name, also the identity of the kernel in caches.
        dim: dimension of the manifold.
        volume: its Riemannian volume.
        sphere: whether the antipode is a conjugate point (spheres), or not (SO(3)).
        images: `(distance, codistance, s) -> (log-density, score)`, valid for $s \le 1.5$.

    Example:
        >>> distance, s = torch.tensor([0.5, 3.0]), torch.tensor(0.25)
        >>> SPHERE2.score(distance, torch.pi - distance, s)
        tensor([-1.9151, -8.7146])
    """

    name: str
    dim: int
    volume: float = field(compare=False)
    sphere: bool = field(compare=False)
    images: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = field(compare=False, repr=False)

    def log_density(self, distance: Tensor, codistance: Tensor, s: Tensor) -> Tensor:
        """Return log p_s in nats for distances in [0, pi], codistances pi - distance and s > 0, all of one dtype."""
        return self._evaluate(distance, codistance, s)[0]

    def score(self, distance: Tensor, codistance: Tensor, s: Tensor) -> Tensor:
        """Return d log p_s / d distance (never positive); the arguments are those of `log_density`."""
        return self._evaluate(distance, codistance, s)[1]

    def log_volume_element(self, distance: Tensor, codistance: Tensor) -> Tensor:
        """Return the log-area of the geodesic sphere of radius `distance`, so that exp(log p + this) is the radial density."""
        radius = 2 * torch.sin(distance / 2) * (torch.sin(codistance / 2) if self.sphere else 1)
        area = 2 * math.pi ** (self.dim / 2) / math.gamma(self.dim / 2)
        return math.log(area) + (self.dim - 1) * torch.log(radius)

    def sample_distance(self, r: Tensor, s: Tensor) -> Tensor:
        r"""Map the norm of a standard normal tangent vector to the distance that Brownian motion has travelled.

        $\rho = F_s^{-1}(F_{\chi}(r))$ with $F_s$ the radial distribution function of the kernel and $F_\chi$ that of the chi
        law with `dim` degrees of freedom: exact in law, monotone in r, and $\rho\to\sqrt s\,r$ as $s\to0$. The ratio
        $\rho/(\sqrt s\,r)$, smooth in both arguments, comes from a table (4 x 4 points Lagrange interpolation).

        Arguments:
            r: norms, any shape.
            s: variance times $\ge 0$, broadcast against `r`.
        """
        if self.dim == 1:  # the wrapped Gaussian, folded
            angle = torch.remainder(torch.sqrt(s) * r, 2 * math.pi)
            return torch.minimum(angle, 2 * math.pi - angle)
        table = _ratio_table(self, r.dtype, r.device)
        r, s = torch.broadcast_tensors(r.clamp(max=_TABLE_R1), s.clamp(max=_TABLE_S1))
        row, row_weights = _lagrange(torch.log1p(s / _TABLE_S0) / math.log1p(_TABLE_S1 / _TABLE_S0), _TABLE_SHAPE[0])
        column, column_weights = _lagrange(r / _TABLE_R1, _TABLE_SHAPE[1])
        rows = torch.arange(4, device=r.device).view(4, *[1] * (r.ndim + 1))
        index = (row * _TABLE_SHAPE[1] + column) + rows * _TABLE_SHAPE[1] + rows.view(4, *[1] * r.ndim)
        ratio = (table[index] * row_weights.unsqueeze(1) * column_weights).sum((0, 1))
        return math.pi * torch.tanh(torch.sqrt(s) * r * ratio / math.pi)

    def _evaluate(self, distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        distance, codistance, s = torch.broadcast_tensors(distance, codistance, s)
        log_images, score_images = self.images(distance, codistance, s.clamp(max=_SWITCH))
        spectrum = _spectrum(self.dim, self.sphere, _SERIES_DEGREE, distance.dtype, distance.device)
        series, slope = _series(spectrum, distance, codistance, s.clamp(min=_SWITCH))
        early = s < _SWITCH
        log_density = torch.where(early, log_images, torch.log(series) - math.log(self.volume))
        return log_density, torch.where(early, score_images, slope / series)


# Small-time and truncated scores, the targets of the original article ------------------------------------------------------


def varadhan_score(distance: Tensor, s: Tensor) -> Tensor:
    """Varadhan's small-time score, -d/s (De Bortoli et al. 2022, section 3.3)."""
    return -distance / s


def van_vleck_score(dim: int, distance: Tensor, codistance: Tensor, s: Tensor) -> Tensor:
    r"""Score of the leading term of the small-time expansion on S^dim: $-d/s + \tfrac{dim-1}2(1/d - \cot d)$.

    It is accurate to O(s), except next to the antipode, where it diverges.
    """
    square = distance * distance
    kappa = 2 / (codistance * (math.pi + distance)) + 2 / (4 * math.pi**2 - square) + _polynomial(square, _COT)
    return distance * ((dim - 1) / 2 * kappa - 1 / s)


def truncated_series_score(dim: int, distance: Tensor, codistance: Tensor, s: Tensor, n_max: int) -> Tensor:
    r"""Score of the eigenfunction series of S^dim cut at degree `n_max`.

    $p \propto \sum_{l\le n_{max}} e^{-l(l+dim-1)s/2}\,\tfrac{2l+dim-1}{dim-1}\,C_l^{((dim-1)/2)}(\cos d)$; for dim = 1
    $p \propto 1 + 2\sum_l e^{-l^2s/2}\cos ld$. At small s the cut series is not positive and its score is wrong, as it is
    in the article (De Bortoli et al. 2022, section 3.3), where Varadhan's score replaces it below a threshold in s.

    Arguments:
        dim: dimension of the sphere, at least 1.
        distance: angles in [0, pi].
        codistance: pi - distance.
        s: variance times, broadcast against the distances.
        n_max: last degree kept, at least 0 (the uniform law: score 0).

    Raises:
        ValueError: if `dim` or `n_max` is out of range.
    """
    if dim < 1 or n_max < 0:
        raise ValueError(f"found dim={dim} and n_max={n_max}; a truncated series needs dim >= 1 and n_max >= 0")
    distance, codistance, s = torch.broadcast_tensors(distance, codistance, s)
    spectrum = _spectrum(dim, True, n_max, distance.dtype, distance.device)
    series, slope = _series(spectrum, distance, codistance, s)
    return slope / series


# Eigenfunction series -----------------------------------------------------------------------------------------------------


@functools.cache
def _spectrum(
    dim: int, sphere: bool, degree: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return half the eigenvalues (degree+1,) and the zonal functions as cosine polynomials, (cosine k, degree l)."""
    coefficients = np.zeros((degree + 1, degree + 1))
    power = np.cumprod(np.concatenate([[1.0], ((dim - 1) / 2 + np.arange(degree)) / np.arange(1, degree + 1)]))
    for l in range(degree + 1):
        if not sphere:  # (2l+1) times the character of SO(3), of which the spheres' formula knows nothing
            coefficients[0, l], coefficients[1 : l + 1, l] = 2 * l + 1, 2 * (2 * l + 1)
        elif dim == 1:
            coefficients[l, l] = 2 if l else 1
        else:  # Gegenbauer: C_l = sum_j (a)_j (a)_{l-j} / (j! (l-j)!) cos (l-2j)x
            np.add.at(coefficients[:, l], np.abs(l - 2 * np.arange(l + 1)), power[: l + 1] * power[l::-1])
            coefficients[:, l] *= (2 * l + dim - 1) / (dim - 1)
    degrees = np.arange(degree + 1.0)
    half_eigenvalues = degrees * (degrees + (dim - 1 if sphere else 1)) / 2
    with torch.inference_mode(False):  # a cached tensor must not be an inference tensor
        return tuple(torch.from_numpy(a).to(device, dtype) for a in (half_eigenvalues, coefficients))


def _series(
    spectrum: tuple[Tensor, Tensor], distance: Tensor, codistance: Tensor, s: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sum of the series (1 on average over the manifold) and its derivative in the distance."""
    half_eigenvalues, coefficients = spectrum[0].view(-1, *[1] * distance.ndim), spectrum[1]
    with torch.autocast(distance.device.type, enabled=False):  # a product of half precision would not do
        amplitude = torch.tensordot(coefficients, torch.exp(-half_eigenvalues * s), dims=1)
    order = torch.arange(len(coefficients), dtype=s.dtype, device=s.device).view(half_eigenvalues.shape)
    far = distance > codistance  # there, cos k d = (-1)^k cos k(pi - d)
    x = order * torch.where(far, codistance, distance)
    amplitude = torch.where(far, amplitude * (1 - 2 * (order % 2)), amplitude)
    slope = (amplitude * order * torch.sin(x)).sum(0)
    return (amplitude * torch.cos(x)).sum(0), torch.where(far, slope, -slope)


# Sums over images ---------------------------------------------------------------------------------------------------------
#
# Below, `m` is the smaller one of distance and codistance. Each half of the manifold has its own form; both are evaluated at
# m in [0, pi/2], where both are finite, and a mask chooses. Odd functions are divided by m and written in powers of m^2.
# Images that are below the rounding of float64 for s <= 1.5 are left out; `_images` lists what remains.

# sinhc z = sum z^2n / (2n+1)! and its derivative over z, for z <= 1
_SINHC = [1 / math.factorial(2 * n + 1) for n in range(9)]
_SINHC_SLOPE = [(2 * n + 2) / math.factorial(2 * n + 3) for n in range(9)]
# x/sin x and (1/x - cot x)/x are sums over the poles k pi, even in x: these are the power series of what k >= 3 contribute
_N = 2.0 * np.arange(1, 10)
_CSC = (2 * (2 * math.pi) ** -_N * (special.zeta(_N, 1.5) - special.zeta(_N, 2))).tolist()
_COT = (2 * math.pi**-_N * special.zeta(_N, 3)).tolist()


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """Return the even power series in x = z^2; five terms are enough for float32, nine for float64."""
    terms = coefficients if x.dtype == torch.float64 else coefficients[:5]
    total = x * terms[-1] + terms[-2]
    for term in terms[-3::-1]:
        total = total * x + term
    return total


def _csc_and_cot(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return x/sin x and (1/x - cot x)/x at x^2 <= (pi/2)^2."""
    pole1, pole2 = 1 / (math.pi**2 - square), 1 / (4 * math.pi**2 - square)
    csc = 1 + square * (2 * (pole1 - pole2) + _polynomial(square, _CSC))
    return csc, 2 * (pole1 + pole2) + _polynomial(square, _COT)


def _hyperbolic(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(-z) times cosh z, sinhc z = sinh z / z and sinhc'(z) / z, for z >= 0."""
    q = torch.expm1(-2 * z)
    cosh, small, large = 1 + q / 2, z.clamp(max=1), z.clamp(min=1)
    square, decay, is_small = small * small, torch.exp(-small), z < 1
    sinhc = torch.where(is_small, decay * _polynomial(square, _SINHC), -q / (2 * large))
    slope = torch.where(is_small, decay * _polynomial(square, _SINHC_SLOPE), (cosh - sinhc) / (large * large))
    return cosh, sinhc, slope


def _winding(m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return E(m) and E'(m)/m, the images m -+ 2 pi relative to the principal one, for SO(3) (for S^3 it is -E).

    $E = \tfrac1m[(2\pi-m)e^{-2\pi(\pi-m)/s} - (2\pi+m)e^{-2\pi(\pi+m)/s}] = A(4\pi k\,\mathrm{sinhc}\,z - 2\cosh z)$ with
    $k = 2\pi/s$, $z = km$, $A = e^{-\pi k}$, negligible for m <= pi/2 and s < 0.2, where s is clamped for safety.
    """
    k = 2 * math.pi / s.clamp(min=0.2)
    z = k * m
    cosh, sinhc, slope = _hyperbolic(z)
    scale = torch.exp(z - math.pi * k)
    return scale * (4 * math.pi * k * sinhc - 2 * cosh), k * k * scale * (4 * math.pi * k * slope - 2 * sinhc)


def _circle_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Wrapped Gaussian, images $\theta+2\pi\{-2,-1,0,1\}$."""
    k = 2 * math.pi / s
    w1, w2, w3 = (torch.exp(-k * a) for a in (codistance, math.pi + distance, 2 * (math.pi + codistance)))
    rest = w1 + w2 + w3
    near = distance + 2 * math.pi * (w1 * torch.expm1(-2 * k * distance) - 2 * w3) / (1 + rest)
    pairs = -torch.expm1(-k * codistance) - 3 * w2 * torch.expm1(-3 * k * codistance)
    far = math.pi * pairs / (1 + rest) - codistance
    log_density = torch.log1p(rest) - distance * distance / (2 * s) - torch.log(2 * math.pi * s) / 2
    return log_density, -torch.where(distance > codistance, far, near) / s


def _rotation_weight(far: Tensor, m: Tensor, low: Tensor, high: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return $\tfrac{\omega/2}{\sin(\omega/2)}(1+E)$ and score$/\sin(\omega/2)$ of SO(3); low, high = sin(m/2), cos(m/2)."""
    csc, cot = _csc_and_cot(m * m / 4)
    winding, winding_slope = _winding(m, s)
    near = csc * (1 + winding)
    near_score = 2 * csc * (cot / 4 - 1 / s + winding_slope / (1 + winding))
    weight, slope = 0.0, 0.0  # the images +-a in pairs: exact zeros of the score at the cut locus
    for a in (math.pi, 3 * math.pi) if m.dtype == torch.float64 else (math.pi,):
        z = a * m / s
        sinh = -torch.expm1(-2 * z) / 2
        cosh = 1 - sinh
        f = 1 if a == math.pi else -torch.exp(2 * math.pi * (m - 2 * math.pi) / s)
        weight = weight + f * (a * cosh - m * sinh)
        slope = slope + f * (sinh * ((a * a + m * m) / s - 1) - 2 * z * cosh)
    far_score = -(slope / weight + low / (2 * high)) / high
    return torch.where(far, weight / high, near), torch.where(far, far_score, near_score)


def _rotation_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""IGSO(3), $p = (2\pi s)^{-3/2}e^{s/8-\omega^2/2s}\tfrac{\omega/2}{\sin(\omega/2)}(1+E)$, images $-4\pi$ to $2\pi$."""
    far = distance > codistance
    m = torch.where(far, codistance, distance)
    low, high = torch.sin(m / 2), torch.cos(m / 2)
    weight, ratio = _rotation_weight(far, m, low, high, s)
    log_density = torch.log(weight) - 1.5 * torch.log(2 * math.pi * s) + s / 8 - distance * distance / (2 * s)
    return log_density, ratio * torch.where(far, high, low)


def _sphere2_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""S^2 as the quotient of SO(3) by circles of length 2 pi: the average of IGSO(3) over a fibre, exactly

    $p_{S^2}(\theta) = 4\int_0^{\pi/2}p_{SO(3)}(\phi(b))\,db$, $\sin^2\tfrac\phi2 = \sin^2\tfrac\theta2+\cos^2\tfrac\theta2\sin^2b$,
    $\mathrm{score} = \sin\tfrac\theta2\int p\,g\cos b/\sin\tfrac\phi2\,db\,/\int p\,db$ with g the score of SO(3), by the
    trapezoidal rule over the width of the peak. All terms have one sign.
    """
    double = distance.dtype == torch.float64
    intervals, width = (24, 8.5) if double else (12, 6.0)
    sine, cosine = torch.sin(distance / 2), torch.sin(codistance / 2)
    # The integral does not depend on where its nodes are: they are constants of differentiation.
    t, sine0, cosine0 = distance.detach(), sine.detach(), cosine.detach()
    flat = torch.where(t < 1e-3, 0.25, sine0 / (2 * t * cosine0).clamp(min=1e-20))
    step = (width * torch.sqrt(s.detach() * flat)).clamp(max=math.pi / 2) / intervals
    count = torch.arange(intervals + 1, dtype=step.dtype, device=step.device).view(-1, *[1] * step.ndim)
    b = count * step
    sin_b2, cos_b = torch.sin(b).square(), torch.cos(b).clamp(min=0)

    sin_phi = torch.sqrt((sine * sine + cosine * cosine * sin_b2).clamp(min=1e-28 if double else 1e-14))
    cos_phi = cosine * cos_b
    # tan((phi - theta)/2), a common factor cos(theta/2) taken out: sums of positive terms only
    gap = 2 * torch.atan2(cosine * sin_b2, (sin_phi + cos_b * sine) * (cosine * cos_phi + sin_phi * sine))
    far = sin_phi > cos_phi
    low, high = torch.where(far, cos_phi, sin_phi), torch.where(far, sin_phi, cos_phi)
    weight, ratio = _rotation_weight(far, 2 * torch.atan2(low, high), low, high, s)
    weight = weight * torch.exp(gap * (2 * distance + gap) / (-2 * s))
    weight = torch.cat([weight[:1] / 2, weight[1:-1], weight[-1:] / 2])
    total = weight.sum(0)
    log_density = (torch.log(4 * step * total) - 1.5 * torch.log(2 * math.pi * s) + s / 8
                   - distance * distance / (2 * s))  # fmt: skip
    return log_density, sine * (weight * ratio * cos_b).sum(0) / total


def _sphere3_images(distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r"""S^3, $p = (2\pi s)^{-3/2}e^{s/2-\theta^2/2s}\tfrac{\theta}{\sin\theta}(1+E)$, images $-4\pi$ to $2\pi$."""
    far = distance > codistance
    m = torch.where(far, codistance, distance)
    csc, cot = _csc_and_cot(m * m)
    winding, winding_slope = _winding(m, s)
    near_score = distance * (cot - 1 / s - winding_slope / (1 - winding))
    weight, slope = 0.0, 0.0
    for a in (math.pi, 3 * math.pi) if m.dtype == torch.float64 else (math.pi,):
        cosh, sinhc, sinhc_slope = _hyperbolic(a * m / s)
        f = 2 if a == math.pi else 2 * torch.exp(2 * math.pi * (m - 2 * math.pi) / s)
        weight = weight + f * (a * a / s * sinhc - cosh)
        slope = slope + f * (a / s) ** 2 * (a * a / s * sinhc_slope - sinhc)
    far_score = -codistance * (slope / weight - 1 / s + cot)
    log_weight = torch.log(csc * torch.where(far, weight, 1 - winding))
    log_density = log_weight - 1.5 * torch.log(2 * math.pi * s) + s / 2 - distance * distance / (2 * s)
    return log_density, torch.where(far, far_score, near_score)


# Sampling -----------------------------------------------------------------------------------------------------------------


def _lagrange(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the first of four neighbours among `size` even nodes of [0, 1] and their cubic Lagrange weights (4, ...)."""
    x = x * (size - 1)
    first = (torch.floor(x) - 1).clamp(0, size - 4)
    t0 = x - first
    t1, t2, t3 = t0 - 1, t0 - 2, t0 - 3
    return first.long(), torch.stack([t1 * t2 * t3 / -6, t0 * t2 * t3 / 2, t0 * t1 * t3 / -2, t0 * t1 * t2 / 6])


@functools.cache
def _ratio_table(kernel: HeatKernel, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Tabulate rho/(sqrt(s) r), flattened; rows are even in log(1 + s/s0) from s = 0, columns even in r from 0."""
    if (dtype, device) != (torch.float64, torch.device("cpu")):
        return _ratio_table(kernel, torch.float64, torch.device("cpu")).to(device, dtype)
    rows, columns = _TABLE_SHAPE
    times = _TABLE_S0 * np.expm1(np.linspace(0, math.log1p(_TABLE_S1 / _TABLE_S0), rows))
    r = np.linspace(0, _TABLE_R1, columns)
    # Gauss-Legendre cells; `gap` is 1 - rho/top, geometric towards the end, where the survival function must stay precise
    edges = np.concatenate([np.linspace(1, 1 / 160, 160), 2 ** (-np.arange(1, 105) / 4) / 160, [0]])
    x, w = np.polynomial.legendre.leggauss(4)
    gap = torch.from_numpy(edges[:-1, None] + np.diff(edges)[:, None] * (x + 1) / 2)
    table = np.ones((rows, columns))
    with torch.no_grad(), torch.inference_mode(False):
        for row, s in enumerate(times[1:], start=1):
            top = min(math.pi, 9.5 * math.sqrt(s))
            distance, codistance, time = top * (1 - gap), math.pi - top + top * gap, torch.tensor(s)
            log_mass = kernel.log_density(distance, codistance, time) + kernel.log_volume_element(distance, codistance)
            mass = (torch.exp(log_mass).numpy() * w).sum(1) * -np.diff(edges)
            below, above = np.cumsum(mass)[:-1], np.cumsum(mass[::-1])[-2::-1]
            half, total = kernel.dim / 2, mass.sum()
            quantile = np.where(below < above, special.gammaincinv(half, below / total), special.gammainccinv(half, above / total))
            knots = np.sqrt(2 * quantile)
            # at r = 0 both laws have a constant density, whose ratio gives the limit
            origin = kernel.log_density(torch.zeros_like(time), torch.full_like(time, math.pi), time).item()
            limit = math.exp(-origin / kernel.dim) / math.sqrt(2 * math.pi * s)
            rest = 1 - top / math.pi + top / math.pi * edges[1:-1]  # 1 - rho/pi
            ratios = np.concatenate([[limit], math.pi / 2 * np.log(2 / rest - 1) / (math.sqrt(s) * knots)])
            table[row] = interpolate.CubicSpline(np.concatenate([[0], knots]), ratios)(r)
    return torch.from_numpy(table.ravel())


CIRCLE = HeatKernel("circle", 1, 2 * math.pi, True, _circle_images)
SPHERE2 = HeatKernel("sphere2", 2, 4 * math.pi, True, _sphere2_images)
SPHERE3 = HeatKernel("sphere3", 3, 2 * math.pi**2, True, _sphere3_images)
ROTATION = HeatKernel("rotation", 3, 8 * math.pi**2, False, _rotation_images)
