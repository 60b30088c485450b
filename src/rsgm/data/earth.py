"""Events on the Earth's surface, from a CSV of latitudes and longitudes."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsgm.data.base import ManifoldData
from rsgm.data.sources import Found, locate
from rsgm.manifolds import Sphere
from rsgm.seeding import generator_from

_LATITUDE, _LONGITUDE = ("lat", "latitude"), ("lon", "long", "longitude")
_SHOWN = 5  # bad lines that an error quotes

Floats = NDArray[np.float64]


class EarthData(ManifoldData):
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
        dedup: keep only the first of equal rows
        dequantize_deg: width of a von Mises-Fisher jitter of all points, degrees; 0 for none. Twins and
            groups are those of the file's coordinates.
        batch_size, seed, steps_per_epoch, eval_batch_size: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)

    Example:
        >>> data = EarthData("flood", split="location", seed=1)
        >>> data.setup()  # doctest: +SKIP
        >>> len(data.train.points)  # doctest: +SKIP
        3900
    """

    name: str
    columns = ("lat", "lon")

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
    ) -> None:
        super().__init__(batch_size, split, seed, steps_per_epoch, eval_batch_size)
        if dequantize_deg < 0:
            raise ValueError(f"EarthData: dequantize_deg must not be negative, found {dequantize_deg}.")
        self.name, self.path, self.dedup, self.dequantize_deg = name, path, dedup, dequantize_deg

    @cached_property
    def manifold(self) -> Sphere:
        """The unit sphere in R^3."""
        return Sphere(2)

    def prepare_data(self) -> None:
        """Find or download the file: on one process per machine, before the others look."""
        _ = self._file

    def points(self) -> Tensor:
        """All rows, (N, 3)."""
        x = from_degrees(self._degrees)
        if self.dequantize_deg:
            width = torch.tensor(math.radians(self.dequantize_deg), dtype=x.dtype)
            x = self.manifold.kernel_sample(x, width, generator_from("dequantize", self.seed))
        return x

    def locations(self, x: Tensor) -> Tensor:
        """Labels of equal coordinates, before any jitter."""
        return torch.unique(torch.from_numpy(self._degrees), dim=0, return_inverse=True)[1]

    def groups(self, locations: Tensor) -> Tensor:
        """As the base class; ``block`` labels the 1 x 1 degree cells."""
        if self.split != "block":
            return super().groups(locations)
        row, column = np.floor(self._degrees).astype(np.int64).T
        return torch.from_numpy(np.minimum(row, 89) * 360 + column)

    def to_units(self, x: Tensor) -> Floats:
        """Latitude and longitude, degrees, (B, 2)."""
        return to_degrees(x)

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the file."""
        file, degrees = self._file, self._table
        return super().provenance() | {
            "name": file.name,
            "source": file.source,
            "sha256": file.sha256,
            "rows": len(degrees),
            "dedup": self.dedup,
            "dequantize_deg": self.dequantize_deg,
        }

    @cached_property
    def _file(self) -> Found:
        return locate(self.name, self.path)

    @cached_property
    def _table(self) -> Floats:
        degrees = read_degrees(self._file.path)
        if self._file.rows not in (None, len(degrees)):
            raise ValueError(f"{self._file.path}: found {len(degrees)} rows, expected {self._file.rows}.")
        return degrees

    @cached_property
    def _degrees(self) -> Floats:
        if not self.dedup:
            return self._table
        _, first = np.unique(self._table, axis=0, return_index=True)
        return self._table[np.sort(first)]


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

    Skips blank lines, comments (``#``) and a header; reads CRLF, a byte-order mark, a last line without an
    end. The separator is a comma, semicolon or tab. Longitudes of 180 and more lose a turn.

    Raises:
        ValueError: no columns that can be told apart, no rows, or bad rows, which are named by line
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path}: the file has no rows. Expected two columns lat,lon in degrees.")
    lat, lon = _columns(path, first[1])
    if _numeric(first[1]):  # no header
        rows = itertools.chain([first], rows)
    good, bad = [], []
    for line, cells in rows:
        try:
            good.append(_parse(cells, lat, lon))
        except ValueError as error:
            bad.append(f"\n  line {line}: {error}")
    if bad:
        shown = bad[:_SHOWN] + [f"\n  and {len(bad) - _SHOWN} more"] * (len(bad) > _SHOWN)
        raise ValueError(
            f"{path}: {len(bad)} of {len(good) + len(bad)} rows are bad:{''.join(shown)}\nExpected "
            "a latitude in [-90, 90] and a longitude in [-180, 360], degrees: correct or remove these lines."
        )
    if not good:
        raise ValueError(f"{path}: a header but no rows. Expected rows of latitude and longitude in degrees.")
    return np.array(good)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is neither blank nor a comment."""
    # universal newlines; blanked rather than dropped, so that the reader's line numbers are the file's
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = ["" if line.lstrip().startswith("#") else line.strip(" ") for line in text.split("\n")]
    first = next(filter(None, lines), "")
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count), skipinitialspace=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _columns(path: Path, cells: list[str]) -> tuple[int, int]:
    if _numeric(cells):
        if len(cells) != 2:
            raise ValueError(
                f"{path}: {len(cells)} columns without a header. Expected two, lat,lon in degrees, or a "
                "header that names them."
            )
        return 0, 1
    names = [cell.casefold() for cell in cells]
    lat, lon = ([k for k, name in enumerate(names) if name in known] for known in (_LATITUDE, _LONGITUDE))
    if not (lat and lon):
        raise ValueError(
            f"{path}: the first row is {', '.join(cells)!r}. Expected a header with one column of "
            f"{', '.join(_LATITUDE)} and one of {', '.join(_LONGITUDE)}, or two numbers lat,lon."
        )
    return lat[0], lon[0]


def _numeric(cells: list[str]) -> bool:
    try:
        list(map(float, cells))
    except ValueError:
        return False
    return True


def _parse(cells: list[str], lat: int, lon: int) -> tuple[float, float]:
    if len(cells) <= max(lat, lon):
        raise ValueError(f"{len(cells)} columns, expected at least {max(lat, lon) + 1}")
    try:
        latitude, longitude = float(cells[lat]), float(cells[lon])
    except ValueError:
        raise ValueError(f"{cells[lat]!r}, {cells[lon]!r} are not two numbers") from None
    # written so that NaN fails
    if not -90 <= latitude <= 90:
        raise ValueError(f"latitude {cells[lat]} is outside [-90, 90]")
    if not -180 <= longitude <= 360:
        raise ValueError(f"longitude {cells[lon]} is outside [-180, 360]")
    # adding 0.0 turns -0.0, which has other bits, into 0.0
    return latitude + 0.0, (longitude - 360 if longitude >= 180 else longitude) + 0.0
