"""Numbers out of a CSV of one's own, with errors that name the line, and data sets made of such files."""

from __future__ import annotations

import csv
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsgm.data.base import ManifoldData
from rsgm.data.sources import Found, locate
from rsgm.data.splits import label_places

_SHOWN = 5  # bad lines that an error quotes

Floats = NDArray[np.float64]


class Column(NamedTuple):
    """A column of numbers: what it is called in errors and in headers, its range and its unit."""

    title: str
    names: tuple[str, ...]
    low: float = -math.inf
    high: float = math.inf


class Table(NamedTuple):
    """Numbers (N, columns), float64, in the file's order, and the label of each row where one was asked for."""

    values: Floats
    labels: list[str]


def read_table(
    path: Path,
    columns: Sequence[Column],
    unit: str,
    label: str | None = None,
    check: Callable[[list[float]], str | None] = lambda row: None,
    header: Sequence[str] = (),
) -> Table:
    """The named columns of a CSV; of a file without a header, all its columns in that order.

    Skips blank lines, comments (``#``) and a header; reads CRLF, a byte-order mark, a last line without an end.
    The separator is a comma, semicolon or tab.

    Arguments:
        path: the file
        columns: what is read
        unit: of the numbers, for the errors
        label: name of a column of text to read besides
        check: what is wrong with a row, or None
        header: names of the columns of a file that is known to come without them

    Raises:
        ValueError: no columns that can be told apart, no rows, or bad rows, which are named by line
    """
    rows = _rows(path)
    first = next(rows, None)
    wanted = ",".join(column.names[0] for column in columns)
    if first is None:
        raise ValueError(f"{path}: the file has no rows. Expected {len(columns)} columns {wanted} in {unit}.")
    known = {name for column in columns for name in column.names}
    headless = bool(header) and not known & {cell.casefold() for cell in first[1]}
    places, label_place = _places(path, list(header) if headless else first[1], columns, label, unit)
    if headless or is_numeric(first[1]):
        rows = itertools.chain([first], rows)
    good, labels, bad = [], [], []
    for line, cells in rows:
        try:
            row = _parse(cells, columns, places)
            if fault := check(row):
                raise ValueError(fault)
        except ValueError as error:
            bad.append(f"\n  line {line}: {error}")
            continue
        good.append(row)
        labels.append("" if label_place is None or label_place >= len(cells) else cells[label_place])
    if bad:
        shown = bad[:_SHOWN] + [f"\n  and {len(bad) - _SHOWN} more"] * (len(bad) > _SHOWN)
        ranges = " and ".join(dict.fromkeys(f"{c.title} in [{c.low:g}, {c.high:g}]" for c in columns))
        raise ValueError(
            f"{path}: {len(bad)} of {len(good) + len(bad)} rows are bad:{''.join(shown)}\nExpected {ranges}, "
            f"{unit}: correct or remove these lines."
        )
    if not good:
        raise ValueError(f"{path}: a header but no rows. Expected rows of {wanted} in {unit}.")
    return Table(np.array(good), labels)


def first_row(path: Path) -> list[str]:
    """The cells of the first row that is neither blank nor a comment; empty for an empty file."""
    return next(_rows(path), (0, []))[1]


def is_numeric(cells: list[str]) -> bool:
    """Whether every cell is a number, so that a first row is not a header."""
    try:
        list(map(float, cells))
    except ValueError:
        return False
    return True


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


def _places(
    path: Path, cells: list[str], columns: Sequence[Column], label: str | None, unit: str
) -> tuple[list[int], int | None]:
    wanted = ",".join(column.names[0] for column in columns)
    if is_numeric(cells):
        if len(cells) != len(columns) or label is not None:
            expected = f"{len(columns)}, {wanted} in {unit}," + (
                "" if label is None else f" and a header with {label},"
            )
            raise ValueError(
                f"{path}: {len(cells)} columns without a header. Expected {expected} or a header that names them."
            )
        return list(range(len(columns))), None
    names = [cell.casefold() for cell in cells]
    found = [[k for k, name in enumerate(names) if name in column.names] for column in columns]
    known = [k for k, name in enumerate(names) if label is not None and name == label.casefold()]
    if not all(found) or (label is not None and not known):
        one_of = [", ".join(column.names) for column in columns] + ([] if label is None else [label])
        raise ValueError(
            f"{path}: the first row is {', '.join(cells)!r}. Expected a header with one column of "
            f"{' and one of '.join(one_of)}, or {len(columns)} numbers {wanted}."
        )
    return [places[0] for places in found], known[0] if known else None


def _parse(cells: list[str], columns: Sequence[Column], places: list[int]) -> list[float]:
    if len(cells) <= max(places):
        raise ValueError(f"{len(cells)} columns, expected at least {max(places) + 1}")
    found = [cells[k] for k in places]
    try:
        row = list(map(float, found))
    except ValueError:
        raise ValueError(f"{', '.join(map(repr, found))} are not {len(found)} numbers") from None
    for column, cell, value in zip(columns, found, row, strict=True):
        # written so that NaN fails
        if not column.low <= value <= column.high or math.isinf(value):
            raise ValueError(f"{column.title} {cell} is outside [{column.low:g}, {column.high:g}]")
    return row


class TableData(ManifoldData, ABC):
    """A data set in a CSV: a named one that is looked for and verified, or the user's own file.

    A subclass says which columns it reads and what point a row is.

    Arguments:
        name: the named set
        path: a CSV of one's own, or the folder or file of the named set; None looks for the named set
        dedup: keep only the first row of each place
        batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)
    """

    def __init__(
        self,
        name: str,
        path: str | None,
        dedup: bool,
        batch_size: int,
        split: str,
        seed: int | None,
        steps_per_epoch: int,
        eval_batch_size: int,
        val_points: int | None,
    ) -> None:
        super().__init__(batch_size, split, seed, steps_per_epoch, eval_batch_size, val_points)
        self.name, self.path, self.dedup = name, path, dedup

    @abstractmethod
    def read(self, path: Path) -> Table:
        """The rows of the file, in data units."""

    @abstractmethod
    def from_units(self, values: Floats) -> Tensor:
        """The points (N, *shape), float64, of rows in data units."""

    def prepare_data(self) -> None:
        """Find or download the file: on one process per machine, before the others look."""
        _ = self.file

    def points(self) -> Tensor:
        """All rows as points."""
        return self.from_units(self.rows.values)

    def locations(self, x: Tensor) -> Tensor:
        """As the base class, of the points in the file; numbered by their units, on which published splits depend."""
        return label_places(self.from_units(self.rows.values), torch.from_numpy(self.rows.values))

    def provenance(self) -> dict[str, Any]:
        """As the base class, with the file."""
        return super().provenance() | {
            "name": self.file.name,
            "source": self.file.source,
            "sha256": self.file.sha256,
            "rows": len(self._table.values),
            "dedup": self.dedup,
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
