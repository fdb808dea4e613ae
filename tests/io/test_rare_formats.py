"""HEIC, AVIF and DICOM, where their libraries are installed."""

import io
import re

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from melfast.io import rare_formats
from melfast.io.colour_profiles import chromatic_profile, to_srgb
from melfast.io.errors import UnreadableError
from melfast.io.images import decode_image
from tests.conftest import skin_rgb

PLAIN, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def test_heic_with_a_profile() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    profile = chromatic_profile("Display P3")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(skin_rgb(96, 128))).save(buffer, quality=95, icc_profile=profile)
    want = skin_rgb(96, 128)
    to_srgb(want, profile)
    assert np.abs(decode_image(buffer.getvalue()).astype(int) - want).mean() < 2
    with pytest.raises(UnreadableError, match=r"^found a truncated or damaged HEIF \("):
        decode_image(buffer.getvalue()[:200])


def test_heic_that_is_refused() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = pillow_heif.from_bytes(mode="RGB;16", size=(128, 96), data=(skin_rgb(96, 128).astype("u2") * 257).tobytes())
    grey = pillow_heif.from_pillow(Image.fromarray(skin_rgb(96, 128)).convert("L"))
    of_hdr = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9, "full_range_flag": 1}
    for picture, options, words in (
        (deep, {}, "found a 10-bit HEIC, expected 8-bit RGB"),
        (grey, {}, "found a greyscale HEIF, expected 8-bit RGB"),
        (
            pillow_heif.from_pillow(Image.fromarray(skin_rgb(96, 128))),
            of_hdr,
            "found a HEIC of colours 9, 16 (H.273), expected sRGB or Display P3",
        ),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, **options)
        with pytest.raises(UnreadableError) as caught:
            decode_image(buffer.getvalue())
        assert str(caught.value) == words


def test_avif_of_ten_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL._avif")
    buffer = io.BytesIO()
    Image.fromarray(skin_rgb(96, 128)).save(buffer, "AVIF")
    plain = buffer.getvalue()
    # Pillow neither writes such a file nor tells of it: a true one's depths, in this file's place.
    ten = plain.replace(b"\x10pixi\0\0\0\0\3\x08\x08\x08", b"\x10pixi\0\0\0\0\3\x0a\x0a\x0a")
    assert ten != plain
    monkeypatch.setattr(rare_formats, "open_avif", lambda file: AvifImageFile(io.BytesIO(plain)))
    with pytest.raises(UnreadableError, match=r"^found a 10-bit AVIF, expected 8-bit RGB$"):
        rare_formats.avif_header(io.BytesIO(ten))


def test_avif_without_a_profile_has_its_colours_in_its_header() -> None:
    pytest.importorskip("PIL._avif")
    buffer = io.BytesIO()
    Image.fromarray(skin_rgb(96, 128)).save(buffer, "AVIF", quality=95)
    plain = buffer.getvalue()
    place = plain.index(b"colrnclx") + 8
    assert plain[place : place + 4] == b"\0\1\0\x0d"
    want = skin_rgb(96, 128)
    assert np.abs(decode_image(plain).astype(int) - want).mean() < 2
    to_srgb(want, chromatic_profile("Display P3"))
    in_p3 = plain[:place] + b"\0\x0c\0\x0d" + plain[place + 4 :]
    assert np.abs(decode_image(in_p3).astype(int) - want).mean() < 2
    frames = io.BytesIO()
    Image.fromarray(skin_rgb(96, 128)).save(frames, "AVIF", save_all=True, append_images=[Image.fromarray(want)])
    for data, words in (
        (
            plain[:place] + b"\0\x09\0\x10" + plain[place + 4 :],
            "AVIF of colours 9, 16 (H.273), expected sRGB or Display P3",
        ),
        (frames.getvalue(), "animated AVIF, expected one picture"),
    ):
        with pytest.raises(UnreadableError, match=rf"^found an? {re.escape(words)}$"):
            decode_image(data)


def dicom(syntax: str, pixels: bytes, photometric: str, **changes: object) -> bytes:
    """A dermoscopic photograph of 96 x 128 pixels (VL Photographic Image)."""
    dataset = pytest.importorskip("pydicom.dataset")
    meta = dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.3"
    image = dataset.FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    values = {"Rows": 96, "Columns": 128, "SamplesPerPixel": 3, "PhotometricInterpretation": photometric}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PlanarConfiguration": 0}
    for name, value in (values | bits | {"PixelData": pixels} | changes).items():
        setattr(image, name, value)
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom() -> None:
    encaps = pytest.importorskip("pydicom.encaps")
    skin = skin_rgb(96, 128)
    picture = Image.fromarray(skin)
    jpeg = simplejpeg.encode_jpeg(skin, 95)
    rgb = io.BytesIO()
    picture.save(rgb, "JPEG", quality=95, keep_rgb=True)
    planes = skin.transpose(2, 0, 1).tobytes()
    for data, apart in (
        (dicom(PLAIN, skin.tobytes(), "RGB"), 0),
        (dicom(PLAIN, planes, "RGB", PlanarConfiguration=1), 0),
        (dicom(PLAIN, np.asarray(picture.convert("YCbCr")).tobytes(), "YBR_FULL"), 2),
        (dicom(JPEG, encaps.encapsulate([jpeg]), "YBR_FULL_422"), 2),
        (dicom(JPEG, encaps.encapsulate([rgb.getvalue()]), "RGB"), 2),
    ):
        assert np.abs(decode_image(data).astype(int) - skin).mean() <= apart
    profile = chromatic_profile("Display P3")
    got = decode_image(dicom(PLAIN, skin.tobytes(), "RGB", ICCProfile=profile))
    to_srgb(skin, profile)
    assert (got == skin).all()


def test_dicom_that_is_refused() -> None:
    encaps = pytest.importorskip("pydicom.encaps")
    raw = skin_rgb(96, 128).tobytes()
    lossless = simplejpeg.encode_jpeg(skin_rgb(96, 128)).replace(b"\xff\xc0", b"\xff\xc3", 1)
    frames = encaps.encapsulate([lossless])
    for data, words in (
        (dicom(JPEG, frames, "RGB"), "found a lossless JPEG, expected a baseline or progressive one"),
        (dicom(PLAIN, raw, "RGB", NumberOfFrames=3), "found a DICOM of 3 frames, expected one picture"),
        (dicom(PLAIN, raw, "MONOCHROME2", SamplesPerPixel=1), "found a greyscale DICOM, expected 8-bit RGB"),
        (dicom(PLAIN, raw, "RGB")[: -len(raw) - 20], "found a truncated or damaged DICOM (no PixelData)"),
        (dicom(PLAIN, raw, "RGB")[:300], "found a truncated or damaged DICOM (no Rows)"),
        (dicom(PLAIN, raw[:-100], "RGB"), "found a truncated or damaged DICOM (36,764 bytes for 12,288 pixels)"),
    ):
        with pytest.raises(UnreadableError) as caught:
            decode_image(data)
        assert str(caught.value) == words
