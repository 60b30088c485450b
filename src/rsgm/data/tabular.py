"""Data sets in tables of text: columns that are points, their contexts, weights, and how they are split."""

# Annotations are not postponed: see `rsgm.data.base`.

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rsgm.data.base import ManifoldData, Rows
from rsgm.data.covariates import Covariates
from rsgm.data.factors import Combined, Factor, NumberFactor
from rsgm.data.missing import no_values
from rsgm.data.names import Names, Unit, places_of
from rsgm.data.places import PlaceFactor
from rsgm.data.reading import ReadData, Reading
from rsgm.data.sources import Found, locate
from rsgm.data.splits import PARTS, split_rows
from rsgm.data.tables import SHOWN, Table, listed, read_table
from rsgm.data.text import is_number, number, refuse_thousands
from rsgm.data.times import times_of
from rsgm.description import build, describe
from rsgm.manifolds import Manifold
from rsgm.manifolds.places import label_places
from rsgm.seeding import generator_from


@dataclass(kw_only=True, eq=False, repr=False)
class Tabular(ReadData, ABC):
    """A data set in a table of text: a named one that is looked for and verified, or the user's own file.

    A subclass says which columns are a point. Samples are written as the file was: with its names, in its unit, and
    from 0 to a turn if its angles were so.

    Arguments:
        name: the named set
        path: a CSV of one's own, or the folder or file of the named set; None looks for the named set
        dedup: keep only the first row of each place
        columns: the names in the file, by what they are, such as ``{lat: y, lon: x}``; places from 0 in a file without
            names
        skip_rows: lines of the file above the table
        skip_bad: leave out rows that are bad; they are counted in `provenance`
        unit: of the file's angles; None takes the usual unit and refuses numbers that look like the other
        numbers: further columns, a flat factor of the point, such as a depth; each is standardised by the training rows
        log: those of them whose logarithm is taken before
        context: columns that are given to the model rather than learned: numbers, which are standardised; names, which
            are one-hot; a latitude and a longitude, which are a unit vector
        categories: those of the context whose numbers are names, such as codes
        weight: column of what each row counts, in training, in kernel densities and in the NLL
        split: ``time`` tests on the last rows by the column `time`, ``group`` keeps rows of one `group` in one part
        time: column of numbers or of ISO dates
        group: column that names the group of a row
        val, test: files of one's own for these parts, in place of a split
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        ValueError: options that need others
        FileNotFoundError, ValueError: from `setup`: no file, other bytes than known, bad rows (named by line)
    """

    name: str
    path: str | None = None
    dedup: bool = False
    columns: Names | None = None
    skip_rows: int = 0
    skip_bad: bool = False
    unit: Unit | None = None
    numbers: Sequence[str] | None = None
    log: Sequence[str] | None = None
    context: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    weight: str | None = None
    time: str | None = None
    group: str | None = None
    val: str | None = None  # type: ignore[assignment]
    test: str | None = None  # type: ignore[assignment]

    protocols = ("random", "location", "time", "group")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.columns = None if self.columns is None else dict(self.columns)
        for name in ("numbers", "log", "context", "categories"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ValueError(f"{type(self).__name__}: {name} is {given!r}, expected a list of names: [{given!r}].")
            setattr(self, name, None if given is None else list(given))
        owner = type(self).__name__
        if self.skip_rows < 0:
            raise ValueError(f"{owner}: skip_rows must not be negative, found {self.skip_rows}.")
        for name, among in (("log", "numbers"), ("categories", "context")):
            # without names, numbers are all columns that are left
            given = getattr(self, name) or ()
            if strange := set(given) - set(getattr(self, among) or given):
                raise ValueError(f"{owner}: {name} names {', '.join(sorted(strange))}, expected some of {among}.")
        for name in ("time", "group"):
            if self.split == name and getattr(self, name) is None:
                raise ValueError(f"{owner}: split={name} needs the column: --data.{name}=COLUMN.")
        if both := set(self.numbers or ()) & set(self.context_names):
            raise ValueError(f"{owner}: {', '.join(sorted(both))} cannot be of the point and its context. Choose one.")
        # `val` and `test` become the parts themselves
        self._files = {name: getattr(self, name) for name in PARTS[1:]}
        self._arguments: dict[str, Any] | None = None

    @abstractmethod
    def factors_in_file(self) -> Sequence[Factor]:
        """What the columns of a point are, but for `numbers`."""

    def names_without_header(self) -> Sequence[str]:
        """Names of the columns, where the file is known to come without them."""
        return ()

    # ---- what the file is

    @property
    @override
    def manifold(self) -> Manifold:
        return self._learned.manifold

    @property
    @override
    def header(self) -> tuple[str, ...]:
        return self._learned.header

    @property
    @override
    def context_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(self.context or ()), *(self.categories or ())]))

    @override
    def description(self) -> dict[str, Any] | None:
        return self._arguments or describe(self)

    @override
    def recall(self, record: dict[str, Any]) -> None:
        super().recall(record)
        self._learned = self._reading = build(record["reading"], Reading)

    @property
    @override
    def title(self) -> str:
        return self.name if self.path is None else Path(self.path).stem

    @override
    def prepare_data(self) -> None:
        """Find or download the file: on one process per machine, before the others look."""
        _ = self.file

    @override
    def setup(self, stage: str | None = None) -> None:
        self._arguments = self.description()
        super().setup(stage)

    @override
    def test_names(self) -> list[str]:
        self.setup()
        return [f"line {self.rows.lines[row]}" for row in self._parts[2].tolist()]

    @override
    def provenance(self) -> dict[str, Any]:
        skipped = [line for table in self._tables for line in table.skipped]
        return super().provenance() | {
            "name": self.file.name,
            "source": self.file.source,
            "sha256": self.file.sha256,
            "rows": sum(len(table.values) for table in self._tables),
            "dedup": self.dedup,
            "columns": list(self.header),
            "context": list(self.context_names),
            "weight": self.weight,
            "files": {name: self._files[name] for name in self._given},
            "skipped": {"rows": len(skipped), "first": skipped[:SHOWN]},
        }

    @cached_property
    def file(self) -> Found:
        """The verified file."""
        return locate(self.name, self.path)

    # ---- points, contexts, weights

    @override
    def points(self) -> Tensor | tuple[Tensor, Tensor]:
        x, covariates = self.from_units(self.rows.values), self._reading.covariates
        return x if covariates is None else (x, covariates.encode(self.rows.beside))

    @override
    def weights(self) -> Tensor | None:
        if self.weight is None:
            return None
        correct = "correct the line, or choose another column with --data.weight."
        for k, cell in enumerate(self.rows.beside[self.weight]):
            if not is_number(cell) or not 0 <= number(cell) < np.inf:
                raise ValueError(
                    f"{self._where(k)}: {self.weight} {cell} is no weight. Expected a number that is not negative: "
                    f"{correct}"
                )
        values = np.array(list(map(number, self.rows.beside[self.weight])))
        for k, fault in no_values([self.weight], values[:, None]).items():
            raise ValueError(f"{self._where(k)}: {fault}. Expected a weight: {correct}")
        return torch.from_numpy(values)

    @override
    def read_rows(self, path: str | Path, skip_bad: bool = False) -> Rows:
        reading = self._reading
        # a file without names has the columns of the other; places that the user gave are of it too
        header = () if self.columns else reading.header
        table = self._read_further(
            Path(path).expanduser(), reading, self.context_names, header=header, skip_bad=skip_bad
        )
        context = None if reading.covariates is None else reading.covariates.encode(table.beside)
        return Rows(table.header or reading.header, table.cells, reading.points(table.values), context)

    # ---- splits

    @override
    def locations(self, x: Tensor) -> Tensor:
        """As the base class, of the points in the file; numbered by their units, on which published splits depend."""
        return self._places

    @override
    def groups(self, locations: Tensor) -> Tensor:
        """As the base class; ``group`` labels the groups, ``time`` the times."""
        if self.split == "group":
            return torch.from_numpy(np.unique(self.rows.beside[self.group], return_inverse=True)[1])
        if self.split == "time":
            return torch.from_numpy(
                np.unique(times_of(self.time, self.rows.beside[self.time], self._where), return_inverse=True)[1]
            )
        return super().groups(locations)

    @override
    def parts(self) -> list[Tensor]:
        """Rows of train, val and test: of files of their own, or by the protocol `split`."""
        return self._split

    def test_on(self, path: str | Path) -> None:
        """Take the rows of another file for the test part, as they are; training and its scales stay."""
        self.setup()
        train, val, _ = self._split
        _ = self._reading
        path, before = Path(path).expanduser(), len(self.rows.values)
        used, file = self._used
        table = self._read_further(path, self._learned, *self._beside)
        self._tables.append(table)
        self._used = (
            Table(
                np.concatenate([used.values, table.values]),
                {name: [*cells, *table.beside[name]] for name, cells in used.beside.items()},
                lines=[*used.lines, *table.lines],
            ),
            np.concatenate([file, np.full(len(table.values), file.max() + 1)]),
        )
        self._split = [train, val, torch.arange(before, before + len(table.values))]
        self._files["test"] = str(path)
        for name in ("_places", "fingerprint"):
            self.__dict__.pop(name, None)
        self._parts = []
        self.setup()

    @cached_property
    def _places(self) -> Tensor:
        values = self.rows.values
        return label_places(self._learned.points(values), torch.from_numpy(values))

    @cached_property
    def _split(self) -> list[Tensor]:
        file = torch.from_numpy(self._used[1])
        rows = {name: (file == k).nonzero()[:, 0] for k, name in enumerate(self._given, 1)}
        names, own = [name for name in PARTS if name not in rows], (file == 0).nonzero()[:, 0]
        if names == ["train"]:
            rows["train"] = own
        else:
            sizes = self.sizes(len(own)) if not rows else (len(own) - len(own) // 9,)
            generator = None if self.split == "time" else generator_from("split", self.seed)
            parts = split_rows(self.groups(self._places)[own], sizes, generator, names)
            rows |= {name: own[part] for name, part in zip(names, parts, strict=True)}
        return [rows[name] for name in PARTS]

    def _where(self, row: int) -> str:
        """The file and the line of a row."""
        table, file = self._used
        return f"{self._tables[file[row]].path}: line {table.lines[row]}"

    # ---- how the file is read

    @property
    def spoken_for(self) -> tuple[str, ...]:
        """Columns that are something else than a point."""
        named = (*(self.numbers or ()), *self.context_names, self.weight, self.time, self.group)
        return tuple(name for name in named if name is not None)

    @property
    def rows(self) -> Table:
        """The rows that are used, of all files."""
        return self._used[0]

    @property
    def _given(self) -> list[str]:
        """The parts that have files of their own."""
        return [name for name, path in self._files.items() if path]

    @cached_property
    def _used(self) -> tuple[Table, np.ndarray]:
        """The rows that are used, and the number of the file of each."""
        tables = self._tables
        values = np.concatenate([table.values for table in tables])
        file = np.repeat(np.arange(len(tables)), [len(table.values) for table in tables])
        kept = np.arange(len(values))
        if self.dedup:
            kept = np.sort(np.unique(label_places(self._learned.points(values)), return_index=True)[1])
        beside = {name: [cell for table in tables for cell in table.beside[name]] for name in tables[0].beside}
        lines = [line for table in tables for line in table.lines]
        return Table(
            values[kept],
            {name: [cells[k] for k in kept] for name, cells in beside.items()},
            lines=[lines[k] for k in kept],
        ), file[kept]

    @cached_property
    def _tables(self) -> list[Table]:
        """Of the file, and of those of parts."""
        further = [
            self._read_further(Path(self._files[name]).expanduser(), self._learned, *self._beside)
            for name in self._given
        ]
        return [self._first[0], *further]

    @cached_property
    def _learned(self) -> Reading:
        """What the file says, without scales."""
        return self._first[1]

    @cached_property
    def _reading(self) -> Reading:
        """What the file says, with the scales of the training rows."""
        learned = self._learned
        plain = all(type(factor).scaled is Factor.scaled for factor in learned.factors) and not learned.covariates
        return learned if plain else learned.scaled(self.rows, self._split[0])

    @property
    def _beside(self) -> tuple[list[str], list[str]]:
        """Columns beside those of points, without and with empty cells."""
        used = [self.weight] * (self.weight is not None) + [self.time] * (self.split == "time")
        return [*self.context_names, *used], [self.group] * (self.split == "group")

    @cached_property
    def _first(self) -> tuple[Table, Reading]:
        """The file of training, and what it says."""
        path, factors = self.file.path, list(self.factors_in_file())
        if self.numbers or not factors:
            factors.append(NumberFactor(self.numbers or (), self.log or (), self.spoken_for))
        table = self._read(path, factors, *self._beside, self.names_without_header())
        if self.file.rows not in (None, len(table.values)):
            raise ValueError(f"{path}: found {len(table.values)} rows, expected {self.file.rows}.")
        covariates = None
        if self.context_names:
            place = PlaceFactor(unit=self.unit)
            try:
                covariates = Covariates.learn(self.context_names, self.categories or (), table.beside, place)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            table = _with_contexts(table, covariates, self.skip_bad)
            own = [table.header[k] for name in self.context_names for k in places_of(table.header, name)]
            if both := set(own) & set(table.names):
                raise ValueError(
                    f"{path}: {', '.join(sorted(both))} cannot be of the point and its context. Choose one."
                )
        # of named sets there are copies with other names
        names = tuple(column.role for column in table.columns) if self.file.rows is not None else table.names
        learned, start = [], 0
        for factor, width in zip(factors, table.widths, strict=True):
            own = slice(start, start + width)
            learned.append(factor.learn(path, table.columns[own], names[own], table.values[:, own]))
            start += width
        reading = Reading(learned, covariates)
        return table._replace(values=reading.normal(table.values)), reading

    def _read_further(
        self, path: Path, known: Reading, *beside: Sequence[str], skip_bad: bool | None = None, **options: Any
    ) -> Table:
        """A file that is read as another was, with a warning where its unit seems to be another."""
        skip_bad = self.skip_bad if skip_bad is None else skip_bad
        table = self._read(path, known.factors, *beside, skip_bad=skip_bad, **options)
        if known.covariates is not None:
            table = _with_contexts(table, known.covariates, skip_bad)
        ends = np.cumsum(table.widths)
        parts = [
            factor.as_own(table.columns[end - own.shape[1] : end], own)
            for factor, own, end in zip(known.factors, np.split(table.values, ends[:-1], 1), ends, strict=True)
        ]
        for factor, values in zip(known.factors, parts, strict=True):
            if unit := factor.looks_like(values):
                warnings.warn(
                    f"{path}: all numbers of {', '.join(factor.header)} are in [{values.min():.4g}, "
                    f"{values.max():.4g}], which look like {unit}; they are read as degrees, as in training.",
                    stacklevel=3,
                )
        return table._replace(values=np.concatenate(parts, 1))

    def _read(
        self,
        path: Path,
        factors: Sequence[Factor],
        beside: Sequence[str],
        optional: Sequence[str] = (),
        header: Sequence[str] = (),
        skip_bad: bool | None = None,
    ) -> Table:
        wanted = [factor.wanted for factor in factors]
        table = read_table(
            path,
            wanted[0] if len(wanted) == 1 else Combined({}, tuple(wanted)),
            beside,
            optional,
            header,
            self.skip_rows,
            self.skip_bad if skip_bad is None else skip_bad,
        )
        for factor, own in zip(factors, np.split(table.values, np.cumsum(table.widths)[:-1], 1), strict=True):
            try:
                factor.refuse_beside(own, table.header or (), table.cells)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        return table


@dataclass(eq=False, repr=False)
class TableData(Tabular):
    r"""Rows of a table: numbers on :math:`\mathbb R^n`, and factors of any kind, each of which is a point of its own.

    Arguments:
        path: the file
        factors: places, angles, rotations and numbers, in this order; none for `numbers` alone
        numbers: columns that are a flat factor, the last one; without them and without factors all that are not used
            otherwise
        log, context, categories, weight, time, group, val, test, dedup, skip_rows, skip_bad: see `Tabular`
        split: ``random`` permutes the rows; ``location`` keeps equal rows in one part; ``time``, ``group`` as above
        batch_size, seed, steps_per_epoch, eval_batch_size, val_points: see `ManifoldData`

    Raises:
        FileNotFoundError, ValueError: from `setup`: no file, bad rows (named by line)

    Example:
        >>> data = TableData("catalogue.csv", [PlaceFactor()], numbers=["depth"], log=["depth"])
        >>> data.manifold  # doctest: +SKIP
        Product(dim=3, factors=[Sphere(dim=2), Euclidean(dim=1)])
    """

    path: str | None = None
    factors: Sequence[Factor] | None = None
    _: KW_ONLY
    split: Literal["random", "location", "time", "group"] = "random"
    name: str = field(default="table", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.factors = None if self.factors is None else list(self.factors)
        for name in ("columns", "unit"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"TableData: {name} is an argument of a factor, such as PlaceFactor({name}=…): give it there."
                )

    @override
    def factors_in_file(self) -> Sequence[Factor]:
        return self.factors or ()


def _with_contexts(table: Table, covariates: Covariates, skip_bad: bool) -> Table:
    """A table whose rows have contexts that can be read; the others are named by line, or left out."""
    faults = covariates.faults(table.beside) or covariates.missing(table.beside)
    if not faults:
        return table
    lines = [f"line {table.lines[k]}: {fault}" for k, fault in faults.items()]
    told = f"{table.path}: {len(faults)} of {len(table.lines)} rows have a bad context"
    if not skip_bad or len(faults) == len(table.lines):
        raise ValueError(
            f"{told}:{listed(lines)}\nCorrect these lines, or leave them out with --data.skip_bad=true (--score: "
            "--skip_bad)."
        )
    warnings.warn(f"{told} and are left out:{listed(lines)}", stacklevel=2)
    return _with_contexts(table.without(faults)._replace(skipped=(*table.skipped, *lines)), covariates, skip_bad)


def read_points(data: ManifoldData, path: str | Path, *others: str) -> tuple[Tensor, list[Tensor | None]]:
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
    rows = data.read_rows(path)
    places = [places_of(rows.header, name) for name in others]
    for name, own in zip(others, places, strict=True):
        if len(own) > 1:
            raise ValueError(f"{path}: found {len(own)} columns of the name {name}, expected one; remove the others.")
    found = [[cells[place[0]] for cells in rows.cells] if place else None for place in places]
    for name, cells in zip(others, found, strict=True):
        if wrong := [cell for cell in cells or () if not is_number(cell)]:
            raise ValueError(f"{path}: {name} {wrong[0]!r} is no number, and {len(wrong)} cells in all are none.")
    refuse_thousands(Path(path), {name: cells for name, cells in zip(others, found, strict=True) if cells})
    return rows.points, [cells and torch.tensor(list(map(number, cells)), dtype=torch.float64) for cells in found]
