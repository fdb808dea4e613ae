"""Check: every image and mask of a manifest decoded once, in full, in parallel."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melfast.errors import ImageError
from melfast.files import atomic_path
from melfast.images import ImageInfo, check_image, read_mask
from melfast.manifest import Manifest
from melfast.tables import write_csv


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        good: the rows that can be used, with their `width` and `height` in pixels.
        bad: (image_name, path, reason) of the others.
    """

    good: Manifest
    bad: list[tuple[str, str, str]]


def check_manifest(
    manifest: Manifest, *, threads: int = 1, progress: Callable[[], None] = lambda: None
) -> Checked:
    """Decodes each image, and its mask where it has one, which must have the image's size.

    Args:
        threads: images at a time; a decoder needs up to 0.3 GB at the largest size allowed.
        progress: called as each image is done.
    Raises:
        InputError: a row has no path.
    """
    paths, masks = manifest.image_paths, manifest.mask_paths
    found = []
    pool = ThreadPoolExecutor(threads)
    try:
        for result in pool.map(_check, paths, masks):
            found.append(result)
            progress()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images
    names = manifest.image_names
    bad = [
        (names[row], str(paths[row]), result)
        for row, result in enumerate(found)
        if isinstance(result, str)
    ]
    sizes = [result for result in found if isinstance(result, ImageInfo)]
    good = manifest.select(np.array([isinstance(result, ImageInfo) for result in found], bool))
    good = good.with_columns(
        width=[size.width for size in sizes], height=[size.height for size in sizes]
    )
    return Checked(good, bad)


def write_quarantine(bad: list[tuple[str, str, str]], path: Path) -> None:
    """Writes image_name, path and reason of each bad image; the header alone if there are none."""
    with atomic_path(path) as temporary:
        write_csv(temporary, ("image_name", "path", "reason"), bad)


def remarks(manifest: Manifest) -> list[str]:
    """What a table says that training will stumble over."""
    targets = manifest.targets
    notes = []
    if unlabelled := int((targets == -1).sum()):
        notes.append(f"unlabelled images: {unlabelled} of {len(manifest)}")
    known = targets[targets >= 0]
    if known.size and known.min() == known.max():
        name = "malignant" if known[0] else "benign"
        notes.append(f"one class only: all {known.size} labelled images are {name}")
    if not (manifest.column("patient_id") != "").any() and not (
        (manifest.column("lesion_id") != "").any()
    ):
        notes.append("neither patient_id nor lesion_id: a split can only go by image")
    return notes


def _check(path: Path, mask: Path | None) -> ImageInfo | str:
    """The image's size, or what is wrong with it or its mask."""
    try:
        info = check_image(path)
    except ImageError as error:
        return error.reason
    if mask is None:
        return info
    try:
        height, width = read_mask(mask).shape
    except ImageError as error:
        return f"mask {mask}: {error.reason}"
    if (width, height) != (info.width, info.height):
        return (
            f"mask {mask}: found {width} x {height} pixels, "
            f"wanted {info.width} x {info.height} as the image"
        )
    return info
