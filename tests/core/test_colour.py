"""core.srgb_to_lab and core.normalize against scikit-image and NumPy in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from melfast import core
from melfast.preprocess import LAB_MEAN, LAB_STD, RGB_MEAN, RGB_STD


def random_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_lab_by_hand():
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8)
    # Published values of the sRGB primaries, two decimals.
    expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(core.srgb_to_lab(colours), expected, atol=0.01)


def test_lab_of_every_colour():
    level = np.arange(256, dtype=np.uint8)
    largest = np.zeros(3)
    for red in range(0, 256, 16):
        grid = np.meshgrid(level[red : red + 16], level, level, indexing="ij")
        rgb = np.stack(grid, axis=-1).reshape(256, -1, 3)
        difference = np.abs(core.srgb_to_lab(rgb) - rgb2lab(rgb))
        largest = np.maximum(largest, difference.max(axis=(0, 1)))
    assert (largest < 0.001).all(), f"largest differences in L, a, b: {largest}"


def test_greys_are_neutral():
    lab = core.srgb_to_lab(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    assert np.abs(lab[:, 1:]).max() < 0.01
    assert (np.diff(lab[:, 0]) > 0).all()


@pytest.mark.parametrize("count", [*range(140), 191, 192, 193, 1000])
def test_lab_of_every_length(count):
    rgb = random_image(1, count + 1, count)[0, 1:]
    lab = core.srgb_to_lab(rgb)
    assert lab.shape == (count, 3)
    assert lab.dtype == np.float32
    np.testing.assert_allclose(lab, rgb2lab(rgb), atol=0.001)


def test_lab_keeps_the_shape():
    rgb = random_image(24, 5).reshape(2, 3, 4, 5, 3)
    assert core.srgb_to_lab(rgb).shape == rgb.shape
    assert core.srgb_to_lab(rgb[0, 0, 0, 0]).shape == (3,)
    view = rgb[::-1, :, ::2, ..., ::-1]
    assert (core.srgb_to_lab(view) == core.srgb_to_lab(view.copy())).all()


def normalized(image, dtype, colour="rgb", mean=RGB_MEAN, std=RGB_STD):
    out = np.empty(image.shape, dtype)
    core.normalize(image, out, colour, mean, std)
    return out


def test_normalize_by_hand():
    image = np.array([[[0, 255, 51]]], np.uint8)
    out = normalized(image, np.float32, mean=(0.5, 0.5, 0), std=(0.5, 0.25, 0.1))
    np.testing.assert_allclose(out, [[[-1, 2, 2]]], atol=1e-6)


def test_normalize_rgb_of_every_level():
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    exact = (image / 255 - np.array(RGB_MEAN)) / np.array(RGB_STD)
    np.testing.assert_allclose(normalized(image, np.float32), exact, atol=1e-6)
    np.testing.assert_allclose(normalized(image, np.float16), exact, atol=1.5e-3)


def test_normalize_lab():
    image = random_image(33, 71)
    exact = (rgb2lab(image) - np.array(LAB_MEAN)) / np.array(LAB_STD)
    out = normalized(image, np.float32, "cielab", LAB_MEAN, LAB_STD)
    np.testing.assert_allclose(out, exact, atol=1e-4)


@pytest.mark.parametrize("colour", ["rgb", "cielab"])
@pytest.mark.parametrize(
    ("mean", "std"),
    [(RGB_MEAN, RGB_STD), (LAB_MEAN, LAB_STD), ((0.1, 0.2, 0.3), (2e4, 1e5, 3e6)),
     ((0.5, 0.5, 0.5), (1e-5, 2e-6, 1e-4)), ((1e9, -1e9, 0), (1, 1, 1e12))],
)  # fmt: skip
def test_half_precision_rounds_as_numpy_does(colour, mean, std):
    """Normal and subnormal numbers, underflow and overflow: the same 16 bits."""
    image = random_image(64, 67)
    with np.errstate(over="ignore"):
        expected = normalized(image, np.float32, colour, mean, std).astype(np.float16)
    half = normalized(image, np.float16, colour, mean, std)
    assert (half.view(np.uint16) == expected.view(np.uint16)).all()


@pytest.mark.parametrize("width", [1, 16], ids=["tail", "vector"])
def test_half_precision_of_every_kind_of_number(width):
    """The ends of the ranges, ties and their neighbours, and random bits, by way of the mean."""
    corners = [0, 2.0**-25, 2.0**-24, 2.0**-14, 2049 / 2048, 65504, 65520, 65536, 3e38, 1e-40]
    corners = np.array(corners, np.float32)
    halves = np.arange(0, 0x7C00, 7, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    bits = np.random.default_rng(0).integers(0, 0x7F800000, 3000, dtype=np.uint32)
    values = np.concatenate([corners, ties, bits.view(np.float32)])
    values = np.concatenate([values, np.nextafter(values, np.float32(1)), -values])
    black, out = np.zeros((1, width, 3), np.uint8), np.empty((1, width, 3), np.float16)
    with np.errstate(over="ignore"):
        expected = np.resize(values, (-(-len(values) // 3), 3)).astype(np.float16)
    for three, half in zip(np.resize(values, expected.shape), expected, strict=True):
        core.normalize(black, out, "rgb", -three, (1, 1, 1))
        assert (out == half).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("colour", ["rgb", "cielab"])
@pytest.mark.parametrize("width", [*range(1, 40), 63, 64, 65, 127, 128, 129])
def test_every_tail(width, colour, dtype, guarded):
    image = random_image(3, width, width)
    out = guarded(image.shape, dtype, gap=width % 3, shift=width % 7)
    core.normalize(image, out, colour, (0.1, 0.2, 0.3), (0.5, 1, 2))
    values = image / 255 if colour == "rgb" else rgb2lab(image)
    exact = (values - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 1, 2])
    np.testing.assert_allclose(out, exact, atol=2e-3, rtol=1e-3 if dtype == np.float16 else 1e-6)


def test_one_image_of_a_batch():
    image = random_image(20, 30)
    batch = np.full((3, 20, 30, 3), 7, np.float16)
    core.normalize(image, batch[1], "rgb", RGB_MEAN, RGB_STD)
    assert (batch[1] == normalized(image, np.float16)).all()
    assert (batch[[0, 2]] == 7).all()


def test_normalize_takes_any_strides():
    memory = random_image(40, 60)
    for view in (memory[3:20, 5:50], memory[::-1], memory[:, ::-2], memory.transpose(1, 0, 2)):
        for colour in ("rgb", "cielab"):
            expected = normalized(np.ascontiguousarray(view), np.float32, colour)
            assert (normalized(view, np.float32, colour) == expected).all()
