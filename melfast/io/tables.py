"""Read tables: CSV with any usual separator, decimal commas or byte-order marks, and Excel workbooks."""

import codecs
import csv
import gc
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from numpy.typing import NDArray

from melfast.io.columns import nearest
from melfast.io.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Words that other programs write for an empty cell.
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "<na>", "#n/a", "#na"})
SEPARATORS = ",;\t|"
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".xlsx", ".xls")
FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)
LISTED = 5  # number of rows shown that are wrong in the same way
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class TextTable:
    """A CSV file as text, without pandas, which takes a second to import.

    Attributes:
        path: the file.
        columns: the cells [N] of each column, '' if empty.
        lines: int64 [N], the line of the file on which each row starts (the header is line 1).
    """

    path: Path
    columns: dict[str, list[str]]
    lines: NDArray[np.int64]

    def error(self, row: int, message: str) -> InputError:
        """An error in one row, as `FILE:LINE: message`."""
        return InputError(f"{self.path}:{self.lines[row]}: {message}")

    def errors(self, rows: Sequence[int], column: str, message: str) -> InputError:
        """An error about a column in several rows: the first five, and how many there are."""
        cells = [str(self.columns[column][row]) for row in rows[:LISTED]]
        message = f"{message}, got {cells[0]!r}"
        if len(rows) > 1:
            found = [f"{self.lines[row]} {cell!r}" for row, cell in zip(rows, cells, strict=False)]
            message += f"; {len(rows):,} such rows: lines {shortened(found, len(rows))}"
        return self.error(rows[0], message)


@dataclass(frozen=True)
class Table:
    """A CSV file as a data frame.

    Attributes:
        path: the file.
        frame: every column str, '' for an empty cell; index 0..N-1.
        lines: see TextTable.
    """

    path: Path
    frame: "pd.DataFrame"
    lines: NDArray[np.int64]

    def error(self, row: int, message: str) -> InputError:
        """See TextTable."""
        return TextTable(self.path, {}, self.lines).error(row, message)

    def errors(self, rows: Sequence[int], column: str, message: str) -> InputError:
        """See TextTable."""
        return TextTable(self.path, {column: self.frame[column].tolist()}, self.lines).errors(rows, column, message)


def shortened(first: Sequence[str], count: int | None = None) -> str:
    """The first five of some words, and `...` if there are more.

    Args:
        count: number of words, if `first` does not contain all.
    """
    count = len(first) if count is None else count
    return ", ".join(first[:LISTED]) + (", ..." if count > LISTED else "")


def read_table(path: str | Path, header: Sequence[str] = ()) -> Table:
    """`read_cells` as a data frame."""
    import pandas as pd

    cells = read_cells(path, header)
    return Table(cells.path, pd.DataFrame(cells.columns, dtype=str), cells.lines)


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection, which would visit all rows again and again while a million are read."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collector()
def read_cells(path: str | Path, header: Sequence[str] = ()) -> TextTable:
    """Reads a CSV file, JSON lines, or the first sheet of an Excel workbook (with openpyxl).

    The separator is the one in a line `sep=;` of Excel, or else the most frequent of comma, semicolon,
    tab and bar in the header. If it is not a comma, numeric columns get decimal points for commas.
    Empty columns and rows are left out.

    Args:
        header: column names of a file without a header line.
    Raises:
        InputError: the file is missing, empty, neither UTF-8 nor UTF-16, or has no rows, a repeated
            column, or a row with more or fewer cells than the header.
    """
    path = Path(path)
    separator = ""
    if path.suffix.lower() in (".xlsx", ".xls"):
        rows, lines = _sheet(path)
    elif path.suffix.lower() == ".jsonl":
        rows, lines = _json_lines(path, _read_text(path))
    else:
        text, separator, skipped = _dialect(_read_text(path))
        rows, lines = _parse(path, text, separator, skipped)
    rows = [[with_formula(cell) if cell[:1] == "'" else cell for cell in row] for row in rows]
    if header:
        rows, lines = [list(header), *rows], [0, *lines]
    rows = _filled(rows)
    names = [" ".join(name.split()) or f"Unnamed: {i}" for i, name in enumerate(rows[0])]  # named as in pandas
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path}: column {min(twice)!r} appears twice in the header")
    if len(rows) == 1:
        raise InputError(f"{path}: has a header but no rows")
    columns = dict(zip(names, map(list, zip(*rows[1:], strict=True)), strict=True))
    if separator not in ("", ","):
        columns = {name: _decimal_points(cells) for name, cells in columns.items()}
    return TextTable(path, columns, np.array(lines[1:], np.int64))


def read_column_names(path: Path) -> list[str]:
    """The first row of cells of a table, without reading the rest of a CSV file.

    Raises:
        InputError: as read_table.
    """
    if path.suffix.lower() in (".xlsx", ".xls", ".jsonl"):
        return list(read_table(path).frame.columns)
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    text, separator, _ = _dialect(start.decode(_encoding(start), errors="ignore"))
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error as error:
        raise InputError(f"{path}:1: is not valid CSV: {error}") from None
    return [" ".join(name.split()) for name in names]


def require_columns(path: Path, present: Iterable[str], wanted: Iterable[str]) -> None:
    """Raises InputError that names the first missing column and a possible misspelling of it."""
    present = list(present)
    for name in wanted:
        if name not in present:
            near = nearest(name, present)
            hint = f"; did you mean {near!r}?" if near else ""
            columns = ", ".join(present)
            raise InputError(f"{path}: no column {name!r}; columns are {columns}{hint}")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a UTF-8 CSV file with commas, and quotes if needed.

    File names that are not UTF-8 keep their bytes.
    """
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        # Python before 3.13 quotes a lone carriage return only where lines end in one.
        writer = csv.writer(_UnixLines(file))
        writer.writerow(map(without_formula, header))
        writer.writerows(map(without_formula, row) for row in rows)


class _UnixLines:
    """Ends the lines of a csv.writer, one a call, with a line feed alone."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> int:
        return self.file.write(line.removesuffix("\r\n") + "\n")


def without_formula(cell: object) -> object:
    """A cell that spreadsheets do not evaluate: an apostrophe before text such as `=1+1`.

    Numbers are unchanged, and `read_table` removes the apostrophe. OWASP, "CSV Injection".
    """
    formula = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def with_formula(cell: str) -> str:
    """The inverse of `without_formula`."""
    bare = cell[1:] if cell.startswith("'") else ""
    return bare if without_formula(bare) == cell else cell


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a CSV file") from None
    if not data.strip():
        raise InputError(f"{path}: is empty, expected a CSV file with a header")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError(f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}); save as UTF-8") from None


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _dialect(text: str) -> tuple[str, str, int]:
    """The text of the table, its separator, and the number of lines removed before it."""
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(r"sep=(.)\s*", first):  # Excel's own
        return rest, named[1], 1
    if first.startswith("||"):  # a table drawn with bars (PH2), followed by an explanation
        text = "".join(line + "\n" for line in text.splitlines() if line.startswith("||"))
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    return text, max(SEPARATORS, key=first.count), 0


def _filled(rows: list[list[str]]) -> list[list[str]]:
    """The rows without columns that have neither name nor values, which Excel leaves behind."""
    kept = [i for i, name in enumerate(rows[0]) if name.strip() or any(row[i].strip() for row in rows[1:])]
    return rows if len(kept) == len(rows[0]) else [[row[i] for i in kept] for row in rows]


def _sheet(path: Path) -> tuple[list[list[str]], list[int]]:
    """Rows of the first sheet of a workbook, starting with the header, its first long row."""
    try:
        import openpyxl
    except ImportError:
        raise InputError(f"{path}: is an Excel workbook: pip install openpyxl, or save it as CSV") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        cells = [["" if cell is None else str(cell) for cell in row] for row in book.worksheets[0].values]
    except Exception as error:  # openpyxl passes on exceptions of zipfile and the XML parser
        raise InputError(f"{path}: cannot be read as an Excel workbook (.xlsx) ({error}); save it as CSV") from None
    sizes = [sum(map(bool, row)) for row in cells]
    longest = max(sizes[:30], default=0)
    if longest == 0:
        raise InputError(f"{path}: is empty, expected a header")
    first = next(i for i, size in enumerate(sizes) if size > longest / 2)
    kept = [i for i in range(first, len(cells)) if sizes[i]]
    width = max(map(len, cells))
    return [cells[i] + [""] * (width - len(cells[i])) for i in kept], [i + 1 for i in kept]


def _json_lines(path: Path, text: str) -> tuple[list[list[str]], list[int]]:
    found: list[dict[str, object]] = []
    lines = [0]
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError):
                raise InputError(f"{path}:{number}: is not a JSON object") from None
            lines.append(number)
    names = list(dict.fromkeys(name for row in found for name in row))
    cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in found]
    return [names, *cells], lines


def _parse(path: Path, text: str, separator: str, line: int) -> tuple[list[list[str]], list[int]]:
    """Rows of cells, header first, and the line on which each starts; empty rows are left out.

    Args:
        line: number of lines in the file before the text.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    before, line = line, line + 1
    try:
        for row in reader:
            if any(map(str.strip, row)):
                wanted = len(rows[0]) if rows else len(row)
                if len(row) > wanted and not any(map(str.strip, row[wanted:])):
                    row = row[:wanted]
                if len(row) != wanted:
                    raise InputError(f"{path}:{line}: found {len(row)} cells, expected {wanted} as in the header")
                rows.append(row)
                lines.append(line)
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: is not valid CSV: {error}") from None
    return rows, lines


def _decimal_points(cells: list[str]) -> list[str]:
    if not any("," in cell for cell in cells):
        return cells
    if all(NUMBER.fullmatch(cell) for cell in cells if cell.strip().lower() not in MISSING):
        return [cell.replace(",", ".") for cell in cells]
    return cells
