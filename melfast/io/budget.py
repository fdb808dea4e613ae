"""MemoryBudget: limits the memory that the threads of a process use for decoding."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from melfast.io.errors import InputError

VARIABLE = "MELFAST_DECODE_MEMORY"
PART = 0.25  # of the available memory
LEAST, UNKNOWN = 256 << 20, 1 << 30  # bytes


class MemoryBudget:
    """Admits threads while their bytes fit in the limit; the others wait.

    Args:
        limit: bytes that all admitted threads may hold together. Default: MELFAST_DECODE_MEMORY, or a quarter of the
            memory available at first use, divided among the training processes of a machine. A thread that needs more
            than the limit runs alone.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._empty()
        os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        """Resets the count: a forked process has none of the threads of its parent."""
        self.taken, self.room, self._inside = 0, threading.Condition(), threading.local()

    @cached_property
    def limit(self) -> int:
        if self._limit is not None:
            return self._limit
        if VARIABLE in os.environ:
            return positive_bytes(VARIABLE)
        free = available_memory()
        processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
        share = PART / max(1, int(processes) if processes.isdecimal() else 1)
        return max(LEAST, int(free * share)) if free == free else UNKNOWN

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """A block that holds `count` bytes. A thread that is already inside one does not wait for itself."""
        count = min(count, self.limit)
        nested = getattr(self._inside, "depth", 0)
        with self.room:
            full = not nested and self.taken + count > self.limit
            if full:
                self.room.wait_for(lambda: self.taken + count <= self.limit)
            self.taken += count
        if full:
            _give_back()
        self._inside.depth = nested + 1
        try:
            yield
        finally:
            self._inside.depth = nested
            with self.room:
                self.taken -= count
                self.room.notify_all()


def _give_back() -> None:
    """Returns freed memory to the system, because glibc keeps it per thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


BUDGET = MemoryBudget()


def positive_bytes(variable: str) -> int:
    """A number of bytes from an environment variable.

    Raises:
        InputError: it is not a positive integer.
    """
    text = os.environ[variable]
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"{variable} must be a positive number of bytes, got {text!r}")
    return int(text)


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Available bytes; NaN if Linux does not report them.

    A container's inactive file cache (`inactive_file`) counts as available: it is freed when memory runs
    short, and it grows with every image read.
    """
    free = float("nan")
    with suppress(OSError):
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024.0
    with suppress(OSError, ValueError):  # no cgroup, or no limit: "max"
        limit = int((cgroup / "memory.max").read_text())
        held = int((cgroup / "memory.current").read_text()) - _inactive_file(cgroup / "memory.stat")
        free = min(free, limit - max(held, 0))
    return free


def _inactive_file(path: Path) -> int:
    """Bytes of inactive file cache; 0 if the container does not report them."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if line[:1] == ["inactive_file"]), 0)
