r"""Heat kernels of the circle, the spheres and the rotation group.

Distance and codistance (pi - distance) should each be computed accurately, from chords and never from an arccosine:
a kernel next to its cut locus is a function of the latter. Below s = 1.5 the kernel is a sum
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
    like,
    table_times,
    tensors,
)
from rsgm.heat_kernels.geometry import RadialGeometry, RotationGeometry, SphereGeometry
from rsgm.heat_kernels.images import circle_images, rotation_images, sphere2_images, sphere3_images

_SWITCH = 1.5  # variance time at which the images hand over to the series
_DEGREE = 7  # of the series from there on: exp(-8 * 9 * 1.5 / 2) is far below the rounding of float64


@dataclass(frozen=True)
class HeatKernel:
    r"""Heat kernel of a sphere or of SO(3) with the rotation angle as the distance; the cut locus is at pi.

    .. math:: p_s = \tfrac1{\mathrm{vol}}\sum_l e^{-\lambda_ls/2}\varphi_l(d)

    with the eigenvalues :math:`\lambda_l` of :math:`-\Delta` and its zonal eigenfunctions, :math:`\varphi_l(0)` the
    multiplicity; for s < 1.5 summed over images.

    Distances, variance times s and codistances are numbers, arrays or tensors, which broadcast together. The
    codistance is :math:`\pi - d`, in radians like d. Where it is small the kernel is a function of it: give it if it is
    known better than by that subtraction.

    References:
        De Bortoli et al. 2022, https://arxiv.org/abs/2202.02763 (heat kernels of compact manifolds).

    Arguments:
        name: unique name, also the identity of the kernel in caches
        geometry: of the manifold
        volume: its Riemannian volume
        images: ``(distance, codistance, s) -> (log-density, score)``, valid for s <= 1.5
        piece: points at a time on a CPU, in float32, whose cache then holds what is temporary: 2 to 3 times faster than
            at once

    Example:
        >>> SPHERE2.log_prob(0.3, s=0.1)
        tensor(0.0390)
        >>> SPHERE2.score(torch.tensor([0.5, 3.0]), s=0.25)
        tensor([-1.9145, -7.5577])
    """

    name: str
    geometry: RadialGeometry
    volume: float = field(compare=False)
    images: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = field(compare=False, repr=False)
    piece: int = field(default=2**15, compare=False, repr=False)

    @property
    def dim(self) -> int:
        """Dimension of the manifold."""
        return self.geometry.dim

    def log_prob(self, distance: Number, s: Number, codistance: Number | None = None) -> Tensor:
        """The log-density log p_s, nats, at distances in [0, pi] and times s > 0."""
        return self.evaluate(*_arguments(distance, s, codistance))[0]

    def score(self, distance: Number, s: Number, codistance: Number | None = None) -> Tensor:
        """The derivative of log p_s in the distance, which is never positive."""
        return self.evaluate(*_arguments(distance, s, codistance))[1]

    def log_volume_element(self, distance: Number, codistance: Number | None = None) -> Tensor:
        """The log-area of the geodesic sphere; plus log p_s, it is the log-density of the distance."""
        distance, _, codistance = _arguments(distance, 1.0, codistance)
        radius = self.geometry.radius(distance, codistance)
        unit_area = 2 * math.pi ** (self.dim / 2) / math.gamma(self.dim / 2)
        return math.log(unit_area) + torch.special.xlogy(self.dim - 1, radius)

    def sample_distance(self, r: Number, s: Number) -> Tensor:
        r"""Distances of Brownian motion, exactly in law, from norms of standard normal tangent vectors.

        :math:`\rho = F_s^{-1}(F_\chi(r))`, with :math:`F_s` the distribution function of the distance and
        :math:`F_\chi` that of the chi law with ``dim`` degrees of freedom; it increases with r, and tends to
        :math:`\sqrt s\,r` as :math:`s\to0`. The table holds
        :math:`\tfrac{\pi}{\sqrt s\,r}\,\mathrm{artanh}\tfrac\rho\pi`: smooth, precise in both tails.

        Arguments:
            r: norms, any shape
            s: variance times >= 0, which broadcast with ``r``; past s = 25 the law is uniform to 1e-11
        """
        r, s = tensors(r, s)
        if self.dim == 1:  # the wrapped Gaussian, folded
            angle = torch.remainder(torch.sqrt(s) * r, 2 * math.pi)
            return torch.minimum(angle, 2 * math.pi - angle)
        r, s = torch.broadcast_tensors(r.clamp(max=TABLE_R1), s.clamp(max=TABLE_S1))
        ratio = interpolate(_sampling_table(self, r.dtype, r.device), s, r / TABLE_R1)
        return math.pi * torch.tanh(torch.sqrt(s) * r * ratio / math.pi)

    def evaluate(self, distance: Tensor, s: Number, codistance: Tensor) -> tuple[Tensor, Tensor]:
        """`log_prob` and `score`, which share their work, of tensors of one type."""
        values = (distance, codistance, like(s, distance))
        shape = torch.broadcast_shapes(*(value.shape for value in values))
        if not shape:  # of numbers without an axis torch.func differentiates torch.lerp in another type
            log_prob, score = self.evaluate(*(value[None] for value in (distance, values[2], codistance)))
            return log_prob[0], score[0]
        # a time that many distances share stays one number
        given = [value.reshape((1,) * (len(shape) - value.dim()) + value.shape) for value in values]
        piece = 4 * self.piece // distance.element_size()
        if distance.device.type != "cpu" or shape.numel() <= piece:
            return self._evaluate(*given)
        rows = max(1, piece * shape[0] // shape.numel())
        pieces = zip(*(value.expand(shape[0], *value.shape[1:]).split(rows) for value in given), strict=True)
        log_prob, score = zip(*(self._evaluate(*piece) for piece in pieces), strict=True)
        return torch.cat(log_prob), torch.cat(score)

    def evaluate_rows(self, distance: Tensor, s: Tensor, codistance: Tensor) -> tuple[Tensor, Tensor]:
        """`evaluate` of ``(B, n)`` distances at one time for each row, ``(B,)``, by one form for each; not for vmap.

        In float32 the series takes over at s = 0.3: summed in float64 it loses no digit there that float32 has, and
        costs a tenth of the images on S²; those of the circle are not dearer than it.
        """
        if distance.device.type != "cpu":  # which would wait there for how many rows have which form
            return self.evaluate(distance, s[:, None], codistance)
        dear = distance.dtype != torch.float64 and self.dim > 1
        switch, degree, late_type = (0.3, 16, torch.float64) if dear else (_SWITCH, _DEGREE, distance.dtype)
        values, s = distance.new_empty(2, *distance.shape), s[:, None]
        late = s[:, 0] >= switch
        for chosen, form, dtype in (
            (~late, self.images, distance.dtype),
            (late, lambda *given: self._late(*given, degree), late_type),
        ):
            for index in chosen.nonzero().squeeze(1).split(max(1, self.piece // distance.shape[1])):
                given = (value[index].to(dtype) for value in (distance, codistance, s))
                values[:, index] = torch.stack(form(*given)).to(distance.dtype)
        return values[0], values[1]

    def _late(self, distance: Tensor, codistance: Tensor, s: Tensor, degree: int = _DEGREE) -> tuple[Tensor, Tensor]:
        """The series, for s >= 1.5 by default."""
        spectrum = _spectrum(self.geometry, degree, distance.dtype, distance.device)
        series, slope = _series(spectrum, distance, codistance, s)
        return torch.log(series) - math.log(self.volume), slope / series

    def _evaluate(self, distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        log_images, images_score = self.images(distance, codistance, s.clamp(max=_SWITCH))
        log_series, series_score = self._late(distance, codistance, s.clamp(min=_SWITCH))
        early = (s < _SWITCH).to(s.dtype)
        return torch.lerp(log_series, log_images, early), torch.lerp(series_score, images_score, early)


def _arguments(distance: Number, s: Number, codistance: Number | None) -> list[Tensor]:
    """Tensors of one type; where there is no codistance, pi minus the distance."""
    if codistance is not None:
        return tensors(distance, s, codistance)
    distance, s = tensors(distance, s)
    return [distance, s, math.pi - distance]


# The approximate score of the original article ------------------------------------------


def truncated_series_score(
    dim: int, distance: Number, s: Number, terms: int, codistance: Number | None = None
) -> Tensor:
    r"""The score of the eigenfunction series of :math:`S^d`, cut after the degree ``terms``.

    .. math:: p \propto \sum_{l\le n}e^{-l(l+d-1)s/2}\,\tfrac{2l+d-1}{d-1}\,C_l^{((d-1)/2)}(\cos\theta)

    with n ``terms``; on the circle :math:`1 + 2\sum_l e^{-l^2s/2}\cos l\theta`. At small s the cut series takes both
    signs and its score is wrong; there De Bortoli et al. 2022 use Varadhan's.

    Arguments:
        dim: dimension d of the sphere, at least 1
        distance: angles in [0, pi]
        s: variance times, which broadcast with the distances
        terms: last degree kept, at least 0 (the uniform law, of score 0)
        codistance: pi - distance; None computes it

    Raises:
        ValueError: if ``dim`` or ``terms`` is out of range

    Example:
        >>> truncated_series_score(2, torch.tensor([0.5, 3.0]), s=0.25, terms=5)
        tensor([-1.8822,  3.1309])
    """
    return _truncated_score(SphereGeometry(dim), distance, s, terms, codistance)


def truncated_rotation_score(distance: Number, s: Number, terms: int, codistance: Number | None = None) -> Tensor:
    r"""The score of the series of SO(3), cut after the degree ``terms``; all else as in `truncated_series_score`.

    .. math:: p \propto \sum_{l\le n}e^{-l(l+1)s/2}(2l+1)\sin((l+\tfrac12)\omega)/\sin\tfrac\omega2
    """
    return _truncated_score(RotationGeometry(), distance, s, terms, codistance)


def _truncated_score(
    geometry: RadialGeometry, distance: Number, s: Number, terms: int, codistance: Number | None
) -> Tensor:
    if geometry.dim < 1 or terms < 0:
        raise ValueError(f"found dim={geometry.dim}, terms={terms}; a truncated series needs dim >= 1 and terms >= 0")
    distance, s, codistance = torch.broadcast_tensors(*_arguments(distance, s, codistance))
    series, slope = _series(_spectrum(geometry, terms, distance.dtype, distance.device), distance, codistance, s)
    return slope / series


# Eigenfunction series ---------------------------------------------------------------------------------------


@cached
def _spectrum(geometry: RadialGeometry, degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Half the eigenvalues, ``(degree + 1,)``, and the zonal functions in cosines, ``(frequency, degree)``."""
    half, zonal = geometry.half_eigenvalues(degree), geometry.zonal_functions(degree)
    return torch.from_numpy(half).to(device, dtype), torch.from_numpy(zonal).to(device, dtype)


def _series(spectrum: tuple[Tensor, Tensor], distance: Tensor, codistance: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The series (its mean over the manifold is 1) and its derivative in the distance."""
    half_eigenvalues = spectrum[0].view(-1, *[1] * distance.ndim)
    with torch.autocast(distance.device.type, enabled=False):  # half precision is not enough for this product
        amplitude = torch.tensordot(spectrum[1], torch.exp(-half_eigenvalues * s), dims=1)
    far = (distance > codistance).to(s.dtype)
    x = torch.lerp(distance, codistance, far)
    sign = 1 - 2 * far  # cos k d = (-1)^k cos k(pi - d)
    # Clenshaw's recurrence: sum_k a_k cos kx, and sum_k k a_k sin(kx) / sin x
    twice = 2 * sign * torch.cos(x)
    value = last = slope = last_slope = torch.zeros_like(x)
    for k in range(len(half_eigenvalues) - 1, 0, -1):
        value, last = amplitude[k] + twice * value - last, value
        slope, last_slope = k * amplitude[k] + twice * slope - last_slope, slope
    return amplitude[0] + twice / 2 * value - last, -torch.sin(x) * slope


# Sampling ---------------------------------------------------------------------------------------------------


@cached
def _sampling_table(kernel: HeatKernel, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What `sample_distance` interpolates, flattened; built in up to a second, once, in float64."""
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
        log_radial = kernel.log_prob(distance, time, codistance)
        log_radial = log_radial + kernel.log_volume_element(distance, codistance)
        log_origin = kernel.log_prob(zero, zero + s, zero + math.pi).item()
        mass = -np.diff(edges) * (torch.exp(log_radial).numpy() * node_weights).sum(1)
        r = chi_norms(mass, kernel.dim)  # where the chi law has the same quantile
        u = 1 - top / math.pi + top / math.pi * edges[1:-1]  # 1 - rho/pi; artanh(1 - u) = log(2/u - 1)/2
        ratio = math.pi / 2 * np.log(2 / u - 1) / (math.sqrt(s) * r)
        # at r = 0 both densities are constant, and their quotient is the limit of (rho/r)^dim
        limit = math.exp(-log_origin / kernel.dim) / math.sqrt(2 * math.pi * s)
        spline = CubicSpline(np.append(0, r), np.append(limit, ratio))
        table[row] = spline(np.linspace(0, TABLE_R1, TABLE_SHAPE[1]))
    return torch.from_numpy(table.ravel())


CIRCLE = HeatKernel("circle", SphereGeometry(1), 2 * math.pi, circle_images)
SPHERE2 = HeatKernel("sphere2", SphereGeometry(2), 4 * math.pi, sphere2_images, piece=2**13)
SPHERE3 = HeatKernel("sphere3", SphereGeometry(3), 2 * math.pi**2, sphere3_images)
ROTATION = HeatKernel("rotation", RotationGeometry(), 8 * math.pi**2, rotation_images)
