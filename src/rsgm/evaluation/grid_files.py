"""Grids as files: tables, NetCDF with CF names, and HEALPix."""

from __future__ import annotations

import csv
import importlib.util
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor
from typing_extensions import override

from rsgm.data import ManifoldData
from rsgm.data.text import as_text
from rsgm.evaluation.coordinates import Axis, coordinates
from rsgm.evaluation.grid import Cells, DensityGrid, density_grid, regular_cells
from rsgm.files import new_file, require_free
from rsgm.manifolds import from_lat_lon
from rsgm.models import GenerativeModel


class GridFile(ABC):
    """A kind of file, which decides what the cells are and how they are written."""

    suffix: ClassVar[str]
    #: a package that is needed, and the extra of rsgm that brings it
    needs: ClassVar[tuple[str, str] | None] = None

    def cells(self, data: ManifoldData, steps: Sequence[float]) -> Cells:
        """The cells of a grid of such a file."""
        return regular_cells(data, steps)

    @abstractmethod
    def write(self, grid: DensityGrid, path: Path) -> None:
        """Write a file that does not exist."""


@dataclass(frozen=True)
class TextTable(GridFile):
    """Comma-separated values: the columns of the data, ``log_density`` and ``volume``."""

    suffix = ".csv"

    @override
    def write(self, grid: DensityGrid, path: Path) -> None:
        columns = [*grid.rows.T, grid.log_density, grid.cells.volume]
        cells = [as_text(column.tolist(), float(column.std()), digits=9) for column in columns]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*grid.header, "log_density", "volume"])
            writer.writerows(zip(*cells, strict=True))


@dataclass(frozen=True)
class NetCDF(GridFile):
    """NetCDF 3 with the attributes of the CF conventions; what is no box of axes has the one dimension ``cell``."""

    suffix = ".nc"
    needs = ("xarray", "grids")

    @override
    def write(self, grid: DensityGrid, path: Path) -> None:
        import xarray  # an extra

        cells = grid.cells
        shape = [len(values) for _, values in cells.axes] or [len(cells.volume)]
        names = [_plain(axis.name) for axis, _ in cells.axes] or ["cell"]
        places = {_plain(axis.name): (_plain(axis.name), values, _attributes(axis)) for axis, values in cells.axes}
        if not cells.axes:
            places = {_plain(name): ("cell", column) for name, column in zip(grid.header, grid.rows.T, strict=True)}
        log_density = {
            "long_name": "natural logarithm of the probability density",
            "units": "1",
            "comment": f"nats, of a density per {cells.per}",
        }
        volume = {"long_name": "volume of the cell", "comment": f"in {cells.per}", "units": _udunits(cells.per)}
        variables = {
            "log_density": (names, grid.log_density.reshape(shape), log_density),
            "volume": (names, cells.volume.reshape(shape), volume),
        }
        attributes = {"Conventions": "CF-1.11", **_about(grid), "integral": grid.integral}
        xarray.Dataset(variables, places, attributes).to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")


@dataclass(frozen=True)
class HEALPix(GridFile):
    """Pixels of equal area on the sphere, in ring order, as ``healpy.read_map`` and astropy read them.

    References: Gorski et al. 2005, "HEALPix", The Astrophysical Journal 622.
    """

    suffix = ".fits"
    needs = ("astropy_healpix", "healpix")

    def cells(self, data: ManifoldData, steps: Sequence[float]) -> Cells:
        """Pixels at most as wide as the step, in degrees; the number along a base pixel's side is a power of two.

        Raises:
            ValueError: where the manifold is not S², and for several steps
        """
        import astropy_healpix

        found = coordinates(data.manifold, data.train.points)
        if found is None or [axis.standard_name for axis in found.axes] != ["latitude", "longitude"]:
            raise ValueError(
                f"HEALPix pixels are on the sphere, and the model is on {data.manifold}; write a .nc file."
            )
        if len(steps) != 1 or not 0 < steps[0] < math.inf:
            raise ValueError(f"grid: found the steps {list(steps)}, expected one positive one, in degrees.")
        side = math.degrees(math.sqrt(4 * math.pi / 12))
        nside = 2 ** max(0, math.ceil(math.log2(side / steps[0])))
        pixels = np.arange(12 * nside**2)
        lon, lat = astropy_healpix.healpix_to_lonlat(pixels, nside, order="ring")
        places = np.stack([lat.to_value("deg"), lon.to_value("deg")], -1)
        volume = np.full(len(pixels), 4 * math.pi / len(pixels))
        return Cells(from_lat_lon(places), volume, found.per, nside=nside)

    @override
    def write(self, grid: DensityGrid, path: Path) -> None:
        from astropy.io import fits

        column = fits.Column("LOG_DENSITY", "D", "nat", array=grid.log_density)
        table = fits.BinTableHDU.from_columns([column], name="DENSITY")
        nside, count = grid.cells.nside, len(grid.log_density)
        header = {"PIXTYPE": "HEALPIX", "ORDERING": "RING", "NSIDE": nside, "FIRSTPIX": 0, "LASTPIX": count - 1}
        table.header.update(header | {"INDXSCHM": "IMPLICIT", "OBJECT": "FULLSKY"})
        for name, text in _about(grid).items():
            table.header.add_comment(f"{name}: {text}")
        table.header["INTEGRAL"] = (grid.integral, "of the density over all pixels")
        table.writeto(path)


FILES: tuple[GridFile, ...] = (TextTable(), NetCDF(), HEALPix())


def grid_file(path: Path) -> GridFile:
    """The kind of a file by its name, before anything is computed.

    Raises:
        ValueError: another suffix
        ImportError: a package that is not there, and the extra that brings it
        FileExistsError, FileNotFoundError: see `new_file`
    """
    found = next((kind for kind in FILES if kind.suffix == path.suffix.lower()), None)
    if found is None:
        expected = ", ".join(kind.suffix for kind in FILES)
        raise ValueError(f"{path}: found the suffix {path.suffix!r}, expected one of {expected}.")
    if found.needs and importlib.util.find_spec(found.needs[0]) is None:
        package, extra = found.needs
        raise ImportError(f'{path.suffix} files need {package}, which is not installed: pip install "rsgm[{extra}]".')
    require_free(path)
    return found


def write_density_grid(
    path: Path,
    model: GenerativeModel,
    data: ManifoldData,
    steps: Sequence[float],
    context: Tensor | None = None,
) -> DensityGrid:
    """Compute the grid of a density and write it; the suffix of the path says what it is.

    Arguments:
        path: a file that does not exist
        model, data, steps, context: see `density_grid`

    Raises:
        ValueError, ImportError, FileExistsError, FileNotFoundError: see `grid_file` and `density_grid`
    """
    kind = grid_file(path)
    grid = density_grid(model, data, steps, context, kind.cells)
    with new_file(path) as partial:
        kind.write(grid, partial)
    return grid


def _about(grid: DensityGrid) -> dict[str, str]:
    """What a file says of where it comes from."""
    written = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "title": f"Log-density of {grid.about}, nats, per {grid.cells.per}",
        "history": f"{written}: written by rsgm {version('rsgm')}",
        "source": f"rsgm {version('rsgm')}, {grid.about}",
    }


def _attributes(axis: Axis) -> dict[str, str]:
    """Of a coordinate, as CF has them; radians are a unit of latitudes too."""
    if axis.standard_name is None:
        return {"long_name": axis.name, "units": axis.unit}
    north = {"latitude": "degrees_north", "longitude": "degrees_east"}
    units = north[axis.standard_name] if axis.unit == "degrees" else axis.unit
    return {"standard_name": axis.standard_name, "long_name": axis.name, "units": units}


def _udunits(per: str) -> str:
    """A unit of volume as udunits spells it."""
    return re.sub(r"unit(\^\d)?", "1", per).replace("steradian", "sr").replace("^", "")


def _plain(name: str) -> str:
    """A name of letters, digits and underscores, as NetCDF asks for."""
    return re.sub(r"\W", "_", name) or "_"
