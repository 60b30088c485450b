"""The uniform, the normal and the von Mises-Fisher law."""

from __future__ import annotations

import math

import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints

from rsgm.distributions.base import ManifoldDistribution
from rsgm.manifolds import Manifold, Sphere


class Uniform(ManifoldDistribution):
    """The uniform law of a compact manifold.

    Arguments:
        manifold: a compact manifold

    Raises:
        ValueError: where the volume is infinite
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold) -> None:
        if math.isinf(manifold.log_volume):
            raise ValueError(f"{manifold} has infinite volume, so no uniform law; choose a compact manifold.")
        self.manifold = manifold
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the log-volume."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return value.new_full(batch, -self.manifold.log_volume)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``(n, *shape)`` points on the generator's device."""
        device = None if generator is None else generator.device
        return self.manifold.random_uniform(n, *self.manifold.shape, generator=generator, device=device)

    def entropy(self) -> Tensor:
        """The log-volume."""
        return torch.tensor(self.manifold.log_volume)


class Normal(ManifoldDistribution):
    """The isotropic normal law of flat space with mean zero.

    Arguments:
        manifold: a Euclidean space
        scale: standard deviation of each coordinate

    Raises:
        ValueError: where the manifold is not a vector space, and for a scale that is not positive
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, scale: float = 1.0) -> None:
        x = torch.ones(manifold.shape)
        # far from zero points add up: not so on a torus, in a ball, or in coordinates of an ambient space
        if manifold.dim != x.numel() or not torch.equal(manifold.expmap(5 * x, 3 * x), 8 * x):
            raise ValueError(f"{manifold} is not a vector space, so it has no normal law; choose Euclidean.")
        if not 0 < scale < math.inf:
            raise ValueError(f"Normal: scale must be positive and finite, found {scale}.")
        self.manifold, self.scale = manifold, scale
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(*batch, *shape)``."""
        square = (value / self.scale).square().flatten(value.dim() - len(self.event_shape)).sum(-1)
        return -0.5 * square - self.manifold.dim * (0.5 * math.log(2 * math.pi) + math.log(self.scale))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``(n, *shape)`` points on the generator's device."""
        device = None if generator is None else generator.device
        return self.scale * torch.randn(n, *self.manifold.shape, generator=generator, device=device)

    def entropy(self) -> Tensor:
        """``dim (log(2 π e) / 2 + log scale)``."""
        return torch.tensor(self.manifold.dim * (0.5 * math.log(2 * math.pi * math.e) + math.log(self.scale)))


class VonMisesFisher(ManifoldDistribution):
    r"""The von Mises-Fisher law on a sphere, :math:`p(x) \propto \exp(\kappa\langle\mu, x\rangle)`.

    References: Mardia and Jupp, *Directional Statistics* (2000), section 9.3.

    Arguments:
        manifold: the sphere
        loc: mean direction :math:`\mu`, unit vectors, shape ``(*batch, d + 1)``
        concentration: :math:`\kappa > 0`, a number or a tensor that broadcasts with ``batch``; the inverse
            variance, radians\ :sup:`-2`, where it is large
        validate_args: check the arguments (default: as `torch.distributions` does)

    Raises:
        ValueError: a concentration that is not positive, or a ``loc`` whose last axis is not ``d + 1``

    Example:
        >>> law = VonMisesFisher(Sphere(2), torch.tensor([1.0, 0.0, 0.0]), 15.0)
        >>> law.draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
        >>> law.entropy()
        tensor(0.1298)
    """

    arg_constraints = {"loc": constraints.real_vector, "concentration": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self, manifold: Sphere, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        if loc.shape[-1:] != manifold.shape:
            raise ValueError(
                f"VonMisesFisher: loc must end with the shape {tuple(manifold.shape)} of a point, "
                f"found {tuple(loc.shape)}."
            )
        kappa = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        batch = torch.broadcast_shapes(loc.shape[:-1], kappa.shape)
        self.manifold = manifold
        self.loc, self.concentration = loc.expand(*batch, -1), kappa.expand(batch)
        super().__init__(batch, manifold.shape, validate_args=validate_args)

    def take(self, index: Tensor) -> VonMisesFisher:
        """The laws that ``index`` selects."""
        return VonMisesFisher(self.manifold, self.loc[index], self.concentration[index], validate_args=False)

    @property
    def width(self) -> Tensor:
        r"""The scale :math:`\kappa^{-1/2}` of the manifold's kernel, radians, shape ``batch``."""
        return self.concentration.rsqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *batch, d + 1)``."""
        return self.manifold.kernel_log_prob(value, self.loc, self.width)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, d + 1)`` from ``generator`` (default: the global one)."""
        return self.manifold.kernel_sample(self.loc.expand(n, *self.loc.shape), self.width, generator)

    @property
    def mean_resultant_length(self) -> Tensor:
        r"""Length of the mean vector, :math:`A(\kappa) = I_{(d+1)/2}(\kappa) / I_{(d-1)/2}(\kappa)`."""
        kappa, order = self.concentration.double().cpu().numpy(), (self.manifold.dim - 1) / 2
        ratio = scipy.special.ive(order + 1, kappa) / scipy.special.ive(order, kappa)
        return torch.as_tensor(ratio).to(self.concentration)

    def entropy(self) -> Tensor:
        r"""Differential entropy :math:`-\log p(\mu) + \kappa(1 - A(\kappa))`, nats, shape ``batch``."""
        peak = self.log_prob(self.loc)
        return self.concentration * (1 - self.mean_resultant_length) - peak
