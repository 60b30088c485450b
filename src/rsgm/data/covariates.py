"""What is known of each row beside its point: contexts of a model, from columns of a table, as numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from rsgm.data.factors import Factor, NumberFactor
from rsgm.data.missing import no_values
from rsgm.data.names import Floats
from rsgm.data.text import as_text, is_number, number


@dataclass(frozen=True)
class Category:
    """A column of names, one-hot.

    Arguments:
        name: of the column
        values: that it may have, in their order
    """

    name: str
    values: Sequence[str] = ()

    @property
    def features(self) -> int:
        """How many numbers a row has."""
        return len(self.values)

    def encode(self, cells: Sequence[str]) -> Tensor:
        """One-hot rows ``(N, features)``, float64, of names without `faults`."""
        places = {value: k for k, value in enumerate(self.values)}
        return torch.eye(len(self.values), dtype=torch.float64)[[places[cell] for cell in cells]]

    def faults(self, cells: Sequence[str]) -> dict[int, str]:
        """What is wrong with names, by row."""
        known, seen = ", ".join(map(repr, self.values[:20])) + ", …" * (len(self.values) > 20), set(self.values)
        strange = [(k, cell) for k, cell in enumerate(cells) if cell not in seen]
        return {k: f"{self.name}: found {cell!r}, which training has not seen. Expected {known}" for k, cell in strange}

    def decode(self, context: Tensor) -> list[str]:
        """The names of rows."""
        return [self.values[k] for k in context.argmax(1).tolist()]


@dataclass(frozen=True)
class Covariates:
    """Columns as the context of a model: numbers standardised, places on the globe as unit vectors, names one-hot.

    What is learned of a file is an argument too, as of a `Factor`.

    Arguments:
        names: of the columns, in the order that was asked for
        factor: those that are points of a manifold; None for none
        columns: its columns
        categories: those that are names
    """

    names: Sequence[str]
    factors: Sequence[Factor] = ()
    columns: Sequence[Sequence[str]] = ()
    categories: Sequence[Category] = ()

    @classmethod
    def learn(
        cls, names: Sequence[str], as_names: Sequence[str], cells: Mapping[str, Sequence[str]], place: Factor
    ) -> Covariates:
        """Which columns are numbers, which names, and which a place on the globe.

        Arguments:
            names: of the columns
            as_names: those whose numbers are names, such as codes of classes
            cells: theirs
            place: latitude and longitude, as they are looked for
        """
        numbers = [n for n in names if n not in as_names and all(map(is_number, cells[n]))]
        for name in names:
            if name not in as_names and name not in numbers:
                _refuse_numbers(name, cells[name])
        factors, columns = [], []
        if (found := place.wanted.find(numbers)) and not _is_map(numbers, found.places):
            own = tuple(numbers[k] for k in found.places)
            factors.append(place)
            columns.append(own)
            numbers = [name for name in numbers if name not in own]
        if numbers:
            factors.append(NumberFactor(tuple(numbers)))
            columns.append(tuple(numbers))
        named = [n for n in names if not any(n in own for own in columns)]
        categories = [Category(name, tuple(sorted(set(cells[name])))) for name in named]
        return cls(tuple(names), tuple(factors), tuple(columns), tuple(categories))

    def scaled(self, cells: Mapping[str, Sequence[str]], rows: Tensor) -> Self:
        """These with the scales of rows of training."""
        factors = [
            factor.scaled(_numbers(own, cells)[rows.numpy()])
            for factor, own in zip(self.factors, self.columns, strict=True)
        ]
        return replace(self, factors=tuple(factors))

    @property
    def features(self) -> int:
        """How many numbers a row has."""
        sizes = [torch.Size(factor.manifold.shape).numel() for factor in self.factors]
        return sum(sizes) + sum(category.features for category in self.categories)

    def encode(self, cells: Mapping[str, Sequence[str]]) -> Tensor:
        """Contexts ``(N, features)``, float64, of cells by column.

        Raises:
            ValueError: a missing column, and the first of the `faults`; says the row, counted from 0
        """
        if missing := [name for name in self.names if name not in cells]:
            raise ValueError(f"the context {missing[0]!r} is missing. Expected {', '.join(self.names)}.")
        if faults := self.faults(cells):
            row = min(faults)
            where = f"row {row} (they count from 0): " if len(cells[self.names[0]]) > 1 else ""
            raise ValueError(f"{where}{faults[row]}.")
        parts = [
            factor.from_units(factor.normal(_numbers(own, cells))).flatten(1)
            for factor, own in zip(self.factors, self.columns, strict=True)
        ]
        return torch.cat([*parts, *(category.encode(cells[category.name]) for category in self.categories)], 1)

    def faults(self, cells: Mapping[str, Sequence[str]]) -> dict[int, str]:
        """What is wrong with rows, by row: cells that are no numbers, or out of range, and names that are unknown."""
        found: dict[int, str] = {}
        for factor, own in zip(self.factors, self.columns, strict=True):
            choice = factor.wanted.find(own)
            ranges = {} if choice is None else {own[k]: c for k, c in zip(choice.places, choice.columns, strict=True)}
            for name in own:
                low, high = (ranges[name].low, ranges[name].high) if name in ranges else (-np.inf, np.inf)
                for row, cell in enumerate(cells[name]):
                    if not is_number(cell) or not np.isfinite(number(cell)) or not low <= number(cell) <= high:
                        expected = f"a number in [{low:.6g}, {high:.6g}]" if np.isfinite(high) else "a finite number"
                        found.setdefault(row, f"{name}: found {cell!r}. Expected {expected}")
        for category in self.categories:
            found = category.faults(cells[category.name]) | found
        return dict(sorted(found.items()))

    def missing(self, cells: Mapping[str, Sequence[str]]) -> dict[int, str]:
        """Which rows of a whole file, without `faults`, have a number that stands for none."""
        names = [name for own in self.columns for name in own]
        return no_values(names, _numbers(names, cells))

    def decode(self, context: Tensor) -> list[tuple[str, ...]]:
        """The cells of contexts ``(N, features)``, by row, in the order of `names`."""
        cells, start = {}, 0
        for factor, own in zip(self.factors, self.columns, strict=True):
            shape = factor.manifold.shape
            stop = start + torch.Size(shape).numel()
            values = factor.to_units(context[:, start:stop].double().cpu().reshape(-1, *shape))
            cells |= dict(zip(own, map(as_text, values.T.tolist(), factor.spreads), strict=True))
            start = stop
        for category in self.categories:
            cells[category.name] = category.decode(context[:, start : start + category.features])
            start += category.features
        return list(zip(*(cells[name] for name in self.names), strict=True))


def _refuse_numbers(name: str, cells: Sequence[str]) -> None:
    """Names are no numbers of which some are unreadable, nor other for each row."""
    others = [cell for cell in cells if not is_number(cell)]
    if len(others) < len(cells) / 2:
        raise ValueError(
            f"the context {name!r} holds numbers, and {len(others)} of {len(cells)} cells that are none, the first "
            f"{others[0]!r}. Expected numbers in all rows: correct or leave out these rows, or say "
            f"--data.categories='[{name}]' if they are names."
        )
    if len(cells) >= 10 and len(set(cells)) > len(cells) / 2:
        warnings.warn(
            f"The context {name!r} is taken for names, and has {len(set(cells))} different ones in {len(cells)} rows, "
            f"such as {cells[0]!r}: nothing is learned of a name that is there once. Expected numbers, or few names.",
            stacklevel=2,
        )


def _is_map(names: Sequence[str], places: Sequence[int]) -> bool:
    """Whether a latitude and a longitude are only called y and x, which may be anything here."""
    return {names[k].casefold() for k in places} == {"x", "y"}


def _numbers(names: Sequence[str], cells: Mapping[str, Sequence[str]]) -> Floats:
    return np.array([list(map(number, cells[name])) for name in names]).T
