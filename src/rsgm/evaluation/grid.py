"""A density at the centres of cells all over a manifold, with what it takes to add it up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rsgm.data import ManifoldData
from rsgm.evaluation.coordinates import Axis, Coordinates, Floats, coordinates, in_units_of, mesh
from rsgm.evaluation.own_draws import law_in_words, require_context
from rsgm.manifolds import Manifold
from rsgm.models import GenerativeModel

#: most cells of a grid
_MOST = 5_000_000
#: dimensions that a grid fills
_DIMENSIONS = 3


class Cells(NamedTuple):
    """Cells all over a manifold.

    Fields:
        points: their centres ``(n, *shape)``, float64
        volume: ``(n,)``
        per: the unit of the volumes
        axes: of a regular grid, with the values ``(m,)`` along each; the last is the fastest. None elsewhere
        nside: of HEALPix cells in their order around the poles (ring); 0 elsewhere
    """

    points: Tensor
    volume: Floats
    per: str
    axes: tuple[tuple[Axis, Floats], ...] = ()
    nside: int = 0


#: of a manifold, its data and the steps along its axes
CellsOf = Callable[[ManifoldData, Sequence[float]], Cells]


class DensityGrid(NamedTuple):
    """A density on cells.

    Fields:
        cells: where
        log_density: ``(n,)``, nats, of a density per unit of ``cells.volume``: of numbers, the unit of their columns
        header, rows: the centres in data units, ``(n, columns)``
        about: of the model and its data
    """

    cells: Cells
    log_density: Floats
    header: tuple[str, ...]
    rows: Floats
    about: str

    @property
    def integral(self) -> float:
        """The sum of the density over the cells, which is one where they are fine enough and leave nothing out."""
        return float((np.exp(self.log_density) * self.cells.volume).sum())

    def report(self) -> str:
        """Two lines: how many cells there are, and their integral beside one."""
        cells = self.cells
        sizes = " x ".join(f"{len(values)} {axis.name}" for axis, values in cells.axes)
        kind = sizes or (f"HEALPix, nside {cells.nside}" if cells.nside else "all over the manifold")
        return (
            f"{len(cells.volume)} cells ({kind}), log-density in nats, of a density per {cells.per}\n"
            f"integral over the cells {self.integral:.5f}, which is 1 where they resolve the density and leave no part "
            "of it out"
        )


def regular_cells(data: ManifoldData, steps: Sequence[float]) -> Cells:
    """Cells of equal steps in the units of the data, or, on SO(3) and S³, about of that size.

    Arguments:
        data: whose columns name the axes, and whose training points set the range of flat ones
        steps: along each axis, or one for all: degrees of angles, else units of the data

    Raises:
        ValueError: no grid of this manifold, steps that are not positive or not as many as axes, too many cells
    """
    manifold = data.manifold
    found = coordinates(manifold, data.train.points)
    if manifold.dim > _DIMENSIONS or (found is None and not manifold.unit_cube_extent):
        raise ValueError(
            f"There is no grid of {manifold}, of {manifold.dim} dimensions: grids are of spheres, tori, flat space, "
            f"SO(3) and their products up to {_DIMENSIONS} dimensions. Give a model the other factors as its context, "
            "or score a file of points of your own (--score)."
        )
    if found is None:
        return _spread(manifold, steps)
    return _boxes(in_units_of(data, found), steps)


def _boxes(found: Coordinates, steps: Sequence[float]) -> Cells:
    dim = len(found.axes)
    if len(steps) not in (1, dim):
        names = ", ".join(axis.name for axis in found.axes)
        raise ValueError(f"grid: found {len(steps)} steps, expected one, or one for each of {names}.")
    chosen = [axis.in_steps(step) for axis, step in zip(found.axes, [*steps] * (dim // len(steps)), strict=True)]
    _refuse_many(math.prod(count for _, count in chosen))
    found = replace(found, axes=tuple(axis for axis, _ in chosen))
    values = [axis.centres(count) for axis, count in chosen]
    volume = mesh([axis.lengths(axis.edges(count)) for axis, count in chosen]).prod(1)
    return Cells(found.points(mesh(values)), volume, found.per, tuple(zip(found.axes, values, strict=True)))


def _spread(manifold: Manifold, steps: Sequence[float]) -> Cells:
    if len(steps) != 1 or not 0 < steps[0] < math.inf:
        raise ValueError(f"grid: found the steps {list(steps)}, expected one positive one for {manifold}, in degrees.")
    count = max(1, round(math.exp(manifold.log_volume) / math.radians(steps[0]) ** manifold.dim))
    _refuse_many(count)
    points, volume = manifold.grid(count)
    return Cells(points, volume.numpy(), f"rad^{manifold.dim}")


def density_grid(
    model: GenerativeModel,
    data: ManifoldData,
    steps: Sequence[float],
    context: Tensor | None = None,
    cells_of: CellsOf = regular_cells,
) -> DensityGrid:
    """The log-density of a model at the centres of cells.

    Arguments:
        model: the law
        data: what it was trained on, set up; a regular grid is in its units
        steps: see `regular_cells`
        context: of a conditional model, ``(features,)``, for all cells
        cells_of: which cells

    Raises:
        ValueError: see `regular_cells`; no context of a conditional model, or one of another
        SolveError: where a log-density could not be computed

    Example:
        >>> from rsgm.data import LawData
        >>> from rsgm.models import KernelDensity
        >>> data = LawData(train_size=50, val_size=10, test_size=10)
        >>> data.setup()
        >>> model = KernelDensity(data.manifold, min_width=0.2)
        >>> model.fit_points(data.train.points, data.val.points)
        >>> round(density_grid(model, data, [3.0]).integral, 3)
        1.0
    """
    require_context(data, context)
    cells = cells_of(data, steps)
    unit = data.log_unit(cells.points)
    values = model.log_prob(cells.points, context).double().cpu() + unit
    cells = cells._replace(volume=cells.volume * np.exp(-unit.numpy()))
    rows, about = data.to_units(cells.points), law_in_words(model, data, context)
    return DensityGrid(cells, values.numpy(), data.header, rows, about)


def _refuse_many(count: int) -> None:
    if count > _MOST:
        raise ValueError(f"grid: found {count} cells, expected at most {_MOST}; choose larger steps.")
