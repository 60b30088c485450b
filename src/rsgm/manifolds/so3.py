"""The group of rotations of space."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.heat_kernels import ROTATION, Number, truncated_rotation_score
from rsgm.manifolds.base import Cut, Manifold, RadialFunction
from rsgm.manifolds.rotations import (
    bingham,
    cross,
    matrix_to_quaternion,
    matrix_to_rotation_vector,
    nearest_rotation,
    quaternion_to_matrix,
    quaternion_to_rotation_vector,
    relative_quaternion,
    rotation_vector_to_matrix,
    rotation_vector_to_quaternion,
    turned,
)
from rsgm.manifolds.tensors import even_norm, expand, from_floor, least_distance, log_sinc, safe_norm

__all__ = [
    "SpecialOrthogonal",
    "matrix_to_quaternion",
    "matrix_to_rotation_vector",
    "quaternion_to_matrix",
    "rotation_vector_to_matrix",
]


class SpecialOrthogonal(Manifold):
    r"""The rotation matrices SO(3), with the metric in which the distance is the angle of rotation.

    .. math:: \langle U, V\rangle = \tfrac12\,\mathrm{tr}(U^T V),\qquad \mathrm{vol} = 8\pi^2,\qquad
        \exp_R(R\,\mathrm{hat}\,w) = R\,e^{\mathrm{hat}\,w}

    Tangent vectors at R are :math:`R\,\mathrm{hat}\,w` with the rotation vector w in the body's axes, and the
    :math:`R\,\mathrm{hat}\,e_i` are orthonormal. Angles and logarithms come from the unit quaternion of
    :math:`R^T S`, which comes from differences of the matrices: they keep their relative accuracy at small angles
    and the right axis up to :math:`\pi`, in float32 too. The heat kernel (IGSO(3)) is exact.

    References: Leach et al. 2022, "Denoising Diffusion Probabilistic Models on SO(3) for Rotational Alignment".

    Arguments:
        n: the size of the matrices; only 3

    Raises:
        ValueError: for any other ``n``

    Example:
        >>> rotations = SpecialOrthogonal()
        >>> x, y = rotation_vector_to_matrix(torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, -1.5]]))
        >>> rotations.dist(x, y)
        tensor(2.)
    """

    name = "SpecialOrthogonal"
    reversible = True
    killing_field_count = 3
    smooth_frame = True
    log_volume = math.log(8 * math.pi**2)
    injectivity_radius = math.pi
    angular = True
    unit_cube_extent = (2 * math.pi, 2.0, 2 * math.pi)

    def __init__(self, n: Literal[3] = 3) -> None:
        if n != 3:
            raise ValueError(f"SpecialOrthogonal: n must be 3, the rotations of space, found {n}.")
        super().__init__(3, (3, 3))
        self.n = n

    @property
    def cuts(self) -> list[Cut]:
        r"""At the angle :math:`\pi`, where exp is half way to its degenerate points."""
        return [Cut([0, 1, 2], math.pi, 0)]

    def body(self, x: Tensor, u: Tensor) -> Tensor:
        """The rotation vector w, ``(*batch, 3)``, of the tangent part ``x hat(w)`` of ``u``: `from_frame` inverted."""
        return cross(u, x).sum(-2) / 2

    def angles(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""The distance :math:`\omega` and its complement :math:`\pi - \omega`."""
        q = relative_quaternion(x, y)
        cosine, sine = q[..., 0], safe_norm(q[..., 1:])
        return 2 * torch.atan2(sine, cosine), 2 * torch.atan2(cosine, sine)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """``tr(U^T V) / 2``."""
        return (u * (u if v is None else v)).sum((-2, -1), keepdim=keepdim) / 2

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Angle of the rotation from ``x`` to ``y``, in radians."""
        omega = self.angles(x, y)[0]
        return omega[..., None, None] if keepdim else omega

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """``x`` turned by the rotation vector of ``u`` (Rodrigues)."""
        return turned(x, rotation_vector_to_quaternion(self.body(x, u)))

    retr = expmap

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The shortest tangent vector at ``x`` that leads to ``y``; at the angle :math:`\pi`, one of two."""
        return self.from_frame(x, quaternion_to_rotation_vector(relative_quaternion(x, y)))

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        # the body turns at a constant rate about an axis that is fixed in it
        w = quaternion_to_rotation_vector(relative_quaternion(x0, x1))
        xt = turned(x0, rotation_vector_to_quaternion(expand(t, w) * w))
        return xt, self.from_frame(xt, w)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        r"""Parallel along the geodesic: in the body's axes, :math:`e^{-\mathrm{hat}\,w/2}` with the w to ``y``."""
        q, w = relative_quaternion(x, y), self.body(x, v)
        axis = q[..., 1:]
        turned = cross(axis, w)
        return self.from_frame(y, w - turned + cross(axis, turned) / (1 + q[..., :1]))

    def projx(self, x: Tensor) -> Tensor:
        """The nearest rotation; see `rsgm.manifolds.rotations.nearest_rotation`."""
        return nearest_rotation(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """``x skew(x^T u)``."""
        return self.from_frame(x, self.body(x, u))

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Twice the projection, for the product halves the ambient one."""
        return 2 * self.proju(x, u)

    @override
    def frame(self, x: Tensor) -> Tensor:
        eye = torch.eye(3, dtype=x.dtype, device=x.device)
        return self.from_frame(x, eye.reshape(3, *(1,) * (x.dim() - 2), 3))

    @override
    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        return cross(x, components[..., None, :])

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return -2 * x

    @override
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        self._check_size(size)
        return torch.eye(3, dtype=dtype, device=device).expand(size).clone()

    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        """The left-invariant fields are those of the frame."""
        return self.from_frame(x, f)

    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        """``log((2 - 2 cos r) / r^2)``."""
        return 2 * log_sinc(even_norm(self.body(x, u)) / 2)

    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        """Haar: normalised Gaussian quaternions."""
        return quaternion_to_matrix(torch.randn(*size[:-2], 4, **options))

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.from_frame(x, torch.randn(x.shape[:-1], generator=generator, dtype=x.dtype, device=x.device))

    def bump_log_constant(self, width: Tensor) -> Tensor:
        r"""Of isotropic matrix Fisher laws, :math:`p = e^{\kappa\cos\omega} / 8\pi^2(I_0(\kappa) - I_1(\kappa))`, with
        :math:`\kappa = \text{width}^{-2}` (Mardia & Jupp 2000, 13.2.3)."""
        return -self.log_volume - _log_bessel_difference(width.pow(-2))

    def bump_coordinates(self, x: Tensor) -> Tensor:
        r"""The entries over :math:`\sqrt2`, for :math:`\kappa(\cos\omega - 1) = -\kappa|x - \mu|^2/4`."""
        return x.flatten(-2) * 0.5**0.5

    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Exact: turned by Bingham distributed quaternions; the centre at width zero, NaN where the width is NaN."""
        return turned(centre, bingham(width.expand(centre.shape[:-2]), generator))

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Exact: a Gaussian rotation vector with its length mapped to the kernel's radial law."""
        z = torch.randn(x0.shape[:-1], generator=generator, dtype=x0.dtype, device=x0.device)
        radius = safe_norm(z)
        length = ROTATION.sample_distance(radius, s)
        return turned(x0, rotation_vector_to_quaternion(z * (length / radius.clamp_min(1e-30))[..., None]))

    @override
    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        return self._radial(x0, x, s, lambda omega, delta: ROTATION.evaluate(omega, s, delta))

    def heat_kernel_series_score(self, x0: Tensor, x: Tensor, s: Number, terms: int) -> Tensor:
        """The gradient of the series of characters cut after degree ``terms``."""

        def score(omega: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
            return omega, truncated_rotation_score(omega, s, terms, delta)

        return self._radial(x0, x, s, score)[1]

    def from_unit_cube(self, u: Tensor) -> Tensor:
        """Euler angles about z, y, z, the middle one through its cosine."""
        first, cosine, last = (2 * u - 1).unbind(-1)
        plus, minus = math.pi * (last + first) / 2, math.pi * (last - first) / 2
        near, far = ((1 + cosine) / 2).sqrt(), ((1 - cosine) / 2).sqrt()
        return quaternion_to_matrix(
            torch.stack([near * plus.cos(), far * minus.sin(), far * minus.cos(), near * plus.sin()], -1)
        )

    def _radial(self, x0: Tensor, x: Tensor, s: Number, function: RadialFunction) -> tuple[Tensor, Tensor]:
        """A log-density of the distance from ``x0`` at the time s and its gradient, of its value and derivative."""
        q = relative_quaternion(x0, x)
        cosine, sine = q[..., 0], safe_norm(q[..., 1:])
        # score / sin(omega / 2) has a finite limit at zero; the floor keeps the quotient away from 0 / 0
        angle = 2 * torch.atan2(sine, cosine)
        omega = angle.clamp_min(least_distance(x))
        value, slope = function(omega, 2 * torch.atan2(cosine, sine))
        value = from_floor(value, slope, omega, angle, 4 * q[..., 1:].square().sum(-1))
        return value, self.from_frame(x, (slope / (omega / 2).sin())[..., None] * q[..., 1:])

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        eye = torch.eye(3, dtype=x.dtype, device=x.device).expand_as(x)
        if not torch.allclose(x.mT @ x, eye, atol=atol, rtol=rtol):
            return f"`x^T x` is not the identity with atol={atol}, rtol={rtol}"
        return None if bool((torch.linalg.det(x) > 0).all()) else "`x` is a reflection"


def _log_bessel_difference(kappa: Tensor) -> Tensor:
    r""":math:`\log e^{-\kappa}(I_0(\kappa) - I_1(\kappa)) = \log M(\tfrac32, 2, -2\kappa)`, in float64."""
    kappa, dtype = kappa.double(), kappa.dtype
    small, large = kappa.clamp_max(100), 2 * kappa.clamp_min(100)
    # the two cancel by the factor 2 kappa: beyond, the expansion at infinity
    difference = torch.special.i0e(small) - torch.special.i1e(small)
    series = torch.ones_like(large)
    for n in range(9, 0, -1):
        series = 1 + series * (n + 0.5) * (n - 0.5) / (n * large)
    expansion = series.log() - 1.5 * large.log() - 0.5 * math.log(math.pi)
    return torch.where(kappa < 100, difference.log(), expansion).to(dtype)
