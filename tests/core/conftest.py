"""Fixtures of the tests of the core."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

GUARD = 0xA5
MARGIN = 256  # bytes on either side, more than any vector register


@pytest.fixture
def guarded() -> Iterator[Callable[..., NDArray]]:
    """Makes arrays to write to; the test fails when a byte around them or between rows has changed.

    make(shape, dtype, gap=0, shift=0): [H, W, 3], `gap` elements between rows, starting `shift`
    elements past an aligned address.
    """
    made = []

    def make(shape, dtype=np.uint8, gap=0, shift=0):
        height, width, channels = shape
        item = np.dtype(dtype).itemsize
        row = width * channels * item
        stride = row + gap * item
        memory = np.full(2 * MARGIN + height * stride + 64 + shift * item, GUARD, np.uint8)
        start = MARGIN + (-memory.ctypes.data) % 64 + shift * item
        inside = np.zeros(memory.size, bool)
        np.lib.stride_tricks.as_strided(inside[start:], (height, row), (stride, 1))[:] = True
        made.append((memory, inside))
        strides = (stride, channels * item, item)
        return np.ndarray(shape, dtype, memory, start, strides)

    yield make
    for memory, inside in made:
        assert (memory[~inside] == GUARD).all(), "something was written outside of `out`"
