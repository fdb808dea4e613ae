"""Writing files whole or not at all, by one process at a time, and never over what is the user's."""

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

# What a killed process may leave; nothing else is ever taken for a leftover.
TEMPORARY = re.compile(r"\.melfast-[0-9a-f]{16}\.tmp")
LOCK, LEDGER = ".melfast.lock", ".melfast.json"
# Of file systems that have no locks (some network ones): the work goes on without.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}
_tidied: set[Path] = set()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    The data is on disk before the name is: after a crash either the old file or the new one is
    there, whole. When the block fails nothing is left behind. A link is followed.

    Raises:
        InputError: the folder is missing, or cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_file_name(path)
    with _temporary(path, os.path.realpath(path), folder=False) as temporary:
        yield temporary


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
    with _temporary(path, path, folder=True) as temporary:
        yield temporary


@contextmanager
def _temporary(path: Path, target: str | Path, *, folder: bool) -> Iterator[Path]:
    """The common part of the two; `path` is how the user calls `target`."""
    target = Path(target)
    # Random: in containers every process may have the same number, and machines share folders.
    temporary = target.with_name(f".melfast-{secrets.token_hex(8)}.tmp")
    descriptor = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target.parent)
        if folder:
            temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # held as long as it is no leftover
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
    """Removes a temporary file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # nothing can be left behind where nothing could be made
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Removes what killed processes have left in a folder; once a process, for it may be large."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not TEMPORARY.fullmatch(entry.name) or entry.is_symlink():
                continue
            descriptor = None
            with suppress(OSError):  # of another user, or in use: it stays
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A process locks what it has made at once, but not in the same moment.
                if time.time() - os.fstat(descriptor).st_mtime > 1:
                    remove_leftover(Path(entry.path))
            if descriptor is not None:
                os.close(descriptor)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON for people and programs, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(path: str | Path, *, beside: bool = False) -> Iterator[None]:
    """While the block runs, no other process (or thread) that asks for it writes to `path`.

    Args:
        path: a file, which may not be there yet, or a folder that is there. The lock is a file
            beside the one or in the other, which goes with it; a killed process holds it no longer.
        beside: the lock is beside a folder as well.
    Raises:
        InputError: another has it, or the folder cannot be written to.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    file = place / LOCK if place.is_dir() and not beside else place.with_name(f".{place.name[:200]}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path, file)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
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
            logger.warning("%s: the file system has no locks; no second process may write there", path)
            return descriptor
        with suppress(FileNotFoundError):  # else its holder has just ended, and taken it away
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """What the lock says; it may have been taken in this very moment."""
    for _ in range(20):
        if text := os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip():
            return text
        time.sleep(0.01)
    return "another process"


class OwnFolder:
    """A folder of files that one command of melfast makes; whatever else lies in it stays.

    It lists its files in .melfast.json: these alone are ever replaced or removed.
    """

    def __init__(self, path: Path, command: str, *, known: bool = False) -> None:
        """
        Args:
            known: it is the command's although nothing in it says so.
        Raises:
            InputError: it is a file, or holds something that the command did not write.
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
                raise InputError(f"{path}: holds what '{made_by}' wrote; expected a new or empty folder")
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
            The path of the last.
        Raises:
            InputError: one is there and not in the list.
        """
        for name in names:
            if name not in self.files and os.path.lexists(self.path / name):
                raise InputError(
                    f"{self.path / name}: is there already and '{self.command}' did not write it; "
                    "move it, or choose another folder"
                )
        if not (self.path / LEDGER).is_file() or not self.files.issuperset(names):
            self.files.update(names)
            self._write()
        return self.path / names[-1] if names else self.path

    def remove(self, names: Iterable[str]) -> None:
        """Removes listed files, which lie in the folder itself."""
        for name in self.files.intersection(names):
            if Path(name).name == name:
                (self.path / name).unlink(missing_ok=True)
        self.files.difference_update(names)
        self._write()

    def _write(self) -> None:
        write_json(self.path / LEDGER, {"command": self.command, "files": sorted(self.files)})


@contextmanager
def own_folder(path: Path, command: str, *, known: bool = False) -> Iterator[OwnFolder]:
    """Makes a folder, or opens one that the same command has made, for this process alone.

    One that is new and stays without files goes when the block ends.

    Raises:
        InputError: see OwnFolder; or another process writes to it.
    """
    OwnFolder(path, command, known=known)  # before anything is made
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with locked(path):
            yield OwnFolder(path, command, known=known)  # another may have filled it meanwhile
    finally:
        with suppress(OSError):
            if new and {entry.name for entry in path.iterdir()} <= {LEDGER}:
                (path / LEDGER).unlink(missing_ok=True)
                path.rmdir()


def require_own_table(path: Path, header: Iterable[str]) -> None:
    """Raises InputError where a table that a command writes unasked would replace another file."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb") as file:
        first = file.readline(4096).decode("utf-8", "replace").strip()
    if first != ",".join(header):
        raise InputError(f"{path}: is there already and is not melfast's; move it, or choose another output")


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
