"""Masks: make a mask (PNG) for every image of a manifest."""

import hashlib
import struct
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from melfast.data.manifest import Manifest, relative_folder
from melfast.io.files import atomic_path
from melfast.io.headers import PNG_MAGIC
from melfast.io.words import check_words
from melfast.prepare.picture import Picture, whole
from melfast.prepare.sweep import Result, Step, SweepResult, stamp
from melfast.skin.masks import MaskMethod, make_mask, region_mask

# Kept in file names; characters that separate folders or have a meaning in URLs are escaped.
PLAIN = " !#$&'()+,;=@[]{}~"
# Longest file name without its suffix; file systems allow 255 bytes.
LONGEST = 200


@check_words
def mask_step(manifest: Manifest, folder: Path, method: MaskMethod) -> Step:
    """Writes folder/IMAGE_NAME.png for each row, see `write_mask`; a mask whose file has changed is made again."""
    files = [folder / mask_file(name) for name in manifest.image_names]
    return Step(
        lambda row, picture: write_mask(picture, files[row], method),
        lambda row, result: bool(result["mask_stamp"] == stamp(files[row])),
    )


@check_words
def write_mask(picture: Picture, file: Path, method: MaskMethod) -> Result:
    """Writes the mask of an image, uint8 0 or 255, as large as the image, and makes it the mask of `picture`.

    Returns:
        `mask_path` (as written), `mask_area` (fraction of the image), and the stamp of the file.
    Raises:
        ImageError: the image is bad.
        InputError: the file cannot be written.
    """
    # `published` uses every pixel; the other methods work at a fixed size.
    if method == "published":
        mask = make_mask(picture.resized(whole), method)
    else:
        mask = region_mask(picture.regions, method, *picture.size)
    write_png(mask, file)
    picture.mask_path, picture.mask = file, mask > 0
    area = round(np.count_nonzero(mask) / mask.size, 5)
    return {"mask_path": str(file), "mask_area": area, "mask_stamp": stamp(file)}


def write_png(mask: NDArray[np.uint8], file: Path) -> None:
    """Writes an 8-bit greyscale PNG with run-length compression, an option that Pillow lacks."""
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter type, 0: none
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
    """The manifest with `mask_path`, `mask_area` and `mask_method`, '' for bad images."""
    results = [result or {} for result in swept.results]
    start = manifest.path.parent.resolve()
    paths = [result.get("mask_path") for result in results]
    return manifest.with_columns(
        mask_path=[path and seen_from(Path(path), start) for path in paths],
        mask_area=[result.get("mask_area") for result in results],
        mask_method=[method if result else None for result in results],
    )


def seen_from(path: Path, folder: Path) -> str:
    """A path as written in a manifest in `folder` (resolved)."""
    return str(Path(relative_folder(str(path.parent.resolve()), folder), path.name))


def mask_file(image_name: str) -> str:
    """The file name of an image's mask."""
    return f"{file_stem(image_name)}.png"


def file_stem(image_name: str) -> str:
    """A file name without suffix, unique in the manifest and safe for any image name."""
    plain = quote(image_name, safe=PLAIN)
    if len(plain) > LONGEST:
        digest = hashlib.sha256(image_name.encode()).hexdigest()
        plain = f"{plain[: LONGEST - len(digest) - 1]}-{digest}"
    return plain
