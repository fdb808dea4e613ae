"""Headers of pictures: which files are decoded, and which are refused before any decoder sees them."""

import base64
import io
import os
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from melfast.io import decoders
from melfast.io.errors import ImageError, UnreadableError
from melfast.io.formats import read_header
from melfast.io.headers import MAX_SCANS, without_stray
from melfast.io.images import check_image, decode_image, read_image, read_mask, read_scaled
from tests.conftest import skin_rgb

FORMATS = {
    "a.jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "a.png": ("PNG", {}),
    "a.webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "a.bmp": ("BMP", {}),
    "a.tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}
# 96 x 128 pixels by an arithmetic coder, which Pillow does not have.
ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFR
T/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCABgAIADASIAAhEBAxEB
/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwDSvL0f+11KR0UgtSuKFHNG1VVV9O+t6DuTB3g+Yb9ndpiVppa+lY56XanHJHWJ+y9XfLkZjenF88fjsyCaOg
G5aMCIyUP+E4Ja3/y1N3YHLLhBPfJ6bqtHfi8imGxJDK2oxUln6MZKrfXtmhQUON5m5duQ5gdzAmBYdrXYorb6mj973X5jGZFFpIXLHPh6BlMMqw3LfEbL
ziF+Z5oSRLP3or57QFTxZAfizLpbroU1jHTOVMSzZepnSlTCbj4lwyFKC0VzwBQAh7b3dFuTM3PPIrrvIyOxiGh2EbqO44Kh6swo0A9IDd3w6RPzIUMrwY
/5opWdyrgexXMb5jW8wY0Y+fbe2iWpIdPVODTaKDaWowFtKin6afqkFPTjvi7HknUQyKg0DkvYOLTkNsM0uMNoVQPul7chdv0I6RPqxJMrz0wY9VXy9gv0
g9tSYuDFIvLo1o7R4kVrwq7TvizzcIyQ6GmA7r3pZvJCXjLGvVTlR+ycRx2M4yWo3129uzAIN3uBeeph+fV30qGo++5CelZDDYuYVzgisTEcoddcYcBTZu
s3EgQWJcf13PWZx49qgANfUgFPSXtVmX0eku3jchIX9/C7h9W+aDK2ob8NSoeFIiCK9L9lXh31VlOI/wDkGYfYypjuKlq7bcj8KUTBpPNRis0cEbTU8ZD7
outn8Qha4253gGVVLLsCfuxEjO8rgqcga1Tq+xITjrAS6z2Nbtt2vOnihAuWLlgCJ6AdQPM5qvL3VMYKq9orJm2VUk5X+5aJif4WvX//APTN1cgWOBTcVX
FUMYUY23kK0+9v8FiqzLvzR3heQTlAl08eGoPcztzPdjRJQPDS7klnGfOxp9rOvaJiS47YotTgPuKevAJKyLfTxqWnKuOdP2jMoS4akEl0hXrlfM7+Qq/A
hAoghpIBNIg4cIw/b3NTLkbJevjUi8JGGfrpMLBjou0x0U2AJ+U6TualYnTi/W3n/HVtbVqV5TVHnLYPMrYXcNoFy6ymMGaUg+EsBOdWV1GU0rhkaDD14k
DtLNN+DBEWULTaou9yeEeANij1fkH4zkbM7jEYw3fEEIje1XKI0hvgROC8Pn/SGR/f5L2HxvHM1zQ0MiadfJxvzwPBKX5lZgRYA82Nb5vz4YKDTTrDDgXU
PX5bIdmBe1hnMNz1rm3NrhlsYyTPz5oDFPatVp4Q9dUADirp8ZcsMTxzGSxvfuTwqlNVs6hcPUGHiqXUrugQs0nNmOF7WxSPStVFhVmYFlNJA2U25dkBUK
mi5HEe33wCFacAmuKh1xxU8tGyBm9aBirqg2sfHD/tSVIx4dFyt3RX1bEjvurtcn3sJfWKxYOUM0puL20xqF/7CHPCOE1r11ywWb9DpnJtsNC1tTmn1fn5
FXimzy2VW+0cZcgZekYAr7bVrV2L37pR3PIVkA0yNciM/wAt4UUlMnrswGpZ2gAVvUyAbwixZHAoy+1HUBmiK/zNUTEqK7bBc7Pv10C6ty48fvYu3Ph0TE
sV7tQCgRmf1yd9Xq+HwMi015yykw2HdJ/y6MnY+iXmAND7CNeWKD3jHcZSAEhcYeWjsdY2cAxXgxodV8SE4Z9nr3OwR9VR3CjoEVRlR/uxn89pKsVyUCnr
rHoBSfOrsdeQkogvdz+D/DlShnal1G8aipgaW/lI4ynSM1W4mtBoOv6hHEvKd07Adxia0ESVbJCj20erMY2cF/4o8UpDJ1y0AY745GlAU+H0TFW2OP8Avz
g8OaKamdAzwp/R7RNpBV9jsC2Eni096M4A6NldvOZfIHwiV/ATMmDDTCRqOg11rELDMFdiffjtCyjSpXwJzsmLan7nmOrwsUkmiq5IgNe2OgVYxYNFkgJA
yxhQ4MD2RP4UndBA/9k=
"""


def encoded(kind: str = "JPEG", height: int = 96, width: int = 128, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skin_rgb(height, width)).save(buffer, kind, **options)
    return buffer.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode_image(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read(tmp_path: Path, name: str) -> None:
    kind, options = FORMATS[name]
    path = tmp_path / "named.jpg"  # content counts, not the suffix
    path.write_bytes(encoded(kind, **options))
    assert np.abs(read_image(path).astype(int) - skin_rgb(96, 128)).max() <= 16
    assert np.abs(read_image(path).astype(int) - skin_rgb(96, 128)).mean() < 2
    assert check_image(path).format.upper() == kind
    assert read_mask(path).shape == (96, 128)
    image, size, _ = read_scaled(path, lambda height, width: (height // 4, width // 4))
    assert size == (96, 128)
    assert image.shape == ((24, 32, 3) if kind == "JPEG" else (96, 128, 3))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 2, 6, 8])
def test_orientation_of_other_formats(kind: str, orientation: int) -> None:
    if kind == "AVIF":
        pytest.importorskip("PIL._avif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    got = decode_image(encoded(kind, exif=exif, **lossless))
    want = decoders.upright(skin_rgb(96, 128), orientation)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < 3


@pytest.mark.parametrize(
    ("marker", "name"),
    [(0xC3, "lossless"), (0xCB, "lossless arithmetic"), (0xC5, "hierarchical"), (0xC7, "hierarchical")],
)
def test_codings_that_decoders_are_not_tested_with(marker: int, name: str) -> None:
    """libjpeg-turbo's lossless decoder, asked for a scale, writes past its buffer and kills the process."""
    data = encoded().replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    assert reason(data) == f"found a {name} JPEG, expected a baseline or progressive one"


def test_twelve_bits() -> None:
    data = bytearray(encoded())
    data[data.index(b"\xff\xc0") + 4] = 12
    assert reason(bytes(data)) == "found a 12-bit JPEG, expected 8-bit RGB"


def test_chroma_samplings_without_a_name() -> None:
    """4:1:1 of 32 x 32 pixels has the blocks of 4:4:1, of which simplejpeg raises KeyError."""
    jpeg = simplejpeg.encode_jpeg(skin_rgb(32, 32), colorsubsampling="411")
    frame = jpeg.index(b"\xff\xc0")
    for sampling in (0x14, 0x41):
        data = bytearray(jpeg)
        assert data[frame + 11] == 0x41
        data[frame + 11] = sampling
        want = np.asarray(Image.open(io.BytesIO(data)))
        scaled = decode_image(bytes(data), min_height=1, min_width=1)
        assert scaled.shape == ((4, 4, 3) if sampling == 0x41 else (32, 32, 3))
        assert np.abs(decode_image(bytes(data)).astype(int) - want).max() <= 1
    data[frame + 11] = 0x51
    assert reason(bytes(data)) == "found a truncated or damaged JPEG (bad sampling factors)"


def test_scans_are_counted() -> None:
    data = encoded(progressive=True)
    scan = data.index(b"\xff\xda")
    many = data[:scan] + data[scan : scan + 40] * (MAX_SCANS + 1)
    assert reason(many) == f"found a JPEG of {MAX_SCANS + 1} scans, expected at most 500"
    large = bytearray(data[:scan] + data[scan : scan + 40] * 200)
    at = large.index(b"\xff\xc2") + 5
    large[at : at + 4] = struct.pack(">HH", 8000, 8000)
    assert reason(bytes(large)) == "found a JPEG of 8000 x 8000 pixels in 200 scans, expected fewer scans"


def test_stray_bytes_between_segments_are_passed_over() -> None:
    jpeg = encoded()
    at = jpeg.index(b"\xff\xdb")
    data = jpeg[:at] + b"\x00\x17" + jpeg[at:]
    assert without_stray(data, read_header(io.BytesIO(data))) == jpeg
    assert (decode_image(data) == decode_image(jpeg)).all()
    assert reason(jpeg[:at] + bytes(100) + jpeg[at:]) == (
        "found a truncated or damaged JPEG (100 stray bytes between its segments)"
    )


def test_png_checksums_are_compared() -> None:
    """A flipped bit in the pixels of an uncompressed PNG: only the checksum reveals it."""
    data = bytearray(encoded("PNG", compress_level=0))
    data[len(data) // 2] ^= 16
    assert reason(bytes(data)) == "found a truncated or damaged PNG (wrong checksum in its 'IDAT' chunk)"


def test_whatever_a_decoder_raises_is_the_file_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in ((KeyError(7), "7"), (RuntimeError(), "RuntimeError"), (OSError("two\nlines"), "two lines")):

        def broken(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(simplejpeg, "decode_jpeg", broken)
        assert reason(encoded()) == f"found a truncated or damaged JPEG ({words})"


def test_only_regular_files_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("socket.jpg")
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(6 << 30)
    (tmp_path / "good.jpg").write_bytes(encoded())
    for name, words in (
        ("pipe", "is a named pipe, expected an image file"),
        ("zero", "is a device, expected an image file"),
        ("socket", "is a socket, expected an image file"),
        ("sparse", "found 6,442,450,944 bytes, expected at most 536,870,912 (MELFAST_MAX_FILE_BYTES)"),
    ):
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / f"{name}.jpg")
        assert caught.value.reason == words
    monkeypatch.setenv("MELFAST_MAX_FILE_BYTES", "100")
    with pytest.raises(ImageError, match=r"expected at most 100 \(MELFAST_MAX_FILE_BYTES\)$"):
        read_image(tmp_path / "good.jpg")


def test_other_formats_refused() -> None:
    picture = Image.fromarray(skin_rgb(32, 32))
    for kind, mode, words in (
        ("TIFF", "L", "found a greyscale TIFF, expected 8-bit RGB"),
        ("TIFF", "I;16", "found a 16-bit TIFF, expected 8-bit RGB"),
        ("TIFF", "CMYK", "found a CMYK TIFF, expected 8-bit RGB"),
        ("BMP", "L", "found a greyscale BMP, expected 8-bit RGB"),
    ):
        buffer = io.BytesIO()
        (picture.convert("L").convert(mode) if mode.startswith("I") else picture.convert(mode)).save(buffer, kind)
        assert reason(buffer.getvalue()) == words
    jpeg = encoded("TIFF", compression="jpeg")
    assert reason(jpeg) == "found a TIFF coded as jpeg, expected none, LZW, Deflate or PackBits"
    two = encoded("TIFF", save_all=True, append_images=[picture])
    assert reason(two) == "found a TIFF of several pictures, expected one"
    moving = encoded("WEBP", 32, 32, save_all=True, append_images=[Image.new("RGB", (32, 32))])
    assert reason(moving) == "found an animated WebP, expected one picture"
    clear = io.BytesIO()
    picture.convert("RGBA").point(lambda level: level // 2).save(clear, "WEBP", lossless=True)
    assert reason(clear.getvalue()) == "found a WebP with transparent pixels, expected opaque 8-bit RGB"


def test_heic_and_dicom_name_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(100)
    assert reason(heic) == "found a HEIC, which needs a library: pip install pillow-heif"
    assert reason(bytes(128) + b"DICM" + bytes(100)) == "found a DICOM, which needs a library: pip install pydicom"


def test_headers_at_random() -> None:
    """Every format with its header mutated: a picture or one line, never a crash, never slow."""
    rng = np.random.default_rng(18)
    kinds = [encoded(kind, 24, 32, **options) for kind, options in FORMATS.values()]
    reasons: list[str] = []
    begun = time.monotonic()
    for trial in range(2700):
        whole = kinds[trial % len(kinds)]
        data = bytearray(whole)
        reach = min(len(data), 700) if trial % 2 else len(data)
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(reach))
            if trial % 3 == 0:
                data[place] = rng.integers(256)
            elif trial % 3 == 1:
                data[place] ^= 1 << rng.integers(8)
            else:
                # Markers, lengths and sizes at their extremes.
                data[place : place + 2] = rng.choice([b"\xff\xc3", b"\xff\xda", b"\xff\xff", b"\0\0", b"\x7f\xff"])
        try:
            image = decode_image(bytes(data), min_height=1, min_width=1)
        except ValueError as error:
            reasons.append(str(error))
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
    assert 500 < len(reasons) < 2700
    assert max(map(len, reasons)) < 300
    assert not any("\n" in reason for reason in reasons)
    assert time.monotonic() - begun < 120


def test_arithmetic_coding(tmp_path: Path) -> None:
    data = base64.b64decode(ARITHMETIC)
    assert read_header(io.BytesIO(data)).scalable
    want = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(decode_image(data) - want).max() <= 1
    small = decode_image(data, min_height=24, min_width=32).astype(int)
    assert np.abs(small - want.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))).mean() < 3
