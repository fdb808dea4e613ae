import os
from pathlib import Path

import numpy as np
import pytest

from melfast.data.manifest import Manifest, read_manifest, write_manifest
from melfast.io.errors import InputError
from melfast.io.images import read_image, read_mask
from melfast.prepare.datasets import recognise_dataset as recognise_table
from melfast.prepare.importers import image_stem
from melfast.prepare.sources import import_dataset, import_source, import_summary

HAM = """lesion_id,image_id,dx,dx_type,age,sex,localization
HAM_1,ISIC_1,mel,histo,80.0,male,scalp
HAM_1,ISIC_2,mel,histo,80.0,male,scalp
HAM_2,ISIC_3,bcc,consensus,,female,ear
HAM_3,ISIC_4,nv,follow_up,45.0,,back
"""
TRUTH = """image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,\
diagnosis,benign_malignant,target
ISIC_1,IP_1,IL_1,male,45,head/neck,unknown,benign,0
ISIC_2,IP_2,IL_2,female,,torso,melanoma,malignant,1
"""
KAGGLE = """image_name,patient_id,sex,age_approx,anatom_site_general_challenge,\
diagnosis,benign_malignant,target
ISIC_1,IP_1,male,45.0,head/neck,unknown,benign,0
ISIC_2,IP_2,female,,torso,melanoma,malignant,1
"""
FULL = """image_name;ita;color_r;color_g;color_b;fitzpatrick;group;patient_id;\
benign_malignant;target;group_str;split
ISIC_1.jpg;43,86;232;182;144;12;1;IP_1;benign;0;Light;train
ISIC_2.jpg;29,22;167;105;97;34;2;IP_2;malignant;1;Intermediate;valid
"""
# As isic-cli 12 writes it: base columns, then all others that any image has, by name.
ARCHIVE = """isic_id,attribution,copyright_license,age_approx,diagnosis_1,diagnosis_2,diagnosis_3,\
lesion_id,patient_id,sex
ISIC_1,ViDIR Group,CC-BY-NC,80,Malignant,Malignant melanocytic proliferations (Melanoma),\
Melanoma Invasive,IL_1,IP_1,male
ISIC_2,ViDIR Group,CC-BY-NC,,Benign,Benign melanocytic proliferations,Nevus,IL_2,IP_1,female
ISIC_3,ViDIR Group,CC-BY-NC,55,Malignant,Malignant epidermal proliferations,,IL_3,,male
ISIC_4,ViDIR Group,CC-BY-NC,60,Indeterminate,Indeterminate epidermal proliferations,\
Solar or actinic keratosis,IL_4,,male
ISIC_5,ViDIR Group,CC-BY-NC,60,Indeterminate,Indeterminate melanocytic proliferations,,IL_5,,male
ISIC_6,Anonymous,CC-0,,Malignant,,,,IP_6,
ISIC_7,Anonymous,CC-0,,Benign,,,,IP_7,
ISIC_8,Anonymous,CC-0,,,,,,IP_8,
"""


def put(folder: Path, *names: str) -> None:
    """Image files: contents do not matter to an import."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def cells(manifest: Manifest, *columns: str) -> list[tuple[str, ...]]:
    return list(zip(*(manifest.column(name).tolist() for name in columns), strict=True))


def test_ham10000_in_two_folders(tmp_path: Path) -> None:
    path = table(tmp_path, HAM, "HAM10000_metadata")
    put(tmp_path, "HAM10000_images_part_1/ISIC_1.jpg", "HAM10000_images_part_1/ISIC_2.jpg")
    put(tmp_path, "HAM10000_images_part_2/ISIC_3.jpg", "HAM10000_images_part_2/ISIC_4.jpg")
    put(tmp_path, "HAM10000_segmentations_lesion_tschandl/ISIC_3_segmentation.png")
    for source in (path, tmp_path):
        found = import_dataset(source)
        assert found.kind == "ham10000"
        assert found.notes == ["images without a mask: 3"]
        manifest = found.manifest
        assert manifest.image_names == ["ISIC_1", "ISIC_2", "ISIC_3", "ISIC_4"]
        assert manifest.targets.tolist() == [1, 1, 0, 0]
        assert manifest.column("malignant").tolist() == ["1", "1", "1", "0"]
        assert manifest.column("lesion_id").tolist() == ["HAM_1", "HAM_1", "HAM_2", "HAM_3"]
        assert manifest.column("dx").tolist() == ["mel", "mel", "bcc", "nv"]
        assert manifest.column("path")[2] == "HAM10000_images_part_2/ISIC_3.jpg"
        assert manifest.image_paths[0].is_file()
        mask = "HAM10000_segmentations_lesion_tschandl/ISIC_3_segmentation.png"
        assert manifest.column("mask_path").tolist() == ["", "", mask, ""]


def test_ham10000_with_an_unknown_diagnosis(tmp_path: Path) -> None:
    path = table(tmp_path, HAM.replace("nv,", "psoriasis,"))
    with pytest.raises(InputError) as caught:
        import_dataset(path, require_images=False)
    assert str(caught.value) == (
        f"{path}:5: dx 'psoriasis' is no diagnosis that is known: say with `positive` which of its words are the "
        "positive class, or give a table of them with `target=MAP.yaml`"
    )


def test_isic2020_ground_truth(tmp_path: Path) -> None:
    path = table(tmp_path, TRUTH)
    put(tmp_path / "train", "ISIC_1.jpg", "ISIC_2.JPG")
    found = import_dataset(path)
    assert found.kind == "isic2020"
    columns = ("image_name", "path", "target", "patient_id", "lesion_id", "sex")
    assert cells(found.manifest, *columns) == [
        ("ISIC_1", "train/ISIC_1.jpg", "0", "IP_1", "IL_1", "male"),
        ("ISIC_2", "train/ISIC_2.JPG", "1", "IP_2", "IL_2", "female"),
    ]


def test_kaggle_with_images_elsewhere(tmp_path: Path) -> None:
    path = table(tmp_path / "tables", KAGGLE, "train.csv")
    table(tmp_path / "tables", "image_name,patient_id,sex\nISIC_9,IP_9,male\n", "test.csv")
    put(tmp_path / "jpeg/train", "ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg")
    for source in (path, tmp_path / "tables"):
        found = import_dataset(source, images=tmp_path / "jpeg")
        assert found.kind == "kaggle"
        beside = [] if source.is_file() else ["tables not used: test.csv"]
        assert found.notes == [*beside, f"images in {tmp_path / 'jpeg'} that are in no row: 1"]
        assert found.manifest.targets.tolist() == [0, 1]
        assert found.manifest.column("path")[0] == "../jpeg/train/ISIC_1.jpg"
        assert found.manifest.image_paths[0].is_file()


def test_download_of_the_isic_archive(tmp_path: Path) -> None:
    path = table(tmp_path, ARCHIVE, "metadata.csv")
    table(tmp_path, "ViDIR Group\n\nAnonymous", "attribution.txt")
    put(tmp_path, *(f"ISIC_{i}.jpg" for i in range(1, 9)))
    for source in (path, tmp_path):
        found = import_dataset(source)
        assert found.kind == "isic-archive"
        assert found.notes == ["images unlabelled, for their diagnosis leaves melanoma open: 3"]
        manifest = found.manifest
        assert manifest.targets.tolist() == [1, 0, 0, 0, -1, -1, 0, -1]
        assert manifest.column("malignant").tolist() == ["1", "0", "1", "", "", "1", "0", ""]
        assert manifest.column("lesion_id").tolist()[:3] == ["IL_1", "IL_2", "IL_3"]
        assert manifest.column("path")[0] == "ISIC_1.jpg"
        assert manifest.column("diagnosis_3")[1] == "Nevus"


def test_download_of_the_isic_archive_without_particulars(tmp_path: Path) -> None:
    text = "isic_id,attribution,copyright_license,diagnosis_1\nA,x,CC-0,Benign\nB,x,CC-0,Malignant\n"
    found = import_dataset(table(tmp_path, text), require_images=False)
    assert found.manifest.targets.tolist() == [0, -1]


def test_download_of_the_isic_archive_with_an_unknown_class(tmp_path: Path) -> None:
    path = table(tmp_path, ARCHIVE.replace("Benign,Benign", "benign,Benign"))
    with pytest.raises(InputError) as caught:
        import_dataset(path, require_images=False)
    assert str(caught.value) == (
        f"{path}:3: diagnosis_1 must be Benign, Malignant, Indeterminate or empty, got 'benign'"
    )


def test_published_table(tmp_path: Path) -> None:
    path = table(tmp_path, FULL)
    put(tmp_path / "images", "ISIC_1.jpg", "ISIC_2.jpg")
    found = import_dataset(path)
    assert found.kind == "isic2020-full"
    columns = ("image_name", "ita", "color_r", "fitzpatrick", "group", "group_str", "split")
    assert cells(found.manifest, *columns) == [
        ("ISIC_1", "43.86", "232", "12", "1", "Light", "train"),
        ("ISIC_2", "29.22", "167", "34", "2", "Intermediate", "valid"),
    ]
    assert found.manifest.group_names == ("0", "Light", "Intermediate")


def test_published_table_holds_an_image_twice(tmp_path: Path) -> None:
    again = "ISIC_2.jpg;29,11;167;105;96;34;2;IP_2;malignant;1;Intermediate;valid\n"
    path = table(tmp_path, FULL + again)
    found = import_dataset(path, require_images=False)
    assert found.notes == ["rows left out that repeat an image: 1 (line 4)"]
    assert found.manifest.column("ita").tolist() == ["43.86", "29.22"]
    # The same name with another patient is no repetition but a mistake.
    table(tmp_path, FULL + again.replace("IP_2", "IP_3"))
    with pytest.raises(InputError, match=r":4: image_name 'ISIC_2' is already in line 3$"):
        import_dataset(path, require_images=False)


@pytest.mark.parametrize(
    ("text", "names", "targets"),
    [
        ("image_name,target\na,1\nb,0\n", ["a", "b"], [1, 0]),
        ("image,label\na.PNG,malignant\nb,Benign\n", ["a", "b"], [1, 0]),
        ("isic_id,benign_malignant\na,malignant\nb,\n", ["a", "b"], [1, -1]),
        ("file,target\nx/a.jpg,1.0\nx/b.jpg,NA\n", ["a", "b"], [1, -1]),
        ("filename,class\na.jpg,TRUE\nb.jpg,no\n", ["a", "b"], [1, 0]),
        ("image_id;label;age\na;1;3,5\nb;0;\n", ["a", "b"], [1, 0]),
    ],
)
def test_plain_tables(tmp_path: Path, text: str, names: list[str], targets: list[int]) -> None:
    put(tmp_path, "x/a.jpg", "x/b.jpg")
    found = import_dataset(table(tmp_path, text))
    assert found.kind == "csv"
    assert found.manifest.image_names == names
    assert found.manifest.targets.tolist() == targets
    assert found.manifest.column("path").tolist() == ["x/a.jpg", "x/b.jpg"]


def test_plain_table_without_a_target(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    found = import_dataset(table(tmp_path, "image_name,split\na,Validation\n"))
    assert found.notes == ["no labels: all images are unlabelled"]
    assert found.manifest.targets.tolist() == [-1]
    assert found.manifest.splits.tolist() == ["valid"]


def test_paths_of_a_table_under_the_images_folder(tmp_path: Path) -> None:
    put(tmp_path / "files", "x/a.jpg", "b.jpg")
    path = table(tmp_path / "tables", "path,target\nx/a.jpg,1\nb.jpg,0\n")
    manifest = import_dataset(path, images=tmp_path / "files").manifest
    assert manifest.column("path").tolist() == ["../files/x/a.jpg", "../files/b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image_nam,target\na,1\n",
            "no column 'image_name'; columns are image_nam, target; did you mean 'image_nam'? "
            "(`image=COLUMN` names it)",
        ),
        (
            "image_name,taget\na,1\n",
            "unknown column 'taget', did you mean 'target'? Rename it to that, or to a name less like it",
        ),
        ("x,y\na,1\n", "no column 'image_name'; columns are x, y (`image=COLUMN` names it)"),
    ],
)
def test_misspelt_columns(tmp_path: Path, text: str, message: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == f"{path}: {message}"


def test_column_nearly_one_of_ours_is_refused(tmp_path: Path) -> None:
    # Let through, it would switch the check for patients on both sides of a split off.
    put(tmp_path, "a.jpg")
    path = table(tmp_path, "image_name,target,patients_id\na,1,P\n")
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == (
        f"{path}: unknown column 'patients_id', did you mean 'patient_id'? Rename it to that, or to a name less like it"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image_name,target\na,1\nb,mel\n",
            ":3: target must be 0 or 1, benign or malignant, or empty, got 'mel' "
            "(for other words: `target=target` `positive=WORD,WORD`)",
        ),
        ("image_name,target\na,1\na.jpg,1\n", ":3: image_name 'a' is already in line 2"),
        ("image_name,ita\na,4O\n", ":2: ita must be degrees in -180..180 or empty, got '4O'"),
        ("image_name,split\na,fold1\n", ":2: split must be train, valid, test or empty, got 'fold1'"),
    ],
)
def test_bad_rows_come_before_missing_files(tmp_path: Path, text: str, message: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == f"{path}{message}"


def test_missing_files(tmp_path: Path) -> None:
    names = [f"i{n}" for n in range(9)]
    path = table(tmp_path, "image_name,target\n" + "".join(f"{n},0\n" for n in names))
    put(tmp_path / "images", "i1.jpg", "i3.png")
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == (
        f"{path}: 7 of 9 listed images are not in {tmp_path / 'images'}: i0, i2, i4, i5, i6, ... "
        "(`images` names another folder, `on_missing=drop` leaves them out)"
    )
    found = import_dataset(path, on_missing="drop")
    assert found.manifest.image_names == ["i1", "i3"]
    assert found.dropped == ("i0", "i2", "i4", "i5", "i6", "i7", "i8")
    assert found.notes == ["listed images left out because they have no file: 7 (i0, i2, i4, i5, i6, ...)"]
    for name in ("i1.jpg", "i3.png"):
        (tmp_path / "images" / name).unlink()
    with pytest.raises(InputError, match="9 of 9 listed images"):  # an empty manifest is no result
        import_dataset(path, on_missing="drop")


def test_missing_files_of_a_path_column(tmp_path: Path) -> None:
    put(tmp_path, "x/a.jpg")
    path = table(tmp_path, "image_name,path\na,x/a.jpg\nb,x/b.jpg\n")
    with pytest.raises(InputError, match=rf"1 of 2 listed images are not in {tmp_path}: b \("):
        import_dataset(path)


def test_one_name_in_two_places(tmp_path: Path) -> None:
    path = table(tmp_path, "image_name,target\na,0\n")
    put(tmp_path, "one/a.jpg", "two/a.png", "one/other.jpg", "two/other.jpg")
    # The same file twice, as Kaggle's HAM10000 has all of them.
    found = import_dataset(path)
    assert found.manifest.column("path").tolist() == ["one/a.jpg"]
    assert f"images in {tmp_path} that lie there several times, alike: 1" in found.notes
    (tmp_path / "two/a.png").write_text("another")
    with pytest.raises(InputError) as caught:
        import_dataset(path)
    assert str(caught.value) == (
        f"{tmp_path}: two images are called 'a': one/a.jpg and two/a.png; "
        "names must differ, or the table must say their folders"
    )
    table(tmp_path, "image_name,target\ntwo/a,0\n")
    assert import_dataset(path).manifest.column("path").tolist() == ["two/a.png"]


def test_masks_are_paired_by_name(tmp_path: Path) -> None:
    path = table(tmp_path, "image_name,target\na,0\nb,1\nc,1\nd,1\n")
    put(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    put(tmp_path / "masks", "b.png", "sub/c_mask.jpg", "d_segmentation.PNG", "z.png")
    found = import_dataset(path)
    want = ["", "masks/b.png", "masks/sub/c_mask.jpg", "masks/d_segmentation.PNG"]
    assert found.manifest.column("mask_path").tolist() == want
    assert found.notes == [f"masks in {tmp_path / 'masks'} without an image: 1", "images without a mask: 1"]
    table(tmp_path / "masks", "another", "b_mask.png")
    with pytest.raises(InputError, match=r"two masks are called 'b': b\.png and b_mask\.png"):
        import_dataset(path)


def test_masks_elsewhere(tmp_path: Path) -> None:
    path = table(tmp_path / "data", "image_name,target\na,0\n")
    put(tmp_path / "data/images", "a.jpg")
    put(tmp_path / "experts", "a.png")
    found = import_dataset(path, masks=tmp_path / "experts")
    assert found.manifest.column("mask_path").tolist() == ["../experts/a.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: holds no image that melfast reads$"):
        import_dataset(path, masks=tmp_path / "none")


def test_a_word_that_holds_mask_is_no_mask_folder(tmp_path: Path) -> None:
    put(tmp_path, "unmasked/a.jpg")
    found = import_dataset(table(tmp_path, "image_name,target\na,0\n"))
    assert found.manifest.column("path").tolist() == ["unmasked/a.jpg"]


def test_table_alone(tmp_path: Path) -> None:
    found = import_dataset(table(tmp_path, KAGGLE), require_images=False)
    assert found.manifest.column("path").tolist() == ["", ""]
    with pytest.raises(InputError, match="have no 'path'"):
        _ = found.manifest.image_paths
    # Images can be added later.
    written = write_manifest(found.manifest, tmp_path / "m.csv")
    put(tmp_path / "images", "ISIC_1.jpg", "ISIC_2.jpg")
    assert import_source(written.path).column("path")[1] == "images/ISIC_2.jpg"


def test_a_manifest_is_a_source(tmp_path: Path) -> None:
    """As `melfast synth` writes: labels.csv with path and mask_path, images/ and masks/."""
    text = (
        "image_name,path,mask_path,patient_id,lesion_id,target,ita,group,group_str,hairs\n"
        "s0,images/s0.png,masks/s0.png,P0,L0,1,-35.5,5,dark,12\n"
        "s1,images/s1.png,masks/s1.png,P1,L1,0,60.5,0,very light,0\n"
    )
    path = table(tmp_path, text, "labels.csv")
    put(tmp_path, "images/s0.png", "images/s1.png", "masks/s0.png", "masks/s1.png")
    for source in (tmp_path, path):
        manifest = import_source(source)
        assert manifest.table[text.split("\n")[0].split(",")].equals(read_manifest(path).table)
    (tmp_path / "masks/s1.png").unlink()
    with pytest.raises(InputError, match=r"labels\.csv: 1 listed masks are missing: masks/s1\.png$"):
        import_source(tmp_path)


def test_published_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/benign/a.jpg", "train/malignant/b.JPEG", "val/benign/c.png")
    put(tmp_path, "test/malignant/d.JPG", "masks/train/benign/a.png")
    put(tmp_path, "masks/train/malignant/b_mask.jpg", "masks/val/benign/c_segmentation.png")
    found = import_dataset(tmp_path)
    assert found.kind == "folder"
    assert found.notes == ["images without a mask: 1"]
    assert sorted(cells(found.manifest, "image_name", "split", "target", "path", "mask_path")) == [
        ("a", "train", "0", "train/benign/a.jpg", "masks/train/benign/a.png"),
        ("b", "train", "1", "train/malignant/b.JPEG", "masks/train/malignant/b_mask.jpg"),
        ("c", "valid", "0", "val/benign/c.png", "masks/val/benign/c_segmentation.png"),
        ("d", "test", "1", "test/malignant/d.JPG", ""),
    ]
    assert found.manifest.image_paths[0].is_file()
    written = write_manifest(found.manifest, tmp_path / "out" / "m.csv")
    assert all(path.is_file() for path in read_manifest(written.path).image_paths)


def test_class_folders_without_splits(tmp_path: Path) -> None:
    put(tmp_path, "Benign/a.jpg", "Malignant/deep/b.jpg", "readme/c.jpg")
    found = import_dataset(tmp_path)
    assert sorted(cells(found.manifest, "image_name", "split", "target")) == [("a", "", "0"), ("b", "", "1")]
    assert found.notes == ["images outside of class folders left out: 1 (readme: 1)"]


def test_folder_layout_gone_wrong(tmp_path: Path) -> None:
    put(tmp_path, "train/benign/a.jpg", "train/naevus/b.jpg")
    with pytest.raises(InputError) as caught:
        import_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/train/naevus/b.jpg: is in a split's folder but in no class folder, expected benign or "
        "malignant, or a diagnosis (for other words: `positive=WORD,WORD`)"
    )
    (tmp_path / "train/naevus/b.jpg").unlink()
    put(tmp_path, "val/malignant/a.png", "masks/val/malignant/a_mask.png")
    found = import_dataset(tmp_path)
    assert cells(found.manifest, "image_name", "split", "target", "mask_path") == [
        ("train/benign/a", "train", "0", ""),
        ("val/malignant/a", "valid", "1", "masks/val/malignant/a_mask.png"),
    ]


def test_bare_folder(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "images/b.jpg", "masks/b.png")
    found = import_dataset(tmp_path)
    assert found.kind == "images"
    assert found.notes == ["images without a mask: 1", "no labels: all images are unlabelled"]
    assert cells(found.manifest, "path", "mask_path") == [("images/a.jpg", ""), ("images/b.jpg", "masks/b.png")]
    assert found.manifest.targets.tolist() == [-1, -1]


def test_names_that_are_not_utf8_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", os.fsdecode(b"n\xff.jpg"))
    found = import_dataset(tmp_path)
    assert found.notes == ["not read: 1 whose names are not UTF-8", "no labels: all images are unlabelled"]
    assert cells(found.manifest, "path") == [("a.jpg",)]


def test_source_that_could_be_two_things(tmp_path: Path) -> None:
    table(tmp_path, TRUTH, "truth.csv")
    table(tmp_path, FULL, "full.csv")
    put(tmp_path / "images", "ISIC_1.jpg", "ISIC_2.jpg")
    with pytest.raises(InputError) as caught:
        import_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds full.csv (isic2020-full) and truth.csv (isic2020): "
        "name one as SOURCE, or its kind by `kind`"
    )
    assert import_dataset(tmp_path, "isic2020").manifest.column("lesion_id")[0] == "IL_1"
    # labels.csv says which is meant.
    table(tmp_path, "image_name,target\nISIC_1,1\n", "labels.csv")
    assert len(import_dataset(tmp_path).manifest) == 1


def test_table_beside_class_folders(tmp_path: Path) -> None:
    table(tmp_path, KAGGLE, "train.csv")
    put(tmp_path, "train/benign/ISIC_1.jpg", "train/malignant/ISIC_2.jpg")
    with pytest.raises(InputError, match=r"holds train\.csv \(kaggle\) and class folders \(folder\)"):
        import_dataset(tmp_path)
    assert import_dataset(tmp_path, "folder").manifest.splits.tolist() == ["train", "train"]
    assert import_dataset(tmp_path, "kaggle").manifest.splits.tolist() == ["", ""]


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file or folder$"):
        import_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nothing known found \(it holds nothing\); expected labels\.csv or another"):
        import_dataset(tmp_path)
    with pytest.raises(InputError, match=r"nothing to import, expected class folders with images$"):
        import_dataset(tmp_path, "folder")
    with pytest.raises(InputError, match="unknown kind 'ham'; kinds are auto, isic2020-full, "):
        import_dataset(tmp_path, "ham")
    path = table(tmp_path, "image_name,target\na,0\n")
    with pytest.raises(InputError, match="is a file, expected a folder for kind 'folder'"):
        import_dataset(path, "folder")
    with pytest.raises(InputError, match=r"no column 'dx'; columns are image_name, target$"):
        import_dataset(path, "ham10000")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("ISIC_1", "ISIC_1"),
        ("ISIC_1.jpg", "ISIC_1"),
        ("a/b.c/ISIC_1.JPEG", "ISIC_1"),
        ("C:\\x\\ISIC_1.png", "ISIC_1"),
        ("v1.2", "v1.2"),
        (".jpg", ""),
    ],
)
def test_image_stem(name: str, stem: str) -> None:
    assert image_stem(name) == stem


def test_recognised_by_header() -> None:
    for kind, text in (("ham10000", HAM), ("isic2020", TRUTH), ("kaggle", KAGGLE), ("isic-archive", ARCHIVE)):
        columns = text.split("\n")[0].split(",")
        assert recognise_table(columns) == kind
        assert recognise_table([*columns, "image_name", "path"]) == "csv"  # a manifest by now
    assert recognise_table(FULL.split("\n")[0].split(";")) == "isic2020-full"
    assert recognise_table(["image_name", "target"]) == "csv"


def test_summary(tmp_path: Path) -> None:
    found = import_dataset(table(tmp_path, FULL), require_images=False)
    assert import_summary(found, found.manifest) == [
        ("images", "2"),
        ("target", "'target': 1 positive, 1 negative"),
        ("patients", "2"),
        ("groups", "Light 1, Intermediate 1"),
        ("splits", "train 1, valid 1"),
        ("columns", "image_name, target, patient_id, split"),
        ("kept", "color_r, color_g, color_b, benign_malignant (not used)"),
    ]


def test_real_ham10000(real_data: Path) -> None:
    found = import_dataset(real_data / "ham10000")
    manifest = found.manifest
    assert found.kind == "ham10000"
    assert found.notes == []
    assert len(manifest) == 8557
    assert manifest.targets.sum() == 954
    assert (manifest.targets == (manifest.column("dx") == "mel")).all()
    malignant = np.isin(manifest.column("dx").astype(str), ["mel", "bcc", "akiec"])
    assert (manifest.column("malignant") == np.where(malignant, "1", "0")).all()
    for image, mask in zip(manifest.image_paths[:3], manifest.mask_paths[:3], strict=True):
        assert mask is not None
        assert image.stem == mask.stem
        assert read_image(image).shape[:2] == read_mask(mask).shape


def test_real_published_table(real_data: Path) -> None:
    found = import_dataset(real_data / "isic2020" / "ISIC_2020_full.csv", require_images=False)
    manifest = found.manifest
    assert found.kind == "isic2020-full"
    assert found.notes == ["rows left out that repeat an image: 1 (line 32701)"]
    assert len(manifest) == 32700
    assert manifest.targets.sum() == 581
    assert manifest.group_names == ("Very light", "Light", "Intermediate", "Tan")
    assert np.bincount(manifest.groups).tolist() == [1373, 22183, 8069, 1075]
    assert manifest.splits.tolist().count("valid") == 6562


def test_real_folder_with_two_tables(real_data: Path) -> None:
    with pytest.raises(InputError, match="name one as SOURCE, or its kind by `kind`"):
        import_dataset(real_data / "isic2020")
    found = import_dataset(real_data / "isic2020", "isic2020", on_missing="drop")
    assert len(found.manifest) == 2
    assert len(found.dropped) == 33124
