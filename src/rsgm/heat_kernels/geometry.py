"""Compact manifolds that look the same from every point, as functions of the distance see them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override


class RadialGeometry(ABC):
    """Geodesic spheres around a point, and the eigenfunctions of the Laplacian that are constant on them.

    Each of these zonal functions is scaled so that its value at the point, and its mean square over the manifold, are
    the multiplicity of its eigenvalue: the heat kernel is then their sum with the weights exp(-eigenvalue s / 2),
    divided by the volume.
    """

    dim: int

    @abstractmethod
    def radius(self, distance: Tensor, codistance: Tensor) -> Tensor:
        """The radius of the flat sphere with the area of the geodesic one."""

    @abstractmethod
    def half_eigenvalues(self, degree: int) -> NDArray[np.float64]:
        r"""Half the eigenvalues :math:`\lambda_l` of :math:`-\Delta`, l = 0 ... degree."""

    @abstractmethod
    def zonal_functions(self, degree: int) -> NDArray[np.float64]:
        """The zonal functions as sums of cosines of multiples of the distance, ``(frequency, degree)``."""


@dataclass(frozen=True)
class SphereGeometry(RadialGeometry):
    r"""The sphere :math:`S^d`: the cut locus is a point, :math:`\lambda_l = l(l+d-1)`, Gegenbauer's zonal functions.

    Arguments:
        dim: d, at least 1
    """

    dim: int

    @override
    def radius(self, distance: Tensor, codistance: Tensor) -> Tensor:
        return 2 * torch.sin(distance / 2) * torch.sin(codistance / 2)

    @override
    def half_eigenvalues(self, degree: int) -> NDArray[np.float64]:
        degrees = np.arange(degree + 1.0)
        return degrees * (degrees + self.dim - 1) / 2

    def zonal_functions(self, degree: int) -> NDArray[np.float64]:
        """C_l = sum_j (a)_j/j! (a)_{l-j}/(l-j)! cos (l-2j)x with a = (d-1)/2, scaled; cosines on the circle."""
        if self.dim == 1:
            return np.diag([1.0] + degree * [2.0])
        a = (self.dim - 1) / 2
        zonal = np.zeros((degree + 1, degree + 1))
        power = np.cumprod(np.append(1.0, (a + np.arange(degree)) / np.arange(1, degree + 1)))
        for l in range(degree + 1):
            np.add.at(zonal[:, l], np.abs(l - 2 * np.arange(l + 1)), power[: l + 1] * power[l::-1])
            zonal[:, l] *= (2 * l + self.dim - 1) / (self.dim - 1)
        return zonal


@dataclass(frozen=True)
class RotationGeometry(RadialGeometry):
    r"""SO(3), the angle as the distance: the cut locus is a projective plane, :math:`\lambda_l = l(l+1)`."""

    dim = 3

    @override
    def radius(self, distance: Tensor, codistance: Tensor) -> Tensor:
        return 2 * torch.sin(distance / 2)

    @override
    def half_eigenvalues(self, degree: int) -> NDArray[np.float64]:
        degrees = np.arange(degree + 1.0)
        return degrees * (degrees + 1) / 2

    def zonal_functions(self, degree: int) -> NDArray[np.float64]:
        """2l+1 times the character sin((l+1/2)x)/sin(x/2) = 1 + 2 sum_k cos kx, k <= l."""
        zonal = np.triu(np.broadcast_to(2 * (2 * np.arange(degree + 1.0) + 1), (degree + 1, degree + 1)))
        zonal[0] /= 2
        return zonal
