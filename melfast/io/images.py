"""Image files to uint8 sRGB arrays: JPEG and PNG, upright, only where the colour can be trusted."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from melfast import core
from melfast.io.budget import PixelBudget
from melfast.io.errors import ImageError, InputError
from melfast.io.words import check_words

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # of a JPEG
WANTED = "wanted 8-bit RGB"

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# What Pillow raises on damaged files.
PNG_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
EXIF_MAGIC = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
# Orientations that are mirrored left-right, or top-bottom, after any transpose.
MIRRORED_ACROSS, MIRRORED_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)

Extent = tuple[float, float, float, float]
Needed = Callable[[int, int], tuple[int, int]]
Scaled = tuple[NDArray[np.uint8], tuple[int, int], Extent]

# Pixels that all threads together may hold decoded: a PNG's take 10 bytes each while it is decoded.
BUDGET = PixelBudget(64_000_000, free=4_000_000)

# (offset, magic, name) of what is found under image suffixes.
OTHER_FORMATS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (8, b"WEBP", "a WebP"),
    (4, b"ftyp", "a HEIF, AVIF or video"),
    (4, b"jP  ", "a JPEG 2000"),
    (128, b"DICM", "a DICOM"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file)"),
)


@check_words
@dataclass(frozen=True)
class ImageInfo:
    """What a full decode found: the size in pixels as it is shown (EXIF orientation applied)."""

    width: int
    height: int
    format: Literal["JPEG", "PNG"]


def read_image(path: str | Path, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """Decodes a JPEG or PNG, told apart by content, not by suffix.

    Args:
        path: the file.
        min_height, min_width: pixels of the upright image that are needed; where either is > 0, a
            JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 that is still at least both.
    Returns:
        uint8 [H, W, 3] sRGB, C-contiguous, upright (EXIF orientation applied), owned by the caller.
    Raises:
        ImageError: the file cannot be read, is no whole JPEG or PNG, is larger than MAX_PIXELS, or
            has no trustworthy 8-bit colour (grey, CMYK, 16-bit, transparency).
    """
    data = read_bytes(path)
    try:
        return decode_image(data, min_height=min_height, min_width=min_width)
    except ValueError as error:
        raise ImageError(path, str(error)) from None


@contextmanager
def scaled(path: str | Path, needed: Needed) -> Iterator[Scaled]:
    """`read_scaled` for the length of a block, at whose end the image must be forgotten.

    The blocks of all threads hold no more pixels at a time than BUDGET allows: 16 threads that
    decode photographs of 24 million pixels as PNG would take 4 GiB.
    """
    data = read_bytes(path)
    try:
        size, least, factor = _plan(data, needed)
    except ValueError as error:
        raise ImageError(path, str(error)) from None
    with BUDGET.hold(size[0] * size[1] // factor**2):
        try:
            image = decode_image(data, min_height=least[0], min_width=least[1])
        except ValueError as error:
            raise ImageError(path, str(error)) from None
        height, width = image.shape[:2]
        if factor == 1:
            yield image, (height, width), (0.0, 0.0, float(height), float(width))
        else:
            yield image, size, _extent(data, (height, width), size, factor)


def read_scaled(path: str | Path, needed: Needed) -> Scaled:
    """`read_image` for who knows what is needed of an image only from its size.

    A JPEG of 1129 rows has 283 at a quarter of the scale, 282.25 of them its own. To stretch all
    283 would shift the picture, and spread what the encoder added.

    Args:
        needed: (height, width) of the upright image in the file to the (height, width) that the
            decoded one should have at least.
    Returns:
        uint8 [h, w, 3], (height, width) of the image in the file, and where the picture is in the
        first: (top, left, bottom, right) in its pixels. All upright.
    Raises:
        ImageError: as read_image.
    """
    with scaled(path, needed) as found:
        return found


def _plan(data: bytes, needed: Needed) -> tuple[tuple[int, int], tuple[int, int], int]:
    """By the header: (height, width) of the upright image, the least of it, and the scale."""
    if data.startswith(JPEG_MAGIC):
        size = _jpeg_size(data)
        least = needed(*size)
        return size, least, _scale_factor(*size, *least)
    if data.startswith(PNG_MAGIC) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return (height, width), (0, 0), 1  # or turned, which its picture will show
    return (0, 0), (0, 0), 1  # decoding says what it is


def read_resized(path: str | Path, size_of: Needed) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """An image at another size, antialiased, from no more of its detail than that size shows.

    Args:
        size_of: (height, width) of the upright image in the file to that of the one wanted.
    Returns:
        uint8 sRGB [h, w, 3] of that size, and (height, width) of the image in the file.
    Raises:
        ImageError: as read_image.
    """
    with scaled(path, size_of) as (image, size, extent):
        wanted = size_of(*size)
        if image.shape[:2] == wanted:
            return image, size
        resized = np.empty((*wanted, 3), np.uint8)
        core.resize(image, resized, extent=extent)
        return resized, size


def check_image(path: str | Path) -> ImageInfo:
    """Decodes the whole file at full size.

    Raises:
        ImageError: as read_image.
    """
    data = read_bytes(path)
    try:
        image = decode_image(data)
    except ValueError as error:
        raise ImageError(path, str(error)) from None
    kind: Literal["JPEG", "PNG"] = "PNG" if data.startswith(PNG_MAGIC) else "JPEG"
    return ImageInfo(width=image.shape[1], height=image.shape[0], format=kind)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a mask: a grey, black-and-white, palette or RGB picture that is light inside.

    Returns:
        bool [H, W]: True above half of the largest value in a PNG (0/255 and 0/1 alike), above 127
        in a JPEG, whose black is not quite 0.
    Raises:
        ImageError: as read_image, but greyscale is what is wanted.
    """
    data = read_bytes(path)
    try:
        if data.startswith(JPEG_MAGIC):
            return _decode_jpeg(data, 0, 0, grey=True)[..., 0] > 127
        if data.startswith(PNG_MAGIC):
            values = _decode_png(data, grey=True)[..., 0]
            return values > values.max() // 2
        raise ValueError(f"found {_describe(data)}, wanted a JPEG or PNG")
    except ValueError as error:
        raise ImageError(path, str(error)) from None


def read_mask_of(path: str | Path, mask: str | Path) -> NDArray[np.bool_]:
    """`read_mask` for an image.

    Raises:
        ImageError: of the image at `path`, with what is wrong with its mask.
    """
    try:
        return read_mask(mask)
    except ImageError as error:
        raise ImageError(path, f"mask {error}") from None


def soft_mask(inside: NDArray[np.bool_], height: int, width: int) -> NDArray[np.uint8]:
    """A mask resized as images are: uint8 [height, width], 255 inside, between at its edges."""
    levels = Image.fromarray(inside.astype(np.uint8) * np.uint8(255))
    return np.asarray(levels.resize((width, height), Image.Resampling.BILINEAR))


def list_images(folder: str | Path) -> list[Path]:
    """JPEG and PNG files under a folder, by suffix in any case, sorted; hidden ones are left out.

    Raises:
        InputError: the folder is missing or holds no image.
    """
    files = scan_images(folder)
    if not files:
        raise InputError(f"{folder}: holds no {', '.join(IMAGE_SUFFIXES)} file")
    return [Path(folder, file) for file in files]


def scan_images(folder: str | Path) -> list[str]:
    """As list_images, but as paths relative to the folder, and an empty folder gives none."""
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "no such folder"
        raise InputError(f"{folder}: {found}, wanted a folder of images")
    files: list[str] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=_cannot_list, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "" if root == str(folder) else os.path.relpath(root, folder) + os.sep
        files += [prefix + name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    return sorted(files)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def read_bytes(path: str | Path) -> bytes:
    """The whole file; raises ImageError where that cannot be had."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except IsADirectoryError:
        raise ImageError(path, "is a folder, wanted an image file") from None
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise ImageError(repr(path), f"is no file name: {error}") from None


def decode_image(data: bytes, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """`read_image` for bytes in memory; raises ValueError with the reason."""
    if data.startswith(JPEG_MAGIC):
        return _decode_jpeg(data, min_height, min_width)
    if data.startswith(PNG_MAGIC):
        return _decode_png(data)
    raise ValueError(f"found {_describe(data)}, wanted a JPEG or PNG")


def _decode_jpeg(data: bytes, min_height: int, min_width: int, *, grey: bool = False) -> NDArray[np.uint8]:
    height, width, colour = _jpeg_header(data)
    _require_size(height, width)
    if colour not in (("YCbCr", "RGB", "Gray") if grey else ("YCbCr", "RGB")):
        found = "greyscale" if colour == "Gray" else colour
        raise ValueError(f"found a {found} JPEG, {WANTED}")
    orientation = _jpeg_orientation(data)
    if orientation >= 5:
        min_height, min_width = min_width, min_height
    factor = _scale_factor(height, width, min_height, min_width)
    try:
        # Asking for exactly 1/factor: libjpeg-turbo's 3/8, 5/8, 6/8 and 7/8 have no vector code and
        # take longer than the next power of two.
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "GRAY" if grey else "RGB", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ValueError as error:
        raise ValueError(f"found a truncated or damaged JPEG ({error})") from None
    return _upright(image, orientation)


def _jpeg_header(data: bytes) -> tuple[int, int, str]:
    """Height and width as stored, and the colour space."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        # "Could not determine subsampling" is what libjpeg-turbo says of any header cut short.
        words = "no whole header" if "subsampling" in str(error) else str(error)
        raise ValueError(f"found a truncated or damaged JPEG ({words})") from None
    return height, width, colour


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of the upright image."""
    height, width, _ = _jpeg_header(data)
    return (width, height) if _jpeg_orientation(data) >= 5 else (height, width)


def _scale_factor(height: int, width: int, min_height: int, min_width: int) -> int:
    """The largest of 8, 4, 2, 1 that leaves at least the wanted size; 1 where none is wanted."""
    if min_height <= 0 and min_width <= 0:
        return 1
    for factor in (8, 4, 2):
        if -(-height // factor) >= min_height and -(-width // factor) >= min_width:
            return factor
    return 1


def _extent(data: bytes, shape: tuple[int, int], size: tuple[int, int], factor: int) -> Extent:
    """Of the picture of upright `size` in a JPEG's upright image of `shape` at 1/factor."""
    height, width = size[0] / factor, size[1] / factor
    orientation = _jpeg_orientation(data)
    top = shape[0] - height if orientation in MIRRORED_DOWN else 0.0
    left = shape[1] - width if orientation in MIRRORED_ACROSS else 0.0
    return top, left, top + height, left + width


def _decode_png(data: bytes, *, grey: bool = False) -> NDArray[np.uint8]:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("found a truncated or damaged PNG header, wanted a whole PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    _require_size(height, width)
    if colour in (0, 4) and not grey:
        raise ValueError(f"found a {depth}-bit greyscale PNG, {WANTED}")
    if depth == 16:  # Pillow would narrow it to 8 bits without a word
        raise ValueError(f"found a 16-bit PNG, {'wanted 8-bit' if grey else WANTED}")
    if data.find(b"acTL", 0, data.find(b"IDAT")) >= 0:
        raise ValueError("found an animated PNG, wanted one picture")
    try:
        # Not Image.open: it warns, by a global limit of its own, of sizes that MAX_PIXELS allows.
        with PngImageFile(BytesIO(data)) as png:
            png.load()
            exif = png.info.get("exif", b"")
            transparent = "A" in png.mode or "transparency" in png.info
            layers = png.convert("RGBA") if transparent else png
            opaque = not transparent or layers.getchannel("A").getextrema() == (255, 255)
            mode = "L" if grey else "RGB"
            # Pillow copies, 4 bytes a pixel, what is in that mode already.
            image = np.array(layers if layers.mode == mode else layers.convert(mode))
    except PNG_ERRORS as error:
        raise ValueError(f"found a truncated or damaged PNG ({error})") from None
    if not opaque:
        wanted = "8-bit" if grey else "8-bit RGB"
        raise ValueError(f"found a PNG with transparent pixels, wanted opaque {wanted}")
    if grey:
        image = image[..., None]
    return _upright(image, _tiff_orientation(exif.removeprefix(EXIF_MAGIC)))


def _require_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"found {width} x {height} pixels, wanted at most {MAX_PIXELS:,} in all")
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"found {width} x {height} pixels, wanted sides of at most {MAX_SIDE:,}")
    if height * width == 0:
        raise ValueError(f"found {width} x {height} pixels, wanted at least one")


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Applies an EXIF orientation, 1..8."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # What is left to do after the transpose: mirror left-right, mirror top-bottom.
    if orientation in MIRRORED_ACROSS:
        image = image[:, ::-1]
    if orientation in MIRRORED_DOWN:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _jpeg_orientation(data: bytes) -> int:
    """Orientation from the Exif segment; 1 where none can be read, as viewers do."""
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding before a marker
            position += 1
            continue
        if marker == 0xDA:  # the picture begins
            return 1
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xE1 and data.startswith(EXIF_MAGIC, position + 4):
            return _tiff_orientation(data[position + 10 : position + 2 + length])
        position += 2 + length
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    """The orientation tag of the first directory of a TIFF structure (Exif 2.32, 4.6.2); else 1."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == ORIENTATION_TAG:
            return value if 1 <= value <= 8 else 1
    return 1


def _describe(data: bytes) -> str:
    """What bytes that are neither JPEG nor PNG seem to be."""
    if not data:
        return "an empty file"
    if not any(data[:4096]):
        return "only zero bytes"
    for offset, magic, name in OTHER_FORMATS:
        if data.startswith(magic, offset):
            return name
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if head.startswith((b"<?xml", b"<svg")):
        return "an XML or SVG file"
    if head.isascii() and not any(byte < 9 for byte in head):
        return "a text file"
    return f"an unknown format (first bytes {data[:4].hex(' ')})"
