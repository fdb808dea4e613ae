"""Folds for cross-validation."""

from itertools import pairwise

import numpy as np
import pytest

from melfast.io.errors import InputError
from melfast.prepare.folds import fold_manifest, parse_fold
from melfast.prepare.split import require_disjoint, split_manifest
from tests.prepare.test_split import manifest_of, population


@pytest.mark.parametrize("text", ["2", "0/5", "6/5", "1/1", "a/5", "-1/5", "1/5/7", "1.5/5"])
def test_no_fold(text: str) -> None:
    with pytest.raises(InputError, match=r"^data.fold must be K/N as 2/5, K from 1 to N and N >= "):
        parse_fold(text)


def test_a_fold() -> None:
    assert parse_fold("") is None
    assert parse_fold("2/5") == (1, 5)


def test_each_image_is_held_out_once_and_no_patient_is_parted() -> None:
    manifest = population(0)
    folds = [fold_manifest(manifest, f"{k}/5") for k in range(1, 6)]
    held_out = np.array([fold.splits == "valid" for fold in folds])
    assert (held_out.sum(axis=0) == 1).all()
    for fold in folds:
        require_disjoint(fold)
        assert set(fold.splits) == {"train", "valid"}
        valid = fold.splits == "valid"
        assert valid.mean() == pytest.approx(0.2, abs=0.01)
        malignant = manifest.targets == 1
        assert valid[malignant].mean() == pytest.approx(0.2, abs=0.02)
    other = fold_manifest(manifest, "1/5", seed=1)
    assert (other.splits != folds[0].splits).any()


def test_the_test_split_stays() -> None:
    manifest = split_manifest(population(0), (0.6, 0.2, 0.2))
    folds = [fold_manifest(manifest, f"{k}/3").splits for k in range(1, 4)]
    for fold in folds:
        assert ((fold == "test") == (manifest.splits == "test")).all()
    assert (np.sum([fold == "valid" for fold in folds], axis=0)[manifest.splits != "test"] == 1).all()
    assert all((one != other).any() for one, other in pairwise(folds))


def test_unlabelled_images_are_in_none() -> None:
    manifest = manifest_of(8, target=["1", "0", "1", "0", "1", "0", "", ""])
    fold = fold_manifest(manifest, "1/3")
    assert list(fold.splits[-2:]) == ["", ""]
    assert sorted(manifest.targets[fold.splits == "valid"]) == [0, 1]


def test_one_class_in_a_fold() -> None:
    manifest = manifest_of(6, target=["1", "1", "0", "0", "0", "0"])
    with pytest.raises(InputError) as caught:
        fold_manifest(manifest, "1/3")
    assert str(caught.value) == (
        "m.csv: fold 3/3 has 0 malignant and 2 benign images; expected both classes in each: fewer folds"
    )
