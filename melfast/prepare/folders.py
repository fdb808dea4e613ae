"""Folders of classes, `[train|valid|test/]CLASS/*.jpg`, and bare folders, as tables."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from melfast.io.errors import InputError
from melfast.io.tables import Table, shortened
from melfast.prepare.datasets import SPLIT_WORDS, TARGET_WORDS
from melfast.prepare.diagnoses import find_diagnosis
from melfast.prepare.importers import shared_folders

OF_IMAGES = re.compile(r"[_\-. ](images?|pictures?|photos?|cases?)$", re.IGNORECASE)  # `benign_images`


def find_classes(files: list[str]) -> list[str]:
    """The class of each file by its folders, '' if they name none; all '' if no folder is a class."""
    parts = _parts(files)
    words = [_class(part) for part in parts]
    if {part[-1] if part else "" for part in parts} == {"0", "1"}:
        return [part[-1] for part in parts]
    known = set(words) - {""}
    if known & {"benign", "malignant"}:
        return [word if word in TARGET_WORDS else "" for word in words]
    # One folder called after a diagnosis may be all that there is; `benign` alone is a class.
    return words if len(known) > 1 else [""] * len(files)


def folder_table(folder: Path, files: list[str], kind: str, any_class: bool) -> tuple[Table, list[str]]:
    """The images of class folders (`folder`), or all images of a folder (`images`), as a table.

    Args:
        files: images, relative to the folder.
        any_class: every folder with images is a class, regardless of its name.
    Returns:
        The table (located in the folder) with path, split and class, and notes for the user.
    Raises:
        InputError: no image is in a class folder, or one is in a split folder or beside folders of diagnoses but not
            in a class folder.
    """
    notes: list[str] = []
    parts = _parts(files)
    columns = {"path": files}
    if kind == "folder":
        words = [part[-1] if part else "" for part in parts] if any_class else find_classes(files)
        beside = (
            set()
            if set(words) & set(TARGET_WORDS)
            else {_parent(file) for file, word in zip(files, words, strict=True) if word}
        )
        for file, part, word in zip(files, parts, words, strict=True):
            if word or not part:
                continue
            unknown = _parent(file) in beside and find_diagnosis(part[-1]) is None
            if where := "in a split's folder" if _split(part[0]) else "beside folders of classes" if unknown else "":
                raise InputError(
                    f"{folder / file}: is {where} but in no class folder, expected benign or malignant, or a diagnosis "
                    "(for other words: `positive=WORD,WORD`)"
                )
        inside = [i for i, word in enumerate(words) if word]
        if left := [file for file, word in zip(files, words, strict=True) if not word]:
            places = Counter(os.path.dirname(file) or "." for file in left)
            listed = shortened([f"{place}: {count:,}" for place, count in places.items()])
            if inside:
                notes.append(f"images outside of class folders left out: {len(left)} ({listed})")
        columns["path"] = [files[i] for i in inside]
        columns["split"] = [next(filter(None, map(_split, parts[i])), "") for i in inside]
        classes = [words[i] for i in inside]
        if any(word in TARGET_WORDS for word in classes) and not any_class:  # also of melanoma and notmelanoma
            columns["target"] = [TARGET_WORDS.get(word) or _melanoma(word) for word in classes]
        else:
            columns["diagnosis"] = classes
    if not columns["path"]:
        raise InputError(f"{folder}: nothing to import, expected class folders with images")
    frame = pd.DataFrame(columns, dtype=str)
    return Table(folder / "manifest.csv", frame, np.arange(2, len(frame) + 2)), notes


def _parent(file: str) -> str:
    """The folder that holds the folder of a file."""
    return os.path.dirname(os.path.dirname(file))


def _parts(files: list[str]) -> list[list[str]]:
    """Folders of each file below the common one, which is kept if it is itself a split or a class."""
    parts = [file.split(os.sep)[:-1] for file in files]
    shared = parts[0][: shared_folders(parts)] if parts else []
    depth = next((i for i, name in enumerate(shared) if _split(name) or _class([name])), len(shared))
    return [part[depth:] for part in parts]


def _split(name: str) -> str:
    return SPLIT_WORDS.get(re.split(r"[_\-. ]", name.lower())[0], "")


def _melanoma(word: str) -> str:
    found = find_diagnosis(word)
    return found.melanoma if found else ""


def _class(parts: list[str]) -> str:
    """The first of the folders that is a class, in lower case."""
    for name in parts:
        word = OF_IMAGES.sub("", name).lower()
        diagnosis = find_diagnosis(word)
        if (word in TARGET_WORDS and word.isalpha()) or (diagnosis and diagnosis.name):
            return word
    return ""
