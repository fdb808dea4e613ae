"""Skin tone, lesion mask and skin-former for images of any type, one or several."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from melfast.io.pictures import Picture, each
from melfast.io.words import check_words
from melfast.skin import former
from melfast.skin.former import FormerMethod
from melfast.skin.ita import Convention, estimate_tone
from melfast.skin.masks import MaskMethod, make_mask


@check_words
def estimate_ita(images: Picture | Iterable[Picture], *, convention: Convention = "cielab") -> Any:
    """Estimates the skin tone of an image: its ITA in degrees, and the quality of the estimate.

        >>> import numpy as np
        >>> from melfast import estimate_ita
        >>> skin = np.full((64, 64, 3), (201, 160, 132), np.uint8)
        >>> estimate_ita(skin).ita_deg
        42.870191

    Args:
        images: one or several, see melfast.io.pictures.sources.
        convention: see melfast.skin.ita.estimate_tone.
    Returns:
        SkinTone: `ita_deg`, `quality` 0..1, `doubts` and more; a list of them for several images.
    Raises:
        ImageError: an image cannot be read.
        TypeError, ValueError: not an image.
    """
    return each(partial(estimate_tone, convention=convention), images)


@check_words
def lesion_mask(images: Picture | Iterable[Picture], *, method: MaskMethod = "lesion") -> Any:
    """Segments the lesion of an image (or its hair or clean skin, by `method`).

    Args:
        images: one or several, see melfast.io.pictures.sources.
        method: see melfast.skin.masks.make_mask.
    Returns:
        bool [H, W], True inside; a list of them for several images.
    Raises:
        ImageError: an image cannot be read.
        TypeError, ValueError: not an image.
    """
    return each(lambda image: make_mask(image, method).astype(bool), images)


@check_words
def shift_skin(images: Picture | Iterable[Picture], target_ita_deg: float, *, method: FormerMethod = "exact") -> Any:
    """Moves the visible skin of an image to another ITA; the lesion is unchanged.

    Args:
        images: one or several, see melfast.io.pictures.sources.
        target_ita_deg, method: see melfast.skin.former.shift_skin.
    Returns:
        Shifted: `image`, uint8 [H, W, 3], and the `tone` measured on it; a list of them for several
        images.
    Raises:
        ImageError: an image cannot be read.
        TypeError, ValueError: not an image.
    """
    return each(lambda image: former.shift_skin(image, target_ita_deg, method=method), images)
