"""Events on the Earth's surface, from a CSV of latitudes and longitudes."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.names import Floats, Named, Names, Unit, angle, half_turn
from rsgm.data.tables import Table, TableData, read_table, refuse_radians
from rsgm.manifolds import Sphere, from_lat_lon, to_lat_lon
from rsgm.seeding import generator_from

#: accepted names of a latitude and a longitude; those of a map's axes where there are no others
_NAMES = (
    (
        ("lat", "latitude", "decimallatitude"),
        ("lon", "lng", "long", "longitude", "decimallongitude"),
    ),
    (("y",), ("x",)),
)


@dataclass(eq=False, repr=False)
class EarthData(TableData):
    r"""Events on the sphere :math:`S^2`, :math:`x = (\cos\phi\cos\lambda, \cos\phi\sin\lambda, \sin\phi)`.

    The four sets of Mathieu and Nickel (2020, arXiv:2006.10605), the Smithsonian list of volcanoes
    (``gvp``), or a CSV of one's own. Where the files are looked for: `rsgm.data.sources.locate` and
    ``data/README.md``.

    Arguments:
        name: the named set
        path: a table of one's own (columns lat or latitude, and lon, lng, long or longitude, in any order among
            others; or two columns lat,lon without a header), or the folder or file of the named set
        split: ``random`` permutes the rows, as the papers do, and leaks: 83 % of the volcano test points are
            also train points; ``location`` keeps all rows of one location in one part, ``block`` all rows of
            one 1 x 1 degree cell
        dedup: keep only the first row of each place
        dequantize_deg: width of a von Mises-Fisher jitter of all points, degrees; 0 for none. Twins and
            groups are those of the file's points.
        columns: the names of ``lat`` and ``lon`` in a file that calls them otherwise, such as ``{lat: y, lon: x}``
        skip_rows, skip_bad: see `TableData`
        unit: of a file of one's own; None is degrees, and refuses numbers that look like radians
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)

    Example:
        >>> data = EarthData("flood", split="location", seed=1)
        >>> data.setup()  # doctest: +SKIP
        >>> len(data.train.points)  # doctest: +SKIP
        3900
    """

    name: Literal["volcano", "earthquake", "flood", "fire", "gvp"] = "volcano"
    path: str | None = None
    _: KW_ONLY
    split: Literal["random", "location", "block"] = "random"
    dequantize_deg: float = 0.0

    protocols = ("random", "location", "block")
    earth = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if strange := set(self.columns or ()) - {"lat", "lon"}:
            raise ValueError(f"EarthData: columns names {', '.join(sorted(strange))}, expected lat and lon.")
        width = self.dequantize_deg
        if not 0 <= width < math.inf:
            raise ValueError(f"EarthData: dequantize_deg must not be negative, and finite, found {width}.")

    @cached_property
    @override
    def manifold(self) -> Sphere:
        return Sphere(2)

    def read(self, path: Path) -> Table:
        """Latitudes and longitudes, the latter from -180 to below 180 degrees, in the file's unit."""
        table = read_table(path, lat_lon(self.columns, self.unit), skip_rows=self.skip_rows, skip_bad=self.skip_bad)
        lat, lon = table.values.T
        half = half_turn(self.unit)
        if self.unit is None and np.abs(lat).max() <= np.pi / 2 and lon.min() >= -np.pi:
            refuse_radians(path, table.values)
        from_zero = (False, bool(lon.max() > half and lon.min() >= 0))
        # adding 0.0 turns -0.0, which has other bits, into 0.0
        values = np.stack([lat, np.where(lon >= half, lon - 2 * half, lon)], -1) + 0.0
        return table._replace(values=values, from_zero=from_zero)

    def from_units(self, values: Floats) -> Tensor:
        """Unit vectors."""
        return from_lat_lon(values, self.unit or "degrees")

    @override
    def points(self) -> Tensor:
        x = super().points()
        if self.dequantize_deg:
            width = torch.tensor(math.radians(self.dequantize_deg), dtype=x.dtype)
            x = self.manifold.bump_sample(x, width, generator_from("dequantize", self.seed))
        return x

    def groups(self, locations: Tensor) -> Tensor:
        """As the base class; ``block`` labels the 1 x 1 degree cells."""
        if self.split != "block":
            return super().groups(locations)
        row, column = np.floor(self.rows.values * (180 / half_turn(self.unit))).astype(np.int64).T
        cells = np.minimum(row, 89) * 360 + column
        # a place on the edge of two cells, as a pole is, belongs to that of its first row
        return torch.from_numpy(cells[np.unique(locations, return_index=True)[1]])[locations]

    def to_units(self, x: Tensor) -> Floats:
        """Latitude and longitude, (B, 2), in the unit and the range of the file."""
        values = to_lat_lon(x, self.unit or "degrees").numpy()
        turn = 2 * half_turn(self.unit)
        return np.where(self._table.from_zero, values % turn, values)

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the jitter."""
        return super().provenance() | {"dequantize_deg": self.dequantize_deg}


def lat_lon(columns: Names | None = None, unit: Unit | None = None) -> Named:
    """The columns of a latitude and a longitude, as they are named in many files; see `EarthData`."""
    wanted = (angle("lat", "latitude", unit, -90, 90), angle("lon", "longitude", unit, -180, 360))
    return Named(columns or {}, wanted, _NAMES)
