"""Journal: stores the results of long work as they come, so that a stopped command can resume.

A text file with one JSON value per line. The first line holds the settings; results made with other
settings are refused. An incomplete last line, left by a killed process, is ignored.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from melfast.io.errors import InputError
from melfast.io.files import atomic_path


class Journal:
    """Entries in a file next to the later output; `locked` keeps a second process away.

    Attributes:
        path: path of the file.
        settings: settings of the entries, as read back from JSON.
        count: number of entries written so far, inside `writing`.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # tuples come back as lists
        self.count = 0
        self._file: int | None = None

    @classmethod
    def beside(cls, output: Path, command: str, settings: dict[str, Any]) -> "Journal":
        """The journal of the command that writes `output`, with this version of melfast."""
        path = output.with_name(f"{output.name}.{command}.partial")
        return cls(path, {"version": version("melfast")} | settings)

    def is_started(self) -> bool:
        """Whether work with these settings was interrupted, even before its first entry."""
        with suppress(InputError):
            return self._about().get("settings") == self.settings
        return False

    def read(self) -> tuple[dict[str, Any], list[Any]]:
        """The content of the first line besides the settings, and the entries; ({}, []) without a file.

        Raises:
            InputError: the entries were made with other settings, or the file is not a journal.
        """
        about, entries = self._about(), list(self.entries())
        found = about.pop("settings", {})
        if found != self.settings and entries:
            differ = sorted(key for key in {*found, *self.settings} if found.get(key) != self.settings.get(key))
            raise InputError(
                f"{self.path}: keeps {len(entries):,} results made with other settings ({', '.join(differ)}); "
                "expected the same command; to start over, delete the file"
            )
        return about, entries

    def entries(self) -> Iterator[Any]:
        """Yields the entries, whatever their settings."""
        for line in islice(whole_lines(self.path), 1, None):
            try:
                entry = json.loads(line)
            except ValueError:
                return  # not written to disk before the machine went down
            yield entry

    def _about(self) -> dict[str, Any]:
        """The first line; {} if the file is missing or empty."""
        if not self.path.is_file() or self.path.stat().st_size == 0:
            return {}
        with suppress(ValueError, KeyError, TypeError):
            about: dict[str, Any] = json.loads(next(whole_lines(self.path), ""))
            if isinstance(about["settings"], dict):
                return about
        raise InputError(
            f"{self.path}: is not a journal of melfast and would be replaced; move it, or choose another output"
        )

    @contextmanager
    def writing(self, kept: Sequence[Any] = (), **about: Any) -> Iterator[None]:
        """Rewrites the file with the entries to keep; call `add` inside the block.

        Args:
            about: content of the first line besides the settings.
        """
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(_lines([{"settings": self.settings, **about}, *kept]))
        self.count = len(kept)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            yield
        finally:
            os.close(self._file)
            self._file = None

    def add(self, entries: Sequence[Any]) -> None:
        """Appends entries; raises InputError if they cannot be written, and keeps the earlier ones."""
        assert self._file is not None
        before, content = os.fstat(self._file).st_size, memoryview(_lines(entries))
        try:
            while content:
                content = content[_write(self._file, content) :]
        except OSError as error:
            with suppress(OSError):  # otherwise the incomplete line is ignored when read
                os.ftruncate(self._file, before)
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.count += len(entries)

    def remove(self) -> None:
        """Removes the file; call it once the output contains the entries."""
        self.path.unlink(missing_ok=True)


def whole_lines(path: Path) -> Iterator[str]:
    """The complete lines of a text file, if it exists; a killed process may leave an incomplete last one."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        yield from (line.decode("utf-8", "replace") for line in file if line.endswith(b"\n"))


def _write(descriptor: int, content: memoryview) -> int:
    return os.write(descriptor, content)


def _lines(entries: Iterable[Any]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
