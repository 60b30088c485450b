"""Which columns of a table are wanted: by their names, and by their places only where nothing is named."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

Floats = NDArray[np.float64]
Unit = Literal["degrees", "radians"]
Names = dict[str, str | int]

_UNITS = {"degrees": r"(?:^|[\W_])deg(?:rees?)?(?:$|[\W_])|°", "radians": r"(?:^|[\W_])rad(?:ians?)?(?:$|[\W_])"}
BRACKETS = re.compile(r"[\[(]([^\])]*)[\])]")
#: units of angles that are not read: those that can be nothing else at the end of a name, and in brackets more
_LONG = r"gons?|gradians|turns|revolutions|cycles|hours|arc_?(?:min|sec|minute|second)s?|mas|[mµu]rad"
_OTHER_AT_END = re.compile(rf"(?<=[^\W_])[\s_]+({_LONG})$")
_SHORT = r"grads?|turn|revs?|cycle|h+(?:m+s*)?|hrs?|hour|(?:min|sec|minute|second)s?|d+m+s*|pi|π"
_OTHER = re.compile(rf"(?<![^\W\d_])({_LONG}|{_SHORT})(?![^\W\d_])")
#: what stands behind the name of an angle where its minutes or seconds have a column of their own
_MINUTES = re.compile(r"(?:arc_?)?(?:min|sec|minute|second)s?")


class Column(NamedTuple):
    """A column of numbers: its role, what it is called in errors, its unit and its range."""

    role: str
    title: str
    unit: str = "degrees"
    low: float = -np.inf
    high: float = np.inf


def angle(role: str, title: str, unit: Unit | None, low: float, high: float) -> Column:
    """A column of angles with a range in degrees.

    Example:
        >>> round(angle("lat", "latitude", "radians", -90, 90).high, 5)
        1.5708
    """
    if unit != "radians":
        return Column(role, title, "degrees", low, high)
    # rounded up, as a half turn of seven digits is
    return Column(role, title, unit, math.radians(low) - 1e-6, math.radians(high) + 1e-6)


class Choice(NamedTuple):
    """Columns and their places in a row; what is wrong with rows of their numbers (N, columns), by row; and, where
    they are those of several factors, how many each has."""

    columns: tuple[Column, ...]
    places: tuple[int, ...]
    faults: Callable[[Floats], dict[int, str]] = lambda values: {}
    widths: tuple[int, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """What the columns are."""
        return tuple(column.role for column in self.columns)


@dataclass(frozen=True)
class Wanted(ABC):
    """Columns that are looked for.

    Arguments:
        given: the names in the file, by role, where the user says them; in a file without names, places from 0
    """

    given: Names

    #: the option that names columns
    option = "--data.columns"

    @property
    @abstractmethod
    def expected(self) -> str:
        """The columns in words."""

    @abstractmethod
    def find(self, names: Sequence[str]) -> Choice | None:
        """The columns among names, None where they are not all there; a ValueError where several claim to be one."""

    @abstractmethod
    def nameless(self, width: int) -> Choice | None:
        """The columns of a file without names, None where they cannot be told apart."""

    def known(self) -> Collection[str]:
        """Names that are looked for, beside those that are given; empty where any name will do."""
        return ()

    def places(self, width: int) -> list[int]:
        """Those that are given, if all that is given are places in rows of a width."""
        texts = list(map(str, self.given.values()))
        return [int(text) for text in texts] if all(t.isdecimal() and int(t) < width for t in texts) else []

    def named(self, names: Sequence[str]) -> bool:
        """Whether the names name what is looked for, though perhaps not clearly."""
        try:
            return self.find(names) is not None
        except ValueError:
            return True

    def named_above(self, names: Sequence[str]) -> bool:
        """The same of the words of a comment above the rows, which may be prose."""
        return self.named(names)

    def nearest(self, names: Sequence[str]) -> list[str]:
        """What a name may have been meant to be, in words."""
        known = [*map(str, self.given.values()), *self.known()]
        near = {name: difflib.get_close_matches(plain(name), known, 1, 0.75) for name in names}
        return [f"{name!r} is near to {close[0]!r}" for name, close in near.items() if close and name != close[0]]


@dataclass(frozen=True)
class Named(Wanted):
    """One column for each role, by tiers of accepted names: the first tier that has them all.

    Arguments:
        columns: what is looked for
        tiers: accepted names of each column, plain
    """

    columns: tuple[Column, ...]
    tiers: tuple[tuple[Collection[str], ...], ...] = field(repr=False)

    @property
    @override
    def expected(self) -> str:
        one_of = [", ".join(names) for names in self.tiers[0]]
        return f"a header with one column of {' and one of '.join(one_of)}, or {len(self.columns)} columns of numbers"

    @override
    def find(self, names: Sequence[str]) -> Choice | None:
        texts = [plain(name).replace("_", "") for name in names]
        for tier in self.tiers:
            found = [
                places_of(names, self.given[column.role])
                if column.role in self.given
                else [k for k, text in enumerate(texts) if text in accepted]
                for column, accepted in zip(self.columns, tier, strict=True)
            ]
            if all(found):
                for column, places in zip(self.columns, found, strict=True):
                    if column.unit == "degrees" and column.role not in self.given:
                        refuse_minutes(names, places)
                return Choice(self.columns, only(names, self.columns, found))
            if any(places for column, places in zip(self.columns, found, strict=True) if column.role not in self.given):
                return None  # what one column is called decides what the others are
        return None

    def nameless(self, width: int) -> Choice | None:
        """By their places, where there are no others."""
        return Choice(self.columns, tuple(range(width))) if width == len(self.columns) else None

    @override
    def known(self) -> Collection[str]:
        return [name for tier in self.tiers for accepted in tier for name in accepted]


def half_turn(unit: Unit | None) -> float:
    """180 degrees, which are meant without a unit, in a unit."""
    return np.pi if unit == "radians" else 180.0


def to_radians(values: Floats, unit: Unit | None) -> Floats:
    """Angles in a unit, in radians."""
    return values if unit == "radians" else np.radians(values)


def from_radians(values: Floats, unit: Unit | None) -> Floats:
    """Radians in a unit."""
    return values if unit == "radians" else np.degrees(values)


def plain(name: str) -> str:
    """A name without its unit, in lower case, its words joined by underscores.

    Example:
        >>> plain("# Latitude (deg N)"), plain("pose.orientation.x"), plain("q_RS_w []"), plain("R[0,1]")
        ('latitude', 'pose_orientation_x', 'q_rs_w', 'r[0,1]')
    """
    text = re.sub(r"[\[(](?:\D[^\])]*)?[\])]", "", name.casefold().strip("#%@'\" "))
    text = re.sub(r"[\s./:\-°]+", "_", text).strip("_")
    return re.sub(r"_(deg(rees?)?|dd|rad(ians?)?)$", "", text)


def unit_in(name: str) -> str | None:
    """The unit of an angle that a name tells.

    Example:
        >>> unit_in("phi [rad]"), unit_in("lat_deg"), unit_in("gradient")
        ('radians', 'degrees', None)
    """
    return next((unit for unit, pattern in _UNITS.items() if re.search(pattern, name.casefold())), None)


def other_unit(name: str) -> str | None:
    """The unit that a name tells, where it is one of angles that are not read.

    Example:
        >>> other_unit("phi [gon]"), other_unit("time_of_day (h)"), other_unit("lat (WGS84)"), other_unit("turns")
        ('gon', 'h', None, None)
    """
    text = name.casefold()
    found = _OTHER.search(" ".join(BRACKETS.findall(text))) or _OTHER_AT_END.search(text)
    return None if found is None else found[1]


def refuse_minutes(names: Sequence[str], places: Sequence[int]) -> None:
    """No degrees have their minutes or seconds in columns of their own.

    Raises:
        ValueError: names them; not where a minimum has its maximum, or a letter could be anything
    """
    texts = [re.sub(r"[\W_]+", "_", name.casefold()).strip("_") for name in names]
    for k in places:
        stem = plain(names[k]) + "_"
        rest = {t.removeprefix(stem): names[j] for j, t in enumerate(texts) if j != k and t.startswith(stem)}
        letters = {"m", "s"} if unit_in(names[k]) == "degrees" or rest.keys() >= {"m", "s"} else set()
        parts = [repr(name) for text, name in rest.items() if _MINUTES.fullmatch(text) or text in letters]
        if parts and not (len(parts) == 1 and "min" in rest and "max" in rest):
            raise ValueError(
                f"{names[k]!r} stands beside {' and '.join(parts)}: minutes and seconds in columns of their own are "
                "not read. Write each angle as one number, degrees + minutes / 60 + seconds / 3600, below zero as a "
                "whole. If they are something else, say which columns to read with --data.columns."
            )


def places_of(names: Sequence[str], name: str | int) -> list[int]:
    """Where a name stands: as it is written, else in another case or with a unit."""
    for form in (str, str.casefold, plain):
        if places := [k for k, other in enumerate(names) if form(other) == form(str(name))]:
            return places
    return []


def only(names: Sequence[str], columns: Sequence[Column], found: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The only place of each column, each another one.

    Raises:
        ValueError: more than one; lists them; or one for two columns; or an angle whose name tells another unit
    """
    for column, places in zip(columns, found, strict=True):
        for name in (names[k] for k in places if column.unit in _UNITS):
            if unit := other_unit(name):
                raise ValueError(
                    f"the column {name!r} is named as being in {unit}, which is not read. Expected degrees or radians: "
                    "convert its numbers and rename it, or choose other columns."
                )
            if (said := unit_in(name)) not in (None, column.unit):
                raise ValueError(
                    f"the column {name!r} is named as being in {said}, expected {column.unit}; --data.unit={said} "
                    "reads it so."
                )
    for column, places in zip(columns, found, strict=True):
        if len(places) > 1:
            listed = " and ".join(f"{names[k]!r} (column {k + 1})" for k in places)
            same = len({names[k] for k in places}) < len(places)
            remedy = "rename one in the file" if same else f"choose with --data.columns='{{{column.role}: NAME}}'"
            raise ValueError(
                f"{column.title}: more than one column has a name of it, {listed}: remove one or {remedy}."
            )
    chosen = tuple(places[0] for places in found)
    for first, second in itertools.combinations(range(len(chosen)), 2):
        if chosen[first] == chosen[second]:
            raise ValueError(
                f"{columns[first].title} and {columns[second].title} are both to be read from column "
                f"{chosen[first] + 1}, {names[chosen[first]]!r}. Expected one column for each."
            )
    return chosen


def not_named_twice(names: Sequence[str]) -> None:
    """Names differ, and not in their case alone.

    Raises:
        ValueError: names a name that is there more than once, or what is no name; or one name for a list of them
    """
    if isinstance(names, str):
        raise ValueError(f"found {names!r}, expected a list of names: [{names!r}].")
    if strange := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"found {strange[0]!r}, expected the name of a column.")
    texts = [name.casefold() for name in names]
    for name, text in zip(names, texts, strict=True):
        if texts.count(text) > 1:
            raise ValueError(f"{name!r} is there more than once. Expected names that differ.")
