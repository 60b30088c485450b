"""Probability laws on manifolds, as `torch.distributions`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import scipy.special
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from rsgm.manifolds import Manifold, Product, Sphere


class ManifoldDistribution(Distribution, ABC):
    """A law on a manifold, with respect to its Riemannian volume, that draws from a given generator."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *event)`` from ``generator`` (default: the global one)."""

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
    r"""The law of :math:`\exp_\mu(v)` for a normal v in the tangent space at :math:`\mu`.

    .. math:: \log p(x) = \log N(\log_\mu(x); 0, \mathrm{diag}\,\sigma^2) - \log|\det d\exp_\mu|

    References: Nagano et al. 2019, arXiv:1902.02992; Mathieu et al. 2019, arXiv:1901.06033.

    Arguments:
        manifold: one that knows `log_det_exp`
        loc: :math:`\mu`, points ``(*batch, *shape)``
        scale: :math:`\sigma`, a number, or ``(dim,)`` or ``(*batch, dim)`` along the axes of ``manifold.frame(loc)``

    Raises:
        ValueError: a ``loc`` of the wrong shape, a scale that is not positive, or one so large that the tails would
            wrap round a compact manifold

    Example:
        >>> from rsgm.manifolds import Hyperbolic
        >>> plane = Hyperbolic(2)
        >>> law = WrappedNormal(plane, plane.origin(3), 0.5)
        >>> law.log_prob(plane.origin(3))
        tensor(-0.4516)
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Manifold, loc: Tensor, scale: Tensor | float) -> None:
        event = torch.Size(manifold.shape)
        batch = loc.shape[: loc.dim() - len(event)]
        if loc.shape[len(batch) :] != event:
            raise ValueError(
                f"WrappedNormal: loc must end with the shape {tuple(event)} of a point, found {tuple(loc.shape)}."
            )
        # a number keeps its digits: points may come in any precision
        scale = torch.as_tensor(scale, dtype=torch.float64)
        self.manifold, self.loc, self.scale = manifold, loc, scale.expand(*batch, manifold.dim)
        if not bool((self.scale > 0).all()):
            raise ValueError(f"WrappedNormal: scale must be positive, found {float(scale.min())}.")
        if float(self.scale.max()) > manifold.injectivity_radius / 6:
            raise ValueError(
                f"WrappedNormal: with the scale {float(self.scale.max()):.3g} the tails wrap round {manifold}, whose "
                f"geodesics are shortest up to {manifold.injectivity_radius:.3g}; use the law of its heat kernel "
                "(heat_kernel_sample and heat_kernel_log_prob), or a scale six times smaller than that length."
            )
        super().__init__(batch, event, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats, of points ``(..., *batch, *shape)``."""
        loc, scale = self.loc.to(value), self.scale.to(value)
        u = self.manifold.logmap(loc, value)
        components = self.manifold.inner(loc, self._frame(loc, u.dim()), u).movedim(0, -1)
        normal = -0.5 * (components / scale).square().sum(-1) - scale.log().sum(-1)
        return normal - 0.5 * self.manifold.dim * math.log(2 * math.pi) - self.manifold.log_det_exp(loc, u)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` exact draws ``(n, *batch, *shape)`` on the generator's device."""
        device = self.loc.device if generator is None else generator.device
        loc, scale = self.loc.to(device), self.scale.to(device, self.loc.dtype)
        z = torch.randn(n, *scale.shape, generator=generator, dtype=loc.dtype, device=device)
        frame = self._frame(loc, 1 + loc.dim())
        components = (scale * z).movedim(-1, 0).reshape(-1, n, *self.batch_shape, *(1,) * len(self.event_shape))
        return self.manifold.expmap(loc.expand(n, *loc.shape), (components * frame).sum(0))

    def _frame(self, loc: Tensor, dims: int) -> Tensor:
        """The frame with the axes that let it broadcast with points of so many axes."""
        frame = self.manifold.frame(loc)
        return frame.reshape(len(frame), *(1,) * (dims - loc.dim()), *loc.shape)


class ProductDistribution(ManifoldDistribution):
    """Independent laws on the factors of a product.

    Arguments:
        manifold: the product
        factors: a law on each of its factors
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, manifold: Product, factors: Sequence[ManifoldDistribution]) -> None:
        self.manifold, self.factors = manifold, list(factors)
        super().__init__((), torch.Size(manifold.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the factors' log-densities."""
        parts = self.manifold.split(value)
        return sum(factor.log_prob(part) for factor, part in zip(self.factors, parts, strict=True))

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws on the generator's device."""
        return self.manifold.join(factor.draw(n, generator) for factor in self.factors)
