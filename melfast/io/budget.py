"""PixelBudget: how many pixels the threads of a process may hold decoded at a time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Lets threads in while their pixels fit; who would not fit waits for those inside.

    Args:
        pixels: that all inside may hold together. More than all of them is held by one alone.
        free: an image of at most so many pixels never waits and does not count.
    """

    def __init__(self, pixels: int, *, free: int) -> None:
        self.pixels, self.free = pixels, free
        self._empty()
        os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        """Nobody is inside; in a forked process that is so whoever was inside of it before."""
        self.taken, self.room = 0, threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """A block in which `pixels` are held. A thread inside may not ask for another block."""
        if pixels <= self.free:
            yield
            return
        pixels = min(pixels, self.pixels)
        with self.room:
            self.room.wait_for(lambda: self.taken + pixels <= self.pixels)
            self.taken += pixels
        try:
            yield
        finally:
            with self.room:
                self.taken -= pixels
                self.room.notify_all()
