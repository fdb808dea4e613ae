"""Preview: a contact sheet of the images that the model will see in an epoch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast.config.schema import Config
from melfast.data.manifest import Manifest
from melfast.data.native import carry_out
from melfast.data.plan import EpochPlan, evaluation_plan
from melfast.distributed import World
from melfast.io.contact_sheet import check_sheet_path, write_grid
from melfast.io.errors import ImageError, InputError
from melfast.train.data import labelled, report_unlabelled
from melfast.train.epochs import epoch_plan

CLASS_NAMES = {0: "benign", 1: "malignant", -1: "unlabelled"}


def draw_preview(
    manifest: Manifest,
    config: Config,
    path: Path,
    *,
    split: str = "train",
    epoch: int = 0,
    images: int = 64,
    columns: int = 8,
    progress: Callable[[], None] = lambda: None,
) -> tuple[int, list[ImageError]]:
    """Writes a contact sheet of the first records of an epoch, in order, before colour conversion.

    The captions give class, tone group and ITA; if the skin-former moved the skin, the ITA before and
    after, and the group after.

    Args:
        manifest: with a split; without one, all rows are training images.
        split: `train`: sampled and augmented by `config`; others: each image unchanged.
        images: maximum number of images.
        columns: pictures per row.
        progress: called after each image.
    Returns:
        The number of pictures in the sheet, and the images that could not be read.
    Raises:
        InputError: the manifest lacks something that the config needs, no image can be read, or the
            file cannot be written.
    """
    check_sheet_path(path)
    if split != "train" or (manifest.splits != "").any():
        manifest = manifest.split(split)
    if split == "train":
        known = manifest.select(manifest.targets >= 0)
        report_unlabelled(manifest, split)
        train = labelled(manifest, split)
        plan = epoch_plan(config, train.rows, epoch, World())
    else:
        known = manifest
        plan = evaluation_plan(len(known), batch_size=1, masked=config.preprocess.masked)
    preprocess, files = config.preprocess.resolve(), known.images
    captions = Captions(known, plan)
    pictures: list[tuple[NDArray[np.uint8], str]] = []
    failures: list[ImageError] = []
    for record in range(min(images, len(plan.index))):
        picture = np.empty((preprocess.height, preprocess.width, 3), np.uint8)
        try:
            carry_out(plan, record, files, preprocess, picture)
            pictures.append((picture, captions.of(record)))
        except ImageError as error:
            failures.append(error)
        progress()
    if not pictures:
        raise InputError(f"{failures[0]}; none of {len(failures)} images can be shown")
    write_grid(pictures, columns, path)
    return len(pictures), failures


class Captions:
    """Caption of each record of a plan."""

    def __init__(self, manifest: Manifest, plan: EpochPlan) -> None:
        self.plan, self.targets, self.names = plan, manifest.targets, manifest.group_names
        self.groups = manifest.groups[plan.index] if plan.group is None else plan.group
        self.itas = manifest.column("ita")
        if manifest.tone_scale is not None:  # darker skin may be of a group that no image has
            self.names = manifest.tone_scale.names

    def of(self, record: int) -> str:
        row, group = self.plan.index[record], self.groups[record]
        words = [CLASS_NAMES[int(self.targets[row])]]
        if group >= 0:
            words.append(self.names[group])
        if ita := self.itas[row]:
            words.append(f"ITA {float(ita):.0f}°")
        if self.plan.is_moved(record):
            assert self.plan.target_ita is not None
            words.append(f"to {self.plan.target_ita[record]:.0f}°")
        return " ".join(words)
