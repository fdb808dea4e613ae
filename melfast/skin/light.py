"""Linear light of sRGB in 0..1, in float64: for single colours and tables, not for images."""

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]

# IEC 61966-2-1, and the white of D65, 2 degrees; the same values as in csrc/kernels/rows.cpp.
WHITE = np.array([0.95047, 1.0, 1.08883])
RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ)


def level_to_light(level: NDArray[np.integer]) -> Double:
    """Converts sRGB levels 0..255 to linear light."""
    value = level / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def light_to_level(light: Double) -> NDArray[np.uint8]:
    """Converts linear light, clipped to 0..1, to the nearest sRGB level."""
    light = np.clip(light, 0, 1)
    value = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    return np.rint(255 * value).astype(np.uint8)


def lab_to_light(lab: Double) -> Double:
    """Converts CIELAB [..., 3] to linear red, green and blue, not clipped."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = WHITE * np.where(f > 6 / 29, f**3, (f - 4 / 29) * (3 * (6 / 29) ** 2))
    light: Double = xyz @ _XYZ_TO_RGB.T
    return light


def light_to_lab(light: Double) -> Double:
    """Converts linear red, green and blue [..., 3] to CIELAB."""
    xyz = light @ RGB_TO_XYZ.T / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    y = f[..., 1]
    return np.stack([116 * y - 16, 500 * (f[..., 0] - y), 200 * (y - f[..., 2])], axis=-1)
