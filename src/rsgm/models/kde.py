"""A kernel density without training, the baseline of every evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.combined import choose, fit_weights
from rsgm.likelihood import LogProb
from rsgm.manifolds import Manifold
from rsgm.models.base import GenerativeModel, Weights
from rsgm.models.bump_sums import bump_sums
from rsgm.models.kernels import or_uniform
from rsgm.progress import bar, visible

#: the smallest sum of kernels whose inverse is a number
_SEEN = torch.finfo(torch.float64).tiny
#: logarithm of a mean of kernels below which others beside it may be less than that
_FAINT = -660.0
#: pairs of centres and far points, times widths, that are held at a time
_PAIRS = 2**22


class KernelDensity(GenerativeModel):
    r"""A mixture of kernels of many widths on the training points, and of the uniform law where there is one.

    .. math:: q(x) = \frac{w_0}{\mathrm{vol}} + \sum_j w_j\,\frac1n \sum_i k_{h_j}(x; x_i)

    The widths are geometric; the weights maximise the likelihood of the validation points by EM, a convex problem.
    On spheres the kernel is von Mises-Fisher with :math:`\kappa = h^{-2}`. With repeated points in the data the
    smallest width decides the likelihood: always state it.

    Each point sees the centres that a kernel reaches: narrow ones cost little, and wide ones less than one exponential
    a pair and width, if they grow by the factor :math:`\sqrt2`. Densities are right to 1e-9 relative or better.

    References: Hall, Watson & Cabrera 1987, "Kernel density estimation with spherical data", Biometrika 74.

    Arguments:
        manifold: where the points live
        widths: number of widths; None for those from the smallest on that grow by the factor sqrt 2
        min_width: the smallest, in units of length (on spheres, tori and SO(3) radians)
        max_width: the largest; with ``widths`` None a bound of it
        iterations: of EM
    """

    def __init__(
        self,
        manifold: Manifold,
        widths: int | None = None,
        min_width: float = 1e-4,
        max_width: float = 0.7,
        iterations: int = 500,
    ) -> None:
        super().__init__(manifold)
        if not (0 < min_width <= max_width < math.inf and (widths is None or widths >= 1)):
            raise ValueError(
                "KernelDensity: 0 < min_width <= max_width, and widths >= 1 or None, are needed, found "
                f"{min_width}, {max_width} and {widths}."
            )
        self.iterations, self.min_width = iterations, min_width
        if widths is None:
            halvings = math.floor(2 * math.log2(max_width / min_width) + 1e-9)
            grid = min_width * 2 ** (0.5 * torch.arange(halvings + 1, dtype=torch.float64))
        else:
            grid = min_width * (max_width / min_width) ** torch.linspace(0, 1, widths, dtype=torch.float64)
        self.register_buffer("widths", grid)
        self.register_buffer("weights", torch.zeros(len(grid) + 1, dtype=torch.float64))
        self.register_buffer("points", torch.empty(0, *manifold.shape, dtype=torch.float64))
        # what each point counts; empty where all count the same
        self.register_buffer("counts", torch.empty(0, dtype=torch.float64))

    def fit_points(self, train: Tensor, val: Tensor, seed: int = 0, weights: Weights | None = None) -> None:
        """Keep the training points; fit the weights of the widths on the validation points."""
        self.require_data(train, val, weights)
        self.points, self.counts = self.manifold.projx(train.to(self.widths)), self.counts[:0]
        if weights is not None:
            counts = weights[0].to(self.points)
            self.points, self.counts = self.points[counts > 0], counts[counts > 0]
        with visible():
            log_parts = self.log_parts(val)
            # what no kernel reaches says nothing of their weights; if that is all there is, the widest are the nearest
            reached = torch.isfinite(log_parts).any(1)
            if reached.any():
                count = None if weights is None else weights[1].to(log_parts)[reached]
                self.weights = fit_weights(log_parts[reached], self.iterations, count)
                return
        self.weights = torch.zeros_like(self.weights).index_fill(
            0, torch.tensor(len(self.widths), device=self.device), 1.0
        )

    def draw(self, n: int, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """A component, then a draw from it."""
        self.require_fitted()
        component = choose(self.weights, n, generator)
        if len(self.counts):
            index = choose(self.counts, n, generator)
        else:
            index = torch.randint(len(self.points), (n,), generator=generator, device=self.device)
        near = self.manifold.bump_sample(self.points[index], self.widths[(component - 1).clamp_min(0)], generator)
        return or_uniform(self.manifold, near, component == 0, generator)

    def likelihood(self, x: Tensor, context: Tensor | None = None) -> LogProb:
        """The mixture density, in float64."""
        terms = self.log_parts(x) + self.weights.log()
        means = terms[:, 1:] - self.manifold.bump_log_constant(self.widths)
        beyond = (terms[:, 0] == -math.inf) & (means.amax(1) < _FAINT)
        if x.is_cuda or x.is_meta:  # where no value is looked at
            terms = torch.where(beyond[:, None], self._far(x), terms)
        elif beyond.any():
            terms = terms.index_put((beyond,), self._far(x[beyond]))
        return LogProb(terms.logsumexp(1), 0.0)

    @override
    def resolution(self) -> float:
        return self.min_width

    @property
    @override
    def fitted(self) -> bool:
        return len(self.points) > 0

    def log_parts(self, x: Tensor) -> Tensor:
        """Log-densities ``(B, 1 + widths)`` in float64: of the uniform law, then of the kernels of each width."""
        self.require_fitted()
        # narrow kernels tell a point on the manifold from one a little off it
        x = self.manifold.projx(x.to(self.points))
        uniform = x.new_full((len(x), 1), -self.manifold.log_volume)
        with bar("kernel density", len(x)) as shown:
            counts = self.counts if len(self.counts) else None
            sums = bump_sums(self.manifold, self.points, self.widths, counts, x, shown)
        log_count = math.log(len(self.points) if counts is None else float(counts.sum()))
        # densities underflow to zero harmlessly; their gradient, which weighs nothing, would be NaN
        seen = sums >= _SEEN
        log_sums = torch.where(seen, torch.where(seen, sums, 1.0).log(), sums.detach().log())
        log_kernels = log_sums + (self.manifold.bump_log_constant(self.widths) - log_count)
        return torch.cat([uniform, log_kernels], 1)

    def _far(self, x: Tensor) -> Tensor:
        """The terms of the density at points that no kernel, or hardly one, reaches in float64, by logarithms."""
        x = self.manifold.projx(x.to(self.points))
        rates, found = 0.5 * self.widths.pow(-2), x.new_full((len(x), len(self.widths)), -math.inf)
        log_counts = self.counts.log() if len(self.counts) else rates.new_zeros(len(self.points))
        some = max(1, _PAIRS // (len(rates) * max(1, len(x))))
        for start in range(0, len(self.points), some):
            own = slice(start, start + some)
            square, log_factor = self.manifold.bump_pair(x[:, None], self.points[own])
            terms = (log_factor + log_counts[own])[..., None] - square[..., None] * rates
            found = torch.logaddexp(found, terms.logsumexp(1))
        log_kernels = found + self.manifold.bump_log_constant(self.widths) - log_counts.logsumexp(0)
        return torch.cat([torch.full_like(found[:, :1], -math.inf), log_kernels], 1) + self.weights.log()
