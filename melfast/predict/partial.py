"""Partial: stores the rows of a table of predictions as they come, so that a stopped run can resume."""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from melfast.io.errors import InputError
from melfast.io.files import atomic_path, write_json
from melfast.io.journal import Journal
from melfast.io.tables import with_formula, write_csv
from melfast.predict.outputs import about_path, partial_path

PARQUET_SUFFIX = ".parquet"
SUFFIXES = (".csv", PARQUET_SUFFIX)
# Parquet type of a column by the start of its name; otherwise text.
INTEGERS, FLOATS = ("target", "prediction"), ("probability", "logit", "ita")
ROWS_AT_A_TIME = 65536  # of a piece of Parquet
INSTALL_PYARROW = "pip install pyarrow"


class Partial:
    """A table of predictions, and the journal of its rows next to it, named `.partial`.

    Each entry is a row, in order of arrival, followed by the path of its image; the first line lists the
    engines that made the rows.

    Attributes:
        count: number of rows written.
        engines: the engines that made them, as passed to `writing`, each with its number of `rows`
            except the last, which made the rest.
    """

    def __init__(self, output: Path, header: Sequence[str], settings: dict[str, Any], paths: Mapping[str, str]) -> None:
        """
        Args:
            paths: paths of the images, by name (the first cell of a row).
        Raises:
            InputError: `output` ends neither in .csv nor in .parquet, or Parquet cannot be written or
                cannot store a name.
        """
        if output.suffix.lower() not in SUFFIXES and not output.is_dir():
            raise InputError(f"{output}: expected a name that ends in {' or '.join(SUFFIXES)}")
        if output.suffix.lower() == PARQUET_SUFFIX:
            _require_pyarrow(output)
            require_utf8(f"{output}: Parquet", paths)
        self.output, self.header, self.paths = output, list(header), paths
        self.about_path = about_path(output)
        self.journal = Journal(partial_path(output), settings)
        self.path, self.settings = self.journal.path, self.journal.settings
        self.engines: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        return self.journal.count

    def require_none(self) -> None:
        """Raises InputError if an earlier run left rows, which a new one would remove."""
        if self.path.is_file() and (count := sum(1 for _ in self.journal.entries())):
            raise InputError(
                f"{self.path}: keeps {count:,} rows of a run that ended early; `resume=True` resumes it; "
                "to start over, delete the file"
            )
        self.journal.read()  # never replace a file that is not a journal

    def rows(self) -> list[list[str]]:
        """The complete rows that an earlier run left, without a truncated last one. For a finished run,
        the rows of its table.

        Raises:
            InputError: they were made with other settings, or from other images.
        """
        if self.path.is_file():
            about, kept = self.journal.read()
        elif self.is_made():
            about, kept = self._finished()
        else:
            return []
        for name, *_, path in kept:
            if self.paths.get(name) != path:
                now = self.paths.get(name, "not among the images")
                raise InputError(
                    f"{self.path}: {name} was {path}, now it is {now}; expected the same images; "
                    "to start over, delete the file"
                )
        self.engines = _counted(about.get("engines", []), len(kept))
        return [row[:-1] for row in kept]

    @contextmanager
    def writing(self, kept: Sequence[Sequence[str]], engine: dict[str, Any]) -> Iterator[None]:
        """Rewrites the journal with the rows to keep; call `add` inside the block. If the block fails, a
        journal without rows is removed.

        Args:
            engine: the engine that makes the next rows.
        """
        self.engines = [*(each for each in self.engines if each | engine != each), engine]
        try:
            with self.journal.writing(self._entries(kept), engines=self.engines):
                yield
        except BaseException:
            if not self.count:
                self.journal.remove()
            raise

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Appends rows; raises InputError if they cannot be written, and keeps the earlier ones."""
        self.journal.add(self._entries(rows))

    def finish(self, about: Mapping[str, Any]) -> None:
        """Writes the table and the JSON next to it, and removes the journal.

        Args:
            about: content for the JSON besides the settings, the engines and a hash of the images.
        Raises:
            InputError: it cannot be written, or the journal no longer contains all rows.
        """
        names: dict[str, None] = {}

        def rows() -> Iterator[list[str]]:
            count = 0
            for *row, _ in self.journal.entries():
                names[row[0]] = None
                count += 1
                yield row
            if not count == len(names) == self.count:  # then the table is not renamed to its final name
                raise InputError(
                    f"{self.path}: holds {count:,} rows of {len(names):,} images, expected {self.count:,}: another "
                    f"program has changed it; {self.output} is not written"
                )

        if self.output.suffix.lower() == PARQUET_SUFFIX:
            with atomic_path(self.output) as temporary:
                self._write_parquet(temporary, rows())
        else:
            write_rows(self.output, self.header, rows())
        found = {"images": self._digest(names), "engines": _counted(self.engines, self.count)}
        write_json(self.about_path, {**about, **self.settings, **found})
        self.journal.remove()

    def is_made(self) -> bool:
        """Whether the JSON next to the existing table says that it was made with these settings."""
        found = read_about(self.about_path)
        return self.output.is_file() and all(found.get(key) == value for key, value in self.settings.items())

    def _finished(self) -> tuple[dict[str, Any], list[list[str]]]:
        """The JSON next to a finished table, and its rows with their current paths, which must not have
        changed."""
        rows = list(self._rows_of_table())
        there = [row for row in rows if row[0] in self.paths]
        about = read_about(self.about_path)
        if len(there) < len(rows) or about.get("images") != self._digest(row[0] for row in rows):
            raise InputError(
                f"{self.output}: was made from other images; expected the same images, and possibly more; "
                "to start over, leave out `resume=True`"
            )
        return about, [[*row, self.paths[row[0]]] for row in rows]

    def _digest(self, names: Iterable[str]) -> str:
        """Hash of the names and paths of images."""
        found = hashlib.sha256()
        for name in names:
            found.update(f"{name}\t{self.paths[name]}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def _rows_of_table(self) -> Iterator[list[str]]:
        if self.output.suffix.lower() != PARQUET_SUFFIX:
            # surrogateescape: see write_csv
            with open(self.output, encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = csv.reader(file)
                next(rows)
                yield from (list(map(with_formula, row)) for row in rows)
            return
        from pyarrow import parquet

        for batch in parquet.ParquetFile(self.output).iter_batches():
            columns = [
                ["" if cell is None else str(cell) for cell in column.to_numpy(zero_copy_only=False)]
                for column in batch.columns
            ]
            yield from map(list, zip(*columns, strict=True))

    def _entries(self, rows: Iterable[Sequence[object]]) -> list[list[str]]:
        return [[*map(str, row), self.paths[str(row[0])]] for row in rows]

    def _write_parquet(self, path: Path, rows: Iterator[Sequence[str]]) -> None:
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([(name, _arrow_type(name)) for name in self.header])
        try:
            with parquet.ParquetWriter(path, schema) as writer:
                while piece := list(islice(rows, ROWS_AT_A_TIME)):
                    columns = zip(*piece, strict=True)
                    cells = [_arrow_column(column, field.type) for column, field in zip(columns, schema, strict=True)]
                    writer.write_table(pyarrow.table(cells, schema=schema))
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{self.output}: Parquet cannot hold it: {error}") from None


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        write_csv(temporary, header, rows)


def read_about(path: Path) -> dict[str, Any]:
    """The JSON next to a table; {} if it is missing or is another file of that name."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"melfast", "model", "columns"} <= set(found):
            return found
    return {}


def require_utf8(what: str, names: Iterable[str]) -> None:
    """Raises InputError for a name that is not UTF-8, if the format requires UTF-8."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{what} cannot hold {os.fsencode(name)!r}, a name that is not UTF-8; expected a .csv, or another name"
            ) from None


def _counted(engines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Each engine with its number of rows; the last made the rest. Engines without rows are left out."""
    known = sum(each.get("rows", 0) for each in engines)
    counted = [{"rows": count - known} | each for each in engines]
    return [each for each in counted if each["rows"]]


def _arrow_type(name: str) -> Any:
    import pyarrow

    if name.startswith(INTEGERS):
        return pyarrow.int8()
    return pyarrow.float32() if name.startswith(FLOATS) else pyarrow.string()


def _arrow_column(cells: Sequence[object], kind: Any) -> Any:
    import pyarrow

    if pyarrow.types.is_string(kind):
        return pyarrow.array(map(str, cells), kind)
    return pyarrow.array([str(cell) or None for cell in cells], pyarrow.string()).cast(kind)


def _require_pyarrow(output: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{output}: Parquet needs pyarrow: {INSTALL_PYARROW}") from None
