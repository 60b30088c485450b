"""The uniform, the normal and the von Mises-Fisher law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import register_kl
from torch.distributions.constraints import Constraint
from typing_extensions import override

from rsgm.arguments import require_positive
from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.checks import OnManifold, PositiveFinite, floating
from rsgm.manifolds import Manifold, Sphere
from rsgm.manifolds.von_mises_fisher import log_constant, mean_cosine, mean_height


class Uniform(ManifoldDistribution):
    """The uniform law of a compact manifold.

    Arguments:
        manifold: a compact manifold
        validate_args: check values (default: as `torch.distributions` does)

    Raises:
        ValueError: where the volume is infinite
    """

    has_rsample = True

    def __init__(self, manifold: Manifold, validate_args: bool | None = None) -> None:
        if math.isinf(manifold.log_volume):
            raise ValueError(f"{manifold} has infinite volume, so no uniform law; {manifold.without_uniform}.")
        self.manifold = manifold
        super().__init__(torch.Size(), torch.Size(manifold.shape), validate_args=validate_args)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        value = self._point(value)
        # a function of the value, whose gradient is zero
        nothing = 0 * value.flatten(value.dim() - len(self.event_shape)).sum(-1)
        return nothing - self.manifold.log_volume

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = None if generator is None else generator.device
        size = (n, *self.batch_shape, *self.event_shape)
        return self.manifold.random_uniform(*size, generator=generator, device=device)

    @override
    def entropy(self) -> Tensor:
        return torch.tensor(self.manifold.log_volume).expand(self.batch_shape)


class Normal(ManifoldDistribution):
    """The isotropic normal law of flat space with mean zero.

    Arguments:
        manifold: a Euclidean space
        scale: standard deviation of each coordinate
        validate_args: check values (default: as `torch.distributions` does)

    Raises:
        ValueError: where the manifold is not a vector space, and for a scale that is not positive
    """

    has_rsample = True

    def __init__(self, manifold: Manifold, scale: float = 1.0, validate_args: bool | None = None) -> None:
        manifold.require_vector_space("Normal")
        require_positive("Normal", scale=scale)
        self.manifold, self.scale = manifold, scale
        super().__init__(torch.Size(), torch.Size(manifold.shape), validate_args=validate_args)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        value = self._point(value)
        square = (value / self.scale).square().flatten(value.dim() - len(self.event_shape)).sum(-1)
        return -0.5 * square - self.manifold.dim * (0.5 * math.log(2 * math.pi) + math.log(self.scale))

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = None if generator is None else generator.device
        size = (n, *self.batch_shape, *self.event_shape)
        return self.scale * torch.randn(*size, generator=generator, device=device)

    @property
    @override
    def mean(self) -> Tensor:
        return torch.zeros(self.batch_shape + self.event_shape)

    mode = mean

    def entropy(self) -> Tensor:
        """``dim (log(2 π e) / 2 + log scale)``."""
        value = self.manifold.dim * (0.5 * math.log(2 * math.pi * math.e) + math.log(self.scale))
        return torch.tensor(value).expand(self.batch_shape)


@register_kl(Normal, Normal)
def _kl_of_normals(p: Normal, q: Normal) -> Tensor:
    r"""``torch.distributions.kl_divergence``: :math:`d\,(\log\tfrac{s_q}{s_p} + \tfrac{s_p^2}{2 s_q^2} - \tfrac12)`."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"kl_divergence: points of one shape are needed, found the laws {p} and {q}.")
    ratio = p.scale / q.scale
    value = p.manifold.dim * (0.5 * (ratio * ratio - 1) - math.log(ratio))
    return torch.tensor(value).expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


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
        ValueError: for a manifold that is no sphere, a concentration that is not positive and finite, or a ``loc`` that
            is no point of the sphere

    Example:
        >>> law = VonMisesFisher(Sphere(2), torch.tensor([1.0, 0.0, 0.0]), 15.0)
        >>> law.draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
        >>> law.entropy()
        tensor(0.1298)
    """

    def __init__(
        self, manifold: Sphere, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        if manifold.shape != (manifold.dim + 1,) or math.isinf(manifold.log_volume):
            raise ValueError(f"VonMisesFisher: expected a Sphere, found {manifold}; use BrownianLaw or WrappedNormal.")
        loc = floating(loc)
        if loc.shape[-1:] != manifold.shape:
            raise ValueError(
                f"VonMisesFisher: loc must end with the shape {tuple(manifold.shape)} of a point, "
                f"found {tuple(loc.shape)}."
            )
        kappa = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        batch = torch.broadcast_shapes(loc.shape[:-1], kappa.shape)
        self.manifold = manifold
        self.loc, self.concentration = loc.expand(*batch, -1), kappa.expand(batch)
        super().__init__(batch, torch.Size(manifold.shape), validate_args=validate_args)

    @property
    @override
    def batched(self) -> dict[str, int]:
        return {"loc": 1, "concentration": 0}

    @property
    @override
    def arg_constraints(self) -> dict[str, Constraint]:
        return {"loc": OnManifold(self.manifold), "concentration": PositiveFinite()}

    @property
    def width(self) -> Tensor:
        r"""The scale :math:`\kappa^{-1/2}` of the manifold's kernel, radians, shape ``batch``."""
        return self.concentration.rsqrt()

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        # from differences, for κ<μ, x> would cancel; their squares are never held, a tenth of the time on S⁹⁹
        gap = self._point(value) - self.loc
        square = torch.einsum("...i,...i->...", gap, gap)
        return log_constant(self.concentration, self.manifold.dim) - 0.5 * self.concentration * square

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.manifold.bump_sample(self.loc.expand(n, *self.loc.shape), self.width, generator)

    @property
    def mean_resultant_length(self) -> Tensor:
        r"""Length of the mean vector, :math:`A(\kappa) = I_{(d+1)/2}(\kappa) / I_{(d-1)/2}(\kappa)`."""
        return mean_cosine(self.concentration, self.manifold.dim)

    @property
    def mean(self) -> Tensor:
        r"""The expectation :math:`A(\kappa)\,\mu`, inside of the sphere."""
        return self.mean_resultant_length[..., None] * self.loc

    @property
    def mode(self) -> Tensor:
        r"""The mean direction :math:`\mu`."""
        return self.loc

    def entropy(self) -> Tensor:
        r"""Differential entropy :math:`-\log p(\mu) + \kappa(1 - A(\kappa))`, nats, shape ``batch``."""
        kappa, dim = self.concentration, self.manifold.dim
        return kappa * mean_height(kappa, dim) - log_constant(kappa, dim)
