"""Coordinates in which a manifold is a box: what grids and polygons are made of, in the units of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsgm.data import ManifoldData
from rsgm.manifolds import Euclidean, Manifold, Product, Sphere, Torus, from_lat_lon, to_lat_lon

Floats = NDArray[np.float64]

#: share of the range of the points that flat axes go on beyond it, at either end
_MARGIN = 0.2
#: cells of an axis, from which its units are told
_PROBE = 4


def _sine(degrees: Floats) -> Floats:
    return np.sin(np.radians(degrees))


def _itself(values: Floats) -> Floats:
    return values


@dataclass(frozen=True)
class Axis:
    """One coordinate, over the range in which it counts each point once.

    The manifold's own coordinate, degrees of an angle, is ``start + factor * (value - low)``.

    Arguments:
        name: of the coordinate
        low, high: its range, in its unit
        unit: degrees or radians of an angle, else 1
        closed: whether both ends are one place
        primitive: of own values; its difference over a cell is the cell's length, the factor in the volume
        standard_name: latitude or longitude, as CF (climate and forecast metadata) has them, where it is one
        start, factor: see above
    """

    name: str
    low: float
    high: float
    unit: str = "1"
    closed: bool = False
    primitive: Callable[[Floats], Floats] = _itself
    standard_name: str | None = None
    start: float = 0.0
    factor: float = 1.0

    def own(self, values: Floats) -> Floats:
        """The manifold's own coordinate."""
        return self.start + self.factor * (values - self.low)

    def value(self, own: Floats) -> Floats:
        """The value of an own coordinate, within the range where the axis is closed."""
        along = (own - self.start) / self.factor
        return self.low + (along % (self.high - self.low) if self.closed else along)

    def edges(self, count: int) -> Floats:
        """Of ``count`` equal cells, ``(count + 1,)``."""
        return np.linspace(self.low, self.high, count + 1)

    def centres(self, count: int) -> Floats:
        """Of the same cells."""
        return (self.edges(count)[:-1] + self.edges(count)[1:]) / 2

    def lengths(self, edges: Floats) -> Floats:
        """Factors in the volumes of cells between ascending ``edges``."""
        return np.diff(self.primitive(self.own(edges)))

    def in_steps(self, step: float) -> tuple[Axis, int]:
        """Cells of a step, in degrees of an angle and else in the unit of the axis: how many, and the axis of them.

        An angle is divided evenly, by the step that is nearest; a flat axis is made longer.
        """
        if not 0 < step < np.inf:
            raise ValueError(f"grid: a step must be positive, found {step} for {self.name}.")
        if self.unit != "1":
            return self, max(1, round(self.factor * (self.high - self.low) / step))
        count = max(1, int(np.ceil((self.high - self.low) / step - 1e-9)))
        return replace(self, high=self.low + count * step), count

    def widened(self) -> Axis:
        """Twice as long on a line; closed axes stay."""
        half = 0.0 if self.unit != "1" else (self.high - self.low) / 2
        return replace(self, low=self.low - half, high=self.high + half, start=self.start - self.factor * half)


@dataclass(frozen=True)
class Coordinates:
    """The axes of a box, and the points that it holds.

    Arguments:
        axes: one for each dimension
        from_own, to_own: from own coordinates ``(n, dim)`` to points ``(n, *shape)``, and back
        per: the unit of volume, that of the manifold
    """

    axes: tuple[Axis, ...]
    from_own: Callable[[Floats], Tensor]
    to_own: Callable[[Tensor], Floats]
    per: str

    @property
    def log_unit(self) -> float:
        """What turns a log-density by the manifold's volume into one by the units of flat axes, to be added."""
        return float(np.log([axis.factor for axis in self.axes if axis.unit == "1"]).sum())

    def points(self, values: Floats) -> Tensor:
        """The points ``(n, *shape)``, float64, at values ``(n, dim)`` in the units of the axes."""
        own = [axis.own(column) for axis, column in zip(self.axes, values.T, strict=True)]
        return self.from_own(np.stack(own, -1))

    def values(self, points: Tensor) -> Floats:
        """The reverse of `points`."""
        return np.stack([axis.value(own) for axis, own in zip(self.axes, self.to_own(points).T, strict=True)], -1)


@singledispatch
def coordinates(manifold: Manifold, points: Tensor) -> Coordinates | None:
    """The coordinates of a manifold, by its class; None where it has none that are a box, as SO(3).

    Arguments:
        manifold: one from outside the package registers its own, as for `rsgm.plots.draw_density`
        points: ``(n, *shape)``, whose range, widened by a fifth at either end, is that of flat axes
    """
    return None


@coordinates.register
def _(manifold: Sphere, points: Tensor) -> Coordinates | None:
    if manifold.dim == 1:
        return Coordinates((_angle("angle"),), _circle, _longitude, "rad")
    if manifold.dim > 2:
        return None
    latitude = Axis("lat", -90, 90, "degrees", False, _sine, "latitude", -90)
    axes = latitude, _angle("lon", "longitude")
    return Coordinates(axes, from_lat_lon, lambda x: to_lat_lon(x).numpy(), "steradian")


@coordinates.register
def _(manifold: Torus, points: Tensor) -> Coordinates | None:
    axes = tuple(_angle(f"angle{k}") for k in range(manifold.dim))

    def from_own(own: Floats) -> Tensor:
        return manifold.from_angles(torch.from_numpy(np.radians(own)))

    return Coordinates(axes, from_own, lambda x: np.degrees(_array(manifold.angles(x))), _power("rad", axes))


@coordinates.register
def _(manifold: Euclidean, points: Tensor) -> Coordinates | None:
    low, high = _array(points).min(0), _array(points).max(0)
    margin = np.where(high > low, _MARGIN * (high - low), 1.0)
    ranges = zip(low - margin, high + margin, strict=True)
    axes = tuple(Axis(f"x{k}", a, b, start=a) for k, (a, b) in enumerate(ranges))
    return Coordinates(axes, torch.from_numpy, _array, _power("unit", axes))


@coordinates.register
def _(manifold: Product, points: Tensor) -> Coordinates | None:
    parts = [coordinates(factor, part) for factor, part in zip(manifold.factors, manifold.split(points), strict=True)]
    if None in parts:
        return None
    sizes = np.cumsum([len(part.axes) for part in parts])[:-1]

    def from_own(own: Floats) -> Tensor:
        return manifold.join(
            part.from_own(columns) for part, columns in zip(parts, np.split(own, sizes, 1), strict=True)
        )

    def to_own(x: Tensor) -> Floats:
        return np.concatenate([part.to_own(y) for part, y in zip(parts, manifold.split(x), strict=True)], -1)

    # two factors may call an axis by one name
    axes = [
        replace(axis, name=f"{axis.name}_{k}" if len(parts) > 1 else axis.name)
        for k, part in enumerate(parts)
        for axis in part.axes
    ]
    return Coordinates(tuple(axes), from_own, to_own, " ".join(part.per for part in parts))


def in_units_of(data: ManifoldData, found: Coordinates) -> Coordinates:
    """The same box with the names, units and ranges of the columns of the data, where an axis is one of them.

    The axis of a column whose logarithm is taken is that logarithm.
    """
    centres = [axis.centres(_PROBE) for axis in found.axes]
    columns = data.to_units(found.points(mesh(centres))).reshape(*[_PROBE] * len(centres), -1)
    axes = [_as_column(axis, k, columns, data.header) or axis for k, axis in enumerate(found.axes)]
    return replace(found, axes=tuple(axes))


def mesh(axes: Sequence[Floats]) -> Floats:
    """Every combination of the values of the axes, ``(n, dim)``, the last of them fastest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _as_column(axis: Axis, k: int, columns: Floats, header: Sequence[str]) -> Axis | None:
    """The axis in the units of the column that varies along it, and along it alone; None where there is none."""
    named = list(zip(header, np.moveaxis(columns, -1, 0), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        named += [(f"log {name}", np.log(column)) for name, column in named]
    for name, column in named:
        along = np.moveaxis(column, k, 0).reshape(_PROBE, -1)
        values = np.sort(along[:, 0])
        steps, near = np.diff(values), 1e-6 * np.ptp(values)  # of any unit
        if np.allclose(along, along[:, :1], 0, near) and np.allclose(steps, steps[0], 0, near) and steps[0] > 0:
            step, first = steps[0], int(np.argmin(along[:, 0]))
            factor = (axis.high - axis.low) / _PROBE / step
            start = axis.own(axis.edges(_PROBE))[first]
            low, high = values[0] - step / 2, values[-1] + step / 2
            unit = "radians" if axis.unit == "degrees" and not np.isclose(factor, 1) else axis.unit
            # the range of a circle, to its digits
            low, high = (round(end, 9) if axis.unit == "degrees" else end for end in (low, high))
            return replace(axis, name=name, low=low, high=high, unit=unit, start=start, factor=factor)
    return None


def _angle(name: str, standard_name: str | None = None) -> Axis:
    return Axis(name, -180, 180, "degrees", True, np.radians, standard_name, -180)


def _circle(degrees: Floats) -> Tensor:
    angle = torch.from_numpy(np.radians(degrees[:, 0]))
    return torch.stack([angle.cos(), angle.sin()], -1)


def _longitude(x: Tensor) -> Floats:
    return np.degrees(np.arctan2(_array(x)[:, 1:], _array(x)[:, :1]))


def _array(x: Tensor) -> Floats:
    return x.detach().double().cpu().numpy()


def _power(unit: str, axes: Sequence[Axis]) -> str:
    return unit if len(axes) == 1 else f"{unit}^{len(axes)}"
