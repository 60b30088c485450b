"""Layers that carry a value and its tangents at once: nonlinearities, and the linear map between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


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

    @override
    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(z)

    @override
    def dual(self, stacked: Tensor) -> Tensor:
        return _DualSin.apply(stacked)


class SiLU(Activation):
    """``z * sigmoid(z)`` (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    @override
    def forward(self, z: Tensor) -> Tensor:
        return F.silu(z)

    @override
    def dual(self, stacked: Tensor) -> Tensor:
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
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        stacked, out, cos = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative, in which it is no constant
            cos = torch.cos(stacked[0])
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
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        stacked, sigmoid, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative, in which they are no constants
            sigmoid = torch.sigmoid(stacked[0])
            slope = sigmoid * (1 + stacked[0] * (1 - sigmoid))
        bend = sigmoid * (1 - sigmoid) * (2 + stacked[0] * (1 - 2 * sigmoid))
        result = torch.mul(grad, slope)
        for u, g in zip(stacked[1:], grad[1:], strict=True):
            result[0].add_(u.mul(g).mul_(bend))
        return result


class DualLinear(torch.autograd.Function):
    """One matrix product for the value and all tangents; the bias on the value alone."""

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``stacked`` is ``(1 + k, B, in)``."""
        ctx.save_for_backward(stacked, weight)
        out = (stacked.flatten(0, 1) @ weight.T).unflatten(0, stacked.shape[:2])
        out[0] += bias
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the points, the weight and the bias."""
        stacked, weight = ctx.saved_tensors
        # which are of 16 bits where autocast made the product
        flat, points = (part.flatten(0, 1).to(weight.dtype) for part in (grad, stacked))
        return (flat @ weight).unflatten(0, grad.shape[:2]), flat.T @ points, grad[0].sum(0)
