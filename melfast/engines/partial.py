"""Partial: the rows of a table of predictions while they come, so that a stopped run can go on."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from melfast.engines.outputs import about_path, partial_path
from melfast.errors import InputError
from melfast.files import atomic_path

PARQUET_SUFFIX = ".parquet"
SUFFIXES = (".csv", PARQUET_SUFFIX)
# Type of a column in Parquet, by how its name begins; text where nothing fits.
INTEGERS, FLOATS = ("target",), ("probability", "logit", "ita")
INSTALL_PYARROW = "pip install 'melfast[parquet]'"


class Partial:
    """Rows beside the table that they will make: its name with `.partial`.

    The first line holds the settings as JSON, for rows of another model do not go with these; then
    comes CSV without a header: the rows in the order in which they were found, the path of each
    row's image behind it.
    """

    def __init__(
        self, output: Path, header: Sequence[str], settings: dict[str, Any],
        paths: Mapping[str, str],
    ) -> None:  # fmt: skip
        """
        Args:
            paths: of the images, by name (the first cell of a row).
        Raises:
            InputError: `output` ends in neither .csv nor .parquet, or Parquet cannot be written.
        """
        if output.suffix.lower() not in SUFFIXES and not output.is_dir():
            raise InputError(f"{output}: wanted a name that ends in {' or '.join(SUFFIXES)}")
        if output.suffix.lower() == PARQUET_SUFFIX:
            _require_pyarrow(output)
        self.output, self.header, self.paths = output, list(header), paths
        self.path, self.about_path = partial_path(output), about_path(output)
        # As it is read again: a tuple comes back as a list.
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._file: TextIO | None = None

    def rows(self) -> Iterator[list[str]]:
        """The whole rows that an earlier run has left; one that was cut off is not among them. Of a
        run that came to its end those of its table.

        Raises:
            InputError: they were made with other settings, or of other images.
        """
        for *row, path in self._kept():
            if self.paths.get(row[0]) != path:
                now = self.paths.get(row[0], "not among the images")
                raise InputError(
                    f"{self.path}: {row[0]} is of {path}, which now is {now}; wanted the same "
                    "images, or none of --resume"
                )
            yield row

    def _kept(self) -> Iterator[list[str]]:
        """The rows with their paths."""
        if not self.path.is_file():
            if self.is_made():
                yield from self._finished()
            return
        with _open(self.path, "r") as file:
            found = _settings(file.readline())
            if found != self.settings:
                keys = sorted({*(found or {}), *self.settings})
                differ = [k for k in keys if (found or {}).get(k) != self.settings.get(k)]
                raise InputError(
                    f"{self.path}: was made with other settings ({', '.join(differ)}); wanted the "
                    "same command, or none of --resume"
                )
            last: list[str] = []
            for row in csv.reader(file):
                if last:
                    yield last
                last = row
        if last and self.path.read_bytes()[-1:] == b"\n":
            yield last

    @contextmanager
    def writing(self, kept: Iterable[Sequence[str]] = ()) -> Iterator[None]:
        """Begins the file anew, with the rows that are kept; `add` works inside. A file without
        any row does not stay where the block fails."""
        self.count = 0
        with atomic_path(self.path) as temporary, _open(temporary, "w") as file:
            file.write(json.dumps(self.settings) + "\n")
            self._write(file, kept)
        try:
            with _open(self.path, "a") as self._file:
                yield
        except BaseException:
            if not self.count:
                self.path.unlink(missing_ok=True)
            raise

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        assert self._file is not None
        self._write(self._file, rows)
        self._file.flush()

    def finish(self) -> str:
        """Makes the table of the rows, and takes the file away.

        Returns:
            A digest of the images' names and paths, for the JSON beside the table.
        Raises:
            InputError: it cannot be written.
        """
        with atomic_path(self.output) as temporary:
            if self.output.suffix.lower() == PARQUET_SUFFIX:
                self._write_parquet(temporary)
            else:
                with _open(self.path, "r") as rows, _open(temporary, "w") as file:
                    rows.readline()
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(self.header)
                    writer.writerows(row[:-1] for row in csv.reader(rows))
        with _open(self.path, "r") as rows:
            rows.readline()
            digest = self._digest(row[0] for row in csv.reader(rows))
        self.path.unlink()
        return digest

    def is_made(self) -> bool:
        """Whether the table that is there was made with these settings, by the JSON beside it."""
        try:
            text = self.about_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        found = _settings(text) or {}
        return self.output.is_file() and all(
            found.get(key) == value for key, value in self.settings.items()
        )

    def _finished(self) -> Iterator[list[str]]:
        """The rows of a table that is done, with their paths now, which must be those of then."""
        rows = list(self._rows_of_table())
        there = [row for row in rows if row[0] in self.paths]
        digest = json.loads(self.about_path.read_text(encoding="utf-8")).get("images")
        if len(there) < len(rows) or digest != self._digest(row[0] for row in rows):
            raise InputError(
                f"{self.output}: was made of other images; wanted the same ones and more, or none "
                "of --resume"
            )
        yield from ([*row, self.paths[row[0]]] for row in rows)

    def _digest(self, names: Iterable[str]) -> str:
        """Of images, by their names and paths."""
        found = hashlib.sha256()
        for name in names:
            found.update(f"{name}\t{self.paths[name]}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def _rows_of_table(self) -> Iterator[list[str]]:
        if self.output.suffix.lower() != PARQUET_SUFFIX:
            with _open(self.output, "r") as file:
                rows = csv.reader(file)
                next(rows)
                yield from rows
            return
        from pyarrow import parquet

        for batch in parquet.ParquetFile(self.output).iter_batches():
            columns = [
                [
                    "" if cell is None else str(cell)
                    for cell in column.to_numpy(zero_copy_only=False)
                ]
                for column in batch.columns
            ]
            yield from map(list, zip(*columns, strict=True))

    def _write(self, file: TextIO, rows: Iterable[Sequence[object]]) -> None:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            assert len(row) == len(self.header), (row, self.header)
            writer.writerow([*row, self.paths[str(row[0])]])
            self.count += 1

    def _write_parquet(self, path: Path) -> None:
        import pyarrow
        from pyarrow import csv as arrow_csv
        from pyarrow import parquet

        types = {name: _arrow_type(name) for name in self.header}
        try:
            batches = arrow_csv.open_csv(
                self.path,
                arrow_csv.ReadOptions(column_names=[*self.header, "path"], skip_rows=1),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=types, include_columns=self.header
                ),
            )
            with parquet.ParquetWriter(path, batches.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{self.output}: Parquet cannot hold it: {error}") from None


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """CSV, whole or not at all; file names that are not UTF-8 as the bytes that they are."""
    with atomic_path(path) as temporary, _open(temporary, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _arrow_type(name: str) -> Any:
    import pyarrow

    if name.startswith(INTEGERS):
        return pyarrow.int8()
    return pyarrow.float32() if name.startswith(FLOATS) else pyarrow.string()


def _require_pyarrow(output: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{output}: Parquet needs pyarrow: {INSTALL_PYARROW}") from None


def _settings(line: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def _open(path: Path, mode: str) -> TextIO:
    # surrogateescape: a file name that is not UTF-8 comes out as the bytes that it is.
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[return-value]
