r"""Laws on :math:`\mathbb R^d` with exact draws, density and entropy, and those that are points plus normal noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from rsgm.distributions import ManifoldDistribution
from rsgm.manifolds import Euclidean

#: most numbers of one temporary tensor, which then stays in a processor's cache
_CHUNK = 2**18
#: error of a log-density, nats, from which on distances are taken by differences
_ROUNDING = 1e-8


class EuclideanLaw(ManifoldDistribution, ABC):
    r"""A law on :math:`\mathbb R^d` that samples can be held against: exact draws, density and entropy, in float64.

    Arguments:
        dim: d
    """

    manifold: Euclidean
    #: shares ``(K,)`` of the separate modes, where there are some
    mode_weights: Tensor | None = None

    def __init__(self, dim: int) -> None:
        self.manifold = Euclidean(dim)
        super().__init__(torch.Size(), torch.Size((dim,)))

    @abstractmethod
    def draw_points(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, d)`` from ``generator`` (default: the global one)."""

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, d)``; the batch, of `expand`, is of equal laws."""
        points = self.draw_points(n * self.batch_shape.numel(), generator)
        return points.reshape(n, *self.batch_shape, self.manifold.dim)

    @abstractmethod
    def entropy(self) -> Tensor:
        """Differential entropy, nats."""

    def modes(self, x: Tensor) -> Tensor:
        """The mode ``(n,)`` that each point ``(n, d)`` belongs to; only where there are `mode_weights`."""
        raise NotImplementedError(f"{type(self).__name__} has no separate modes.")


class SmoothedLaw(EuclideanLaw, ABC):
    r"""Points of a set plus normal noise, :math:`p(x) = \sum_k w_k N(x; c_k, s_k^2 I)`.

    Arguments:
        centres: :math:`c_k`, ``(K, d)``, float64
        scales: :math:`s_k`, ``(K,)``, or ``(1,)`` where all are equal
        weights: :math:`w_k`, ``(K,)``, of any sum
    """

    def __init__(self, centres: Tensor, scales: Tensor, weights: Tensor) -> None:
        super().__init__(centres.shape[1])
        self._centres, self._scales, self._log_weights = centres, scales, (weights / weights.sum()).log()
        self._middle = centres.mean(0)
        # of far points the error is relative
        widest = float((centres - self._middle).square().sum(1).max() / scales.min().square())
        self._near = widest * torch.finfo(centres.dtype).eps < _ROUNDING

    def log_prob(self, value: Tensor, alpha: Tensor | float = 1.0, std: Tensor | float = 0.0) -> Tensor:
        r"""Log-density of :math:`\alpha X + \tau \epsilon`, X of this law and :math:`\epsilon` standard normal.

        Arguments:
            value: points ``(*batch, d)``
            alpha, std: :math:`\alpha` and :math:`\tau`, numbers or tensors that broadcast to ``batch``; by default X

        Returns:
            ``(*batch,)``, nats, float64
        """
        value = self._point(value)
        return self._log_prob(value.double(), alpha, std).reshape(value.shape[:-1])

    @property
    def mean(self) -> Tensor:
        """The mean of the points, float64."""
        return (self._log_weights.exp() @ self._centres).expand(self.batch_shape + self.event_shape)

    def score(self, x: Tensor, alpha: Tensor | float = 1.0, std: Tensor | float = 0.0) -> Tensor:
        r"""The gradient of `log_prob`, :math:`\sum_k r_k(x) (\alpha c_k - x) / (\alpha^2 s_k^2 + \tau^2)`.

        Takes what `log_prob` takes; ``(*batch, d)``, of the dtype of ``x``.
        """
        parts = []
        for rows, a, variance, terms in self._chunks(x.double(), alpha, std):
            share = terms.softmax(1) / variance
            parts.append(a * (share @ (self._centres - self._middle).to(rows)) - share.sum(1, keepdim=True) * rows)
        return torch.cat(parts).reshape(x.shape).to(x)

    def entropy(self) -> Tensor:
        """By a sum over a lattice, whose error is below 1e-5; up to three dimensions."""
        return torch.tensor(self._entropy, dtype=torch.float64).expand(self.batch_shape)

    @cached_property
    def _entropy(self) -> float:
        # the trapezoidal rule is exponentially accurate on what is smooth on the scale of its step
        step = float(self._scales.min()) / 1.5
        nodes = lattice(self._centres, step, 8 * float(self._scales.max()))
        log_density = self._log_prob(nodes)
        return -float((log_density.exp() * log_density).sum()) * step**self.manifold.dim

    def _log_prob(self, x: Tensor, alpha: Tensor | float = 1.0, std: Tensor | float = 0.0) -> Tensor:
        """That of ``x`` one after the other, ``(n,)``, whatever the batch shape."""
        return torch.cat([terms.logsumexp(1) for *_, terms in self._chunks(x, alpha, std)])

    def _chunks(
        self, x: Tensor, alpha: Tensor | float, std: Tensor | float
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Some rows ``(r, d)`` at a time, about alpha times the middle of the centres; their alpha, variances and
        weighted log-densities ``(r, K)``."""
        parts = (self._centres, self._scales, self._log_weights, self._middle)
        centres, scales, log_weights, middle = (part.to(x) for part in parts)
        centres = centres - middle
        square_norms = centres.square().sum(1)
        alpha, std = (torch.as_tensor(c).to(x).expand(x.shape[:-1]).reshape(-1, 1) for c in (alpha, std))
        parts = (part.split(max(1, _CHUNK // len(centres))) for part in (x.reshape(-1, x.shape[-1]), alpha, std))
        for rows, a, tau in zip(*parts, strict=True):
            rows, variance = rows - a * middle, (a * scales).square() + tau.square()
            # |x - a c|^2 by a matrix product where float64 can afford it
            if self._near:
                square = rows.square().sum(1, keepdim=True) + (a.square() * square_norms - 2 * a * (rows @ centres.T))
            else:
                square = sum((y[:, None] - a * c).square() for y, c in zip(rows.T, centres.T, strict=True))
            normaliser = self.manifold.dim * (2 * math.pi * variance).log()
            yield rows, a, variance, log_weights - 0.5 * (square / variance + normaliser)


def lattice(centres: Tensor, step: float, radius: float) -> Tensor:
    """The points ``(n, d)`` of a cubic lattice that are within about ``radius`` of one of the centres ``(K, d)``.

    Raises:
        NotImplementedError: beyond three dimensions, where they are too many
    """
    dim = centres.shape[1]
    if dim > 3:
        raise NotImplementedError(f"A lattice in {dim} dimensions has too many points; at most 3 are expected.")
    reach = math.ceil(radius / step)
    near = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * dim).reshape(-1, dim)
    cells = torch.unique((centres / step).round().long(), dim=0)
    return torch.unique((cells[:, None] + near).flatten(0, 1), dim=0).double() * step
