"""core.resize against hand-worked numbers, a float64 reference and Pillow."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from melfast import core


def triangle_weights(in_size: int, out_size: int) -> NDArray[np.float64]:
    """[out_size, in_size], straight from the definition."""
    scale = in_size / out_size
    centre = (np.arange(out_size)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(in_size) + 0.5 - centre) / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def reference(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """The exact value of each output pixel, not rounded."""
    down = triangle_weights(image.shape[0], height)
    across = triangle_weights(image.shape[1], width)
    return np.einsum("hy,yxc,wx->hwc", down, image.astype(np.float64), across, optimize=True)


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    out = np.empty((height, width, 3), np.uint8)
    core.resize(image, out)
    return out


def random_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row_of(*levels: int) -> NDArray[np.uint8]:
    return np.repeat(np.array(levels, np.uint8), 3).reshape(1, -1, 3)


def test_halving_by_hand():
    # Centre 1, support 2: weights 3/4, 3/4, 1/4 over their sum, then mirrored.
    assert resized(row_of(0, 70, 140, 210), 1, 2)[0, :, 0].tolist() == [50, 160]
    tall = np.ascontiguousarray(row_of(0, 70, 140, 210).transpose(1, 0, 2))
    assert resized(tall, 2, 1)[:, 0, 0].tolist() == [50, 160]


def test_doubling_by_hand():
    # Output centres lie at -1/4, 1/4, 3/4 and 5/4 of the way between the two pixels.
    assert resized(row_of(0, 100), 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("seed", range(8))
def test_extent_is_the_part_that_is_stretched(seed: int) -> None:
    """In float64: the triangle about each centre within the part, a pixel weighing as much as lies
    in it."""
    rng = np.random.default_rng(seed)
    image = random_image(*rng.integers(5, 30, 2), seed)
    top, left = rng.integers(0, 8, 2) / 8
    bottom, right = image.shape[:2] - rng.integers(0, 8, 2) / 8
    out = np.empty((4, 5, 3), np.uint8)
    core.resize(image, out, extent=(top, left, bottom, right))
    wanted = image.astype(np.float64)
    for axis, low, high, size in ((0, top, bottom, 4), (1, left, right, 5)):
        scale = (high - low) / size
        centres = low + (np.arange(size)[:, None] + 0.5) * scale
        pixels = np.arange(wanted.shape[axis])
        inside = np.clip(np.minimum(pixels + 1, high) - np.maximum(pixels, low), 0, 1)
        reach = np.abs(pixels + 0.5 - centres) / max(scale, 1.0)
        weights = np.maximum(0, 1 - reach) * inside
        weights /= weights.sum(axis=1, keepdims=True)
        wanted = np.moveaxis(np.tensordot(weights, wanted, (1, axis)), 0, axis)
    assert np.abs(out - wanted).max() <= 0.52


def test_channels_do_not_mix():
    image = np.zeros((9, 9, 3), np.uint8)
    image[..., 1] = 200
    assert (resized(image, 4, 5) == [0, 200, 0]).all()


SIZES = [
    (450, 600, 224, 224),
    (225, 300, 224, 224),
    (300, 200, 224, 224),
    (97, 131, 224, 160),
    (13, 7, 40, 33),
    (64, 64, 64, 32),
    (64, 64, 32, 64),
    (5, 5, 1, 1),
    (1, 1, 7, 9),
    (1, 300, 1, 40),
    (300, 1, 40, 1),
    (224, 3, 7, 200),
    (640, 480, 40, 31),
    (640, 640, 40, 40),
    (660, 640, 40, 40),
    (900, 700, 5, 4),
    (2000, 50, 3, 60),
    (50, 2000, 60, 3),
]


@pytest.mark.parametrize(("in_height", "in_width", "height", "width"), SIZES)
def test_matches_float64(in_height, in_width, height, width):
    image = random_image(in_height, in_width)
    exact = reference(image, height, width)
    out = resized(image, height, width)
    assert np.abs(out - exact).max() <= 0.53  # 0.5 is the rounding to a level
    assert np.abs(out - np.floor(exact + 0.5)).mean() < 0.01


@pytest.mark.parametrize("seed", range(40))
def test_matches_float64_at_random_sizes(seed):
    rng = np.random.default_rng(seed)
    in_height, in_width, height, width = np.exp(rng.uniform(0, 5, 4)).astype(int)
    image = random_image(in_height, in_width, seed)
    exact = reference(image, height, width)
    assert np.abs(resized(image, height, width) - exact).max() <= 0.53


@pytest.mark.parametrize(("in_height", "in_width", "height", "width"), SIZES)
def test_matches_pillow(in_height, in_width, height, width):
    image = random_image(in_height, in_width)
    pillow = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    # Pillow rounds to levels between the passes, so one level is as near as the two can be.
    assert np.abs(resized(image, height, width).astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("in_size", [1, 2, 3, 50, 223, 224, 225, 600, 1500])
def test_plain_images_stay_as_they_are(in_size):
    for level in range(256):
        image = np.broadcast_to(np.uint8(level), (in_size, 5, 3))
        image = np.ascontiguousarray(image)
        assert (resized(image, 45, 17) == level).all()


def test_same_size_is_a_copy():
    image = random_image(37, 53)
    assert (resized(image, 37, 53) == image).all()


@pytest.mark.parametrize("width", [*range(1, 70), 127, 128, 129])
def test_every_tail(width, guarded):
    wide, narrow = random_image(7, width, width), random_image(9, 2 * width + 3, width)
    for image, size in ((wide, (4, 20, 3)), (narrow, (5, width, 3))):
        out = guarded(size, gap=width % 5, shift=width % 7)
        core.resize(image, out)
        assert np.abs(out - reference(image, *size[:2])).max() <= 0.53


def test_input_strides():
    memory = random_image(60, 80)
    wider = np.random.default_rng(1).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    views = [
        memory[5:55, 7:71],
        memory[::2],
        memory[:, ::3],
        memory[::-1],
        memory[:, ::-1],
        memory[::-3, 70:2:-2],
        wider[..., :3],
        wider[..., 1:],
        memory.transpose(1, 0, 2),
        np.broadcast_to(memory[:1], memory.shape),
        np.broadcast_to(memory[:, :1], memory.shape),
    ]
    for view in views:
        assert (resized(view, 24, 31) == resized(np.ascontiguousarray(view), 24, 31)).all()
        size = view.shape[:2]
        assert (resized(view, *size) == view).all()


def test_output_strides(guarded):
    image = random_image(40, 50)
    expected = resized(image, 21, 30)
    for out in (guarded((21, 30, 3), gap=11), guarded((21, 30, 3), shift=3)):
        core.resize(image, out)
        assert (out == expected).all()
    upside_down = np.empty_like(expected)[::-1]
    core.resize(image, upside_down)
    assert (upside_down == expected).all()


def test_input_is_left_alone():
    image = random_image(40, 50)
    before = image.copy()
    image.flags.writeable = False
    resized(image, 20, 20)
    assert (image == before).all()


def test_a_photograph_matches_pillow(real_data):
    path = next((real_data / "isic_fullres").rglob("*.jpg"))
    image = np.asarray(Image.open(path).convert("RGB"))
    pillow = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR))
    difference = np.abs(resized(image, 224, 224).astype(int) - pillow)
    assert difference.max() <= 1
    assert difference.mean() < 0.1
