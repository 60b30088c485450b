"""Any manifold of geoopt, known by its exponential map and its tangent projection alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.manifolds.base import Cut, Manifold

# central differences with the nodes 1, 2, 3 times a step: exact to its sixth power, about 1e-11 in float64
_STEP, _FIRST, _SECOND = 0.01, (3 / 4, -3 / 20, 1 / 60), (3 / 2, -3 / 20, 1 / 90)


class Adapted(Manifold):
    r"""A manifold of geoopt.

    It needs `expmap`, `inner`, `proju`, `projx` and `origin`. Frames come from the projected ambient basis, Brownian
    motion from a geodesic random walk, and the divergence of a tangent field v in the ambient coordinates, which
    need not be isometric, is

    .. math:: \mathrm{div}\,v = \sum_a \langle e_a, Dv\,e_a - D^2\exp_x(0)[e_a, v]\rangle_x.

    The second derivative of exp, and that of the projection, are differences along geodesics in float64: geoopt's
    functions are not differentiated (the gradient of `Sphere.expmap` at 0 is NaN, and Stiefel's `projx` is an SVD
    with equal singular values). `projx` differentiates to `proju`.

    Distances, logarithms and transports are geoopt's where it has them, with its accuracy; else a transport is the
    tangent projection. The volume of exp comes from its differences too, so that `WrappedNormal` and `Langevin` are
    there where geoopt has logarithms. There are no bumps and no heat kernels; on a compact manifold `Brownian` needs
    ``volume`` and ``isotropic``, and its loss is `ImplicitScoreMatching`.

    In coordinates with an edge, as those of the Poincaré ball and of positive definite matrices, the field of an
    ambient network does not vanish towards the edge: its flow leaves the manifold, and what it gives far from the data
    is no density (its integral is not one). There, use `Hyperbolic`, whose `Hyperbolic.from_ball` takes the ball's
    points, and the matrix logarithms of positive definite matrices in `Euclidean`.

    Arguments:
        manifold: factory of the geoopt manifold
        shape: of one point
        volume: Riemannian volume; None where it is infinite or not known
        isotropic: whether `projx` of an ambient standard normal point is uniform, as on spheres and Stiefel manifolds
        radius: length up to which all geodesics are shortest, such as π on the unit sphere; `WrappedNormal` and
            `Langevin` need it where there is a volume. None is infinite where there is none

    Raises:
        ValueError: for what is no factory, such as a manifold that is already made, for a manifold whose `proju` is not
            a projection (`CanonicalStiefel`), or a volume or a radius that is none

    Example:
        >>> frames = Adapted(geoopt.EuclideanStiefel, (3, 2), volume=8 * 2**0.5 * math.pi**2, isotropic=True)
        >>> frames.dim
        3
    """

    name = "Adapted"
    reversible = False
    without_uniform = (
        "if it is compact give its volume. The Poincaré ball is Hyperbolic in other coordinates (from_ball), and "
        "positive definite matrices have logarithms in Euclidean space: models there have a density"
    )

    def __init__(
        self,
        manifold: Callable[[], geoopt.Manifold] = geoopt.EuclideanStiefel,
        shape: Sequence[int] = (3, 2),
        volume: float | None = None,
        isotropic: bool = False,
        radius: float | None = None,
    ) -> None:
        if isinstance(manifold, nn.Module) or not callable(manifold):
            raise ValueError(
                f"Adapted: expected a class of geoopt or a factory, such as geoopt.EuclideanStiefel, found "
                f"{manifold!r}; leave out the brackets, or put its arguments into functools.partial."
            )
        # the dimension is counted below
        super().__init__(0, shape)
        # a class and its factory are then described alike
        self.manifold, self.base = functools.partial(manifold), manifold()
        if volume is not None and not 0 < volume < math.inf:
            raise ValueError(f"Adapted: volume must be positive and finite, or None, found {volume}.")
        if radius is not None and not radius > 0:
            raise ValueError(f"Adapted: radius must be positive, or None, found {radius}.")
        self.volume, self.isotropic, self.radius = volume, isotropic, radius
        self.injectivity_radius = math.inf if radius is None else radius
        self.log_volume = math.inf if volume is None else math.log(volume)
        x = self.origin(*self.shape, dtype=torch.float64)
        basis = self._basis(x)
        tangents = self.base.proju(x.expand_as(basis), basis)
        if not torch.allclose(self.base.proju(x.expand_as(basis), tangents), tangents, atol=1e-8):
            raise ValueError(f"Adapted: proju of {self.base} is not a projection: it changes tangent vectors.")
        self.dim = int(torch.linalg.matrix_rank(tangents.flatten(1), rtol=1e-8))

    @override
    def extra_repr(self) -> str:
        return f"{str(self.base).removesuffix(' manifold')}, dim={self.dim}"

    @property
    def cuts(self) -> list[Cut]:
        """By ``radius``.

        Raises:
            ValueError: where there is a volume and no radius
        """
        if self.radius is None and self.volume is not None:
            raise ValueError(
                f"{self} has a finite volume, so that geodesics meet again; give Adapted the radius up to which they "
                "are shortest, such as math.pi on the unit sphere."
            )
        return super().cuts

    # geoopt's own

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """The Riemannian inner product, as geoopt extends it to ambient vectors."""
        # without keepdim geoopt's Poincaré ball multiplies every point's product with every other's factor
        product = self.base.inner(x, u, u if v is None else v, keepdim=True)
        return product if keepdim else product.flatten(-len(self.shape))[..., 0]

    def projx(self, x: Tensor) -> Tensor:
        """The nearest point, or geoopt's choice of one; its derivative is the tangent projection."""
        fixed = x.detach()
        point = self.base.projx(fixed)
        return point + self.base.proju(point, x - fixed)

    @override
    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        x, u = torch.broadcast_tensors(x, u)
        return self.base.proju(x, u)

    @override
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        return self.base.egrad2rgrad(x, u)

    @override
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self.base.expmap(x, u)

    @override
    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        return self.base.retr(x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The logarithm, where geoopt has it."""
        return self._given("logmap", x, y)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The distance, where geoopt has it."""
        return self._given("dist", x, y, keepdim=keepdim)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The transport, where geoopt has it; elsewhere the tangent projection, as on geoopt's Stiefel manifolds."""
        try:
            return self.base.transp(x, y, v)
        except NotImplementedError:
            return self.proju(y, v)

    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        """Geoopt's origin, or the point that it draws with ``seed``, repeated."""
        self._check_size(size)
        x = self.base.origin(*self.shape, dtype=dtype, device=device, seed=seed)
        return x.as_subclass(Tensor).expand(size).clone()

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        return self.base.check_point_on_manifold(x, explain=True, atol=atol, rtol=rtol)[1]

    def _vector_fault(self, x: Tensor, u: Tensor, atol: float, rtol: float) -> str | None:
        return self.base.check_vector_on_tangent(x, u, ok_point=True, explain=True, atol=atol, rtol=rtol)[1]

    # what rsgm asks

    @torch.no_grad()
    def frame(self, x: Tensor) -> Tensor:
        """The projected ambient basis, made orthonormal by the eigenvectors of its Gram matrix; not differentiable."""
        return self._frame(x.double()).to(x.dtype)

    @torch.no_grad()
    def projection_trace(self, x: Tensor) -> Tensor:
        """From the derivative of the projection along geodesics, and from `connection_trace`; not differentiable."""
        y = x.double()
        frame, basis = self._frame(y), self._basis(y)
        value = self.inner(y, self._volume_gradient(y, frame), self.proju(y, basis))
        for e in frame:
            turn = torch.zeros_like(basis)
            for k, weight in enumerate(_FIRST, start=1):
                ends = (self.base.expmap(y, sign * k * _STEP * e) for sign in (1, -1))
                ahead, behind = (self.proju(end, basis) for end in ends)
                turn = turn + weight / _STEP * (ahead - behind)
            value = value + self.inner(y, e, turn)
        # the vector whose inner products with the ambient basis these are
        gram = self.inner(y, basis[:, None], basis[None]).movedim((0, 1), (-2, -1))
        components = torch.linalg.solve(gram, value.movedim(0, -1)[..., None])
        return components[..., 0].unflatten(-1, self.shape).to(x.dtype)

    def connection_trace(self, x: Tensor, v: Tensor) -> Tensor:
        """From second differences of exp along the frame."""
        with torch.no_grad():
            y = x.double()
            gradient = self._volume_gradient(y, self._frame(y)).to(x.dtype)
        return self.inner(x, gradient, v)

    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        """From first differences of exp along the frame; differentiable in ``u``, where geoopt's exp is.

        Raises:
            NotImplementedError: where geoopt has no logarithm, without which no density needs it
        """
        self.logmap(x, x)
        start, v = torch.broadcast_tensors(x.double(), u.double())
        with torch.no_grad():
            frame = self._frame(start)
        start, moved = start.expand_as(frame), torch.zeros_like(frame)
        for k, weight in enumerate(_FIRST, start=1):
            ahead, behind = (self.base.expmap(start, v + sign * k * _STEP * frame) for sign in (1, -1))
            moved = moved + weight / _STEP * (ahead - behind)
        gram = self.inner(self.base.expmap(start[0], v), moved[:, None], moved[None]).movedim((0, 1), (-2, -1))
        return (torch.linalg.slogdet(gram)[1] / 2).to(u.dtype)

    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        """Projected normal draws, where these are uniform."""
        if not self.isotropic:
            raise NotImplementedError(
                f"{self} has no uniform draws: say isotropic=True where projx of a normal point is uniform."
            )
        return self.projx(torch.randn(*size, **options))

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        batch = x.shape[: x.dim() - len(self.shape)]
        z = torch.randn(self.dim, *batch, generator=generator, dtype=x.dtype, device=x.device)
        return self.from_frame(x, z.movedim(0, -1))

    @override
    def bump_log_constant(self, width: Tensor) -> Tensor:
        raise self._no_bump()

    @override
    def bump_coordinates(self, x: Tensor) -> Tensor:
        raise self._no_bump()

    @override
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        raise self._no_bump()

    def _no_bump(self) -> NotImplementedError:
        return NotImplementedError(f"{self} has no normalised bump, and so no kernel density.")

    def _given(self, method: str, *arguments: Tensor, **options: bool) -> Tensor:
        try:
            return getattr(self.base, method)(*arguments, **options)
        except NotImplementedError as error:
            raise NotImplementedError(f"{self} has no {method}: geoopt provides none.") from error

    def _basis(self, x: Tensor) -> Tensor:
        """The ambient basis, ``(n, *batch, *shape)``."""
        n, batch = torch.Size(self.shape).numel(), x.shape[: x.dim() - len(self.shape)]
        eye = torch.eye(n, dtype=x.dtype, device=x.device)
        return eye.reshape(n, *(1,) * len(batch), *self.shape).expand(n, *x.shape)

    def _frame(self, x: Tensor) -> Tensor:
        tangents = self.proju(x, self._basis(x))
        gram = self.inner(x, tangents[:, None], tangents[None]).movedim((0, 1), (-2, -1))
        values, vectors = torch.linalg.eigh(gram)
        weights = vectors[..., -self.dim :] / values[..., None, -self.dim :].sqrt()
        return torch.einsum("...ia,i...k->a...k", weights, tangents.flatten(x.dim() + 1 - len(self.shape))).reshape(
            self.dim, *x.shape
        )

    def _volume_gradient(self, x: Tensor, frame: Tensor) -> Tensor:
        """The tangent vector ``T`` with ``connection_trace(x, v) = <T, v>``."""
        total, single = torch.zeros_like(x), self._acceleration(x, frame)
        for e, own in zip(frame, single, strict=True):
            # polarised: the second derivative of exp in two directions, and never along a vector of length zero
            bend = (self._acceleration(x, e + frame) - own - single) / 2
            components = -self.inner(x, e, bend)
            total = total + (components.reshape(*components.shape, *(1,) * len(self.shape)) * frame).sum(0)
        return total

    def _acceleration(self, x: Tensor, u: Tensor) -> Tensor:
        """Second derivatives at 0 of the geodesics from ``x`` in the directions ``u``, ``(k, *batch, *shape)``."""
        start, total = x.expand_as(u), torch.zeros_like(u)
        for k, weight in enumerate(_SECOND, start=1):
            ends = self.base.expmap(start, k * _STEP * u) + self.base.expmap(start, -k * _STEP * u)
            total = total + weight / _STEP**2 * (ends - 2 * x)
        return total
