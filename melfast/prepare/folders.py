"""The published layout, `train|valid|val|test/{benign,malignant}/*.jpg`, and bare folders."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from melfast.data.manifest import Manifest, check_table
from melfast.io.errors import InputError
from melfast.io.folders import none_found, scan, scan_images, separate_masks
from melfast.io.tables import Table
from melfast.prepare.importers import SPLIT_WORDS
from melfast.prepare.pairing import index_images, index_masks

CLASSES = {"benign": "0", "malignant": "1"}
Layout = Literal["folder", "images"]


def find_layout(folder: Path) -> Layout | None:
    """`folder` where class folders hold images, `images` where the folder or its images/ does."""
    images, _ = separate_masks(scan_images(folder))
    if any(_place(file) is not None for file in images):
        return "folder"
    direct = [file for file in images if os.path.dirname(file) in ("", "images")]
    return "images" if direct else None


def import_folder(folder: Path, kind: str) -> tuple[Manifest, list[str]]:
    """Imports class folders (`folder`), or all images of a folder, unlabelled (`images`).

    The split is the first folder's name (`val` is valid), the target the class folder's; masks are
    files under a folder called masks, or whose name ends in _mask or _segmentation.

    Returns:
        The manifest, lying in the folder, and notes for the user.
    Raises:
        InputError: no image lies in a class folder; one lies in a split's folder but in no class's;
            or two have one name.
    """
    found = scan(folder)
    images, masks = separate_masks(found.files)
    notes = list(found.notes())
    if kind == "folder":
        images, outside = _in_classes(folder, images)
        notes += outside
    if not images and kind == "folder":
        raise InputError(f"{folder}: nothing to import, wanted class folders with images")
    if not images:
        raise none_found(folder, found)
    index = index_images(str(folder), images)
    index.require_single(index.files, "images")
    columns = {"image_name": list(index.files), "path": list(index.files.values())}
    if kind == "folder":
        places = [_place(file) or ("", "") for file in columns["path"]]
        columns["target"] = [target for _, target in places]
        columns["split"] = [split for split, _ in places]
    else:
        notes.append("all images are unlabelled")
    if masks:
        mask_index = index_masks(str(folder), masks)
        mask_index.require_single(index.files, "masks")
        columns["mask_path"] = [mask_index.files.get(name, "") for name in columns["image_name"]]
        if extra := len(mask_index.files.keys() - index.files.keys()):
            notes.append(f"masks without an image: {extra}")
        if without := columns["mask_path"].count(""):
            notes.append(f"images without a mask: {without}")
    frame = pd.DataFrame(columns, dtype=str)
    table = Table(folder / "manifest.csv", frame, np.arange(2, len(frame) + 2))
    return check_table(table), notes


def _in_classes(folder: Path, images: list[str]) -> tuple[list[str], list[str]]:
    """The images that lie in class folders, and a note on the others."""
    inside = [file for file in images if _place(file) is not None]
    outside = [file for file in images if _place(file) is None]
    for file in outside:
        if file.split(os.sep)[0].lower() in SPLIT_WORDS:
            raise InputError(
                f"{folder / file}: lies in a split's folder but in no class's, wanted {' or '.join(CLASSES)}"
            )
    if not outside:
        return inside, []
    return inside, [f"images outside of class folders left out: {len(outside)} ({outside[0]}, …)"]


def _place(file: str) -> tuple[str, str] | None:
    """Split and target by the folders of a relative path; None where they name no class."""
    parts = [part.lower() for part in file.split(os.sep)[:-1]]
    if parts and parts[0] in CLASSES:
        return "", CLASSES[parts[0]]
    if len(parts) > 1 and parts[0] in SPLIT_WORDS and parts[1] in CLASSES:
        return SPLIT_WORDS[parts[0]], CLASSES[parts[1]]
    return None
