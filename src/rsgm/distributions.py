"""Probability laws on manifolds, as `torch.distributions`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import scipy.special
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from rsgm.manifolds import Manifold, Sphere


class ManifoldDistribution(Distribution, ABC):
    """A law on a manifold, with respect to its Riemannian volume, that draws from a given generator."""

    manifold: Manifold

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *event)`` from ``generator`` (default: the global one)."""

    def take(self, index: Tensor) -> ManifoldDistribution:
        """The members of a batch ``(K,)`` of laws that ``index`` selects."""
        raise NotImplementedError(f"{type(self).__name__} does not select from a batch of laws.")

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Exact draws ``(*sample_shape, *batch, *event)`` from the global generator."""
        shape = torch.Size(sample_shape)
        return self.draw(shape.numel()).reshape(shape + self.batch_shape + self.event_shape)


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


class WrappedNormal(ManifoldDistribution):
    r"""A normal law in the tangent space of ``loc``, wrapped by the exponential map.

    With :math:`v = \log_\mu x` in the frame of :math:`\mu`, :math:`\log p(x) = \log N(v; 0, \sigma^2) - \log|\det
    d\exp_\mu(v)|`: exact where the exponential map is a bijection, and on compact manifolds up to the mass beyond
    the injectivity radius, below 1e-8 for the scales that are admitted.

    References: Mathieu et al. 2019, arXiv:1901.06033; De Bortoli et al. 2022, arXiv:2202.02763, section 5.2.

    Arguments:
        manifold: where the law lives
        loc: centres, ``(*batch, *shape)``
        scale: standard deviations in the frame of ``loc``: ``batch``-shaped or a number, or ``(*batch, dim)``

    Raises:
        ValueError: a scale above a sixth of the injectivity radius; use `BrownianLaw` there
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, loc: Tensor, scale: Tensor | float) -> None:
        batch = loc.shape[: loc.dim() - len(manifold.shape)]
        scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        if scale.shape != (*batch, manifold.dim):
            scale = scale.expand(batch)[..., None].expand(*batch, manifold.dim)
        if not 0 < float(scale.min()) <= float(scale.max()) <= manifold.injectivity_radius / 6:
            raise ValueError(
                f"WrappedNormal: scales on {manifold} must be in (0, {manifold.injectivity_radius / 6:.3g}], found "
                f"{float(scale.min()):.3g} to {float(scale.max()):.3g}; wider laws wrap round: use BrownianLaw."
            )
        self.manifold, self.loc, self.scale = manifold, loc, scale
        super().__init__(batch, torch.Size(manifold.shape), validate_args=False)

    def take(self, index: Tensor) -> WrappedNormal:
        """The laws that ``index`` selects."""
        return WrappedNormal(self.manifold, self.loc[index], self.scale[index])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *batch, *shape)``."""
        loc, value = torch.broadcast_tensors(self.loc, value)
        v = self.manifold.logmap(loc, value)
        coordinates = self.manifold.inner(loc, self.manifold.frame(loc), v).movedim(0, -1)
        normal = -0.5 * (coordinates / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return normal.sum(-1) - self.manifold.log_det_exp(loc, v)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws ``(n, *batch, *shape)``."""
        loc = self.loc.expand(n, *self.loc.shape)
        z = self.scale * torch.randn(
            n, *self.scale.shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device
        )
        frame = self.manifold.frame(loc)
        z = z.movedim(-1, 0).reshape(frame.shape[: frame.dim() - len(self.event_shape)] + (1,) * len(self.event_shape))
        return self.manifold.expmap(loc, (z * frame).sum(0))


class BrownianLaw(ManifoldDistribution):
    r"""Brownian motion from ``loc`` at variance time s: the heat kernel, a normal law made for the manifold.

    On flat space and flat tori it is the (wrapped) normal of variance s, on SO(3) the IGSO(3) law.

    Arguments:
        manifold: one with a known heat kernel
        loc: the centre, one point
        time: s > 0, radians\ :sup:`2`
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, loc: Tensor, time: float) -> None:
        self.manifold, self.loc, self.time = manifold, loc, time
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *shape)``."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return self.manifold.heat_kernel_log_prob(self.loc.expand_as(value), value, value.new_full(batch, self.time))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *shape)``."""
        centre = self.loc.expand(n, *self.event_shape)
        return self.manifold.heat_kernel_sample(centre, centre.new_full((n,), self.time), generator)


class Mixture(ManifoldDistribution):
    r"""A finite mixture, :math:`p = \sum_k w_k p_k`.

    Arguments:
        components: a law with batch shape ``(K,)``
        weights: ``(K,)``, positive, of any sum; None for equal weights

    Raises:
        ValueError: components without a batch axis, or other weights
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, components: ManifoldDistribution, weights: Tensor | None = None) -> None:
        if len(components.batch_shape) != 1:
            raise ValueError(f"Mixture: components need batch shape (K,), found {tuple(components.batch_shape)}.")
        self.components, self.manifold, self.count = components, components.manifold, components.batch_shape[0]
        weights = torch.ones(self.count, dtype=torch.float64) if weights is None else weights
        if weights.shape != (self.count,) or not bool((weights > 0).all()):
            raise ValueError(f"Mixture: {self.count} positive weights are needed, found {weights}.")
        self.weights = weights / weights.sum()
        super().__init__((), components.event_shape, validate_args=False)

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-densities ``(..., K)`` of points ``(..., *event)``."""
        return self.components.log_prob(value.unsqueeze(value.dim() - len(self.event_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats."""
        parts = self.component_log_prob(value)
        return (parts + self.weights.log().to(parts)).logsumexp(-1)

    def draw_with_component(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws and the component ``(n,)`` that each came from."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.components.take(component).draw(1, generator)[0], component

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws."""
        return self.draw_with_component(n, generator)[0]
