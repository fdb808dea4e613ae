"""Resize: make a small working copy of each image of a manifest, to be read in every epoch."""

import hashlib
from pathlib import Path

import numpy as np
import simplejpeg

from melfast.data.manifest import Manifest
from melfast.io.errors import ImageError
from melfast.io.files import atomic_path
from melfast.io.images import check_image, soft_mask
from melfast.prepare.masks import file_stem, seen_from, write_png
from melfast.prepare.picture import Picture, copy_size
from melfast.prepare.sweep import Result, Step, SweepResult, stamp

# A pixel belongs to the lesion if at least half of it does.
HALF = 128


def resize_step(manifest: Manifest, folder: Path, side: int, quality: int, *, masked: bool = False) -> Step:
    """Writes folder/images/XX/IMAGE_NAME.jpg for each row, and folder/masks/XX/IMAGE_NAME.png if it
    has a mask; XX spreads the files over 256 folders.

    The shorter side becomes `side`, unless it is smaller; upright, antialiased, chroma at full
    resolution. A copy whose files have changed is made again.

    Args:
        quality: JPEG quality, 1..100.
        masked: every image has a mask, from an earlier step.
    """
    files = [copy_files(folder, name) for name in manifest.image_names]
    has_mask = [masked or path is not None for path in manifest.mask_paths]
    return Step(
        lambda row, picture: write_copy(picture, files[row], side, quality),
        lambda row, result: copy_is_there(result, files[row], with_mask=has_mask[row]),
    )


def write_copy(picture: Picture, files: tuple[Path, Path], side: int, quality: int) -> Result:
    """Writes the copies of an image and of its mask, if it has one.

    Each file is decoded again before it gets its final name.

    Args:
        files: result of `copy_files`.
    Returns:
        `path`, `mask_path` (None without a mask), `width`, `height`, and the stamps of the files.
    Raises:
        ImageError: the image or its mask is bad.
        InputError: a file cannot be written.
    """
    image = picture.resized(lambda height, width: copy_size(height, width, side))
    height, width = image.shape[:2]
    file, mask_file = files
    with atomic_path(file) as temporary:
        temporary.write_bytes(simplejpeg.encode_jpeg(image, quality=quality, colorsubsampling="444"))
        _require_copy(temporary, file, width, height)
    result = {"path": str(file), "mask_path": None, "width": width, "height": height}
    if picture.mask is not None:
        levels = soft_mask(picture.mask, height, width)
        write_png(np.where(levels >= HALF, np.uint8(255), np.uint8(0)), mask_file)
        result |= {"mask_path": str(mask_file), "mask_stamp": stamp(mask_file)}
    return result | {"stamp": stamp(file)}


def copy_is_there(result: Result, files: tuple[Path, Path], *, with_mask: bool) -> bool:
    """Whether the files still are the ones that `write_copy` wrote."""
    if result["stamp"] != stamp(files[0]) or with_mask != (result["mask_path"] is not None):
        return False
    return not with_mask or bool(result["mask_stamp"] == stamp(files[1]))


def with_resized(manifest: Manifest, swept: SweepResult) -> Manifest:
    """The rows with good images, with the paths of the copies; `original_path` holds the earlier ones.

    `width` and `height` are those of the copy; an existing `original_path` is kept.
    """
    rows = [row for row, result in enumerate(swept.results) if result is not None]
    results = [result for result in swept.results if result is not None]
    start = manifest.path.parent.resolve()
    kept = manifest.select(rows)
    before = kept.column("original_path")
    originals = [old or seen_from(path, start) for old, path in zip(before, kept.image_paths, strict=True)]
    columns: dict[str, list] = {
        "original_path": originals,
        "path": [seen_from(Path(result["path"]), start) for result in results],
        "width": [result["width"] for result in results],
        "height": [result["height"] for result in results],
    }
    if "mask_path" in kept.table:
        columns["mask_path"] = [mask and seen_from(Path(mask), start) for mask in (r["mask_path"] for r in results)]
    return kept.with_columns(**columns)


def copy_files(folder: Path, image_name: str) -> tuple[Path, Path]:
    """Paths of the copies of an image and of its mask."""
    stem = file_stem(image_name)
    part = hashlib.sha256(image_name.encode()).hexdigest()[:2]
    return folder / "images" / part / f"{stem}.jpg", folder / "masks" / part / f"{stem}.png"


def _require_copy(temporary: Path, file: Path, width: int, height: int) -> None:
    """Raises ImageError if the written file cannot be read, or has another size."""
    try:
        found = check_image(temporary)
    except ImageError as error:
        raise ImageError(file, f"the copy cannot be read: {error.reason}") from None
    if (found.width, found.height) != (width, height):
        raise ImageError(file, f"the copy has {found.width} x {found.height} pixels")
