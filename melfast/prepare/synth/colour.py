"""Colour of skin: CIELAB to linear RGB and back to 8 bits, and skin colours of a given ITA."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melfast.prepare.synth.fields import Float

ITA_RANGE = (-60.0, 75.0)

# Skin runs along a bent band in the L*-b* plane: b* is greatest near ITA 20 degrees and falls
# towards the lightest and the darkest skin (Chardon et al. 1991; Del Bino and Bernerd 2013).
# The knots are set by hand along that band, through the mean of 148 Koreans (L* 64.2, a* 9.0,
# b* 18.3: ITA 38; Yun et al. 2010). a* is some units higher than a spectrophotometer's, as under
# a dermoscope; ITA does not depend on it.
_ITA = (-60.0, -45.0, -30.0, -15.0, 0.0, 10.0, 20.0, 28.0, 38.0, 45.0, 55.0, 65.0, 75.0)
_B = (9.5, 12.5, 15.0, 17.0, 18.5, 19.5, 20.0, 19.5, 18.3, 16.5, 13.0, 10.0, 6.5)
_A = (9.0, 10.5, 12.0, 13.0, 13.5, 13.0, 12.5, 11.5, 10.0, 9.5, 9.5, 9.0, 8.0)

# CIELAB to linear sRGB, D65: IEC 61966-2-1; white (0.95047, 1, 1.08883).
_XYZ_TO_RGB = (
    (3.2404542 * 0.95047, -1.5371385, -0.4985314 * 1.08883),
    (-0.9692660 * 0.95047, 1.8760108, 0.0415560 * 1.08883),
    (0.0556434 * 0.95047, -0.2040259, 1.0572252 * 1.08883),
)
_LINEAR_STEPS = 1 << 15


@dataclass(frozen=True)
class SkinColour:
    """Base colour of a skin in CIELAB, D65."""

    l: float  # noqa: E741
    a: float
    b: float

    @property
    def ita_deg(self) -> float:
        return float(np.rad2deg(np.arctan2(self.l - 50.0, self.b)))


def draw_skin_colour(rng: np.random.Generator, ita_deg: float, redness: float) -> SkinColour:
    """A skin colour of the given ITA exactly; b* varies between people, and L* with it.

    Args:
        redness: added to a*: erythema, and the pink of contact dermoscopes.
    """
    b = float(np.interp(ita_deg, _ITA, _B)) * float(np.exp(np.clip(rng.normal(0, 0.09), -0.2, 0.2)))
    a = float(np.interp(ita_deg, _ITA, _A)) + redness
    return SkinColour(50.0 + b * float(np.tan(np.deg2rad(ita_deg))), a, b)


def lab_to_linear(l: Float, a: Float, b: Float) -> Float:  # noqa: E741
    """CIELAB planes to linear sRGB [..., 3], unclipped."""
    fy = (l + 16.0) / 116.0
    x, y, z = (_inverse_f(f) for f in (fy + a / 500.0, fy, fy - b / 200.0))
    rgb = np.empty((*l.shape, 3), np.float32)
    for channel, (mx, my, mz) in enumerate(_XYZ_TO_RGB):
        rgb[..., channel] = mx * x + my * y + mz * z
    return rgb


def linear_to_srgb(rgb: Float) -> NDArray[np.uint8]:
    """Linear sRGB, clipped to 0..1, to uint8."""
    index = np.clip(rgb, 0.0, 1.0) * np.float32(_LINEAR_STEPS) + np.float32(0.5)
    return _ENCODED[index.astype(np.uint16)]


def srgb_to_linear(red: int, green: int, blue: int) -> Float:
    """An 8-bit sRGB colour to linear float32 [3]."""
    value = np.array([red, green, blue]) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _inverse_f(f: Float) -> Float:
    return np.where(f > 6 / 29, f * f * f, (f - 4 / 29) * (3 * (6 / 29) ** 2))


def _encoding_table() -> NDArray[np.uint8]:
    linear = np.arange(_LINEAR_STEPS + 1) / _LINEAR_STEPS
    value = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * value).astype(np.uint8)


_ENCODED = _encoding_table()
