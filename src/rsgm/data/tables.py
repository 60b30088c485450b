"""Numbers out of a CSV of one's own, with errors that name the line."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from rsgm.data.missing import SUMS, WORDS
from rsgm.data.names import Choice, Column, Floats, Wanted, places_of
from rsgm.data.text import TextRows, is_number, read_rows, refuse_thousands, shown

#: bad lines that an error quotes
SHOWN = 5


class Table(NamedTuple):
    """The rows of a file that are good.

    Fields:
        values: numbers of the wanted columns ``(N, columns)``, float64
        beside: cells of further columns, by name
        columns: what the numbers are
        names: of their columns in the file
        widths: how many columns each factor has, where there are several
        header: all names in the file, None where it has none
        cells: all cells of the rows
        lines: where the rows begin
        skipped: the lines that were left out, with the reason
        path: the file
    """

    values: Floats
    beside: dict[str, list[str]]
    columns: tuple[Column, ...] = ()
    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    header: list[str] | None = None
    cells: Sequence[list[str]] = ()
    lines: Sequence[int] = ()
    skipped: tuple[str, ...] = ()
    path: Path | None = None

    def without(self, rows: Collection[int]) -> Table:
        """This table without some rows."""
        kept = [k for k in range(len(self.lines)) if k not in rows]
        return self._replace(
            values=self.values[kept],
            beside={name: [cells[k] for k in kept] for name, cells in self.beside.items()},
            cells=[self.cells[k] for k in kept],
            lines=[self.lines[k] for k in kept],
        )


def read_table(
    path: Path,
    wanted: Wanted,
    beside: Sequence[str] = (),
    optional: Sequence[str] = (),
    header: Sequence[str] = (),
    skip_rows: int = 0,
    skip_bad: bool = False,
) -> Table:
    """The wanted columns of a table of text, in any layout that `read_rows` reads.

    Arguments:
        path: the file
        wanted: the columns
        beside: names of columns to read besides, as they are; a row without one of them is bad
        optional: such columns whose cells may be empty
        header: names of the columns of a file that is known to come without them
        skip_rows: lines above the table
        skip_bad: leave out rows that are bad, with a warning

    Raises:
        ValueError: no columns that can be told apart, no rows, or bad rows, which are named by line
    """
    rows = read_rows(path, wanted, skip_rows, header)
    choice = _choose(path, rows, wanted)
    names = choice.roles if rows.names is None else tuple(rows.names[k] for k in choice.places)
    others = {name: _place(path, rows, name) for name in dict.fromkeys([*beside, *optional])}
    used = {name: k for name, k in zip(names, choice.places, strict=True)} | {name: others[name] for name in beside}
    every = [cells for _, cells in rows.rows]
    refuse_thousands(path, {name: [cells[k] for cells in every] for name, k in used.items()}, every)
    cells = _with_points([[cells[k] for k in choice.places] for _, cells in rows.rows])
    if cells:
        _check_columns(path, choice, names, cells, wanted)
    sums = [line for line, found in rows.rows if next(filter(None, found), "").casefold().rstrip(":") in SUMS]
    # at the end; elsewhere it is a name, as of a total eclipse
    sums = sums if sums == [line for line, _ in rows.rows[-len(sums) :]] and 0 < len(sums) <= SHOWN else []
    good, bad, outside = [], list(rows.bad), []
    for (line, found), own in zip(rows.rows, cells, strict=True):
        try:
            numbers = _parse(own, choice.columns)
            if line in sums:
                raise ValueError(f"{next(filter(None, found))!r} seems to sum up the rows above")
            for name in beside:
                if found[others[name]].casefold() in WORDS:
                    raise ValueError(f"no {name}, found {found[others[name]]!r}")
            good.append((line, numbers, found))
        except ValueError as error:
            if rows.names is not None and _names_others(found, rows.names, wanted, choice):
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
        units = list(dict.fromkeys(column.unit for column in choice.columns))
        ranges = " and ".join(
            f"{', '.join(column.title for column in own)} in [{low:.6g}, {high:.6g}]" + f", {unit}" * (len(units) > 1)
            for (low, high, unit), own in itertools.groupby(choice.columns, lambda c: (c.low, c.high, c.unit))
        )
        filled = f"; and in each row a value of {', '.join(dict.fromkeys(beside))}" * bool(beside)
        raise ValueError(
            f"{path}: {count}:{listed(lines)}\nExpected {ranges}{f', {units[0]}' * (len(units) == 1)}{filled}: "
            "correct these lines, or leave them out with --data.skip_bad=true (--score: --skip_bad)."
        )
    if not good:
        raise ValueError(f"{path}: a header but no rows. Expected rows of {', '.join(names)}.")
    if lines:
        warnings.warn(f"{path}: {count} and left out:{listed(lines)}", stacklevel=2)
    cells = [found for *_, found in good]
    return Table(
        np.array([row for _, row, _ in good]),
        {name: [row[place] for row in cells] for name, place in others.items()},
        choice.columns,
        names,
        choice.widths or (len(choice.columns),),
        rows.names,
        cells,
        [line for line, *_ in good],
        tuple(lines),
        path,
    )


def like_radians(values: Floats) -> bool:
    """Whether numbers (N, n) look like radians: not whole ones, few ones, or some beyond a turn."""
    return bool(len(values) >= 10 and np.abs(values).max() <= 2 * np.pi * (1 + 1e-6) and (values % 1).any())


def refuse_radians(path: Path, values: Floats) -> NoReturn:
    """Raise a ValueError that says that numbers (N, n) look like radians."""
    raise ValueError(
        f"{path}: all numbers are in [{values.min():.4g}, {values.max():.4g}]. Expected degrees, these look like "
        "radians: --data.unit=radians reads them so, --data.unit=degrees as they are."
    )


def _choose(path: Path, rows: TextRows, wanted: Wanted) -> Choice:
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


def _place(path: Path, rows: TextRows, name: str) -> int:
    places = places_of(rows.names or (), name)
    if len(places) != 1:
        found = "no header" if rows.names is None else f"the header {shown(rows.names)}"
        raise ValueError(f"{path}: found {found}, expected one with one column {name!r}.")
    return places[0]


def _with_points(rows: list[list[str]]) -> list[list[str]]:
    """Numbers with a decimal point, where all had a decimal comma."""
    cells = [cell for row in rows for cell in row]
    if any("," in cell for cell in cells) and not any("." in cell for cell in cells):
        return [[cell.replace(",", ".") for cell in row] for row in rows]
    return rows


def _check_columns(path: Path, choice: Choice, names: Sequence[str], rows: list[list[str]], wanted: Wanted) -> None:
    for column, name, cells in zip(choice.columns, names, zip(*rows, strict=True), strict=True):
        if not any(map(is_number, cells)):
            raise ValueError(
                f"{path}: the column {name!r} holds no numbers, the first is {cells[0]!r}. Expected {column.title} in "
                f"{column.unit}: {wanted.option} says which columns to read."
            )


def _names_others(cells: list[str], names: list[str], wanted: Wanted, choice: Choice) -> bool:
    """Whether a row is a header below the header, by which the columns would be others."""
    if cells == names or sorted(cells) == sorted(names) or not wanted.known():
        return cells != names and sorted(cells) == sorted(names)
    try:
        found = wanted.find(cells)
    except ValueError:
        return True
    return found is not None and found.places != choice.places


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


def listed(lines: Sequence[str]) -> str:
    """The first few lines below one another."""
    more = [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    return "".join(f"\n  {line}" for line in [*lines[:SHOWN], *more])
