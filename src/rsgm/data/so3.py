"""Rotations from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor
from typing_extensions import Self, override

from rsgm.data.factors import Factor
from rsgm.data.names import Column, Floats, Names, Unit
from rsgm.data.rotations import Layout, Rotations
from rsgm.data.tabular import Tabular
from rsgm.manifolds import Manifold, SpecialOrthogonal


@dataclass(frozen=True)
class RotationFactor(Factor):
    """Rotations: quaternions, rotation vectors or matrices, by the names of their columns; see `RotationData`.

    Arguments:
        order: of quaternions in four columns without names
        columns: the names of qw, qx, qy, qz, or rx, ry, rz, or r11 to r33, in a file that calls them otherwise
        unit: of rotation vectors; None is radians, and refuses those that are longer than a turn
        names: of the columns; learned
        roles: what they are; learned
    """

    order: Literal["wxyz", "xyzw"] | None = None
    columns: Names | None = None
    unit: Unit | None = None
    names: Sequence[str] = ()
    roles: Sequence[str] = ()

    def __post_init__(self) -> None:
        columns = self.columns
        if columns is not None and not any(columns.keys() == set(layout.roles) for layout in self.wanted.layouts):
            kinds = "; ".join(f"{', '.join(layout.roles)}" for layout in self.wanted.layouts)
            raise ValueError(f"columns names {', '.join(columns)}, expected all of one kind: {kinds}.")

    @property
    @override
    def wanted(self) -> Rotations:
        return Rotations(self.columns or {}, self.order, self.unit)

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        return replace(self, names=tuple(names), roles=tuple(column.role for column in columns))

    @override
    def as_own(self, columns: Sequence[Column], values: Floats) -> Floats:
        """As the base class: of another order, or another kind of rotation, too."""
        other = self.learn(Path(), columns, (), values)
        if set(other.roles) != set(self.roles):
            return self.to_units(other.from_units(values))
        return values[:, [other.roles.index(role) for role in self.roles]]

    @property
    @override
    def manifold(self) -> SpecialOrthogonal:
        return SpecialOrthogonal()

    @override
    def from_units(self, values: Floats) -> Tensor:
        return self._layout.matrices(values[:, np.argsort(self._order)])

    @override
    def to_units(self, x: Tensor) -> Floats:
        """Rows (B, columns) as those of the file; of quaternions the scalar part is not negative."""
        return self._layout.numbers(x)[:, self._order]

    @property
    def _layout(self) -> Layout:
        return next(layout for layout in self.wanted.layouts if set(self.roles) == set(layout.roles))

    @property
    def _order(self) -> list[int]:
        """Which of the layout's columns is each of the file's."""
        return [self._layout.roles.index(role) for role in self.roles]


@dataclass(eq=False, repr=False)
class RotationData(Tabular):
    """Rotations from a table of one's own: unit quaternions, rotation vectors, or matrices.

    The names of the columns say which, in any order and among others: qw,qx,qy,qz or w,x,y,z, also numbered from q0 or
    with words before them, as in ``pose.orientation.x``, are quaternions of length 1 to within a per cent; rx,ry,rz or
    rotvec_x,… are rotation vectors; r11 to r33, m00 to m22 and the like are matrices by row and column, orthogonal to
    within two per cent. With ``numbers: [x, y, z]`` they are poses, on SO(3) × R³. Without names, three columns are
    rotation vectors, and four are quaternions whose order must be said. Samples are written in the same columns.

    Arguments:
        path: the file
        split: ``random`` permutes the rows; ``location`` keeps all rows of one place in one part
        dedup: keep only the first row of each place
        order: of quaternions in four columns without names
        columns: the names of qw, qx, qy, qz, or rx, ry, rz, or r11 to r33, in a file that calls them otherwise
        numbers, log, context, categories, weight, time, group, val, test, skip_rows, skip_bad: see `Tabular`
        unit: of rotation vectors; None is radians, and refuses those that are longer than a turn
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, bad rows (named by line)
    """

    path: str | None = None
    _: KW_ONLY
    split: Literal["random", "location", "time", "group"] = "random"
    order: Literal["wxyz", "xyzw"] | None = None
    name: str = field(default="rotations", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            RotationFactor(self.order, self.columns, self.unit)
        except ValueError as error:
            raise ValueError(f"RotationData: {error}") from None

    @property
    @override
    def manifold(self) -> Manifold:
        """Known without the file, but for numbers."""
        return super().manifold if self.numbers else SpecialOrthogonal()

    @override
    def factors_in_file(self) -> Sequence[Factor]:
        return [RotationFactor(self.order, self.columns, self.unit)]
