"""Toy laws in the plane, with exact densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rsgm.data.synthetic import LawData
from rsgm.distributions import Checkerboard, EuclideanLaw, GaussianMixture, Moons, SwissRoll


@dataclass(kw_only=True, eq=False, repr=False)
class PlaneData(LawData, ABC):
    """Points drawn from a law in the plane, which samples are held against. A subclass says what `law` is.

    Arguments:
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    test_size: int = 2_000

    @property
    @abstractmethod
    def law(self) -> EuclideanLaw:
        """What the points are drawn from."""

    @property
    def reference_law(self) -> EuclideanLaw:  # type: ignore[override]
        """The law."""
        return self.law


@dataclass(eq=False, repr=False)
class MoonsData(PlaneData):
    r"""The two moons; see `Moons`.

    Arguments:
        noise: standard deviation of the noise
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Example:
        >>> data = MoonsData(train_size=10, val_size=10, test_size=100)
        >>> data.setup()
        >>> data.true_log_prob(data.test.points).shape
        torch.Size([100])
    """

    noise: float = 0.05

    @cached_property
    def law(self) -> Moons:
        """Two half circles."""
        return Moons(self.noise)


@dataclass(eq=False, repr=False)
class SwissRollData(PlaneData):
    r"""The spiral; see `SwissRoll`.

    Arguments:
        noise: standard deviation of the noise
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    noise: float = 0.05

    @cached_property
    def law(self) -> SwissRoll:
        """One curve."""
        return SwissRoll(self.noise)


@dataclass(eq=False, repr=False)
class GaussianMixtureData(PlaneData):
    r"""Isotropic normal laws; by default two far ones of unequal weight, on which Langevin dynamics errs.

    Song and Ermon's figures have the weights 0.2 and 0.8. Means (1, 1) and (-1, -1), a scale of 0.15 and weights 0.7
    and 0.3 make a close pair, on which samplers are told apart quickly.

    References: Song and Ermon 2019, arXiv:1907.05600, section 3.2.2.

    Arguments:
        means, scale, weights: see `GaussianMixture`
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    means: Sequence[Sequence[float]] = ((-5.0, -5.0), (5.0, 5.0))
    scale: float | Sequence[float] = 1.0
    weights: Sequence[float] | None = (0.95, 0.05)

    @cached_property
    def law(self) -> GaussianMixture:
        """The mixture."""
        return GaussianMixture(self.means, self.scale, self.weights)


@dataclass(eq=False, repr=False)
class EightGaussiansData(PlaneData):
    r"""Eight equal normal laws on a circle.

    Arguments:
        radius: of the circle
        scale: standard deviation of each law
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    radius: float = 2.0
    scale: float = 0.2

    @cached_property
    def law(self) -> GaussianMixture:
        """Eight components."""
        return GaussianMixture.ring(8, self.radius, self.scale)


@dataclass(eq=False, repr=False)
class BlobsData(PlaneData):
    r"""Two equal normal laws around (-2, 0) and (2, 0).

    Arguments:
        scale: standard deviation of each law
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    scale: float = 0.5

    @cached_property
    def law(self) -> GaussianMixture:
        """Two components."""
        return GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], self.scale, None)


@dataclass(eq=False, repr=False)
class CheckerboardData(PlaneData):
    r"""The uniform law on the dark cells of a board; see `Checkerboard`.

    Arguments:
        side, cells: see `Checkerboard`
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`
    """

    side: float = 8.0
    cells: int = 4

    @cached_property
    def law(self) -> Checkerboard:
        """The board."""
        return Checkerboard(self.side, self.cells)
