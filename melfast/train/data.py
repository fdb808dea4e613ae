"""The data of a run: taken in, split and checked once, kept as RUN/manifest.csv."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast.config.schema import DataConfig
from melfast.data.image_list import ImageList
from melfast.data.manifest import Manifest, is_manifest, read_manifest, write_manifest
from melfast.data.plan import Rows
from melfast.io.errors import InputError
from melfast.io.log import logger
from melfast.prepare.folds import fold_manifest
from melfast.prepare.sources import import_source
from melfast.prepare.split import require_disjoint, split_manifest, unused_identities

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class LabelledImages:
    """One split's images that have a target.

    Attributes:
        images: their files, masks and which of them are known to be whole.
        names: their image_name.
        rows: what a plan is drawn from; targets and groups among it.
    """

    images: ImageList
    names: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.images)

    @property
    def targets(self) -> NDArray[np.int64]:
        return self.rows.targets

    @property
    def class_counts(self) -> list[int]:
        return np.bincount(self.targets, minlength=2).tolist()

    @property
    def digest(self) -> str:
        """The same for the same images with the same targets in the same order."""
        rows = "\n".join(f"{n},{t}" for n, t in zip(self.names, self.targets, strict=True))
        return hashlib.sha256(rows.encode()).hexdigest()


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and chooses its best checkpoint by."""

    train: LabelledImages
    valid: LabelledImages
    group_names: tuple[str, ...]


def take_in(config: DataConfig, run: Path, set_by_user: set[str]) -> None:
    """Reads or imports `data.path`, splits it where it is not, checks it, writes RUN/manifest.csv.

    Raises:
        InputError: nothing known at the path, splits or classes missing, patients or lesions on
            both sides of the split, or image files that are not there.
    """
    if not config.path:
        raise InputError("data.path is empty; wanted a manifest or a data set: `data.path=PATH`")
    source = Path(config.path)
    if source.exists() and (run / MANIFEST).exists() and source.samefile(run / MANIFEST):
        raise InputError(f"{source}: is data.path and would be replaced; expected another `output.dir`")
    unused = set_by_user & {"data.kind", "data.images"}
    if is_manifest(source) and config.kind == "auto":
        manifest = read_manifest(source)
        _warn_unused(unused, f"{source} is a manifest already")
    else:
        images = Path(config.images) if config.images else None
        manifest = import_source(source, config.kind, images)
        logger.info(f"{source}: imported {len(manifest):,} images")
    if config.fold:
        _warn_unused(set_by_user & {"data.split"}, f"data.fold {config.fold} splits")
        manifest = fold_manifest(manifest, config.fold, config.split_seed)
        logger.info(f"{source}: fold {config.fold}, drawn with seed {config.split_seed}")
    elif (manifest.splits == "").all():
        manifest = split_manifest(manifest, config.split, config.split_seed)
        shares = " : ".join(f"{share:g}" for share in config.split)
        logger.info(f"{source}: split {shares} with seed {config.split_seed}")
    else:
        unused = set_by_user & {"data.split", "data.split_seed"}
        _warn_unused(unused, f"{source} has a split already")
    if not config.allow_overlap:
        require_disjoint(manifest)
        for line in unused_identities(manifest):
            logger.warning(line)
    data = training_data(manifest)
    for name in ("train", "valid"):
        report_unlabelled(manifest.split(name), name)
    _require_files(data, config.on_error == "skip")
    write_manifest(manifest, run / MANIFEST)


def training_data(manifest: Manifest) -> TrainingData:
    """The training and validation splits of a manifest.

    Raises:
        InputError: a split is missing, or one of them has one class only.
    """
    train, valid = (labelled(manifest.split(name), name) for name in ("train", "valid"))
    # All groups of the scale, for the skin-former may make of one what no image is of.
    scale, names = manifest.tone_scale, manifest.group_names
    return TrainingData(train, valid, scale.names if names and scale else names)


def labelled(manifest: Manifest, split: str) -> LabelledImages:
    """The rows that have a target.

    Raises:
        InputError: one class only.
    """
    known = manifest.targets >= 0
    if not known.all():
        manifest = manifest.select(known)
    targets = manifest.targets.astype(np.int64)
    malignant = int(targets.sum())
    if malignant in (0, len(targets)):
        raise InputError(
            f"{manifest.path}: split {split!r} has {malignant} malignant and "
            f"{len(targets) - malignant} benign images; wanted both classes"
        )
    return LabelledImages(manifest.images, manifest.image_names, Rows.of(manifest))


def report_unlabelled(manifest: Manifest, split: str) -> None:
    """Reports how many rows of a split have no target, which `labelled` leaves out."""
    if unlabelled := int((manifest.targets < 0).sum()):
        logger.info(f"{manifest.path}: {unlabelled:,} images of split {split!r} have no target: left out")


def _require_files(data: TrainingData, skip: bool) -> None:
    paths = [*data.train.images.paths, *data.valid.images.paths]
    missing = [str(path) for path in paths if not os.path.isfile(str(path))]
    if not missing:
        return
    listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    message = f"{len(missing)} of {len(paths)} image files are missing: {listed}"
    if not skip:
        raise InputError(f"{message} (`data.on_error=skip` trains without them)")
    logger.warning(f"{message}: left out")


def _warn_unused(keys: set[str], why: str) -> None:
    for key in sorted(keys):
        logger.warning(f"{key} is not used: {why}")
