"""Read headers and pictures of TIFF, HEIF, AVIF and DICOM files, as Pillow images.

Their headers may be anywhere in the file; the readers used here decode pixels only on request.
"""

import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image
from PIL.TiffImagePlugin import TiffImageFile

from melfast.io.errors import UnreadableError
from melfast.io.headers import HEAD, WANTED, Header, cicp_profile, tiff_orientation

# Colours of Pillow modes; other modes are grey or have their own name.
RGB_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
BITS_PER_SAMPLE = 258
TIFF_CODINGS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
AVIF_INSTALL = "pip install --upgrade pillow"
HEIF_INSTALL = "pip install pillow-heif"
DICOM_INSTALL = "pip install pydicom"
# Transfer syntaxes (DICOM PS3.5, 10 and A.4).
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
DICOM_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation")
JPEGS = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")


def colour_of(mode: str) -> str:
    """The name of the colours of a Pillow mode in a header."""
    return "RGB" if mode in RGB_MODES else "greyscale" if mode in GREY_MODES else mode


def open_tiff(file: BinaryIO) -> Image.Image:
    return TiffImageFile(file)


def open_avif(file: BinaryIO) -> Image.Image:
    if not AvifImagePlugin.SUPPORTED:
        raise UnreadableError(f"found an AVIF, which this Pillow cannot read: {AVIF_INSTALL}")
    return AvifImagePlugin.AvifImageFile(file)


def open_heif(file: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise UnreadableError(f"found a HEIC, which needs a library: {HEIF_INSTALL}") from None
    return HeifImageFile(file)


def tiff_header(file: BinaryIO) -> Header:
    image = TiffImageFile(file)
    depths = set(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if not depths <= {1, 8}:
        raise UnreadableError(f"found a {max(depths)}-bit TIFF, {WANTED}")
    if (coding := image.info.get("compression")) not in TIFF_CODINGS:
        raise UnreadableError(f"found a TIFF coded as {coding}, expected none, LZW, Deflate or PackBits")
    if image.tag_v2.next:
        raise UnreadableError("found a TIFF of several pictures, expected one")
    # Pillow applies the orientation; the size is that of the upright image.
    return _header("TIFF", image, image.info.get("icc_profile") or b"")


def heif_header(file: BinaryIO) -> Header:
    image = open_heif(file)
    if (depth := image.info.get("bit_depth", 8)) > 8:
        raise UnreadableError(f"found a {depth}-bit HEIC, {WANTED}")
    profile = image.info.get("icc_profile") or b""
    if not profile and (nclx := image.info.get("nclx_profile")):
        profile = cicp_profile("HEIC", nclx["color_primaries"], nclx["transfer_characteristics"])
    return _header("HEIF", image, profile)


def avif_header(file: BinaryIO) -> Header:
    image = open_avif(file)
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableError("found an animated AVIF, expected one picture")
    properties = _avif_properties(file)
    if (depth := max(properties.get(b"pixi", b"")[5:], default=8)) > 8:
        raise UnreadableError(f"found a {depth}-bit AVIF, {WANTED}")
    profile = image.info.get("icc_profile") or b""
    if not profile and (colour := properties.get(b"colr", b"")).startswith(b"nclx"):
        profile = cicp_profile("AVIF", *struct.unpack_from(">HH", colour, 4))
    orientation = tiff_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    return _header("AVIF", image, profile, orientation)


def _avif_properties(file: BinaryIO) -> dict[bytes, bytes]:
    """The first item property of each kind (ISO/IEC 14496-12, 8.11.14), which Pillow does not give."""
    file.seek(0)
    data = file.read(HEAD)
    for name, skipped in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        data = _boxes(data).get(name, b"")[skipped:]
    return _boxes(data)


def _boxes(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 0
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        start, length = (16, int.from_bytes(data[position + 8 : position + 16], "big")) if length == 1 else (8, length)
        length = length or len(data) - position  # 0: to the end
        if length < start:
            break
        found.setdefault(name, data[position + start : position + length])
        position += length
    return found


def _header(kind: Any, image: Image.Image, profile: bytes, orientation: int = 1) -> Header:
    return Header(kind, image.height, image.width, orientation, colour_of(image.mode), profile)


def dicom_header(file: BinaryIO) -> Header:
    dataset = _dicom(file, stop_before_pixels=True)
    if (frames := int(dataset.get("NumberOfFrames", 1) or 1)) > 1:
        raise UnreadableError(f"found a DICOM of {frames} frames, expected one picture")
    if dataset.get("BitsAllocated", 8) != 8:
        raise UnreadableError(f"found a {dataset.BitsAllocated}-bit DICOM, {WANTED}")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (*UNCOMPRESSED, *JPEGS):
        raise UnreadableError(f"found a DICOM coded as {syntax.name}, expected none or JPEG Baseline")
    colour = "RGB" if dataset.SamplesPerPixel == 3 else "greyscale"
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colour = "palette"
    profile = bytes(dataset.get("ICCProfile") or b"").rstrip(b"\0")
    # Padded to even length; the first four bytes of the profile are its length.
    profile = profile.ljust(int.from_bytes(profile[:4], "big"), b"\0") if profile else b""
    return Header("DICOM", dataset.Rows, dataset.Columns, colour=colour, profile=profile)


def dicom_frame(data: bytes) -> bytes | Image.Image:
    """The JPEG in a DICOM file, or its uncompressed picture."""
    dataset = _dicom(BytesIO(data))
    photometric = dataset.PhotometricInterpretation
    if dataset.file_meta.TransferSyntaxUID in JPEGS:
        from pydicom.encaps import generate_frames

        jpeg = next(generate_frames(dataset.PixelData, number_of_frames=1))
        if photometric == "RGB" and b"Adobe" not in jpeg[:4096]:  # otherwise libjpeg assumes YCbCr
            jpeg = jpeg[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + jpeg[2:]
        return jpeg
    mode = {"RGB": "RGB", "YBR_FULL": "YCbCr"}.get(photometric)
    if mode is None:
        raise UnreadableError(f"found a {photometric} DICOM, {WANTED}")
    size = dataset.Columns, dataset.Rows
    count = size[0] * size[1]
    pixels = dataset.PixelData
    if len(pixels) < 3 * count:
        raise UnreadableError(f"found a truncated or damaged DICOM ({len(pixels):,} bytes for {count:,} pixels)")
    if dataset.get("PlanarConfiguration", 0):
        bands = [Image.frombytes("L", size, pixels[i * count : (i + 1) * count]) for i in range(3)]
        return Image.merge(mode, bands)
    return Image.frombytes(mode, size, pixels[: 3 * count])


def _dicom(file: BinaryIO, stop_before_pixels: bool = False) -> Any:
    try:
        import pydicom
    except ImportError:
        raise UnreadableError(f"found a DICOM, which needs a library: {DICOM_INSTALL}") from None
    warnings.filterwarnings("ignore", module=r"pydicom\b")  # what is wrong with a file is told as its error
    dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
    needed = (*DICOM_NEEDED, *(() if stop_before_pixels else ("PixelData",)))
    if lacking := [name for name in needed if name not in dataset]:
        raise UnreadableError(f"found a truncated or damaged DICOM (no {lacking[0]})")
    return dataset


HEADERS: dict[str, Callable[[BinaryIO], Header]] = {
    "TIFF": tiff_header,
    "HEIF": heif_header,
    "AVIF": avif_header,
    "DICOM": dicom_header,
}
OPENERS: dict[str, Callable[[BinaryIO], Image.Image]] = {"TIFF": open_tiff, "HEIF": open_heif, "AVIF": open_avif}
