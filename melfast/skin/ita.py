"""Individual typology angle (ITA) of the visible skin of an image, and its quality."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.io.words import check_words
from melfast.skin import published_ita as published
from melfast.skin.masks import find_regions, working_size
from melfast.skin.quality import judge
from melfast.skin.tone import ita_degrees

Convention = Literal["cielab", "published"]

CLUSTERS = range(3, 10)
# Visible skin is estimated from about this number of evenly spaced pixels; a third more change the
# angle by 0.14 degrees in the median, and by at most 0.5, over 18 real images.
SAMPLED_PIXELS = 3000
# With fewer pixels the result is unreliable; such a small area of skin may be noise.
FEWEST_PIXELS = 64
# Minimum pixels along the shorter side of an image.
SMALLEST_SIDE = 8
# Maximum CIELAB distance of one skin's colours from their centre; they differ by relief and mottling.
# At 5, the angle of one in ten real images depends on the random clustering by more than a degree, at 8
# that of one in fifty; larger values include the border of the lesion.
SAME_SKIN = 8.0
PUBLISHED_ATTEMPTS = 10
# The published clustering stops at 0.2 and so depends on its random start by more than a degree; run
# to convergence it gives the value in the published table.
PUBLISHED_EPSILON = 0.02
# Doubts for which there is no ITA.
NO_SKIN, TOO_SMALL = "no skin visible", "image too small"
NO_ELBOW = "no elbow in the published index"
# A pixel with all channels beyond these is clipped by the sensor and does not show the skin colour.
DARKEST, BRIGHTEST = 5, 250


@dataclass(frozen=True)
class SkinTone:
    """The dominant skin colour of an image.

    Attributes:
        ita_deg: individual typology angle; NaN if it cannot be estimated.
        lab: the dominant colour in CIELAB (D65, 2 degrees); NaN if there is none.
        rgb: the same in sRGB, 0..255; None if there is none.
        skin_fraction: fraction of the pixels that are skin, 0..1.
        clusters: number of colour clusters of the skin; 0 if it was not clustered.
        quality: 0..1, the lowest of the scores of melfast.skin.quality; 0 without an ITA.
        doubts: names of the scores below 0.5, or why there is no ITA.
    """

    ita_deg: float
    lab: tuple[float, float, float]
    rgb: tuple[int, int, int] | None
    skin_fraction: float
    clusters: int
    quality: float
    doubts: tuple[str, ...]


@check_words
def estimate_tone(
    image: NDArray[np.uint8], *, convention: Convention = "cielab", regions: NDArray[np.uint8] | None = None
) -> SkinTone:
    """The dominant colour of the visible skin and its ITA; identical on all machines and threads.

    Args:
        image: uint8 sRGB [H, W, 3].
        convention: "cielab": skin pixels of the image at working size, clustered in CIELAB
            (k-means, k by the elbow method); the dominant colour is where they are densest around the
            best supported cluster. "published": the published steps in 8-bit CIELAB, whose results
            are not true ITA but match the published tables.
        regions: result of melfast.skin.masks.find_regions, if available, or similar regions at the size
            of the image; not for "published", which has its own mask.
    Raises:
        TypeError, ValueError: an invalid argument; the message says what was found and expected.
    """
    _check_array("image", image, (3,))
    if regions is not None:
        if convention == "published":
            raise ValueError("regions are not used by the published convention, wanted None")
        require_regions(regions, image)
    if min(image.shape[:2]) < SMALLEST_SIDE:
        return _no_tone(0.0, TOO_SMALL)
    return _published_tone(image) if convention == "published" else _cielab_tone(image, regions)


def require_regions(regions: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Raises TypeError or ValueError if regions have neither the working size nor that of the image."""
    _check_array("regions", regions, ())
    sizes = (working_size(*image.shape[:2]), image.shape[:2])
    if regions.shape not in sizes:
        wanted = " or ".join(map(str, dict.fromkeys(sizes)))
        raise ValueError(f"regions must have shape {wanted} for this image, got {regions.shape}")


def _check_array(name: str, array: NDArray[np.uint8], channels: tuple[int, ...]) -> None:
    """uint8 [height, width, *channels], at least one pixel."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {array.dtype}")
    if array.ndim < 2 or array.shape[2:] != channels or array.size == 0:
        wanted = "(height, width, 3)" if channels else "(height, width)"
        raise ValueError(f"{name} must have shape {wanted} and a pixel, got {array.shape}")


def _cielab_tone(image: NDArray[np.uint8], regions: NDArray[np.uint8] | None) -> SkinTone:
    if regions is None:
        image = _resized(image, *working_size(*image.shape[:2]))
        regions = find_regions(image)
    else:
        image = _resized(image, *regions.shape)
    pixels, skin_fraction = _sample(image, regions)
    if len(pixels) < FEWEST_PIXELS:
        return _no_tone(skin_fraction, NO_SKIN)
    colours = core.srgb_to_lab(pixels)
    inertias, centres, counts = core.cluster_colours(colours)
    k = _elbow(inertias) or CLUSTERS[-1]
    lab = _dominant(colours, centres[k - CLUSTERS[0]], counts[k - CLUSTERS[0]])
    return _tone(lab, float(ita_degrees(lab)), skin_fraction, k, colours)


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    out = np.empty((height, width, 3), np.uint8)
    core.resize(image, out)
    return out


def _sample(image: NDArray[np.uint8], regions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """About SAMPLED_PIXELS skin pixels [n, 3], evenly spaced over the image, and the fraction of skin."""
    count = regions.size - int(np.count_nonzero(regions))
    step = max(1, count // SAMPLED_PIXELS)
    # A step that shares a factor with the width would sample only some columns.
    while math.gcd(step, regions.shape[1]) > 1 and step > 1:
        step += 1
    pixels = image.reshape(-1, 3)[::step][regions.reshape(-1)[::step] == 0]
    return pixels[_exposed(pixels)], count / regions.size


def _exposed(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of pixels [n, 3] are neither black nor white."""
    red, green, blue = pixels.T
    lit = np.maximum(np.maximum(red, green), blue) >= DARKEST
    lit &= np.minimum(np.minimum(red, green), blue) <= BRIGHTEST
    return lit


def _elbow(inertias: NDArray[np.float64]) -> int | None:
    """The k at which the inertia stops falling steeply; None if it falls evenly or not at all."""
    if inertias.min() == inertias.max():
        return None
    from kneed import KneeLocator  # which imports scipy.signal and Matplotlib's pyplot: seconds

    knee = KneeLocator(CLUSTERS, inertias, S=1.0, curve="convex", direction="decreasing").elbow
    return None if knee is None else int(knee)


def _dominant(
    colours: NDArray[np.float32], centres: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Colour [3] at the centre of the skin around the best supported cluster.

    Which of several clusters of one skin is the largest is a matter of chance, so a cluster is supported
    by all those within SAME_SKIN of it. From there the colour moves to the mean of the pixels within
    SAME_SKIN until it converges (mean shift: the nearest density maximum).
    """
    centres, counts = centres[counts > 0], counts[counts > 0]
    near = np.square(centres[:, None] - centres).sum(axis=2) <= SAME_SKIN**2
    best = int(np.argmax((near * counts).sum(axis=1)))
    return core.mean_shift(colours, centres[best : best + 1], SAME_SKIN).astype(np.float64)


def _published_tone(image: NDArray[np.uint8]) -> SkinTone:
    small = published.resize_linear(image, *published.WORK_HW)
    lab8 = published.srgb_to_lab8(small)
    seen = (core.published_mask(small) == 0) & (lab8[..., 0] > 0)
    pixels, fraction = lab8[seen], float(seen.mean())
    if np.count_nonzero(_exposed(small[seen])) < FEWEST_PIXELS:
        return _no_tone(fraction, NO_SKIN)
    inertias, centres, counts = core.cluster_colours(
        *published.distinct(pixels), attempts=PUBLISHED_ATTEMPTS, epsilon=PUBLISHED_EPSILON
    )
    elbow = _elbow(inertias)
    # As published: the list of colours begins at k = 3 and is indexed with k itself.
    index = len(CLUSTERS) - 1 if elbow is None else elbow
    if index >= len(CLUSTERS):
        return _no_tone(fraction, NO_ELBOW)
    lab8_dominant = centres[index][counts[index].argmax()].astype(np.uint8)
    rgb = core.lab_to_srgb(published.lab8_to_lab(lab8_dominant))
    colours = core.srgb_to_lab(small[seen])
    lab = core.srgb_to_lab(rgb).astype(np.float64)
    return _tone(lab, published.ita8_degrees(rgb), fraction, CLUSTERS[index], colours)


def _tone(
    lab: NDArray[np.float64], ita_deg: float, skin_fraction: float, clusters: int, colours: NDArray[np.float32]
) -> SkinTone:
    l, a, b = lab.tolist()  # noqa: E741
    red, green, blue = core.lab_to_srgb(lab.astype(np.float32)).tolist()
    quality, doubts = judge(lab, skin_fraction, colours)
    return SkinTone(
        # The last bits of an arctangent differ between mathematical libraries.
        ita_deg=round(ita_deg, 6),
        lab=(l, a, b),
        rgb=(red, green, blue),
        skin_fraction=skin_fraction,
        clusters=clusters,
        quality=quality,
        doubts=doubts,
    )


def _no_tone(skin_fraction: float, reason: str) -> SkinTone:
    nan = float("nan")
    return SkinTone(nan, (nan, nan, nan), None, skin_fraction, 0, 0.0, (reason,))
