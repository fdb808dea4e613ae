"""Convert between sRGB and CIELAB (D65, 2 degrees), with checked input."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast import core

# Bounds beyond any colour, with room for a little overshoot: 8-bit CIELAB (L 0..255) and NaN are
# refused rather than clipped.
L_LIMITS = (-50.0, 150.0)
AB_LIMITS = (-256.0, 256.0)


def srgb_to_lab(image: ArrayLike) -> NDArray[np.float32]:
    """CIELAB of sRGB colours, within 0.001 of float64 in each channel.

    Args:
        image: uint8 [..., 3], an image or a batch, any strides; a view is not copied.
    Returns:
        float32 [..., 3]; L in 0..100, a and b in about -108..99.
    Raises:
        TypeError, ValueError: wrong dtype or shape; the message says what was found and expected.
    """
    return core.srgb_to_lab(np.asarray(image))


def lab_to_srgb(lab: ArrayLike) -> NDArray[np.uint8]:
    """The nearest sRGB colours; those out of gamut are clipped channel by channel.

    Args:
        lab: float [..., 3], any strides; float32 is not copied. L within L_LIMITS, a and b within
            AB_LIMITS.
    Returns:
        uint8 [..., 3].
    Raises:
        TypeError: not floating point numbers.
        ValueError: wrong shape, or a value is NaN, infinite or outside the limits.
    """
    colours = np.asarray(lab)
    if colours.dtype.kind != "f":
        raise TypeError(f"lab must be floating point, got {colours.dtype}")
    if colours.ndim == 0 or colours.shape[-1] != 3:
        raise ValueError(f"lab must have shape (..., 3), got {colours.shape}")
    for channel, (low, high) in enumerate((L_LIMITS, AB_LIMITS, AB_LIMITS)):
        _check_channel("Lab"[channel], colours[..., channel], low, high)
    return core.lab_to_srgb(colours.astype(np.float32, copy=False))


def _check_channel(name: str, values: NDArray[np.floating], low: float, high: float) -> None:
    # A NaN makes both of them NaN.
    if values.size == 0 or (values.min() >= low and values.max() <= high):
        return
    where = np.unravel_index(np.argmin((values >= low) & (values <= high)), values.shape)
    index = tuple(int(i) for i in where)
    raise ValueError(f"{name} must be finite and within {low:g}..{high:g}, got {values[index]:g} at {index}")
