"""Write evidence maps of a checkpoint for selected images."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from melfast.data.image_list import ImageList
from melfast.evaluate.evidence import explain_files
from melfast.evaluate.run import read_split
from melfast.io.contact_sheet import write_grid
from melfast.io.errors import InputError
from melfast.io.files import atomic_path, own_folder
from melfast.models.checkpoint import find_checkpoint, load_checkpoint
from melfast.predict.sources import find_images

SHEET = "sheet.png"
CLASS_NAMES = {0: "benign", 1: "malignant", -1: ""}


def run_explain(
    checkpoint: Path,
    output: Path,
    images: str | None,
    data_path: Path | None,
    split: str,
    names: Sequence[str],
    count: int,
) -> list[str]:
    """Writes a picture for each selected image, and a sheet of all.

    Args:
        images: files, as for `melfast predict`; None: images of a split of a manifest.
        names: names of the images to show; empty: `count` of them, alternating malignant and benign
            as far as possible.
    Returns:
        Lines that tell what was written.
    Raises:
        InputError: the checkpoint, images or names do not exist, or an image cannot be read.
    """
    folder = find_checkpoint(checkpoint)
    model, record = load_checkpoint(folder)
    groups: NDArray[np.int64] | None = None
    if images is not None:
        if record.preprocess.masked:
            raise InputError(
                f"{folder}: the model was trained on masked images; expected a manifest with masks, `data_path`"
            )
        files = find_images(images)
        labels, found_images = list(files.names), ImageList(files.paths)
        targets = np.full(len(labels), -1)
    else:
        manifest = read_split(folder, data_path, split)
        labels, found_images = manifest.image_names, manifest.images
        targets, groups = manifest.targets, manifest.groups_by(record.groups).astype(np.int64)
    chosen = choose(labels, targets, names, count)
    written = dict(zip(chosen.tolist(), picture_names([labels[row] for row in chosen]), strict=True))
    with own_folder(output, "melfast explain") as own:
        own.claim(*written.values(), SHEET)
        found = explain_files(model, record, found_images.select(chosen), None if groups is None else groups[chosen])
        captions = []
        for row, (picture, probability) in zip(written, found, strict=True):
            truth = CLASS_NAMES[int(targets[row])]
            captions.append(f"P {probability:.3f}{truth and f', truth {truth}'} {labels[row]}")
            with atomic_path(output / written[row]) as file:
                Image.fromarray(picture).save(file, "PNG")
        pictures = [(picture, text) for (picture, _), text in zip(found, captions, strict=True)]
        write_grid(pictures, min(6, len(pictures)), output / SHEET)
    return [f"{output}: {len(found)} pictures", str(output / SHEET)]


def picture_names(labels: Sequence[str]) -> list[str]:
    """A file name for each image, none twice and none that of the sheet."""
    found: list[str] = []
    for label in labels:
        stem = label.replace("/", "_")
        tries = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        found.append(next(name for each in tries if (name := f"{each}.png") not in (SHEET, *found)))
    return found


def choose(labels: Sequence[str], targets: NDArray, names: Sequence[str], count: int) -> NDArray[np.int64]:
    """Rows of the images to show.

    Raises:
        InputError: no image has one of the names.
    """
    if names:
        place = {name: i for i, name in enumerate(labels)}
        if missing := [name for name in names if name not in place]:
            raise InputError(f"`names` {', '.join(missing)}: no such image among {len(labels):,}")
        return np.array([place[name] for name in dict.fromkeys(names)])
    malignant, others = np.flatnonzero(targets == 1), np.flatnonzero(targets != 1)
    half = min(len(malignant), max(count // 2, count - len(others)))
    return np.concatenate([malignant[:half], others[: count - half]])
