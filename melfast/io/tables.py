"""Read tables: CSV with any usual separator, decimal commas or byte-order marks, Excel workbooks, JSON and Parquet."""

import codecs
import csv
import gc
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
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
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".xlsx", ".xls", ".parquet")
# The start of files that are no text.
OTHER_FILES = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of before 2007 (.xls); save it as .xlsx or CSV"),
    (b"PK\x03\x04", "a ZIP archive or an OpenDocument sheet; unpack it, or save it as CSV"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"SQLite format 3\0", "a database; export its table as CSV"),
)
FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)
TITLE_LINES = 30  # that may precede a header
BETWEEN_OBJECTS = re.compile(r"[\s,\[\]]*")
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
    """Reads a CSV file, JSON objects, the first sheet of an Excel workbook (with openpyxl), or Parquet (with pyarrow).

    A folder of JSON files, such as the ISIC Archive's of before 2022, has a row in each file. The separator of a CSV
    file is the one in a line `sep=;` of Excel, or else the most frequent of comma, semicolon, tab and bar in the
    header. If it is not a comma, numeric columns get decimal points for commas.
    Empty columns and rows, and titles above the header, are left out.

    Args:
        header: column names of a file without a header line.
    Raises:
        InputError: the file is missing, empty, neither UTF-8 nor UTF-16, or has no rows, a repeated
            column, or a row with more or fewer cells than the header.
    """
    path = Path(path)
    separator = ""
    suffix = path.suffix.lower()
    if path.is_dir() and (files := record_files(path)):
        rows, lines = _objects([object for file in files for object in _json_objects(file)])
    elif suffix in (".jsonl", ".json"):
        rows, lines = _objects(_json_objects(path))
    elif suffix == ".parquet":
        rows, lines = _objects(_parquet(path))
    elif suffix in (".xlsx", ".xls"):
        rows, lines = _below_titles(*_sheet(path))
    else:
        text, separator, skipped = _dialect(_read_text(path))
        rows, lines = _even(path, *_below_titles(*_parse(path, text, separator, skipped)))
    rows = [[with_formula(cell) if cell[:1] == "'" else cell for cell in row] for row in rows]
    if header:
        rows, lines = [list(header), *rows], [0, *lines]
    if not rows:
        raise InputError(f"{path}: is empty, expected a header")
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
    if path.is_dir():
        return [name for record in record_files(path)[:1] for name in _json_objects(record)[0][0]]
    if path.suffix.lower() in (".xlsx", ".xls", ".json", ".jsonl", ".parquet"):
        return list(read_cells(path).columns)
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    text, separator, _ = _dialect(start.decode(_encoding(start), errors="ignore"))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [row for row in islice(reader, TITLE_LINES) if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{path}:1: is not valid CSV: {error}") from None
    rows, _ = _below_titles(rows, [0] * len(rows))
    return [" ".join(name.split()) for name in rows[0]] if rows else []


def record_files(folder: Path) -> list[Path]:
    """JSON files with a row each, as the ISIC Archive had for each image; [] if the first file is none."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ("", ".json") and file.name[0] != ".")
    try:
        return files if files and {"name", "meta"} <= set(json.loads(files[0].read_bytes())) else []
    except (OSError, ValueError, TypeError):
        return []


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
    _require_no_other(path, data)
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError(f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}); save as UTF-8") from None


def _require_no_other(path: Path, data: bytes) -> None:
    if other := next((name for magic, name in OTHER_FILES if data.startswith(magic)), ""):
        raise InputError(f"{path}: is {other}")


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _dialect(text: str) -> tuple[str, str, int]:
    """The text of the table, its separator, and the number of lines removed before it."""
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(r"sep=(.)\s*", first):  # Excel's own
        return rest, named[1], 1
    if first.startswith("||"):  # a table drawn with bars (PH2), followed by an explanation
        text = "".join(line + "\n" for line in text.splitlines() if line.startswith("||"))
    found = re.search(rf"^[^\r\n]*[{SEPARATORS}][^\r\n]*", text, re.MULTILINE)  # after titles
    return text, max(SEPARATORS, key=found[0].count) if found else ",", 0


def _filled(rows: list[list[str]]) -> list[list[str]]:
    """The rows without columns that have neither name nor values, which Excel leaves behind."""
    kept = [i for i, name in enumerate(rows[0]) if name.strip() or any(row[i].strip() for row in rows[1:])]
    return rows if len(kept) == len(rows[0]) else [[row[i] for i in kept] for row in rows]


def _sheet(path: Path) -> tuple[list[list[str]], list[int]]:
    """Rows of the first sheet of a workbook, starting with the header, its first long row."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as file:
        if not (start := file.read(8)).startswith(b"PK"):
            _require_no_other(path, start)
    try:
        import openpyxl
    except ImportError:
        raise InputError(f"{path}: is an Excel workbook: pip install openpyxl, or save it as CSV") from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        cells = [["" if cell is None else str(cell) for cell in row] for row in book.worksheets[0].values]
    except Exception as error:  # openpyxl passes on exceptions of zipfile and the XML parser
        raise InputError(f"{path}: cannot be read as an Excel workbook (.xlsx) ({error}); save it as CSV") from None
    width = max(map(len, cells), default=0)
    kept = [i for i, row in enumerate(cells) if any(row)]
    return [cells[i] + [""] * (width - len(cells[i])) for i in kept], [i + 1 for i in kept]


def _below_titles(rows: list[list[str]], lines: list[int]) -> tuple[list[list[str]], list[int]]:
    """Rows from the header on, without titles (a cell alone, or few beside the longest row) and comments above it."""
    filled = [[i for i, cell in enumerate(row) if cell.strip()] for row in rows[:TITLE_LINES]]
    longest = max(map(len, filled), default=0)
    for first, cells in enumerate(filled):
        alone = cells == [0] and longest > 1 and (len(rows[first]) > 1 or rows[first][0].startswith("#"))
        if not alone and 2 * len(cells) >= longest:
            return rows[first:], lines[first:]
    return rows, lines


def _even(path: Path, rows: list[list[str]], lines: list[int]) -> tuple[list[list[str]], list[int]]:
    """Rows without empty cells beyond the header's, which Excel leaves behind; all must have its length."""
    wanted = len(rows[0]) if rows else 0
    for row, line in zip(rows, lines, strict=True):
        if not any(map(str.strip, row[wanted:])):
            del row[wanted:]
        if len(row) != wanted:
            raise InputError(f"{path}:{line}: found {len(row)} cells, expected {wanted} as in the header")
    return rows, lines


def _json_objects(path: Path) -> list[tuple[dict[str, object], int]]:
    """The objects of a file, in lines or in a list, and the line on which each starts."""
    text = _read_text(path)
    decoder, found, line, last = json.JSONDecoder(), [], 1, 0
    while (start := BETWEEN_OBJECTS.match(text, last).end()) < len(text):  # type: ignore[union-attr]
        line += text.count("\n", last, start)
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            value, end = None, start
        if not isinstance(value, dict):
            raise InputError(f"{path}:{line}: is not a JSON object")
        found.append((_flat(value), line))
        line += text.count("\n", start, end)
        last = end
    return found


def _flat(value: dict[str, object], prefix: str = "") -> dict[str, object]:
    """`{"meta": {"age": 5}}` to `{"meta.age": 5}`."""
    flat: dict[str, object] = {}
    for name, cell in value.items():
        flat |= _flat(cell, f"{prefix}{name}.") if isinstance(cell, dict) else {f"{prefix}{name}": cell}
    return flat


def _parquet(path: Path) -> list[tuple[dict[str, object], int]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"{path}: is a Parquet file: pip install pyarrow, or save it as CSV") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as a Parquet file ({error}); save it as CSV") from None
    return [(_flat(row), number) for number, row in enumerate(rows, 1)]


def _objects(found: list[tuple[dict[str, object], int]]) -> tuple[list[list[str]], list[int]]:
    """Rows of cells, header first, and their lines."""
    names = list(dict.fromkeys(name for row, _ in found for name in row))
    cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row, _ in found]
    return [names, *cells], [0, *(line for _, line in found)]


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
