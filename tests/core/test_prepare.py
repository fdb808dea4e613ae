"""core.prepare gives the same result as its parts, one after the other."""

import numpy as np
import pytest

from melfast import core
from melfast.data.augment import IDENTITY

AFFINE = np.array([[0.9, -0.2, 0.05], [0.2, 0.95, -0.1]], np.float32)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def trimmed(image):
    """The outermost pixels replaced by those next to them."""
    rows, columns = (np.clip(np.arange(n), 1, n - 2) if n >= 3 else np.arange(n) for n in image.shape[:2])
    return image[rows][:, columns]


@pytest.mark.parametrize("affine", [IDENTITY, AFFINE], ids=["identity", "warped"])
@pytest.mark.parametrize("colour", ["rgb", "cielab"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize(
    ("in_size", "size"),
    [
        ((90, 120), (64, 64)),
        ((64, 64), (64, 64)),
        ((30, 40), (64, 48)),
        ((1, 1), (5, 3)),
        ((900, 70), (7, 7)),
        ((33, 21), (1, 1)),
        ((50, 50), (6, 130)),
    ],
)
def test_is_its_parts(in_size, size, dtype, colour, affine, guarded):
    image = random_image(*in_size)
    expected = np.empty((*size, 3), np.uint8)
    core.resize(image, expected)
    if affine is AFFINE:
        turned = np.empty_like(expected)
        core.warp_affine(trimmed(expected), affine, turned)
        expected = turned
    if dtype != np.uint8:
        values = np.empty(expected.shape, dtype)
        core.normalize(expected, values, colour, MEAN, STD)
        expected = values
    out = guarded((*size, 3), dtype, gap=size[1] % 4, shift=3)
    core.prepare(image, affine, out, colour, MEAN, STD)
    assert (out == expected).all()


def test_a_drawn_frame_is_not_repeated():
    """Where a warp reaches beyond the edge, it shows the colour of the picture."""
    image = np.full((30, 40, 3), 200, np.uint8)
    image[[0, -1]] = image[:, [0, -1]] = 10
    flipped = np.array([[-1, 0, 0], [0, 1, 0]], np.float32)
    shifted = np.array([[1, 0, 0.5], [0, 1, -0.5]], np.float32)
    out = np.empty_like(image)
    core.prepare(image, shifted, out, "rgb", MEAN, STD)
    assert (out == 200).all()
    for within in (IDENTITY, flipped):
        core.prepare(image, within, out, "rgb", MEAN, STD)
        assert (out == image).all()


def test_scratch_of_another_call_does_not_show():
    """Sizes that grow and shrink in one thread: reused memory still contains other images."""
    small, large = random_image(20, 30, 1), random_image(400, 500, 2)
    fresh = [np.empty((16, 16, 3), np.float32) for _ in range(2)]
    core.prepare(small, AFFINE, fresh[0], "cielab", MEAN, STD)
    core.prepare(large, AFFINE, np.empty((224, 224, 3), np.float16), "rgb", MEAN, STD)
    core.prepare(large[::40, ::60], IDENTITY, np.empty((9, 9, 3), np.uint8), "rgb", MEAN, STD)
    core.prepare(small, AFFINE, fresh[1], "cielab", MEAN, STD)
    assert (fresh[0] == fresh[1]).all()


def test_extent_by_hand():
    """One row out of 2.5: its centre is at 1.25, the triangle reaches 2.5 to either side. Weights
    0.7 and 0.9, and half of 0.5 for the row that is half outside; (90 + 50) / 1.85 = 75.7."""
    image = np.repeat(np.array([0, 100, 200], np.uint8), 3).reshape(3, 1, 3)
    out = np.empty((1, 1, 3), np.uint8)
    core.prepare(image, IDENTITY, out, "rgb", MEAN, STD, extent=(0, 0, 2.5, 1))
    assert out.ravel().tolist() == [76, 76, 76]
    core.prepare(image[::-1], IDENTITY, out, "rgb", MEAN, STD, extent=(0.5, 0, 3, 1))
    assert out.ravel().tolist() == [76, 76, 76]


def test_extent_of_whole_pixels_is_a_crop():
    image = random_image(40, 50)
    found, wanted = (np.empty((12, 16, 3), np.uint8) for _ in range(2))
    core.prepare(image, AFFINE, found, "rgb", MEAN, STD, extent=(3, 7, 38, 45))
    core.prepare(image[3:38, 7:45], AFFINE, wanted, "rgb", MEAN, STD)
    assert (found == wanted).all()


@pytest.mark.parametrize("extent", [(-0.1, 0, 5, 5), (0, 0, 5.1, 5), (2, 0, 2, 5), (0, 0, float("nan"), 5)])
def test_extent_that_is_none(extent):
    with pytest.raises(ValueError, match=r"^extent must be y0, x0, y1, x1 within 5 x 6, got "):
        core.prepare(random_image(5, 6), IDENTITY, np.empty((4, 4, 3), np.uint8), "rgb", MEAN, STD, extent=extent)
