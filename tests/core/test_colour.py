"""CIELAB and back, shifts, curves and normalisation against scikit-image and NumPy in float64."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import lab2rgb, rgb2lab

from melfast import core
from melfast.data.preprocess import LAB_MEAN, LAB_STD, RGB_MEAN, RGB_STD


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


VIEWS = {
    "crop": lambda x: x[3:20, 5:50],
    "upside down": lambda x: x[::-1],
    "mirrored": lambda x: x[:, ::-2],
    "transposed": lambda x: x.transpose(1, 0, 2),
    "BGR": lambda x: x[..., ::-1],
    "planes": lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
    "repeated": lambda x: np.broadcast_to(x[None, :, :1], (2, 70, 9, 3)),
    "one column": lambda x: x[:, 4:5],
    "none": lambda x: x[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_strides(view):
    """70 x 60: more pixels than are gathered at a time."""
    rgb = random_image(70, 60)
    lab = core.srgb_to_lab(rgb)
    assert (core.srgb_to_lab(view(rgb)) == core.srgb_to_lab(view(rgb).copy())).all()
    assert (core.lab_to_srgb(view(lab)) == core.lab_to_srgb(view(lab).copy())).all()


def test_misaligned_lab():
    lab = core.srgb_to_lab(random_image(5, 7))
    memory = np.frombuffer(b"x" + lab.tobytes(), np.uint8)[1:].view(np.float32).reshape(lab.shape)
    assert not memory.flags.aligned
    assert (core.lab_to_srgb(memory) == core.lab_to_srgb(lab)).all()


def test_round_trip_of_every_colour():
    level = np.arange(256, dtype=np.uint8)
    for red in range(0, 256, 16):
        grid = np.meshgrid(level[red : red + 16], level, level, indexing="ij")
        rgb = np.stack(grid, axis=-1)
        assert (core.lab_to_srgb(core.srgb_to_lab(rgb)) == rgb).all()


def exact_srgb(lab):
    """scikit-image in float64: levels 0..255, not rounded, clipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # negative Z, which it sets to 0
        return 255 * lab2rgb(lab.astype(np.float64))


def test_inverse_by_hand():
    lab = np.array([[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [50, 0, 0]], np.float32)
    assert core.lab_to_srgb(lab).tolist() == [[0] * 3, [255] * 3, [255, 0, 0], [119] * 3]


@pytest.mark.parametrize("count", [*range(140), 1023, 1024, 1025, 20000])
def test_inverse_rounds_to_nearest(count):
    rng = np.random.default_rng(count)
    lab = core.srgb_to_lab(rng.integers(0, 256, (count, 3), dtype=np.uint8))
    lab += rng.normal(0, 1, lab.shape).astype(np.float32)
    exact = exact_srgb(lab)
    inside = (lab[:, 2] / 200 < (lab[:, 0] + 16) / 116) & (lab[:, 0] >= 0)
    error = np.abs(core.lab_to_srgb(lab) - exact)[inside]
    assert error.size == 0 or error.max() < 0.51


def test_out_of_gamut_is_clipped_by_channel():
    lab = np.array([[120, 0, 0], [-30, 0, 0], [50, 200, 0], [50, -200, 0], [50, 0, 200]])
    found = core.lab_to_srgb(lab.astype(np.float32))
    assert found[:2].tolist() == [[255] * 3, [0] * 3]
    assert (found[2, 0], found[2, 1], found[3, 0], found[4, 2]) == (255, 0, 0, 0)


def test_what_is_no_number_does_no_harm():
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 50], np.float32)
    lab = np.stack(np.meshgrid(values, values, values), axis=-1)
    found = core.lab_to_srgb(lab)
    assert found.shape == lab.shape
    assert (found[np.isnan(lab).all(axis=-1)] == 0).all()


def test_inverse_refuses():
    with pytest.raises(TypeError, match="lab must be float32, got float64"):
        core.lab_to_srgb(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"lab must have shape \(..., 3\), got \(3, 2\)"):
        core.lab_to_srgb(np.zeros((3, 2), np.float32))


def ramp(height, width):
    return np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width)


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 200])
def test_shift_lab(width, guarded):
    image, weights = random_image(5, width, width) // 2 + 60, ramp(5, width)
    lab = rgb2lab(image) + weights[..., None] / 255 * np.array([6, -5, 4])
    out = guarded(image.shape, gap=width % 3)
    core.shift_lab(image, weights, 6, -5, 4, out)
    assert np.abs(out - exact_srgb(lab)).max() < 0.51


def test_shift_of_weight_0_changes_nothing():
    image = random_image(40, 50)
    out = np.empty_like(image)
    core.shift_lab(image, np.zeros((40, 50), np.uint8), 60, -50, 40, out)
    assert (out == image).all()


@pytest.mark.parametrize("width", [1, 2, 33, 200])
def test_apply_curves(width, guarded):
    image, weights = random_image(5, width, width), ramp(5, width)
    curves = np.random.default_rng(1).integers(0, 256, (3, 256), dtype=np.uint8)
    curved = np.stack([curves[c][image[..., c]] for c in range(3)], axis=-1)
    share = weights[..., None] / 255
    out = guarded(image.shape, gap=width % 3)
    core.apply_curves(image, weights, curves, out)
    assert np.abs(out - ((1 - share) * image + share * curved)).max() <= 0.5 + 1e-9


def test_moves_take_any_strides():
    memory, weights = random_image(40, 60), ramp(60, 40)
    view = memory.transpose(1, 0, 2)[::-1]
    curves = np.tile(np.arange(255, -1, -1, dtype=np.uint8), (3, 1))
    outs = [np.empty((60, 40, 3), np.uint8) for _ in range(4)]
    core.shift_lab(view, weights[:, ::-1], 5, 6, 7, outs[0])
    core.shift_lab(view.copy(), weights[:, ::-1].copy(), 5, 6, 7, outs[1])
    core.apply_curves(view, weights[::-1], curves[::-1], outs[2])
    core.apply_curves(view.copy(), weights[::-1].copy(), curves, outs[3])
    assert (outs[0] == outs[1]).all()
    assert (outs[2] == outs[3]).all()


def test_moves_refuse():
    image, weights, out = random_image(4, 5), ramp(4, 5), np.empty((4, 5, 3), np.uint8)
    curves = np.zeros((3, 256), np.uint8)
    with pytest.raises(ValueError, match=r"weights must have shape \(4, 5\) as the image, got"):
        core.shift_lab(image, weights.T, 1, 1, 1, out)
    with pytest.raises(TypeError, match="weights must be uint8, got float64"):
        core.apply_curves(image, weights / 255, curves, out)
    with pytest.raises(ValueError, match=r"curves must have shape \(3, 256\), got \(256, 3\)"):
        core.apply_curves(image, weights, curves.T, out)
    with pytest.raises(ValueError, match=r"within -1000\.\.1000, got nan"):
        core.shift_lab(image, weights, float("nan"), 1, 1, out)
    with pytest.raises(ValueError, match="out and image share memory"):
        core.apply_curves(image, weights, curves, image)


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
    [
        (RGB_MEAN, RGB_STD),
        (LAB_MEAN, LAB_STD),
        ((0.1, 0.2, 0.3), (2e4, 1e5, 3e6)),
        ((0.5, 0.5, 0.5), (1e-5, 2e-6, 1e-4)),
        ((1e9, -1e9, 0), (1, 1, 1e12)),
    ],
)
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
