"""Rotations: the synthetic mixture of the RSGM paper, and rotations from a CSV."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rsgm.data.names import Floats, Names, Unit
from rsgm.data.rotations import Layout, Rotations
from rsgm.data.synthetic import MixtureData
from rsgm.data.tables import Table, TableData, read_table
from rsgm.distributions import Mixture, WrappedNormal
from rsgm.distributions.checks import require_count
from rsgm.manifolds import SpecialOrthogonal
from rsgm.seeding import generator_from


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
    """Rotations from a table of one's own: unit quaternions, rotation vectors, or matrices.

    The names of the columns say which, in any order and among others: qw,qx,qy,qz or w,x,y,z, also numbered from q0 or
    with words before them, as in ``pose.orientation.x``, are quaternions of length 1 to within a per cent; rx,ry,rz or
    rotvec_x,… are rotation vectors; r11 to r33, m00 to m22 and the like are matrices by row and column, orthogonal to
    within two per cent. Without names, three columns are rotation vectors, and four are quaternions whose order must
    be said. Samples are written in the same columns.

    Arguments:
        path: the file
        split: ``random`` permutes the rows; ``location`` keeps all rows of one place in one part
        dedup: keep only the first row of each place
        order: of quaternions in four columns without names
        columns: the names of qw, qx, qy, qz, or rx, ry, rz, or r11 to r33, in a file that calls them otherwise
        skip_rows, skip_bad: see `TableData`
        unit: of rotation vectors; None is radians, and refuses those that are longer than a turn
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, bad rows (named by line)
    """

    def __init__(
        self,
        path: str | None = None,
        split: Literal["random", "location"] = "random",
        dedup: bool = False,
        order: Literal["wxyz", "xyzw"] | None = None,
        columns: Names | None = None,
        skip_rows: int = 0,
        skip_bad: bool = False,
        unit: Unit | None = None,
        batch_size: int = 512,
        seed: int | None = None,
        steps_per_epoch: int = 500,
        eval_batch_size: int = 512,
        val_points: int | None = None,
    ) -> None:
        super().__init__(
            *("rotations", path, dedup, columns, skip_rows, skip_bad, unit),
            *(batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points),
        )
        self.order = order
        if columns is not None and not any(columns.keys() == set(layout.roles) for layout in self._wanted.layouts):
            kinds = "; ".join(f"{', '.join(layout.roles)}" for layout in self._wanted.layouts)
            raise ValueError(f"RotationData: columns names {', '.join(columns)}, expected all of one kind: {kinds}.")

    @cached_property
    def manifold(self) -> SpecialOrthogonal:
        """SO(3)."""
        return SpecialOrthogonal()

    def read(self, path: Path) -> Table:
        """The numbers of the file, of quaternions those with a scalar part that is not negative."""
        table = read_table(path, self._wanted, skip_rows=self.skip_rows, skip_bad=self.skip_bad)
        roles = [column.role for column in table.columns]
        if "qw" not in roles:
            return table
        # q and -q are one rotation, and one location
        sign = np.where(table.values[:, [roles.index("qw")]] < 0, -1.0, 1.0)
        return table._replace(values=table.values * sign)

    def from_units(self, values: Floats) -> Tensor:
        """Rotation matrices."""
        return self._layout.matrices(values[:, np.argsort(self._order)])

    def to_units(self, x: Tensor) -> Floats:
        """Rows (B, columns) as those of the file; of quaternions the scalar part is not negative."""
        return self._layout.numbers(x.detach().double().cpu())[:, self._order]

    @property
    def _wanted(self) -> Rotations:
        return Rotations(self.columns or {}, self.order, self.unit)

    @cached_property
    def _layout(self) -> Layout:
        roles = {column.role for column in self._table.columns}
        return next(layout for layout in self._wanted.layouts if roles == set(layout.roles))

    @cached_property
    def _order(self) -> list[int]:
        """Which of the layout's columns is each of the file's."""
        return [self._layout.roles.index(column.role) for column in self._table.columns]
