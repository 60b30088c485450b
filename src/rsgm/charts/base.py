"""What a chart is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rsgm.manifolds import Manifold


class Chart(nn.Module, ABC):
    r"""A bijection from :math:`\mathbb R^d`, or a ball of it, to almost all of a manifold.

    A law q on flat space becomes :math:`\log p(x) = \log q(y) - \log|\det \partial x/\partial y|`, with respect to
    the Riemannian volume. Coordinates are ``(*batch, dim)``, points ``(*batch, *manifold.shape)``; unless its class
    says otherwise, zero is `Manifold.origin`.

    Arguments:
        manifold: the image
    """

    #: length of the coordinates below which the chart is one-to-one
    radius: float = math.inf

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold

    def fit(self, points: Tensor) -> None:
        """Adapt to training points ``(N, *manifold.shape)``; most charts have nothing to learn."""

    @abstractmethod
    def forward(self, y: Tensor) -> Tensor:
        """The point with the coordinates ``y``."""

    @abstractmethod
    def inverse(self, x: Tensor) -> Tensor:
        """The coordinates of the point ``x``."""

    def misses(self, x: Tensor) -> Tensor:
        """Which points ``(*batch, *shape)`` have no coordinates, to 1e-7; none, unless a chart says so."""
        return torch.zeros(x.shape[: x.dim() - len(self.manifold.shape)], dtype=torch.bool, device=x.device)

    @abstractmethod
    def log_det(self, y: Tensor) -> Tensor:
        """Log-determinant of the differential of `forward` at ``y`` in orthonormal frames, shape ``batch``."""
