from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melfast.data.manifest import SPLITS, Manifest
from melfast.io.errors import InputError
from melfast.prepare.sources import import_dataset
from melfast.prepare.split import balance, complete_split, connected_parts, require_disjoint, shared_ids, split_manifest


def manifest_of(count: int, **columns: list[str]) -> Manifest:
    table = {"image_name": [f"i{n:05}" for n in range(count)], "path": ["x.jpg"] * count, **columns}
    return Manifest(Path("m.csv"), pd.DataFrame(table, dtype=str))


def population(seed: int, patients: int = 400) -> Manifest:
    """Patients with 1 to 40 images, two groups (one rare) and a rare class, not independent."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.15, patients), 40)
    patient = np.repeat(np.arange(patients), sizes)
    group = np.repeat((rng.random(patients) < 0.1).astype(int), sizes)
    target = (rng.random(len(patient)) < np.where(group == 1, 0.15, 0.05)).astype(int)
    return manifest_of(
        len(patient),
        target=[str(t) for t in target],
        group=[str(g) for g in group],
        patient_id=[f"P{p}" for p in patient],
    )


def shares(manifest: Manifest) -> np.ndarray:
    """Fraction of each (target, group) stratum, and of all, that each split holds [3, S + 1]."""
    key = manifest.targets.astype(int) * 100 + manifest.groups
    masks = [key == value for value in np.unique(key)] + [np.ones(len(key), bool)]
    splits = manifest.splits
    return np.array([[(splits[mask] == name).mean() for mask in masks] for name in SPLITS])


def random_by_patient(manifest: Manifest, seed: int) -> Manifest:
    patients, inverse = np.unique(manifest.column("patient_id").astype(str), return_inverse=True)
    drawn = np.random.default_rng(seed).choice(SPLITS, len(patients), p=[0.7, 0.15, 0.15])
    return manifest.with_columns(split=drawn[inverse])


def test_ten_images_by_hand() -> None:
    manifest = manifest_of(10, target=["1"] * 5 + ["0"] * 5)
    split = split_manifest(manifest, (0.6, 0.2, 0.2))
    for targets in (split.splits[:5], split.splits[5:]):
        assert sorted(targets) == ["test", "train", "train", "train", "valid"]


def test_rows_are_tied_by_patient_or_lesion_and_by_way_of_others() -> None:
    #  0-1 share a patient, 1-2 a lesion, 3-4 a lesion, 5 and 6 nothing: empty ids tie nobody.
    manifest = manifest_of(7, patient_id=["P", "P", "", "Q", "", "", ""], lesion_id=["", "L", "L", "M", "M", "", ""])
    parts = connected_parts(manifest)
    assert parts.tolist()[0] == parts[1] == parts[2]
    assert parts[3] == parts[4]
    assert len(set(parts.tolist())) == 4
    assert sorted(set(parts.tolist())) == [0, 1, 2, 3]


def test_a_patient_and_a_lesion_of_one_name_are_two() -> None:
    parts = connected_parts(manifest_of(2, patient_id=["A", ""], lesion_id=["", "A"]))
    assert parts[0] != parts[1]


@pytest.mark.parametrize("seed", range(4))
def test_no_patient_on_two_sides_and_strata_alike(seed: int) -> None:
    manifest = population(seed)
    split = split_manifest(manifest, seed=seed)
    require_disjoint(split)
    wanted = np.array([[0.7], [0.15], [0.15]])
    deviation = np.abs(shares(split) - wanted).max()
    rarest = min(np.unique(manifest.targets * 100 + manifest.groups, return_counts=True)[1])
    assert deviation <= 0.01 + 1 / rarest  # one image of the rarest stratum
    # Drawing patients at random misses by several times as much.
    at_random = [np.abs(shares(random_by_patient(manifest, s)) - wanted).max() for s in range(20)]
    assert deviation < np.median(at_random) / 3


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    manifest = population(5)
    split = split_manifest(manifest, seed=3)
    assert (split.splits == split_manifest(manifest, seed=3).splits).all()
    shuffled = np.random.default_rng(0).permutation(len(manifest))
    again = split_manifest(manifest.select(shuffled), seed=3)
    assert (again.splits == split.splits[shuffled]).all()
    other = split_manifest(manifest, seed=4)
    assert (other.splits != split.splits).mean() > 0.2


def test_images_are_not_dealt_by_name() -> None:
    split = split_manifest(manifest_of(1000, target=["0"] * 1000))
    held = np.flatnonzero(split.splits != "train")
    assert 400 < held.mean() < 600
    assert abs(np.corrcoef(held[1:] - held[:-1], held[:-1])[0, 1]) < 0.2


def test_unlabelled_images_get_no_split_but_still_tie() -> None:
    targets = ["1", "0", ""] + ["0", "1"] * 20
    patients = ["P", "Q", "P"] + [f"R{n}" for n in range(40)]
    lesions = ["", "L", "L"] + [""] * 40
    split = split_manifest(manifest_of(43, target=targets, patient_id=patients, lesion_id=lesions), (0.5, 0.25, 0.25))
    assert split.splits[2] == ""
    assert split.splits[0] == split.splits[1] != ""
    assert (split.splits != "").sum() == 42


def test_two_splits() -> None:
    split = split_manifest(manifest_of(100, target=["0", "1"] * 50), (0.8, 0.2, 0.0))
    assert np.unique(split.splits, return_counts=True)[1].tolist() == [80, 20]
    assert set(split.splits) == {"train", "valid"}


@pytest.mark.parametrize(
    ("fractions", "got"),
    [
        ((0.5, 0.5), "0.5,0.5"),
        ((0.7, 0.2, 0.2), "0.7,0.2,0.2"),
        ((1.2, -0.1, -0.1), "1.2,-0.1,-0.1"),
        ((0.7, 0.3, float("nan")), "0.7,0.3,nan"),
    ],
)
def test_fractions_that_are_none(fractions: tuple[float, ...], got: str) -> None:
    with pytest.raises(InputError) as caught:
        split_manifest(manifest_of(10, target=["0"] * 10), fractions)
    assert str(caught.value) == (f"fractions must be three for train, valid, test with sum 1, got {got}")


def test_validation_is_drawn_from_train_where_it_lacks() -> None:
    rows = population(3)
    dealt = split_manifest(rows, (0.8, 0.0, 0.2))
    found = complete_split(dealt, (0.6, 0.2, 0.2))
    assert ((found.splits == "test") == (dealt.splits == "test")).all()
    assert abs((found.splits == "valid").sum() / (dealt.splits == "train").sum() - 0.25) < 0.01
    require_disjoint(found)
    assert (complete_split(rows, seed=2).splits == split_manifest(rows, seed=2).splits).all()


def test_what_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"m\.csv: no column 'target'"):
        split_manifest(manifest_of(9))
    with pytest.raises(InputError, match=r"m\.csv: no image is labelled, nothing to split by target"):
        split_manifest(manifest_of(9, target=[""] * 9))
    tied = manifest_of(9, target=["0", "1", "1"] * 3, patient_id=["P"] * 5 + ["Q"] * 4)
    with pytest.raises(InputError) as caught:
        split_manifest(tied)
    assert str(caught.value) == (
        "m.csv: split 'valid' would be empty: 2 patients, lesions or images cannot be divided 0.7 : 0.15 : 0.15"
    )


def test_require_disjoint_names_who_stands_on_both_sides() -> None:
    patients = [f"P{n}" for n in range(7)] * 2 + ["Q", "Q", ""]
    splits = ["train"] * 7 + ["valid"] * 7 + ["test", "", "test"]
    lesions = [""] * 14 + ["L", "", ""]
    manifest = manifest_of(17, patient_id=patients, lesion_id=lesions, split=splits)
    with pytest.raises(InputError) as caught:
        require_disjoint(manifest)
    assert str(caught.value) == (
        "m.csv: 7 patients (P0, P1, P2, P3, P4, …) in more than one split; expected each in one: "
        "split with 'melfast prepare split --force', or set data.allow_overlap"
    )
    both = manifest_of(2, patient_id=["P", "P"], lesion_id=["L", "L"], split=["valid", "test"])
    with pytest.raises(InputError, match=r"m\.csv: 1 patient \(P\) and 1 lesion \(L\) in more"):
        require_disjoint(both)


def test_require_disjoint_is_content_without_ids_or_splits() -> None:
    require_disjoint(manifest_of(3, split=["train", "valid", "test"]))
    require_disjoint(manifest_of(3, patient_id=["P", "P", "P"]))
    require_disjoint(manifest_of(3, patient_id=["", "", ""], split=["train", "valid", "test"]))


def test_balance_in_words() -> None:
    manifest = manifest_of(
        4,
        target=["1", "0", "0", ""],
        split=["train", "train", "valid", ""],
        patient_id=["P", "P", "Q", ""],
        group=["0", "1", "1", ""],
        group_str=["light", "tan", "tan", ""],
    )
    assert balance(manifest) == [
        "train      2 images, 1 malignant (50.00%), 1 patient; light 50.0%, tan 50.0%",
        "valid      1 images, 0 malignant (0.00%), 1 patient; light 0.0%, tan 100.0%",
        "none       1 images; light 0.0%, tan 0.0%",
    ]


def test_a_group_of_copies_with_one_image_left_is_not_counted() -> None:
    manifest = manifest_of(6, split=["train"] * 5 + ["valid"], duplicate_group=["a", "a", "b", "b", "c", "d"])
    train, valid = balance(manifest)
    assert train.endswith(", 2 duplicate groups")
    assert "duplicate" not in valid


def test_real_ham10000_by_lesion(real_data: Path) -> None:
    split = split_manifest(import_dataset(real_data / "ham10000").manifest)
    require_disjoint(split)
    assert np.abs(shares(split) - np.array([[0.7], [0.15], [0.15]])).max() < 1e-3


def test_the_published_split_shares_nearly_all_validation_patients(real_data: Path) -> None:
    source = real_data / "isic2020" / "ISIC_2020_full.csv"
    manifest = import_dataset(source, require_images=False).manifest
    shared = shared_ids(manifest, "patient_id")
    assert len(shared) == 1689
    assert len(set(manifest.split("valid").column("patient_id"))) == 1691
    with pytest.raises(InputError, match=r"ISIC_2020_full\.csv: 1689 patients \(IP_"):
        require_disjoint(manifest)
    split = split_manifest(manifest)
    require_disjoint(split)
    assert np.abs(shares(split) - np.array([[0.7], [0.15], [0.15]])).max() < 0.03


def test_a_duplicate_group_is_never_separated() -> None:
    groups = [str(n // 3) for n in range(60)]
    manifest = manifest_of(60, target=["0", "1"] * 30, duplicate_group=groups)
    split = split_manifest(manifest)
    require_disjoint(split)
    assert all(len(set(split.splits[i : i + 3])) == 1 for i in range(0, 60, 3))
    apart = manifest_of(2, duplicate_group=["7", "7"], split=["train", "test"])
    with pytest.raises(InputError, match=r"m\.csv: 1 duplicate group \(7\) in more than one split"):
        require_disjoint(apart)
