"""Writing files whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from melfast.io.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    The data is on disk before the name is: after a crash either the old file or the new one is
    there, whole. When the block fails nothing is left behind.

    Raises:
        InputError: the folder is missing, or cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_file_name(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(path), str(path.parent)):
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # nothing can be left behind where nothing could be made
            temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON for people and programs, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its name when the block ends well.

    When the block fails nothing is left behind.

    Raises:
        InputError: something is at `path` already (an empty folder may be), or it cannot be
            written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: is there already, wanted the name of a new folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            sync(entry)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Tries whether a file can be written, before the work that ends in writing it.

    Raises:
        InputError: it cannot.
    """
    with suppress(_NothingYetError), atomic_path(path):
        raise _NothingYetError


def require_new(files: Iterable[Path]) -> None:
    """Raises InputError where a file stands that a command would replace."""
    for file in files:
        if file.exists():
            raise InputError(f"{file}: is there already; `force=True` replaces it")


def require_other(output: Path, read: Path) -> None:
    """Raises InputError where a table of fewer rows would replace what it is made of."""
    if output.exists() and read.exists() and output.samefile(read):
        raise InputError(f"{output}: is what is read, and would be replaced; wanted another `output`")


class _NothingYetError(Exception):
    """Ends the making of a file without making it."""


def _require_file_name(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, wanted a file name to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a device or the like, wanted a file name to write")
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: {path.parent} is a file")


def sync(path: Path) -> None:
    """Flushes a file's data, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
