"""The noise of chains of finitely many steps, as a schedule in continuous time."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from rsgm.schedules.rates import Schedule

#: largest share of the data's variance that a chain may leave in what is taken for pure noise
_REMAINDER = 1e-3


@dataclass(frozen=True)
class DiscreteSchedule(Schedule, ABC):
    r"""A chain :math:`x_k = \sqrt{1 - \beta_k}\,x_{k-1} + \sqrt{\beta_k}\,z`, k = 1 … T, met at the times t = k / T.

    There :math:`e^{-s(t)} = \bar\alpha_k = \prod_{i \le k}(1 - \beta_i)`, to the last digit of float64; in between s
    is the monotone cubic interpolation, whose β is continuous.

    References: Ho, Jain and Abbeel 2020, arXiv:2006.11239, section 2; Fritsch and Butland 1984 (interpolation).

    Arguments:
        count: the number T of steps

    Raises:
        ValueError: fewer than two steps, and noise outside (0, 1)
    """

    count: int = 1000

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"{type(self).__name__}: count must be at least 2, found {self.count}.")
        betas = self.betas()
        if not bool(((betas > 0) & (betas < 1)).all()):
            low, high = float(betas.min()), float(betas.max())
            raise ValueError(
                f"{type(self).__name__}: every beta must be in (0, 1), found {low:g} to {high:g}. Take more than "
                f"{self.count} steps, among which the rates are divided."
            )
        steps = -torch.log1p(-betas)
        # slopes at the knots, in units of 1 / T: harmonic means keep s monotone. scipy's PchipInterpolator has the same
        # within, but extrapolates at the ends: β(0), by which a score divides, would be zero for DDPM's chain of 100
        inner = 2 / (1 / steps[1:] + 1 / steps[:-1])
        slopes = torch.cat([steps[:1], inner, steps[-1:]])
        integral = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        remainder = math.exp(-float(integral[-1]))
        if remainder > _REMAINDER:
            warnings.warn(
                f"{self} does not reach the prior: {remainder:.3g} of the data's variance are left at t = 1, where "
                f"samples start from pure noise (at most {_REMAINDER:g} is expected). Raise the rates, which are per "
                "unit of time whatever the count.",
                stacklevel=2,
            )
        object.__setattr__(self, "_tables", {(torch.float64, torch.device("cpu")): torch.stack([integral, slopes])})

    @abstractmethod
    def betas(self) -> Tensor:
        """The noise variances ``(count,)`` of the steps, float64."""

    @property
    def alpha_bars(self) -> Tensor:
        r""":math:`\bar\alpha_k`, k = 0 … T, ``(count + 1,)``, float64."""
        return (-self._table(torch.empty(0, dtype=torch.float64))[0]).exp()

    @override
    def beta(self, t: Tensor) -> Tensor:
        index, u = self._place(t)
        _, a, b, c = self._cubic(t, index)
        return self.count * (a + u * (2 * b + 3 * c * u))

    @override
    def integral(self, t: Tensor) -> Tensor:
        index, u = self._place(t)
        return _value(u, *self._cubic(t, index))

    def inverse(self, s: Tensor) -> Tensor:
        """By Newton's method within brackets."""
        target = s.detach()
        index = (torch.searchsorted(self._table(s)[0], target.contiguous()) - 1).clamp(0, self.count - 1)
        start, a, b, c = self._cubic(s, index)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        u = (target - start) / (a + b + c)
        for _ in range(20):
            error = _value(u, start, a, b, c) - target
            low, high = torch.where(error < 0, u, low), torch.where(error < 0, high, u)
            newton = u - error / (a + u * (2 * b + 3 * c * u))
            u = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        # one step more, for the derivative with respect to s
        u = u - (_value(u, start, a, b, c) - s) / (a + u * (2 * b + 3 * c * u))
        return (index + u) / self.count

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The step that a time belongs to, counted from 0, and the place in it, in [0, 1]."""
        index = (t.detach() * self.count).floor().clamp(0, self.count - 1)
        return index.long(), t * self.count - index

    def _cubic(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coefficients of the cubic in each step, lowest first."""
        (start, end), (a, d) = self._table(x)[:, torch.stack([index, index + 1])]
        return start, a, 3 * (end - start) - 2 * a - d, a + d - 2 * (end - start)

    def _table(self, x: Tensor) -> Tensor:
        tables: dict[tuple[torch.dtype, torch.device], Tensor] = vars(self)["_tables"]
        key = x.dtype, x.device
        if key not in tables:
            tables[key] = tables[torch.float64, torch.device("cpu")].to(x)
        return tables[key]


def _value(u: Tensor, start: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return start + u * (a + u * (b + u * c))


@dataclass(frozen=True)
class DiscreteLinear(DiscreteSchedule):
    r""":math:`T\beta_k` linear in k from ``beta_0`` to ``beta_1``: the chain of DDPM, scaled with its length.

    With T = 1000 this is β from 1e-4 to 0.02. Rates do not depend on the count, so every chain reaches the prior;
    with 1e-4 and 0.02 and T = 100 the data keep 36 % of their variance.

    References: Ho, Jain and Abbeel 2020, arXiv:2006.11239, section 4.

    Arguments:
        count: the number T of steps
        beta_0, beta_1: rates per unit of time, T times the first and last β

    Example:
        >>> DiscreteLinear(100).alpha_bars[-1]
        tensor(2.0390e-05, dtype=torch.float64)
    """

    beta_0: float = 0.1
    beta_1: float = 20.0

    @override
    def betas(self) -> Tensor:
        return torch.linspace(self.beta_0, self.beta_1, self.count, dtype=torch.float64) / self.count


@dataclass(frozen=True)
class DiscreteCosine(DiscreteSchedule):
    r""":math:`\bar\alpha_k = \cos^2(\tfrac\pi2 \tfrac{k/T + o}{1 + o})`, up to a factor, with β at most ``beta_max``.

    A β near one, which the paper allows, is a jump between two steps. Samples pass over it; an exact likelihood follows
    the process within the step too, where no network has been trained: bound β by 0.1 for that.

    References: Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2.

    Arguments:
        count: the number T of steps
        offset: o, which keeps the first β from being too small
        beta_max: bound on β
    """

    offset: float = 0.008
    beta_max: float = 0.999

    @override
    def betas(self) -> Tensor:
        k = torch.linspace(0, 1, self.count + 1, dtype=torch.float64)
        alpha_bars = torch.cos((k + self.offset) / (1 + self.offset) * math.pi / 2).square()
        return (1 - alpha_bars[1:] / alpha_bars[:-1]).clamp_max(self.beta_max)
