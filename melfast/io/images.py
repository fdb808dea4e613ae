"""Image files to uint8 sRGB arrays, upright, only where the colour can be trusted."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melfast import core
from melfast.io.budget import BUDGET, positive_bytes
from melfast.io.colour_profiles import profile_name
from melfast.io.decoders import MIRRORED_ACROSS, MIRRORED_DOWN, decode, peak_bytes
from melfast.io.errors import ImageError, UnreadableError
from melfast.io.formats import read_header
from melfast.io.headers import HEAD, Format, Header
from melfast.io.memory import InMemory, Source

FILE_VARIABLE = "MELFAST_MAX_FILE_BYTES"
MAX_FILE_BYTES = 512 << 20
# What is found in place of a regular file.
FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

Extent = tuple[float, float, float, float]
Needed = Callable[[int, int], tuple[int, int]]
Scaled = tuple[NDArray[np.uint8], tuple[int, int], Extent]


@dataclass(frozen=True)
class ImageInfo:
    """What a full decode found.

    Attributes:
        width, height: pixels as it is shown (EXIF orientation applied).
        profile: what its colour profile calls itself; '' where it has none.
    """

    width: int
    height: int
    format: Format
    profile: str = ""


def read_image(path: Source, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """Decodes an image, its format told by content, not by suffix; a colour profile is applied.

    Args:
        path: a JPEG, PNG, WebP, BMP or TIFF; AVIF, HEIC and DICOM where their libraries are installed.
        min_height, min_width: pixels of the upright image that are needed; where either is > 0, a
            JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 that is still at least both.
    Returns:
        uint8 [H, W, 3] sRGB, C-contiguous, upright (EXIF orientation applied), owned by the caller.
    Raises:
        ImageError: the file cannot be read, is no whole image, is larger than MAX_PIXELS, or has no trustworthy 8-bit
            colour (grey, CMYK, 16-bit, transparency, a damaged profile).
    """
    return read_scaled(path, lambda *_: (min_height, min_width))[0]


@contextmanager
def scaled(path: Source, needed: Needed, *, grey: bool = False) -> Iterator[Scaled]:
    """`read_scaled` for the length of a block, at whose end the image must be forgotten.

    The blocks of all threads hold no more memory at a time than BUDGET allows: 16 threads that
    decode photographs of 24 million pixels as PNG would take 4 GiB.
    """
    if isinstance(path, InMemory) and isinstance(path.content, np.ndarray):
        height, width = path.content.shape[:2]
        yield path.content, (height, width), (0.0, 0.0, float(height), float(width))
        return
    with open_image(path) as file:
        with _blamed(path):
            header = read_header(file)
        least = needed(*header.size) if header.scalable else (0, 0)
        factor = _scale_factor(*header.size, *least)
        with BUDGET.hold(file.seek(0, os.SEEK_END) + peak_bytes(header, factor)):
            with _blamed(path):
                image = decode(file, header, factor, grey=grey)
            height, width = image.shape[:2]
            if factor == 1:
                yield image, (height, width), (0.0, 0.0, float(height), float(width))
            else:
                yield image, header.size, _extent(header, (height, width), factor)


def read_scaled(path: Source, needed: Needed) -> Scaled:
    """Like `read_image`, but the caller chooses the scale once the size is known.

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


def read_resized(path: Source, size_of: Needed) -> tuple[NDArray[np.uint8], tuple[int, int]]:
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
    with open_image(path) as file, _blamed(path):
        header = read_header(file)
        profile = profile_name(header.profile)
    with scaled(path, lambda *_: (0, 0)) as (_, (height, width), _):
        return ImageInfo(width, height, header.format, profile)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a mask: a grey, black-and-white, palette or RGB picture that is light inside.

    Returns:
        bool [H, W]: True above 127 in a JPEG, whose black is not quite 0; else above half of the
        largest value (0/255 and 0/1 alike).
    Raises:
        ImageError: as read_image, but greyscale is what is wanted.
    """
    with open_image(path) as file, _blamed(path):
        lossy = read_header(file).format == "JPEG"
    with scaled(path, lambda *_: (0, 0), grey=True) as (image, _, _):
        values = image[..., 0]
        return values > (127 if lossy else values.max() // 2)


def read_mask_of(path: Source, mask: str | Path) -> NDArray[np.bool_]:
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


def decode_image(data: bytes, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """`read_image` for bytes in memory; raises ValueError with the reason."""
    file = BytesIO(data)
    header = read_header(file)
    factor = _scale_factor(*header.size, min_height, min_width) if header.scalable else 1
    with BUDGET.hold(peak_bytes(header, factor)):
        return decode(file, header, factor)


@contextmanager
def open_image(path: Source) -> Iterator[BinaryIO]:
    """A regular file of at most MELFAST_MAX_FILE_BYTES; raises ImageError where that cannot be had."""
    if isinstance(path, InMemory):
        assert isinstance(path.content, bytes)
        yield BytesIO(path.content)
        return
    limit = positive_bytes(FILE_VARIABLE) if FILE_VARIABLE in os.environ else MAX_FILE_BYTES
    with _blamed(path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            found = next((name for is_kind, name in FILE_KINDS if is_kind(status.st_mode)), "no regular file")
            raise UnreadableError(f"is {found}, wanted an image file")
        if status.st_size > limit:
            raise UnreadableError(f"found {status.st_size:,} bytes, wanted at most {limit:,} ({FILE_VARIABLE})")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may have taken its place
    with open(descriptor, "rb") as file:
        if status.st_size > HEAD:
            yield file
            return
        with _blamed(path):
            data = file.read(status.st_size + 1)  # one more: a file of /proc says 0
    yield BytesIO(data)  # whose bytes are not copied


def read_bytes(path: Source) -> bytes:
    """The whole file; raises ImageError as open_image."""
    with open_image(path) as file, _blamed(path):
        return file.read()


@contextmanager
def _blamed(path: Source) -> Iterator[None]:
    """What is wrong with a file inside, as its ImageError."""
    try:
        yield
    except UnreadableError as error:
        raise ImageError(path, str(error)) from None
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise ImageError(repr(path), f"is no file name: {error}") from None


def _scale_factor(height: int, width: int, min_height: int, min_width: int) -> int:
    """The largest of 8, 4, 2, 1 that leaves at least the wanted size; 1 where none is wanted."""
    if min_height <= 0 and min_width <= 0:
        return 1
    for factor in (8, 4, 2):
        if -(-height // factor) >= min_height and -(-width // factor) >= min_width:
            return factor
    return 1


def _extent(header: Header, shape: tuple[int, int], factor: int) -> Extent:
    """Of the picture in a JPEG's upright image of `shape` at 1/factor."""
    height, width = header.size[0] / factor, header.size[1] / factor
    top = shape[0] - height if header.orientation in MIRRORED_DOWN else 0.0
    left = shape[1] - width if header.orientation in MIRRORED_ACROSS else 0.0
    return top, left, top + height, left + width
