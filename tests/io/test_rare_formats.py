"""HEIC and DICOM, where their libraries are installed."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

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
        (dicom(PLAIN, raw[:-100], "RGB"), "found a truncated or damaged DICOM (36,764 bytes for 12,288 pixels)"),
    ):
        with pytest.raises(UnreadableError) as caught:
            decode_image(data)
        assert str(caught.value) == words
