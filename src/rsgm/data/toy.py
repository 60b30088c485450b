"""Synthetic laws on spheres and in the hyperbolic plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from rsgm.data.synthetic import LawData, MixtureData
from rsgm.distributions import Mixture, VonMisesFisher, WrappedNormal
from rsgm.manifolds import Hyperbolic, Sphere
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
        train_size, val_size, test_size: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size: see `ManifoldData`

    Example:
        >>> data = VonMisesFisherData(train_size=100, val_size=10, test_size=1000)
        >>> data.setup()
        >>> x, _ = data.train_batch(step=0)
        >>> x.shape, bool(abs(data.true_log_prob(data.test.points).mean() + 0.13) < 0.1)
        (torch.Size([512, 3]), True)
    """

    dim: int = 2
    concentration: float = 15.0

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
        train_size, val_size, test_size: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size: see `ManifoldData`
    """

    dim: int = 2
    components: int = 4
    concentration: float = 15.0

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
        train_size, val_size, test_size: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size: see `ManifoldData`
    """

    @cached_property
    def law(self) -> Mixture:
        """Four components."""
        plane = Hyperbolic(2)
        disk = 0.4 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
        scales = torch.tensor([[0.15, 0.5], [0.15, 0.5], [0.5, 0.15], [0.5, 0.15]], dtype=torch.float64)
        return Mixture(WrappedNormal(plane, plane.from_ball(disk), scales))
