"""Rotations from a table."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor
from typing_extensions import override

from rsgm.data.names import Floats
from rsgm.data.rotations import Layout, Rotations
from rsgm.data.tables import Table, TableData, read_table
from rsgm.manifolds import SpecialOrthogonal


@dataclass(eq=False, repr=False)
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

    path: str | None = None
    _: KW_ONLY
    split: Literal["random", "location"] = "random"
    order: Literal["wxyz", "xyzw"] | None = None
    name: str = field(default="rotations", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = self.columns
        if columns is not None and not any(columns.keys() == set(layout.roles) for layout in self._wanted.layouts):
            kinds = "; ".join(f"{', '.join(layout.roles)}" for layout in self._wanted.layouts)
            raise ValueError(f"RotationData: columns names {', '.join(columns)}, expected all of one kind: {kinds}.")

    @cached_property
    @override
    def manifold(self) -> SpecialOrthogonal:
        return SpecialOrthogonal()

    @override
    def read(self, path: Path) -> Table:
        return read_table(path, self._wanted, skip_rows=self.skip_rows, skip_bad=self.skip_bad)

    @override
    def from_units(self, values: Floats) -> Tensor:
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
