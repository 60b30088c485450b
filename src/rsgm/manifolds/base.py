"""What `rsgm` asks of a manifold beyond `geoopt.Manifold`."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import geoopt
import torch
from torch import Tensor

from rsgm.arguments import require_count
from rsgm.description import describe
from rsgm.heat_kernels import Number, like
from rsgm.manifolds.grid import Grid, chart_grid
from rsgm.manifolds.tensors import expand, squared_distances

#: of a distance and its complement (see `angles`), a value and its derivative in the distance
RadialFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Cut(NamedTuple):
    """Axes of a frame along which, taken together, geodesics are shortest up to a finite length only.

    Fields:
        axes: their indices
        radius: that length
        order: of the zero that the determinant of exp may have there; 0 where it has none
    """

    axes: list[int]
    radius: float
    order: int


class Manifold(geoopt.Manifold, ABC):
    r"""A Riemannian manifold embedded in an ambient vector space, with its volume and its Brownian motion.

    To the exponential map, logarithm, distance, projections and transport of `geoopt.Manifold` it adds what a
    diffusion model needs: a dimension, a volume, uniform and Gaussian draws, an orthonormal frame, and the heat
    kernel :math:`p_s(x | x_0)` of :math:`\partial_s p = \tfrac12 \Delta p`. Points have shape
    ``(*batch, *manifold.shape)``; densities are with respect to the Riemannian volume, in nats.

    A new manifold is one subclass in one file: the abstract members below, those of `geoopt.Manifold`, and a
    constructor that hands the dimension and the shape of a point to this one, and keeps its own arguments as
    attributes of the same names. Manifolds are values: ``Sphere(2) == Sphere(2)``.

    Arguments:
        dim: intrinsic dimension
        shape: of one point
    """

    #: intrinsic dimension
    dim: int
    #: shape of one point
    shape: tuple[int, ...]
    #: logarithm of the total volume; ``inf`` where the manifold is not compact
    log_volume: float

    #: length up to which geodesics are shortest; ``inf`` where the exponential map is a bijection
    injectivity_radius: float = math.inf
    #: whether lengths are angles, in radians
    angular: bool = False
    #: number of the Killing fields that `combine_killing_fields` combines; zero where none are known
    killing_field_count: int = 0
    #: whether `frame` is smooth everywhere
    smooth_frame: bool = False
    #: lengths of the axes of `from_unit_cube`'s chart, where there is one
    unit_cube_extent: tuple[float, ...] = ()
    #: of a product of circles and lines, the length after which each axis of `frame` closes, inf for that of a line
    periods: tuple[float, ...] = ()
    #: the manifolds that this one is the product of; none where it is no product
    factors: tuple[Manifold, ...] = ()
    #: what to do where a uniform law is wanted and the volume is infinite, for the error
    without_uniform: str = (
        "choose a compact manifold, or where a model wants it another process (product: ProductProcess; flat: "
        "VariancePreserving; else Langevin), or FlowMatching, whose prior may be any law"
    )
    #: steps of the geodesic random walk that stands in for an exact heat-kernel sample
    walk_steps = 100

    def __init__(self, dim: int, shape: Sequence[int]) -> None:
        super().__init__()
        # geoopt's `ndim` is the number of axes of a point
        self.dim, self.shape, self.ndim = dim, tuple(shape), len(shape)

    def extra_repr(self) -> str:
        """The dimension, for ``print(manifold)``."""
        return f"dim={self.dim}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __eq__(self, other: object) -> bool:
        """Of one class and with equal constructor arguments.

        Manifolds with parameters or buffers are equal to themselves only, for torch treats equal modules as one where
        it moves or converts them; so are those of an argument that has no plain form, such as a function.
        """
        if self is other:
            return True
        if type(self) is not type(other):
            return False
        try:
            equal = describe(self) == describe(other)
        except TypeError:
            return False
        return equal and not any(True for _ in itertools.chain(self.parameters(), self.buffers()))

    def __hash__(self) -> int:
        return hash((type(self), self.shape))

    @property
    def vector_space(self) -> bool:
        """Whether :math:`\\exp_x(u) = x + u`, as in `Euclidean`."""
        x = torch.ones(self.shape)
        # far from zero points add up: not so on a torus, in a ball, or in coordinates of an ambient space
        return self.dim == x.numel() and torch.equal(self.expmap(5 * x, 3 * x), 8 * x)

    def require_vector_space(self, where: str) -> None:
        """Raise a ValueError, which begins with ``where``, unless this is a `vector_space`."""
        if not self.vector_space:
            raise ValueError(f"{where}: {self} is not a vector space; choose Euclidean.")

    @property
    def cuts(self) -> list[Cut]:
        """Up to which length geodesics are shortest, for each factor by itself; none where all of them are."""
        radius = self.injectivity_radius
        return [Cut(list(range(self.dim)), radius, self.dim - 1)] if math.isfinite(radius) else []

    @abstractmethod
    def frame(self, x: Tensor) -> Tensor:
        """An orthonormal basis of each tangent space, shape ``(dim, *batch, *shape)``."""

    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        r"""The tangent vectors :math:`\sum_a c_a e_a(x)` of components ``(..., dim)`` in the `frame`.

        The leading axes broadcast with those of ``x``. This default sums over the frame, ``dim`` vectors for each
        point; the manifolds here write the sum down, at the cost of one vector.
        """
        frame, components = self.frame(x), components.movedim(-1, 0)
        lead = components.dim() + len(self.shape) - frame.dim()
        frame = frame.reshape(self.dim, *(1,) * lead, *x.shape)
        return (components.reshape(*components.shape, *(1,) * len(self.shape)) * frame).sum(0)

    def frame_divergence(self, x: Tensor) -> Tensor:
        """The divergences of the fields of `frame`, ``(*batch, dim)``; zero for a group's left-invariant frame."""
        return x.new_zeros(*x.shape[: x.dim() - len(self.shape)], self.dim)

    @abstractmethod
    def projection_trace(self, x: Tensor) -> Tensor:
        r"""The H of :math:`\mathrm{div}\,P f = \sum_a \langle e_a, Df\,e_a\rangle + \langle H, f\rangle`.

        With it no tangent projection P has to be differentiated. Where the ambient inner product does not vary, H is
        the trace of the second fundamental form, :math:`\sum_a \mathrm{II}(e_a, e_a)`, a normal vector; elsewhere it
        has the tangent part of `connection_trace` too.
        """

    def connection_trace(self, x: Tensor, v: Tensor) -> Tensor | float:
        r"""What :math:`\sum_a \langle e_a, Dv\,e_a\rangle` lacks of the divergence of a tangent field v, ``batch``.

        :math:`-\sum_a \langle e_a, D^2 \exp_x(0)[e_a, v]\rangle`, in a chart the contracted Christoffel symbols; zero
        where the ambient inner product does not vary.
        """
        return 0.0

    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""The point :math:`\exp_{x_0}(t \log_{x_0} x_1)` of the shortest geodesic, and its velocity there.

        The velocity is the derivative of the exponential map, smooth at both ends and across the cut locus, where
        logarithms from the point itself are not. This default differentiates it; the manifolds here write it down,
        at a tenth of the time.

        Arguments:
            x0: where it starts, ``(*batch, *shape)``
            x1: where it arrives at the time 1
            t: times, ``batch``

        Returns:
            points and tangent vectors there, ``(*batch, *shape)``
        """
        direction, times = self.logmap(x0, x1), expand(t, x0)
        return torch.func.jvp(lambda s: self.expmap(x0, s * direction), (times,), (torch.ones_like(times),))

    @abstractmethod
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        """A fixed base point, repeated; ``size`` is the full shape. ``seed`` is geoopt's, and has no effect."""

    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        r"""The tangent vector :math:`\sum_k f_k K_k(x)` of Killing fields, which span every tangent space.

        ``f`` is ``(..., killing_field_count)``, its leading axes broadcast with those of ``x``. Killing fields are
        velocities of isometries and therefore divergence-free, so that the divergence of a combination with varying
        coefficients is :math:`\sum_k K_k \cdot \nabla f_k`.
        """
        raise NotImplementedError(f"{self} has no known divergence-free fields; use TangentField.")

    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        r"""Log-determinant of the differential of :math:`\exp_x` at ``u``, shape ``batch``; zero at ``u = 0``."""
        raise NotImplementedError(f"{self} does not know the volume distortion of its exponential map.")

    def normal_coordinates(self, x0: Tensor, frame: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Riemannian normal coordinates of all pairs, the components of :math:`\log_{x_0}(x)` in a frame at x0.

        Arguments:
            x0: ``(n, *shape)``
            frame: `frame` of them, ``(dim, n, *shape)``
            x: ``(B, *shape)``

        Returns:
            the coordinates, ``(n, B, dim)``, and `log_det_exp` there, ``(n, B)``
        """
        u = self.logmap(x0[:, None], x[None])
        return self.inner(x0[:, None], frame[:, :, None], u).movedim(0, -1), self.log_det_exp(x0[:, None], u)

    def log_det_exp_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Riemannian gradient in ``y`` of ``log_det_exp(x, log_x(y))``; this default differentiates it."""

        def total(z: Tensor) -> Tensor:
            return self.log_det_exp(x, self.logmap(x, z)).sum()

        return self.egrad2rgrad(y, torch.func.grad(total)(y))

    def log_det_exp_laplacian(self, x: Tensor, y: Tensor) -> Tensor:
        """Laplacian in ``y`` of ``log_det_exp(x, log_x(y))``, ``batch``; this default differentiates its gradient."""

        def push(u: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(lambda z: self.log_det_exp_gradient(x, z), (y,), (u,))

        frame = self.frame(y)
        gradient, derivative = torch.func.vmap(push, out_dims=(None, 0))(frame)
        return self.inner(y, frame, derivative).sum(0) + self.connection_trace(y, gradient)

    def random_uniform(
        self,
        *size: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform draws; as in geoopt, ``size`` is the full shape, that of a point included.

        Raises:
            ValueError: for a size that does not end with the shape of a point, and where the volume is infinite
        """
        self._check_size(size)
        if math.isinf(self.log_volume):
            raise ValueError(f"{self} has infinite volume, so no uniform law; {self.without_uniform}.")
        return self.draw_uniform(*size, generator=generator, dtype=dtype, device=device)

    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        """The draws, by the generator, of the dtype and on the device that the options name."""
        raise NotImplementedError(f"{self} has no uniform draws; write {type(self).__name__}.draw_uniform.")

    def random(
        self,
        *size: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Geoopt's name of `random_uniform`."""
        return self.random_uniform(*size, generator=generator, dtype=dtype, device=device)

    @abstractmethod
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A standard normal vector in the tangent space of each point of ``x``."""

    def bump_log_prob(self, x: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        r"""Log-density of a cheap normalised bump of scale ``width`` (radians) around ``centre``.

        .. math:: \log k_h(x; c) = A(h) - \frac{r^2(x, c)}{2h^2} + f(x, c)

        What depends on the width, `bump_log_constant` A, and what depends on the pair, `bump_pair` r² and f, are apart,
        so that the kernels of many widths cost little more than one. ``x`` and ``centre`` broadcast to ``(*batch,
        *shape)``, ``width`` to ``batch``.
        """
        square, log_factor = self.bump_pair(x, centre)
        return self.bump_log_constant(width) - 0.5 * square * width.pow(-2) + log_factor

    @abstractmethod
    def bump_log_constant(self, width: Tensor) -> Tensor:
        """The log-density of a bump at its centre, nats, of the shape of ``width``."""

    @abstractmethod
    def bump_coordinates(self, x: Tensor) -> Tensor:
        """Coordinates ``(*batch, k)`` whose Euclidean distances are the r of `bump_pair`, or less where that is
        overridden; they are at most the geodesic distances."""

    def bump_pair(self, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """The squared length r² and the log-factor f of `bump_log_prob`, which is at most zero; ``batch`` or scalar."""
        square = (self.bump_coordinates(x) - self.bump_coordinates(centre)).square().sum(-1)
        return square, square.new_zeros(())

    def bump_table(self, x: Tensor, centres: Tensor, error: float) -> tuple[Tensor, Tensor]:
        """`bump_pair` of all pairs ``(B, n)`` of points and centres, r² good to ``error``."""
        square = squared_distances(self.bump_coordinates(x), self.bump_coordinates(centres), error)
        return square, square.new_zeros(())

    @abstractmethod
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of the bump of `bump_log_prob` for each ``centre``."""

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        r"""Brownian motion from ``x0`` run for the variance time ``s``: a number, or one for each point, ``batch``.

        This default is a geodesic random walk of `walk_steps` steps, whose bias is :math:`O(s^2 / N)`
        (Jorgensen 1975; De Bortoli et al. 2022, arXiv:2202.02763, section 3.2). Subclasses with a known kernel
        sample it exactly.
        """
        std = expand((like(s, x0) / self.walk_steps).sqrt(), x0)
        for _ in range(self.walk_steps):
            x0 = self.expmap(x0, std * self.random_tangent(x0, generator))
        return x0

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        r"""``log p_s(x | x0)`` in nats, shape ``batch``, and its gradient :math:`\nabla_x \log p_s(x | x_0)`.

        ``s`` is a number, or one for each pair, ``batch``. The two share their work; the Riemannian gradient has the
        shape ``(*batch, *shape)``.
        """
        raise NotImplementedError(self._no_kernel("density"))

    def heat_kernel_log_prob(self, x0: Tensor, x: Tensor, s: Number) -> Tensor:
        """The log-density of `heat_kernel`."""
        return self.heat_kernel(x0, x, s)[0]

    def heat_kernel_score(self, x0: Tensor, x: Tensor, s: Number) -> Tensor:
        """The gradient of `heat_kernel`."""
        return self.heat_kernel(x0, x, s)[1]

    def heat_kernel_sample_with_score(
        self, x0: Tensor, s: Number, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """A draw ``x`` of `heat_kernel_sample`, and `heat_kernel_score` there, ``(*batch, *shape)`` each."""
        x = self.heat_kernel_sample(x0, s, generator)
        return x, self.heat_kernel_score(x0, x, s)

    def heat_kernel_mixture_score(self, x0: Tensor, counts: Tensor, x: Tensor, s: Tensor) -> Tensor:
        r""":math:`\nabla_x \log \sum_j p_s(x \mid x_j)` over the points of each row that count.

        Arguments:
            x0: ``(B, n, *shape)``
            counts: whether each counts, ``(B, n)``; at least one of each row
            x: ``(B, *shape)``
            s: variance times, ``(B,)``
        """
        log_prob, score = self.heat_kernel(x0, x[:, None], s[:, None])
        return mixture_score(self, log_prob, score, counts, x)

    def heat_kernel_series_score(self, x0: Tensor, x: Tensor, s: Number, terms: int) -> Tensor:
        """The gradient of the eigenfunction series cut after ``terms``: an approximation, for reproduction."""
        raise NotImplementedError(self._no_kernel("truncated series"))

    def from_unit_cube(self, u: Tensor) -> Tensor:
        """The point of a volume-preserving chart at ``u`` in [0, 1]^dim; compact manifolds up to dim 3."""
        raise NotImplementedError(f"{self} has no volume-preserving chart.")

    def grid(self, n: int) -> Grid:
        r"""About ``n`` points all over a compact manifold, and the volume that each stands for.

        The integral of a density is ``(log_prob(points).exp() * volume).sum()``. The error is below 3e-3 for a heat
        kernel of the variance time ``h**2`` with the grid's spacing ``h = (total volume / n) ** (1 / dim)``, and below
        1e-6 at ``(2 * h)**2``. Points and volumes are float64.

        Raises:
            ValueError: where the volume is infinite, where no volume-preserving chart is known, and for n < 1

        Example:
            >>> from rsgm.manifolds import Torus
            >>> points, volume = Torus(2).grid(400)
            >>> points.shape, volume.sum()
            (torch.Size([400, 2, 2]), tensor(39.4784, dtype=torch.float64))
        """
        require_count(f"{self}.grid", n=n)
        return self._grid(n)

    def _grid(self, n: int) -> Grid:
        if math.isinf(self.log_volume):
            raise ValueError(f"{self} has infinite volume, so no grid; choose a compact manifold.")
        if not self.unit_cube_extent:
            raise ValueError(
                f"{self} has no grid, for it has no volume-preserving chart; an integral is "
                "exp(log_volume) times the mean over random_uniform."
            )
        return chart_grid(self.from_unit_cube, self.unit_cube_extent, math.exp(self.log_volume), n)

    def squared_norm(self, x: Tensor, u: Tensor) -> Tensor:
        """Squared Riemannian length of a tangent vector, shape ``batch``."""
        return self.inner(x, u, u)

    # geoopt's checks: of any tensor, without an error

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> tuple[bool, str | None]:
        fault = self._misfit(x, "x") or self._point_fault(x, atol, rtol)
        return fault is None, fault

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        fault = self._misfit(x, "x") or self._misfit(u, "u") or self._vector_fault(x, u, atol, rtol)
        return fault is None, fault

    def _check_shape(self, shape: tuple[int, ...], name: str) -> tuple[bool, str | None]:
        ok = tuple(shape[max(0, len(shape) - len(self.shape)) :]) == self.shape
        return ok, None if ok else f"`{name}` has the shape {tuple(shape)}, which does not end with {self.shape}"

    def _misfit(self, x: Tensor, name: str) -> str | None:
        """Why ``x`` is no tensor of ambient coordinates."""
        ok, reason = self._check_shape(x.shape, name)
        if not ok:
            return reason
        if not x.is_floating_point():
            return f"`{name}` is of the type {x.dtype}, not of floating point numbers"
        # a sum is finite where all terms are, but for an overflow, and costs a tenth
        finite = bool(x.sum().isfinite()) or bool(x.isfinite().all())
        return None if finite else f"`{name}` has coordinates that are not finite"

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        """Why finite coordinates are no point, if they are none."""
        ok = torch.allclose(x, self.projx(x), atol=atol, rtol=rtol)
        return None if ok else f"`x` is not its projection `projx(x)` with atol={atol}, rtol={rtol}"

    def _vector_fault(self, x: Tensor, u: Tensor, atol: float, rtol: float) -> str | None:
        """Why finite coordinates are no tangent vector at the point ``x``, if they are none."""
        ok = torch.allclose(u, self.proju(x, u), atol=atol, rtol=rtol)
        return None if ok else f"`u` is not its tangent part `proju(x, u)` with atol={atol}, rtol={rtol}"

    def _check_size(self, size: tuple[int, ...]) -> None:
        if tuple(size[len(size) - len(self.shape) :]) != self.shape:
            raise ValueError(
                f"{self}: a point has shape {self.shape}, so the size must end with it, as in geoopt; found "
                f"{tuple(size)}. For 5 points give {', '.join(map(str, (5, *self.shape)))}."
            )

    def _no_kernel(self, what: str) -> str:
        return (
            f"The heat kernel of {self} has no known {what} here. Train with ImplicitScoreMatching or "
            "SlicedScoreMatching, which need only its samples."
        )


def mixture_score(manifold: Manifold, log_prob: Tensor, score: Tensor, counts: Tensor, x: Tensor) -> Tensor:
    """The mean of scores ``(B, n, *shape)`` at ``(B, *shape)``, weighted by those densities ``(B, n)`` that count."""
    weight = log_prob.masked_fill(~counts, -math.inf).softmax(1)
    # the summands may be much longer than their mean: so is their rounding
    return manifold.proju(x, torch.einsum("ij,ij...->i...", weight, score))


def require_manifold(value: Any, where: str) -> Manifold:
    """``value`` itself, if it is a manifold of rsgm.

    Arguments:
        value: what was given
        where: who asks, for the message

    Raises:
        TypeError: for a class in place of an object, a manifold of geoopt, and anything else

    Example:
        >>> require_manifold(geoopt.Sphere(), "RSGM")
        Traceback (most recent call last):
        TypeError: RSGM: expected a manifold of rsgm, found geoopt's Sphere; use rsgm's or Adapted(geoopt.Sphere, ...).
    """
    kind = value if isinstance(value, type) else type(value)
    if kind is not value and issubclass(kind, Manifold):
        return value
    if issubclass(kind, Manifold):
        raise TypeError(f"{where}: expected a manifold, found the class {kind.__name__}; write {kind.__name__}(...).")
    if issubclass(kind, geoopt.Manifold):
        raise TypeError(
            f"{where}: expected a manifold of rsgm, found geoopt's {kind.__name__}; use rsgm's or "
            f"Adapted(geoopt.{kind.__name__}, ...)."
        )
    raise TypeError(f"{where}: expected a manifold, such as Sphere(2), found {value!r}.")
