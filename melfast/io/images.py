"""Read image files as upright uint8 sRGB arrays, if their colour can be trusted."""

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
from melfast.io.decoders import MIRRORED_ACROSS, MIRRORED_DOWN, decode_pixels, peak_bytes
from melfast.io.errors import ImageError, UnreadableError
from melfast.io.formats import read_header
from melfast.io.headers import HEAD, Format, Header
from melfast.io.memory import InMemory, Source
from melfast.io.words import check_words

FILE_VARIABLE = "MELFAST_MAX_FILE_BYTES"
MAX_FILE_BYTES = 512 << 20
# What may be there instead of a regular file.
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


@check_words
@dataclass(frozen=True)
class ImageInfo:
    """Result of a full decode.

    Attributes:
        width, height: pixels as displayed (EXIF orientation applied).
        profile: name of the colour profile; '' if there is none.
    """

    width: int
    height: int
    format: Format
    profile: str = ""


def read_image(path: Source, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """Decodes an image and applies its colour profile; the content decides the format, not the suffix.

    Args:
        path: a JPEG, PNG, WebP, BMP or TIFF; AVIF, HEIC and DICOM if their libraries are installed.
        min_height, min_width: pixels that the upright image needs; if either is > 0, a JPEG is decoded
            at the smallest scale of 1/1, 1/2, 1/4 and 1/8 that satisfies both.
    Returns:
        uint8 [H, W, 3] sRGB, C-contiguous, upright (EXIF orientation applied), owned by the caller.
    Raises:
        ImageError: the file cannot be read, is not a complete image, exceeds MAX_PIXELS, or has no trustworthy 8-bit
            colour (grey, CMYK, 16-bit, transparency, a damaged profile).
    """
    return read_scaled(path, lambda *_: (min_height, min_width))[0]


@dataclass(frozen=True)
class ImageFile:
    """An open image file and its header."""

    path: Source
    file: BinaryIO
    header: Header

    def factor(self, needed: Needed) -> int:
        """1, 2, 4 or 8: the picture is decoded at 1/factor of its size."""
        return _scale_factor(*self.header.size, *needed(*self.header.size)) if self.header.scalable else 1

    @contextmanager
    def at(self, factor: int, *, grey: bool = False) -> Iterator[Scaled]:
        """`read_scaled` as a block; do not keep the image after it.

        All threads together use no more memory in these blocks than BUDGET allows: 16 threads that
        decode PNG photographs of 24 million pixels would otherwise need 4 GiB.
        """
        header = self.header
        with BUDGET.hold(self.file.seek(0, os.SEEK_END) + peak_bytes(header, factor)):
            with _blamed(self.path):
                image = decode_pixels(self.file, header, factor, grey=grey)
            height, width = image.shape[:2]
            if factor == 1:
                yield image, (height, width), (0.0, 0.0, float(height), float(width))
            else:
                yield image, header.size, _extent(header, (height, width), factor)


@contextmanager
def opened(path: Source) -> Iterator[ImageFile]:
    """A file whose header has been read; raises ImageError as read_image."""
    with open_image(path) as file:
        with _blamed(path):
            header = read_header(file)
        yield ImageFile(path, file, header)


@contextmanager
def scaled(path: Source, needed: Needed) -> Iterator[Scaled]:
    """`ImageFile.at` of a path, or an image in memory."""
    if isinstance(path, InMemory) and isinstance(path.content, np.ndarray):
        height, width = path.content.shape[:2]
        yield path.content, (height, width), (0.0, 0.0, float(height), float(width))
        return
    with opened(path) as image, image.at(image.factor(needed)) as found:
        yield found


def read_scaled(path: Source, needed: Needed) -> Scaled:
    """Like `read_image`, but the caller chooses the scale once the size is known.

    A JPEG with 1129 rows has 283 rows at a quarter of the scale, of which 282.25 belong to the picture.
    Stretching all 283 would shift the picture and include padding of the encoder.

    Args:
        needed: maps (height, width) of the upright image in the file to the minimum (height, width) of
            the decoded one.
    Returns:
        uint8 [h, w, 3], (height, width) of the image in the file, and the place of the picture in the
        decoded image: (top, left, bottom, right) in its pixels. All upright.
    Raises:
        ImageError: as read_image.
    """
    with scaled(path, needed) as found:
        return found


def read_resized(path: Source, size_of: Needed) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Reads an image at another size, antialiased; decodes no more detail than that size needs.

    Args:
        size_of: maps (height, width) of the upright image in the file to the size of the result.
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
    with opened(path) as image, image.at(1) as (_, (height, width), _):
        return ImageInfo(width, height, image.header.format, profile_of(image))


def profile_of(image: ImageFile) -> str:
    """What its colour profile calls itself; '' where it has none; raises ImageError where it is damaged."""
    with _blamed(image.path):
        return profile_name(image.header.profile)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Decodes a mask: a grey, black-and-white, palette or RGB picture that is light inside.

    Returns:
        bool [H, W]: True above 127 in a JPEG, whose black is not exactly 0; otherwise above half of the
        largest value (for 0/255 and 0/1 alike).
    Raises:
        ImageError: as read_image, but greyscale is accepted.
    """
    with opened(path) as mask, mask.at(1, grey=True) as (image, _, _):
        values = image[..., 0]
        return values > (127 if mask.header.format == "JPEG" else values.max() // 2)


def read_mask_of(path: Source, mask: str | Path) -> NDArray[np.bool_]:
    """`read_mask` for an image.

    Raises:
        ImageError: names the image at `path`, and what is wrong with its mask.
    """
    try:
        return read_mask(mask)
    except ImageError as error:
        raise ImageError(path, f"mask {error}") from None


def soft_mask(inside: NDArray[np.bool_], height: int, width: int) -> NDArray[np.uint8]:
    """A mask resized like images: uint8 [height, width], 255 inside, soft at its edges."""
    levels = Image.fromarray(inside.astype(np.uint8) * np.uint8(255))
    return np.asarray(levels.resize((width, height), Image.Resampling.BILINEAR))


def decode_image(data: bytes, *, min_height: int = 0, min_width: int = 0) -> NDArray[np.uint8]:
    """`read_image` for bytes in memory; raises ValueError with the reason."""
    file = BytesIO(data)
    header = read_header(file)
    factor = _scale_factor(*header.size, min_height, min_width) if header.scalable else 1
    with BUDGET.hold(peak_bytes(header, factor)):
        return decode_pixels(file, header, factor)


@contextmanager
def open_image(path: Source) -> Iterator[BinaryIO]:
    """Opens a regular file of at most MELFAST_MAX_FILE_BYTES; raises ImageError otherwise."""
    if isinstance(path, InMemory):
        assert isinstance(path.content, bytes)
        yield BytesIO(path.content)
        return
    limit = positive_bytes(FILE_VARIABLE) if FILE_VARIABLE in os.environ else MAX_FILE_BYTES
    with _blamed(path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            found = next((name for is_kind, name in FILE_KINDS if is_kind(status.st_mode)), "no regular file")
            raise UnreadableError(f"is {found}, expected an image file")
        if status.st_size > limit:
            raise UnreadableError(f"found {status.st_size:,} bytes, expected at most {limit:,} ({FILE_VARIABLE})")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may have replaced it
    with open(descriptor, "rb") as file:
        if status.st_size > HEAD:
            yield file
            return
        with _blamed(path):
            data = file.read(status.st_size + 1)  # one more, because files in /proc have size 0
    yield BytesIO(data)  # does not copy the bytes


def read_bytes(path: Source) -> bytes:
    """The whole file; raises ImageError like open_image."""
    with open_image(path) as file, _blamed(path):
        return file.read()


@contextmanager
def _blamed(path: Source) -> Iterator[None]:
    """Turns errors in the block into an ImageError for the file."""
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
    """The largest of 8, 4, 2, 1 that leaves at least the requested size; 1 if none is requested."""
    if min_height <= 0 and min_width <= 0:
        return 1
    for factor in (8, 4, 2):
        if -(-height // factor) >= min_height and -(-width // factor) >= min_width:
            return factor
    return 1


def _extent(header: Header, shape: tuple[int, int], factor: int) -> Extent:
    """Extent of the picture in the upright image of `shape`, decoded from a JPEG at 1/factor."""
    height, width = header.size[0] / factor, header.size[1] / factor
    top = shape[0] - height if header.orientation in MIRRORED_DOWN else 0.0
    left = shape[1] - width if header.orientation in MIRRORED_ACROSS else 0.0
    return top, left, top + height, left + width
