"""Hyperbolic space of any dimension, as one sheet of a hyperboloid."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from rsgm import heat_kernels
from rsgm.arguments import require_count
from rsgm.heat_kernels import Number, like
from rsgm.manifolds.base import Manifold
from rsgm.manifolds.tensors import even_norm, expand, from_floor, least_distance, safe_norm, safe_sqrt

_KERNELS = {2: heat_kernels.HYPERBOLIC2, 3: heat_kernels.HYPERBOLIC3}


class Hyperbolic(Manifold):
    r"""Hyperbolic space :math:`H^d` of curvature -1: the points of :math:`\mathbb R^{d+1}` with
    :math:`\langle x, x\rangle = -1`, :math:`x_0 > 0` for the Minkowski product :math:`-x_0y_0 + \sum_i x_iy_i`.

    A point is its last d coordinates: the first one is recomputed from them, never from a product. Distances come
    from Minkowski chords, :math:`2\,\mathrm{asinh}(|x - y|/2)`, written without cancellation; geoopt's come from
    :math:`\mathrm{arcosh}(-\langle x, y\rangle)` and lose all digits below 3e-4 in float32.

    A coordinate is of the order of the exponential of the distance from the origin, and so is what its rounding counts
    for: in float32 points up to about 6 from the origin are good for three digits.

    The heat kernel is exact for d = 2 and 3, with samples up to s = 25 (NaN beyond); on other spaces
    `heat_kernel_sample` is a geodesic random walk. The volume is infinite: the process is `Langevin`.
    Vector fields that an ambient network gives grow with the coordinates; `FrameField` on `BallCoordinates` does not.

    Arguments:
        dim: the dimension d; points have shape ``(d + 1,)``

    Example:
        >>> plane = Hyperbolic(2)
        >>> x = plane.from_ball(torch.tensor([0.5, 0.0]))
        >>> plane.dist(plane.origin(3), x)
        tensor(1.0986)
    """

    name = "Hyperbolic"
    reversible = True
    log_volume = math.inf
    smooth_frame = True

    def __init__(self, dim: int = 2) -> None:
        require_count("Hyperbolic", dim=dim)
        super().__init__(dim, (dim + 1,))
        self.killing_field_count, self.periods = dim * (dim + 1) // 2, (math.inf,) if dim == 1 else ()

    # conversions

    def to_ball(self, x: Tensor) -> Tensor:
        r"""Coordinates in the Poincaré ball, ``(..., dim)``: :math:`x_i / (1 + x_0)`."""
        return x[..., 1:] / (1 + x[..., :1])

    def from_ball(self, b: Tensor) -> Tensor:
        r"""The point of the Poincaré ball's :math:`b`, :math:`|b| < 1`."""
        return self._point(2 * b / (1 - b.square().sum(-1, keepdim=True)))

    # what geoopt asks of a manifold

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """Minkowski product of ambient vectors."""
        product = u * (u if v is None else v)
        return product[..., 1:].sum(-1, keepdim=keepdim) - (product[..., :1] if keepdim else product[..., 0])

    def squared_norm(self, x: Tensor, u: Tensor) -> Tensor:
        """Squared length of a tangent vector: never negative, as the difference of two squares may be."""
        return self._components(x, u).square().sum(-1)

    def projx(self, x: Tensor) -> Tensor:
        """The point over the last ``dim`` coordinates."""
        return self._point(x[..., 1:])

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        r""":math:`u + \langle x, u\rangle x`, through the frame."""
        return self.egrad2rgrad(x, torch.cat([-u[..., :1], u[..., 1:]], -1))

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The gradient whose inner products are the directional derivatives ``u`` (a covector)."""
        along = u[..., :1] + (x[..., 1:] * u[..., 1:]).sum(-1, keepdim=True) / (1 + x[..., :1])
        return self._lift(x, u[..., 1:] + along * x[..., 1:])

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        r""":math:`\cosh|u|\,x + \mathrm{sinhc}|u|\,u`."""
        components = self._components(x, u)
        cosh, sinhc = _cosh_sinhc(components.square().sum(-1, keepdim=True))
        # the vector of exactly that length: what they differ by would be multiplied by the exponential of it
        return self._point(cosh * x[..., 1:] + self._lift(x, sinhc * components)[..., 1:])

    @override
    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        return self.expmap(x, u)

    @override
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        distance = 2 * torch.asinh(safe_sqrt(self._chord(x, y)) / 2)
        return distance if keepdim else distance[..., 0]

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector at ``x`` that leads to ``y``."""
        square = self._chord(x, y)
        small = square < 1e-6
        chord = torch.where(small, torch.ones_like(square), square).sqrt()
        # d / sinh d, where sinh d is chord * sqrt(1 + chord^2 / 4)
        ratio = 2 * torch.asinh(chord / 2) / (chord * (1 + square / 4).sqrt())
        ratio = torch.where(small, 1 - square / 6 + square.square() / 30, ratio)
        return self._vector(x, ratio * (y[..., 1:] - x[..., 1:] - square / 2 * x[..., 1:]))

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t, components = expand(t, x0), self._components(x0, self.logmap(x0, x1))
        square = components.square().sum(-1, keepdim=True)
        cosh, sinhc = _cosh_sinhc(t.square() * square)
        along, space = self._lift(x0, components)[..., 1:], x0[..., 1:]
        xt = self._point(cosh * space + t * sinhc * along)
        return xt, self._vector(xt, cosh * along + t * square * sinhc * space)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        r""":math:`v + \frac{\langle y, v\rangle}{1 - \langle x, y\rangle}(x + y)`: parallel along the geodesic."""
        weight = self.inner(x, y - x, v, keepdim=True) / (2 + self._chord(x, y) / 2)
        return self._vector(y, v[..., 1:] + weight * (x + y)[..., 1:])

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        ok = torch.allclose(x, self.projx(x), atol=atol, rtol=rtol)
        return None if ok else f"x0 != sqrt(1 + x1^2 + ...) with atol={atol}, rtol={rtol}"

    def _vector_fault(self, x: Tensor, u: Tensor, atol: float, rtol: float) -> str | None:
        ok = torch.allclose(u, self._vector(x, u[..., 1:]).expand_as(u), atol=atol, rtol=rtol)
        return None if ok else f"<u, x> != 0 with atol={atol}, rtol={rtol}"

    # what rsgm asks

    def frame(self, x: Tensor) -> Tensor:
        """The axes at the origin, carried to ``x`` by the boost along the geodesic; smooth everywhere."""
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return self._lift(x, eye.reshape(self.dim, *(1,) * (x.dim() - 1), self.dim))

    @override
    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        return self._lift(x, components)

    @override
    def frame_divergence(self, x: Tensor) -> Tensor:
        return (self.dim - 1) * self.to_ball(x)

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return self.dim * x

    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        """The lowest point, the first axis."""
        self._check_size(size)
        x = torch.zeros(size, dtype=dtype, device=device)
        x[..., 0] = 1
        return x

    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        """Killing fields: ``dim`` boosts, then the rotations of the other coordinates."""
        time, space, boosts = x[..., :1], x[..., 1:], f[..., : self.dim]
        row, column = torch.triu_indices(self.dim, self.dim, 1, device=x.device)
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        rotations = space[..., row, None] * eye[column] - space[..., column, None] * eye[row]
        moved = boosts * time + (f[..., self.dim :, None] * rotations).sum(-2)
        return torch.cat([(boosts * space).sum(-1, keepdim=True), moved], -1)

    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        """``(dim - 1) log(sinh r / r)``."""
        return (self.dim - 1) * heat_kernels.log_sinhc(even_norm(self._components(x, u)))[0]

    def log_det_exp_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """``(dim - 1) (coth r - 1/r)`` along the geodesic from ``x``."""
        back = self.logmap(y, x)
        return -(self.dim - 1) * heat_kernels.log_sinhc(safe_norm(self._components(y, back), keepdim=True))[1] * back

    def log_det_exp_laplacian(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`k(F' + k F \coth r)` with ``k = dim - 1`` and ``F = coth r - 1/r``, in terms of ``F / r``."""
        k, r = self.dim - 1, self.dist(x, y)
        slope = heat_kernels.log_sinhc(r)[1]
        square = (r * slope).square()
        return k * (1 - square - 2 * slope + k * (square + slope))

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._lift(x, torch.randn(x[..., 1:].shape, generator=generator, dtype=x.dtype, device=x.device))

    def bump_log_constant(self, width: Tensor) -> Tensor:
        """Of wrapped normal laws: of ``exp`` of a normal tangent vector of standard deviation ``width``."""
        return -self.dim * (width.log() + 0.5 * math.log(2 * math.pi))

    def bump_coordinates(self, x: Tensor) -> Tensor:
        """Those of the logarithm at the origin, which makes no distance longer."""
        space = x[..., 1:]
        length = safe_norm(space, keepdim=True)
        floor = torch.finfo(x.dtype).tiny
        return torch.where(length > 0, length.asinh() / length.clamp_min(floor), 1.0) * space

    def bump_pair(self, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """The squared distance, and minus the logarithm of the determinant of ``exp``."""
        u = self._components(centre, self.logmap(centre, x))
        return u.square().sum(-1), -(self.dim - 1) * heat_kernels.log_sinhc(even_norm(u))[0]

    @override
    def bump_table(self, x: Tensor, centres: Tensor, error: float) -> tuple[Tensor, Tensor]:
        return self.bump_pair(x[:, None], centres)

    @override
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.expmap(centre, width[..., None] * self.random_tangent(centre, generator))

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Exact for d = 2, 3: a Gaussian tangent vector with its length mapped to the kernel's radial law."""
        if self.dim not in _KERNELS:
            return super().heat_kernel_sample(x0, s, generator)
        z = self.random_tangent(x0, generator)
        radius = self.squared_norm(x0, z).sqrt()
        length = _KERNELS[self.dim].sample_distance(radius, s)
        return self.expmap(x0, z * (length / radius.clamp_min(1e-30))[..., None])

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        """Exact for d = 2, 3."""
        if self.dim not in _KERNELS:
            return super().heat_kernel(x0, x, s)
        # score / distance has a limit at 0; the floor keeps the quotient away from 0 / 0
        distance = self.dist(x0, x)
        r = distance.clamp_min(least_distance(x))
        log_prob, slope = _KERNELS[self.dim].evaluate(*torch.broadcast_tensors(r, like(s, r)))
        log_prob = from_floor(log_prob, slope, r, distance, self._chord(x0, x)[..., 0])
        return log_prob, -expand(slope / r, x) * self.logmap(x, x0)

    # coordinates: time and tangency are always recomputed from the space part, whose rounding alone then counts

    def _point(self, space: Tensor) -> Tensor:
        return torch.cat([(1 + space.square().sum(-1, keepdim=True)).sqrt(), space], -1)

    def _vector(self, x: Tensor, space: Tensor) -> Tensor:
        return torch.cat([(x[..., 1:] * space).sum(-1, keepdim=True) / x[..., :1], space], -1)

    def _lift(self, x: Tensor, components: Tensor) -> Tensor:
        along = (x[..., 1:] * components).sum(-1, keepdim=True)
        return torch.cat([along, components + along / (1 + x[..., :1]) * x[..., 1:]], -1)

    def _components(self, x: Tensor, u: Tensor) -> Tensor:
        along = (x[..., 1:] * u[..., 1:]).sum(-1, keepdim=True)
        return u[..., 1:] - along / (x[..., :1] * (1 + x[..., :1])) * x[..., 1:]

    def _chord(self, x: Tensor, y: Tensor) -> Tensor:
        """The squared Minkowski chord 2 (cosh d - 1), ``(*batch, 1)``, as a sum of positive terms."""
        a, b, times = x[..., 1:], y[..., 1:], x[..., :1] * y[..., :1]
        dot = (a * b).sum(-1, keepdim=True)
        row, column = torch.triu_indices(self.dim, self.dim, 1, device=x.device)
        gap, middle = a - b, (a + b) / 2
        wedge = gap[..., row] * middle[..., column] - gap[..., column] * middle[..., row]
        near = (gap.square().sum(-1, keepdim=True) + wedge.square().sum(-1, keepdim=True)) / (1 + times + dot.relu())
        square_a, square_b = a.square().sum(-1, keepdim=True), b.square().sum(-1, keepdim=True)
        # x0 y0 - 1 without the subtraction
        far = (square_a + square_b + square_a * square_b) / (1 + times) - dot
        return 2 * torch.where(dot > 0, near, far)


def _cosh_sinhc(square: Tensor) -> tuple[Tensor, Tensor]:
    """``cosh r`` and ``sinh r / r`` of the square of r."""
    small = square < 1e-8
    r = torch.where(small, torch.ones_like(square), square).sqrt()
    return torch.where(small, 1 + square / 2, r.cosh()), torch.where(small, 1 + square / 6, r.sinh() / r)
