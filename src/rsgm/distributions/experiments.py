"""The laws of published experiments, each from a few plain numbers."""

from __future__ import annotations

import math
from abc import ABC

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.arguments import require_count, require_positive
from rsgm.distributions.base import ManifoldDistribution
from rsgm.distributions.combined import Mixture
from rsgm.distributions.elementary import VonMisesFisher
from rsgm.distributions.wrapped import BrownianLaw, WrappedNormal
from rsgm.manifolds import Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.seeding import generator_from


class NamedLaw(ManifoldDistribution, ABC):
    """A law that plain numbers determine, so that a configuration can name it and a checkpoint build it again.

    A subclass keeps its arguments as attributes of the same names, and hands the law that they stand for to this
    constructor. Where parameters are drawn at random they are a function of ``seed``; in a configuration
    ``seed: "${seed_everything}"`` gives every run's seed a law of its own.

    Arguments:
        law: what it stands for
    """

    def __init__(self, law: ManifoldDistribution) -> None:
        self.law, self.manifold, self.mixture = law, law.manifold, law.mixture
        super().__init__(law.batch_shape, law.event_shape)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        return self.law.log_prob(value)

    @override
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.law.draw(n, generator)

    @property
    @override
    def mean(self) -> Tensor:
        return self.law.mean

    @property
    @override
    def mode(self) -> Tensor:
        return self.law.mode

    @override
    def entropy(self) -> Tensor:
        return self.law.entropy()

    @override
    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: ManifoldDistribution | None = None
    ) -> ManifoldDistribution:
        new = super().expand(batch_shape, _instance)
        new.law = self.law.expand(batch_shape)
        new.mixture = new.law.mixture
        return new


class PolarVonMisesFisher(NamedLaw):
    r"""The von Mises-Fisher law around the first axis of :math:`S^d`; by default the toy of the RSGM code.

    The best reachable negative log-likelihood is the entropy, 0.1298268653 nats for :math:`\kappa = 15` on
    :math:`S^2`.

    References: De Bortoli et al. 2022, arXiv:2202.02763, code ``s2_toy``.

    Arguments:
        dim: d
        concentration: :math:`\kappa`

    Raises:
        ValueError: a dimension or a concentration that is not positive

    Example:
        >>> round(PolarVonMisesFisher().entropy().item(), 10)
        0.1298268653
    """

    def __init__(self, dim: int = 2, concentration: float = 15.0) -> None:
        sphere = Sphere(dim)
        require_positive("PolarVonMisesFisher", concentration=concentration)
        super().__init__(VonMisesFisher(sphere, torch.eye(dim + 1, dtype=torch.float64)[0], concentration))
        self.dim, self.concentration = dim, concentration


class RandomVonMisesFisherMixture(NamedLaw):
    r"""Von Mises-Fisher laws of one concentration around uniform random means on :math:`S^d`, equally likely.

    Arguments:
        dim: d
        components: their number
        concentration: :math:`\kappa`
        seed: of the means

    Raises:
        ValueError: a dimension, a number of components or a concentration that is not positive
    """

    def __init__(self, dim: int = 2, components: int = 4, concentration: float = 15.0, seed: int = 0) -> None:
        sphere, generator = Sphere(dim), generator_from("law", seed)
        require_count("RandomVonMisesFisherMixture", components=components)
        require_positive("RandomVonMisesFisherMixture", concentration=concentration)
        means = sphere.random_uniform(components, dim + 1, generator=generator, dtype=torch.float64)
        super().__init__(Mixture(VonMisesFisher(sphere, means, concentration)))
        self.dim, self.components, self.concentration, self.seed = dim, components, concentration, seed


class RandomWrappedNormalMixture(NamedLaw):
    r"""Wrapped normals of one scale around random points of any manifold, equally likely.

    The centres are uniform on compact manifolds, wrapped normal around the origin on others, and so on each factor of
    a product, whose factors are then dependent although each component's are not.

    Arguments:
        manifold: where the points live
        components: their number
        scale: standard deviation along every axis, so small that `WrappedNormal` takes it
        spread: standard deviation of the centres where the manifold is not compact
        seed: of the centres

    Raises:
        ValueError: a number of components, a scale or a spread that is not positive, or too large a scale

    Example:
        >>> RandomWrappedNormalMixture(Product(), components=3).draw(10).shape
        torch.Size([10, 4])
    """

    def __init__(
        self, manifold: Manifold, components: int = 6, scale: float = 0.3, spread: float = 1.0, seed: int = 0
    ) -> None:
        require_count("RandomWrappedNormalMixture", components=components)
        require_positive("RandomWrappedNormalMixture", scale=scale, spread=spread)
        centres = _centres(manifold, components, spread, generator_from("law", seed))
        super().__init__(Mixture(WrappedNormal(manifold, centres, scale)))
        self.components, self.scale, self.spread, self.seed = components, scale, spread, seed


class RandomRotationMixture(NamedLaw):
    r"""Wrapped normals around uniform random rotations: the SO(3) experiment of the RSGM paper.

    :math:`R = M_k \mathrm{Exp}(v)` with Haar means :math:`M_k`, precisions :math:`\lambda_k \sim \Gamma(100, 1)`
    and :math:`v \sim N(0, I / (2 \lambda_k))`, the scale that the paper's Frobenius metric gives rotation vectors.
    Results are to be read beside the log-density of the same points under this law: over its seeds the best reachable
    log-likelihood is 0.916, 0.228, -0.458 for 16, 32, 64 components, with standard deviations 0.04, 0.03, 0.02.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 5.2.

    Arguments:
        components: K
        seed: of the means and precisions

    Raises:
        ValueError: a number of components that is not positive
    """

    def __init__(self, components: int = 16, seed: int = 0) -> None:
        require_count("RandomRotationMixture", components=components)
        group, generator = SpecialOrthogonal(), generator_from("law", seed)
        means = group.random_uniform(components, 3, 3, generator=generator, dtype=torch.float64)
        # the sum of 100 exponential draws: torch's gamma sampler takes no generator
        uniform = torch.rand(components, 100, generator=generator, dtype=torch.float64)
        precision = -uniform.clamp_min(1e-300).log().sum(1)
        super().__init__(Mixture(WrappedNormal(group, means, (2 * precision).rsqrt()[:, None])))
        self.components, self.seed = components, seed


class HyperbolicCross(NamedLaw):
    r"""Four wrapped normals in the hyperbolic plane, each long in one direction: the experiment of the RSGM code.

    The means are :math:`(\pm0.4, 0)` and :math:`(0, \pm0.4)` in the Poincaré disk; the standard deviations are 0.15
    along one axis of the disk and 0.5 along the other.

    References: De Bortoli et al. 2022, arXiv:2202.02763, code ``hyperboloid``.
    """

    def __init__(self) -> None:
        plane = Hyperbolic(2)
        disk = 0.4 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
        scales = torch.tensor([[0.15, 0.5], [0.15, 0.5], [0.5, 0.15], [0.5, 0.15]], dtype=torch.float64)
        super().__init__(Mixture(WrappedNormal(plane, plane.from_ball(disk), scales)))


class TorusWrappedNormal(NamedLaw):
    r"""A normal law of standard deviation σ per angle, wrapped around :math:`T^n`: the RSGM paper's experiment.

    The mean is uniform at random. The best reachable log-likelihood is :math:`-\tfrac12\log(2\pi e\sigma^2)` per
    dimension, 0.190499379 nats for σ = 0.2.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 5.3.

    Arguments:
        dim: n
        scale: σ, radians
        seed: of the mean

    Raises:
        ValueError: a dimension or a scale that is not positive
    """

    def __init__(self, dim: int = 2, scale: float = 0.2, seed: int = 0) -> None:
        torus = Torus(dim)
        require_positive("TorusWrappedNormal", scale=scale)
        mean = torus.random_uniform(*torus.shape, generator=generator_from("law", seed), dtype=torch.float64)
        # on a flat torus the wrapped normal is the heat kernel at σ²
        super().__init__(BrownianLaw(torus, mean, scale * scale))  # inf, where ** raises, is refused there
        self.dim, self.scale, self.seed = dim, scale, seed


def _centres(manifold: Manifold, count: int, spread: float, generator: torch.Generator) -> Tensor:
    """Random points ``(count, *shape)``; see `RandomWrappedNormalMixture`."""
    if manifold.factors:
        return Product(manifold.factors).join(_centres(part, count, spread, generator) for part in manifold.factors)
    if math.isfinite(manifold.log_volume):
        return manifold.random_uniform(count, *manifold.shape, generator=generator, dtype=torch.float64)
    origin = manifold.origin(*manifold.shape, dtype=torch.float64)
    return WrappedNormal(manifold, origin, spread).draw(count, generator)
