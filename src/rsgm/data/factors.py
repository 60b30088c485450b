"""What the columns of a table are: factors, each a point of one manifold, and how its rows become points and back."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self, override

from rsgm.data.missing import no_values
from rsgm.data.names import Choice, Column, Floats, Wanted, not_named_twice, only, places_of, plain
from rsgm.data.text import is_number
from rsgm.manifolds import Euclidean, Manifold

#: names of columns that only count the rows
_INDEX = frozenset(("id", "index", "unnamed_0"))
#: beyond which numbers overflow where they are standardised or drawn
_LARGEST = 1e300


@dataclass(frozen=True)
class Factor(ABC):
    """Columns of a table that are a point of one manifold.

    What is learned of a file is an argument too: a factor that knows its file is the same class with more arguments,
    which a checkpoint keeps, so that points can be read and written without the file.
    """

    @property
    @abstractmethod
    def wanted(self) -> Wanted:
        """The columns, as they are looked for in a file."""

    @abstractmethod
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        """This factor with what a file says of it.

        Arguments:
            path: the file, for errors
            columns: that were found
            names: theirs in the file
            values: the rows ``(N, columns)``

        Raises:
            ValueError: numbers that are not what they should be
        """

    def as_own(self, columns: Sequence[Column], values: Floats) -> Floats:
        """Rows ``(N, other columns)`` of another file, in this factor's columns and their order."""
        return values

    def looks_like(self, values: Floats) -> str | None:
        """What rows ``(N, columns)`` that are read as degrees look like, if it is another unit."""
        return None

    def refuse_beside(self, values: Floats, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        """Raise a ValueError where other columns of a file say that rows ``(N, columns)`` are something else.

        Arguments:
            values: the rows
            header: names of all columns of the file
            cells: all cells of these rows
        """

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `to_units`, once a file is known: by default the field ``names`` of a factor."""
        return tuple(self.names)  # type: ignore[attr-defined]

    @property
    def spreads(self) -> Sequence[float]:
        """How far apart the numbers of each column are in training; 0 where that is not known or of no matter."""
        return (0.0,) * len(self.header)

    @property
    @abstractmethod
    def manifold(self) -> Manifold:
        """Where the points lie."""

    @abstractmethod
    def from_units(self, values: Floats) -> Tensor:
        """Points ``(N, *shape)``, float64, of rows ``(N, columns)``."""

    @abstractmethod
    def to_units(self, x: Tensor) -> Floats:
        """Rows ``(N, columns)`` of points."""

    def normal(self, values: Floats) -> Floats:
        """Rows with one number for what is written in several ways, as 181 and -179 degrees."""
        return values

    def scaled(self, values: Floats) -> Self:
        """This factor with a scale by rows of training; curved ones have theirs."""
        return self

    def log_unit(self, values: Floats) -> Tensor:
        """What turns a log-density by the manifold's volume into one by the units of the columns, to be added,
        ``(N,)``: zero where the manifold has a volume that everybody uses, such as steradian."""
        return torch.zeros(len(values), dtype=torch.float64)


@dataclass(frozen=True)
class CoordinateFactor(Factor):
    """Coordinates in the ambient space of a manifold.

    Arguments:
        space: the manifold
    """

    space: Manifold

    @property
    @override
    def wanted(self) -> Numbers:
        return Numbers({}, self.header, (), frozenset())

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        return self

    @property
    @override
    def header(self) -> tuple[str, ...]:
        return tuple(f"x{k}" for k in range(torch.Size(self.space.shape).numel()))

    @property
    @override
    def manifold(self) -> Manifold:
        return self.space

    @override
    def from_units(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).reshape(-1, *self.space.shape)

    @override
    def to_units(self, x: Tensor) -> Floats:
        return x.flatten(1).numpy()


@dataclass(frozen=True)
class NumberFactor(Factor):
    r"""Numbers on :math:`\mathbb R^n`, each standardised by its mean and standard deviation in training.

    Arguments:
        names: of the columns; none for all that no other option reads
        log: those whose logarithm is taken before
        others: of columns that are no numbers of this factor
        shift, scale: by which numbers, or their logarithms, become standardised; learned where they are empty

    Raises:
        ValueError: a name twice, or a logarithm of a column that is not read
    """

    names: Sequence[str] = ()
    log: Sequence[str] = ()
    others: Sequence[str] = field(default=(), repr=False)
    shift: Sequence[float] = ()
    scale: Sequence[float] = ()

    def __post_init__(self) -> None:
        for given in (self.names, self.log):
            not_named_twice(given)
        if self.names and (strange := set(self.log) - set(self.names)):
            raise ValueError(f"log names {', '.join(sorted(strange))}, expected some of {', '.join(self.names)}.")

    @property
    @override
    def wanted(self) -> Wanted:
        return Numbers({}, tuple(self.names), tuple(self.log), frozenset(self.others))

    @override
    def learn(self, path: Path, columns: Sequence[Column], names: Sequence[str], values: Floats) -> Self:
        roles = [column.role for column in columns]
        if strange := set(self.log) - set(roles):
            raise ValueError(f"{path}: log names {', '.join(sorted(strange))}, expected some of {', '.join(roles)}.")
        for name, column in zip(roles, values.T, strict=True):
            if not (low := column.min()) < (high := column.max()):
                raise ValueError(
                    f"{path}: the column {name!r} holds {column[0]:g} in all rows. Expected numbers that vary: "
                    f"{self.wanted.option} says which to read."
                )
            if max(-low, high) > _LARGEST:
                raise ValueError(
                    f"{path}: the column {name!r} holds numbers from {low:g} to {high:g}. Expected none beyond "
                    f"{_LARGEST:g}: write them in another unit."
                )
        counts = [np.arange(len(values)) + start for start in (0, 1)]
        for name, column in zip(roles, values.T, strict=True):
            if not self.names and len(roles) > 1 and len(column) >= 10 and any((column == n).all() for n in counts):
                raise ValueError(
                    f"{path}: the column {name!r} counts the rows. Expected numbers of points: name those to read with "
                    f"{self.wanted.option}, it too if it is one."
                )
        known = replace(self, names=tuple(roles))
        # until those of training are known: where places are compared, a column of small numbers counts as others do
        size = np.abs(known._logged(values)).max(0)
        scale = np.where(size > 0, size, 1.0).clip(max=1.0)
        return replace(known, shift=(0.0,) * len(roles), scale=tuple(scale.tolist()))

    @property
    @override
    def manifold(self) -> Euclidean:
        return Euclidean(len(self.names))

    @property
    @override
    def spreads(self) -> Sequence[float]:
        # digits of a number are digits of its logarithm
        scales = self.scale or super().spreads
        return tuple(0.0 if name in self.log else scale for name, scale in zip(self.names, scales, strict=True))

    @override
    def scaled(self, values: Floats) -> Self:
        values = self._logged(values)
        # in units, powers of two, in which no square is infinite or none
        unit = np.frexp(np.abs(values).max(0))[1]
        values = np.ldexp(values, -unit)
        shift, spread = np.ldexp(values.mean(0), unit), np.ldexp(values.std(0), unit)
        spread = np.where(np.ptp(values, 0) > 0, spread, 1.0)  # one number in all rows of training
        return replace(self, shift=tuple(shift.tolist()), scale=tuple(spread.tolist()))

    @override
    def from_units(self, values: Floats) -> Tensor:
        values = self._logged(values)
        if self.scale:
            values = (values - np.array(self.shift)) / np.array(self.scale)
        return torch.from_numpy(values)

    @override
    def to_units(self, x: Tensor) -> Floats:
        values = x.detach().double().cpu().numpy()
        if self.scale:
            values = values * np.array(self.scale) + np.array(self.shift)
        return np.where(self._is_log, np.exp(np.where(self._is_log, values, 0.0)), values)

    @override
    def log_unit(self, values: Floats) -> Tensor:
        logs = np.where(self._is_log, np.log(np.where(self._is_log, values, 1.0)), 0.0)
        return -torch.from_numpy(logs.sum(1) + np.log(self.scale or (1.0,)).sum())

    @property
    def _is_log(self) -> np.ndarray:
        return np.array([name in self.log for name in self.names], dtype=bool)

    def _logged(self, values: Floats) -> Floats:
        return np.where(self._is_log, np.log(np.where(self._is_log, values, 1.0)), values)


@dataclass(frozen=True)
class Numbers(Wanted):
    """Named numbers; without names, all columns but others, and those that are an index by their names.

    Arguments:
        names: of the numbers
        log: those that must be positive
        others: names of columns that are something else
    """

    names: tuple[str, ...]
    log: tuple[str, ...]
    others: frozenset[str]

    option = "--data.numbers"

    @property
    @override
    def expected(self) -> str:
        return f"a header that names {', '.join(self.names) or 'columns of numbers'}"

    @override
    def find(self, names: Sequence[str]) -> Choice | None:
        if self.names:
            columns = tuple(map(self._column, self.names))
            found = [places_of(names, name) for name in self.names]
            return self._choice(columns, only(names, columns, found)) if all(found) else None
        if any(map(is_number, names)):
            return None
        not_named_twice(names)
        others = {place for name in self.others for place in places_of(names, name)}
        places = tuple(
            k for k, name in enumerate(names) if (k or name) and k not in others and plain(name) not in _INDEX
        )
        return self._choice(tuple(self._column(names[k]) for k in places), places) if places else None

    @override
    def nameless(self, width: int) -> Choice | None:
        return None

    @override
    def known(self) -> Collection[str]:
        return self.names

    def _choice(self, columns: tuple[Column, ...], places: tuple[int, ...]) -> Choice:
        return Choice(columns, places, partial(no_values, [column.title for column in columns]))

    def _column(self, name: str) -> Column:
        smallest = np.finfo(float).tiny
        return Column(name, name, "numbers", smallest) if name in self.log else Column(name, name, "numbers")


@dataclass(frozen=True)
class Combined(Wanted):
    """The columns of several factors, each another one.

    Arguments:
        parts: the columns of each
    """

    parts: tuple[Wanted, ...]

    @property
    @override
    def option(self) -> str:  # type: ignore[override]
        return " and ".join(dict.fromkeys(part.option for part in self.parts))

    @property
    @override
    def expected(self) -> str:
        return ", and besides ".join(part.expected for part in self.parts)

    @override
    def find(self, names: Sequence[str]) -> Choice | None:
        found = [part.find(names) for part in self.parts]
        if not all(found):
            return None
        columns = tuple(itertools.chain(*(choice.columns for choice in found)))
        places = only(names, columns, [(place,) for choice in found for place in choice.places])
        stops = list(itertools.accumulate(len(choice.columns) for choice in found))

        def faults(values: Floats) -> dict[int, str]:
            parts = np.split(values, stops[:-1], 1)
            every = [choice.faults(part) for choice, part in zip(found, parts, strict=True)]
            return {k: text for own in reversed(every) for k, text in own.items()}

        return Choice(columns, places, faults, tuple(len(choice.columns) for choice in found))

    @override
    def nameless(self, width: int) -> Choice | None:
        """None: which columns are which factor has to be named."""
        return None

    @override
    def known(self) -> Collection[str]:
        return [name for part in self.parts for name in part.known()]
