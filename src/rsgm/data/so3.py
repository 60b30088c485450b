"""Rotations: the synthetic mixture of the RSGM paper, and rotations from a CSV."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rsgm.data.synthetic import MixtureData
from rsgm.data.tables import Column, Floats, Table, TableData, first_row, is_numeric, read_table
from rsgm.distributions import Mixture, WrappedNormal
from rsgm.distributions.checks import require_count
from rsgm.manifolds import SpecialOrthogonal
from rsgm.manifolds.so3 import matrix_to_quaternion, quaternion_to_matrix, rotation_vector_to_matrix
from rsgm.seeding import generator_from

_QUATERNION = tuple(Column(f"q{c}", (f"q{c}", c), -1.01, 1.01) for c in "wxyz")
_VECTOR = tuple(Column(f"r{c}", (f"r{c}", f"rot{c}"), -100, 100) for c in "xyz")


@dataclass(eq=False, repr=False)
class RotationMixtureData(MixtureData):
    r"""Wrapped normals around uniform random rotations: the SO(3) experiment of the RSGM paper.

    :math:`R = M_k \mathrm{Exp}(v)` with Haar means :math:`M_k`, precisions :math:`\lambda_k \sim \Gamma(100, 1)`
    and :math:`v \sim N(0, I / (2 \lambda_k))`, the scale that the paper's Frobenius metric gives rotation vectors.
    The law is a function of the seed, so that results are to be read beside `true_log_prob`: over draws of the law
    the best reachable log-likelihood is 0.916, 0.228, -0.458 for 16, 32, 64 components, with standard deviations
    0.04, 0.03, 0.02.

    References: De Bortoli et al. 2022, arXiv:2202.02763, section 5.2.

    Arguments:
        components: K
        conditional: give the component as context, and score given it
        train_size, val_size, test_size, fresh: see `LawData`
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Example:
        >>> data = RotationMixtureData(components=4, train_size=10, val_size=10, test_size=10)
        >>> data.setup()
        >>> data.test.points.shape
        torch.Size([10, 3, 3])
    """

    components: int = 16
    _: KW_ONLY
    train_size: int = 10_000
    val_size: int = 2_000
    test_size: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("RotationMixtureData", components=self.components)

    @cached_property
    def law(self) -> Mixture:
        """Equal weights."""
        group, generator = SpecialOrthogonal(), generator_from("law", self.seed)
        means = group.random_uniform(self.components, 3, 3, generator=generator, dtype=torch.float64)
        # the sum of 100 exponential draws: torch's gamma sampler takes no generator
        uniform = torch.rand(self.components, 100, generator=generator, dtype=torch.float64)
        precision = -uniform.clamp_min(1e-300).log().sum(1)
        return Mixture(WrappedNormal(group, means, (2 * precision).rsqrt()[:, None]))


class RotationData(TableData):
    """Rotations from a CSV of one's own, as unit quaternions or as rotation vectors.

    Columns qw,qx,qy,qz (or w,x,y,z) are quaternions, scalar first, of length 1 to within a per cent; columns
    rx,ry,rz are rotation vectors in radians. Other columns may stand among them. Without a header, four columns
    are quaternions and three are rotation vectors.

    Arguments:
        path: the CSV
        split: ``random`` permutes the rows; ``location`` keeps all rows of one place in one part
        dedup: keep only the first row of each place
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, bad rows (named by line)
    """

    columns = ("qw", "qx", "qy", "qz")

    def __init__(
        self,
        path: str | None = None,
        split: Literal["random", "location"] = "random",
        dedup: bool = False,
        batch_size: int = 512,
        seed: int | None = None,
        steps_per_epoch: int = 500,
        eval_batch_size: int = 512,
        val_points: int | None = None,
    ) -> None:
        super().__init__(
            "rotations", path, dedup, batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points
        )

    @cached_property
    def manifold(self) -> SpecialOrthogonal:
        """SO(3)."""
        return SpecialOrthogonal()

    def read(self, path: Path) -> Table:
        """Quaternions or rotation vectors."""
        cells = first_row(path)
        names = {cell.casefold() for cell in cells}
        vectors = len(cells) == 3 if is_numeric(cells) else all(names & set(column.names) for column in _VECTOR)
        if vectors:
            return read_table(path, _VECTOR, "radians")
        table = read_table(path, _QUATERNION, "unit quaternions", check=_length)
        # q and -q are one rotation, and one location
        sign = np.where(table.values[:, :1] < 0, -1.0, 1.0)
        return Table(table.values * sign, table.labels)

    def from_units(self, values: Floats) -> Tensor:
        """Rotation matrices."""
        numbers = torch.from_numpy(values)
        return quaternion_to_matrix(numbers) if numbers.shape[1] == 4 else rotation_vector_to_matrix(numbers)

    def to_units(self, x: Tensor) -> Floats:
        """Unit quaternions with a scalar part that is not negative, (B, 4)."""
        return matrix_to_quaternion(x.detach().double()).cpu().numpy()


def _length(row: list[float]) -> str | None:
    length = math.hypot(*row)
    return None if abs(length - 1) <= 0.01 else f"a quaternion of length {length:.4g}, expected 1"
