"""Dormand and Prince's pair of orders 5 and 4, with steps that the error chooses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

#: of each stage but the first: its time as a part of the step, and the weights of the slopes before it; the last stage
#: is the end of the step, whose slope is the first one of the next step
_STAGES = (
    (1 / 5, (1 / 5,)),
    (3 / 10, (3 / 40, 9 / 40)),
    (4 / 5, (44 / 45, -56 / 15, 32 / 9)),
    (8 / 9, (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729)),
    (1.0, (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
    (1.0, (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)),
)
#: the weights of the step less those of a method of order 4: Shampine's, two thirds of Dormand and Prince's own
_ERROR = (71 / 86400, 0.0, -142 / 50085, 71 / 2880, -5751 / 169600, 44 / 1575, -1 / 60)

#: how much shorter than the error allows a step is, and how much shorter and longer than the one before it at most
_SAFETY, _LEAST, _MOST = 0.9, 0.2, 10.0


class StepError(RuntimeError):
    """Steps that became too short, or too many."""


def dormand_prince(
    slope: Callable[[float, Tensor], Tensor],
    y: Tensor,
    start: float,
    end: float,
    tolerance: float,
    max_steps: int,
    damping: float = 0.0,
    accepted: Callable[[float], None] = lambda t: None,
) -> Tensor:
    r"""The state at ``end`` of :math:`\dot y = f(t, y)`, from ``y`` ``(B, n)`` at ``start``, before or after it.

    A step of length h is taken where the largest error e of any number of the state, divided by
    ``tolerance * (1 + |y|)``, is at most one. The next one is :math:`.9\,h\,e^{-1/5 + 3\beta/4}\,e_-^\beta` long, with
    the error :math:`e_-` of the step before and the ``damping`` :math:`\beta`. Zero trusts each error alone; .08 sees
    that errors grow where a field becomes harder from step to step, and saves the steps that would be refused.

    Differentiable with respect to ``y`` and what ``slope`` depends on, for the steps that are taken.

    References: Dormand and Prince 1980, J. Comput. Appl. Math. 6; Shampine 1986, Math. Comp. 46; Hairer, Nørsett and
    Wanner 1993, "Solving Ordinary Differential Equations I", II.4 (the first step), and II, IV.2 (β).

    Arguments:
        slope: f; never asked beyond ``end``
        y: the state
        start, end: times
        tolerance: relative and absolute
        max_steps: most steps, those that are refused included
        damping: β
        accepted: is told the time to which each step leads

    Raises:
        StepError: if the end is not reached
    """
    sign, way = (1.0 if end > start else -1.0), abs(end - start)
    gone, slopes = 0.0, [slope(start, y)]
    h = _first_step(slope, y, slopes[0], start, sign, way, tolerance)
    before = 1.0
    for _ in range(max_steps):
        if not h > 1e-14 * way:
            raise StepError(f"a step of {h:.1g} at t = {start + sign * gone:.6g}")
        last = gone + h >= way * (1 - 1e-12)
        h = way - gone if last else h
        for part, weights in _STAGES:
            t = end if last and part == 1 else start + sign * (gone + part * h)
            after = y + _combined(slopes, weights, sign * h)
            slopes.append(slope(t, after))
        error = _size(_combined(slopes, _ERROR, h), torch.maximum(y.abs(), after.abs()), tolerance)
        if error <= 1:
            gone, y, slopes = gone + h, after, slopes[-1:]
            accepted(end if last else start + sign * gone)
            if last:
                return y
            factor = _SAFETY * max(error, 1e-10) ** (0.75 * damping - 0.2) * before**damping
            before, most = max(error, 1e-4), _MOST
        else:
            factor = _SAFETY * error**-0.2 if math.isfinite(error) else _LEAST
            slopes, most = slopes[:1], 1.0
        h *= min(most, max(_LEAST, factor))
    raise StepError(f"{max_steps} steps led to t = {start + sign * gone:.6g}")


def _combined(slopes: list[Tensor], weights: tuple[float, ...], h: float) -> Tensor:
    """``h`` times the weighted sum of as many slopes as there are weights."""
    total = (h * weights[0]) * slopes[0]
    for weight, k in zip(weights[1:], slopes[1:], strict=False):
        if weight:
            total = torch.add(total, k, alpha=h * weight)
    return total


def _size(change: Tensor, y: Tensor, tolerance: float) -> float:
    """The largest number of a change, in units of what is tolerated."""
    return float((change.detach() / (tolerance * (1 + y.detach().abs()))).abs().max())


def _first_step(
    slope: Callable[[float, Tensor], Tensor],
    y: Tensor,
    first: Tensor,
    start: float,
    sign: float,
    way: float,
    tolerance: float,
) -> float:
    """By how much the slope changes along a short Euler step, less than the way there is."""
    moved, speed = _size(y, y, tolerance), _size(first, y, tolerance)
    short = min(way, 1e-3 * way if min(moved, speed) < 1e-5 else 0.01 * moved / speed)
    with torch.no_grad():
        second = slope(start + sign * short, y + (sign * short) * first)
        bend = _size(second - first, y, tolerance) / short
    fastest = max(speed, bend)
    return min(way, 100 * short, (0.01 / fastest) ** 0.2 if fastest > 1e-15 else way)
