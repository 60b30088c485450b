"""Angles: torsion angles of molecules, and angles from a CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self, override

from rsgm.data.angles import NO_ANGLES, Angles, refuse_counts, refuse_times, warn_of_radians
from rsgm.data.base import ManifoldData
from rsgm.data.factors import Factor
from rsgm.data.names import Column, Floats, Names, Unit, from_radians, half_turn, not_named_twice, plain, to_radians
from rsgm.data.sources import Found, locate
from rsgm.data.tables import like_radians, refuse_radians
from rsgm.data.tabular import Tabular
from rsgm.manifolds import Torus
from rsgm.seeding import generator_from

#: angles of the RNA set, in its order
RNA = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "chi")


@dataclass(frozen=True)
class AngleFactor(Factor):
    """Angles on :math:`T^n`.

    Arguments:
        angles: names of the columns; None for all but those of usual names that are no angles, such as ``resid``
        columns: the names of the angles in a file that calls them otherwise
        unit: of the file; None is degrees, and refuses numbers that look like radians
        others: names of columns that are no angles
        names: of the columns; learned
        from_zero: which of them run from 0 rather than from half a turn below it; learned
    """

    angles: Sequence[str] | None = None
    columns: Names | None = None
    unit: Unit | None = None
    others: Sequence[str] = ()
    names: Sequence[str] = ()
    from_zero: Sequence[bool] = ()

    def __post_init__(self) -> None:
        try:
            not_named_twice(self.angles or ())
        except ValueError as error:
            raise ValueError(f"angles: {error}") from None
        if self.angles and (strange := set(self.columns or ()) - set(self.angles)):
            raise ValueError(f"columns names {', '.join(sorted(strange))}, expected some of the angles.")

    @property
    @override
    def wanted(self) -> Angles:
        names = self.angles or tuple(self.columns or self.names)
        return Angles(self.columns or {}, tuple(names), self.unit, NO_ANGLES | set(map(plain, self.others)))

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        if not (self.angles or self.columns):
            refuse_counts(path, names, values)
        if self.unit is None:
            if like_radians(values):
                refuse_radians(path, values)
            refuse_times(path, names, values)
            warn_of_radians(path, names, values)
        from_zero = (values.max(0) > half_turn(self.unit)) & (values.min(0) >= 0)
        return replace(self, names=tuple(names), from_zero=tuple(from_zero.tolist()))

    @override
    def looks_like(self, values: Floats) -> str | None:
        return "radians" if self.unit is None and like_radians(values) else None

    @property
    @override
    def manifold(self) -> Torus:
        return Torus(len(self.names))

    @override
    def normal(self, values: Floats) -> Floats:
        """Angles from -180 to below 180 degrees, in the file's unit."""
        half = half_turn(self.unit)
        return (values + half) % (2 * half) - half

    @override
    def from_units(self, values: Floats) -> Tensor:
        return self.manifold.from_angles(torch.from_numpy(to_radians(values, self.unit)))

    @override
    def to_units(self, x: Tensor) -> Floats:
        values = from_radians(self.manifold.angles(x).numpy(), self.unit)
        return np.where(self.from_zero, values % (2 * half_turn(self.unit)), values)


@dataclass(eq=False, repr=False)
class TorusData(Tabular):
    r"""Angles on :math:`T^n` from a CSV: the torsion angles of RNA, or a file of one's own.

    ``rna`` are the 9,478 nucleotides of 113 structures of Huang et al. 2022 (arXiv:2208.07949), on :math:`T^7`. Two
    ribosomes hold 46 % of the rows: ``split: group`` keeps each structure in one part. Its epsilon and zeta are
    pseudo-angles of one residue (a defect of the published recipe, kept for comparability).

    Arguments:
        name: the named set
        path: a table of one's own
        angles: the columns to read; by default the seven of ``rna``, and in a file of one's own all columns but the
            group's, an index without a name, and those of usual names that are no angles, such as ``resid``
        group: the column that names the structure or group of a row, for ``split: group``
        split: ``random`` permutes the rows; ``location`` keeps a place in one part, ``group`` equal groups; ``time``
            as of `Tabular`
        dedup: keep only the first row of each place
        columns: the names of the angles in a file that calls them otherwise, such as ``{phi: PHI1, psi: PSI1}``
        numbers, log, context, categories, weight, time, val, test, skip_rows, skip_bad: see `Tabular`
        unit: of a file of one's own; None is degrees, and refuses numbers that look like radians
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        ValueError: an angle twice
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)
    """

    name: Literal["rna"] = "rna"
    path: str | None = None
    angles: Sequence[str] | None = None
    group: str = "pdb"
    _: KW_ONLY
    split: Literal["random", "location", "time", "group"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            AngleFactor(self.angles, self.columns)
        except ValueError as error:
            raise ValueError(f"TorusData: {error}") from None
        self.angles = None if self.angles is None else list(self.angles)

    @override
    def factors_in_file(self) -> Sequence[Factor]:
        names = self.angles or (RNA if self.file.name == "rna" and not self.columns else None)
        return [AngleFactor(names, self.columns, self.unit, [self.group, *self.spoken_for])]

    @override
    def names_without_header(self) -> Sequence[str]:
        return ("pdb", "base", *RNA) if self.file.name == "rna" else ()


def _are_counts(values: np.ndarray) -> bool:
    """Whether numbers are whole, not negative, and some above zero; NaN is none."""
    return bool((values >= 0).all() and (values == np.rint(values)).all() and 0 < values.sum(dtype=float) < 2**53)


@dataclass(eq=False, repr=False)
class DihedralTableData(ManifoldData):
    r"""Two torsion angles of proteins on :math:`T^2`, drawn from a published table of counts.

    ``ramachandran``: φ, ψ of 100,816 residues in cells of 4 degrees; ``janin``: χ1, χ2 of 33,365 in cells of 6 (the
    500 structures of Lovell et al. 2003). Each residue is placed uniformly in its cell, so the density is known: it
    is constant in each cell.

    References: Lovell et al. 2003, Proteins 50; the tables are those of MDAnalysis 2.11.0.

    Arguments:
        name: the table
        path: the ``.npy`` file or its folder; None looks for it
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known
    """

    name: Literal["ramachandran", "janin"] = "ramachandran"
    path: str | None = None
    split: str = field(default="random", init=False)

    @cached_property
    @override
    def manifold(self) -> Torus:
        return Torus(2)

    @property
    @override
    def header(self) -> tuple[str, ...]:
        return {"ramachandran": ("phi", "psi"), "janin": ("chi1", "chi2")}[self.name]

    @property
    @override
    def wanted(self) -> Angles:
        return AngleFactor(self.header).wanted

    @property
    @override
    def coverages(self) -> tuple[float, ...]:  # type: ignore[override]
        """Of the backbone the "favoured" and the "allowed" regions of Lovell et al. 2003."""
        return (0.98, 0.9995) if self.name == "ramachandran" else (0.5, 0.9)

    @override
    def prepare_data(self) -> None:
        """Find or download the file."""
        _ = self._file

    def points(self) -> Tensor:
        """One point for each count."""
        # rows of the table are the second angle
        cells = torch.from_numpy(np.argwhere(self._counts > 0)).flip(1)
        places = cells.repeat_interleave(torch.from_numpy(self._counts[self._counts > 0]), 0)
        jitter = torch.rand(places.shape, generator=generator_from("points", self.seed), dtype=torch.float64)
        return self.manifold.from_angles(self._start + (places + jitter) * self._width)

    def true_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """That of the cell (B,), nats."""
        turn = torch.remainder(self.manifold.angles(x.double()) - self._start, 2 * math.pi)
        cell = (turn / self._width).long().clamp_max(len(self._counts) - 1)
        density = torch.from_numpy(self._counts / self._counts.sum()) / self._width**2
        return density[cell[:, 1], cell[:, 0]].log()

    def to_units(self, x: Tensor) -> Floats:
        """Angles in (-180, 180], degrees, (B, 2)."""
        return np.degrees(self.manifold.angles(x.detach().double()).cpu().numpy())

    @override
    def from_units(self, values: Floats) -> Tensor:
        return self.manifold.from_angles(torch.from_numpy(np.radians(values)))

    @override
    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {"name": self.name, "source": self._file.source, "sha256": self._file.sha256}

    @cached_property
    def _file(self) -> Found:
        return locate(self.name, self.path)

    @cached_property
    def _counts(self) -> np.ndarray:
        try:
            counts = np.load(self._file.path, allow_pickle=False)
        except (ValueError, EOFError, OSError):  # of a file of another kind, whatever numpy takes it for
            counts = np.empty(0)
        # of an archive numpy makes something else; those of MDAnalysis are whole numbers held as floating point
        square = isinstance(counts, np.ndarray) and counts.ndim == 2 and len(counts) == counts.shape[1] > 0
        if not square or counts.dtype.kind not in "iuf" or not _are_counts(counts):
            raise ValueError(
                f"{self._file.path} is no table of counts. DihedralTableData reads a square .npy table of whole "
                "numbers, some of them above zero; for angles of your own: --data=TorusData --data.path=FILE."
            )
        return counts.astype(np.int64)

    @property
    def _start(self) -> float:
        return -math.pi if self.name == "ramachandran" else 0.0

    @property
    def _width(self) -> float:
        return 2 * math.pi / len(self._counts)
