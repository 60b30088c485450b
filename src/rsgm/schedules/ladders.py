"""Noise levels for annealed Langevin dynamics, and how to choose them: techniques 0 to 4 of NCSN.

References: Song and Ermon 2020, "Improved Techniques for Training Score-Based Generative Models", arXiv:2006.09011.
Technique 0 is the choice of the smallest level; technique 3, the division of the network's output by σ, is
`rsgm.processes.Score`; EMA is technique 5.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import scipy.optimize
import torch
from scipy.special import ndtr
from torch import Tensor
from typing_extensions import override

from rsgm.schedules.grids import GeometricVarianceGrid, TimeGrid, UniformTimeGrid
from rsgm.schedules.rates import GeometricVariance, Schedule

#: of so many points all distances are computed, of more only those to the mean
_MOST_POINTS = 5000
#: points among which nearest neighbours are sought: of more they are nearer, whatever the scale of the law
_NEIGHBOURS = 500


@dataclass(frozen=True)
class AutomaticVariance(Schedule):
    r"""`GeometricVariance` with its ends taken from the training points: techniques 0 and 1.

    The smallest level :math:`\sigma_L` is half of the median distance to the nearest neighbour, the largest,
    :math:`\sigma_1`, the largest distance between two points; :math:`s_{\min} = \sigma_L^2`,
    :math:`s_{\max} = \sigma_1^2`. When training starts a model puts the `GeometricVariance` that it finds in the place
    of this schedule, in its checkpoints too.

    References: Song and Ermon 2020, arXiv:2006.09011, technique 1.

    Arguments:
        s_min, s_max: range as long as there are no points
        floor: bound below on :math:`\sigma_L`

    Example:
        >>> schedule = AutomaticVariance().fit(torch.tensor([[0.0, 0.0], [0.3, 0.4], [3.0, 4.0]]))
        >>> round(schedule.s_min, 4), round(schedule.s_max, 4)
        (0.0625, 25.0)
    """

    s_min: float = 1e-4
    s_max: float = 100.0
    floor: float = 1e-3

    @override
    def beta(self, t: Tensor) -> Tensor:
        return GeometricVariance(self.s_min, self.s_max).beta(t)

    @override
    def integral(self, t: Tensor) -> Tensor:
        return GeometricVariance(self.s_min, self.s_max).integral(t)

    @override
    def inverse(self, s: Tensor) -> Tensor:
        return GeometricVariance(self.s_min, self.s_max).inverse(s)

    def fit(self, points: Tensor) -> GeometricVariance:
        """The schedule for training points ``(N, *shape)``, of which at least two must differ."""
        return GeometricVariance(smallest_level(points, self.floor) ** 2, largest_level(points) ** 2)


class Ladder(ABC):
    """The noise levels of a chain, as times: what annealed Langevin dynamics visits and what is trained for it."""

    @abstractmethod
    def __call__(self, schedule: Schedule, dim: int, eps: float) -> Tensor:
        """Times ``(levels,)`` in float64, from 1 down to ``eps``, for data of dimension ``dim``."""


@dataclass(frozen=True)
class GridLadder(Ladder):
    r"""A given number of levels on a grid; by default :math:`\sigma_1 > \dots > \sigma_L` with equal ratios.

    Arguments:
        count: L; 1 is the level at ``eps`` alone
        grid: where they lie
    """

    count: int = 100
    grid: TimeGrid = GeometricVarianceGrid()

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"GridLadder: count must be at least 1, found {self.count}.")

    @override
    def __call__(self, schedule: Schedule, dim: int, eps: float) -> Tensor:
        return self.grid(schedule, max(1, self.count - 1), eps)[-self.count :]


@dataclass(frozen=True)
class ChainLadder(Ladder):
    """The times k / T of a chain of T steps, those of the process's discrete schedule: what DDPM is trained on."""

    def __call__(self, schedule: Schedule, dim: int, eps: float) -> Tensor:
        """Equal steps of t.

        Raises:
            ValueError: for a schedule in continuous time
        """
        return UniformTimeGrid()(schedule, schedule.chain("ChainLadder") - 1, eps)


@dataclass(frozen=True)
class AutomaticLadder(Ladder):
    """As many levels with equal ratios as technique 2 asks for (see `level_ratio`).

    Arguments:
        max_ratio: bound on the ratio of neighbouring levels; below dimension 5, the ratio itself
    """

    max_ratio: float = 1.25

    @override
    def __call__(self, schedule: Schedule, dim: int, eps: float) -> Tensor:
        low, high = schedule.integral(torch.tensor([eps, 1.0], dtype=torch.float64)).sqrt().tolist()
        return GridLadder(level_count(high / low, level_ratio(dim, self.max_ratio)))(schedule, dim, eps)


def smallest_level(points: Tensor, floor: float = 1e-3) -> float:
    r"""Technique 0: a :math:`\sigma_L` at which the smoothed data are the data.

    Half of the median distance to the nearest neighbour, among the first 500 points ``(N, *shape)``.
    """
    x = points[:_NEIGHBOURS].flatten(1).double()
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    return max(0.5 * float(distances.min(1).values.median()), floor)


def largest_level(points: Tensor) -> float:
    r"""Technique 1: :math:`\sigma_1` is the largest distance between two points ``(N, *shape)``.

    Of more than 5000, its bound: twice the largest distance to the mean.
    """
    x = points.flatten(1).double()
    if len(x) > _MOST_POINTS:
        return 2 * float((x - x.mean(0)).norm(dim=1).max())
    return float(torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").max())


def level_ratio(dim: int, max_ratio: float = 1.25) -> float:
    r"""Technique 2: the ratio γ of neighbouring levels, at most ``max_ratio``.

    The root of :math:`\Phi(\sqrt{2D}(\gamma - 1) + 3\gamma) - \Phi(\sqrt{2D}(\gamma - 1) - 3\gamma) = 0.5`, at which
    half of the mass of one level is typical of the next.

    Arguments:
        dim: D; below 5 there is no root, which is a warning, and the bound is the answer
        max_ratio: bound; ``inf`` for none
    """

    def overlap(ratio: float) -> float:
        shift = (2 * dim) ** 0.5 * (ratio - 1)
        return float(ndtr(shift + 3 * ratio) - ndtr(shift - 3 * ratio))

    if dim >= 5:
        return min(max_ratio, scipy.optimize.brentq(lambda ratio: overlap(ratio) - 0.5, 1.0, 100.0, xtol=1e-12))
    warnings.warn(
        f"Technique 2 of NCSN has no solution in {dim} dimensions (it needs 5): neighbouring noise levels get the "
        f"ratio {max_ratio:g} instead. Give the number of levels to choose it.",
        stacklevel=2,
    )
    return max_ratio


def level_count(spread: float, ratio: float) -> int:
    r"""How many levels with ratios of at most ``ratio`` span the ``spread`` :math:`\sigma_1 / \sigma_L`."""
    # a whole number of ratios is not one more for the rounding of a logarithm
    return math.ceil(1 + math.log(spread) / math.log(ratio) - 1e-9)


def langevin_step(ratio: float, steps: int) -> float:
    r"""Technique 4: the step size :math:`r = \epsilon / \sigma_L^2`, in units of the variance of the level.

    After the steps at a level the variance, over that of the level, is :math:`f = (1 - r)^{2T}(\gamma^2 - c) + c`, with
    the stationary :math:`c = 1 / (1 - r/2)`. It exceeds one for every r: the answer minimises f - 1.

    Arguments:
        ratio: γ, of neighbouring levels
        steps: T, at each level
    """

    def excess(log_r: float) -> float:
        r = math.exp(log_r)
        c = 1 / (1 - r / 2)
        return abs(math.exp(2 * steps * math.log1p(-r)) * (ratio**2 - c) + c - 1)

    found = scipy.optimize.minimize_scalar(
        excess, bounds=(math.log(1e-8), math.log(1 - 1e-8)), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(found.x)
