"""Mixtures of normal laws, noisy curves and a checkerboard."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.distributions.checks import PositiveFinite
from rsgm.distributions.combined import Mixture
from rsgm.distributions.flat import EuclideanLaw, SmoothedLaw
from rsgm.distributions.wrapped import WrappedNormal


class GaussianMixture(SmoothedLaw):
    r"""Isotropic normal laws, :math:`p(x) = \sum_k w_k N(x; \mu_k, s_k^2 I)`; by default the target of NCSN's figures.

    References: Song and Ermon 2019, arXiv:1907.05600, section 3.2.2 (with weights 0.8 and 0.2).

    Arguments:
        means: :math:`\mu_k`, ``(K, d)``
        scale: :math:`s_k`, one number or K
        weights: :math:`w_k`, positive, of any sum; None for equal weights

    Raises:
        ValueError: other numbers of means, scales and weights, a mean that is not finite, or one of the others that is
            not positive and finite

    Example:
        >>> law = GaussianMixture(means=[[-2.0, 0.0], [2.0, 0.0]], scale=0.5)
        >>> law.draw(3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
        >>> law.modes(torch.tensor([[2.0, 0.5], [-1.0, 1.0]]))
        tensor([1, 0])
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]] = ((-5.0, -5.0), (5.0, 5.0)),
        scale: float | Sequence[float] = 1.0,
        weights: Sequence[float] | None = (0.95, 0.05),
    ) -> None:
        self.means, self.scale, self.weights = means, scale, weights
        centres = torch.as_tensor(means, dtype=torch.float64)
        numbers = [torch.as_tensor(1.0 if part is None else part, dtype=torch.float64) for part in (scale, weights)]
        for name, part in zip(("scale", "weights"), numbers, strict=True):
            fits = part.shape in ((), centres.shape[:1]) and centres.dim() == 2
            if not fits or not bool(centres.isfinite().all() and PositiveFinite().check(part).all()):
                raise ValueError(
                    f"GaussianMixture: means must be K points and {name} one positive number each, found means of "
                    f"shape {tuple(centres.shape)} and {name} {part.tolist()}; all must be finite."
                )
        super().__init__(centres, numbers[0].reshape(-1), numbers[1].expand(len(centres)))
        components = WrappedNormal(self.manifold, centres, numbers[0].reshape(-1, 1))
        self.mixture = Mixture(components, numbers[1].expand(len(centres)))
        self.mode_weights = self.mixture.weights

    @classmethod
    def ring(cls, count: int = 8, radius: float = 2.0, scale: float = 0.2) -> GaussianMixture:
        """Equal components, evenly on a circle."""
        angles = [2 * math.pi * k / count for k in range(count)]
        return cls([[radius * math.cos(angle), radius * math.sin(angle)] for angle in angles], scale, None)

    @override
    def draw_points(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.mixture.draw(n, generator)

    def modes(self, x: Tensor) -> Tensor:
        """The component ``(n,)`` that each point most likely came from."""
        return torch.cat([terms.argmax(1) for *_, terms in self._chunks(x.double(), 1.0, 0.0)])


class NoisyCurves(SmoothedLaw, ABC):
    """A uniform point of one of some curves in the plane, equally likely, plus normal noise.

    The density is a midpoint sum of 4000 nodes on each curve, exact to rounding while the noise spans their distance.

    Arguments:
        noise: standard deviation of the noise, in units of the plane

    Raises:
        ValueError: where the noise is finer than the nodes, or not finite
    """

    nodes = 4000

    def __init__(self, noise: float) -> None:
        self.noise = noise
        nodes = self.curves((torch.arange(self.nodes, dtype=torch.float64) + 0.5) / self.nodes)
        gap = float(nodes.diff(dim=1).norm(dim=-1).max())
        if not gap <= noise < math.inf:
            raise ValueError(f"{type(self).__name__}: noise must be at least {gap:.2g}, found {noise}, and finite.")
        centres = nodes.flatten(0, 1)
        super().__init__(centres, centres.new_tensor([noise]), centres.new_full((len(centres),), 1 / len(centres)))

    @abstractmethod
    def curves(self, u: Tensor) -> Tensor:
        """The points ``(curves, n, 2)`` at ``u`` in [0, 1], which must run at constant probability, not speed."""

    @override
    def draw_points(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = None if generator is None else generator.device
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=device)
        curves = self.curves(u)
        which = torch.randint(len(curves), (n,), generator=generator, device=device)
        x = curves[which, torch.arange(n, device=device)]
        return self.manifold.bump_sample(x, x.new_full((n,), self.noise), generator)


class Moons(NoisyCurves):
    r"""Two half circles, :math:`(\cos\pi u, \sin\pi u)` and :math:`(1 - \cos\pi u, \tfrac12 - \sin\pi u)`, plus noise.

    This is the law of scikit-learn's ``make_moons``.

    Arguments:
        noise: standard deviation of the noise

    Example:
        >>> round(Moons(0.05).entropy().item(), 2)
        0.29
    """

    def __init__(self, noise: float = 0.05) -> None:
        super().__init__(noise)

    def curves(self, u: Tensor) -> Tensor:
        """Upper and lower moon."""
        cos, sin = torch.cos(math.pi * u), torch.sin(math.pi * u)
        return torch.stack([torch.stack([cos, sin], -1), torch.stack([1 - cos, 0.5 - sin], -1)])


class SwissRoll(NoisyCurves):
    r"""The spiral :math:`\theta(\cos\theta, \sin\theta) / 10`, :math:`\theta = 1.5\pi(1 + 2u)`, plus noise.

    This is a tenth of two coordinates of scikit-learn's ``make_swiss_roll``, whose noise is ten times as large.

    Arguments:
        noise: standard deviation of the noise, after the division by 10
    """

    def __init__(self, noise: float = 0.05) -> None:
        super().__init__(noise)

    @override
    def curves(self, u: Tensor) -> Tensor:
        theta = 1.5 * math.pi * (1 + 2 * u)
        return 0.1 * (theta[:, None] * torch.stack([theta.cos(), theta.sin()], -1))[None]


class Checkerboard(EuclideanLaw):
    """The uniform law on the dark cells of a board around the origin: cell (i, j) is dark where i + j is even.

    The density is zero elsewhere, and the log-density minus infinity.

    Arguments:
        side: of the board
        cells: along each side, an even number

    Raises:
        ValueError: another number of cells, or a side that is not positive
    """

    def __init__(self, side: float = 8.0, cells: int = 4) -> None:
        if cells < 2 or cells % 2 or not 0 < side < math.inf:
            raise ValueError(f"Checkerboard: expected side > 0 and an even number of cells, found {side} and {cells}.")
        self.side, self.cells = side, cells
        super().__init__(2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density ``(*batch,)`` of points ``(*batch, 2)``, float64."""
        value = self._point(value)
        cell = ((value.double() / self.side + 0.5) * self.cells).floor()
        dark = (cell.sum(-1) % 2 == 0) & ((cell >= 0) & (cell < self.cells)).all(-1)
        # a function of the value, whose gradient is zero
        return 0 * value.double().sum(-1) + torch.where(dark, -self.entropy().to(value.device), -math.inf)

    @override
    def draw_points(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = None if generator is None else generator.device
        column = torch.randint(self.cells, (n,), generator=generator, device=device)
        row = 2 * torch.randint(self.cells // 2, (n,), generator=generator, device=device) + column % 2
        place = torch.rand(n, 2, generator=generator, dtype=torch.float64, device=device)
        return ((torch.stack([column, row], -1) + place) / self.cells - 0.5) * self.side

    def entropy(self) -> Tensor:
        """The logarithm of half the area."""
        return torch.tensor(self.side * self.side / 2, dtype=torch.float64).log().expand(self.batch_shape)

    @property
    @override
    def mean(self) -> Tensor:
        return torch.zeros(self.batch_shape + self.event_shape, dtype=torch.float64)
