"""Columns that are a place on the globe, or on the sky: a latitude and a longitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor
from typing_extensions import Self, override

from rsgm.data.factors import Factor
from rsgm.data.names import Column, Floats, Named, Names, Unit, angle, half_turn, plain
from rsgm.data.tables import like_radians, refuse_radians
from rsgm.manifolds import Sphere, from_lat_lon, to_lat_lon

#: names of a declination and a right ascension, which are a latitude and a longitude
_SKY = (("dec", "decl", "declination", "de", "dej2000"), ("ra", "rightascension", "raj2000"))
#: accepted names of a latitude and a longitude; those of a map's axes where there are no others
_NAMES = (
    (
        ("lat", "latitude", "decimallatitude"),
        ("lon", "lng", "long", "longitude", "decimallongitude"),
    ),
    _SKY,
    (("y",), ("x",)),
)


@dataclass(frozen=True)
class PlaceFactor(Factor):
    r"""Latitude and longitude on :math:`S^2`, :math:`x = (\cos\phi\cos\lambda, \cos\phi\sin\lambda, \sin\phi)`.

    Arguments:
        columns: the names of ``lat`` and ``lon`` in a file that calls them otherwise
        unit: of the file; None is degrees, and refuses numbers that look like radians
        names: of the columns; learned
        from_zero: whether longitudes run from 0 rather than from half a turn below it; learned
    """

    columns: Names | None = None
    unit: Unit | None = None
    names: Sequence[str] = ("lat", "lon")
    from_zero: bool = False

    @property
    @override
    def wanted(self) -> Named:
        return lat_lon(self.columns, self.unit)

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        lon = values[:, 1]
        if self.unit is None and on_the_sky(names) and len(lon) >= 10 and lon.min() >= 0 and lon.max() <= 24:
            raise ValueError(
                f"{path}: all right ascensions are in [{lon.min():.4g}, {lon.max():.4g}]. Expected degrees, these may "
                "be hours: multiply them by 15, or say --data.unit=degrees to have them read as they are."
            )
        if self.in_radians(values):
            refuse_radians(path, values)
        return replace(self, names=tuple(names), from_zero=bool(lon.max() > half_turn(self.unit) and lon.min() >= 0))

    @override
    def in_radians(self, values: Floats) -> bool:
        lat, lon = values.T
        near = len(lat) > 0 and np.abs(lat).max() <= np.pi / 2 and lon.min() >= -np.pi
        return self.unit is None and bool(near) and like_radians(values)

    @property
    @override
    def manifold(self) -> Sphere:
        return Sphere(2)

    @override
    def normal(self, values: Floats) -> Floats:
        """Longitudes from -180 to below 180 degrees, in the file's unit."""
        lat, lon = values.T
        half = half_turn(self.unit)
        # adding 0.0 turns -0.0, which has other bits, into 0.0
        return np.stack([lat, np.where(lon >= half, lon - 2 * half, lon)], -1) + 0.0

    @override
    def from_units(self, values: Floats) -> Tensor:
        return from_lat_lon(values, self.unit or "degrees")

    @override
    def to_units(self, x: Tensor) -> Floats:
        values = to_lat_lon(x, self.unit or "degrees").numpy()
        return np.where((False, self.from_zero), values % (2 * half_turn(self.unit)), values)


def on_the_sky(names: Sequence[str]) -> bool:
    """Whether two columns are called as a declination and a right ascension are."""
    return all(plain(name).replace("_", "") in known for name, known in zip(names, _SKY, strict=True))


def lat_lon(columns: Names | None = None, unit: Unit | None = None) -> Named:
    """The columns of a latitude and a longitude, or of a place on the sky, as they are named in many files."""
    wanted = (angle("lat", "latitude", unit, -90, 90), angle("lon", "longitude", unit, -180, 360))
    return Named(columns or {}, wanted, _NAMES)
