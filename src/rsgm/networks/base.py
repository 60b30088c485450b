"""What a network is, and the derivative of any network along tangents."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A map ``(t, x, context) -> (B, out_features)`` of times ``(B,)`` and flattened points ``(B, in_features)``.

    Constructed as ``Class(in_features, out_features, **options)``. A subclass needs only `forward`; `jvp` then
    uses `torch.func`. Override `jvp` where the derivative can share work with the value.

    A field takes any `torch.nn.Module` with that `forward`; one that configurations and checkpoints can name derives
    from this class.
    """

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The value, ``(B, out_features)``."""

    def jvp(self, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value ``(B, out)`` and derivatives ``(k, B, out)`` along ``tangents`` ``(k, B, in)`` at fixed t."""
        return _jvp(self, t, x, tangents, context)


def value_and_jvp(
    network: nn.Module, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Value and derivatives of a network: by its own `Network.jvp`, or of another module by `torch.func`.

    Arguments:
        network: a map ``(t, x, context) -> (B, out)``
        t: times ``(B,)``, which are kept fixed
        x: flattened points ``(B, in)``
        tangents: directions ``(k, B, in)``
        context: ``(B, features)``, or None

    Returns:
        the value ``(B, out)`` and its derivatives ``(k, B, out)``

    Example:
        >>> class Square(nn.Module):
        ...     def forward(self, t, x, context=None):
        ...         return x.square()
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> value_and_jvp(Square(), torch.zeros(1), x, torch.ones(1, 1, 2))
        (tensor([[1., 4.]]), tensor([[[2., 4.]]]))
    """
    jvp = network.jvp if isinstance(network, Network) else lambda *inputs: _jvp(network, *inputs)
    return jvp(t, x, tangents, context)


def _jvp(network: nn.Module, t: Tensor, x: Tensor, tangents: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    def push(u: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(lambda y: network(t, y, context), (x,), (u,))

    # what is random in the network, such as dropout, is the same for the value and all directions
    value, derivative = torch.func.vmap(push, out_dims=(None, 0), randomness="same")(tangents)
    return value, derivative
