"""Colour of skin: CIELAB to linear RGB and back to 8 bits, and skin colours of a given ITA."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melfast.prepare.synth.fields import Float
from melfast.skin import locus
from melfast.skin.tone import ita_degrees

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
        return float(ita_degrees((self.l, self.a, self.b)))


def draw_skin_colour(rng: np.random.Generator, ita_deg: float, redness: float) -> SkinColour:
    """A skin colour of the given ITA exactly; b* varies between people, and L* with it.

    Args:
        redness: added to a*: erythema, and the pink of contact dermoscopes.
    """
    a, b = locus.chroma(ita_deg)
    b *= float(np.exp(np.clip(rng.normal(0, 0.09), -0.2, 0.2)))
    return SkinColour(locus.lightness(ita_deg, b), a + redness, b)


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
