"""Masks: a PNG for every image of a manifest."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from melfast.data.manifest import Manifest, relative_folder
from melfast.io.files import atomic_path
from melfast.io.headers import PNG_MAGIC
from melfast.io.journal import Journal
from melfast.io.words import check_words
from melfast.prepare.picture import Picture, open_picture, whole
from melfast.prepare.sweep import Result, SweepResult, stamp, sweep
from melfast.skin.masks import MaskMethod, make_mask, region_mask

# Kept in file names as they are; what separates folders, or has a meaning in URLs, is not.
PLAIN = " !#$&'()+,;=@[]{}~"
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
) -> SweepResult:
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
        with open_picture(paths[row]) as picture:
            return write_mask(picture, files[row], method)

    return sweep(
        manifest,
        work,
        threads=threads,
        journal=journal,
        still_good=lambda row, result: mask_is_there(result, files[row]),
        progress=progress,
    )


@check_words
def write_mask(picture: Picture, file: Path, method: MaskMethod) -> Result:
    """Writes the mask of an image, which has it from then on.

    Raises:
        ImageError: the image is bad.
        InputError: the file cannot be written.
    """
    # `published` looks at every pixel; the others work at a size of their own.
    if method == "published":
        mask = make_mask(picture.resized(whole), method)
    else:
        mask = region_mask(picture.regions, method, *picture.size)
    write_png(mask, file)
    picture.mask_path, picture.mask = file, mask > 0
    area = round(np.count_nonzero(mask) / mask.size, 5)
    return {"mask_path": str(file), "mask_area": area, "mask_stamp": stamp(file)}


def mask_is_there(result: Result, file: Path) -> bool:
    """Whether the file is still that of a result of `write_mask`."""
    return bool(result["mask_stamp"] == stamp(file))


def write_png(mask: NDArray[np.uint8], file: Path) -> None:
    """A greyscale PNG of 8 bits, packed for runs of equal values, which Pillow cannot be asked for."""
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = mask
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packer.compress(rows.tobytes()) + packer.flush()), (b"IEND", b""))
    with atomic_path(file) as temporary, open(temporary, "wb") as png:
        png.write(PNG_MAGIC)
        for name, body in chunks:
            png.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))


@check_words
def with_masks(manifest: Manifest, swept: SweepResult, method: MaskMethod) -> Manifest:
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
