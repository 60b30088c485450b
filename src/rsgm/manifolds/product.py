"""Products of manifolds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.heat_kernels import Number
from rsgm.manifolds.base import Cut, Manifold, require_manifold
from rsgm.manifolds.euclidean import Euclidean
from rsgm.manifolds.grid import Grid, product_grid
from rsgm.manifolds.sphere import Sphere
from rsgm.manifolds.tensors import safe_norm


class Product(Manifold):
    r"""The Riemannian product :math:`M_1 \times \dots \times M_k`: a point is the points of the factors in one row.

    Squared distances and volumes' logarithms add, heat kernels multiply: what every factor knows, the product knows.

    Arguments:
        factors: the manifolds; points have shape ``(n,)`` with the sum n of the sizes of their points; None for
            S² × R

    Raises:
        TypeError: for a factor that is no manifold of rsgm
        ValueError: for no factors

    Example:
        >>> cylinder = Product([Sphere(1), Euclidean(1)])
        >>> x = cylinder.join([torch.tensor([0.0, 1.0]), torch.tensor([3.0])])
        >>> cylinder.dist(cylinder.origin(3), x)
        tensor(3.3864)
    """

    name = "Product"
    reversible = False

    def __init__(self, factors: Sequence[Manifold] | None = None) -> None:
        factors = (Sphere(2), Euclidean(1)) if factors is None else factors
        if not factors:
            raise ValueError("Product: at least one factor is needed, found none.")
        self._sizes = [torch.Size(require_manifold(factor, "Product").shape).numel() for factor in factors]
        super().__init__(sum(factor.dim for factor in factors), (sum(self._sizes),))
        self.factors = tuple(factors)
        # so that parameters of a factor move with the product
        self._modules_of_factors = nn.ModuleList(factors)
        self.log_volume = sum(factor.log_volume for factor in factors)
        self.injectivity_radius = min(factor.injectivity_radius for factor in factors)
        self.angular = all(factor.angular for factor in factors)
        if all(factor.killing_field_count for factor in factors):
            self.killing_field_count = sum(factor.killing_field_count for factor in factors)
        self.smooth_frame = all(factor.smooth_frame for factor in factors)
        if all(factor.periods for factor in factors):
            self.periods = tuple(itertools.chain(*(factor.periods for factor in factors)))
        if self.dim <= 3 and all(factor.unit_cube_extent for factor in factors):
            self.unit_cube_extent = tuple(itertools.chain(*(factor.unit_cube_extent for factor in factors)))

    @property
    def cuts(self) -> list[Cut]:
        """Those of the factors."""
        found, first = [], 0
        for factor in self.factors:
            found += [cut._replace(axes=[first + axis for axis in cut.axes]) for cut in factor.cuts]
            first += factor.dim
        return found

    @override
    def extra_repr(self) -> str:
        return f"dim={self.dim}, factors=[{', '.join(map(str, self.factors))}]"

    def split(self, x: Tensor) -> list[Tensor]:
        """The parts ``(*batch, *factor.shape)`` of a point or vector."""
        parts = x.split(self._sizes, -1)
        return [part.unflatten(-1, factor.shape) for part, factor in zip(parts, self.factors, strict=True)]

    def join(self, parts: Iterable[Tensor]) -> Tensor:
        """The point or vector of given parts, ``(*batch, n)``."""
        pairs = zip(parts, self.factors, strict=True)
        return torch.cat([part.flatten(part.dim() - len(factor.shape)) for part, factor in pairs], -1)

    def _each(self, function: Callable[..., Tensor], *arguments: Tensor) -> list[Tensor]:
        parts = zip(self.factors, *map(self.split, arguments), strict=True)
        return [function(factor, *part) for factor, *part in parts]

    # what geoopt asks of a manifold

    @override
    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        product = sum(self._each(lambda m, a, b, c: m.inner(a, b, c), x, u, u if v is None else v))
        return product[..., None] if keepdim else product

    @override
    def squared_norm(self, x: Tensor, u: Tensor) -> Tensor:
        return sum(self._each(lambda m, a, b: m.squared_norm(a, b), x, u))

    @override
    def projx(self, x: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a: m.projx(a), x))

    @override
    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.proju(a, b), x, u))

    @override
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.egrad2rgrad(a, b), x, u))

    @override
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.expmap(a, b), x, u))

    @override
    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.retr(a, b), x, u))

    @override
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.logmap(a, b), x, y))

    @override
    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        points, velocities = zip(*self._each(lambda m, a, b: m.geodesic(a, b, t), x0, x1), strict=True)
        return self.join(points), self.join(velocities)

    @override
    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b, c: m.transp(a, b, c), x, y, v))

    @override
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        return safe_norm(torch.stack(self._each(lambda m, a, b: m.dist(a, b), x, y), -1), keepdim)

    def _point_fault(self, x: Tensor, atol: float, rtol: float) -> str | None:
        for factor, part in zip(self.factors, self.split(x), strict=True):
            ok, reason = factor.check_point_on_manifold(part, explain=True, atol=atol, rtol=rtol)
            if not ok:
                return f"in {factor}: {reason}"
        return None

    def _vector_fault(self, x: Tensor, u: Tensor, atol: float, rtol: float) -> str | None:
        for factor, *parts in zip(self.factors, self.split(x), self.split(u), strict=True):
            ok, reason = factor.check_vector_on_tangent(*parts, ok_point=True, explain=True, atol=atol, rtol=rtol)
            if not ok:
                return f"in {factor}: {reason}"
        return None

    # what rsgm asks

    def frame(self, x: Tensor) -> Tensor:
        """The frames of the factors, padded with zeros."""
        rows, first = x.new_zeros(self.dim, *x.shape), 0
        blocks = []
        for factor, part in zip(self.factors, self.split(x), strict=True):
            own = [zeros[first : first + factor.dim] for zeros in self.split(rows)]
            own[len(blocks)] = factor.frame(part)
            blocks.append(self.join(own))
            first += factor.dim
        return torch.cat(blocks)

    @override
    def from_frame(self, x: Tensor, components: Tensor) -> Tensor:
        parts = components.split([factor.dim for factor in self.factors], -1)
        return self.join(m.from_frame(a, c) for m, a, c in zip(self.factors, self.split(x), parts, strict=True))

    @override
    def frame_divergence(self, x: Tensor) -> Tensor:
        return torch.cat(self._each(lambda m, a: m.frame_divergence(a), x), -1)

    @override
    def projection_trace(self, x: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a: m.projection_trace(a), x))

    @override
    def connection_trace(self, x: Tensor, v: Tensor) -> Tensor | float:
        return sum(self._each(lambda m, a, b: m.connection_trace(a, b), x, v))

    @override
    def origin(  # type: ignore[override]
        self, *size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None, seed: int = 42
    ) -> Tensor:
        self._check_size(size)
        return self.join(m.origin(*size[:-1], *m.shape, dtype=dtype, device=device, seed=seed) for m in self.factors)

    def combine_killing_fields(self, x: Tensor, f: Tensor) -> Tensor:
        """The fields of the factors, each of which leaves the others where they are."""
        coefficients = f.split([factor.killing_field_count for factor in self.factors], -1)
        return self.join(
            m.combine_killing_fields(a, c) for m, a, c in zip(self.factors, self.split(x), coefficients, strict=True)
        )

    @override
    def log_det_exp(self, x: Tensor, u: Tensor) -> Tensor:
        return sum(self._each(lambda m, a, b: m.log_det_exp(a, b), x, u))

    @override
    def log_det_exp_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.log_det_exp_gradient(a, b), x, y))

    @override
    def log_det_exp_laplacian(self, x: Tensor, y: Tensor) -> Tensor:
        return sum(self._each(lambda m, a, b: m.log_det_exp_laplacian(a, b), x, y))

    @override
    def draw_uniform(self, *size: int, **options: Any) -> Tensor:
        return self.join(m.random_uniform(*size[:-1], *m.shape, **options) for m in self.factors)

    @override
    def random_tangent(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.join(self._each(lambda m, a: m.random_tangent(a, generator), x))

    def bump_log_constant(self, width: Tensor) -> Tensor:
        """Of the products of the factors' bumps, of one width."""
        return sum(factor.bump_log_constant(width) for factor in self.factors)

    @override
    def bump_coordinates(self, x: Tensor) -> Tensor:
        return torch.cat(self._each(lambda m, a: m.bump_coordinates(a), x), -1)

    @override
    def bump_pair(self, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        squares, log_factors = zip(*self._each(lambda m, a, b: m.bump_pair(a, b), x, centre), strict=True)
        return sum(squares), sum(log_factors)

    @override
    def bump_table(self, x: Tensor, centres: Tensor, error: float) -> tuple[Tensor, Tensor]:
        error = error / len(self.factors)
        squares, log_factors = zip(*self._each(lambda m, a, b: m.bump_table(a, b, error), x, centres), strict=True)
        return sum(squares), sum(log_factors)

    @override
    def bump_sample(self, centre: Tensor, width: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.join(self._each(lambda m, a: m.bump_sample(a, width, generator), centre))

    def heat_kernel_sample(self, x0: Tensor, s: Number, generator: torch.Generator | None = None) -> Tensor:
        """Independent parts: exact where every factor is."""
        return self.join(self._each(lambda m, a: m.heat_kernel_sample(a, s, generator), x0))

    def heat_kernel(self, x0: Tensor, x: Tensor, s: Number) -> tuple[Tensor, Tensor]:
        """The factors': the sum of the log-densities, each gradient."""
        log_probs, scores = zip(*self._each(lambda m, a, b: m.heat_kernel(a, b, s), x0, x), strict=True)
        return sum(log_probs), self.join(scores)

    @override
    def heat_kernel_series_score(self, x0: Tensor, x: Tensor, s: Number, terms: int) -> Tensor:
        return self.join(self._each(lambda m, a, b: m.heat_kernel_series_score(a, b, s, terms), x0, x))

    def from_unit_cube(self, u: Tensor) -> Tensor:
        """By factor, where each has a chart, up to dimension 3."""
        if not self.unit_cube_extent:
            return super().from_unit_cube(u)
        parts = u.split([factor.dim for factor in self.factors], -1)
        return self.join(factor.from_unit_cube(part) for factor, part in zip(self.factors, parts, strict=True))

    def _grid(self, n: int) -> Grid:
        """All pairs of the points of the factors' grids, of one spacing."""
        if math.isinf(self.log_volume):
            return super()._grid(n)
        log_spacing = (self.log_volume - math.log(n)) / self.dim
        counts = [math.exp(factor.log_volume - factor.dim * log_spacing) for factor in self.factors]
        grids = [factor.grid(max(1, round(count))) for factor, count in zip(self.factors, counts, strict=True)]
        return product_grid(self.join, grids)
