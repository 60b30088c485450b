"""What denoising score matching regresses on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from rsgm.manifolds.base import expand
from rsgm.processes import Process


class ScoreTarget(ABC):
    """What denoising score matching regresses on."""

    def draw(
        self, process: Process, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """A noisy point of each data point, and the target there."""
        x = process.perturb(x0, t, generator)
        return x, self(process, x0, x, t)

    @abstractmethod
    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Tangent vectors at ``x``."""


@dataclass(frozen=True)
class ExactTarget(ScoreTarget):
    """The process's own: the conditional score, or that of the last step of a simulation."""

    def draw(
        self, process: Process, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the process draws."""
        return process.perturb_with_score(x0, t, generator)

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``∇ log p_t(x | x0)``."""
        return process.conditional_score(x0, x, t)


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

    def __call__(self, process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The approximate score."""
        s = process.schedule.integral(t)
        column = expand(s, x)
        varadhan = process.manifold.logmap(x, x0) / column
        if self.threshold == math.inf:
            return varadhan
        # the series is only ever used above the threshold; below, it may not even be positive
        series = process.manifold.heat_kernel_series_score(x0, x, s.clamp_min(max(self.threshold, 1e-3)), self.terms)
        return torch.where(column <= self.threshold, varadhan, series)
