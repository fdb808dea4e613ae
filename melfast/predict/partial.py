"""Partial: the rows of a table of predictions while they come, so that a stopped run can go on."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from melfast.io.errors import InputError
from melfast.io.files import atomic_path, write_json
from melfast.predict.outputs import about_path, partial_path

PARQUET_SUFFIX = ".parquet"
SUFFIXES = (".csv", PARQUET_SUFFIX)
# Type of a column in Parquet, by how its name begins; text where nothing fits.
INTEGERS, FLOATS = ("target",), ("probability", "logit", "ita")
# What an older melfast did not write down.
UNKNOWN = [{"provider": "unknown"}]
INSTALL_PYARROW = "pip install pyarrow"


class Partial:
    """Rows beside the table that they will make: its name with `.partial`.

    The first line holds as JSON the settings, for rows of another model do not go with these, and
    the engines that made the rows; then comes CSV without a header: the rows in the order in which
    they were found, the path of each row's image behind it.

    Attributes:
        count: rows that are written.
        engines: what made them: of each engine what `writing` was told, and its `rows`, but for the
            last, which made the rest.
    """

    def __init__(self, output: Path, header: Sequence[str], settings: dict[str, Any], paths: Mapping[str, str]) -> None:
        """
        Args:
            paths: of the images, by name (the first cell of a row).
        Raises:
            InputError: `output` ends in neither .csv nor .parquet, or Parquet cannot be written or
                cannot hold a name.
        """
        if output.suffix.lower() not in SUFFIXES and not output.is_dir():
            raise InputError(f"{output}: wanted a name that ends in {' or '.join(SUFFIXES)}")
        if output.suffix.lower() == PARQUET_SUFFIX:
            _require_pyarrow(output)
            require_utf8(f"{output}: Parquet", paths)
        self.output, self.header, self.paths = output, list(header), paths
        self.path, self.about_path = partial_path(output), about_path(output)
        # As it is read again: a tuple comes back as a list.
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.count = 0
        self.engines: list[dict[str, Any]] = []
        self._file: io.FileIO | None = None

    def require_none(self) -> None:
        """Raises InputError where an earlier run has left rows, which a new one would take away."""
        if self.path.is_file():
            with _open(self.path, "r") as file:
                file.readline()
                count = sum(1 for _ in csv.reader(file))
            if count:
                raise InputError(
                    f"{self.path}: keeps {count:,} rows of a run that ended early; wanted "
                    "`resume=True`, which goes on from them, or the file deleted, to begin anew"
                )

    def rows(self) -> list[list[str]]:
        """The whole rows that an earlier run has left; one that was cut off is not among them. Of a
        run that came to its end those of its table.

        Raises:
            InputError: they were made with other settings, or of other images.
        """
        if self.path.is_file():
            about, kept = self._unfinished()
        elif self.is_made():
            about, kept = self._finished()
        else:
            return []
        for row in kept:
            name, path = row[0], row.pop()
            if self.paths.get(name) != path:
                now = self.paths.get(name, "not among the images")
                raise InputError(
                    f"{self.path}: {name} is of {path}, which now is {now}; wanted the same "
                    "images, or the file deleted, to begin anew"
                )
        self.engines = _counted(about.get("engines", UNKNOWN), len(kept))
        return kept

    def _unfinished(self) -> tuple[dict[str, Any], list[list[str]]]:
        """What the first line says, and the rows with their paths."""
        with _open(self.path, "r") as file:
            about = _settings(file.readline()) or {}
            found = {key: value for key, value in about.items() if key != "engines"}
            if found != self.settings:
                keys = sorted({*found, *self.settings})
                differ = [key for key in keys if found.get(key) != self.settings.get(key)]
                raise InputError(
                    f"{self.path}: was made with other settings ({', '.join(differ)}); wanted the "
                    "same command, or the file deleted, to begin anew"
                )
            rows = list(csv.reader(file))
        return about, rows if self.path.read_bytes()[-1:] == b"\n" else rows[:-1]

    @contextmanager
    def writing(self, kept: Sequence[Sequence[str]], engine: dict[str, Any]) -> Iterator[None]:
        """Begins the file anew, with the rows that are kept; `add` works inside. A file without
        any row does not stay where the block fails.

        Args:
            engine: what makes the rows that come.
        """
        others = [each for each in self.engines if each | engine != each]
        self.engines, self.count = [*others, engine], len(kept)
        about = json.dumps(self.settings | {"engines": self.engines})
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(f"{about}\n".encode() + self._as_csv(kept))
        try:
            # Not buffered: what cannot be written is told at once, and not again on closing.
            with open(self.path, "ab", buffering=0) as self._file:
                yield
        except BaseException:
            if not self.count:
                self.path.unlink(missing_ok=True)
            raise

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Raises InputError where they cannot be written; then the rows before stay alone."""
        assert self._file is not None
        before, content = self._file.tell(), memoryview(self._as_csv(rows))
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            with suppress(OSError):  # else a row that is cut off is left out when it is read
                self._file.truncate(before)
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.count += len(rows)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Makes the table of the rows and the JSON beside it, and takes the file away.

        Args:
            about: for the JSON, beside the settings, the engines and a digest of the images.
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
        found = {"images": digest, "engines": _counted(self.engines, self.count)}
        write_json(self.about_path, {**about, **self.settings, **found})
        self.path.unlink()

    def is_made(self) -> bool:
        """Whether the table that is there was made with these settings, by the JSON beside it."""
        try:
            text = self.about_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        found = _settings(text) or {}
        return self.output.is_file() and all(found.get(key) == value for key, value in self.settings.items())

    def _finished(self) -> tuple[dict[str, Any], list[list[str]]]:
        """What the JSON beside a table that is done says, and the rows, with their paths now, which
        must be those of then."""
        rows = list(self._rows_of_table())
        there = [row for row in rows if row[0] in self.paths]
        about = json.loads(self.about_path.read_text(encoding="utf-8"))
        if len(there) < len(rows) or about.get("images") != self._digest(row[0] for row in rows):
            raise InputError(
                f"{self.output}: was made of other images; wanted the same ones and more, or none of `resume=True`"
            )
        return about, [[*row, self.paths[row[0]]] for row in rows]

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
                ["" if cell is None else str(cell) for cell in column.to_numpy(zero_copy_only=False)]
                for column in batch.columns
            ]
            yield from map(list, zip(*columns, strict=True))

    def _as_csv(self, rows: Iterable[Sequence[object]]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            assert len(row) == len(self.header), (row, self.header)
            writer.writerow([*row, self.paths[str(row[0])]])
        return text.getvalue().encode("utf-8", "surrogateescape")

    def _write_parquet(self, path: Path) -> None:
        import pyarrow
        from pyarrow import csv as arrow_csv
        from pyarrow import parquet

        types = {name: _arrow_type(name) for name in self.header}
        try:
            batches = arrow_csv.open_csv(
                self.path,
                arrow_csv.ReadOptions(column_names=[*self.header, "path"], skip_rows=1),
                convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=self.header),
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


def require_utf8(what: str, names: Iterable[str]) -> None:
    """Raises InputError where something can hold no name that is not UTF-8, and there is one."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{what} cannot hold {os.fsencode(name)!r}, a name that is not UTF-8; wanted a .csv, or another name"
            ) from None


def _counted(engines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Each engine with its rows; those that the others have not made are of the last. Engines
    without any are left out."""
    known = sum(each.get("rows", 0) for each in engines)
    counted = [{"rows": count - known} | each for each in engines]
    return [each for each in counted if each["rows"]]


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
