"""Write files atomically, by one process at a time, without overwriting files of the user."""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from melfast.io.errors import InputError
from melfast.io.log import logger

# Names that a killed process may leave behind; nothing else counts as a leftover.
TEMPORARY = re.compile(r"\.melfast-[0-9a-f]{16}\.tmp")
LOCK, LEDGER = ".melfast.lock", ".melfast.json"
# Errors of file systems without locks (some network ones); the work continues without them.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}
_tidied: set[Path] = set()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it when the block succeeds.

    The data is on disk before the file is renamed, so after a crash either the old or the new file is
    there, complete. If the block fails nothing is left behind. Links are followed.

    Raises:
        InputError: the folder is missing, or cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_file_name(path)
    with _temporary(path, os.path.realpath(path), folder=False) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that is renamed to it when the block succeeds.

    If the block fails nothing is left behind.

    Raises:
        InputError: `path` already exists (other than as an empty folder), or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: already exists, expected the name of a new folder")
    with _temporary(path, path, folder=True) as temporary:
        yield temporary


@contextmanager
def _temporary(path: Path, target: str | Path, *, folder: bool) -> Iterator[Path]:
    """The common part of both; `path` is the user's name of `target`."""
    target = Path(target)
    # Random, because processes in containers may have equal ids, and machines share folders.
    temporary = target.with_name(f".melfast-{secrets.token_hex(8)}.tmp")
    descriptor = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target.parent)
        if folder:
            temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # held while it is in use
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        for entry in (*(temporary.rglob("*") if folder else ()), temporary):
            sync(entry)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as error:
        ours = (None, *map(str, (temporary, path, target, target.parent)))
        if error.filename not in ours and not str(error.filename).startswith(f"{temporary}/"):
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
        remove_leftover(temporary)


def remove_leftover(path: Path) -> None:
    """Removes a temporary file or folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # nothing can be left behind if nothing could be created
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Removes leftovers of killed processes from a folder; once per process, as it may be large."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not TEMPORARY.fullmatch(entry.name) or entry.is_symlink():
                continue
            descriptor = None
            with suppress(OSError):  # belongs to another user, or is in use: kept
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A process locks what it creates immediately afterwards, but not in the same instant.
                if time.time() - os.fstat(descriptor).st_mtime > 1:
                    remove_leftover(Path(entry.path))
            if descriptor is not None:
                os.close(descriptor)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes indented JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(path: str | Path, *, beside: bool = False) -> Iterator[None]:
    """Locks `path` for this process and thread while the block runs.

    Args:
        path: a file, which may not exist yet, or an existing folder. The lock is a file next to the file
            or in the folder, removed at the end; a killed process releases it.
        beside: put the lock beside a folder, too.
    Raises:
        InputError: another process holds the lock, or the folder is not writable.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    file = place / LOCK if place.is_dir() and not beside else place.with_name(f".{place.name[:200]}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        try:
            _sign(descriptor)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _lock(path: Path, file: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InputError(
                f"{path}: is being written by {holder}; wait until it has ended, or choose another output"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            logger.warning("%s: the file system has no locks; make sure that no second process writes there", path)
            return descriptor
        with suppress(FileNotFoundError):  # otherwise its holder has just ended and removed it
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    """The text in the lock file, which may be empty if it was taken just now."""
    for _ in range(20):
        if text := os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip():
            return text
        time.sleep(0.01)
    return "another process"


class OwnFolder:
    """A folder of files that one command of melfast writes; other files in it are kept.

    .melfast.json lists its files; only these are ever replaced or removed.
    """

    def __init__(self, path: Path, command: str, *, known: bool = False) -> None:
        """
        Args:
            known: the folder belongs to the command although no list says so.
        Raises:
            InputError: it is a file, or contains something that the command did not write.
        """
        self.path, self.command = path, command
        self.files: set[str] = set()
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file, expected a folder")
        if (path / LEDGER).is_file():
            try:
                found = json.loads((path / LEDGER).read_text(encoding="utf-8"))
                made_by, self.files = found["command"], set(map(str, found["files"]))
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path / LEDGER}: is broken; expected a new or empty folder") from None
            if made_by != command:
                raise InputError(f"{path}: holds the output of '{made_by}'; expected a new or empty folder")
        elif path.is_dir() and not known:
            others = sorted(e.name for e in path.iterdir() if e.name != LOCK and not TEMPORARY.fullmatch(e.name))
            if others:
                raise InputError(
                    f"{path}: holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}, which '{command}' "
                    "did not write; expected a new or empty folder"
                )

    def claim(self, *names: str) -> Path:
        """Lists files before they are written.

        Returns:
            The path of the last file.
        Raises:
            InputError: a file exists that is not in the list.
        """
        for name in names:
            if name not in self.files and os.path.lexists(self.path / name):
                raise InputError(
                    f"{self.path / name}: already exists and '{self.command}' did not write it; "
                    "move it, or choose another folder"
                )
        if not (self.path / LEDGER).is_file() or not self.files.issuperset(names):
            self.files.update(names)
            self._write()
        return self.path / names[-1] if names else self.path

    def remove(self, names: Iterable[str]) -> None:
        """Removes listed files in the folder."""
        for name in self.files.intersection(names):
            if Path(name).name == name:
                (self.path / name).unlink(missing_ok=True)
        self.files.difference_update(names)
        self._write()

    def _write(self) -> None:
        write_json(self.path / LEDGER, {"command": self.command, "files": sorted(self.files)})


@contextmanager
def own_folder(path: Path, command: str, *, known: bool = False) -> Iterator[OwnFolder]:
    """Creates a folder, or opens one that the same command created, and locks it for this process.

    A new folder that stays empty is removed when the block ends.

    Raises:
        InputError: see OwnFolder; or another process writes to it.
    """
    OwnFolder(path, command, known=known)  # before anything is created
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with locked(path):
            yield OwnFolder(path, command, known=known)  # another process may have filled it meanwhile
    finally:
        with suppress(OSError):
            if new and {entry.name for entry in path.iterdir()} <= {LEDGER}:
                (path / LEDGER).unlink(missing_ok=True)
                path.rmdir()


def require_own_table(path: Path, header: Iterable[str]) -> None:
    """Raises InputError if a table that was not requested by name would replace another file."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb") as file:
        first = file.readline(4096).decode("utf-8", "replace").strip()
    if first != ",".join(header):
        raise InputError(f"{path}: already exists and was not written by melfast; move it, or choose another output")


def require_writable(path: Path) -> None:
    """Checks that a file can be written, before the work that produces it.

    Raises:
        InputError: it cannot be written.
    """
    with suppress(_NothingYetError), atomic_path(path):
        raise _NothingYetError


def require_new(files: Iterable[Path]) -> None:
    """Raises InputError if a command would replace an existing file."""
    for file in files:
        if file.exists():
            raise InputError(f"{file}: already exists; `force=True` replaces it")


def require_other(output: Path, read: Path) -> None:
    """Raises InputError if a table with fewer rows would replace its own source."""
    if output.exists() and read.exists() and output.samefile(read):
        raise InputError(f"{output}: is the input, and would be replaced; expected another `output`")


class _NothingYetError(Exception):
    """Aborts writing a file without creating it."""


def _require_file_name(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file name to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file, expected a file name to write")
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: {path.parent} is a file")


def sync(path: Path) -> None:
    """Flushes the data of a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
