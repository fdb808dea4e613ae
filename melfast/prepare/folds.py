"""Folds: cross-validation whose folds share no patient, lesion or duplicate."""

import re
from typing import TYPE_CHECKING

import numpy as np

from melfast.io.errors import InputError

if TYPE_CHECKING:
    from melfast.data.manifest import Manifest


def parse_fold(text: str) -> tuple[int, int] | None:
    """`2/5` as (1, 5): the second of five folds, counted from 0; None for an empty text.

    Raises:
        InputError: not two numbers K/N with 1 <= K <= N and N >= 2.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    fold, folds = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= fold <= folds or folds < 2:
        raise InputError(f"data.fold must be K/N as 2/5, K from 1 to N and N >= 2, got {text!r}")
    return fold - 1, folds


def fold_manifest(manifest: "Manifest", fold: str, seed: int = 0) -> "Manifest":
    """The manifest with one fold as its validation split and the others as its training split.

    All folds with the same seed come from one draw (see melfast.prepare.split: images that share a
    patient, a lesion or a duplicate group stay together), so each image is in the validation split of
    exactly one fold. Images of a test split stay there and are in no fold.

    Raises:
        InputError: `fold` is invalid, or a class is missing in a fold.
    """
    from melfast.prepare.split import deal  # importing the graphs of scipy takes a while

    parsed = parse_fold(fold)
    assert parsed is not None
    wanted, folds = parsed
    names = manifest.splits
    place = np.full(len(manifest), -1)
    others = names != "test"
    place[others] = deal(manifest.select(others), np.full(folds, 1 / folds), seed)
    for number in range(folds):
        targets = manifest.targets[place == number]
        if len(set(targets.tolist())) < 2:
            malignant = int((targets == 1).sum())
            raise InputError(
                f"{manifest.path}: fold {number + 1}/{folds} has {malignant} malignant and "
                f"{len(targets) - malignant} benign images; wanted both classes in each: fewer "
                "folds"
            )
    names[others] = ""
    names[place >= 0] = "train"
    names[place == wanted] = "valid"
    return manifest.with_columns(split=names)
