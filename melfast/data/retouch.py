"""Pixel operations of a record other than resampling, as arguments of core.prepare."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.augment import IDENTITY
from melfast.data.image_list import ImageList
from melfast.data.plan import EpochPlan, size_before_warp
from melfast.data.preprocess import Preprocess
from melfast.io.errors import ImageError
from melfast.io.images import read_mask_of, soft_mask
from melfast.io.memory import Source
from melfast.skin.curves import level_curves


def retouch(plan: EpochPlan, record: int, images: ImageList, preprocess: Preprocess) -> dict[str, Any]:
    """Keyword arguments of core.prepare for a record.

    Args:
        images: all images; `plan.index` refers to them.
    Raises:
        ImageError: the mask is needed and missing, or cannot be read.
    """
    changes: dict[str, Any] = {}
    plane = lesion_plane(plan, record, images, preprocess)
    if plane is not None:
        changes["mask"] = plane
        changes["masked"] = plan.masked is not None and bool(plan.masked[record])
    if plan.is_moved(record):
        assert plan.gains is not None
        changes["curves"] = level_curves(plan.gains[record])
    if plan.jitter is not None:
        changes["jitter"] = plan.jitter[record]
    if plan.erase is not None and plan.erase[record, 2]:
        changes |= {"erase": plan.erase[record].tolist(), "fill": preprocess.fill}
    return changes


def lesion_plane(plan: EpochPlan, record: int, images: ImageList, preprocess: Preprocess) -> NDArray[np.uint8] | None:
    """The mask that a record needs, as returned by `read_plane`; None if it needs none.

    Raises:
        ImageError: the mask is missing, or cannot be read.
    """
    if not plan.needs_mask(record):
        return None
    row = plan.index[record]
    path, mask = images.paths[row], images.masks[row] if images.masks is not None else None
    if mask is None:
        raise ImageError(path, "has no lesion mask (mask_path): melfast prepare masks")
    return read_plane(path, mask, plan.affine[record], preprocess)


def read_plane(path: Source, mask: Path, affine: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.uint8]:
    """A mask as the model's input shows it: uint8 [height, width], soft at its edges.

    Raises:
        ImageError: names the image and what is wrong with its mask.
    """
    size = preprocess.height, preprocess.width
    height, width = size_before_warp(affine, *size)
    plane = soft_mask(read_mask_of(path, mask), height, width)
    if (height, width) == size and np.array_equal(affine, IDENTITY):
        return plane
    # Warped like the image, as three equal channels.
    warped = np.empty((*size, 3), np.uint8)
    channels = np.repeat(plane[..., None], 3, axis=-1)
    core.prepare(channels, affine, warped, "rgb", (0, 0, 0), (1, 1, 1), working=(height, width))
    return warped[..., 0]
