import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melfast.data.manifest import Manifest
from melfast.io.colour_profiles import chromatic_profile
from melfast.prepare import check
from melfast.prepare.check import CHECK, CheckResult, checked_rows, manifest_remarks
from melfast.prepare.picture import Picture
from melfast.prepare.sweep import Result, run_step, write_quarantine


def manifest_of(folder: Path, paths: dict[str, str], **columns: list[str]) -> Manifest:
    table = pd.DataFrame({"image_name": list(paths), "path": list(paths.values()), **columns})
    return Manifest(folder / "m.csv", table)


def check_manifest(manifest: Manifest, **options: Any) -> CheckResult:
    return checked_rows(manifest, run_step(manifest, CHECK, **options))


def picture(path: Path, width: int, height: int, value: int = 128) -> None:
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


@pytest.mark.parametrize("threads", [1, 4])
def test_good_images_get_their_size(tmp_path: Path, threads: int) -> None:
    for i in range(9):
        picture(tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}", 10 + i, 20)
    names = {f"n{i}": f"{i}.{'jpg' if i % 2 else 'png'}" for i in range(9)}
    done: list[None] = []
    checked = check_manifest(manifest_of(tmp_path, names), threads=threads, progress=lambda: done.append(None))
    assert checked.bad == []
    assert checked.good.column("width").tolist() == [str(10 + i) for i in range(9)]
    assert checked.good.column("height").tolist() == ["20"] * 9
    assert len(done) == 9


def test_every_bad_image_is_named(tmp_path: Path, bad_images: dict[str, Path]) -> None:
    picture(tmp_path / "good.png", 4, 3)
    paths = {"good": "good.png", **{name: f"bad/{name}" for name in bad_images}}
    checked = check_manifest(manifest_of(tmp_path, paths), threads=2)
    assert checked.good.image_names == ["good"]
    assert [name for name, _, _ in checked.bad] == list(bad_images)
    assert [path for _, path, _ in checked.bad] == [str(path) for path in bad_images.values()]
    reasons = {name: reason for name, _, reason in checked.bad}
    assert reasons["cmyk.jpg"] == "found a CMYK JPEG, expected 8-bit RGB"
    assert reasons["missing.jpg"] == "no such file"


def test_masks_are_checked_too(tmp_path: Path) -> None:
    names = ["none", "good", "size", "gone", "broken"]
    for name in names:
        picture(tmp_path / f"{name}.png", 8, 6)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "good_mask.png")
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "size_mask.png")
    (tmp_path / "broken_mask.png").touch()
    masks = ["", *(f"{name}_mask.png" for name in names[1:])]
    manifest = manifest_of(tmp_path, {name: f"{name}.png" for name in names}, mask_path=masks)
    checked = check_manifest(manifest)
    assert checked.good.image_names == ["none", "good"]
    assert [(name, reason) for name, _, reason in checked.bad] == [
        ("size", f"mask {tmp_path}/size_mask.png: found 6 x 8 pixels, expected 8 x 6 as the image"),
        ("gone", f"mask {tmp_path}/gone_mask.png: no such file"),
        ("broken", f"mask {tmp_path}/broken_mask.png: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"),
    ]


def test_nothing_good(tmp_path: Path) -> None:
    checked = check_manifest(manifest_of(tmp_path, {"a": "a.jpg"}))
    assert len(checked.good) == 0
    assert list(checked.good.table) == ["image_name", "path", "width", "height"]


def test_an_interrupted_check_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Picture] = []
    picture(tmp_path / "a.png", 4, 3)

    def slow_check(each: Picture) -> Result:
        read.append(each)
        time.sleep(0.001)
        return {"width": 4, "height": 3, "profile": ""}

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "look_over", slow_check)
    manifest = manifest_of(tmp_path, {f"n{i}": "a.png" for i in range(2000)})
    with pytest.raises(KeyboardInterrupt):
        check_manifest(manifest, progress=interrupt)
    assert len(read) < 1000


def test_quarantine_table(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    write_quarantine([("a", "x/a.jpg", "found 1, expected 2")], path)
    with open(path, newline="") as file:
        assert list(csv.reader(file)) == [["image_name", "path", "reason"], ["a", "x/a.jpg", "found 1, expected 2"]]
    write_quarantine([], path)  # no stale table is left from an earlier check
    assert path.read_text() == "image_name,path,reason\n"


def test_colour_profiles_are_counted(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((20, 30, 3), 128, np.uint8))
    for name, space in (("a", "Display P3"), ("b", "Display P3"), ("c", "Adobe RGB (1998)")):
        image.save(tmp_path / f"{name}.jpg", icc_profile=chromatic_profile(space))
    image.save(tmp_path / "d.jpg")
    checked = check_manifest(manifest_of(tmp_path, {name: f"{name}.jpg" for name in "abcd"}))
    assert checked.profiles == {"Display P3": 2, "Adobe RGB (1998)": 1}
    assert manifest_remarks(checked.good, checked.profiles)[0] == (
        "colour profiles, converted to sRGB as images are read: 2 Display P3, 1 Adobe RGB (1998)"
    )


def test_remarks(tmp_path: Path) -> None:
    paths = {"a": "a", "b": "b", "c": "c"}
    one = manifest_of(tmp_path, paths, target=["1", "1", ""], lesion_id=["L", "", ""])
    assert manifest_remarks(one) == ["unlabelled images: 1 of 3", "one class only: all 2 labelled images are malignant"]
    two = manifest_of(tmp_path, paths, target=["1", "0", "0"])
    assert manifest_remarks(two) == ["neither patient_id nor lesion_id: a split can only go by image"]
    three = manifest_of(tmp_path, paths, target=["1", "0", "0"], patient_id=["P", "", ""])
    assert manifest_remarks(three) == []
