"""Quiet: what other processes take of the cores meanwhile, and waiting until it is little."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

MOST = 0.10  # of one core, by all others
LOOK, PATIENCE, TRIES = 0.25, 6.0, 3  # seconds, seconds, runs


def busy_seconds() -> float:
    """Core-seconds that all processes have used since the machine started."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(user) + int(nice) + int(system)) / ticks


def own_seconds() -> float:
    """Core-seconds of this process and those that it has started."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def others_seconds() -> float:
    return busy_seconds() - own_seconds()


@dataclass
class Patience:
    """Runs something when the machine is quiet, and again where it did not stay so.

    Runs are judged by what others did in them, never by how long they took.
    """

    disturbed: int = 0  # runs that were kept although others were at work

    def timed(self, run: Callable[[], int]) -> tuple[int, float]:
        """What `run` returns, and the seconds that it took."""
        for attempt in range(TRIES):
            self.wait()
            others, begin = others_seconds(), time.perf_counter()
            items = run()
            seconds = time.perf_counter() - begin
            # Ticks are 10 ms: of a short run one more or less says nothing.
            quiet = others_seconds() - others <= MOST * seconds + 0.02
            if quiet:
                break
            self.disturbed += attempt == TRIES - 1
        return items, seconds

    def wait(self) -> None:
        """Until others take little of the cores; not for ever."""
        end = time.perf_counter() + PATIENCE
        while time.perf_counter() < end:
            before = others_seconds()
            time.sleep(LOOK)
            if others_seconds() - before <= MOST * LOOK:
                return
