"""Stop: end at a safe point after SIGTERM, which schedulers send before they kill a process."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM


class Stop:
    """Whether SIGTERM has come."""

    wanted = False


@contextlib.contextmanager
def watch_sigterm() -> Iterator[Stop]:
    """In the block, SIGTERM only sets `wanted`; outside the main thread this does nothing."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def want(number: int, frame: FrameType | None) -> None:
        stop.wanted = True

    before = signal.signal(signal.SIGTERM, want)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
