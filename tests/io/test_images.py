import errno
import io
import os
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from melfast.io import images
from melfast.io.budget import MemoryBudget
from melfast.io.colour_profiles import chromatic_profile
from melfast.io.decoders import COSTS
from melfast.io.errors import ImageError, InputError
from melfast.io.folders import list_images
from melfast.io.images import ImageInfo, check_image, decode_image, read_image, read_mask, read_resized, read_scaled

ORIENTATION = 0x0112
REASONS = {
    "empty.jpg": "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF",
    "zeros.jpg": "found only zero bytes, expected a JPEG, PNG, WebP, BMP or TIFF",
    "truncated.jpg": "found a truncated or damaged JPEG (Premature end of JPEG file)",
    "header.jpg": "found a truncated or damaged JPEG (incomplete header)",
    "truncated.png": "found a truncated or damaged PNG (image file is truncated",
    "header.png": "found a truncated or damaged PNG header, expected a complete PNG",
    "html.jpg": "found an HTML page, expected a JPEG, PNG, WebP, BMP or TIFF",
    "text.png": "found a text file, expected a JPEG, PNG, WebP, BMP or TIFF",
    "gif.jpg": "found a GIF, expected a JPEG, PNG, WebP, BMP or TIFF",
    "noise.jpg": "found an unknown format (first bytes ff fe fd fc), expected a JPEG, PNG, WebP, BMP or TIFF",
    "cmyk.jpg": "found a CMYK JPEG, expected 8-bit RGB",
    "grey.jpg": "found a greyscale JPEG, expected 8-bit RGB",
    "grey.png": "found a 8-bit greyscale PNG, expected 8-bit RGB",
    "sixteen.png": "found a 16-bit PNG, expected 8-bit RGB",
    "huge.jpg": "found 30000 x 30000 pixels, expected at most 100,000,000 in all",
    "huge.png": "found 30000 x 30000 pixels, expected at most 100,000,000 in all",
    "transparent.png": "found a PNG with transparent pixels, expected opaque 8-bit RGB",
    "folder.jpg": "is a folder, expected an image file",
    "missing.jpg": "no such file",
}


def gradient(height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=-1).astype(np.uint8)


def encode(image: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_png_of_two_pixels_by_hand(tmp_path: Path) -> None:
    image = np.array([[[255, 0, 10], [1, 2, 3]]], dtype=np.uint8)
    got = read_image(write(tmp_path / "a.png", encode(image, "PNG")))
    assert got.tolist() == image.tolist()
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert got.flags.writeable


def test_jpeg_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", encode(gradient(), "JPEG", quality=95))
    want = np.asarray(Image.open(path))
    # Two builds of one decoder differ by at most one level.
    assert np.abs(read_image(path).astype(int) - want).max() <= 1
    assert np.abs(read_image(path).astype(int) - gradient()).mean() < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = write(tmp_path / "a.img", encode(gradient(), kind, exif=exif))
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    got = read_image(path)
    assert got.shape == want.shape == ((40, 56, 3) if orientation < 5 else (56, 40, 3))
    assert np.abs(got.astype(int) - want).max() <= 1
    assert got.flags.c_contiguous
    height, width = want.shape[:2]
    assert check_image(path) == ImageInfo(width=width, height=height, format=kind)


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_found_behind_other_segments(tmp_path: Path, order: str) -> None:
    jpeg = encode(gradient(), "JPEG")
    entry = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, 6, 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    profile = b"ICC_PROFILE\0\1\1" + chromatic_profile("Display P3")
    segments = b"".join(
        marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((b"\xff\xe2", profile), (b"\xff\xe1", exif))
    )
    path = write(tmp_path / "a.jpg", jpeg[:2] + segments + jpeg[2:])
    assert read_image(path).shape == (56, 40, 3)


def test_exif_that_cannot_be_read_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    for tiff in (b"", b"II", b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0", b"II*\0\x08\0\0\0\xff\xff"):
        path = write(tmp_path / "a.jpg", encode(gradient(), "JPEG", exif=b"Exif\0\0" + tiff))
        assert read_image(path).shape == (40, 56, 3)


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ((0, 0), (121, 203)),
        ((16, 16), (16, 26)),
        ((16, 27), (31, 51)),
        ((17, 1), (31, 51)),
        ((31, 51), (31, 51)),
        ((32, 1), (61, 102)),
        ((61, 102), (61, 102)),
        ((61, 103), (121, 203)),
        ((500, 500), (121, 203)),
    ],
)
def test_jpeg_is_decoded_at_the_smallest_sufficient_power_of_two(
    tmp_path: Path, wanted: tuple[int, int], size: tuple[int, int]
) -> None:
    path = write(tmp_path / "a.jpg", encode(gradient(121, 203), "JPEG"))
    assert read_image(path, min_height=wanted[0], min_width=wanted[1]).shape[:2] == size


def test_minimum_size_is_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = write(tmp_path / "a.jpg", encode(gradient(64, 128), "JPEG", exif=exif))
    assert read_image(path, min_height=32, min_width=16).shape == (32, 16, 3)
    assert read_image(path, min_height=16, min_width=32).shape == (64, 32, 3)


def test_scaled_decode_shows_the_same_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", encode(gradient(48, 64), "JPEG", quality=95))
    want = gradient(48, 64).reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(read_image(path, min_height=12, min_width=16) - want).mean() < 4


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"keep_rgb": True}, {"subsampling": 0}, {"quality": 20}], ids=str
)
def test_jpeg_flavours(tmp_path: Path, options: dict[str, object]) -> None:
    path = write(tmp_path / "a.jpg", encode(gradient(), "JPEG", **options))
    assert np.abs(read_image(path).astype(int) - np.asarray(Image.open(path))).max() <= 1


def test_content_counts_not_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "really_png.JPG", encode(gradient(), "PNG"))
    assert (read_image(path) == gradient()).all()
    assert check_image(path).format == "PNG"


def test_opaque_alpha_and_palette_are_converted(tmp_path: Path) -> None:
    opaque = write(tmp_path / "opaque.png", encode(gradient(), "PNG", "RGBA"))
    got = read_image(opaque)
    assert (got == gradient()).all()
    assert got.flags.c_contiguous
    palette = Image.fromarray(gradient()).convert("P")
    palette.save(tmp_path / "palette.png")
    assert (read_image(tmp_path / "palette.png") == np.asarray(palette.convert("RGB"))).all()


def test_transparent_palette_is_refused(tmp_path: Path) -> None:
    palette = Image.fromarray(gradient()).convert("P")
    palette.save(tmp_path / "a.png", transparency=int(np.asarray(palette)[0, 0]))
    with pytest.raises(ImageError, match="found a PNG with transparent pixels"):
        read_image(tmp_path / "a.png")


def test_palette_with_an_alpha_for_each_colour(tmp_path: Path) -> None:
    palette = Image.fromarray(gradient()).convert("P")
    palette.save(tmp_path / "opaque.png", transparency=bytes([255] * 256))
    assert (read_image(tmp_path / "opaque.png") == np.asarray(palette.convert("RGB"))).all()
    palette.save(tmp_path / "clear.png", transparency=bytes([254] * 256))
    with pytest.raises(ImageError, match="found a PNG with transparent pixels"):
        read_image(tmp_path / "clear.png")


def test_rgb_png_with_a_transparent_colour(tmp_path: Path) -> None:
    colour = tuple(gradient()[3, 4].tolist())
    Image.fromarray(gradient()).save(tmp_path / "a.png", transparency=colour)
    with pytest.raises(ImageError, match="found a PNG with transparent pixels"):
        read_image(tmp_path / "a.png")
    Image.fromarray(gradient()).save(tmp_path / "b.png", transparency=(1, 2, 3))
    assert (read_image(tmp_path / "b.png") == gradient()).all()


def test_animated_png_is_refused(tmp_path: Path) -> None:
    data = encode(gradient(), "PNG", save_all=True, append_images=[Image.fromarray(255 - gradient())])
    with pytest.raises(ImageError, match="found an animated PNG, expected one picture"):
        read_image(write(tmp_path / "a.png", data))


@pytest.mark.parametrize("name", REASONS)
def test_bad_file_is_named_with_its_reason(bad_images: dict[str, Path], name: str) -> None:
    for read in (read_image, check_image):
        with pytest.raises(ImageError) as caught:
            read(bad_images[name])
        assert caught.value.path == str(bad_images[name])
        assert caught.value.reason.startswith(REASONS[name])
        assert str(caught.value) == f"{bad_images[name]}: {caught.value.reason}"
        assert "\n" not in caught.value.reason


def test_every_bad_file_has_a_reason(bad_images: dict[str, Path]) -> None:
    assert set(bad_images) == set(REASONS)


def test_libjpeg_says_what_is_damaged(tmp_path: Path) -> None:
    jpeg = encode(gradient(), "JPEG")
    path = write(tmp_path / "a.jpg", jpeg[:-2] + bytes(9) + jpeg[-2:])
    with pytest.raises(ImageError, match=r"damaged JPEG \(Corrupt JPEG data: \d+ extraneous bytes"):
        read_image(path)
    profile = b"\xff\xe2" + struct.pack(">H", 30) + b"ICC_PROFILE\0" + bytes(16)
    with pytest.raises(ImageError, match=r"damaged JPEG \(parts of its colour profile are missing\)"):
        read_image(write(path, jpeg[:2] + profile + jpeg[2:]))
    assert read_image(write(path, jpeg + b"appended by a camera")).shape == (40, 56, 3)


def test_failing_disk_and_impossible_name() -> None:
    with pytest.raises(ImageError, match="cannot be read: Input/output error"):
        read_image("/proc/self/mem")
    with pytest.raises(ImageError, match="is no file name: embedded null byte"):
        read_image("a\0.jpg")


def test_header_of_a_size_that_is_allowed_is_not_refused_by_pillow(tmp_path: Path) -> None:
    # 95 megapixels: more than Pillow allows without a warning, less than MAX_PIXELS.
    path = tmp_path / "large.png"
    Image.new("RGB", (9500, 10000)).save(path, compress_level=1)
    assert check_image(path) == ImageInfo(width=9500, height=10000, format="PNG")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_bytes_give_an_image_or_the_error(kind: str) -> None:
    rng = np.random.default_rng(7)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = encode(gradient(), kind, exif=exif)
    failures = 0
    for trial in range(1500):
        data = bytearray(whole)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        elif trial % 3 == 1:
            for _ in range(rng.integers(1, 8)):
                data[rng.integers(len(data))] = rng.integers(256)
        else:
            first, last = sorted(rng.integers(len(data), size=2))
            data = data[:first] + data[last:]
        try:
            image = decode_image(bytes(data))
        except ValueError:
            failures += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
    assert failures > 500  # every truncation at least


def test_threads_read_alike(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.jpg", encode(gradient() + i, "JPEG")) for i in range(20)]
    want = [read_image(path) for path in paths]
    got: dict[tuple[int, int], np.ndarray] = {}

    def work(worker: int) -> None:
        for i, path in enumerate(paths):
            got[worker, i] = read_image(path)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 80
    assert all((image == want[i]).all() for (_, i), image in got.items())


def test_mask_is_light_inside(tmp_path: Path) -> None:
    inside = np.zeros((30, 40), bool)
    inside[5:20, 8:30] = True
    for name, values in (("a", 255), ("labels", 1), ("faint", 100)):
        Image.fromarray((inside * values).astype(np.uint8)).save(tmp_path / f"{name}.png")
        assert (read_mask(tmp_path / f"{name}.png") == inside).all()
    Image.fromarray(inside).save(tmp_path / "one_bit.png")
    assert (read_mask(tmp_path / "one_bit.png") == inside).all()
    Image.fromarray((inside * 255).astype(np.uint8)).convert("RGB").save(tmp_path / "rgb.png")
    assert (read_mask(tmp_path / "rgb.png") == inside).all()
    Image.fromarray((inside * 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert (read_mask(tmp_path / "a.jpg") == inside).mean() > 0.99
    Image.fromarray(np.full((8, 8), 3, np.uint8)).save(tmp_path / "black.jpg")
    assert not read_mask(tmp_path / "black.jpg").any()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    assert not read_mask(tmp_path / "black.png").any()


def test_mask_that_is_none(bad_images: dict[str, Path]) -> None:
    for name in set(bad_images) - {"grey.jpg", "grey.png"}:
        with pytest.raises(ImageError):
            read_mask(bad_images[name])


def test_list_images_is_sorted_and_deep(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/er/c.jpeg", ".hidden.jpg", ".git/d.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    want = [tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "deep/er/c.jpeg"]
    assert list_images(tmp_path) == want
    assert list_images(f"{tmp_path}/") == want


def test_list_images_follows_links_to_folders(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    assert list_images(tmp_path / "data") == [tmp_path / "data" / "link" / "a.png"]


def test_list_images_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder, expected a folder of images$"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no image \(\.jpg, \.jpeg, .*, \.tiff\)$"):
        list_images(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: is a file, expected a folder of images$"):
        list_images(tmp_path / "file")


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.png").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"shut: cannot be listed: Permission denied$"):
        list_images(tmp_path)


def test_real_images_as_pillow_decodes_them(real_data: Path) -> None:
    files = list_images(real_data / "isic_fullres")[:2]
    for file in files + list_images(real_data / "isic2020" / "images")[:1]:
        want = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        assert np.abs(read_image(file).astype(int) - want).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_scaled_knows_the_size_in_the_file(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = write(tmp_path / "a.jpg", encode(gradient(80, 120), "JPEG", exif=exif))
    upright = (80, 120) if orientation < 5 else (120, 80)
    asked = []

    def third(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return height // 3, width // 3

    image, size, _ = read_scaled(path, third)
    assert asked == [upright]
    assert size == upright
    assert image.shape == (upright[0] // 2, upright[1] // 2, 3)
    assert (image == read_image(path, min_height=size[0] // 3, min_width=size[1] // 3)).all()


@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [
        (1, (0, 0, 7.75, 10.25)),
        (2, (0, 0.75, 7.75, 11)),
        (3, (0.25, 0.75, 8, 11)),
        (4, (0.25, 0, 8, 10.25)),
        (5, (0, 0, 10.25, 7.75)),
        (6, (0, 0.25, 10.25, 8)),
        (7, (0.75, 0.25, 11, 8)),
        (8, (0.75, 0, 11, 7.75)),
    ],
)
def test_read_scaled_knows_where_the_picture_is(tmp_path: Path, orientation: int, wanted: tuple[float, ...]) -> None:
    """31 x 41 pixels at a quarter: 8 x 11 of which 7.75 x 10.25 are the picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (41, 31)).save(tmp_path / "a.jpg", exif=exif)
    image, _, extent = read_scaled(tmp_path / "a.jpg", lambda height, width: (7, 7))
    assert image.shape[:2] == ((8, 11) if orientation < 5 else (11, 8))
    assert extent == wanted
    image, _, extent = read_scaled(tmp_path / "a.jpg", lambda height, width: (0, 0))
    assert extent == (0, 0, *image.shape[:2])


def test_read_scaled_reads_a_png_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", encode(gradient(), "PNG"))
    image, size, _ = read_scaled(path, lambda height, width: (1, 1))
    assert size == (40, 56)
    assert (image == gradient()).all()


def test_read_scaled_says_what_is_wrong(bad_images: dict[str, Path]) -> None:
    for name, path in bad_images.items():
        with pytest.raises(ImageError) as raised:
            read_scaled(path, lambda height, width: (1, 1))
        assert REASONS[name] in str(raised.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_resized_from_a_scaled_decode_is_where_it_was(tmp_path: Path, orientation: int) -> None:
    """Rows and columns that no power of two divides: stretched whole, a scaled decode of them would
    move the picture by up to half a pixel."""
    height, width, centre = 1129, 1503, (900.0, 1203.0)
    y, x = np.ogrid[:height, :width]
    inside = np.hypot(y + 0.5 - centre[0], x + 0.5 - centre[1]) < 150
    pixels = np.where(inside, 230, 40).astype(np.uint8)[..., None].repeat(3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "disc.jpg", quality=95, exif=exif)
    upright = read_image(tmp_path / "disc.jpg")
    tall, wide = upright.shape[:2]
    small, size = read_resized(tmp_path / "disc.jpg", lambda h, w: (h // 7, w // 7))
    assert size == (tall, wide)
    assert small.shape == (tall // 7, wide // 7, 3)

    def centroid(image: np.ndarray) -> np.ndarray:
        weights = np.maximum(image[..., 0].astype(np.float64) - 60, 0)
        where = np.meshgrid(*((np.arange(n) + 0.5) / n for n in image.shape[:2]), indexing="ij")
        return np.array([(axis * weights).sum() / weights.sum() for axis in where])

    apart = (centroid(small) - centroid(upright)) * small.shape[:2]
    assert np.abs(apart).max() < 0.02  # pixels of the small image


def test_threads_hold_no_more_memory_than_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine threads, images of 2,240 pixels, room for two of them and a half."""
    monkeypatch.setattr(images, "BUDGET", MemoryBudget(5 * 2240 * COSTS["PNG"] // 2))
    path = write(tmp_path / "a.png", encode(gradient(), "PNG"))
    inside, most, lock = 0, 0, threading.Lock()

    def hold(_: int) -> None:
        nonlocal inside, most
        with images.scaled(path, lambda height, width: (1, 1)):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(hold, range(9)))
    assert most == 2
    assert images.BUDGET.taken == 0


def test_what_is_larger_than_the_budget_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BUDGET", MemoryBudget(1000))
    path = write(tmp_path / "a.png", encode(gradient(), "PNG"))
    with images.scaled(path, lambda height, width: (1, 1)) as (image, _, _):
        assert images.BUDGET.taken == 1000
        assert (image == gradient()).all()


def test_the_budget_counts_a_jpeg_as_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BUDGET", MemoryBudget(100_000))
    Image.new("RGB", (80, 160)).save(tmp_path / "a.jpg")
    with images.scaled(tmp_path / "a.jpg", lambda height, width: (40, 20)) as (image, size, _):
        assert size == (160, 80)
        assert image.shape == (40, 20, 3)
        assert images.BUDGET.taken == 40 * 20 * COSTS["JPEG"] + (tmp_path / "a.jpg").stat().st_size


def test_a_failure_gives_the_budget_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BUDGET", MemoryBudget(1000))
    path = write(tmp_path / "a.png", encode(gradient(), "PNG")[:-40])
    with pytest.raises(ImageError, match="damaged PNG"):
        read_scaled(path, lambda height, width: (1, 1))
    with (
        pytest.raises(ZeroDivisionError),
        images.scaled(write(tmp_path / "b.png", encode(gradient(), "PNG")), lambda height, width: (1, 1)),
    ):
        raise ZeroDivisionError
    assert images.BUDGET.taken == 0
