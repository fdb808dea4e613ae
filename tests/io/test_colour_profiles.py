"""Colour profiles: images of every format become sRGB."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from melfast.io.colour_profiles import COLOUR_SPACES, chromatic_profile, is_srgb, profile_name, to_srgb
from melfast.io.images import decode_image
from tests.conftest import png_chunk, skin_rgb

P3 = chromatic_profile("Display P3")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def matrix(space: str) -> np.ndarray:
    """Linear RGB to XYZ."""
    xy = np.array(COLOUR_SPACES[space]).reshape(4, 2)
    xyz = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(axis=1)]) / xy[:, 1]
    return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])


def as_srgb(image: np.ndarray, space: str, gamma: float | None = None) -> np.ndarray:
    """In float64, by the definitions; all spaces here are of white D65."""
    level = image / 255
    srgb_light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    light = srgb_light if gamma is None else level ** (1 / gamma)
    light = np.clip(light @ (np.linalg.inv(matrix("sRGB")) @ matrix(space)).T, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def encoded(kind: str, profile: bytes, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skin_rgb(96, 128)).save(buffer, kind, icc_profile=profile, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB (1998)"])
def test_against_the_definitions(space: str) -> None:
    gamma = 0.4547 if space.startswith("Adobe") else None
    image = skin_rgb(96, 128)
    got = image.copy()
    to_srgb(got, chromatic_profile(space, gamma=gamma))
    assert np.abs(got - as_srgb(image, space, gamma)).max() < 1.5
    assert np.abs(got.astype(int) - image).max() > 8


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_profiles_of_all_formats(kind: str, options: dict[str, object]) -> None:
    want = as_srgb(skin_rgb(96, 128), "Display P3")
    assert np.abs(decode_image(encoded(kind, P3, **options)) - want).mean() < 1.5
    plain = decode_image(encoded(kind, b"", **options))
    assert (decode_image(encoded(kind, SRGB, **options)) == plain).all()


def test_a_scaled_jpeg_is_converted() -> None:
    small = decode_image(encoded("JPEG", P3, quality=95), min_height=24, min_width=32)
    want = as_srgb(skin_rgb(96, 128), "Display P3").reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - want).mean() < 2


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    plain = encoded("PNG", b"")
    return plain[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + plain[33:]


def corners(space: str) -> bytes:
    return struct.pack(">8I", *(round(value * 1e5) for value in COLOUR_SPACES[space]))


def test_colours_of_png_chunks() -> None:
    image = skin_rgb(96, 128)
    wide = as_srgb(image, "Adobe RGB (1998)", 0.45455)
    got = decode_image(png((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", corners("Adobe RGB (1998)"))))
    assert np.abs(got - wide).max() < 1.5
    got = decode_image(png((b"gAMA", struct.pack(">I", 100_000))))
    assert np.abs(got - as_srgb(image, "sRGB", 1.0)).max() < 1.5
    # sRGB by its numbers, and by a chunk that overrules others.
    for chunks in (
        ((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", corners("sRGB"))),
        ((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))),
        ((b"cICP", b"\x01\x0d\0\1"), (b"gAMA", struct.pack(">I", 100_000))),
    ):
        assert (decode_image(png(*chunks)) == image).all()
    assert np.abs(decode_image(png((b"cICP", b"\x0c\x0d\0\1"))) - as_srgb(image, "Display P3")).max() < 1.5
    with pytest.raises(ValueError, match=r"^found a PNG of colours 9, 16 \(H.273\), expected sRGB or Display P3$"):
        decode_image(png((b"cICP", b"\x09\x10\0\1")))


def test_a_profile_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match=r"^found a damaged colour profile \(cannot open profile from string\)$"):
        decode_image(encoded("JPEG", b"no profile"))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with pytest.raises(ValueError, match=r"^found a colour profile for Lab, expected one for RGB$"):
        decode_image(encoded("PNG", lab))
    packed = b"icc\0\0" + zlib.compress(P3)[:-20]
    for chunk in ((b"iCCP", packed), (b"cHRM", bytes(32)), (b"gAMA", b"\0\0\0\1")):
        with pytest.raises(ValueError, match=r"^found (a )?(truncated or )?damaged "):
            decode_image(png(chunk))


def test_names() -> None:
    assert profile_name(P3) == "Display P3"
    assert profile_name(b"") == ""
    assert is_srgb(b"")
    assert is_srgb(SRGB)
    assert not is_srgb(P3)


def test_ita_of_a_wide_photograph(real_data: Path) -> None:
    """The same real skin in sRGB and in Display P3: 0.3 degrees apart at most."""
    from melfast.io.folders import list_images
    from melfast.skin.ita import estimate_tone

    to_p3 = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(P3)), "RGB", "RGB"
    )
    for path in list_images(real_data / "ham10000")[:3]:
        with Image.open(path) as image:
            buffer = io.BytesIO()
            ImageCms.applyTransform(image, to_p3).save(buffer, "PNG", icc_profile=P3)
            plain = np.asarray(image)
        one, other = estimate_tone(plain).ita_deg, estimate_tone(decode_image(buffer.getvalue())).ita_deg
        assert abs(one - other) < 0.3


def interoperability(order: str, index: bytes) -> bytes:
    """EXIF with an interoperability index in a directory of the EXIF directory, which Pillow does not write."""
    entries = ((0x8769, 4, struct.pack(order + "I", 26)), (0xA005, 4, struct.pack(order + "I", 44)), (1, 2, index))
    tiff = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    for tag, kind, value in entries:
        count = 4 if kind == 2 else 1
        tiff += struct.pack(order + "HHHI", 1, tag, kind, count) + value + bytes(4)
    return b"Exif\0\0" + tiff


@pytest.mark.parametrize("order", ["<", ">"])
def test_adobe_rgb_that_a_camera_states_in_exif_alone(order: str) -> None:
    skin = skin_rgb(96, 128)

    def jpeg(index: bytes, **options: object) -> np.ndarray:
        buffer = io.BytesIO()
        exif = interoperability(order, index)
        Image.fromarray(skin).save(buffer, "JPEG", quality=97, subsampling=0, exif=exif, **options)
        return decode_image(buffer.getvalue()).astype(int)

    assert np.abs(jpeg(b"R98\0") - skin).mean() < 1
    assert np.abs(jpeg(b"R03\0") - as_srgb(skin, "Adobe RGB (1998)", 256 / 563)).mean() < 1
    # A profile is surer.
    assert (
        np.abs(
            jpeg(b"R03\0", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) - skin
        ).mean()
        < 1
    )
