"""Fully connected networks with a fused derivative."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from rsgm.arguments import require_factory
from rsgm.networks.activations import Activation, DualLinear, SiLU, Sin
from rsgm.networks.base import Network
from rsgm.networks.features import Coordinates, LogSNR, PositionFeatures, RawTime, TimeFeatures, with_context


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
        activation: factory of the nonlinearity
        time: factory of the time features
        position: factory of the position features from ``in_features``
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
        activation: Callable[[], Activation] = Sin,
        time: Callable[[], TimeFeatures] = RawTime,
        position: Callable[[int], PositionFeatures] = Coordinates,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"MLP: hidden needs at least one positive width, found {list(hidden)}.")
        self.in_features, self.out_features, self.hidden = in_features, out_features, list(hidden)
        self.activation = require_factory(activation, "MLP: activation", "Sin")()
        self.time = require_factory(time, "MLP: time", "RawTime")()
        self.position = require_factory(position, "MLP: position", "Coordinates")(in_features)
        self.context_features = context_features
        widths = [self.position.out_features + self.time.out_features + context_features, *hidden, out_features]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        for layer in self.layers:
            _initialise(layer)

    @override
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        z = self._first(t, x, context)
        for layer in self.layers[1:]:
            z = layer(self.activation(z))
        return z

    @override
    def jvp(self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # only the position varies: the tangents meet the first columns of the first weight alone
        slope = self.position.push(x, tangents, t) @ self.layers[0].weight[:, : self.position.out_features].T
        stacked = torch.cat([self._first(t, x, context)[None], slope])
        for layer in self.layers[1:]:
            stacked = DualLinear.apply(self.activation.dual(stacked), layer.weight, layer.bias)
        return stacked[0], stacked[1:]

    def _first(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        known = with_context(self.time(t), context, self.context_features, "MLP")
        return self.layers[0](torch.cat([self.position(x, t), known], -1))


class ResidualMLP(Network):
    r"""A residual network whose every block sees the time: :math:`h \leftarrow h + W_k\,\phi(h + e(t))`.

    :math:`e = V_2\,\phi(V_1\,\mathrm{features}(t))`; the output is :math:`W\,\phi(h)`. `jvp` shares all products, as
    that of `MLP` does. With the defaults 75,010 parameters on the plane.

    References: He et al. 2016, arXiv:1603.05027.

    Arguments:
        in_features: size of a flattened point
        out_features: size of the output
        width: of every hidden layer
        blocks: number of residual blocks
        activation: factory of the nonlinearity :math:`\phi`
        time: factory of the time features
        position: factory of the position features from ``in_features``
        context_features: size of the context, which joins the time features; 0 for none

    Example:
        >>> sum(p.numel() for p in ResidualMLP(2, 2).parameters())
        75010
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 128,
        blocks: int = 3,
        activation: Callable[[], Activation] = SiLU,
        time: Callable[[], TimeFeatures] = LogSNR,
        position: Callable[[int], PositionFeatures] = Coordinates,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if min(width, blocks) < 1:
            raise ValueError(f"ResidualMLP: width and blocks must be at least 1, found {width} and {blocks}.")
        self.in_features, self.out_features, self.width, self.blocks = in_features, out_features, width, blocks
        self.activation = require_factory(activation, "ResidualMLP: activation", "SiLU")()
        self.time = require_factory(time, "ResidualMLP: time", "LogSNR")()
        self.position = require_factory(position, "ResidualMLP: position", "Coordinates")(in_features)
        self.context_features = context_features
        self.embedding = nn.ModuleList(
            [nn.Linear(self.time.out_features + context_features, width), nn.Linear(width, width)]
        )
        self.first = nn.Linear(self.position.out_features, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, out_features)
        for layer in (*self.embedding, self.first, *self.layers, self.last):
            _initialise(layer)

    @override
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        h, e = self.first(self.position(x, t)), self._embed(t, context)
        for layer in self.layers:
            h = h + layer(self.activation(h + e))
        return self.last(self.activation(h))

    @override
    def jvp(self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        slope = self.position.push(x, tangents, t) @ self.first.weight.T
        stacked = torch.cat([self.first(self.position(x, t))[None], slope])
        # the tangents of the embedding are zero
        e = torch.cat([self._embed(t, context)[None], torch.zeros_like(slope)])
        for layer in self.layers:
            stacked = stacked + DualLinear.apply(self.activation.dual(stacked + e), layer.weight, layer.bias)
        stacked = DualLinear.apply(self.activation.dual(stacked), self.last.weight, self.last.bias)
        return stacked[0], stacked[1:]

    def _embed(self, t: Tensor, context: Tensor | None) -> Tensor:
        inner, outer = self.embedding
        features = with_context(self.time(t), context, self.context_features, "ResidualMLP")
        return outer(self.activation(inner(features)))


def _initialise(layer: nn.Linear) -> None:
    """Truncated normal weights of standard deviation 1/sqrt(fan-in), no bias."""
    std = layer.in_features**-0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
