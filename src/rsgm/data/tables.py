"""Numbers out of a CSV of one's own, with errors that name the line, and data sets made of such files."""

# Annotations are not postponed: see `rsgm.data.base`.

import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.base import ManifoldData
from rsgm.data.names import Choice, Column, Floats, Named, Names, Unit, Wanted, places_of, plain, unit_in
from rsgm.data.sources import Found, locate
from rsgm.data.text import Rows, is_number, read_rows, shown
from rsgm.manifolds.places import label_places

_SHOWN = 5  # bad lines that an error quotes


class Table(NamedTuple):
    """Numbers (N, columns), float64, in the file's order, and the label of each row where one was asked for.

    Besides the columns that were read, their names in the file, which of them run from 0 to a turn rather than from
    half a turn below 0, and the lines that were left out, with the reason.
    """

    values: Floats
    labels: list[str]
    columns: tuple[Column, ...] = ()
    names: tuple[str, ...] = ()
    from_zero: tuple[bool, ...] = ()
    skipped: tuple[str, ...] = ()


def read_table(
    path: Path,
    wanted: Wanted,
    label: str | None = None,
    header: Sequence[str] = (),
    skip_rows: int = 0,
    skip_bad: bool = False,
) -> Table:
    """The wanted columns of a table of text, in any layout that `read_rows` reads.

    Arguments:
        path: the file
        wanted: the columns
        label: name of a column of text to read besides
        header: names of the columns of a file that is known to come without them
        skip_rows: lines above the table
        skip_bad: leave out rows that are bad, with a warning

    Raises:
        ValueError: no columns that can be told apart, no rows, or bad rows, which are named by line
    """
    rows = read_rows(path, wanted, skip_rows, header)
    choice = _choose(path, rows, wanted)
    names = choice.roles if rows.names is None else tuple(rows.names[k] for k in choice.places)
    label_place = _label_place(path, rows, label)
    cells = _with_points([[cells[k] for k in choice.places] for _, cells in rows.rows])
    if cells:
        _check_columns(path, choice, names, cells, wanted)
    good, bad, outside = [], list(rows.bad), []
    for (line, found), own in zip(rows.rows, cells, strict=True):
        try:
            good.append((line, _parse(own, choice.columns), "" if label_place is None else found[label_place]))
        except ValueError as error:
            if rows.names != found and sorted(rows.names or ()) == sorted(found):
                raise ValueError(
                    f"{path}: line {line} names the columns in another order, {shown(found)}, for the rows below it. "
                    "Expected one header: make two files of it, or one order."
                ) from None
            bad.append((line, str(error)))
            outside.append(own)
    if rows.names is None and not wanted.given and outside and all(_fits(own[::-1], choice.columns) for own in outside):
        line, fault = bad[-len(outside)]
        order = ", ".join(f"{column.role}: {k}" for k, column in enumerate(choice.columns[::-1]))
        raise ValueError(
            f"{path}: found no header, and {len(outside)} rows that fit another order than {', '.join(choice.roles)}, "
            f"first line {line}: {fault}. Write a header, or say the places with --data.columns='{{{order}}}'."
        )
    faults = choice.faults(np.array([row for _, row, _ in good])) if good else {}
    bad = sorted(bad + [(good[k][0], fault) for k, fault in faults.items()])
    good = [row for k, row in enumerate(good) if k not in faults]
    lines = [f"line {line}: {fault}" for line, fault in bad]
    count = f"{len(bad)} of {len(good) + len(bad)} rows are bad"
    if lines and not (skip_bad and good):
        ranges = " and ".join(
            f"{', '.join(column.title for column in own)} in [{low:.6g}, {high:.6g}]"
            for (low, high), own in itertools.groupby(choice.columns, lambda column: (column.low, column.high))
        )
        raise ValueError(
            f"{path}: {count}:{_listed(lines)}\nExpected {ranges}, {choice.columns[0].unit}: correct these lines, or "
            "leave them out with --data.skip_bad=true."
        )
    if not good:
        raise ValueError(f"{path}: a header but no rows. Expected rows of {', '.join(names)}.")
    if lines:
        warnings.warn(f"{path}: {count} and left out:{_listed(lines)}", stacklevel=2)
    values = np.array([row for _, row, _ in good])
    return Table(values, [text for *_, text in good], choice.columns, names, skipped=tuple(lines))


def read_points(data: ManifoldData, path: Path, *others: str) -> tuple[Tensor, list[Tensor | None]]:
    """Points in a table of data units, such as samples that `evaluate.py` wrote, and further columns of numbers.

    Arguments:
        data: whose `ManifoldData.header` names the columns
        path: the file; without names it holds these columns in this order
        others: names of further columns

    Returns:
        points ``(n, *shape)``, float64, and of each of the others its numbers ``(n,)``, or None where it is not there

    Raises:
        ValueError: see `read_table`
    """

    def wanted(*further: str) -> Named:
        kinds = data._table.columns if isinstance(data, TableData) else ()
        kinds = kinds or [Column(name, name, "coordinates") for name in data.header]
        columns = [column._replace(role=name) for column, name in zip(kinds, data.header, strict=True)]
        columns += [Column(name, name, "numbers") for name in further]
        return Named({}, tuple(columns), (tuple((plain(column.role).replace("_", ""),) for column in columns),))

    names = read_rows(path, wanted()).names or ()
    there = [name for name in others if places_of(names, name)]
    values = read_table(path, wanted(*there)).values
    width = len(data.header)
    found = dict(zip(there, torch.from_numpy(values[:, width:]).unbind(1), strict=True))
    return data.from_units(values[:, :width]), [found.get(name) for name in others]


def like_radians(values: Floats) -> bool:
    """Whether numbers (N, n) look like radians: not whole ones, few ones, or some beyond a turn."""
    return bool(len(values) >= 10 and np.abs(values).max() <= 2 * np.pi * (1 + 1e-6) and (values % 1).any())


def refuse_radians(path: Path, values: Floats) -> None:
    """Numbers (N, n) are degrees.

    Raises:
        ValueError: they look like radians
    """
    if like_radians(values):
        raise ValueError(
            f"{path}: all numbers are in [{values.min():.4g}, {values.max():.4g}]. Expected degrees, these look like "
            "radians: --data.unit=radians reads them so, --data.unit=degrees as they are."
        )


def _choose(path: Path, rows: Rows, wanted: Wanted) -> Choice:
    names, numbers = rows.names, [str(k) for k in range(rows.width)]
    try:
        if names is None:
            choice = wanted.find(numbers) if wanted.given else wanted.nameless(rows.width)
        else:
            choice = wanted.find(names)
            if choice is None and wanted.given and not replace(wanted, given={}).named(names):
                choice = wanted.find(numbers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if choice is None:
        found = f"{rows.width} columns without a header" if names is None else f"the first row is {shown(names)}"
        given = ", ".join(f"{name!r} for {role}" for role, name in wanted.given.items())
        expected = f"a column {given}, as --data.columns says, in {wanted.expected}" if given else wanted.expected
        near = "".join(f" {text}." for text in wanted.nearest(names or ()))
        by_place = " (without names --data.columns, all by their places from 0)"
        raise ValueError(
            f"{path}: {found}. Expected {expected}.{near} {wanted.option} says which columns to read"
            f"{by_place * (names is None or any(map(is_number, names)))}, --data.skip_rows how many lines stand above "
            "them."
        )
    return choice


def _label_place(path: Path, rows: Rows, label: str | None) -> int | None:
    if label is None:
        return None
    places = places_of(rows.names or (), label)
    if len(places) != 1:
        found = "no header" if rows.names is None else f"the header {shown(rows.names)}"
        raise ValueError(f"{path}: found {found}, expected one with one column {label!r}.")
    return places[0]


def _with_points(rows: list[list[str]]) -> list[list[str]]:
    """Numbers with a decimal point, where all had a decimal comma."""
    cells = [cell for row in rows for cell in row]
    if any("," in cell for cell in cells) and not any("." in cell for cell in cells):
        return [[cell.replace(",", ".") for cell in row] for row in rows]
    return rows


def _check_columns(path: Path, choice: Choice, names: Sequence[str], rows: list[list[str]], wanted: Wanted) -> None:
    for column, name, cells in zip(choice.columns, names, zip(*rows, strict=True), strict=True):
        said = unit_in(name)
        if column.unit in ("degrees", "radians") and said not in (None, column.unit):
            raise ValueError(
                f"{path}: the column {name!r} is named as being in {said}, expected {column.unit}; --data.unit={said} "
                "reads it so."
            )
        if not any(map(is_number, cells)):
            raise ValueError(
                f"{path}: the column {name!r} holds no numbers, the first is {cells[0]!r}. Expected {column.title} in "
                f"{column.unit}: {wanted.option} says which columns to read."
            )


def _parse(cells: list[str], columns: Sequence[Column]) -> list[float]:
    numbers = all(map(is_number, cells))  # float alone takes 1_0 for 10
    try:
        row = list(map(float, cells)) if numbers else []
    except ValueError:
        row = []
    if not row:
        comma = ", of which some have a decimal comma and others a point" * numbers
        raise ValueError(f"{', '.join(map(repr, cells))} are not {len(cells)} numbers{comma}")
    for column, cell, value in zip(columns, cells, row, strict=True):
        # written so that NaN fails
        if not column.low <= value <= column.high or np.isinf(value):
            raise ValueError(f"{column.title} {cell} is outside [{column.low:.6g}, {column.high:.6g}]")
    return row


def _fits(cells: list[str], columns: Sequence[Column]) -> bool:
    try:
        return bool(_parse(cells, columns))
    except ValueError:
        return False


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] * (len(lines) > _SHOWN)
    return "".join(f"\n  {line}" for line in [*lines[:_SHOWN], *more])


@dataclass(kw_only=True, eq=False, repr=False)
class TableData(ManifoldData, ABC):
    """A data set in a table of text: a named one that is looked for and verified, or the user's own file.

    A subclass says which columns it reads and what point a row is. Samples are written as the file was: with its names,
    in its unit, and from 0 to a turn if its angles were so.

    Arguments:
        name: the named set
        path: a CSV of one's own, or the folder or file of the named set; None looks for the named set
        dedup: keep only the first row of each place
        columns: the names in the file, by what they are, such as ``{lat: y, lon: x}``; places from 0 in a file without
            names
        skip_rows: lines of the file above the table
        skip_bad: leave out rows that are bad; they are counted in `provenance`
        unit: of the file's angles; None takes the usual unit and refuses numbers that look like the other
        batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)
    """

    name: str
    path: str | None = None
    dedup: bool = False
    columns: Names | None = None
    skip_rows: int = 0
    skip_bad: bool = False
    unit: Unit | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.columns = None if self.columns is None else dict(self.columns)
        if self.skip_rows < 0:
            raise ValueError(f"{type(self).__name__}: skip_rows must not be negative, found {self.skip_rows}.")

    @abstractmethod
    def read(self, path: Path) -> Table:
        """The rows of the file, in data units."""

    @abstractmethod
    def from_units(self, values: Floats) -> Tensor:
        """The points (N, *shape), float64, of rows in data units."""

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `to_units`: the file's, or their roles in a named set, of which there are copies."""
        table = self._table
        return tuple(column.role for column in table.columns) if self.file.rows is not None else table.names

    def prepare_data(self) -> None:
        """Find or download the file: on one process per machine, before the others look."""
        _ = self.file

    @override
    def points(self) -> Tensor:
        return self.from_units(self.rows.values)

    def locations(self, x: Tensor) -> Tensor:
        """As the base class, of the points in the file; numbered by their units, on which published splits depend."""
        return label_places(self.from_units(self.rows.values), torch.from_numpy(self.rows.values))

    @override
    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "name": self.file.name,
            "source": self.file.source,
            "sha256": self.file.sha256,
            "rows": len(self._table.values),
            "dedup": self.dedup,
            "columns": list(self.header),
            "skipped": {"rows": len(self._table.skipped), "first": list(self._table.skipped[:_SHOWN])},
        }

    @cached_property
    def file(self) -> Found:
        """The verified file."""
        return locate(self.name, self.path)

    @cached_property
    def rows(self) -> Table:
        """The rows that are used."""
        if not self.dedup:
            return self._table
        _, first = np.unique(label_places(self.from_units(self._table.values)), return_index=True)
        kept = np.sort(first)
        return Table(self._table.values[kept], [self._table.labels[k] for k in kept if self._table.labels])

    @cached_property
    def _table(self) -> Table:
        table = self.read(self.file.path)
        if self.file.rows not in (None, len(table.values)):
            raise ValueError(f"{self.file.path}: found {len(table.values)} rows, expected {self.file.rows}.")
        return table
