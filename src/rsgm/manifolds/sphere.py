"""The unit sphere of any dimension."""

from __future__ import annotations

import math
from typing import Any

import geoopt
import torch
from torch import Tensor
from typing_extensions import override

from rsgm import heat_kernels
from rsgm.arguments import require_count
from rsgm.heat_kernels import Number
from rsgm.manifolds.base import Manifold, RadialFunction
from rsgm.manifolds.tensors import even_norm, expand, from_floor, least_distance, log_sinc, safe_norm
from rsgm.manifolds.von_mises_fisher import draw_heights, log_constant

#: numbers of points that are drawn at a time: temporary results stay in a processor's cache
_PIECE = 2**15
_KERNELS = {1: heat_kernels.CIRCLE, 2: heat_kernels.SPHERE2, 3: heat_kernels.SPHERE3}


class Sphere(Manifold, geoopt.Sphere):
    r"""The unit sphere :math:`S^d \subset \mathbb R^{d+1}`.

    Distances and logarithms come from chords, :math:`\theta = 2\,\mathrm{atan2}(|x-y|, |x+y|)`, and keep their
    relative accuracy in float32 at small angles and near :math:`\pi`, where geoopt's lose all digits.

    The heat kernel is exact (density, score and samples) for d = 1, 2, 3. On other spheres
    `heat_kernel_sample` is a geodesic random walk of `walk_steps` steps, and there is no score target: train
    with implicit or sliced score matching.

    Arguments:
        dim: the dimension d; points have shape ``(d + 1,)``

    Example:
        >>> sphere = Sphere(2)
        >>> north, east = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
        >>> sphere.dist(north, east)
        tensor(1.5708)
    """

    angular = True

    def __init__(self, dim: int = 2) -> None:
        require_count("Sphere", dim=dim)
        super().__init__(dim, (dim + 1,))
        self.unit_cube_extent = {1: (2 * math.pi,), 2: (2.0, 2 * math.pi), 3: (1.5, 5.0, 5.0)}.get(dim, ())
        self.periods = (2 * math.pi,) if dim == 1 else ()
        self.injectivity_radius, self.killing_field_count = math.pi, dim * (dim + 1) // 2
        self.log_volume = math.log(2) + (dim + 1) / 2 * math.log(math.pi) - math.lgamma((dim + 1) / 2)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """The Euclidean product of the ambient space, of no vectors too, of which geoopt's fails."""
        return (u * (u if v is None else v)).sum(-1, keepdim=keepdim)

    def angles(self, x: Tensor, y: Tensor, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        r"""The distance :math:`\theta` and its complement :math:`\pi - \theta`, each accurate where it is small."""
        near, far = safe_norm(x - y, keepdim), safe_norm(x + y, keepdim)
        return 2 * torch.atan2(near, far), 2 * torch.atan2(far, near)

    @override
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        return 2 * torch.atan2(safe_norm(x - y, keepdim), safe_norm(x + y, keepdim))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        r""":math:`\cos|u|\,x + \mathrm{sinc}|u|\,u`, renormalised."""
        square = (u * u).sum(-1, keepdim=True)
        small = square < 1e-8
        r = torch.where(small, torch.ones_like(square), square).sqrt()
        cos = torch.where(small, 1 - square / 2, r.cos())
        sinc = torch.where(small, 1 - square / 6, r.sin() / r)
        return self.projx(cos * x + sinc * u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest tangent vector at ``x`` that leads to ``y``; at the antipode, one of them."""
        theta, delta = self.angles(x, y, keepdim=True)
        direction, sine = self._away(y, x, theta, delta)
        # the sine of the smaller of the two angles: relative accuracy at both ends
        ratio = torch.where(sine > 0, theta / sine.clamp_min(torch.finfo(x.dtype).tiny), torch.ones_like(theta))
        antipode = (delta == 0) & (theta > 0)
        return torch.where(antipode, math.pi * self._some_tangent(x), -ratio * direction)

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        near, far = (torch.linalg.vector_norm(chord, dim=-1, keepdim=True) for chord in (x1 - x0, x1 + x0))
        length = 2 * torch.atan2(near, far)
        ahead = self.proju(x0, torch.where(far < near, x1 + x0, x1 - x0))
        sine = torch.linalg.vector_norm(ahead, dim=-1, keepdim=True)
        # at the antipode one of all directions; at the length zero it does not count
        unit = torch.where(sine > 0, ahead / sine.clamp_min(torch.finfo(x0.dtype).tiny), self._some_tangent(x0))
        angle = expand(t, x0) * length
        cos, sin = angle.cos(), angle.sin()
        return self.projx(cos * x0 + sin * unit), length * (cos * unit - sin * x0)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        r""":math:`v - \frac{\langle y, v\rangle}{1 + \langle x, y\rangle}(x + y)`: parallel along the geodesic."""
        middle = x + y
        # 1 + <x, y> = |x + y|^2 / 2
        weight = 2 * (y * v).sum(-1, keepdim=True) / (middle * middle).sum(-1, keepdim=True).clamp_min(1e-30)
        return v - weight * middle

    def frame(self, x: Tensor) -> Tensor:
        """The columns of the Householder reflection that maps ``x`` to an axis; smooth but for one equator."""
        w = _mirror(x)
        scaled = w / (1 + x[..., :1].abs())
        eye = torch.eye(self.dim + 1, dtype=x.dtype, device=x.device)
        return torch.stack([eye[a] - scaled[..., a : a + 1] * w for a in range(1, self.dim + 1)])

    @override
    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        along = (components * x[..., 1:]).sum(-1, keepdim=True) / (1 + x[..., :1].abs())
        return torch.nn.functional.pad(components, (1, 0)) - along * _mirror(x)

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return -self.dim * x

    @override
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        self._check_size(size)
        x = torch.zeros(size, dtype=dtype, device=device)
        x[..., 0] = 1
        return x

    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        r"""Rotations, :math:`\Omega x` with the antisymmetric :math:`\Omega` of entries ``f``; on S², ``f × x``."""
        if self.dim == 2:
            return torch.linalg.cross(f, x.expand(*f.shape[:-1], 3))
        row, column = torch.triu_indices(self.dim + 1, self.dim + 1, 1, device=x.device)
        eye = torch.eye(self.dim + 1, dtype=x.dtype, device=x.device)
        # K_ij = x_i e_j - x_j e_i
        fields = x[..., row, None] * eye[column] - x[..., column, None] * eye[row]
        return (f[..., None] * fields).sum(-2)

    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        """``(dim - 1) log(sin r / r)``."""
        return (self.dim - 1) * log_sinc(even_norm(u))

    @override
    def normal_coordinates(self, x0: Tensor, frame: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        # all in one product, in double precision, of x less what rounding left of x0 across itself
        axes = torch.cat([x0[None], frame]).movedim(0, 1).double()
        own = torch.cat([torch.zeros_like(axes[:, :1, :1]), axes[:, 1:] @ axes[:, 0, :, None]], 1)
        cos, *across = (axes @ x.double().T - own).to(x0.dtype).unbind(1)
        square = sum(part * part for part in across)
        antipode = (square == 0) & (cos < 0)
        # near the centre as of `even_norm`
        sin = torch.where(antipode, torch.ones_like(square), square + 1e-18 * (cos > 0)).sqrt()
        theta = torch.atan2(torch.where(antipode, square, sin), cos)
        ratio = theta / sin
        v = torch.stack([ratio * part for part in across], 1)
        if bool(antipode.any()):
            v = torch.where(antipode[:, None], theta[:, None] / math.sqrt(self.dim), v)
        return v.mT, (self.dim - 1) * log_sinc(theta)

    @override
    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        return self.projx(torch.randn(*size, **options))

    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The tangent part of an ambient normal vector."""
        return self.proju(x, torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device))

    def bump_log_constant(self, width: Tensor) -> Tensor:
        r"""Of von Mises-Fisher laws of concentration :math:`\kappa = \text{width}^{-2}` (Mardia & Jupp 2000, 9.3.4)."""
        return log_constant(width.pow(-2), self.dim)

    def bump_coordinates(self, x: Tensor) -> Tensor:
        r"""The ambient ones: with chords, :math:`-\kappa|x-\mu|^2/2` is exact at widths where
        :math:`\kappa\langle x, \mu\rangle` would cancel."""
        return x

    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Von Mises-Fisher draws; the centre at width zero, NaN where the width is NaN."""
        height = draw_heights(width, self.dim, centre.shape[:-1], generator)
        rows = max(1, _PIECE // (self.dim + 1))
        pieces = zip(centre.reshape(-1, self.dim + 1).split(rows), height.reshape(-1, 1).split(rows), strict=True)
        return torch.cat([self._about(*piece, generator) for piece in pieces]).view(centre.shape)

    def _about(self, centre: Tensor, height: Tensor, generator: torch.Generator | None) -> Tensor:
        """Points in random directions from ``centre`` ``(n, dim + 1)``, at the cosines ``1 - height``, ``(n, 1)``."""
        options = {"generator": generator, "dtype": centre.dtype, "device": centre.device}
        if self.dim == 2:
            angle = 2 * math.pi * torch.rand(len(centre), **options)
            direction = torch.stack([angle.cos(), angle.sin()], -1)
        else:
            direction = torch.randn(centre[:, 1:].shape, **options)
            direction = direction / direction.norm(dim=-1, keepdim=True)
        cosine, sine = 1 - height, (height * (2 - height)).sqrt()
        # the tangent vector of the components sine * direction in `frame`, with two arrays of its size
        first, rest = centre[..., :1], centre[..., 1:]
        lean = sine * torch.einsum("ni,ni->n", direction, rest)[:, None]
        start = cosine * first - torch.where(first >= 0, lean, -lean)
        along = (cosine - lean / (1 + first.abs())) * rest
        return self.projx(torch.cat([start, torch.addcmul(along, sine, direction)], -1))

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Exact for d = 1, 2, 3: a Gaussian tangent vector with its length mapped to the kernel's radial law."""
        if self.dim not in _KERNELS:
            return super().heat_kernel_sample(x0, s, generator)
        z = self.random_tangent(x0, generator)
        radius = safe_norm(z)
        length = _KERNELS[self.dim].sample_distance(radius, s)
        return self.expmap(x0, z * (length / radius.clamp_min(1e-30))[..., None])

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        """Exact for d = 1, 2, 3."""
        if self.dim not in _KERNELS:
            return super().heat_kernel(x0, x, s)
        return self._radial(x0, x, s, lambda theta, delta: _KERNELS[self.dim].evaluate(theta, s, delta))

    @override
    def heat_kernel_mixture_score(self, x0: Tensor, counts: Tensor, x: Tensor, s: Tensor) -> Tensor:
        if self.dim not in _KERNELS:
            return super().heat_kernel_mixture_score(x0, counts, x, s)
        theta, delta = self.angles(x0, x[:, None])
        floor = least_distance(x)
        lower, upper = theta.clamp_min(floor), delta.clamp_min(floor)
        log_prob, slope = _KERNELS[self.dim].evaluate_rows(lower, s, upper)
        weights = log_prob.masked_fill(~counts, -math.inf).softmax(1) * slope / torch.minimum(lower, upper).sin()
        # the directions of the gradients are tangent parts of chords, and these are added before they are projected
        score = -self.proju(x, torch.einsum("ij,ijk->ik", weights, x0 - x[:, None]))
        # the sum may be much longer than its tangent part: so is the rounding of that
        return self.proju(x, score)

    def heat_kernel_series_score(self, x0: Tensor, x: Tensor, s: Number, terms: int) -> Tensor:
        """The gradient of the Gegenbauer series cut after degree ``terms``."""

        def score(theta: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
            return theta, heat_kernels.truncated_series_score(self.dim, theta, s, terms, delta)

        return self._radial(x0, x, s, score)[1]

    def from_unit_cube(self, u: Tensor) -> Tensor:
        """Angle; height and longitude (Archimedes); Hopf coordinates; for d = 1, 2, 3."""
        if self.dim > 3:
            return super().from_unit_cube(u)
        angle = math.pi * (2 * u[..., -1:] - 1)
        circle = torch.cat([angle.cos(), angle.sin()], -1)
        if self.dim == 1:
            return circle
        if self.dim == 2:
            height = 2 * u[..., :1] - 1
            return torch.cat([((1 - height) * (1 + height)).sqrt() * circle, height], -1)
        other = math.pi * (2 * u[..., 1:2] - 1)
        return torch.cat(
            [u[..., :1].sqrt() * torch.cat([other.cos(), other.sin()], -1), (1 - u[..., :1]).sqrt() * circle], -1
        )

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        # as the base class, by the largest coordinate of each point alone; none is off where lengths are within rtol
        length = torch.linalg.vector_norm(x, dim=-1)
        ok = bool(((length - 1).abs() <= rtol).all())
        if not ok:
            largest = x.abs().amax(-1) / length
            ok = bool(((length - 1).abs() * largest <= atol + rtol * largest).all())
        return None if ok else f"`x` is not of length one, with atol={atol}, rtol={rtol}"

    def _away(self, x0: Tensor, x: Tensor, theta: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """``sin(theta)`` times the unit vector at ``x`` that leads away from ``x0``, and the sine itself."""
        # P_x(x0) from the shorter chord: the subtraction is exact where the sine is small
        chord = torch.where(delta < theta, x0 + x, x0 - x)
        return -self.proju(x, chord), torch.minimum(theta, delta).sin()

    def _radial(self, x0: Tensor, x: Tensor, s: Number, function: RadialFunction) -> tuple[Tensor, Tensor]:
        """A log-density of the distance from ``x0`` at the time s and its gradient, of its value and derivative."""
        theta, delta = self.angles(x0, x)
        # score / sin has finite limits at both ends; the floor keeps the quotient away from 0 / 0
        floor = least_distance(x)
        lower, upper = theta.clamp_min(floor), delta.clamp_min(floor)
        away, _ = self._away(x0, x, theta[..., None], delta[..., None])
        value, slope = function(lower, upper)
        value = from_floor(value, slope, lower, theta, (x - x0).square().sum(-1))
        return value, (slope / torch.minimum(lower, upper).sin())[..., None] * away

    def _some_tangent(self, x: Tensor) -> Tensor:
        # not one_hot, which vmap does not know
        axis = (torch.arange(self.dim + 1, device=x.device) == x.abs().argmin(-1, keepdim=True)).to(x.dtype)
        u = self.proju(x, axis)
        return u / u.norm(dim=-1, keepdim=True)


def _mirror(x: Tensor) -> Tensor:
    """The normal of the hyperplane that reflects ``x`` to the first axis or its opposite, whichever is farther."""
    sign = torch.where(x[..., :1] >= 0, 1.0, -1.0).to(x.dtype)
    return torch.cat([x[..., :1] + sign, x[..., 1:]], -1)
