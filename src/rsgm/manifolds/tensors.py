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
    return safe_sqrt((u * u).sum(-1, keepdim=keepdim))


def safe_sqrt(square: Tensor) -> Tensor:
    """The root of what is not negative, all of whose derivatives at zero are zero: of squared lengths, `safe_norm`."""
    zero = square == 0
    return torch.where(zero, torch.zeros_like(square), torch.where(zero, torch.ones_like(square), square).sqrt())


def even_norm(u: Tensor) -> Tensor:
    r""":math:`(|u|^2 + 10^{-18})^{1/2}`, for even functions of the length, whose second derivatives at zero it keeps.

    Those of `safe_norm` are lost: f(r) of an f that is even and smooth has the Hessian :math:`f''(0) I` there.

    Arguments:
        u: vectors, ``(*batch, n)``

    Example:
        >>> torch.func.hessian(lambda u: even_norm(u).square())(torch.zeros(2))
        tensor([[2., 0.],
                [0., 2.]])
    """
    return ((u * u).sum(-1) + 1e-18).sqrt()


def least_distance(x: Tensor) -> float:
    """What a distance counts at least where something is divided by it: a quotient that has a limit stays one."""
    return 1e-6 if x.dtype == torch.float32 else 1e-9


def from_floor(log_prob: Tensor, slope: Tensor, floored: Tensor, distance: Tensor, square: Tensor) -> Tensor:
    """A log-density that is even in the distance, from that at the floor of `least_distance`, so near a parabola.

    Arguments:
        log_prob: at ``floored``
        slope: its derivative there
        floored: distances, or their floor
        distance: before that
        square: of them where they are below it, differentiable at zero
    """
    parabola = (square - floored.square()) * (slope / (2 * floored))
    return log_prob + torch.where(distance < floored, parabola, torch.zeros_like(parabola))


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


def squared_distances(a: Tensor, b: Tensor, error: float) -> Tensor:
    """Squared Euclidean distances of all pairs, ``(n, m)``, for small tables of close or of few points.

    By a matrix product about the middle of the second points, or, where its rounding may exceed ``error``, by
    differences along each axis, whose error is relative.

    Arguments:
        a: ``(n, k)``
        b: ``(m, k)``
        error: that is small enough

    Example:
        >>> squared_distances(torch.zeros(2, 1), torch.tensor([[1.0], [2.0], [3.0]]), 1e-5)
        tensor([[1., 4., 9.],
                [1., 4., 9.]])
    """
    middle = b.detach().mean(0)
    x, y = a - middle, b - middle
    square_x, square_y = x.square().sum(1, keepdim=True), y.square().sum(1, keepdim=True)
    largest = float(square_x.detach().amax() + square_y.detach().amax())
    if (a.shape[1] + 4) * torch.finfo(a.dtype).eps * largest <= error:
        one_x, one_y = torch.ones_like(square_x), torch.ones_like(square_y)
        return torch.cat([x, square_x, one_x], 1) @ torch.cat([-2 * y, one_y, square_y], 1).mT
    total = (a[:, :1] - b[:, 0]).square()
    for k in range(1, a.shape[1]):
        gap = a[:, k, None] - b[:, k]
        total = torch.addcmul(total, gap, gap)
    return total
