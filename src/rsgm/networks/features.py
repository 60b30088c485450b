"""What networks see of times and points."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.arguments import require_factory
from rsgm.schedules import LinearBeta, Schedule


class TimeFeatures(nn.Module, ABC):
    """What a network sees of the time: ``(B,) -> (B, out_features)``."""

    out_features: int

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """The features."""

    def bind(self, schedule: Schedule) -> None:
        """Learn the schedule of the process whose times these are; most features have no use for it."""


class RawTime(TimeFeatures):
    """The time itself, as in the RSGM paper."""

    out_features = 1

    @override
    def forward(self, t: Tensor) -> Tensor:
        return t[:, None]


class LogTime(TimeFeatures):
    r"""``t`` and ``log(t + offset)``: what a score that changes over decades of scale needs to see.

    Arguments:
        offset: keeps the logarithm finite at t = 0
    """

    out_features = 2

    def __init__(self, offset: float = 1e-3) -> None:
        super().__init__()
        self.offset = offset

    @override
    def forward(self, t: Tensor) -> Tensor:
        return torch.stack([t, (t + self.offset).log()], -1)


class FourierTime(TimeFeatures):
    """Sines and cosines of the time (Vaswani et al. 2017), with ``count`` geometric frequencies, and the time.

    Arguments:
        count: number of frequencies
        max_frequency: the largest, in cycles per unit of t

    Raises:
        ValueError: for no frequencies, and a largest that is not positive
    """

    def __init__(self, count: int = 16, max_frequency: float = 32.0) -> None:
        super().__init__()
        _require_waves("FourierTime", count, max_frequency, max_frequency)
        self.count, self.max_frequency = count, max_frequency
        self.out_features = 2 * count + 1
        frequencies = torch.logspace(-1, math.log10(max_frequency), count) * 2 * math.pi
        self.register_buffer("frequencies", frequencies, persistent=False)

    @override
    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        return torch.cat([t[:, None], angle.sin(), angle.cos()], -1)


class LogSNR(TimeFeatures):
    r"""Sines and cosines of the log-signal-to-noise ratio :math:`-\log(e^{s(t)} - 1)` of a variance-preserving process.

    The ratio changes evenly over the scales of the data, which the time does not.

    References: Kingma et al. 2021, arXiv:2107.00630, appendix C.

    Arguments:
        schedule: of another process than the one that the network is for; None is that of the process, or where there
            is none, as in flow matching, ``LinearBeta(beta_0=0.1, beta_1=20)``
        count: number of geometric frequencies
        min_frequency, max_frequency: their range, radians per unit of the ratio's logarithm

    Example:
        >>> LogSNR()(torch.tensor([0.0, 1.0])).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        schedule: Schedule | None = None,
        count: int = 32,
        min_frequency: float = 0.0625,
        max_frequency: float = 16.0,
    ) -> None:
        super().__init__()
        _require_waves("LogSNR", count, min_frequency, max_frequency)
        self.schedule, self.count = schedule, count
        self.min_frequency, self.max_frequency = min_frequency, max_frequency
        self.out_features = 2 * count
        self._schedule = schedule or LinearBeta(beta_0=0.1, beta_1=20.0)
        frequencies = torch.logspace(math.log10(min_frequency), math.log10(max_frequency), count)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """``(sin, cos)``; the ratio is infinite at t = 0, which stands for 1e-8."""
        s = self._schedule.integral(t.clamp_min(1e-8))
        angle = (s + (-torch.expm1(-s)).log())[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], -1)

    def bind(self, schedule: Schedule) -> None:
        """Take it, unless there is one of its own."""
        self._schedule = self.schedule or schedule


def bind_times(network: nn.Module, schedule: Schedule) -> None:
    """Let the features of a network, or of what holds one, know the schedule of the process that they serve."""
    for part in network.modules():
        if isinstance(part, TimeFeatures | PositionFeatures):
            part.bind(schedule)


class PositionFeatures(nn.Module, ABC):
    """What a network sees of a point at a time, with the derivative: ``(B, in), (B,) -> (B, out_features)``.

    Constructed as ``Class(in_features, **options)``.
    """

    out_features: int

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The features."""

    @abstractmethod
    def push(self, x: Tensor, tangents: Tensor, t: Tensor) -> Tensor:
        """Derivatives ``(k, B, out)`` along ``tangents`` ``(k, B, in)``, at fixed t."""

    def bind(self, schedule: Schedule) -> None:
        """Learn the schedule of the process whose points these are; most features have no use for it."""


class Coordinates(PositionFeatures):
    """The ambient coordinates themselves."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = self.out_features = in_features

    @override
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x

    @override
    def push(self, x: Tensor, tangents: Tensor, t: Tensor) -> Tensor:
        return tangents


class BallCoordinates(PositionFeatures):
    r"""Where a point of the hyperboloid lies in the Poincaré ball: coordinates that stay below one.

    .. math:: b = \frac a{1 + \sqrt{1 + |a|^2}}

    with the last d ambient coordinates a, which grow with the exponential of the distance from the origin.

    Arguments:
        in_features: ambient dimension, d + 1
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, in_features - 1

    @override
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = x[..., 1:]
        return a / (1 + (1 + a.square().sum(-1, keepdim=True)).sqrt())

    def push(self, x: Tensor, tangents: Tensor, t: Tensor) -> Tensor:
        """``(u - b <a, u> / w) / (1 + w)``, w the square root."""
        a, u = x[..., 1:], tangents[..., 1:]
        w = (1 + a.square().sum(-1, keepdim=True)).sqrt()
        return (u - self(x, t) * (a * u).sum(-1, keepdim=True) / w) / (1 + w)


class RandomFourier(PositionFeatures):
    r"""``(y, sin(Wy), cos(Wy))`` with a fixed normal W (Tancik et al. 2020, arXiv:2006.10739), y the point itself
    unless ``inner`` makes something else of it.

    The rows w of W have log-uniform scales in [min_frequency, max_frequency] radians per unit of y, so that one
    network resolves continents and single fault lines.

    With ``damped`` the waves of frequency w are multiplied by :math:`e^{-|w|^2 s(t)/2}`, which is what is left of them
    in the density after the variance time s of a Brownian motion: exactly in flat space, nearly where their length is
    short beside the radius of curvature. A network then sees fine structure at the times at which there is any, and
    need not learn to ignore it at all others.

    Arguments:
        in_features: ambient dimension
        count: number of frequencies
        min_frequency, max_frequency: range of the scale of W
        seed: of the draw of W
        inner: factory of the features y from ``in_features``
        damped: whether the waves see the noise; for the network of a score model, whose process says s

    Raises:
        ValueError: for frequencies that are no range; from a call, where they are damped and there is no process
    """

    def __init__(
        self,
        in_features: int,
        count: int = 64,
        min_frequency: float = 1.0,
        max_frequency: float = 64.0,
        seed: int = 0,
        inner: Callable[[int], PositionFeatures] = Coordinates,
        damped: bool = False,
    ) -> None:
        super().__init__()
        _require_waves("RandomFourier", count, min_frequency, max_frequency)
        self.in_features, self.count, self.seed, self.damped = in_features, count, seed, damped
        self.min_frequency, self.max_frequency = min_frequency, max_frequency
        self.inner = require_factory(inner, "RandomFourier: inner", "Coordinates")(in_features)
        size = self.inner.out_features
        self.out_features = size + 2 * count
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(count, size, generator=generator)
        scale = torch.logspace(math.log10(min_frequency), math.log10(max_frequency), count)
        self.register_buffer("weight", scale[:, None] * direction)
        self._schedule: Schedule | None = None

    @override
    def bind(self, schedule: Schedule) -> None:
        self._schedule = schedule

    @override
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.inner(x, t)
        sin, cos = self._waves(y, t)
        return torch.cat([y, sin, cos], -1)

    def push(self, x: Tensor, tangents: Tensor, t: Tensor) -> Tensor:
        """``(u, cos(Wy) Wu, -sin(Wy) Wu)`` with the derivative u of y."""
        sin, cos = self._waves(self.inner(x, t), t)
        tangents = self.inner.push(x, tangents, t)
        slope = tangents @ self.weight.T
        return torch.cat([tangents, cos * slope, -sin * slope], -1)

    def _waves(self, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = y @ self.weight.T
        if not self.damped:
            return angle.sin(), angle.cos()
        if self._schedule is None:
            raise ValueError("RandomFourier: damped features are for the network of a score model; here is no process.")
        # e^-60 is nothing beside the other features, and `torch.exp` takes ten times longer where it underflows
        power = 0.5 * self.weight.square().sum(1) * self._schedule.integral(t)[:, None]
        left = torch.exp(-power.clamp(max=60.0))
        return left * angle.sin(), left * angle.cos()


def with_context(features: Tensor, context: Tensor | None, expected: int, name: str) -> Tensor:
    """Time features ``(B, …)`` and the context ``(B, expected)`` side by side.

    Raises:
        ValueError: for a context of another size
    """
    found = 0 if context is None else context.shape[-1]
    if found != expected:
        raise ValueError(
            f"{name}: context_features is {expected}, found a context of {found} features; set "
            "context_features of the network to the size of the data's context."
        )
    return features if context is None else torch.cat([features, context], -1)


def _require_waves(owner: str, count: int, lowest: float, highest: float) -> None:
    """Raise a ValueError, unless there are waves, of frequencies in a range."""
    if count < 1 or not 0 < lowest <= highest < math.inf:
        raise ValueError(
            f"{owner}: count >= 1 and 0 < min_frequency <= max_frequency are needed, found {count}, {lowest} and "
            f"{highest}."
        )
