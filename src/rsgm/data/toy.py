"""Synthetic laws: on spheres, in the hyperbolic plane, and on any manifold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from rsgm.data.synthetic import LawData, MixtureData
from rsgm.distributions import Mixture, VonMisesFisher, WrappedNormal
from rsgm.distributions.checks import require_count, require_positive
from rsgm.manifolds import Hyperbolic, Manifold, Product, Sphere
from rsgm.seeding import generator_from


@dataclass(eq=False, repr=False)
class VonMisesFisherData(LawData):
    r"""The von Mises-Fisher law around the first axis of :math:`S^d`; by default the toy of the RSGM code.

    The best reachable negative log-likelihood is the entropy, 0.1298268653 nats for :math:`\kappa = 15` on
    :math:`S^2`; `true_log_prob` of the test points gives its value on the same draw.

    References: De Bortoli et al. (2022), arXiv:2202.02763, code ``s2_toy``.

    Arguments:
        dim: d
        concentration: :math:`\kappa`
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Example:
        >>> data = VonMisesFisherData(train_size=100, val_size=10, test_size=1000)
        >>> data.setup()
        >>> x, _ = data.train_batch(step=0)
        >>> x.shape, bool(abs(data.true_log_prob(data.test.points).mean() + 0.13) < 0.1)
        (torch.Size([512, 3]), True)
    """

    dim: int = 2
    concentration: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        Sphere(self.dim)  # checks it
        require_positive("VonMisesFisherData", concentration=self.concentration)

    @cached_property
    def law(self) -> VonMisesFisher:
        """One component."""
        axis = torch.eye(self.dim + 1, dtype=torch.float64)[0]
        return VonMisesFisher(Sphere(self.dim), axis, self.concentration)


@dataclass(eq=False, repr=False)
class VonMisesFisherMixtureData(MixtureData):
    r"""Von Mises-Fisher laws of one concentration around uniform random means on :math:`S^d`, equally likely.

    The means are a function of the seed.

    Arguments:
        dim: d
        components: their number
        concentration: :math:`\kappa`
        conditional: give the component as context, and score given it
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    dim: int = 2
    components: int = 4
    concentration: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        Sphere(self.dim)  # checks it
        require_count("VonMisesFisherMixtureData", components=self.components)
        require_positive("VonMisesFisherMixtureData", concentration=self.concentration)

    @cached_property
    def law(self) -> Mixture:
        """Equal weights."""
        sphere, generator = Sphere(self.dim), generator_from("law", self.seed)
        means = sphere.random_uniform(self.components, self.dim + 1, generator=generator, dtype=torch.float64)
        return Mixture(VonMisesFisher(sphere, means, self.concentration))


@dataclass(eq=False, repr=False)
class HyperbolicMixtureData(MixtureData):
    r"""Four wrapped normals in the hyperbolic plane, each long in one direction: the experiment of the RSGM code.

    The means are :math:`(\pm0.4, 0)` and :math:`(0, \pm0.4)` in the Poincaré disk; the standard deviations are 0.15
    along one axis of the disk and 0.5 along the other.

    References: De Bortoli et al. (2022), arXiv:2202.02763, code ``hyperboloid``.

    Arguments:
        conditional: give the component as context, and score given it
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    @cached_property
    def law(self) -> Mixture:
        """Four components."""
        plane = Hyperbolic(2)
        disk = 0.4 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
        scales = torch.tensor([[0.15, 0.5], [0.15, 0.5], [0.5, 0.15], [0.5, 0.15]], dtype=torch.float64)
        return Mixture(WrappedNormal(plane, plane.from_ball(disk), scales))


@dataclass(eq=False, repr=False)
class WrappedNormalMixtureData(MixtureData):
    r"""Wrapped normals of one scale around random points of any manifold, equally likely.

    The centres are a function of the seed: uniform on compact manifolds, wrapped normal around the origin on others,
    and so on each factor of a product, whose factors are then dependent although each component's are not.

    Arguments:
        manifold: where the points live
        components: their number
        scale: standard deviation along every axis; at most a sixth of the manifold's injectivity radius
        spread: standard deviation of the centres where the manifold is not compact
        conditional: give the component as context, and score given it
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Example:
        >>> data = WrappedNormalMixtureData(Product(), train_size=10, val_size=10, test_size=10)
        >>> data.setup()
        >>> data.test.points.shape
        torch.Size([10, 4])
    """

    manifold: Manifold = field(default_factory=Product)
    components: int = 6
    scale: float = 0.3
    spread: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("WrappedNormalMixtureData", components=self.components)
        require_positive("WrappedNormalMixtureData", scale=self.scale, spread=self.spread)

    @cached_property
    def law(self) -> Mixture:
        """Equal weights."""
        centres = self._centres(self.manifold, generator_from("law", self.seed))
        return Mixture(WrappedNormal(self.manifold, centres, self.scale))

    def _centres(self, manifold: Manifold, generator: torch.Generator) -> Tensor:
        if manifold.factors:
            return Product(manifold.factors).join(self._centres(factor, generator) for factor in manifold.factors)
        if math.isfinite(manifold.log_volume):
            size = (self.components, *manifold.shape)
            return manifold.random_uniform(*size, generator=generator, dtype=torch.float64)
        origin = manifold.origin(*manifold.shape, dtype=torch.float64)
        return WrappedNormal(manifold, origin, self.spread).draw(self.components, generator)
