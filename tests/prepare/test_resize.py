"""Working copies: their content, their paths, and which are made again."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from melfast.data.manifest import Manifest, read_manifest, write_manifest
from melfast.io.images import check_image, read_image, read_mask
from melfast.io.journal import Journal
from melfast.prepare.picture import copy_size, open_picture
from melfast.prepare.resize import copy_files, resize_step, with_resized
from melfast.prepare.sweep import run_step
from melfast.prepare.synth import SynthSettings, synthesize

SIDE, QUALITY = 100, 95


def psnr_db(found, wanted):
    return 10 * np.log10(255**2 / np.square(found - np.asarray(wanted, np.float64)).mean())


def pillow(path, size):
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(upright.resize(size, Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("drawn")
    return synthesize(folder, SynthSettings(6, size=(320, 240)), workers=1)


def read_small(path, side):
    with open_picture(path) as picture:
        return picture.resized(lambda height, width: copy_size(height, width, side))


def run(manifest, folder, threads=2, **options):
    return run_step(manifest, resize_step(manifest, folder, SIDE, QUALITY), threads=threads, **options)


def test_copies_are_the_images_smaller(drawn, tmp_path):
    swept = run(drawn, tmp_path)
    assert swept.bad == []
    for row, result in enumerate(swept.results):
        assert (result["width"], result["height"]) == (133, 100)
        info = check_image(result["path"])
        assert (info.width, info.height, info.format) == (133, 100, "JPEG")
        wanted = pillow(drawn.image_paths[row], (133, 100))
        assert psnr_db(read_image(result["path"]), wanted) > 38
        mask = read_mask(result["mask_path"])
        assert mask.shape == (100, 133)
        full = read_mask(drawn.mask_paths[row])
        assert mask.mean() == pytest.approx(full.mean(), abs=0.005)
        assert set(np.unique(np.asarray(Image.open(result["mask_path"])))) <= {0, 255}


def test_the_chroma_is_kept_whole(drawn, tmp_path):
    swept = run(drawn, tmp_path)
    with Image.open(swept.results[0]["path"]) as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}


def test_real_images(real_data, tmp_path):
    for path in sorted((real_data / "isic_fullres" / "images").glob("*.jpg"))[::10]:
        small = read_small(path, 288)
        assert min(small.shape[:2]) == 288
        assert psnr_db(small, pillow(path, small.shape[1::-1])) > 36


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation, tmp_path):
    y, x = np.mgrid[:301, :405]
    pixels = np.stack([x * 255 // 404, y * 255 // 300, (x + y) * 255 // 704], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, exif=exif)
    small = read_small(tmp_path / "a.jpg", 100)
    assert small.shape == ((100, 135, 3) if orientation < 5 else (135, 100, 3))
    assert psnr_db(small, pillow(tmp_path / "a.jpg", small.shape[1::-1])) > 38


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (60, 99), (100, 40)])
def test_small_images_keep_their_size(size, tmp_path):
    Image.new("RGB", size, (200, 150, 120)).save(tmp_path / "a.png")
    assert read_small(tmp_path / "a.png", SIDE).shape == (size[1], size[0], 3)


def test_files_are_spread_and_no_two_names_meet(tmp_path):
    names = [f"ISIC_{i:07d}" for i in range(2000)] + ["a/b", "a%2Fb", "../x", "x" * 400, "x" * 401]
    files = {copy_files(tmp_path, name)[0] for name in names}
    assert len(files) == len(names)
    folders = pd.Series([file.parent.name for file in files]).value_counts()
    assert len(folders) > 200
    assert folders.max() < 30
    assert all(len(file.name) < 255 and file.parents[2] == tmp_path for file in files)


def test_the_manifest_points_to_the_copies(drawn, tmp_path):
    swept = run(drawn, tmp_path / "copies")
    moved = write_manifest(with_resized(drawn, swept), tmp_path / "small.csv")
    again = read_manifest(moved.path)
    assert [check_image(path).height for path in again.image_paths] == [100] * 6
    assert [read_mask(path).shape for path in again.mask_paths] == [(100, 133)] * 6
    assert again.column("height").tolist() == ["100"] * 6
    originals = [drawn.path.parent / cell for cell in with_resized(drawn, swept).column("original_path")]
    assert [path.resolve() for path in originals] == [p.resolve() for p in drawn.image_paths]


def test_bad_images_and_masks_are_put_aside(drawn, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"text")
    table = drawn.table.copy()
    table.loc[1, "path"] = str(tmp_path / "bad.jpg")
    table.loc[2, "mask_path"] = str(tmp_path / "bad.jpg")
    table.loc[3, "mask_path"] = ""
    manifest = replace(drawn, table=table)
    swept = run(manifest, tmp_path / "copies")
    assert [name for name, _, _ in swept.bad] == [drawn.image_names[1], drawn.image_names[2]]
    assert swept.bad[1][2].startswith(f"mask {tmp_path}/bad.jpg: found ")
    kept = with_resized(manifest, swept)
    assert len(kept) == 4
    assert [bool(cell) for cell in kept.column("mask_path")] == [True, False, True, True]


def test_only_what_has_changed_is_made_again(drawn, tmp_path):
    journal = Journal.beside(tmp_path / "out.csv", "resize", {})
    first = run(drawn, tmp_path, journal=journal)
    assert first.resumed == 0
    Path(first.results[0]["path"]).unlink()
    Path(first.results[1]["path"]).write_bytes(b"of something else")
    Path(first.results[2]["mask_path"]).unlink()
    second = run(drawn, tmp_path, journal=journal)
    assert second.resumed == 3
    for result in second.results:
        check_image(result["path"])
        read_mask(result["mask_path"])


def test_a_copy_that_cannot_be_read_is_not_kept(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("melfast.prepare.resize.simplejpeg.encode_jpeg", lambda *_, **__: b"\xff\xd8\xffnothing")
    swept = run(drawn, tmp_path)
    assert len(swept.bad) == 6
    assert swept.bad[0][2].startswith("the copy cannot be read: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_bytes_are_the_same_on_any_number_of_threads(drawn, tmp_path):
    files = []
    for threads in (1, 3):
        swept = run(drawn, tmp_path / str(threads), threads)
        files.append([Path(result["path"]).read_bytes() for result in swept.results])
    assert files[0] == files[1]
    assert io.BytesIO(files[0][0]).read(2) == b"\xff\xd8"
