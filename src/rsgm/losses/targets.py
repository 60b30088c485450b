"""What denoising score matching regresses on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.manifolds.base import expand
from rsgm.processes import Process

#: pairs of points at a time
_PAIRS = 8192


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

    def draw(
        self,
        process: Process,
        x0: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the process draws."""
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

    References: Xu, Tong and Jaakkola 2023, "Stable Target Field for Reduced Variance Score Estimation in Diffusion
    Models", arXiv:2302.00670.

    Arguments:
        group: the batch is cut into pieces of at most so many points
    """

    group: int = 64

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"StableTarget: group must be at least 2, found {self.group}; 1 is ExactTarget.")

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """The weighted means; the batch is taken in its order, which must not depend on the points."""
        full = len(x) - len(x) % self.group
        # some groups at a time, so that what a kernel writes down stays in the cache
        some = self.group * max(1, _PAIRS // self.group**2)
        parts = [(slice(i, min(i + some, full)), self.group) for i in range(0, full, some)]
        if full < len(x):
            parts.append((slice(full, None), len(x) - full))
        return torch.cat(
            [
                _posterior_means(process, x0[part], x[part], t[part], None if context is None else context[part], size)
                for part, size in parts
            ]
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

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """The approximate score."""
        s = process.schedule.integral(t)
        column = expand(s, x)
        varadhan = process.manifold.logmap(x, x0) / column
        if self.threshold == math.inf:
            return varadhan
        # the series is only ever used above the threshold; below, it may not even be positive
        series = process.manifold.heat_kernel_series_score(x0, x, s.clamp_min(max(self.threshold, 1e-3)), self.terms)
        return torch.where(column <= self.threshold, varadhan, series)


def _posterior_means(process: Process, x0: Tensor, x: Tensor, t: Tensor, context: Tensor | None, group: int) -> Tensor:
    """For every point of every whole group; pairs of its points have the axes (groups, noisy, data)."""

    def pairs(value: Tensor, axis: int) -> Tensor:
        value = value.unflatten(0, (-1, group))
        return value.unsqueeze(axis).expand(-1, group, group, *value.shape[2:])

    log_prob, score = process.conditional(pairs(x0, 1).flatten(0, 2), pairs(x, 2).flatten(0, 2), pairs(t, 2).flatten())
    log_prob = log_prob.view(-1, group, group)
    if context is not None:
        other = (pairs(context, 1) != pairs(context, 2)).flatten(3).any(-1)
        log_prob = log_prob.masked_fill(other, -math.inf)
    score = score.view(-1, group, group, *x.shape[1:])
    mean = torch.einsum("gij,gij...->gi...", log_prob.softmax(-1), score).flatten(0, 1)
    return process.manifold.proju(x, mean)  # the summands may be much longer than their mean: so is their rounding
