"""Columns that are a place on the globe, or on the sky: a latitude and a longitude."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor
from typing_extensions import Self, override

from rsgm.data.factors import Factor
from rsgm.data.names import BRACKETS, Choice, Column, Floats, Named, Names, Unit, Wanted, angle, half_turn, plain
from rsgm.data.tables import like_radians, refuse_radians
from rsgm.manifolds import Sphere, from_lat_lon, to_lat_lon

#: names of a declination and a right ascension, which are a latitude and a longitude
SKY = (("dec", "decl", "declination", "de", "dej2000"), ("ra", "rightascension", "raj2000"))
#: accepted names of a latitude and a longitude; those of a map's axes where there are no others
_NAMES = (
    (
        ("lat", "latitude", "decimallatitude"),
        ("lon", "lng", "long", "longitude", "decimallongitude"),
    ),
    SKY,
    (("y",), ("x",)),
)
_LENGTH = re.compile(r"[\[(]\s*(?:[kcmnµ]?m|met(?:er|re)s?|ft|feet|px|pixels?)\s*[\])]")
#: words that turn the sign of an angle, and those beside which they do not
_TURNED = {"west": re.compile(r"(?:deg)?w|west(?:ern|wards?)?"), "south": re.compile(r"s|south(?:ern|wards?)?")}
_SIGNED = re.compile(r"\b(?:e|east|n|north|neg|negative|minus)\b|(?<![a-z])-[ws]\b|\b[ws]-")
#: columns that say on which side of zero a number is: of their own, and behind the name of an angle
_SIDES = r"hemi(?:sphere)?|n_s|e_w|north_?south|east_?west"
_SIDE_OF = rf"_?(?:{_SIDES}|hem|ns|ew|dir|direction|sign)"
#: cells of such columns, and those that turn the sign of a latitude and of a longitude
_SIDE_CELLS = ({"N", "S", "NORTH", "SOUTH"}, {"E", "W", "EAST", "WEST"}, {"NE", "NW", "SE", "SW"})
_BELOW_ZERO = ({"S", "SOUTH", "SE", "SW"}, {"W", "WEST", "NW", "SW"})


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
    def wanted(self) -> Places:
        return Places(self.columns or {}, self.unit)

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        lon, known = values[:, 1], replace(self, names=tuple(names))
        unit = known.looks_like(values)
        if unit == "hours":
            raise ValueError(
                f"{path}: all right ascensions are in [{lon.min():.4g}, {lon.max():.4g}]. Expected degrees, these may "
                "be hours: multiply them by 15, or say --data.unit=degrees to have them read as they are."
            )
        if unit == "radians":
            refuse_radians(path, values)
        if not on_the_sky(names) and (nowhere := int((values == 0).all(1).sum())):
            warnings.warn(
                f"{path}: {nowhere} of {len(values)} rows are at 0, 0, which is where many files have what has no "
                "place. They are read as they are: remove them if they are none.",
                stacklevel=2,
            )
        return replace(known, from_zero=bool(lon.max() > half_turn(self.unit) and lon.min() >= 0))

    @override
    def looks_like(self, values: Floats) -> str | None:
        lat, lon = values.T
        if self.unit is not None or not len(values):
            return None
        if on_the_sky(self.names) and like_hours(lon):
            return "hours"
        near = np.abs(lat).max() <= np.pi / 2 and lon.min() >= -np.pi
        return "radians" if near and like_radians(values) else None

    @override
    def refuse_beside(self, values: Floats, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        if self.columns:
            return
        signed = ((values < 0) | (values > half_turn(self.unit))).any(0)
        for k, name in enumerate(header):
            some = next((row[k] for row in cells if row[k]), "").upper()
            if not any(some in words for words in _SIDE_CELLS):
                continue
            found = {row[k].upper() for row in cells} - {""}
            turned = [not side and bool(found & words) for side, words in zip(signed, _BELOW_ZERO, strict=True)]
            # SE alone may be Sweden
            if any(turned) and any(found <= words for words in _SIDE_CELLS) and found != {"SE"}:
                raise _sides(("latitudes", "longitudes"), [name])

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


def like_hours(ra: Floats) -> bool:
    """Whether right ascensions (N,) look like hours."""
    return bool(len(ra) >= 10 and ra.min() >= 0 and ra.max() <= 24)


def on_the_sky(names: Sequence[str]) -> bool:
    """Whether two columns are called as a declination and a right ascension are."""
    return all(plain(name).replace("_", "") in known for name, known in zip(names, SKY, strict=True))


@dataclass(frozen=True)
class Places(Wanted):
    """A latitude and a longitude, degrees north and east, as they are named in many files.

    Arguments:
        unit: of both
    """

    unit: Unit | None = None

    @property
    @override
    def expected(self) -> str:
        return self._named.expected

    @override
    def find(self, names: Sequence[str]) -> Choice | None:
        choice = self._named.find(names)
        if choice is None:
            return None
        own = [names[k] for k in choice.places]
        for column, name in zip(choice.columns, own, strict=True):
            if side := _turned(name):
                raise ValueError(
                    f"{column.title}: the column {name!r} is named as counting to the {side}. Expected degrees north "
                    "and east: multiply it by -1, unless it has such a sign, and rename it."
                )
        if not self.given:
            # y and x are the axes of a map, but not in metres, or beside z, where they are those of space
            if any(map(_LENGTH.search, own)) or ([*map(plain, own)] == ["y", "x"] and "z" in map(plain, names)):
                return None
            _refuse_sides(names, own)
        return choice

    @override
    def nameless(self, width: int) -> Choice | None:
        return self._named.nameless(width)

    @override
    def known(self) -> Collection[str]:
        return self._named.known()

    @override
    def named(self, names: Sequence[str]) -> bool:
        """Also by y and x that are no place, and yet no row of numbers."""
        return self._named.named(names)

    @property
    def _named(self) -> Named:
        columns = (angle("lat", "latitude", self.unit, -90, 90), angle("lon", "longitude", self.unit, -180, 360))
        return Named(self.given, columns, _NAMES)


def _turned(name: str) -> str | None:
    """The side to which a name says that it counts, where that is the south or the west."""
    text = name.casefold()
    inside = " ".join(BRACKETS.findall(text)).replace("_", " ")
    if _SIGNED.search(inside):
        return None
    # letters are sides in brackets alone, and the first word is the angle
    outside = [word for word in re.findall(r"[^\W\d_]+", BRACKETS.sub(" ", text))[1:] if len(word) > 1]
    words = [*re.findall(r"[^\W\d_º]+", inside), *outside]
    return next((side for side, pattern in _TURNED.items() if any(map(pattern.fullmatch, words))), None)


def _refuse_sides(names: Sequence[str], own: Sequence[str]) -> None:
    """No column says on which side of zero the numbers of another are."""
    stems, texts = "|".join(map(re.escape, map(plain, own))), list(map(plain, names))
    alone = f"{_SIDES}|ns|ew" if {"ns", "ew"} <= set(texts) else _SIDES
    pattern = rf"(?:{stems}){_SIDE_OF}" + ("" if on_the_sky(own) else f"|{alone}")
    if sides := [name for name, text in zip(names, texts, strict=True) if re.fullmatch(pattern, text)]:
        raise _sides([*map(repr, own)], sides)


def _sides(own: Sequence[str], sides: Sequence[str]) -> ValueError:
    return ValueError(
        f"{' and '.join(own)} stand beside {' and '.join(map(repr, sides))}, which may say on which side of "
        "zero a number is, and is not read. Expected numbers below zero in the south and in the west: write them so, "
        "and remove it. If they are so, say which columns to read with --data.columns='{lat: NAME, lon: NAME}'."
    )
