"""Files of a folder: images, and what is not read."""

from pathlib import Path

import pytest

from melfast.io.errors import InputError
from melfast.io.folders import list_images, scan, without_masks


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_what_is_not_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melfast.io.folders.importlib.util.find_spec", lambda name: None)
    images = ("a.jpg", "b.JPE", "c.jfif", "d.webp", "e.bmp", "f.tif", "g/h.TIFF")
    fill(tmp_path, *images, "i.HEIC", "j/k.heic", "l.dcm", "m.psd", "README")
    fill(tmp_path, ".hidden", "Thumbs.db", "@eaDir/a.jpg/SYNOPHOTO_THUMB_S.jpg", "__MACOSX/._a.jpg")
    fill(tmp_path, "#recycle/a.jpg", "@Recycle/a.jpg", "$RECYCLE.BIN/S-1/a.jpg", "System Volume Information/a.jpg")
    found = scan(tmp_path)
    assert found.files == sorted(images)
    hint = "(to read them: pip install pillow-heif; pip install pydicom)"
    assert found.notes() == (f"not read: 2 .heic, 1 .dcm, 1 .psd, 1 without a suffix {hint}",)
    assert found.notes(".heic", ".dcm") == ("not read: 1 .psd, 1 without a suffix",)


def test_libraries_make_suffixes_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melfast.io.folders.importlib.util.find_spec", lambda name: object())
    fill(tmp_path, "a.heic", "b.dcm")
    assert scan(tmp_path).files == ["a.heic", "b.dcm"]
    assert scan(tmp_path).notes() == ()


def test_maps_of_photographs_are_no_photographs(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "x.jpg",
        "x_superpixels.png",
        "alone_superpixels.png",
        "x_segmentation.png",
        "masks/x.png",
        "y_mask.png",
        "x_attribute_milia_like_cyst.png",
        "x_roi/x_R1_Label4.bmp",
        "x_lesion/x_lesion.bmp",
        "masks/mask-x.png",
        "x-seg.png",
        "masks/x_lesion_mask.png",
    )
    found = scan(tmp_path)
    alone, masks = (
        ["alone_superpixels.png", "y_mask.png"],
        ["masks/mask-x.png", "masks/x.png", "masks/x_lesion_mask.png"],
    )
    assert found.notes() == ("not read: 1 attribute maps, 1 colour maps, 1 superpixel maps",)
    of_x = ["x-seg.png", "x_lesion/x_lesion.bmp", "x_segmentation.png"]
    assert found.files == sorted([*alone, *masks, *of_x, "x.jpg"])
    photographs = without_masks(found)
    assert photographs.files == ["alone_superpixels.png", "x.jpg", "y_mask.png"]
    assert photographs.notes() == ("not read: 6 masks, 1 attribute maps, 1 colour maps, 1 superpixel maps",)


def test_a_folder_of_other_files_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a.psd")
    with pytest.raises(InputError, match=r"holds no image \(\.jpg, .*\); not read: 1 \.psd$"):
        list_images(tmp_path)
