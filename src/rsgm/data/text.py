"""The rows of a text table: decoded, parted into cells, each with the line of the file where it begins.

Lines with quotes go through the standard library's csv, the others are split at the separator. pandas (80 MB) and
pyarrow (176 MB) read a table faster, but do not say in which line a row begins, lose the rows between two stray quotes
without a word, and pandas renames a name that is there twice: the checks below would have to be made beside them.
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from rsgm.data.names import Wanted, plain

_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BINARY = {
    b"PK\x03\x04": "a zip file, or a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a numpy array",
    b"%PDF": "a PDF file",
}
_TREES = {
    re.compile(r"\s*<(?:\?xml|!doctype|html|kml|gpx)\b", re.IGNORECASE): "XML or HTML",
    re.compile(r"\s*(?:\{|\[\s*[{\[])"): "JSON",
}
#: the last stands for any white space; of those of equal merit a comma is the decimal one
_SEPARATORS = (";", "|", ",", "\t", " ")
_SAMPLE = 200  # lines that decide about the separator, and comments that may name columns
_COMMENT = re.compile(r"\s*(?:#! FIELDS\b|(?:#|%|//|@)+)")  # of PLUMED and GROMACS too
_OTHERS = re.compile("[\\0-\x08\x0e-\x1f]")  # characters that no text begins with
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?|nan|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)


class TextRows(NamedTuple):
    """The names of the columns, None where there are none; their number; rows and bad rows, by their first line."""

    names: list[str] | None
    width: int
    rows: list[tuple[int, list[str]]]
    bad: list[tuple[int, str]]


#: what may be a whole number whose thousands are set apart, or one of three decimals
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")


def refuse_thousands(path: Path, columns: Mapping[str, Sequence[str]], rows: Sequence[Sequence[str]] = ()) -> None:
    """Numbers of a table whose thousands are set apart are not read as decimals.

    Where all marks of a column have three digits behind them, they are decimal marks if each of its numbers has one,
    and if no other number of the file says that the other mark is the decimal one.

    Arguments:
        path: the file, for the error
        columns: cells that are read, by name
        rows: all cells of the file

    Raises:
        ValueError: names such a column
    """
    for name, cells in columns.items():
        numbers = list(filter(is_number, cells))
        for mark, other in (",.", ".,"):
            own = [cell for cell in numbers if mark in cell]
            if not own or not all(map(_THOUSANDS.fullmatch, own)):
                continue
            decimals = {m for m in ",." if any(m in cell and _is_decimal(cell) for cells in rows for cell in cells)}
            if mark not in decimals and (other in decimals or (mark == "," and len(own) < len(numbers))):
                raise ValueError(
                    f"{path}: {name} {own[0]!r} may be a whole number whose thousands are set apart by {mark!r}, or "
                    f"have three decimals. Expected numbers such as {own[0].replace(mark, '')} or "
                    f"{own[0].replace(mark, other)}0: write them so."
                )


def _is_decimal(cell: str) -> bool:
    """Whether a cell is a number whose mark can only be a decimal one."""
    return is_number(cell) and not _THOUSANDS.fullmatch(cell)


def read_rows(path: Path, wanted: Wanted, skip_rows: int = 0, header: Sequence[str] = ()) -> TextRows:
    """The rows of a table of text in any usual layout.

    Encodings are UTF-8, UTF-16 and UTF-32 with their marks, and Latin-1; lines end in LF, CRLF or CR; separators are a
    tab, semicolon, bar, comma, or white space. Blank lines, and comments above the first row, are left out. The names
    are in the first row or, as numpy writes them, in a comment above it. A header 0,1,2… as of pandas names nothing.

    Arguments:
        path: the file
        wanted: the columns that are looked for, by which a header is told
        skip_rows: lines above the table
        header: the names in a file that is known to come without them

    Raises:
        ValueError: no text, no rows, or names that cannot be told from data
    """
    lines = _decode(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = skip_rows
    while start < len(lines) and (not lines[start].strip() or _COMMENT.match(lines[start])):
        start += 1
    above = [(k, _COMMENT.sub("", line, count=1)) for k, line in enumerate(lines[:start]) if line[:6] != "#! SET"]
    above = [(k, text) for k, text in above if text.strip()]
    comments = [(k, text) for k, text in above if k >= skip_rows]
    if start >= len(lines):
        raise ValueError(f"{path}: the file has no rows" + (f" below line {skip_rows}." if skip_rows else "."))
    separator = _separator(lines[start : start + _SAMPLE])
    records = []
    with tqdm(total=len(lines), desc=f"reading {path.name}", unit=" lines", delay=2, leave=False) as bar, _long_cells():
        for line, cells in _records(lines, start, separator):
            records.append((line, cells))
            bar.update(line - bar.n)
    while records and records[-1][1] and not any(records[-1][1]):
        records.pop()  # as spreadsheets leave them at the end
    if not records:
        raise ValueError(f"{path}: the file has no rows, its cells are empty.")
    first = records[0][1]
    if first is None:
        raise ValueError(f"{path}: line {records[0][0]}: {_OPEN}")
    first = _named_cells(first)
    words, below = None, 0
    for line, text in reversed(comments):
        if words := _header(text, separator, len(first), wanted):
            break
        cells = _cells(text, separator) or []
        numbered = cells == [str(k + 1) for k in range(len(first))]
        if len(cells) == len(first) > 1 and not numbered and [*map(is_number, cells)] == [*map(is_number, first)]:
            below = line + 1
    if words and below:
        raise ValueError(f"{path}: line {below} begins with '#', and is a row or a comment. Write the names above it.")
    default = [str(k) for k in range(len(first))]
    places = wanted.places(len(first))
    if places and all(is_number(first[k]) for k in places) and default[:-1] not in (first[:-1], first[1:]):
        return _checked(path, words, records, len(first))
    if wanted.named(first):
        return _checked(path, first, records[1:], len(first))
    if words:
        return _checked(path, words, records, len(first))
    for line, cells in records[1:_SAMPLE]:
        if wanted.known() and cells and not any(map(is_number, cells)) and wanted.named(cells):
            raise ValueError(
                f"{path}: the first row is {shown(first)}, and line {line} names the columns: skip the lines above it "
                f"with --data.skip_rows={line - 1}."
            )
    if first[1:] == default[:-1] != [] and plain(first[0]) in ("", "index", "unnamed_0"):  # of pandas
        below = [(line, cells and cells[1:]) for line, cells in records[1:]]
        return _checked(path, list(header) if len(header) == len(first) - 1 else None, below, len(first) - 1)
    known = list(header) if len(header) == len(first) else None  # by place only as many as there are
    if first != default and known and any(map(is_number, first)):  # words alone name something else
        return _checked(path, known, records, len(first))
    if not all(is_number(cell) or not cell for cell in first):
        return _checked(path, first, records[1:], len(first))
    _refuse_names(path, above, separator, len(first), wanted, skip_rows)
    if first == default:
        if len(first) == 1 or not any("." in cell for _, cells in records[1:] for cell in cells or ()):
            raise ValueError(
                f"{path}: line {records[0][0]}, {','.join(first)!r}, is a row or the header that pandas writes where "
                "there are no names: write a header, or skip the line with --data.skip_rows."
            )
        warnings.warn(
            f"{path}: line {records[0][0]}, {','.join(first)}, is taken for the header of pandas.", stacklevel=2
        )
        records = records[1:]
    return _checked(path, known, records, len(first))


def shown(cells: Sequence[str]) -> str:
    """Cells for an error, which a file that is no table must not fill."""
    return repr(", ".join(cells)[:200])


def is_number(cell: str) -> bool:
    """Whether a cell is a number, also with a decimal comma, infinite or NaN."""
    return _NUMBER.fullmatch(cell) is not None


def number(cell: str) -> float:
    """The number in a cell, also with a decimal comma."""
    return float(cell.replace(",", "."))


def as_text(values: Sequence[float], spread: float = 0.0, digits: int = 7) -> list[str]:
    """Numbers of a column, to some digits, and more where they differ by less than they are large.

    Arguments:
        values: the numbers
        spread: how far apart such numbers are, as a standard deviation; 0 where that is not known
        digits: of numbers that differ by as much as they are large

    Example:
        >>> as_text([2460341.5123, 41.0], spread=0.3)
        ['2460341.5123', '41']
    """
    largest = max(map(abs, values), default=0.0)
    more = math.log10(largest / spread) if 0 < spread < largest < math.inf else 0.0
    return [f"{value:.{min(17, digits + int(more))}g}" for value in values]


_OPEN = "a quote opens here that does not close as a cell does: close it, or write it twice within a quoted cell"


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    for sign, what in _BINARY.items():
        if data.startswith(sign):
            raise ValueError(f"{path} is {what}. Expected a table of text: unpack or export it as CSV.")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and 0 in data[:2]:
        encoding = "utf-16-le" if data[0] else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(f"{path} begins as {encoding.upper()} does, and is not: {error.reason}.") from error
        text = data.decode("latin-1")  # which has a letter for every byte
    if found := re.search("\0", text) or _OTHERS.search(text[:8]):
        line, what = text.count("\n", 0, found.start()) + 1, "bytes of zero" if found[0] == "\0" else repr(found[0])
        raise ValueError(f"{path} is not a table of text: line {line} holds {what}. Remove them, or export it as CSV.")
    text = text.replace("\ufeff", "")
    if what := next((what for start, what in _TREES.items() if start.match(text)), None):
        raise ValueError(f"{path} is {what}. Expected a table of text: export it as CSV, with a row for each point.")
    return text.replace("\u2212", "-")  # a typeset minus


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Lift csv's limit on the length of a cell, which outlines of countries exceed."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _plain(line: str, separator: str) -> str:
    return " ".join(line.split()) if separator == " " else line.strip(" ")


def _cells(line: str, separator: str) -> list[str] | None:
    """The cells of a line; None where a quoted cell does not end in it."""
    line = _plain(line, separator)
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    return _quoted(iter([line]), separator)[0]


def _quoted(lines: Iterator[str], separator: str) -> tuple[list[str] | None, int]:
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return [cell.strip() for cell in next(reader)], reader.line_num
    except csv.Error:
        return None, 1


def _separator(lines: list[str]) -> str:
    """What parts lines into equally many cells, most of them numbers."""

    def merit(separator: str) -> tuple[bool, float, int]:
        rows = [cells or [] for _, cells in _records(lines, 0, separator)]
        counts = Counter(map(len, filter(None, rows))) or Counter([0])  # without those that a quote opens for good
        width = max(counts, key=counts.__getitem__)
        cells = [cell for row in rows if len(row) == width > 1 for cell in row]
        numbers = sum(map(is_number, cells)) / max(1, len(cells))
        # lines of nothing but this separator are no rows at all
        return len(rows[0] if rows else ()) == width > 1, numbers, width

    # words within cells must not outdo the tabs between them
    return "\t" if min(merit("\t")[:2]) > 0 else max(_SEPARATORS, key=merit)


def _records(lines: list[str], start: int, separator: str) -> Iterator[tuple[int, list[str] | None]]:
    """First line and cells of each row that has any; None for cells that a quote opens for good."""
    k, width = start, None
    while k < len(lines):
        cells, taken = _cells(lines[k], separator), 1
        if cells is None:
            rest = (f"{_plain(lines[j], separator)}\n" for j in range(k, len(lines)))
            cells, taken = _quoted(rest, separator)
            if cells is None or _swallows(lines[k : k + taken], separator, width):
                # a quote in tabbed text is often just a letter
                cells, taken = ([cell.strip() for cell in lines[k].split("\t")] if separator == "\t" else None), 1
        # of separators alone there are rows among others, but none above the first
        if cells is None or any(cells) or (width and len(cells) > 1):
            yield k + 1, cells
            width = width or (cells and len(cells))
        k += taken


def _swallows(lines: list[str], separator: str, width: int | None) -> bool:
    """Whether lines that a quoted cell spans look like rows of their own."""
    counts = [len(_plain(line, separator).split(separator)) for line in lines]
    width = width or max(counts)
    # a line between with quotes ends one cell and begins the next
    between = [count for count, line in zip(counts, lines, strict=True) if '"' not in line]
    return width > 1 and len(lines) > 1 and (width in between or min(counts[0], counts[-1]) >= width)


def _header(text: str, separator: str, width: int, wanted: Wanted) -> list[str] | None:
    """The names in a comment, which may be parted in another way than the rows below."""
    for candidate in (separator, *_SEPARATORS):
        cells = _named_cells(_cells(text, candidate) or [])
        # parted at the spaces within names, of "lat (deg), lon (deg)" there are four cells
        if any(cell.startswith(("(", "[")) or cell.endswith((",", ";", "|")) for cell in cells):
            continue
        if len(cells) == width and not any(map(is_number, cells)) and wanted.named_above(cells):
            return cells
    return None


def _named_cells(cells: list[str]) -> list[str]:
    """Of one line each, and without empty ones at the end, as separators at the end of the lines leave them."""
    cells = [cell.replace("\n", "") for cell in cells]
    return cells[: max((k + 1 for k, cell in enumerate(cells) if cell), default=0)]


def _refuse_names(
    path: Path, comments: list[tuple[int, str]], separator: str, width: int, wanted: Wanted, skip_rows: int
) -> None:
    """No column is taken by its place where a comment seems to say what it is."""
    words = []  # of all lines: there may be one for each column
    for line, text in comments[-_SAMPLE:]:
        cells = _cells(text, separator) or []
        as_header = line == comments[-1][0] and len(cells) == width > 1 and all(cell[:1].isalpha() for cell in cells)
        as_header = as_header and (line >= skip_rows or not any(" " in cell for cell in cells))  # as in a title
        words += [word.strip("@:.()[]{}\"'") for word in re.split(r"[\s,;|]+", text)]
        if as_header or (wanted.known() and wanted.named(words)):
            raise ValueError(
                f"{path}: there is no header, but the {'comment' if line >= skip_rows else 'text'} in line {line + 1}, "
                f"{text.strip()[:80]!r}, may name the columns: write a header in the first row, remove that line, or "
                "give the place of each column, from 0, with --data.columns."
            )


def _checked(path: Path, names: list[str] | None, records: list[tuple[int, list[str] | None]], width: int) -> TextRows:
    """The rows of the right width, and what is wrong with the others."""
    rows, bad = [], []
    signs = {line for line, cells in records if cells and cells[0].startswith("#")}
    commented = signs if len(signs) < len(records) else set()  # but where all rows bear the sign it is part of a name
    for line, cells in records:
        if cells is None:
            bad.append((line, _OPEN))
            continue
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if line in commented:
            bad.append((line, "begins with '#', and is a row or a comment. Comments stand above the first row"))
        elif len(cells) != width:
            hint = "; cells with a separator or a decimal comma need quotes" if len(cells) > width else ""
            bad.append((line, f"{len(cells)} cells, expected {width}{hint}"))
        else:
            rows.append((line, cells))
    # R numbers the rows from 1, and writes no name above the numbers
    numbered = [cells[0] for _, cells in records if cells and len(cells) == width + 1]
    if names is not None and not rows and numbered == [str(k + 1) for k in range(len(records))] != []:
        return _checked(path, ["", *names], records, width + 1)
    if names is not None and not rows and len(bad) > 1 and records[0][1] is not None:
        raise ValueError(
            f"{path}: the header is {shown(names)}, and no row has as many cells, that of line {records[0][0]} is "
            f"{shown(records[0][1] or ())}. Is it a title, to be left out with --data.skip_rows? Are there names "
            "missing? Or do cells hold a separator or a decimal comma, which need quotes?"
        )
    return TextRows(names, width, rows, bad)
