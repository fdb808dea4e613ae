"""Masks: segment lesion, hair and skin in dermoscopic images, at any size."""

import enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.io.words import check_words

# Longer side, in pixels, of the image in which regions are segmented: there a hair is one to ten pixels
# wide, whether the photograph has 6,000 pixels or 600. Smaller images are used unchanged.
WORKING_SIDE: int = core.WORKING_SIDE

MaskMethod = Literal["lesion", "published", "hair", "skin"]


class Region(enum.IntFlag):
    """Content of a pixel; no bit: clean skin."""

    LESION = 1
    HAIR = 2  # and other thin dark lines, such as the ticks of a ruler
    VIGNETTE = 4  # dark corners of a round field of view, or a black frame
    RULER = 8  # ink, stickers and paper
    GLARE = 16
    MARGIN = 32  # too close to one of them, or as dark as the lesion, to count as skin


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which the regions of an image of height x width are segmented."""
    longer = max(height, width)
    if longer <= WORKING_SIDE:
        return height, width
    scale = WORKING_SIDE / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def find_regions(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Segments an image at its working size.

    Args:
        image: uint8 sRGB [H, W, 3].
    Returns:
        uint8 [h, w] of Region bits, (h, w) = working_size(H, W).
    Raises:
        TypeError, ValueError: wrong dtype or shape.
    """
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.size:
        size = working_size(*image.shape[:2])
        if size != image.shape[:2]:
            work = np.empty((*size, 3), np.uint8)
            core.resize(image, work)
            image = work
    return core.skin_regions(image)


@check_words
def make_mask(
    image: NDArray[np.uint8], method: MaskMethod = "lesion", size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """A mask of the lesion, the hair or the clean skin.

    Args:
        image: uint8 sRGB [H, W, 3].
        method: "lesion", "hair" and "skin" are segmented at the working size and scaled;
            "published" is the published method at the size of the image: dark pixels of a
            contrast-enhanced image, dilated, and hair.
        size: (height, width) of the mask, by default that of the image.
    Returns:
        uint8 [height, width]: 255 inside, 0 outside.
    Raises:
        TypeError, ValueError: an invalid argument.
    """
    height, width = size or image.shape[:2]
    if method != "published":
        return region_mask(find_regions(image), method, height, width)
    mask = core.published_mask(image)
    return mask if mask.shape == (height, width) else core.resize_mask(mask, height, width)


@check_words
def region_mask(regions: NDArray[np.uint8], method: MaskMethod, height: int, width: int) -> NDArray[np.uint8]:
    """`make_mask` of an image's regions, but for "published"."""
    parts = {"lesion": Region.LESION, "hair": Region.HAIR}
    inside = (regions & parts[method]) != 0 if method in parts else regions == 0
    return core.resize_mask(inside.view(np.uint8), height, width)
