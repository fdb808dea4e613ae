"""The published ITA: OpenCV's 8-bit CIELAB, a 128x256 work image, truncated centres.

The results are not true ITA (8-bit L runs to 255 and b starts at 128), but published tables contain them.
The integer arithmetic of OpenCV is reproduced without OpenCV: the same bytes, except for one colour in ten
thousand, whose 8-bit CIELAB differs by one level.
"""

import numpy as np
from numpy.typing import NDArray

from melfast.skin.light import RGB_TO_XYZ

WORK_HW = (256, 128)

Int = NDArray[np.int64]

# Precision in bits of the resize weights, of linear light in XYZ, and of the cube roots.
_WEIGHT_BITS = 11
_XYZ_BITS = 12
_GAMMA_BITS = 3
_ROOT_BITS = 15


def resize_linear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """cv2.resize with INTER_LINEAR: two taps along each axis, regardless of the scale."""
    if image.shape[:2] == (2 * height, 2 * width):
        return _halve(image)
    top, bottom, down = _taps(image.shape[0], height)
    left, right, across = _taps(image.shape[1], width)

    def row(y: Int) -> Int:
        lines = image[y]
        weight = across[:, None]
        mixed: Int = (
            lines[:, left].astype(np.int64) * ((1 << _WEIGHT_BITS) - weight) + lines[:, right].astype(np.int64) * weight
        )
        return mixed

    below = down[:, None, None]
    above = (1 << _WEIGHT_BITS) - below
    # OpenCV's vector code: 4 bits are dropped before the second product, 16 after it.
    levels = (((row(top) >> 4) * above) >> 16) + (((row(bottom) >> 4) * below) >> 16)
    return ((levels + 2) >> 2).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[Int, Int, Int]:
    """The two neighbours of each output, and the second one's weight in 1 / 2048."""
    scale = np.float64(size) / wanted
    place = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    fraction = np.where((first < 0) | (first >= size - 1), 0, place - first)
    weight = np.rint(fraction.astype(np.float32) * np.float32(1 << _WEIGHT_BITS)).astype(np.int64)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), weight


def _halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At a scale of exactly 1/2 OpenCV takes the mean of four pixels."""
    wide = image.astype(np.uint16)
    rows = wide[::2] + wide[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def srgb_to_lab8(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """cv2.cvtColor with COLOR_RGB2LAB: L * 255 / 100, a + 128, b + 128."""
    linear = _LINEAR[rgb]
    x, y, z = (_ROOT[_descale(linear @ weights, _XYZ_BITS)] for weights in _XYZ)
    lab = np.empty(rgb.shape, np.uint8)
    lab[..., 0] = _descale(_L_SCALE * y + _L_SHIFT, _ROOT_BITS)
    lab[..., 1] = np.clip(_descale(500 * (x - y) + (128 << _ROOT_BITS), _ROOT_BITS), 0, 255)
    lab[..., 2] = np.clip(_descale(200 * (y - z) + (128 << _ROOT_BITS), _ROOT_BITS), 0, 255)
    return lab


def _descale(value: Int, bits: int) -> Int:
    return (value + (1 << (bits - 1))) >> bits


def _linear_table() -> Int:
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.rint(255 * (1 << _GAMMA_BITS) * linear).astype(np.int64)


def _root_table() -> Int:
    t = np.arange((256 * 3 // 2) << _GAMMA_BITS) / (255 << _GAMMA_BITS)
    root = np.where(t < 0.008856, t * 7.787 + 16 / 116, np.cbrt(t))
    return np.rint(root * (1 << _ROOT_BITS)).astype(np.int64)


_LINEAR = _linear_table()
_ROOT = _root_table()
# OpenCV's own white.
_XYZ = np.rint((1 << _XYZ_BITS) * RGB_TO_XYZ / np.array([[0.950456], [1.0], [1.088754]])).astype(np.int64)
_L_SCALE = (116 * 255 + 50) // 100
_L_SHIFT = -((16 * 255 * (1 << _ROOT_BITS) + 50) // 100)


def distinct(lab8: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The distinct colours of [n, 3], sorted, as float32 [m, 3], and their counts."""
    wide = lab8.astype(np.int32)
    codes, repeats = np.unique((wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2], return_counts=True)
    colours = np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)
    return colours.astype(np.float32), repeats.astype(np.int32)


def lab8_to_lab(lab8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Converts 8-bit CIELAB to CIELAB."""
    wide = lab8.astype(np.float32)
    wide[..., 0] *= np.float32(100 / 255)
    wide[..., 1:] -= 128
    return wide


def ita8_degrees(rgb: NDArray[np.uint8]) -> float:
    """The ITA of one colour as in the published tables: arctan of the unscaled 8-bit L and b."""
    lightness, _, b = srgb_to_lab8(rgb).tolist()
    return float(np.rad2deg(np.arctan((lightness - 50) / b)))  # b of a colour of sRGB is 20 or more
