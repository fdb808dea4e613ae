"""Individual typology angle of the visible skin of an image, and how far to trust it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from kneed import KneeLocator
from numpy.typing import ArrayLike, NDArray

from melfast import core
from melfast.skin import published
from melfast.skin.masks import find_regions, working_size
from melfast.skin.quality import judge

Convention = Literal["cielab", "published"]

CLUSTERS = range(3, 10)
# Visible skin is estimated from about so many pixels, taken evenly: more do not change the angle by
# a tenth of a degree.
SAMPLED_PIXELS = 4000
# Fewer say nothing of the skin; what is called skin in so small a place may be noise.
FEWEST_PIXELS = 64
# Clusters of one skin lie so near to each other, in CIELAB: they differ by its relief and mottling.
# Half of it is what a glance at two patches tells apart.
SAME_SKIN = 5.0
ATTEMPTS = 2
PUBLISHED_ATTEMPTS = 10
# The published clustering stops at 0.2 and so depends on its draws, by more than a degree; run to
# the end it gives the number that the published table holds.
PUBLISHED_EPSILON = 0.02
# Doubts that mean that there is no number.
NO_SKIN, NO_ELBOW = "no skin visible", "no elbow in the published index"
# A pixel with all channels beyond is clipped: it tells that the sensor was, not what the skin is.
DARKEST, BRIGHTEST = 5, 250


@dataclass(frozen=True)
class SkinTone:
    """The dominant skin colour of an image.

    Attributes:
        ita_deg: individual typology angle; NaN where there is no number.
        lab: the dominant colour in CIELAB (D65, 2 degrees); NaN where none is.
        rgb: the same in sRGB, 0..255; None where none is.
        skin_fraction: of the pixels, 0..1.
        clusters: how many the skin was split into; 0 where it was not.
        quality: 0..1, the least of the scores of melfast.skin.quality; 0 where there is no number.
        doubts: names of the scores below 0.5, or why there is no number.
    """

    ita_deg: float
    lab: tuple[float, float, float]
    rgb: tuple[int, int, int] | None
    skin_fraction: float
    clusters: int
    quality: float
    doubts: tuple[str, ...]


def ita_degrees(lab: ArrayLike) -> NDArray[np.float64]:
    """Individual typology angle of CIELAB colours: atan2(L - 50, b) in degrees.

    Chardon et al. 1991; atan2 and not arctan, so that bluish colours do not fold over to dark skin:
    light ones have an angle above 90.

    Args:
        lab: [..., 3]; L in 0..100.
    Returns:
        float64 [...], -180..180; NaN where L or b is NaN.
    Raises:
        ValueError: the last axis is not 3 long.
    """
    colours = np.asarray(lab, dtype=np.float64)
    if colours.ndim == 0 or colours.shape[-1] != 3:
        raise ValueError(f"lab must have shape (..., 3), got {colours.shape}")
    angle: NDArray[np.float64] = np.rad2deg(np.arctan2(colours[..., 0] - 50, colours[..., 2]))
    return angle


def estimate_tone(
    image: NDArray[np.uint8],
    *,
    convention: Convention = "cielab",
    regions: NDArray[np.uint8] | None = None,
) -> SkinTone:
    """The dominant colour of the visible skin and its ITA; the same on every machine and thread.

    Args:
        image: uint8 sRGB [H, W, 3].
        convention: "cielab": skin pixels of the image at working size, clustered in CIELAB
            (k-means, k by its elbow); the dominant colour is that of the most populous cluster and
            those within SAME_SKIN of it. "published": the published steps in 8-bit CIELAB, whose
            numbers are not ITA but are those of published tables.
        regions: of melfast.skin.masks.find_regions, where they are at hand; not used by
            "published", which has a mask of its own.
    Raises:
        TypeError, ValueError: an argument does not fit; the message says found and wanted.
    """
    if convention == "cielab":
        return _cielab_tone(image, regions)
    if convention == "published":
        return _published_tone(image)
    raise ValueError(f"convention must be 'cielab' or 'published', got {convention!r}")


def _cielab_tone(image: NDArray[np.uint8], regions: NDArray[np.uint8] | None) -> SkinTone:
    if regions is None:
        image = _resized(image, *working_size(*_size(image)))
        regions = find_regions(image)
    else:
        _check_regions(regions)
        image = _resized(image, *regions.shape)
    pixels, skin_fraction = _sample(image, regions)
    if len(pixels) < FEWEST_PIXELS:
        return _no_tone(skin_fraction, NO_SKIN)
    colours = core.srgb_to_lab(pixels)
    inertias, centres, counts = core.cluster_colours(colours, attempts=ATTEMPTS)
    k = _elbow(inertias) or CLUSTERS[-1]
    lab = _dominant(colours, centres[k - CLUSTERS[0]], counts[k - CLUSTERS[0]])
    return _tone(lab, float(ita_degrees(lab)), skin_fraction, k, colours)


def _size(image: NDArray[np.uint8]) -> tuple[int, int]:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a numpy array, got {type(image).__name__}")
    if image.ndim != 3:
        raise ValueError(f"image must have shape (height, width, 3), got {image.shape}")
    return image.shape[:2]


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    out = np.empty((height, width, 3), np.uint8)
    core.resize(image, out)
    return out


def _check_regions(regions: NDArray[np.uint8]) -> None:
    if regions.dtype != np.uint8 or regions.ndim != 2 or regions.size == 0:
        raise ValueError(
            f"regions must be uint8 with shape (height, width), got {regions.dtype} {regions.shape}"
        )


def _sample(
    image: NDArray[np.uint8], regions: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """About SAMPLED_PIXELS skin pixels [n, 3], evenly over the image, and the fraction of skin."""
    places = np.flatnonzero(regions.ravel() == 0)
    fraction = len(places) / regions.size
    places = places[:: max(1, len(places) // SAMPLED_PIXELS)]
    pixels = image.reshape(-1, 3)[places]
    exposed = (pixels.min(axis=1) <= BRIGHTEST) & (pixels.max(axis=1) >= DARKEST)
    return pixels[exposed], fraction


def _elbow(inertias: NDArray[np.float64]) -> int | None:
    """The k where the inertia stops falling steeply; None where it falls evenly or not at all."""
    if inertias.min() == inertias.max():
        return None
    knee = KneeLocator(CLUSTERS, inertias, S=1.0, curve="convex", direction="decreasing").elbow
    return None if knee is None else int(knee)


def _dominant(
    colours: NDArray[np.float32], centres: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean colour [3] of the skin around the most populous cluster.

    Which of two clusters of nearly the same size is larger is chance; so clusters that are one skin
    are taken together, and then the mean of the colours within SAME_SKIN of their middle.
    """
    largest = centres[counts.argmax()]
    one_skin = np.square(centres - largest).sum(axis=1) <= SAME_SKIN**2
    middle = np.average(centres[one_skin], axis=0, weights=counts[one_skin]).astype(np.float32)
    near = colours[np.square(colours - middle).sum(axis=1) <= SAME_SKIN**2]
    return near.mean(axis=0, dtype=np.float64) if len(near) else middle.astype(np.float64)


def _published_tone(image: NDArray[np.uint8]) -> SkinTone:
    small = published.resize_linear(image, *published.WORK_HW)
    lab8 = published.srgb_to_lab8(small)
    seen = (core.published_mask(small) == 0) & (lab8[..., 0] > 0)
    pixels = lab8[seen]
    fraction = len(pixels) / seen.size
    if len(pixels) < FEWEST_PIXELS:
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
    lab: NDArray[np.float64],
    ita_deg: float,
    skin_fraction: float,
    clusters: int,
    colours: NDArray[np.float32],
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
