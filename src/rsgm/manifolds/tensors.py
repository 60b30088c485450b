"""Functions of tensors that several manifolds share, and what multiplies points with numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """``coefficient``, of the shape ``batch``, with the axes appended that let it multiply points or vectors ``x``.

    Arguments:
        coefficient: one number for each point, ``batch``
        x: points or tangent vectors, ``(*batch, *shape)``

    Example:
        >>> expand(torch.ones(5), torch.ones(5, 3, 2)).shape
        torch.Size([5, 1, 1])
    """
    return coefficient.reshape(coefficient.shape + (1,) * (x.dim() - coefficient.dim()))


def safe_norm(u: Tensor, keepdim: bool = False) -> Tensor:
    """Euclidean norm over the last axis, all of whose derivatives at zero are zero.

    Those of `torch.linalg.vector_norm` are zero once, forward or backward; differentiated backward twice, they are NaN.

    Arguments:
        u: vectors, ``(*batch, n)``
        keepdim: whether the last axis stays, of length 1

    Example:
        >>> torch.func.jacrev(torch.func.grad(safe_norm))(torch.zeros(2))
        tensor([[0., 0.],
                [0., 0.]])
    """
    square = (u * u).sum(-1, keepdim=keepdim)
    zero = square == 0
    return torch.where(zero, torch.zeros_like(square), torch.where(zero, torch.ones_like(square), square).sqrt())


def log_sinc(r: Tensor) -> Tensor:
    r""":math:`\log(|\sin r| / r)` for :math:`r \ge 0`, whose derivatives at zero are finite.

    Arguments:
        r: lengths, of any shape, radians

    Example:
        >>> log_sinc(torch.tensor([1.0, torch.pi / 2]))
        tensor([-0.1726, -0.4516])
    """
    small, square = r < 1e-2, r * r
    large = torch.where(small, torch.ones_like(r), r)
    series = -square / 6 * (1 + square / 30 * (1 + square * 4 / 63))
    return torch.where(small, series, (large.sin() / large).abs().log())
