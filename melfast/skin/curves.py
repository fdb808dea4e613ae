"""Compute how a skin colour changes with its ITA, and the light curves that produce the change.

Vectorised over images: the skin-former moves one, a plan thousands.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.skin import locus
from melfast.skin.light import Double, lab_to_light, level_to_light, light_to_lab, light_to_level
from melfast.skin.tone import ita_degrees

# Maximum contrast of the moved skin relative to contrast proportional to its light; white stays
# nearly white.
MOST_CONTRAST = 1.7
# A person's deviation from the locus halves about every so many degrees of the move.
FADE_DEG = 30.0
# Maximum ratio of a person's b* to that of the locus; its inverse is the minimum.
MOST_B_RATIO = 1.5
# Skin stays within these linear lights in each channel, so that its relief is not clipped.
DARKEST_LIGHT, LIGHTEST_LIGHT = 0.004, 0.94


def destinations(lab: ArrayLike, ita_deg: ArrayLike) -> Double:
    """CIELAB of the skin of each person at another ITA.

    The colour follows the locus of human skin, shifted by the person's deviation from it. The deviation
    fades with the distance moved, and further if the colour would leave the gamut, which contains the
    whole locus.

    Args:
        lab: [N, 3], current skin colour.
        ita_deg: [N], within melfast.skin.locus.ITA_RANGE.
    """
    lab, target = np.asarray(lab, np.float64), np.asarray(ita_deg, np.float64)
    ita = ita_degrees(lab)
    (a_from, b_from), (a_to, b_to) = locus.chroma(ita), locus.chroma(target)
    ratio = np.clip(lab[:, 2] / b_from, 1 / MOST_B_RATIO, MOST_B_RATIO)
    own = 0.5 ** (np.abs(target - ita) / FADE_DEG)
    found = np.empty_like(lab)
    searched = np.ones(len(lab), bool)
    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        part = share * own
        b = b_to * ratio**part
        to = np.stack([locus.lightness(target, b), a_to + part * (lab[:, 1] - a_from), b], axis=1)
        found[searched] = to[searched]
        light = lab_to_light(to)
        inside = (light.min(axis=1) >= DARKEST_LIGHT) & (light.max(axis=1) <= LIGHTEST_LIGHT)
        searched &= ~inside
    return found


def light_gains(lab_from: ArrayLike, lab_to: ArrayLike, most_contrast: float = MOST_CONTRAST) -> NDArray[np.float32]:
    """Curves of linear light that map skin colours [N, 3] to others.

    In each channel x / (1 - x) is multiplied, so black stays black, white stays white and nothing is
    clipped, similar to more or less of a filter such as melanin. If that would raise the contrast around
    the skin colour above `most_contrast` times that of a proportional change, for example when a channel
    is nearly saturated, white is dimmed instead.

    Returns:
        float32 [N, 3 channels, 3]: (e, k, m) of the curve e x / (k + m x).
    """
    start, end = (np.clip(lab_to_light(np.asarray(lab, np.float64)), 1e-3, 0.99) for lab in (lab_from, lab_to))
    contrast = np.minimum((1 - end) / (1 - start), most_contrast)
    return np.stack([end, contrast * start, 1 - contrast], axis=-1).astype(np.float32)


def level_curves(gains: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The same curves as tables of sRGB levels: gains [..., 3] to uint8 [..., 256]."""
    light = level_to_light(np.arange(256))
    end, k, m = (gains[..., i, None].astype(np.float64) for i in range(3))
    return light_to_level(end * light / (k + m * light))


def moved_ita(lab: ArrayLike, gains: NDArray[np.float32]) -> Double:
    """ITA in degrees [N] of 8-bit skin colours [N, 3] after curves [N, 3, 3]."""
    level = light_to_level(lab_to_light(np.asarray(lab, np.float64)))
    moved = np.take_along_axis(level_curves(gains), level[..., None].astype(np.intp), axis=-1)
    return ita_degrees(light_to_lab(level_to_light(moved[..., 0])))
