"""ICC profiles: convert the colours of an image to sRGB (LittleCMS, through Pillow)."""

import struct
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from melfast.io.errors import UnreadableError

# CIE xy of red, green, blue and white; white first, as in PNG's cHRM.
D65 = (0.3127, 0.3290)
COLOUR_SPACES = {
    "sRGB": (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    "Display P3": (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    "Adobe RGB (1998)": (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06),
}
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# IEC 61966-2-1 as ICC's parametric curve 3: gamma, a, b, c, d.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# Encoders write 1/2.2 for sRGB (PNG 3, table 11).
SRGB_GAMMA = 0.45455
LARGEST_STEP = 1  # a profile that moves every colour by at most this many levels counts as sRGB
ROWS = 256


def to_srgb(image: NDArray[np.uint8], profile: bytes) -> None:
    """Converts an image from the colours of a profile to sRGB, in place.

    Args:
        image: uint8 [H, W, 3], C-contiguous.
    Raises:
        UnreadableError: the profile cannot be used.
    """
    transform = _transform(profile)
    if transform is None:
        return
    for top in range(0, len(image), ROWS):
        strip = Image.fromarray(image[top : top + ROWS])
        ImageCms.applyTransform(strip, transform, inPlace=True)
        image[top : top + ROWS] = np.asarray(strip)


def is_srgb(profile: bytes) -> bool:
    """Whether a profile (or none) leaves colours unchanged; raises UnreadableError if it cannot be used."""
    return not profile or _transform(profile) is None


@lru_cache(64)
def profile_name(profile: bytes) -> str:
    """The name in a profile; '' for none."""
    if not profile:
        return ""
    try:
        return " ".join(ImageCms.getProfileDescription(_opened(profile)).split())
    except ImageCms.PyCMSError:
        return "a profile without a name"


@lru_cache(64)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """The transform to sRGB; None if it changes nothing. Threads may share it."""
    if not profile:
        return None
    found = _opened(profile)
    space = found.profile.xcolor_space.strip()
    if space != "RGB":
        raise UnreadableError(f"found a colour profile for {space}, wanted one for RGB")
    try:
        transform = ImageCms.buildTransform(
            found, ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
    except ImageCms.PyCMSError as error:
        raise UnreadableError(f"found a damaged colour profile ({error})") from None
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform)).astype(int) - colours
    return transform if np.abs(moved).max() > LARGEST_STEP else None


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    try:
        return ImageCms.ImageCmsProfile(BytesIO(profile))
    except (OSError, ImageCms.PyCMSError) as error:
        raise UnreadableError(f"found a damaged colour profile ({error})") from None


@lru_cache(64)
def chromatic_profile(name: str, corners: tuple[float, ...] | None = None, gamma: float | None = None) -> bytes:
    """An ICC profile (version 4) with three primaries and one curve; b'' if that is sRGB.

    Args:
        name: its description.
        corners: CIE x and y of white, red, green and blue; by default those of the colour space called `name`, or of
            sRGB.
        gamma: exponent from light to level, as PNG's gAMA; by default the sRGB curve.
    Raises:
        UnreadableError: the corners are not valid colours.
    """
    corners = corners or COLOUR_SPACES.get(name, COLOUR_SPACES["sRGB"])
    if (gamma is None or abs(gamma - SRGB_GAMMA) < 0.002) and np.allclose(corners, COLOUR_SPACES["sRGB"], atol=0.002):
        return b""
    xy = np.array(corners).reshape(4, 2)
    if not (xy[:, 1] > 0).all() or (gamma is not None and not 0.1 <= gamma <= 10):
        raise UnreadableError("found damaged gAMA or cHRM values, wanted those of a colour space")
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(axis=1)) / xy[:, 1]])
    try:
        primaries = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    except np.linalg.LinAlgError:
        raise UnreadableError("found damaged gAMA or cHRM values, wanted those of a colour space") from None
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ xyz[:, 0])) @ BRADFORD @ primaries
    numbers = SRGB_CURVE if gamma is None else (1 / gamma,)
    curve = struct.pack(">4sIHH", b"para", 0, 3 if gamma is None else 0, 0) + _fixed(*numbers)
    text = name.encode("utf-16-be")
    words = struct.pack(">4sIII4sII", b"mluc", 0, 1, 12, b"enUS", len(text), 28) + text
    tags = {b"desc": words, b"cprt": words, b"wtpt": _point(D50), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {name: _point(adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _assembled(tags)


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    """A display profile for RGB (ICC.1:2022, 7)."""
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(*D50)
    return header.ljust(128, b"\0") + table + body


def _point(xyz: NDArray[np.float64]) -> bytes:
    return struct.pack(">4sI", b"XYZ ", 0) + _fixed(*xyz)


def _fixed(*values: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
