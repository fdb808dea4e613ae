"""Masks: a PNG for every image of a manifest."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from melfast.data.manifest import Manifest, relative_folder
from melfast.io.files import atomic_path
from melfast.io.images import read_resized
from melfast.io.journal import Journal
from melfast.io.words import check_words
from melfast.prepare.sweep import Result, Swept, stamp, sweep
from melfast.skin.masks import MaskMethod, make_mask, working_size

# Kept in file names as they are; what separates folders, or has a meaning in URLs, is not.
PLAIN = " !#$&'()+,;=@[]{}~"
# Masks are runs of two values: more effort takes longer and saves nothing to speak of.
PNG_EFFORT = 1
# Of a file name without its suffix; file systems take 255 bytes.
LONGEST = 200


@check_words
def make_masks(
    manifest: Manifest,
    folder: Path,
    method: MaskMethod,
    *,
    threads: int = 1,
    journal: Journal | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Swept:
    """Writes folder/IMAGE_NAME.png, uint8 0 or 255, as large as the image, for each row.

    Args:
        threads: images at a time.
        journal: images whose mask it knows are not made again, unless the mask's file has changed.
        progress: called as each image is done.
    Returns:
        Results of `mask_path` (as written) and `mask_area` (fraction of the image).
    Raises:
        InputError: a mask cannot be written.
    """
    paths = manifest.image_paths
    files = [folder / mask_file(name) for name in manifest.image_names]

    def work(row: int) -> Result:
        mask = read_and_mask(paths[row], method)
        with atomic_path(files[row]) as temporary:
            Image.fromarray(mask).save(temporary, "PNG", compress_level=PNG_EFFORT)
        area = round(float(np.mean(mask > 0)), 5)
        return {"mask_path": str(files[row]), "mask_area": area, "mask_stamp": stamp(files[row])}

    return sweep(
        manifest,
        work,
        threads=threads,
        journal=journal,
        still_good=lambda row, result: result["mask_stamp"] == stamp(files[row]),
        progress=progress,
    )


@check_words
def read_and_mask(path: Path, method: MaskMethod) -> np.ndarray:
    """The mask of an image file: uint8 [H, W], 0 or 255.

    Raises:
        ImageError: as read_image.
    """
    # `published` looks at every pixel; the others work at a size of their own.
    image, size = read_resized(path, _whole if method == "published" else working_size)
    return make_mask(image, method, size)


@check_words
def with_masks(manifest: Manifest, swept: Swept, method: MaskMethod) -> Manifest:
    """The manifest with `mask_path`, `mask_area` and `mask_method`, '' where an image is bad."""
    results = [result or {} for result in swept.results]
    start = manifest.path.parent.resolve()
    paths = [result.get("mask_path") for result in results]
    return manifest.with_columns(
        mask_path=[path and seen_from(Path(path), start) for path in paths],
        mask_area=[result.get("mask_area") for result in results],
        mask_method=[method if result else None for result in results],
    )


def seen_from(path: Path, folder: Path) -> str:
    """A path as a manifest in `folder` (resolved) names it."""
    return str(Path(relative_folder(str(path.parent.resolve()), folder), path.name))


def mask_file(image_name: str) -> str:
    """The file name of an image's mask."""
    return f"{file_stem(image_name)}.png"


def file_stem(image_name: str) -> str:
    """A file name, without suffix, that no other image of the manifest has, inside the folder
    whatever the name."""
    plain = quote(image_name, safe=PLAIN)
    if len(plain) > LONGEST:
        digest = hashlib.sha256(image_name.encode()).hexdigest()
        plain = f"{plain[: LONGEST - len(digest) - 1]}-{digest}"
    return plain


def _whole(height: int, width: int) -> tuple[int, int]:
    return height, width
