"""Latitudes and longitudes of points on the globe, `Sphere(2)`."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def from_lat_lon(angles: ArrayLike, unit: Literal["degrees", "radians"] = "degrees") -> Tensor:
    r"""The points :math:`(\cos\phi\cos\lambda, \cos\phi\sin\lambda, \sin\phi)`, float64.

    Arguments:
        angles: latitudes :math:`\phi` and longitudes :math:`\lambda`, ``(*batch, 2)``
        unit: of both

    Example:
        >>> from_lat_lon([[90.0, 0.0], [0.0, 90.0]]).round(decimals=6)
        tensor([[0., 0., 1.],
                [0., 1., 0.]], dtype=torch.float64)
    """
    # numpy's sines differ from torch's in the last digit: with them a table has always been the same points
    radians = np.asarray(angles, dtype=np.float64)
    radians = np.radians(radians) if unit == "degrees" else radians
    lat, lon = radians[..., 0], radians[..., 1]
    return torch.from_numpy(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1))


def to_lat_lon(x: Tensor, unit: Literal["degrees", "radians"] = "degrees") -> Tensor:
    """Latitudes in [-90, 90] and longitudes in [-180, 180], ``(*batch, 2)``, float64, on the CPU.

    Arguments:
        x: points of the sphere, ``(*batch, 3)``
        unit: of both

    Example:
        >>> to_lat_lon(from_lat_lon([37.75, 15.0]))
        tensor([37.7500, 15.0000], dtype=torch.float64)
    """
    y = x.detach().double().cpu().numpy()
    lat, lon = np.arctan2(y[..., 2], np.hypot(y[..., 0], y[..., 1])), np.arctan2(y[..., 1], y[..., 0])
    radians = np.stack([lat, lon], -1)
    return torch.from_numpy(np.degrees(radians) if unit == "degrees" else radians)
