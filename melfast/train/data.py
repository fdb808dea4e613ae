"""The data of a run: imported, split and checked once, and stored as RUN/manifest.csv."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast.config.schema import Config
from melfast.data.image_list import ImageList
from melfast.data.loader import available_cores
from melfast.data.manifest import Manifest, is_manifest, moved, read_manifest, write_manifest
from melfast.data.plan import Rows
from melfast.io.errors import InputError
from melfast.io.journal import Journal
from melfast.io.log import Progress, logger, no_progress
from melfast.prepare.all import plan_steps, prepare
from melfast.prepare.folds import fold_manifest
from melfast.prepare.settings import PrepareConfig
from melfast.prepare.sources import import_dataset
from melfast.prepare.split import complete_split, lacks_validation, require_disjoint, unused_identities
from melfast.prepare.sweep import bar_of, write_quarantine

MANIFEST = "manifest.csv"
DEFAULTS = PrepareConfig()


@dataclass(frozen=True)
class LabelledImages:
    """One split's images that have a target.

    Attributes:
        images: their files and masks, and which files are known to be intact.
        names: their image_name.
        rows: the input of a plan, with targets and groups.
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
        """Hash of the names and targets of the images, in order."""
        rows = "\n".join(f"{n},{t}" for n, t in zip(self.names, self.targets, strict=True))
        return hashlib.sha256(rows.encode()).hexdigest()


@dataclass(frozen=True)
class TrainingData:
    """The images that a run trains on, and those that select its best checkpoint."""

    train: LabelledImages
    valid: LabelledImages
    group_names: tuple[str, ...]


def write_run_manifest(settings: Config, run: Path, set_by_user: set[str], progress: Progress = no_progress) -> None:
    """Reads or imports `data.path`, prepares and splits it if necessary, and writes RUN/manifest.csv.

    Args:
        progress: called after each prepared image.
    Raises:
        InputError: no known data set at the path, splits or classes are missing, patients or lesions
            are in more than one split, or image files are missing or bad.
    """
    config = settings.data
    if not config.path:
        raise InputError("data.path is empty; expected a manifest or a data set: `data.path=PATH`")
    source = Path(config.path)
    if source.exists() and (run / MANIFEST).exists() and source.samefile(run / MANIFEST):
        raise InputError(f"{source}: is data.path and would be replaced; expected another `output.dir`")
    changed = {f"prepare.{name}" for name, value in vars(settings.prepare).items() if value != getattr(DEFAULTS, name)}
    unused = set_by_user & (changed | {"data.kind", "data.images"})
    if is_manifest(source) and config.kind == "auto":
        manifest = read_manifest(source)
        _warn_unused(unused, f"{source} is a manifest already")
    else:
        manifest = _prepare(settings, source, run / MANIFEST, progress)
        unused = set_by_user & changed & {f"prepare.{name}" for name in ("split", "fractions", "seed")}
        _warn_unused(unused, "data.split, data.split_seed and data.fold say how a run splits")
    if config.fold:
        _warn_unused(set_by_user & {"data.split"}, f"data.fold {config.fold} splits")
        manifest = fold_manifest(manifest, config.fold, config.split_seed)
        logger.info(f"{source}: fold {config.fold}, drawn with seed {config.split_seed}")
    elif (manifest.splits == "").all() or lacks_validation(manifest):
        shares = " : ".join(f"{share:g}" for share in config.split)
        drawn = "validation images drawn from train" if lacks_validation(manifest) else f"split {shares}"
        manifest = complete_split(manifest, config.split, config.split_seed)
        logger.info(f"{source}: {drawn} with seed {config.split_seed}")
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


def _prepare(config: Config, source: Path, output: Path, progress: Progress) -> Manifest:
    """Imports a data set and runs the preparation steps that the run needs or the config requests."""
    found = import_dataset(source, config.data.kind, Path(config.data.images) if config.data.images else None)
    plan = plan_steps(found.manifest, output, replace(config.prepare, split=False), _needed_steps(config))
    journal = Journal.beside(output, "prepare", plan.settings)
    prepared = prepare(plan, threads=config.data.threads or available_cores(), journal=journal, bar=bar_of(progress))
    resumed = [f"{prepared.resumed:,} of them from an interrupted run"] if prepared.resumed else []
    for note in found.notes + resumed + prepared.notes:
        logger.info(f"{source}: {note}")
    if prepared.bad:
        table = output.with_name(f"{output.stem}.bad.csv")
        write_quarantine(prepared.bad, table)
        name, _, reason = prepared.bad[0]
        message = f"{len(prepared.bad):,} of {len(plan.rows):,} images are bad, {name} first: {reason}; see {table}"
        if config.data.on_error == "raise":
            raise InputError(f"{message} (`data.on_error=skip` trains without them)")
        logger.warning(f"{message}: left out")
    journal.remove()
    done = "; ".join(f"{step}: {text}" for step, text in prepared.summary)
    logger.info(f"{source}: imported {len(plan.rows):,} images" + (f"; {done}" if done else ""))
    # Errors should name the path that the user gave.
    return moved(prepared.manifest, found.manifest.path)


def _needed_steps(config: Config) -> set[str]:
    """The preparation steps that the run cannot do without."""
    former = any(config.augment.skin_former.values())
    masked = former or config.preprocess.masked or config.augment.mask > 0
    grouped = (
        former
        or config.model.head != "plain"
        or config.model.num_groups > 0
        or config.loss.name == "group_dro"
        or config.loss.weights == "ifw_class_group"
        or config.sampler.name == "group_balanced"
        or config.train.best_metric.startswith("worst_group")
        or config.train.threshold_rule == "equal_recall"
    )
    return {"check", "dedup"} | ({"masks"} if masked else set()) | ({"ita"} if grouped else set())


def training_data(manifest: Manifest) -> TrainingData:
    """The training and validation splits of a manifest.

    Raises:
        InputError: a split is missing, or one of them has one class only.
    """
    train, valid = (labelled(manifest.split(name), name) for name in ("train", "valid"))
    # All groups of the scale, because the skin-former may produce a group that no image has.
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
            f"{len(targets) - malignant} benign images; expected both classes"
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
