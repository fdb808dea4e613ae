"""Move the visible skin of an image to another ITA; the lesion is unchanged."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from melfast import core
from melfast.io.words import check_words
from melfast.skin import locus
from melfast.skin.curves import MOST_CONTRAST, destinations, level_curves, light_gains
from melfast.skin.ita import SkinTone, estimate_tone, require_regions
from melfast.skin.masks import Region, find_regions

FormerMethod = Literal["exact", "published"]

# The published step, per degree: darker skin is less light and yellower.
PUBLISHED_L, PUBLISHED_B = -0.12, 0.5
# The search ends when the measured ITA is within so many degrees of the target; most take 2 steps.
CLOSE_DEG, CLOSE_ENOUGH_DEG = 0.4, 1.5
MOST_STEPS = 8
# If the search fails, it is repeated with less contrast: on mottled skin the dominant colour may jump
# across the target between two patches, which less contrast brings closer together.
CONTRASTS = (MOST_CONTRAST, 1.0, 0.6)
# Distances from the border of the lesion: outwards to where the skin is moved fully, and inwards to
# where nothing is moved, as fractions of the shorter side.
RAMP_OUT, RAMP_IN = 0.04, 0.16
# The lesion's own colour is as far from the skin's as that of this part of its pixels at most. In
# between, a pixel with so much of that way behind it is all lesion.
OWN_COLOUR, ALL_LESION = 0.65, 0.85
# The colour is blurred over so many pixels of the working size, so that weights ignore texture.
BLUR_PX = 1.0


@dataclass(frozen=True)
class Shifted:
    """An image whose skin was moved.

    Attributes:
        image: uint8 sRGB [H, W, 3].
        tone: the tone measured on `image` (not the target), in the "cielab" convention, over the pixels
            that were visible skin before the move. Its ITA is NaN if no skin is visible; then `image`
            is the unchanged input.
    """

    image: NDArray[np.uint8]
    tone: SkinTone


@check_words
def move_skin(
    image: NDArray[np.uint8],
    target_ita_deg: float,
    *,
    method: FormerMethod = "exact",
    tone: SkinTone | None = None,
    regions: NDArray[np.uint8] | None = None,
) -> Shifted:
    """Moves the visible skin to an ITA.

    Args:
        image: uint8 sRGB [H, W, 3].
        target_ita_deg: within melfast.skin.locus.ITA_RANGE.
        method: "exact": along the colours of human skin, until the measured ITA equals the target;
            hair, ruler and dark corners change with the skin, but black stays black.
            "published": adds 0.5 to b* and -0.12 to L* of each skin pixel for each degree that the
            target is darker, which does not reach the target exactly.
        tone, regions: results of estimate_tone and find_regions for this image, if available.
    Raises:
        TypeError, ValueError: an invalid argument; the message says what was found and expected.
    """
    low, high = locus.ITA_RANGE
    if not low <= target_ita_deg <= high:
        raise ValueError(f"target_ita_deg must be within {low:g}..{high:g} degrees, got {target_ita_deg:g}")
    if regions is None:
        regions = find_regions(image)
    require_regions(regions, image)
    if tone is None:
        tone = estimate_tone(image, regions=regions)
    if math.isnan(tone.ita_deg):
        return Shifted(image, tone)
    if method == "published":
        moved = _published(image, tone.ita_deg - target_ita_deg, regions)
    else:
        moved = _exact(image, target_ita_deg, tone, regions)
    return Shifted(moved, estimate_tone(moved, regions=regions))


def _published(image: NDArray[np.uint8], delta_deg: float, regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    skin = np.where(regions == 0, np.uint8(255), np.uint8(0))
    weights = _stretched(skin, image, Image.Resampling.NEAREST)
    out = np.empty(image.shape, np.uint8)
    core.shift_lab(image, weights, PUBLISHED_L * delta_deg, 0.0, PUBLISHED_B * delta_deg, out)
    return out


def _exact(
    image: NDArray[np.uint8], target_deg: float, tone: SkinTone, regions: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    small = np.empty((*regions.shape, 3), np.uint8)
    core.resize(image, small)
    weights = skin_weights(small, regions, tone.lab)
    curves = _best_curves(small, weights, target_deg, tone, regions)
    out = np.empty(image.shape, np.uint8)
    core.apply_curves(image, _stretched(weights, image, Image.Resampling.BILINEAR), curves, out)
    return out


def _best_curves(
    small: NDArray[np.uint8], weights: NDArray[np.uint8], target_deg: float, tone: SkinTone, regions: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The curves that come closest to the target, measured at the working size."""
    least = math.inf
    for contrast in CONTRASTS:
        found, missed = _search(small, weights, target_deg, tone, regions, contrast)
        if missed < least or math.isinf(least):
            best, least = found, missed
        if least <= CLOSE_ENOUGH_DEG:
            break
    return best


def _search(
    small: NDArray[np.uint8],
    weights: NDArray[np.uint8],
    target_deg: float,
    tone: SkinTone,
    regions: NDArray[np.uint8],
    contrast: float,
) -> tuple[NDArray[np.uint8], float]:
    """The best curves with one contrast, and their error in degrees; infinity: no result.

    The mean of the moved colours differs slightly from the moved mean, so the aim is corrected by the
    error; if two aims miss on opposite sides, halfway between them if necessary.
    """
    moved = np.empty_like(small)
    below, above = locus.ITA_RANGE
    aim, least = target_deg, math.inf
    for _ in range(MOST_STEPS):
        gains = light_gains([tone.lab], destinations([tone.lab], [aim]), contrast)
        curves = level_curves(gains)[0]
        core.apply_curves(small, weights, curves, moved)
        missed = target_deg - estimate_tone(moved, regions=regions).ita_deg
        if math.isinf(least) or abs(missed) < least:
            best, least = curves, math.inf if math.isnan(missed) else abs(missed)
        if not abs(missed) > CLOSE_DEG:
            break
        below, above = (aim, above) if missed > 0 else (below, aim)
        aim += missed
        if not below < aim < above:
            aim = (below + above) / 2
    return best, least


def skin_weights(
    small: NDArray[np.uint8], regions: NDArray[np.uint8], skin_lab: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """How far each pixel is moved, 0..255: 0 inside the lesion, 255 away from it.

    At the border a pixel is moved in proportion to how much its colour is skin; lesions fade out, and
    otherwise a rim of the old skin would remain around them.

    Args:
        small: the image at working size.
        regions: result of find_regions.
        skin_lab: dominant colour of the skin.
    """
    lesion = (regions & Region.LESION) != 0
    if lesion.all() or not lesion.any():
        return np.full(regions.shape, 0 if lesion.any() else 255, np.uint8)
    side = min(regions.shape)
    outside = _smooth_step(ndimage.distance_transform_edt(~lesion) / max(1.0, RAMP_OUT * side))
    depth = ndimage.distance_transform_edt(np.pad(lesion, 1, mode="edge"))[1:-1, 1:-1]
    inside = _smooth_step(depth / max(1.0, RAMP_IN * side))
    pigment = _pigment(small, lesion, skin_lab)
    weight = np.where(lesion, (1 - pigment) * (1 - inside), 1 - pigment * (1 - outside))
    return np.rint(255 * weight).astype(np.uint8)


def _pigment(
    small: NDArray[np.uint8], lesion: NDArray[np.bool_], skin_lab: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Position of the colour of each pixel between skin (0) and lesion (1)."""
    lab = core.srgb_to_lab(small)
    skin = np.array(skin_lab)
    way = np.median(lab[lesion], axis=0) - skin
    part = ndimage.gaussian_filter((lab - skin) @ way, BLUR_PX)
    full = ALL_LESION * float(np.quantile(part[lesion], OWN_COLOUR))
    return np.clip(part / full, 0, 1) if full > 0 else np.zeros(lesion.shape)


def _smooth_step(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def _stretched(weights: NDArray[np.uint8], image: NDArray[np.uint8], filter: Image.Resampling) -> NDArray[np.uint8]:
    """Weights scaled from the working size to the image."""
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(weights).resize((width, height), filter))
