"""The bindings: which arguments they accept and refuse, and that they release the GIL."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from melfast import core

IMAGE = np.zeros((4, 5, 3), np.uint8)
OUT = np.zeros((4, 5, 3), np.uint8)
FLOATS = np.zeros((4, 5, 3), np.float32)
EYE = np.eye(2, 3, dtype=np.float32)
RGB = ("rgb", (0, 0, 0), (1, 1, 1))
READ_ONLY = OUT.copy()
READ_ONLY.flags.writeable = False
UNALIGNED = np.zeros(4 * 5 * 3 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 5, 3)
VAST = np.broadcast_to(np.uint8(0), (1, 2**24 + 1, 3))

BAD_CALLS = [
    (core.resize, (IMAGE.tolist(), OUT), TypeError, "image must be a numpy array, got list"),
    (core.resize, (IMAGE, None), TypeError, "out must be a numpy array, got NoneType"),
    (core.resize, (FLOATS, OUT), TypeError, "image must be uint8, got float32"),
    (core.resize, (IMAGE > 0, OUT), TypeError, "image must be uint8, got bool"),
    (core.resize, (IMAGE.view(np.int8), OUT), TypeError, "image must be uint8, got int8"),
    (core.resize, (IMAGE, FLOATS), TypeError, "out must be uint8, got float32"),
    (core.resize, (IMAGE[..., 0], OUT), ValueError, "image must have shape (height, width, 3), got (4, 5)"),
    (core.resize, (IMAGE, OUT[None]), ValueError, "out must have shape (height, width, 3), got (1, 4, 5, 3)"),
    (core.resize, (np.zeros((4, 5, 4), np.uint8), OUT), ValueError, "image must have 3 channels, got 4"),
    (core.resize, (IMAGE, OUT[..., :1]), ValueError, "out must have 3 channels, got 1"),
    (core.resize, (IMAGE[:0], OUT), ValueError, "image has no pixels: its shape is (0, 5, 3)"),
    (core.resize, (IMAGE, OUT[:, :0]), ValueError, "out has no pixels: its shape is (4, 0, 3)"),
    (core.resize, (VAST, OUT), ValueError, "image must have sides of at most 16777216 pixels, got 16777217"),
    (
        core.resize,
        (np.broadcast_to(np.uint8(0), (4, 5, 3)), OUT),
        ValueError,
        "image must have adjacent channels (stride 1), got a channel stride of 0",
    ),
    (
        core.resize,
        (np.lib.stride_tricks.as_strided(IMAGE, (2**16, 2**15, 3), (0, 0, 1)), OUT),
        ValueError,
        "image must have at most 2147483647 pixels, got 65536 x 32768",
    ),
    (
        core.resize,
        (IMAGE[..., ::-1], OUT),
        ValueError,
        "image must have adjacent channels (stride 1), got a channel stride of -1",
    ),
    (core.resize, (IMAGE, READ_ONLY), ValueError, "out is read-only"),
    (
        core.resize,
        (IMAGE, np.zeros((4, 9, 3), np.uint8)[:, ::2]),
        ValueError,
        "out must have contiguous rows: expected strides (any, 3, 1), got (27, 6, 1)",
    ),
    (
        core.resize,
        (IMAGE, np.lib.stride_tricks.as_strided(OUT, (4, 5, 3), (0, 3, 1))),
        ValueError,
        "out has rows that overlap: each takes 15 bytes, its stride is 0",
    ),
    (core.resize, (OUT, OUT), ValueError, "out and image share memory; expected separate arrays"),
    (core.resize, (OUT[::-1, ::-1], OUT[:1]), ValueError, "out and image share memory; expected separate arrays"),
    (
        core.warp_affine,
        (IMAGE, EYE, OUT[:3]),
        ValueError,
        "out is 3 x 5, image is 4 x 5 (height x width); expected the same",
    ),
    (core.warp_affine, (IMAGE, np.eye(3), OUT), ValueError, "affine must have shape (2, 3), got (3, 3)"),
    (core.warp_affine, (IMAGE, "turn", OUT), TypeError, "affine must be an array of numbers, got str"),
    (
        core.warp_affine,
        (IMAGE, [[1, 0, float("nan")], [0, 1, 0]], OUT),
        ValueError,
        "affine must be finite, got [[1, 0, nan], [0, 1, 0]]",
    ),
    (core.srgb_to_lab, (FLOATS,), TypeError, "image must be uint8, got float32"),
    (core.srgb_to_lab, (IMAGE[..., :2],), ValueError, "image must have shape (..., 3), got (4, 5, 2)"),
    (core.normalize, (IMAGE, OUT, *RGB), TypeError, "out must be float32 or float16, got uint8"),
    (core.normalize, (IMAGE, FLOATS.astype(">f4"), *RGB), TypeError, "out must be float32 or float16, got >f4"),
    (
        core.normalize,
        (IMAGE, FLOATS[:, :4], *RGB),
        ValueError,
        "out is 4 x 4, image is 4 x 5 (height x width); expected the same",
    ),
    (core.normalize, (IMAGE, UNALIGNED, *RGB), ValueError, "out must be aligned to its 4-byte elements"),
    (
        core.normalize,
        (IMAGE, FLOATS, "lab", (0, 0, 0), (1, 1, 1)),
        ValueError,
        "colour must be 'rgb' or 'cielab', got 'lab'",
    ),
    (core.normalize, (IMAGE, FLOATS, "rgb", (0, 0), (1, 1, 1)), ValueError, "mean must be 3 numbers, got (0, 0)"),
    (core.normalize, (IMAGE, FLOATS, "rgb", "grey", (1, 1, 1)), TypeError, "mean must be 3 numbers, got 'grey'"),
    (
        core.normalize,
        (IMAGE, FLOATS, "rgb", (0, 0, float("inf")), (1, 1, 1)),
        ValueError,
        "mean must be finite, got (0, 0, inf)",
    ),
    (
        core.normalize,
        (IMAGE, FLOATS, "rgb", (0, 0, 0), (1, 0, 1)),
        ValueError,
        "std must be > 0 in each channel, got (1, 0, 1)",
    ),
    (
        core.prepare,
        (IMAGE, EYE, FLOATS.astype(np.float64), *RGB),
        TypeError,
        "out must be float32, float16 or uint8, got float64",
    ),
    (
        core.prepare,
        (IMAGE, EYE, OUT, "rgb", (0, 0, 0), (0, 0, 0)),
        ValueError,
        "std must be > 0 in each channel, got (0, 0, 0)",
    ),
]


@pytest.mark.parametrize(("function", "arguments", "error", "message"), BAD_CALLS)
def test_refuses(function, arguments, error, message):
    with pytest.raises(error) as caught:
        function(*arguments)
    assert str(caught.value) == message
    assert type(caught.value) is error


def test_refuses_memory_that_overlaps_in_part():
    memory = np.zeros((30, 8, 3), np.uint8)
    for out in (memory[15:25], memory[5:12], memory[12:14], memory[19:20], memory[::-1][14:18]):
        for image in (memory[10:20], memory[10:20][::-1], memory[10:20, ::-1]):
            with pytest.raises(ValueError, match="share memory"):
                core.resize(image, out)
    core.resize(memory[10:20], memory[:10])
    core.resize(memory[10:20], memory[20:])


def test_keywords():
    core.prepare(image=IMAGE, affine=EYE, out=FLOATS, colour="rgb", mean=[0, 0, 0], std=np.ones(3))


def test_float64_and_strided_affines():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    affine = np.array([[0.5, 0.25, 0], [0, 1, 0.5]], np.float32)
    expected, out = np.empty_like(image), np.empty_like(image)
    core.warp_affine(image, affine, expected)
    for same in (affine.astype(np.float64), affine.tolist(), np.asfortranarray(affine)):
        core.warp_affine(image, same, out)
        assert (out == expected).all()


def test_threads_agree():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in rng.integers(1, 300, (64, 2))]
    affine = np.array([[0.9, -0.2, 0.05], [0.2, 0.95, -0.1]], np.float32)

    def prepare(image):
        out = np.empty((65, 63, 3), np.float16)
        core.prepare(image, affine, out, "cielab", (50, 0, 0), (20, 10, 10))
        return out

    alone = [prepare(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            for result, expected in zip(pool.map(prepare, images), alone, strict=True):
                assert (result == expected).all()


@pytest.fixture
def no_switching() -> Iterator[None]:
    """Disables thread switching: another thread runs only when the GIL is released."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("no_switching")
@pytest.mark.parametrize("name", ["resize", "warp_affine", "srgb_to_lab", "normalize", "prepare"])
def test_other_threads_run_meanwhile(name):
    image = np.zeros((1000, 2000, 3), np.uint8)
    u8, f32 = np.empty((1000, 2000, 3), np.uint8), np.empty((1000, 2000, 3), np.float32)
    turn = [[0.9, 0.1, 0], [-0.1, 0.9, 0]]
    calls = {
        "resize": lambda: core.resize(image, u8[1:, 1:-1]),
        "warp_affine": lambda: core.warp_affine(image, turn, u8),
        "srgb_to_lab": lambda: core.srgb_to_lab(image),
        "normalize": lambda: core.normalize(image, f32, "cielab", (0, 0, 0), (1, 1, 1)),
        "prepare": lambda: core.prepare(image, turn, f32, *RGB),
    }
    # A busy machine may not wake this thread in time, but not every time.
    assert any(runs_during(calls[name]) for _ in range(50))


def runs_during(call: Callable[[], object]) -> bool:
    """Whether this thread can run while another one is inside `call`."""
    inside = False

    def work() -> None:
        nonlocal inside
        inside = True
        call()
        inside = False

    worker = threading.Thread(target=work)
    worker.start()  # returns when this thread first runs
    seen = inside
    worker.join()
    return seen
