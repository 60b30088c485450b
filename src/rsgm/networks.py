"""Networks f(t, x, context) that also push tangent vectors forward, and the features they start from."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A map ``(t, x, context) -> (B, out_features)`` of times ``(B,)`` and flattened points ``(B, in_features)``.

    Constructed as ``Class(in_features, out_features, **options)``. A subclass needs only `forward`; `jvp` then
    uses `torch.func`. Override `jvp` where the derivative can share work with the value.
    """

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The value, ``(B, out_features)``."""

    def jvp(self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value ``(B, out)`` and derivatives ``(k, B, out)`` along ``tangents`` ``(k, B, in)`` at fixed t."""

        def push(u: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(lambda y: self(t, y, context), (x,), (u,))

        value, derivative = torch.func.vmap(push, out_dims=(None, 0))(tangents)
        return value, derivative


class Activation(nn.Module, ABC):
    """An elementwise nonlinearity σ with the fused map of a value and its tangents."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """σ(z)."""

    @abstractmethod
    def dual(self, stacked: Tensor) -> Tensor:
        """``[z, u_1, …, u_k] -> [σ(z), σ'(z) u_1, …, σ'(z) u_k]`` along the first axis."""


class Sin(Activation):
    """The sine, without a frequency factor: the activation of the RSGM paper's networks."""

    def forward(self, z: Tensor) -> Tensor:
        """``sin z``."""
        return torch.sin(z)

    def dual(self, stacked: Tensor) -> Tensor:
        """Sine of the value, cosine times the tangents."""
        return _DualSin.apply(stacked)


class SiLU(Activation):
    """``z * sigmoid(z)`` (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    def forward(self, z: Tensor) -> Tensor:
        """``z sigmoid(z)``."""
        return F.silu(z)

    def dual(self, stacked: Tensor) -> Tensor:
        """SiLU of the value, its derivative times the tangents."""
        return _DualSiLU.apply(stacked)


class _DualSin(torch.autograd.Function):
    # hand-written: autograd would keep four intermediates of this size and run twice as many kernels

    @staticmethod
    def forward(ctx: Any, stacked: Tensor) -> Tensor:
        out = torch.empty_like(stacked)
        torch.sin(stacked[0], out=out[0])
        cos = torch.cos(stacked[0])
        torch.mul(stacked[1:], cos, out=out[1:])
        ctx.save_for_backward(stacked, out, cos)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        stacked, out, cos = ctx.saved_tensors
        result = torch.mul(grad, cos)
        for u, g in zip(stacked[1:], grad[1:], strict=True):
            result[0].sub_(u.mul(g).mul_(out[0]))
        return result


class _DualSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stacked: Tensor) -> Tensor:
        z = stacked[0]
        sigmoid = torch.sigmoid(z)
        slope = sigmoid * (1 + z * (1 - sigmoid))
        out = torch.empty_like(stacked)
        torch.mul(z, sigmoid, out=out[0])
        torch.mul(stacked[1:], slope, out=out[1:])
        ctx.save_for_backward(stacked, sigmoid, slope)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        stacked, sigmoid, slope = ctx.saved_tensors
        bend = sigmoid * (1 - sigmoid) * (2 + stacked[0] * (1 - 2 * sigmoid))
        result = torch.mul(grad, slope)
        for u, g in zip(stacked[1:], grad[1:], strict=True):
            result[0].add_(u.mul(g).mul_(bend))
        return result


class _DualLinear(torch.autograd.Function):
    """One matrix product for the value and all tangents; the bias on the value alone."""

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(stacked, weight)
        out = (stacked.flatten(0, 1) @ weight.T).unflatten(0, stacked.shape[:2])
        out[0] += bias
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stacked, weight = ctx.saved_tensors
        flat = grad.flatten(0, 1)
        return (flat @ weight).unflatten(0, grad.shape[:2]), flat.T @ stacked.flatten(0, 1), grad[0].sum(0)


class TimeFeatures(nn.Module, ABC):
    """What a network sees of the time: ``(B,) -> (B, out_features)``."""

    out_features: int

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """The features."""


class RawTime(TimeFeatures):
    """The time itself, as in the RSGM paper."""

    out_features = 1

    def forward(self, t: Tensor) -> Tensor:
        """``t``."""
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

    def forward(self, t: Tensor) -> Tensor:
        """``(t, log(t + offset))``."""
        return torch.stack([t, (t + self.offset).log()], -1)


class FourierTime(TimeFeatures):
    """Sines and cosines of the time (Vaswani et al. 2017), with ``count`` geometric frequencies, and the time.

    Arguments:
        count: number of frequencies
        max_frequency: the largest, in cycles per unit of t
    """

    def __init__(self, count: int = 16, max_frequency: float = 32.0) -> None:
        super().__init__()
        self.count, self.max_frequency = count, max_frequency
        self.out_features = 2 * count + 1
        frequencies = torch.logspace(-1, math.log10(max_frequency), count) * 2 * math.pi
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """``(t, sin, cos)``."""
        angle = t[:, None] * self.frequencies
        return torch.cat([t[:, None], angle.sin(), angle.cos()], -1)


class PositionFeatures(nn.Module, ABC):
    """What a network sees of a point, with the derivative: ``(B, in) -> (B, out_features)``.

    Constructed as ``Class(in_features, **options)``.
    """

    out_features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The features."""

    @abstractmethod
    def push(self, x: Tensor, tangents: Tensor) -> Tensor:
        """Derivatives ``(k, B, out)`` along ``tangents`` ``(k, B, in)``."""


class Coordinates(PositionFeatures):
    """The ambient coordinates themselves."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """``x``."""
        return x

    def push(self, x: Tensor, tangents: Tensor) -> Tensor:
        """The tangents."""
        return tangents


class RandomFourier(PositionFeatures):
    r"""``(x, sin(Wx), cos(Wx))`` with a fixed normal W (Tancik et al. 2020, arXiv:2006.10739).

    The rows of W have log-uniform scales in [min_frequency, max_frequency] radians per unit of x, so that one
    network resolves continents and single fault lines.

    Arguments:
        in_features: ambient dimension
        count: number of frequencies
        min_frequency, max_frequency: range of the scale of W
        seed: of the draw of W
    """

    def __init__(
        self,
        in_features: int,
        count: int = 64,
        min_frequency: float = 1.0,
        max_frequency: float = 64.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < min_frequency <= max_frequency:
            raise ValueError(
                "RandomFourier: 0 < min_frequency <= max_frequency is needed, found "
                f"{min_frequency} and {max_frequency}."
            )
        self.in_features, self.count, self.seed = in_features, count, seed
        self.min_frequency, self.max_frequency = min_frequency, max_frequency
        self.out_features = in_features + 2 * count
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(count, in_features, generator=generator)
        scale = torch.logspace(math.log10(min_frequency), math.log10(max_frequency), count)
        self.register_buffer("weight", scale[:, None] * direction)

    def forward(self, x: Tensor) -> Tensor:
        """``(x, sin(Wx), cos(Wx))``."""
        angle = x @ self.weight.T
        return torch.cat([x, angle.sin(), angle.cos()], -1)

    def push(self, x: Tensor, tangents: Tensor) -> Tensor:
        """``(u, cos(Wx) Wu, -sin(Wx) Wu)``."""
        angle, slope = x @ self.weight.T, tangents @ self.weight.T
        return torch.cat([tangents, angle.cos() * slope, -angle.sin() * slope], -1)


class MLP(Network):
    """A fully connected network on position features, time features and context, with a fused `jvp`.

    The defaults are the network of De Bortoli et al. 2022 (arXiv:2202.02763): 5 hidden layers of 512, sine
    activations, raw coordinates and time; 1,054,723 parameters on S². Weights start truncated normal of standard
    deviation 1/sqrt(fan-in), biases at zero.

    `jvp` stacks the value and its tangents so that every layer is one matrix product: the exact divergence on S²
    costs 3 forward passes in one, and training never differentiates twice.

    Arguments:
        in_features: size of a flattened point
        out_features: size of the output
        hidden: widths of the hidden layers
        activation: the nonlinearity
        time: time features
        position: factory of position features from ``in_features``
        context_features: size of the context, 0 for none

    Example:
        >>> sum(p.numel() for p in MLP(3, 3).parameters())
        1054723
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (512, 512, 512, 512, 512),
        activation: Activation = Sin(),
        time: TimeFeatures = RawTime(),
        position: Callable[[int], PositionFeatures] = Coordinates,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"MLP: hidden needs at least one positive width, found {list(hidden)}.")
        self.in_features, self.out_features, self.hidden = in_features, out_features, list(hidden)
        self.activation, self.time, self.position = activation, time, position(in_features)
        self.context_features = context_features
        widths = [self.position.out_features + time.out_features + context_features, *hidden, out_features]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        for layer in self.layers:
            nn.init.trunc_normal_(
                layer.weight,
                std=layer.in_features**-0.5,
                a=-2 * layer.in_features**-0.5,
                b=2 * layer.in_features**-0.5,
            )
            nn.init.zeros_(layer.bias)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The value, ``(B, out_features)``."""
        z = self._first(t, x, context)
        for layer in self.layers[1:]:
            z = layer(self.activation(z))
        return z

    def jvp(self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value and derivatives with one matrix product per layer."""
        # only the position varies: the tangents meet the first columns of the first weight alone
        slope = self.position.push(x, tangents) @ self.layers[0].weight[:, : self.position.out_features].T
        stacked = torch.cat([self._first(t, x, context)[None], slope])
        for layer in self.layers[1:]:
            stacked = _DualLinear.apply(self.activation.dual(stacked), layer.weight, layer.bias)
        return stacked[0], stacked[1:]

    def _first(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        features = [self.position(x), self.time(t)]
        found = 0 if context is None else context.shape[-1]
        if found != self.context_features:
            raise ValueError(
                f"MLP: context_features is {self.context_features}, found a context of {found} features; set "
                "context_features of the network to the size of the data's context."
            )
        if context is not None:
            features.append(context)
        return self.layers[0](torch.cat(features, -1))
