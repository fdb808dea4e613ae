"""Decode the bytes of one picture to uint8 sRGB, guided by its header."""

from io import BytesIO
from typing import BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from melfast.io import rare_formats
from melfast.io.colour_profiles import to_srgb
from melfast.io.errors import UnreadableError
from melfast.io.formats import read_header
from melfast.io.headers import (
    EXIF_MAGIC,
    WANTED,
    Header,
    decoding,
    png_chunks,
    require_few_scans,
    tiff_orientation,
    without_stray,
)

# Orientations that are mirrored left-right, or top-bottom, after any transpose.
MIRRORED_ACROSS, MIRRORED_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)
ROWS = 128  # converted at a time
# Not Image.open: its own global limit warns about sizes that MAX_PIXELS allows.
OPENERS = rare_formats.OPENERS | {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}
# Bytes per pixel at the peak of a decode, including the returned picture; measured (tests/io/test_budget.py).
COSTS = {"JPEG": 6, "PNG": 8, "WebP": 17, "BMP": 8, "TIFF": 12, "HEIF": 17, "AVIF": 14, "DICOM": 12}
COEFFICIENTS = 6  # bytes per pixel of a progressive JPEG at any scale


def decode(file: BinaryIO, header: Header, factor: int = 1, *, grey: bool = False) -> NDArray[np.uint8]:
    """Decodes the whole picture.

    Args:
        file: the open file that `header` was read from.
        factor: 1, 2, 4 or 8: a scalable picture is decoded at 1/factor of its size.
        grey: decode a mask: levels [H, W, 1], ignoring the profile.
    Returns:
        uint8 [H, W, 3] sRGB, C-contiguous, upright.
    Raises:
        UnreadableError: with the reason.
        OSError: the file cannot be read.
    """
    _require_colour(header.colour, header.format, grey)
    file.seek(0)
    data = file.read()
    with decoding(header.format):
        orientation = header.orientation
        if header.format == "JPEG":
            image = _jpeg(data, header, factor, grey)
        elif header.format == "DICOM":
            image = _dicom(data, grey)
        else:
            if header.format == "PNG":
                require_whole_png(data)
            opened = OPENERS[header.format](BytesIO(data))
            image = _pixels(opened, header.format, grey)
            if header.format == "PNG":  # its EXIF may follow the picture
                orientation = tiff_orientation(opened.info.get("exif", b"").removeprefix(EXIF_MAGIC))
            del opened  # its pixels
        if header.profile and not grey:
            to_srgb(image, header.profile)
    return upright(image, orientation)


def peak_bytes(header: Header, factor: int) -> int:
    """Maximum memory that decoding needs, besides the bytes of the file."""
    pixels = header.height * header.width
    coefficients = COEFFICIENTS * pixels if header.progressive else 0
    return COSTS[header.format] * pixels // factor**2 + coefficients


def require_whole_png(data: bytes) -> None:
    """Raises UnreadableError if a chunk is truncated or its checksum is wrong; Pillow ignores checksums of IDAT."""
    for _ in png_chunks(data, checked=True):
        pass


def _require_colour(colour: str, kind: str, grey: bool) -> None:
    if colour != "RGB" and not (grey and colour.endswith("greyscale") and not colour.startswith("16")):
        raise UnreadableError(f"found a {colour} {kind}, {'wanted 8-bit' if grey else WANTED}")


def _jpeg(data: bytes, header: Header, factor: int, grey: bool) -> NDArray[np.uint8]:
    require_few_scans(data, header)
    if not header.scalable:  # simplejpeg has no name for its chroma sampling
        return _pixels(JpegImageFile(BytesIO(data)), "JPEG", grey)
    # Asking for exactly 1/factor: libjpeg-turbo's 3/8, 5/8, 6/8 and 7/8 have no vector code and
    # take longer than the next power of two.
    least = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)}
    image: NDArray[np.uint8] = simplejpeg.decode_jpeg(without_stray(data, header), "GRAY" if grey else "RGB", **least)
    return image


def _dicom(data: bytes, grey: bool) -> NDArray[np.uint8]:
    picture = rare_formats.dicom_frame(data)
    if isinstance(picture, Image.Image):
        return _pixels(picture, "DICOM", grey)
    frame = BytesIO(picture)
    header = read_header(frame)
    if header.format != "JPEG":
        raise UnreadableError(f"found a DICOM that holds a {header.format}, wanted a JPEG")
    return decode(frame, header, grey=grey)


def _pixels(image: Image.Image, kind: str, grey: bool) -> NDArray[np.uint8]:
    """A Pillow image as an array, converted in strips; converted whole, it would be in memory three times."""
    image.load()
    _require_colour("RGB" if image.mode == "YCbCr" else rare_formats.colour_of(image.mode), kind, grey)
    transparent = "A" in image.mode or "transparency" in image.info
    mode = "L" if grey else "RGB"
    out = np.empty((image.height, image.width, 1 if grey else 3), np.uint8)
    for top in range(0, image.height, ROWS):
        strip = image.crop((0, top, image.width, min(top + ROWS, image.height)))
        if transparent:
            strip = strip.convert("RGBA")
            if strip.getchannel("A").getextrema() != (255, 255):
                wanted = "8-bit" if grey else "8-bit RGB"
                raise UnreadableError(f"found a {kind} with transparent pixels, wanted opaque {wanted}")
        levels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        out[top : top + ROWS] = levels.reshape(levels.shape[0], -1, out.shape[2])
    return out


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Applies an EXIF orientation, 1..8."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # After the transpose: mirror left-right, mirror top-bottom.
    if orientation in MIRRORED_ACROSS:
        image = image[:, ::-1]
    if orientation in MIRRORED_DOWN:
        image = image[::-1]
    return np.ascontiguousarray(image)
