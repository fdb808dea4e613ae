"""The data of a run: what is refused, and what is reported about the import."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from melfast.config.schema import Config
from melfast.data.manifest import is_manifest, read_manifest
from melfast.io.errors import InputError
from melfast.prepare.synth import SynthSettings, synthesize
from melfast.train.data import MANIFEST, training_data, write_run_manifest
from melfast.train.logging import TextLog

MakeConfig = Callable[..., Config]


def taken_in(config: Config, tmp_path: Path, *set_by_user: str) -> list[str]:
    """Messages while the data of a config are imported."""
    (tmp_path / "run").mkdir(exist_ok=True)
    with TextLog() as log:
        write_run_manifest(config, tmp_path / "run", set(set_by_user))
    return [line.split(" ", 2)[2] for line in log.early]  # after date and time


def edited(tiny_data: Path, folder: Path, edit: Callable[[list[list[str]]], None]) -> str:
    """A manifest of the tiny images with its cells changed; row 0 is the header."""
    rows = [line.split(",") for line in tiny_data.read_text().splitlines()]
    for row in rows[1:]:
        row[1] = str(tiny_data.parent / row[1])
    edit(rows)
    path = folder / "edited.csv"
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return str(path)


def test_manifest_with_a_split_is_taken_as_it_is(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    assert taken_in(tiny_config(), tmp_path) == []
    manifest = read_manifest(tmp_path / "run" / MANIFEST)
    given = read_manifest(tiny_data)
    assert manifest.image_names == given.image_names
    assert all(os.path.samefile(a, b) for a, b in zip(manifest.image_paths, given.image_paths, strict=True))
    data = training_data(manifest)
    assert data.train.class_counts == [16, 16]
    assert data.valid.class_counts == [12, 12]
    assert data.group_names == ("light", "dark")


def test_what_the_user_set_in_vain(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    said = taken_in(tiny_config(), tmp_path, "data.images", "data.split_seed", "optim.lr")
    assert said == [
        f"warning: data.images is not used: {tiny_data} is a manifest already",
        f"warning: data.split_seed is not used: {tiny_data} has a split already",
    ]


def test_an_identity_that_is_not_used_is_a_warning(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    def who(rows: list[list[str]]) -> None:
        rows[0].append("Paciente")
        for i, row in enumerate(rows[1:]):
            row.append(f"{i % 7}")

    path = edited(tiny_data, tmp_path, who)
    (said,) = taken_in(tiny_config(data__path=path), tmp_path)
    assert said.startswith(
        "warning: column 'Paciente' looks like an id but is not used: 7 of its 7 values are in more than one split; "
    )


def test_table_is_imported_and_split(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = "".join(f"t{i:02d},{i % 2},p{i // 2}\n" for i in range(80))
    table.write_text("image_name,target,patient_id\n" + rows)
    assert not is_manifest(table)
    config = tiny_config(data__path=str(table), data__images=str(tiny_data.parent))
    said = taken_in(config, tmp_path, "data.images")
    assert said == [
        f"{table}: imported 80 images; check: 80 images good, 0 bad; dedup: 0 copies marked",
        f"{table}: split 0.7 : 0.15 : 0.15 with seed 0",
    ]
    manifest = read_manifest(tmp_path / "run" / MANIFEST)
    assert [int((manifest.splits == name).sum()) for name in ("train", "valid", "test")] == [56, 12, 12]


def test_patient_on_both_sides(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    def overlap(rows: list[list[str]]) -> None:
        rows[1][3] = rows[40][3]

    path = edited(tiny_data, tmp_path, overlap)
    with pytest.raises(InputError, match=r"1 patient \(p39\) in more than one split; .*overlap"):
        taken_in(tiny_config(data__path=path), tmp_path)
    taken_in(tiny_config(data__path=path, data__allow_overlap=True), tmp_path)


@pytest.mark.parametrize(
    ("split", "target", "message"),
    [
        ("train", "0", "split 'train' has 0 malignant and 32 benign images; expected both classes"),
        ("valid", "1", "split 'valid' has 24 malignant and 0 benign images; expected both classes"),
        ("valid", "", "split 'valid' has 0 malignant and 0 benign images; expected both classes"),
    ],
)
def test_one_class_only(
    tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path, split: str, target: str, message: str
) -> None:
    def relabel(rows: list[list[str]]) -> None:
        for row in rows:
            row[2] = target if row[4] == split else row[2]

    path = edited(tiny_data, tmp_path, relabel)
    with pytest.raises(InputError) as caught:
        taken_in(tiny_config(data__path=path), tmp_path)
    assert str(caught.value) == f"{path}: {message}"
    assert list((tmp_path / "run").iterdir()) == []


def test_no_validation_split(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    def all_in(split: str) -> str:
        def relabel(rows: list[list[str]]) -> None:
            for row in rows[1:]:
                row[4] = split

        return edited(tiny_data, tmp_path, relabel)

    path = all_in("train")
    lines = taken_in(tiny_config(data__path=path), tmp_path)
    assert f"{path}: validation images drawn from train with seed 0" in lines
    splits = read_manifest(tmp_path / "run" / MANIFEST).splits
    assert ((splits == "train").sum(), (splits == "valid").sum()) == (66, 14)
    path = all_in("test")
    with pytest.raises(InputError, match=r"no image in split 'train' \(images by split: test: 80"):
        taken_in(tiny_config(data__path=path), tmp_path)


def test_images_without_a_target(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    def unlabel(rows: list[list[str]]) -> None:
        for row in rows[1:4]:
            row[2] = ""

    path = edited(tiny_data, tmp_path, unlabel)
    said = taken_in(tiny_config(data__path=path), tmp_path)
    assert said == [f"{path}: 3 images of split 'train' have no target: left out"]


def test_missing_files(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    def lose(rows: list[list[str]]) -> None:
        for number, row in enumerate(rows[1:8]):
            row[1] = f"/lost/{number}.jpg"
        rows[80][1] = "/lost/test.jpg"  # nobody trains on the test split

    path = edited(tiny_data, tmp_path, lose)
    wanted = "7 of 56 image files are missing: /lost/0.jpg, /lost/1.jpg, /lost/2.jpg, /lost/3.jpg, /lost/4.jpg, ..."
    with pytest.raises(InputError) as caught:
        taken_in(tiny_config(data__path=path), tmp_path)
    assert str(caught.value) == f"{wanted} (`data.on_error=skip` trains without them)"
    said = taken_in(tiny_config(data__path=path, data__on_error="skip"), tmp_path)
    assert said == [f"warning: {wanted}: left out"]


def test_no_data(tiny_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.path is empty; expected a manifest or a data set"):
        taken_in(tiny_config(data__path=""), tmp_path)
    with pytest.raises(InputError, match=r"nowhere.csv: no such file or folder"):
        taken_in(tiny_config(data__path=str(tmp_path / "nowhere.csv")), tmp_path)


def test_digest_is_of_names_targets_and_order(tiny_data: Path, tmp_path: Path) -> None:
    def digest(edit: Callable[[list[list[str]]], None]) -> str:
        return training_data(read_manifest(edited(tiny_data, tmp_path, edit))).train.digest

    def swap(rows: list[list[str]]) -> None:
        rows[1], rows[2] = rows[2], rows[1]

    def flip(rows: list[list[str]]) -> None:
        rows[1][2] = "1"

    def move(rows: list[list[str]]) -> None:
        rows[1][1] = "elsewhere.png"

    same = digest(lambda rows: None)
    assert digest(move) == same  # a moved data set is the same data
    assert len({same, digest(swap), digest(flip)}) == 3


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """An unprepared folder: 40 images by class, with one copy and one truncated file."""
    truth = synthesize(tmp_path / "synth", SynthSettings(40, size=(128, 96), malignant=0.5), workers=1)
    folder = tmp_path / "photographs"
    for path, target in zip(truth.image_paths, truth.targets, strict=True):
        place = folder / ("malignant" if target else "benign") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    (folder / "benign" / "copy.jpg").write_bytes(next((folder / "benign").iterdir()).read_bytes())
    (folder / "benign" / "cut.jpg").write_bytes(place.read_bytes()[:2000])
    return folder


def test_a_data_set_is_prepared(tiny_config: MakeConfig, photographs: Path, tmp_path: Path) -> None:
    config = tiny_config(data__path=str(photographs))
    with pytest.raises(
        InputError, match=r"^1 of 42 images are bad, cut first: found a .* \(`data.on_error=skip` trains wi"
    ):
        taken_in(config, tmp_path)
    assert (tmp_path / "run" / "manifest.bad.csv").read_text().startswith("image_name,path,reason\ncut,")
    assert not (tmp_path / "run" / MANIFEST).exists()
    said = taken_in(tiny_config(data__path=str(photographs), data__on_error="skip"), tmp_path)
    assert said[:2] == [
        f"{photographs}: 41 of them from an interrupted run",
        f"{photographs}: neither patient_id nor lesion_id: a split can only go by image",
    ]
    assert said[2].startswith("warning: 1 of 42 images are bad, cut first: found a ")
    assert said[3:] == [
        f"{photographs}: imported 42 images; check: 41 images good, 1 bad; dedup: 1 copies marked: bytes 1",
        f"{photographs}: split 0.7 : 0.15 : 0.15 with seed 0",
    ]
    manifest = read_manifest(tmp_path / "run" / MANIFEST)
    assert manifest.checked.all()
    assert not {"ita", "mask_path", "original_path"} & set(manifest.table)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["manifest.bad.csv", MANIFEST]


def test_a_run_gets_what_its_config_needs(tiny_config: MakeConfig, photographs: Path, tmp_path: Path) -> None:
    config = tiny_config(
        data__path=str(photographs),
        data__on_error="skip",
        augment__skin_former={"light": 0.5},
        prepare__resize=True,
        prepare__size=48,
        prepare__seed=3,
    )
    said = taken_in(config, tmp_path, "prepare.resize", "prepare.size", "prepare.seed")
    assert "warning: prepare.seed is not used: data.split, data.split_seed and data.fold say how a run splits" in said
    manifest = read_manifest(tmp_path / "run" / MANIFEST)
    assert (manifest.column("height") == "48").all()
    assert (manifest.column("ita_convention") == "cielab").all()
    assert all(path.is_relative_to(tmp_path / "run" / "resized-48") for path in manifest.lesion_masks)
    assert set(manifest.splits) == {"train", "valid", "test"}
