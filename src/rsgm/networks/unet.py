"""The convolutional network of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from rsgm.arguments import require_factory
from rsgm.networks.base import Network
from rsgm.networks.features import FourierTime, TimeFeatures, with_context


class UNet(Network):
    r"""The U-net of denoising diffusion: residual blocks that see the time, self-attention, skip connections.

    With 128 channels, multipliers (1, 2, 2, 2) and attention at 16 pixels it is the published network of CIFAR-10;
    with 32 and (1, 2, 2) that of MNIST. Points are flattened images, as for any `Network`. The last convolution of
    every block and of the network starts at zero: the first output is zero.

    References: Ho, Jain and Abbeel 2020, arXiv:2006.11239, appendix B; Huang et al. 2021, arXiv:2106.02808.

    Arguments:
        in_features: channels x height x width
        out_features: a multiple of height x width
        shape: ``(channels, height, width)``; where it is left out, a square image of one or of three channels
        channels: of the first level
        multipliers: on the channels of each level; each level but the first has half the resolution of the one before
        blocks: residual blocks of a level
        attention: heights at which there is attention; at the lowest there always is
        dropout: probability, within the blocks
        groups: of the normalisation, where they divide the channels, else their greatest common divisor
        time: factory of the time features
        context_features: size of the context, which joins the time features; 0 for none

    Raises:
        ValueError: for a shape that does not fit the sizes, or that cannot be halved as often as there are levels

    Example:
        >>> network = UNet(64, 64, channels=8, multipliers=(1, 2))
        >>> network(torch.rand(5), torch.rand(5, 64)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        shape: Sequence[int] | None = None,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
        dropout: float = 0.0,
        groups: int = 32,
        time: Callable[[], TimeFeatures] = FourierTime,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.blocks, self.dropout = in_features, out_features, blocks, dropout
        self.shape = list(shape) if shape else _guess(in_features)
        self.channels, self.multipliers, self.attention = channels, list(multipliers), list(attention)
        self.groups, self.context_features = groups, context_features
        self.time = require_factory(time, "UNet: time", "FourierTime")()
        depth, height, width = self._check()
        embedding = 4 * channels
        self.embedding = nn.Sequential(
            nn.Linear(self.time.out_features + context_features, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

        def block(inner: int, outer: int, attend: bool) -> _Block:
            return _Block(inner, outer, embedding, dropout, groups, attend)

        self.first = nn.Conv2d(depth, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        current, skips = channels, [channels]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                self.down.append(_Down(current))
                skips.append(current)
            for _ in range(blocks):
                self.down.append(block(current, channels * multiplier, height >> level in self.attention))
                current = channels * multiplier
                skips.append(current)
        self.middle = nn.ModuleList([block(current, current, True), block(current, current, False)])
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(blocks + 1):
                attend = height >> level in self.attention
                self.up.append(block(current + skips.pop(), channels * multiplier, attend))
                current = channels * multiplier
            if level:
                self.up.append(_Up(current))
        self.norm = nn.GroupNorm(math.gcd(groups, current), current)
        self.last = _zero(nn.Conv2d(current, out_features // (height * width), 3, padding=1))

    @override
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        e = self.embedding(with_context(self.time(t), context, self.context_features, "UNet"))
        h = self.first(x.unflatten(-1, self.shape))
        skips = [h]
        for layer in self.down:
            h = layer(h, e)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, e)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], 1) if layer.joins else h, e)
        return self.last(F.silu(self.norm(h))).flatten(1)

    def _check(self) -> tuple[int, int, int]:
        depth, height, width = self.shape
        size, scale = height * width, 2 ** (len(self.multipliers) - 1)
        if depth * size != self.in_features or self.out_features % size:
            raise ValueError(
                f"UNet: images of shape {tuple(self.shape)} have {depth * size} numbers; found points of "
                f"{self.in_features} and an output of {self.out_features}, which must be a multiple of {size}."
            )
        if height % scale or width % scale:
            raise ValueError(
                f"UNet: an image of {height} x {width} cannot be halved {len(self.multipliers) - 1} times; "
                "use fewer multipliers."
            )
        return depth, height, width


class _Block(nn.Module):
    """Two convolutions around a shift by the embedding, and attention on demand; all residual."""

    joins = True

    def __init__(self, inner: int, outer: int, embedding: int, dropout: float, groups: int, attend: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(math.gcd(groups, inner), inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.shift = nn.Linear(embedding, outer)
        self.norm2 = nn.GroupNorm(math.gcd(groups, outer), outer)
        self.dropout, self.conv2 = nn.Dropout(dropout), _zero(nn.Conv2d(outer, outer, 3, padding=1))
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        self.attention = _Attention(outer, groups) if attend else nn.Identity()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        z = self.conv1(F.silu(self.norm1(h))) + self.shift(F.silu(e))[:, :, None, None]
        z = self.conv2(self.dropout(F.silu(self.norm2(z))))
        return self.attention(self.shortcut(h) + z)


class _Attention(nn.Module):
    """One head over all pixels, written out: the fused kernels have no forward derivative."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(groups, channels), channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.last = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = self.query_key_value(self.norm(h)).flatten(2).chunk(3, 1)
        weight = torch.softmax(query.transpose(1, 2) @ key * query.shape[1] ** -0.5, -1)
        return h + self.last((value @ weight.transpose(1, 2)).unflatten(2, h.shape[2:]))


class _Down(nn.Module):
    joins = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return self.conv(h)


class _Up(nn.Module):
    joins = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return self.conv(h.repeat_interleave(2, -1).repeat_interleave(2, -2))


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _guess(size: int) -> list[int]:
    for depth in (1, 3):
        side = math.isqrt(size // depth)
        if depth * side * side == size:
            return [depth, side, side]
    raise ValueError(f"UNet: {size} numbers are no square image of one or three channels; give shape.")
