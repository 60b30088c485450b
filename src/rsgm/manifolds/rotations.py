"""Rotations of space as matrices, unit quaternions (w, x, y, z) and rotation vectors, accurate at every angle."""

from __future__ import annotations

import torch
from torch import Tensor

from rsgm.manifolds.rejection import first_accepted


def cross(u: Tensor, v: Tensor) -> Tensor:
    """The vector product over the last axis; the leading axes broadcast."""
    return torch.linalg.cross(*torch.broadcast_tensors(u, v))


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """The rotation ``(*batch, 3, 3)`` of quaternions ``(*batch, 4)`` in the order w, x, y, z; of any length but zero.

    Example:
        >>> quaternion_to_matrix(torch.tensor([0.0, 2.0, 0.0, 0.0])).diagonal()
        tensor([ 1., -1., -1.])
    """
    eye = torch.eye(3, dtype=q.dtype, device=q.device).expand(*q.shape[:-1], 3, 3)
    return turned(eye, q / q.norm(dim=-1, keepdim=True))


def matrix_to_quaternion(x: Tensor) -> Tensor:
    """The unit quaternions ``(*batch, 4)`` with w >= 0 of rotations ``(*batch, 3, 3)``, accurate at every angle.

    Example:
        >>> matrix_to_quaternion(torch.diag(torch.tensor([1.0, -1.0, -1.0])))
        tensor([0., 1., 0., 0.])
    """
    return relative_quaternion(torch.eye(3, dtype=x.dtype, device=x.device).expand_as(x), x)


def rotation_vector_to_matrix(w: Tensor) -> Tensor:
    """The rotation ``(*batch, 3, 3)`` about each axis ``w / |w|`` by ``|w|`` radians, for ``w`` ``(*batch, 3)``.

    Example:
        >>> rotation_vector_to_matrix(torch.tensor([torch.pi, 0.0, 0.0])).diagonal()
        tensor([ 1., -1., -1.])
    """
    return quaternion_to_matrix(rotation_vector_to_quaternion(w))


def matrix_to_rotation_vector(x: Tensor) -> Tensor:
    r"""The rotation vectors ``(*batch, 3)`` of length at most :math:`\pi` of rotations ``(*batch, 3, 3)``.

    Example:
        >>> matrix_to_rotation_vector(rotation_vector_to_matrix(torch.tensor([0.1, 0.2, 3.0])))
        tensor([0.1000, 0.2000, 3.0000])
    """
    return quaternion_to_rotation_vector(matrix_to_quaternion(x))


def relative_quaternion(x: Tensor, y: Tensor) -> Tensor:
    """The unit quaternion of ``x^T y`` with w >= 0, from the difference; conjugated where ``x`` and ``y`` change."""
    difference = y - x
    # 2 - x^T y - y^T x, and 4 w (x, y, z)
    square, mixed = difference.mT @ difference, cross(difference, x + y).sum(-2) / 2
    half = square.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] / 2
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    outer = torch.cat(
        [
            torch.cat([4 - half, mixed[..., None, :]], -1),
            torch.cat([mixed[..., None], half * eye - square], -1),
        ],
        -2,
    )
    # of 4 q q^T the row of the largest component, which is at least a half
    largest = outer.diagonal(dim1=-2, dim2=-1).max(-1).indices[..., None, None]  # faster than argmax
    row = torch.gather(outer, -2, largest.expand(*largest.shape[:-1], 4)).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return row / row.norm(dim=-1, keepdim=True)


def quaternion_to_rotation_vector(q: Tensor) -> Tensor:
    r"""The rotation vectors of length at most :math:`\pi` of unit quaternions with w >= 0."""
    cosine, v = q[..., :1], q[..., 1:]
    square = (v * v).sum(-1, keepdim=True)
    small = square < 1e-4
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    # arcsin r / r
    series = 1 + square * (1 / 6 + square * (3 / 40 + square * (5 / 112)))
    return 2 * torch.where(small, series, torch.atan2(sine, cosine) / sine) * v


def rotation_vector_to_quaternion(w: Tensor) -> Tensor:
    """The unit quaternions of rotation vectors; w < 0 where they are longer than a half turn."""
    square = (w * w).sum(-1, keepdim=True) / 4
    small = square < 1e-4
    half = torch.where(small, torch.ones_like(square), square).sqrt()
    cosine = torch.where(small, 1 - square / 2 * (1 - square / 12 * (1 - square / 30)), half.cos())
    sinc = torch.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), half.sin() / half)
    return torch.cat([cosine, sinc * w / 2], -1)


def bingham(width: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws ``(*batch, 4)`` of the unit quaternions of density :math:`\propto e^{-2|v|^2/h^2}`, v the vector part.

    The width h is a number for each; at zero v is zero, and NaN gives NaN. Rejection from the angular central Gaussian
    law, which accepts at least two of five (Kent, Ganeiber & Mardia 2018, J. Comput. Graph. Statist. 27).
    """
    # beyond, the law is uniform to the last digit
    scale = width.square().clamp_max(1e16)
    # 2κ / (κ - 1 + sqrt((κ - 1)² + κ)) with κ = 1 / scale, in forms that neither cancel nor overflow
    kappa = 1 / scale.clamp_min(1)
    small = 2 * (1 - kappa + ((1 - kappa).square() + kappa).sqrt())
    inverse = scale.clamp_max(1)
    large = 2 / (1 - inverse + ((1 - inverse).square() + inverse).sqrt())
    b = torch.where(scale > 1, small, large)
    std = (scale + 4 / b).rsqrt()  # of v / h
    h = scale.sqrt()

    def propose(scale: Tensor, b: Tensor, std: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        gauss = torch.randn(len(scale), 4, generator=generator, dtype=scale.dtype, device=scale.device)
        real, vector = gauss[..., :1], std[..., None] * gauss[..., 1:]
        length = torch.cat([real, h[..., None] * vector], -1).norm(dim=-1, keepdim=True)
        energy = 2 * (vector / length).square().sum(-1)
        level = torch.rand(scale.shape, generator=generator, dtype=scale.dtype, device=scale.device)
        accept = 2 * ((1 + 2 * energy / b) * b / 4).log() + 2 - b / 2 - energy >= level.log()
        return torch.cat([real, h[..., None] * vector], -1) / length, accept

    return first_accepted(propose, (4,), scale, b, std, h)


def turned(x: Tensor, q: Tensor) -> Tensor:
    """``x`` times the rotation of the unit quaternion."""
    v = q[..., None, 1:]
    first = cross(x, v)
    return polish(x + 2 * (q[..., :1, None] * first + cross(first, v)))


def polish(x: Tensor) -> Tensor:
    """One step of Newton and Schulz: an error of orthogonality becomes its square."""
    return 1.5 * x - 0.5 * x @ (x.mT @ x)


def nearest_rotation(x: Tensor) -> Tensor:
    """The rotation nearest to a matrix, by FOAM (Markley 1993, J. Astronaut. Sci. 41).

    It has no singular vectors to differentiate. Unique, and found, unless the sum of the two smallest singular values
    (the last with the sign of the determinant) is close to zero.
    """
    x = x * (3 / (x * x).sum((-2, -1), keepdim=True)).sqrt()
    a, b, c = x.unbind(-2)
    cofactors = torch.stack([cross(b, c), cross(c, a), cross(a, b)], -2)
    det, square = (cofactors * x).sum((-2, -1)) / 3, (cofactors * cofactors).sum((-2, -1))
    # Newton from above to the sum of the singular values; the last steps, quadratic, carry the derivatives
    total, constants = torch.full_like(det, 3.0), (det.detach(), square.detach())
    for step in range(14):
        d, q = constants if step < 12 else (det, square)
        rest = total * total - 3
        total = total - (rest * rest - 8 * total * d - 4 * q) / (4 * total * rest - 8 * d)
    kappa = (total * total - 3) / 2
    kappa, total, det = (value[..., None, None] for value in (kappa, total, det))
    y = ((kappa + 3) * x + total * cofactors - x @ (x.mT @ x)) / (kappa * total - det)
    return polish(polish(y))
