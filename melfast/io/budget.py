"""MemoryBudget: how much memory the threads of a process may hold for decoding at a time."""

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
    """Lets threads in while their bytes fit; who would not fit waits for those inside.

    Args:
        limit: bytes that all inside may hold together, by default MELFAST_DECODE_MEMORY, or a quarter of the memory
            that is available at first use, shared by the processes of a machine that train together. More than that is
            held by one alone.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._empty()
        os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        """Nobody is inside; in a forked process that is so whoever was inside of it before."""
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
        """A block in which `count` bytes are held. A thread that is inside already does not wait for itself."""
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
    """Returns freed memory to the system: glibc keeps it, for each thread its own."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


BUDGET = MemoryBudget()


def positive_bytes(variable: str) -> int:
    """A count of bytes in an environment variable.

    Raises:
        InputError: it is none.
    """
    text = os.environ[variable]
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"{variable} must be a positive number of bytes, got {text!r}")
    return int(text)


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that can be had; NaN where Linux does not say.

    Of what a container holds, the file cache that has not been used of late (`inactive_file`) is
    given back when memory runs short, and it grows with every image read.
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
    """Bytes; 0 where the container does not say."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if line[:1] == ["inactive_file"]), 0)
