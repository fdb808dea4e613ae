"""Read the header of a picture before any decoder sees the file.

Decoders trust headers: the lossless decoder of libjpeg-turbo, for example, writes past the end of the buffer at half
size. Only the codings listed here are decoded.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from melfast.io.colour_profiles import chromatic_profile
from melfast.io.errors import UnreadableError
from melfast.io.words import check_words

ImageFormat = Literal["JPEG", "PNG", "WebP", "BMP", "TIFF", "HEIF", "AVIF", "DICOM"]

HEAD = 1 << 24  # bytes that contain the header of a JPEG, PNG or WebP with its EXIF and profile
MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # of a JPEG
MAX_SCANS = 500  # as `djpeg -maxscans`; encoders write about ten
MAX_SCANNED = 1_200_000_000  # pixels times scans: about ten seconds on a slow machine
MAX_SEGMENTS = 10_000
MAX_STRAY = 64  # bytes to skip between two segments
MAX_PROFILE = 1 << 24

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
EXIF_MAGIC = b"Exif\0\0"
ICC_MAGIC = b"ICC_PROFILE\0"
ORIENTATION_TAG, EXIF_TAG, INTEROPERABILITY_TAG = 0x0112, 0x8769, 0xA005
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
AVIF_BRANDS = (b"avif", b"avis")

# Start-of-frame markers (ITU-T T.81, table B.1): those that are decoded, and the others.
CODINGS = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic progressive"}
OTHER_CODINGS = {0xC3: "lossless", 0xCB: "lossless arithmetic"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "hierarchical"
)
# Sampling factors of (luma, chroma) that the API of libjpeg-turbo supports; Pillow decodes the others.
NAMED_SAMPLINGS = ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1))
# A marker, with anything before it.
MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)

# (offset, magic, name) of other contents found under image suffixes.
OTHER_FORMATS = (
    (0, b"GIF8", "a GIF"),
    (4, b"ftyp", "a video or an image of an unknown kind"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file)"),
)
WANTED = "expected 8-bit RGB"
WANTED_FORMAT = "expected a JPEG, PNG, WebP, BMP or TIFF"


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turns any exception of a decoder into UnreadableError, so that one bad file does not end a run."""
    try:
        yield
    except UnreadableError:
        raise
    except MemoryError:
        raise UnreadableError(f"found a {what} that does not fit into the available memory") from None
    except Exception as error:  # KeyError, SyntaxError, struct.error and more
        words = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"found a truncated or damaged {what} ({words})") from None


@check_words
@dataclass(frozen=True)
class Header:
    """Content of a header.

    Attributes:
        height, width: pixels as stored, before `orientation` (EXIF, 1..8) is applied.
        colour: `RGB`, `greyscale`, or another name.
        profile: ICC profile; b'' if there is none.
        progressive: a JPEG whose decoder keeps all coefficients.
        scalable: a JPEG that can be decoded at 1/2, 1/4 or 1/8.
        scans: offset of the first scan of a JPEG if more may follow; 0: no others are read.
        stray: (start, end) of bytes between the segments of a JPEG that belong to none.
    """

    format: ImageFormat
    height: int
    width: int
    orientation: int = 1
    colour: str = "RGB"
    profile: bytes = b""
    progressive: bool = False
    scalable: bool = False
    scans: int = 0
    stray: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def recognise_format(data: bytes) -> ImageFormat:
    """The format, judged by the first bytes.

    Raises:
        UnreadableError: melfast does not read this format.
    """
    if data.startswith(JPEG_MAGIC):
        return "JPEG"
    if data.startswith(PNG_MAGIC):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM") and len(data) >= 26 and not any(data[6:10]):
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 64), 4))]
        if any(brand in AVIF_BRANDS for brand in brands):
            return "AVIF"
        if any(brand in HEIF_BRANDS for brand in brands):
            return "HEIF"
    if data.startswith(b"DICM", 128):
        return "DICOM"
    raise UnreadableError(f"found {_describe(data)}, {WANTED_FORMAT}")


def require_size(height: int, width: int) -> None:
    """Raises UnreadableError if a picture is empty or too large."""
    if height * width > MAX_PIXELS:
        raise UnreadableError(f"found {width} x {height} pixels, expected at most {MAX_PIXELS:,} in all")
    if max(height, width) > MAX_SIDE:
        raise UnreadableError(f"found {width} x {height} pixels, expected sides of at most {MAX_SIDE:,}")
    if height * width == 0:
        raise UnreadableError(f"found {width} x {height} pixels, expected at least one")


def _damaged(kind: str, why: str) -> UnreadableError:
    return UnreadableError(f"found a truncated or damaged {kind} ({why})")


def _jpeg(data: bytes) -> Header:
    """Walks the segments like libjpeg, up to the first scan."""
    frame: tuple[int, bytes] | None = None
    orientation, adobe, jfif, stray, position = 1, -1, False, [], 2
    exif = b""
    profile: dict[int, bytes] = {}
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, position, position + 0x10000)
        if found is None:
            raise _damaged("JPEG", "incomplete header")
        gap, marker = data[position : found.start()], data[found.end() - 1]
        if gap.strip(b"\xff"):  # else padding
            stray.append((position, found.start()))
            if len(gap) > MAX_STRAY:
                raise _damaged("JPEG", f"{len(gap)} stray bytes between its segments")
        start = position = found.end()
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no segment
            continue
        length = int.from_bytes(data[start : start + 2], "big")
        if marker in (0xD8, 0xD9) or length < 2:
            raise _damaged("JPEG", "incomplete header")
        position += length
        if position > len(data):
            raise _damaged("JPEG", "incomplete header")
        body = data[start + 2 : position]
        if marker == 0xDA:
            break
        if marker in CODINGS or marker in OTHER_CODINGS:
            if frame is not None:
                raise _damaged("JPEG", "two frames")
            frame = marker, body
        elif marker == 0xE0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == 0xE1 and orientation == 1 and body.startswith(EXIF_MAGIC):
            exif = exif or body[len(EXIF_MAGIC) :]
            orientation = tiff_orientation(body[len(EXIF_MAGIC) :])
        elif marker == 0xE2 and body.startswith(ICC_MAGIC) and len(body) > 14:
            profile[body[12]] = body[14:]
            if body[13] < len(profile):
                raise _damaged("JPEG", "parts of its colour profile are missing")
            parts = body[13]
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
    else:
        raise _damaged("JPEG", f"more than {MAX_SEGMENTS:,} segments")
    if frame is None:
        raise _damaged("JPEG", "incomplete header")
    if profile and sorted(profile) != list(range(1, parts + 1)):
        raise _damaged("JPEG", "parts of its colour profile are missing")
    coding, height, width, components = _frame(*frame)
    ids, factors = [one[0] for one in components], [(one[1] >> 4, one[1] & 15) for one in components]
    luma, chroma = factors[0], set(factors[1:])
    return Header(
        "JPEG",
        height,
        width,
        orientation,
        _jpeg_colour(ids, adobe, jfif),
        b"".join(profile[part] for part in sorted(profile)) or exif_profile(exif),
        progressive="progressive" in coding,
        scalable=len(ids) == 1 or (luma in NAMED_SAMPLINGS and chroma == {(1, 1)}),
        # A sequential picture whose first scan has all components ends with it.
        scans=found.start() if "progressive" in coding or body[:1] != bytes([len(ids)]) else 0,
        stray=tuple(stray),
    )


def _frame(marker: int, body: bytes) -> tuple[str, int, int, list[bytes]]:
    """Coding, height, width and components (id, sampling, table) of a start of frame.

    Raises:
        UnreadableError: it is damaged, or its coding is not supported.
    """
    if marker in OTHER_CODINGS:
        raise UnreadableError(f"found a {OTHER_CODINGS[marker]} JPEG, expected a baseline or progressive one")
    if len(body) < 9 or len(body) != 6 + 3 * body[5]:
        raise _damaged("JPEG", "bad frame header")
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    if precision != 8:
        raise UnreadableError(f"found a {precision}-bit JPEG, {WANTED}")
    components = [body[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    if any(not (1 <= one[1] >> 4 <= 4 and 1 <= one[1] & 15 <= 4) for one in components):
        raise _damaged("JPEG", "bad sampling factors")
    return CODINGS[marker], height, width, components


def _jpeg_colour(ids: list[int], adobe: int, jfif: bool) -> str:
    """The colour as guessed by default_decompress_parms of libjpeg; YCbCr and RGB are both `RGB` here."""
    if len(ids) == 4:
        return "YCCK" if adobe == 2 else "CMYK"
    return {1: "greyscale", 3: "RGB"}.get(len(ids), f"{len(ids)}-component")


def require_few_scans(data: bytes, header: Header) -> None:
    """Raises UnreadableError if a JPEG has so many scans that decoding would take minutes."""
    scans = data.count(b"\xff\xda", header.scans) if header.scans else 1
    if scans > MAX_SCANS:
        raise UnreadableError(f"found a JPEG of {scans:,} scans, expected at most {MAX_SCANS}")
    if scans * header.height * header.width > MAX_SCANNED:
        size = f"{header.width} x {header.height} pixels"
        raise UnreadableError(f"found a JPEG of {size} in {scans} scans, expected fewer scans")


def without_stray(data: bytes, header: Header) -> bytes:
    """A JPEG without the bytes between its segments, which strict decoders refuse."""
    if not header.stray:
        return data
    ends = [0, *(end for _, end in header.stray)]
    starts = [*(start for start, _ in header.stray), len(data)]
    return b"".join(data[end:start] for end, start in zip(ends, starts, strict=True))


def _png(data: bytes) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableError("found a truncated or damaged PNG header, expected a complete PNG")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    chunks: dict[bytes, bytes] = {}
    for name, start, length in png_chunks(data):
        if name == b"IDAT":
            break
        chunks.setdefault(name, data[start : start + length])
    if b"acTL" in chunks:
        raise UnreadableError("found an animated PNG, expected one picture")
    kind = "greyscale" if colour in (0, 4) else "RGB"
    if depth == 16 or kind != "RGB":
        kind = f"{depth}-bit" if kind == "RGB" else f"{depth}-bit greyscale"
    return Header("PNG", height, width, colour=kind, profile=_png_profile(chunks))


def png_chunks(data: bytes, *, checked: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of the body, its length) of each chunk up to IEND.

    Args:
        checked: compare the CRCs, and require IEND.
    """
    position = len(PNG_MAGIC)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        position = start + length + 4
        if position > len(data):
            break
        checksum = data[position - 4 : position]
        if checked and zlib.crc32(memoryview(data)[start - 4 : position - 4]).to_bytes(4, "big") != checksum:
            raise _damaged("PNG", f"wrong checksum in its {name.decode('latin-1')!r} chunk")
        yield name, start, length
        if name == b"IEND":
            return
    if checked:
        raise _damaged("PNG", "image file is truncated")


def _png_profile(chunks: dict[bytes, bytes]) -> bytes:
    """The first of cICP, iCCP, sRGB, gAMA and cHRM as an ICC profile (PNG 3, 12.1)."""
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        return cicp_profile("PNG", *cicp[:2])
    if iccp := chunks.get(b"iCCP"):
        _, _, packed = iccp.partition(b"\0")
        try:
            return zlib.decompressobj().decompress(packed[1:], MAX_PROFILE)
        except zlib.error as error:
            raise _damaged("PNG", f"colour profile: {error}") from None
    if b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & set(chunks):
        return b""
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")[:4], "big") / 1e5
    corners = chunks.get(b"cHRM", b"")
    if b"cHRM" in chunks and len(corners) != 32:
        raise _damaged("PNG", "bad cHRM chunk")
    xy = tuple(value / 1e5 for value in struct.unpack(">8I", corners)) if corners else None
    return chromatic_profile("PNG gAMA and cHRM", xy, gamma or None)


def cicp_profile(kind: str, primaries: int, transfer: int) -> bytes:
    """The ICC profile of code points (ITU-T H.273); b'' for sRGB."""
    # 2: not specified; 1, 6, 14 and 15: the transfer of BT.709, which cameras use for sRGB.
    space = {1: "sRGB", 2: "sRGB", 12: "Display P3"}.get(primaries)
    if space is None or transfer not in (1, 2, 6, 13, 14, 15):
        raise UnreadableError(f"found a {kind} of colours {primaries}, {transfer} (H.273), expected sRGB or Display P3")
    return chromatic_profile(space)


def _webp(data: bytes) -> Header:
    chunks: dict[bytes, tuple[int, bytes]] = {}
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        chunks.setdefault(name, (length, data[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise UnreadableError("found an animated WebP, expected one picture")
    profile, exif = (chunks.get(name, (0, b""))[1] for name in (b"ICCP", b"EXIF"))
    _, lossy = chunks.get(b"VP8 ", (0, b""))
    _, lossless = chunks.get(b"VP8L", (0, b""))
    if len(lossy) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", lossy, 6))
    elif len(lossless) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        raise _damaged("WebP", "incomplete header")
    orientation = tiff_orientation(exif.removeprefix(EXIF_MAGIC))
    return Header("WebP", height, width, orientation, profile=profile)


def _bmp(data: bytes) -> Header:
    (length,) = struct.unpack_from("<I", data, 14)
    if length == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    elif length >= 40 and len(data) >= 34:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise _damaged("BMP", "incomplete header")
    if bits not in (1, 4, 8, 24, 32) or packing not in (0, 1, 3):
        raise UnreadableError(f"found a BMP of {bits} bits a pixel, coding {packing}, {WANTED}")
    if width < 0:
        raise _damaged("BMP", "incomplete header")
    return Header("BMP", abs(height), width)


PARSERS: dict[str, Callable[[bytes], Header]] = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "BMP": _bmp}


def tiff_orientation(tiff: bytes) -> int:
    """The orientation tag of a TIFF structure (Exif 2.32, 4.6.2); 1 if it cannot be read, as in viewers."""
    order, tags = _tiff_tags(tiff)
    (value,) = struct.unpack_from(order + "H", tags.get(ORIENTATION_TAG, bytes(4)))
    return value if 1 <= value <= 8 else 1


def exif_profile(tiff: bytes) -> bytes:
    """The profile of Adobe RGB if EXIF alone says so, as cameras write it (DCF 2.0, optional file); b'' otherwise."""
    index = _tiff_tags(tiff, EXIF_TAG, INTEROPERABILITY_TAG)[1].get(1, b"")
    return chromatic_profile("Adobe RGB (1998)", gamma=256 / 563) if index == b"R03\0" else b""


def _tiff_tags(tiff: bytes, *path: int) -> tuple[str, dict[int, bytes]]:
    """The byte order, and the 4 bytes of each tag's value; no tags if they cannot be read.

    Args:
        path: tags that lead from the first directory to another.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    place = tiff[4:8] if order else b""
    tags: dict[int, bytes] = {}
    for step in (*path, None):
        start = struct.unpack(order + "I", place)[0] if len(place) == 4 else 0
        if not 8 <= start <= len(tiff) - 2:
            return order or "<", {}
        (count,) = struct.unpack_from(order + "H", tiff, start)
        entries = range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12)
        tags = {}
        for entry in entries:
            tags.setdefault(struct.unpack_from(order + "H", tiff, entry)[0], tiff[entry + 8 : entry + 12])
        place = b"" if step is None else tags.get(step, b"")
    return order, tags


def _describe(data: bytes) -> str:
    """What bytes that are not an image seem to be."""
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
