"""CSV tables as people have them: commas, semicolons or tabs, decimal commas, a byte-order mark."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Words that other programs write for an empty cell.
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "<na>"})
LISTED = 5  # of the rows that are wrong in one way
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Cells:
    """A CSV file as text, without pandas, which takes a second to import.

    Attributes:
        path: the file.
        columns: the cells [N] of each column, '' where one is empty.
        lines: int64 [N], the line of the file that each row begins on (the header is line 1).
    """

    path: Path
    columns: dict[str, list[str]]
    lines: NDArray[np.int64]

    def error(self, row: int, message: str) -> InputError:
        """An error about one row, as `FILE:LINE: message`."""
        return InputError(f"{self.path}:{self.lines[row]}: {message}")

    def errors(self, rows: Sequence[int], column: str, message: str) -> InputError:
        """An error about what stands in a column of some rows: the first five, and how many."""
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
        frame: every column str, '' where a cell is empty; index 0..N-1.
        lines: see Cells.
    """

    path: Path
    frame: "pd.DataFrame"
    lines: NDArray[np.int64]

    def error(self, row: int, message: str) -> InputError:
        """See Cells."""
        return Cells(self.path, {}, self.lines).error(row, message)

    def errors(self, rows: Sequence[int], column: str, message: str) -> InputError:
        """See Cells."""
        return Cells(self.path, {column: self.frame[column].tolist()}, self.lines).errors(rows, column, message)


def shortened(first: Sequence[str], count: int | None = None) -> str:
    """The first five of some words as one, `...` where there are more.

    Args:
        count: how many there are, where `first` does not hold them all.
    """
    count = len(first) if count is None else count
    return ", ".join(first[:LISTED]) + (", ..." if count > LISTED else "")


def read_table(path: str | Path) -> Table:
    """As `read_cells`, as a data frame."""
    import pandas as pd

    cells = read_cells(path)
    return Table(cells.path, pd.DataFrame(cells.columns, dtype=str), cells.lines)


def read_cells(path: str | Path) -> Cells:
    """Reads a CSV file; the separator is the most frequent of `,` `;` and tab in the header.

    Where it is no comma, columns of nothing but numbers get decimal points for commas.

    Raises:
        InputError: the file is missing, empty, not UTF-8, has no rows, a column twice, or a row
            with more or fewer cells than the header.
    """
    path = Path(path)
    text = _read_text(path)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    rows, lines = _parse(path, text, separator)
    names = [name.strip() for name in rows[0]]
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]  # as pandas calls them
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path}: column {min(twice)!r} stands twice in the header")
    if len(rows) == 1:
        raise InputError(f"{path}: holds a header and no rows")
    columns = dict(zip(names, map(list, zip(*rows[1:], strict=True)), strict=True))
    if separator != ",":
        columns = {name: _decimal_points(cells) for name, cells in columns.items()}
    return Cells(path, columns, np.array(lines[1:], np.int64))


def require_columns(path: Path, present: Iterable[str], wanted: Iterable[str]) -> None:
    """Raises InputError naming the first missing column and the one it may be misspelt as."""
    present = list(present)
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            columns = ", ".join(present)
            raise InputError(f"{path}: no column {name!r}; columns are {columns}{hint}")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a UTF-8 CSV file with commas and quotes where they are needed."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, wanted a CSV file") from None
    if not data.strip():
        raise InputError(f"{path}: is empty, wanted a CSV file with a header")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError(f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}); save as UTF-8") from None


def _parse(path: Path, text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """Rows of cells, header first, and the line each begins on; blank lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(line)
                if len(row) != (wanted := len(rows[0])):
                    raise InputError(f"{path}:{line}: found {len(row)} cells, wanted {wanted} as in the header")
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: is no CSV: {error}") from None
    return rows, lines


def _decimal_points(cells: list[str]) -> list[str]:
    if not any("," in cell for cell in cells):
        return cells
    if all(NUMBER.fullmatch(cell) for cell in cells if cell.strip().lower() not in MISSING):
        return [cell.replace(",", ".") for cell in cells]
    return cells
