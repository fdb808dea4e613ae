import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melfast.data.manifest import Manifest, read_manifest, write_manifest
from melfast.io.errors import InputError
from melfast.skin.tone import TONE_GROUPS

TEXT = """image_name,path,target,patient_id,split,group,group_str,ita,mask_path,hair
a,images/a.jpg,1,P1,train,1,Light,43.5,masks/a.png,yes
b,/data/b.jpg,0,unknown,valid,0,Very light,,,NA
c,c.jpg,,P1,,,,-12.25,,
"""


def manifest_file(folder: Path, text: str = TEXT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "m.csv"
    path.write_text(text)
    return path


def test_what_a_manifest_tells(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path))
    assert len(manifest) == 3
    assert manifest.image_names == ["a", "b", "c"]
    assert manifest.image_paths == [tmp_path / "images/a.jpg", Path("/data/b.jpg"), tmp_path / "c.jpg"]
    assert manifest.mask_paths == [tmp_path / "masks/a.png", None, None]
    assert manifest.targets.tolist() == [1, 0, -1]
    assert manifest.targets.dtype == np.int8
    assert manifest.groups.tolist() == [1, 0, -1]
    assert manifest.groups.dtype == np.int16
    assert manifest.group_names == ("Very light", "Light")
    assert manifest.splits.tolist() == ["train", "valid", ""]
    assert manifest.column("patient_id").tolist() == ["P1", "", "P1"]  # "unknown" is nobody
    assert manifest.column("hair").tolist() == ["yes", "NA", ""]  # not ours: untouched
    assert manifest.column("nothing").tolist() == ["", "", ""]


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path, "image_name,path\na,a.jpg\n"))
    assert manifest.targets.tolist() == [-1]
    assert manifest.groups.tolist() == [-1]
    assert manifest.group_names == ()
    assert manifest.splits.tolist() == [""]
    assert manifest.mask_paths == [None]


def test_numbers_as_other_programs_write_them(tmp_path: Path) -> None:
    text = "image_name,path,target,group,ita\na,a,1.0,2.0,1e1\nb,b,nan,-1,NaN\n c ,c, 0 ,,\n"
    manifest = read_manifest(manifest_file(tmp_path, text))
    assert manifest.targets.tolist() == [1, -1, 0]
    assert manifest.groups.tolist() == [2, -1, -1]
    assert manifest.group_names == ("0", "1", "2")
    assert manifest.column("ita").tolist() == ["1e1", "", ""]
    assert manifest.image_names[2] == "c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_name\na\n", "m.csv: no column 'path'; columns are image_name"),
        (
            "image_nmae,path\na,a\n",
            "m.csv: no column 'image_name'; columns are image_nmae, path; did you mean 'image_nmae'?",
        ),
        ("image_name,path,target\na,a,0\nb,b,mel\n", "m.csv:3: target must be 0, 1 or empty, got 'mel'"),
        ("image_name,path,target\na,a,2\n", "m.csv:2: target must be 0, 1 or empty, got '2'"),
        ("image_name,path,group\na,a,1.5\n", "m.csv:2: group must be a whole number from 0 or empty, got '1.5'"),
        (
            "image_name,path,group\na,a,1\nb,b,light\n",
            "m.csv:3: group must be a whole number from 0 or empty, got 'light'",
        ),
        ("image_name,path,split\na,a,val\n", "m.csv:2: split must be train, valid, test or empty, got 'val'"),
        ("image_name,path,ita\na,a,3x\n", "m.csv:2: ita must be degrees in -180..180 or empty, got '3x'"),
        ("image_name,path,ita\na,a,inf\n", "m.csv:2: ita must be degrees in -180..180 or empty, got 'inf'"),
        ("image_name,path\na,1\nb,2\na,3\n", "m.csv:4: image_name 'a' is already in line 2"),
        ("image_name,path\na,1\n,2\n", "m.csv:3: image_name is empty"),
        ("image_name,path\na,1,2\n", "m.csv:2: found 3 cells, expected 2 as in the header"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_manifest(manifest_file(tmp_path, text))
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_rows_without_a_path(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path, "image_name,path\na,a\nb,\nc,\n"))
    with pytest.raises(InputError, match=r"m\.csv: 2 of 3 rows have no 'path', the first is image 'b'"):
        _ = manifest.image_paths


def test_a_group_with_two_names(tmp_path: Path) -> None:
    text = "image_name,path,group,group_str\na,a,0,tan\nb,b,0,brown\n"
    with pytest.raises(InputError, match=r"m\.csv: group 0 is called brown and tan$"):
        _ = read_manifest(manifest_file(tmp_path, text)).group_names


def test_select_and_split(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path))
    assert manifest.select(np.array([True, False, True])).image_names == ["a", "c"]
    assert manifest.select([2, 0]).image_names == ["c", "a"]
    assert manifest.select([2, 0]).table.index.tolist() == [0, 1]
    assert manifest.select(np.zeros(3, bool)).image_names == []
    assert manifest.split("train").image_names == ["a"]
    with pytest.raises(InputError) as caught:
        manifest.split("test")
    assert str(caught.value) == (
        f"{tmp_path}/m.csv: no image in split 'test' (images by split: none: 1, train: 1, valid: 1)"
    )


def test_with_columns(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path))
    more = manifest.with_columns(
        ita=[1.5, math.nan, None],
        width=np.array([200, 300, 400]),
        hairy=np.array([True, False, True]),
        score=np.array([0.1, np.nan, 2], dtype=np.float32),
    )
    assert more.column("ita").tolist() == ["1.5", "", ""]
    assert more.column("width").tolist() == ["200", "300", "400"]
    assert more.column("hairy").tolist() == ["1", "0", "1"]
    assert more.column("score").tolist() == ["0.1", "", "2.0"]
    assert "width" not in manifest.table  # the old one is as it was
    assert manifest.column("ita")[0] == "43.5"
    with pytest.raises(ValueError, match="column 'x' has 2 values for 3 rows"):
        manifest.with_columns(x=[1, 2])


def test_require(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path, "image_name,path,width\na,a,1\n"))
    with pytest.raises(InputError, match=r"no column 'widths'; columns are .*; did you mean 'width'\?$"):
        manifest.require("widths")
    with pytest.raises(InputError, match=r"no column 'target'; columns are image_name, path, width$"):
        manifest.require("target")


def test_round_trip_in_place(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path))
    written = write_manifest(manifest, tmp_path / "again.csv")
    again = read_manifest(tmp_path / "again.csv")
    # The manifest's own columns come first, in their order.
    assert again.table[manifest.table.columns].equals(manifest.table)
    assert again.table.equals(written.table[again.table.columns])
    assert list(again.table)[-1] == "hair"
    assert again.image_paths == manifest.image_paths


@pytest.mark.parametrize("place", ["deeper/down", "..", "../beside"])
def test_paths_lead_to_the_same_files_from_another_folder(tmp_path: Path, place: str) -> None:
    source = tmp_path / "data"
    manifest = read_manifest(manifest_file(source))
    written = write_manifest(manifest, source / place / "n.csv")
    again = read_manifest(source / place / "n.csv")
    assert again.table["path"].tolist() == written.table["path"].tolist()
    for name in ("image_paths", "mask_paths"):
        got, want = getattr(again, name), getattr(manifest, name)
        assert [p and os.path.normpath(p) for p in got] == [p and os.path.normpath(p) for p in want]
    assert again.column("path")[1] == "/data/b.jpg"
    assert not again.column("path")[0].startswith("/")
    assert again.column("mask_path")[1] == ""


def test_paths_by_way_of_a_linked_folder(tmp_path: Path) -> None:
    real = tmp_path / "deep" / "er" / "real"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    data = manifest_file(tmp_path / "data")
    (tmp_path / "data" / "c.jpg").write_text("here")
    there = write_manifest(read_manifest(data), tmp_path / "link" / "m.csv")
    assert read_manifest(there.path).image_paths[2].read_text() == "here"
    back = write_manifest(there, tmp_path / "n.csv")
    assert read_manifest(back.path).image_paths[2].read_text() == "here"


def test_paths_that_share_only_the_root_become_absolute() -> None:
    manifest = Manifest(Path("/data/m.csv"), pd.DataFrame({"image_name": ["a"], "path": ["a.jpg"]}))
    from melfast.data.manifest import moved

    assert moved(manifest, Path("/home/n.csv")).column("path").tolist() == ["/data/a.jpg"]
    assert moved(manifest, Path("/data/x/n.csv")).column("path").tolist() == ["../a.jpg"]
    assert moved(manifest, Path("/n.csv")).column("path").tolist() == ["/data/a.jpg"]


def test_cells_that_need_quotes(tmp_path: Path) -> None:
    text = 'image_name,path,note\na,"x, y.jpg","says ""no"" \nand é"\n'
    manifest = read_manifest(manifest_file(tmp_path, text))
    again = read_manifest(write_manifest(manifest, tmp_path / "n.csv").path)
    assert again.table.equals(manifest.table)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    manifest = read_manifest(manifest_file(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/n\.csv: cannot be written: .* is a file"):
        write_manifest(manifest, tmp_path / "file" / "n.csv")
    with pytest.raises(InputError, match="is a folder, expected a file name to write"):
        write_manifest(manifest, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "m.csv"]


def test_the_published_table_stands_twice_for_one_image(real_data: Path) -> None:
    from melfast.io.tables import read_table

    table = read_table(real_data / "isic2020" / "ISIC_2020_full.csv")
    assert len(table.frame) == 32701
    assert table.frame["ita"][0] == "43.86182299"
    assert table.lines[-1] == 32702


@pytest.mark.parametrize(
    ("groups", "settings", "scale"),
    [
        ([(0, "very light"), (3, "tan")], "", "six"),  # no image is light or intermediate
        ([(0, "very light"), (3, "tan")], "four", "four"),
        ([(4, "brown")], "", "six"),
        ([(4, "brown")], "four", None),
        ([(0, "light")], "", None),
        ([(6, "darker")], "", None),
    ],
)
def test_tone_scale_by_the_groups_that_images_have(
    tmp_path: Path, groups: list[tuple[int, str]], settings: str, scale: str | None
) -> None:
    lines = [f"i{i},x.jpg,{g},{name},{settings}" for i, (g, name) in enumerate(groups)]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["image_name,path,group,group_str,tone_groups", *lines]) + "\n")
    assert read_manifest(path).tone_scale == (scale and TONE_GROUPS[scale])


def test_formulas_come_back(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("image_name,path,note\n-1.jpg,-1.jpg,=1+1\n=b.jpg,./=b.jpg,-0.5\n")
    manifest = read_manifest(path)
    assert list(write_manifest(manifest, tmp_path / "n.csv").column("note")) == ["=1+1", "-0.5"]
    assert (tmp_path / "n.csv").read_text().splitlines()[1:] == ["'-1.jpg,'-1.jpg,'=1+1", "'=b.jpg,./=b.jpg,-0.5"]
    again = read_manifest(tmp_path / "n.csv")
    assert list(again.column("image_name")) == ["-1.jpg", "=b.jpg"]
    assert list(again.column("note")) == ["=1+1", "-0.5"]


def test_group_names_are_printable(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('image_name,path,group,group_str\na,a.jpg,0,"li\x1b[2Jght"\n')
    with pytest.raises(InputError, match=r"m.csv:2: group_str must be printable text or empty, got 'li\\x1b\[2Jght'$"):
        read_manifest(path)


def test_a_name_with_a_carriage_return_comes_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_name": ["a\rb"], "path": ["a\rb.jpg"]})
    assert read_manifest(write_manifest(Manifest(tmp_path / "m.csv", table), tmp_path / "n.csv").path).image_names == [
        "a\rb"
    ]
