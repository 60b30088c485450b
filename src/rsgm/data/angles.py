"""Which columns of a table are angles, and which numbers in them are none."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from typing_extensions import override

from rsgm.data.names import (
    Choice,
    Column,
    Floats,
    Unit,
    Wanted,
    angle,
    half_turn,
    not_named_twice,
    only,
    places_of,
    plain,
    refuse_minutes,
)
from rsgm.data.tables import like_radians
from rsgm.data.text import is_number

#: names of columns that stand beside angles and are none
NO_ANGLES = frozenset(
    (
        *("id", "index", "no", "nr", "unnamed_0", "frame", "model", "time", "group", "pdb", "pdb_id", "pdbid", "chain"),
        *("chain_id", "chainid", "segid", "base", "nucleotide", "aa", "res", "resi", "resid", "res_id", "resn"),
        *("resname", "res_name", "resno", "resnr", "resnum", "resseq", "residue", "icode"),
    )
)
#: names of angles, beside which a column of another name may be anything
_ANGLES = re.compile(
    r"phi|psi|omega|chi_?\d?|alpha|beta|gamma|delta|epsilon|zeta|eta|theta|tau|kappa|[φψωχ]|strike|dip|rake|"
    r"(?:.*_)?(?:angle|dir|direction|heading|bearing|azimuth|course|phase)"
)
#: names of what comes again, in numbers that are no degrees, and how many of them are a turn
_TIMES = {
    24: re.compile(r"hours?|hod|tod|(?:hour|time)_of_(?:the_)?day"),
    12: re.compile(r"months?|month_of_(?:the_)?year"),
    7: re.compile(r"weekdays?|week_day|dow|day_of_(?:the_)?week"),
    366: re.compile(r"doy|yday|day_of_(?:the_)?year"),
}
_MERGED = 0.1  # share of angles beyond half a turn that are too many to be none


@dataclass(frozen=True)
class Angles(Wanted):
    """Named angles; without names, all columns of a table but those that bear the name of something else.

    Arguments:
        names: of the angles
        unit: of the angles
        others: names of columns that are no angles
    """

    names: tuple[str, ...]
    unit: Unit | None
    others: frozenset[str]

    option = "--data.angles"

    @property
    @override
    def expected(self) -> str:
        return f"a header that names {', '.join(self.names) or 'angles'}, or columns of angles alone"

    def find(self, names: Sequence[str]) -> Choice | None:
        """As the base class; a column without a name is an index, if it is the first."""
        if self.names:
            found = [places_of(names, self.given.get(name, name)) for name in self.names]
            columns = self._columns(self.names)
            for name, own in zip(self.names, found, strict=True):
                if name not in self.given:
                    refuse_minutes(names, [k for k in own if names[k] != name])
            return self._choice(columns, only(names, columns, found)) if all(found) else None
        if any(map(is_number, names)):
            return None
        not_named_twice(names)
        if "" in names[1:]:
            raise ValueError(f"column {names.index('', 1) + 1} has no name: say which to read with {self.option}.")
        places = [k for k, name in enumerate(names) if (k or name) and plain(name) not in self.others]
        if not places:
            return None
        refuse_minutes(names, places)
        columns = self._columns([names[k] for k in places])
        return self._choice(columns, only(names, columns, [[k] for k in places]))

    @override
    def nameless(self, width: int) -> Choice | None:
        names = self.names or [f"angle{k}" for k in range(width)]
        return self._choice(self._columns(names), range(width)) if len(names) == width else None

    @override
    def known(self) -> Sequence[str]:
        return self.names

    @override
    def named_above(self, names: Sequence[str]) -> bool:
        """As the base class; where no word is that of an angle, none, as in "time series", leaves out a column."""
        alone = not (self.names or any(map(_is_angle, names)))
        return self.named(names) and not (alone and any(plain(name) in self.others for name in names))

    def _columns(self, names: Sequence[str]) -> tuple[Column, ...]:
        return tuple(angle(name, name, self.unit, -360, 360) for name in names)

    def _choice(self, columns: tuple[Column, ...], places: Sequence[int]) -> Choice:
        return Choice(columns, tuple(places), partial(no_angles, half_turn(self.unit)))


def no_angles(half: float, values: Floats) -> dict[int, str]:
    """What DSSP and others write where there is no angle: 360 beside angles of both signs.

    Many such angles are none of these: two tables were merged, one of them from 0 or below half a turn.
    """
    negative = (values < 0).any(0)
    turn, beyond = np.isclose(np.abs(values), 2 * half, rtol=1e-6), np.abs(values) > half * (1 + 1e-6)
    merged = [
        len(np.unique(column[some])) > 1 and some.mean() >= _MERGED
        for column, some in zip(values.T, (beyond & ~turn).T, strict=True)
    ]
    wrong = (beyond & negative) | (turn & (values > 0) & negative.any())
    wrong &= ~np.array(merged)
    return {
        int(k): f"{values[k, j]:g} beside angles from -{half:.6g} to {half:.6g}; some programs write it for no angle"
        for k, j in np.argwhere(wrong)
    }


def refuse_counts(path: Path, names: Sequence[str], values: Floats) -> None:
    """A column that nobody named as an angle, and that counts; a warning of one that stands beside angles."""
    whole = ~(values % 1).any(0)
    steps = np.diff(values, axis=0)
    # by one, if it starts again with each chain
    rising = ((steps > 0).all(0) | ((steps == 1).mean(0) > 0.5)) & (len(steps) >= 10)
    for k in np.flatnonzero(whole & (rising | ~whole.all())):
        raise ValueError(
            f"{path}: the column {names[k]!r} holds whole numbers that "
            f"{'rise from row to row' if rising[k] else 'stand beside decimals'}, {values[0, k]:g} to "
            f"{values[-1, k]:g}. Expected angles: name those to read with --data.angles, it too if it is one."
        )
    known = list(map(_is_angle, names))
    strange = [repr(name) for name, match in zip(names, known, strict=True) if not match]
    if any(known) and strange:
        warnings.warn(
            f"{path}: the columns {', '.join(strange)} are taken for angles too: --data.angles names those to read.",
            stacklevel=2,
        )


def _is_angle(name: str) -> bool:
    return _ANGLES.fullmatch(re.sub(r"[_:]?\d*$", "", plain(name))) is not None


def refuse_times(path: Path | str, names: Sequence[str], values: Floats) -> None:
    """No hours, months or days are read as degrees."""
    for name, column in zip(names, values.T, strict=True):
        turn = next((turn for turn, pattern in _TIMES.items() if pattern.fullmatch(plain(name))), None)
        if turn is not None and column.min() >= 0 and column.max() <= turn:
            raise ValueError(
                f"{path}: the column {name!r} holds numbers from {column.min():.4g} to {column.max():.4g}, of which "
                f"{turn} may be a turn. Expected degrees: multiply them by {360 / turn:.4g}, or say "
                "--data.unit=degrees to have them read as they are (a program passes them without names)."
            )


def warn_of_radians(path: Path, names: Sequence[str], values: Floats) -> None:
    """A word where some columns of angles look like radians, and others do not."""
    for name, column in zip(names, values.T, strict=True):
        if np.ptp(column) > np.pi and like_radians(column[:, None]):
            warnings.warn(
                f"{path}: all numbers of {name!r} are in [{column.min():.4g}, {column.max():.4g}], which look like "
                "radians; they are read as degrees, as those of the other columns.",
                stacklevel=2,
            )
