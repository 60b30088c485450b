"""What denoising score matching regresses on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.manifolds import expand
from rsgm.processes import Process

#: kernels that are evaluated at a time: few enough that temporary results stay in a processor's cache
_PAIRS = 2**14
#: noise is short if its square is this part of the square of the distance of two members of a cell
_SHORT = 0.1


class ScoreTarget(ABC):
    """What denoising score matching regresses on."""

    def draw(
        self,
        process: Process,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A noisy point of each data point, and the target there."""
        x = process.perturb(x0, t, generator)
        return x, self(process, x0, x, t, context)

    @abstractmethod
    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """Tangent vectors at ``x``."""


@dataclass(frozen=True)
class ExactTarget(ScoreTarget):
    """The process's own: the conditional score, or that of the last step of a simulation."""

    @override
    def draw(
        self,
        process: Process,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        return process.perturb_with_score(x0, t, generator)

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """``∇ log p_t(x | x0)``."""
        return process.conditional_score(x0, x, t)


@dataclass(frozen=True)
class StableTarget(ScoreTarget):
    r"""The posterior mean of the conditional scores over a group of data points, of which each noisy point has one.

    .. math:: \sum_j w_j\,\nabla\log p_t(x \mid x_j), \qquad w_j \propto p_t(x \mid x_j)

    Given the group and a noisy point of one of its members drawn at random, :math:`w_j` is the probability that the
    member was j. So this is the conditional expectation of `ExactTarget`'s draw (Rao and Blackwell): for every size
    of the group the mean given x alone is the score, and the variance is smaller. The gain is large where several
    members could have led to x, that is at late times and where the data are dense. It costs ``group`` kernels per
    point. With a context the group is of those members that share it.

    The batch is cut into groups in two ways: as it comes, and into cells of a k-d tree, which are used at the early
    times whose noise is short beside the size of a cell. Both are blind to which member a noisy point has.

    References: Xu, Tong and Jaakkola 2023, "Stable Target Field for Reduced Variance Score Estimation in Diffusion
    Models", arXiv:2302.00670; the cells are our own.

    Arguments:
        group: size of the groups
    """

    group: int = 64

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"StableTarget: group must be at least 2, found {self.group}; 1 is ExactTarget.")

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """The weighted means; the order of the batch must not depend on its points."""
        n = len(x)
        order = _cells(x0.flatten(1), self.group)
        rank = order.argsort()
        # the members of all groups; the last one is filled up with a point that does not count
        member = torch.arange(-n % self.group + n, device=x.device).view(-1, self.group)
        is_real, member = member < n, member.clamp_max(n - 1)
        cell = order[member]
        apart = process.manifold.dist(x0[cell[:, 0]], x0[cell[:, self.group // 2]]).square().mean()
        early = process.log_noise_to_signal(t).exp() * process.manifold.dim < _SHORT * apart
        own = torch.where(early, rank, torch.arange(n, device=x.device)) // self.group
        references, is_real = torch.where(early[:, None], cell[own], member[own]), is_real[own]
        if context is not None:
            is_real = is_real & (context[references] == context[:, None]).flatten(2).all(-1)
        parts = (value.split(max(1, _PAIRS // self.group)) for value in (references, is_real, x, t))
        return torch.cat(
            [process.mixture_score(x0[near], real, *part) for near, real, *part in zip(*parts, strict=True)]
        )


@dataclass(frozen=True)
class TruncatedTarget(ScoreTarget):
    r"""The paper's approximation, for reproduction only: Varadhan's limit below a threshold, a cut series above.

    :math:`\log_x(x_0)/s` where :math:`s(t) \le` ``threshold``, else the gradient of the eigenfunction series up to
    degree ``terms``. With the defaults the target is wrong by 11 % (root mean square) at s = 0.5 on S².

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 3.3.

    Arguments:
        threshold: the switch, compared with s(t), not t; ``inf`` is Varadhan at every time
        terms: largest degree kept
    """

    threshold: float = 0.5
    terms: int = 5

    @override
    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        s = process.schedule.integral(t)
        column = expand(s, x)
        varadhan = process.manifold.logmap(x, x0) / column
        if self.threshold == math.inf:
            return varadhan
        # the series is only ever used above the threshold; below, it may not even be positive
        series = process.manifold.heat_kernel_series_score(x0, x, s.clamp_min(max(self.threshold, 1e-3)), self.terms)
        return torch.where(column <= self.threshold, varadhan, series)


def _cells(x: Tensor, size: int) -> Tensor:
    """An order of the points ``(n, d)`` whose runs of ``size`` are cells of a k-d tree, cut at medians."""
    n, cells = len(x), 1
    order = torch.arange(n, device=x.device)
    while cells * size < n:
        label = torch.arange(n, device=x.device) * cells // n
        points = x[order]
        zero = x.new_zeros(cells, x.shape[1])
        count = x.new_zeros(cells).index_add(0, label, torch.ones_like(x[:, 0]))[:, None]
        centre = zero.index_add(0, label, points) / count
        spread = zero.index_add(0, label, (points - centre[label]).square())
        along = points.gather(1, spread.argmax(1)[label][:, None]).squeeze(1)
        # by cell, and within it along its longest axis
        by_axis = along.argsort(stable=True)
        order = order[by_axis[label[by_axis].argsort(stable=True)]]
        cells *= 2
    return order
