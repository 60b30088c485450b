"""The flat torus of any dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from rsgm import heat_kernels
from rsgm.arguments import require_count
from rsgm.heat_kernels import Number, like
from rsgm.manifolds.base import Cut, Manifold
from rsgm.manifolds.grid import Grid, chart_grid
from rsgm.manifolds.sphere import Sphere
from rsgm.manifolds.tensors import expand, from_floor, least_distance, safe_norm, safe_sqrt

#: circles from which on it pays to evaluate the one form of the heat kernel that a point needs
_MANY = 20
_CIRCLE = Sphere(1)


class Torus(Manifold):
    r"""The flat torus :math:`T^n \subset \mathbb R^{2n}`, a product of unit circles; the heat kernel is exact.

    A point is a matrix of rows :math:`(\cos\theta_i, \sin\theta_i)` and not a vector of angles: a function of the
    rows is smooth across :math:`\pm\pi`, and a tangent field that is extended constantly along the radii has its
    Riemannian divergence as its ambient trace, as on spheres. Distances are
    :math:`(\sum_i \Delta\theta_i^2)^{1/2}`, each angle from its chords.

    Arguments:
        dim: the number n of angles; points have shape ``(n, 2)``

    Example:
        >>> torus = Torus(2)
        >>> x, y = torus.from_angles(torch.tensor([[0.0, 3.0], [0.0, -3.0]]))
        >>> torus.dist(x, y)
        tensor(0.2832)
        >>> torus.angles(torus.expmap(x, torus.logmap(x, y)))
        tensor([ 0., -3.])
    """

    name = "Torus"
    reversible = True
    injectivity_radius = math.pi
    angular = True
    smooth_frame = True

    def __init__(self, dim: int = 2) -> None:
        require_count("Torus", dim=dim)
        super().__init__(dim, (dim, 2))
        self.killing_field_count, self.log_volume = dim, dim * math.log(2 * math.pi)
        self.periods = (2 * math.pi,) * dim
        self.unit_cube_extent = (2 * math.pi,) * dim if dim <= 3 else ()

    @property
    def cuts(self) -> list[Cut]:
        """Each circle by itself."""
        return [Cut([axis], math.pi, 0) for axis in range(self.dim)]

    def angles(self, x: Tensor) -> Tensor:
        r"""The angles of points, ``(*batch, n)``, in :math:`(-\pi, \pi]`."""
        angle = torch.atan2(x[..., 1], x[..., 0])
        return torch.where(angle > -math.pi, angle, -angle)

    def from_angles(self, theta: Tensor) -> Tensor:
        """The points at angles ``(*batch, n)``, radians."""
        return torch.stack([theta.cos(), theta.sin()], -1)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """The Euclidean product of the ambient space."""
        return (u * (u if v is None else v)).sum((-2, -1), keepdim=keepdim)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Root of the sum of the squared angles, in radians."""
        distance = safe_norm(2 * torch.atan2(_lengths(x - y), _lengths(x + y)))
        return distance[..., None, None] if keepdim else distance

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """Each row turned by its angular velocity, and renormalised."""
        return self.projx(_turned(x, x[..., 0] * u[..., 1] - x[..., 1] * u[..., 0]))

    retr = expmap

    @override
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        return _CIRCLE.logmap(x, y)

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.atan2(*_sine_cosine(x0, x1))
        xt = self.projx(_turned(x0, expand(t, angle) * angle))
        return xt, self.from_frame(xt, angle)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Angular velocities stay what they are."""
        return self.from_frame(y, (_quarter_turn(x) * v).sum(-1))

    @override
    def projx(self, x: Tensor) -> Tensor:
        return x / (x[..., 0].square() + x[..., 1].square()).sqrt()[..., None]

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Rows without their radial parts."""
        return _CIRCLE.proju(x, u)

    egrad2rgrad = proju

    def frame(self, x: Tensor) -> Tensor:
        """The unit vectors along the angles, counter-clockwise."""
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return eye.reshape(self.dim, *(1,) * (x.dim() - 2), self.dim, 1) * _quarter_turn(x)

    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        """The angular velocities ``components``: each row turned by 90 degrees and scaled."""
        return components[..., None] * _quarter_turn(x)

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return -x

    @override
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        self._check_size(size)
        return _CIRCLE.origin(*size, dtype=dtype, device=device)

    @override
    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        return self.from_frame(x, f)

    @override
    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        return u.new_zeros(u.shape[:-2])

    @override
    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        return _CIRCLE.random_uniform(*size, **options)

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.from_frame(x, torch.randn(x.shape[:-1], generator=generator, dtype=x.dtype, device=x.device))

    def bump_log_constant(self, width: Tensor) -> Tensor:
        r"""Of products of von Mises laws of concentration :math:`\kappa = \text{width}^{-2}`."""
        return -self.dim * (torch.special.i0e(width.pow(-2)).log() + math.log(2 * math.pi))

    def bump_coordinates(self, x: Tensor) -> Tensor:
        """The ambient ones."""
        return x.flatten(-2)

    @override
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return _CIRCLE.bump_sample(centre, width[..., None], generator)

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Exact: a normal tangent vector of variance ``s``, wrapped by the exponential map."""
        z = torch.randn(x0.shape[:-1], generator=generator, dtype=x0.dtype, device=x0.device)
        return _turned(x0, like(s, x0).sqrt()[..., None] * z)

    @override
    def heat_kernel_sample_with_score(
        self, x0: Tensor, s: Number, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """From the angles of the draw, which need not be found in its coordinates."""
        s = like(s, x0)[..., None]
        z = torch.randn(x0.shape[:-1], generator=generator, dtype=x0.dtype, device=x0.device)
        turn = s.sqrt() * z
        x = _turned(x0, turn)
        angle = torch.remainder(turn + math.pi, 2 * math.pi) - math.pi
        distance, kernel = angle.abs(), heat_kernels.CIRCLE
        if s.shape == (len(distance), 1) and self.dim >= _MANY:
            slope = kernel.evaluate_rows(distance, s[:, 0], math.pi - distance)[1]
        else:
            slope = kernel.evaluate(distance, s, math.pi - distance)[1]
        return x, self.from_frame(x, slope * angle.sign())

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        """The circles': the sum of the log-densities, each gradient."""
        # as Sphere(1) has it, without sums over an axis of two, which cost more than the kernel
        sine, cosine = _sine_cosine(x0, x)
        angle, floor, s = torch.atan2(sine.abs(), cosine), least_distance(x), like(s, x)[..., None]
        theta, delta = angle.clamp_min(floor), torch.atan2(sine.abs(), -cosine).clamp_min(floor)
        log_prob, slope = heat_kernels.CIRCLE.evaluate(theta, s, delta)
        log_prob = from_floor(log_prob, slope, theta, angle, sine.square()).sum(-1)
        return log_prob, self.from_frame(x, slope / torch.minimum(theta, delta).sin() * sine)

    def heat_kernel_series_score(self, x0: Tensor, x: Tensor, s: Number, terms: int) -> Tensor:
        """Each circle's, its Fourier series cut after ``terms``."""
        return _CIRCLE.heat_kernel_series_score(x0, x, like(s, x)[..., None], terms)

    @override
    def from_unit_cube(self, u: Tensor) -> Tensor:
        return self._chart(u) if self.dim <= 3 else super().from_unit_cube(u)

    def _grid(self, n: int) -> Grid:
        return chart_grid(self._chart, (2 * math.pi,) * self.dim, math.exp(self.log_volume), n)

    def _chart(self, u: Tensor) -> Tensor:
        return self.from_angles(math.pi * (2 * u - 1))


def _quarter_turn(x: Tensor) -> Tensor:
    return torch.stack([-x[..., 1], x[..., 0]], -1)


def _lengths(u: Tensor) -> Tensor:
    """Those of rows; a sum over an axis of two costs more than the rest."""
    return safe_sqrt(u[..., 0].square() + u[..., 1].square())


def _sine_cosine(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """Of the angles from ``x0`` to ``x1``; the sine from the shorter of the chords to ``x1`` and to its antipode."""
    cosine = x0[..., 0] * x1[..., 0] + x0[..., 1] * x1[..., 1]
    sign = torch.where(cosine < 0, 1.0, -1.0).to(x0.dtype)
    first, second = x1[..., 0] + sign * x0[..., 0], x1[..., 1] + sign * x0[..., 1]
    return x0[..., 0] * second - x0[..., 1] * first, cosine


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    return angle.cos()[..., None] * x + angle.sin()[..., None] * _quarter_turn(x)
