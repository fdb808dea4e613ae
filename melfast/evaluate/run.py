"""Evaluate a checkpoint on data, and write the results."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.data.feed import choose_loader, set_threads
from melfast.data.manifest import SPLITS, Manifest, is_manifest, read_manifest
from melfast.data.views import Tta
from melfast.distributed import World, start_world
from melfast.io.errors import ImageError, InputError
from melfast.io.files import OwnFolder, atomic_path, own_folder
from melfast.io.log import Progress, logger, no_progress
from melfast.io.words import check_words
from melfast.models.checkpoint import find_checkpoint, load_checkpoint
from melfast.models.infer import DEFAULT, infer
from melfast.models.record import DEFAULT_THRESHOLD, ModelRecord
from melfast.models.running import InferenceSettings
from melfast.prepare.sources import import_source
from melfast.report.measures import Scored, measure, write_metrics, write_scored
from melfast.train.data import MANIFEST

CARD, METRICS, PREDICTIONS = "model_card.md", "metrics.json", "predictions.csv"


@dataclass(frozen=True)
class SplitPredictions:
    """Predictions of a checkpoint for the images that could be read.

    Attributes:
        index: int64 [N], rows of the manifest, ascending.
        score: float64 [N], P(malignant).
        groups: int [N], index into the record's groups, -1 unknown.
    """

    folder: Path
    record: ModelRecord
    index: NDArray[np.int64]
    score: NDArray[np.float64]
    groups: NDArray[np.integer[Any]]
    failures: tuple[ImageError, ...]

    @property
    def threshold(self) -> float:
        """Threshold for images whose tone group is unknown."""
        return DEFAULT_THRESHOLD if self.record.threshold is None else self.record.threshold

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Threshold of each image [N]."""
        return self.record.thresholds(self.groups, self.threshold)


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        measured: metrics of all images and of each tone group, see melfast.report.measures.measure.
        title: title of the table.
        files: files that were written.
    """

    measured: dict[str, Any]
    title: str
    files: tuple[Path, ...]


def run_evaluation(
    checkpoint: str | Path,
    data_path: str | Path | None = None,
    split: str = "test",
    output_dir: str | Path | None = None,
    settings: InferenceSettings = DEFAULT,
    *,
    report: bool = False,
    progress: Progress = no_progress,
) -> Evaluation | None:
    """Evaluates a model and writes `metrics.json` and `predictions.csv`.

    Under torchrun every process calls it, but only the first writes.

    Args:
        checkpoint: a run, a checkpoint folder or a file in one.
        data_path: a manifest or a data set; None: the run's own manifest.
        split: train, valid, test, or all.
        output_dir: None: RUN/evaluation/SPLIT, or for example SPLIT-flips with views.
        report: also write the report of `melfast report` to the subfolder `report`.
        progress: called with the number of images that this process has done.
    Returns:
        The result; None in all processes but the first.
    Raises:
        InputError: the checkpoint, the data or an image cannot be used.
    """
    with open_world(settings) as world, contextlib.ExitStack() as held:
        folder = find_checkpoint(checkpoint)
        manifest = world.first_does(lambda: read_split(folder, data_path, split))
        name = split if settings.tta == "none" else f"{split}-{settings.tta}"
        output = Path(output_dir or run_of(folder) / "evaluation" / name)
        world.first_does(lambda: claim_output(held, output, "melfast evaluate"))
        answers = predict_split(folder, manifest, world, settings, progress)
        if not world.first:
            return None
        record = answers.record
        about = {
            "checkpoint": str(folder),
            "data": str(data_path or run_of(folder) / MANIFEST),
            "split": split,
            "threshold_rule": record.threshold_rule,
            "threshold": answers.threshold,
            "tta": settings.tta,
        }
        cut = f"threshold {answers.threshold:.4f}"
        if record.group_thresholds:
            by_group = dict(zip(record.groups, record.group_thresholds, strict=True))
            about["group_thresholds"] = by_group
            cut = "thresholds " + ", ".join(f"{name} {t:.4f}" for name, t in by_group.items())
        scored = scored_images(manifest.select(answers.index), answers.score)
        evaluation = conclude(
            scored,
            answers.thresholds,
            output,
            about,
            f"{folder}, split {split}, {cut}",
            evaluation_remarks(answers, manifest, settings.tta),
            [str(f) for f in answers.failures],
        )
        if not report:
            return evaluation
        return replace(evaluation, files=evaluation.files + finish_with_report(output, answers, manifest, split))


def claim_output(held: contextlib.ExitStack, output: Path, command: str) -> None:
    """Locks the folder for this process until `held` is closed; see own_folder."""
    held.enter_context(own_folder(output, command)).claim(METRICS, PREDICTIONS)


def finish_with_report(output: Path, answers: SplitPredictions, manifest: Manifest, split: str) -> tuple[Path, Path]:
    """Writes the report of the predictions and the model card."""
    from melfast.report.card import model_card
    from melfast.report.predictions import read_predictions
    from melfast.report.writing import COMMAND as REPORT
    from melfast.report.writing import PAGE, ReportOptions, run_report

    table = read_predictions(output / PREDICTIONS)
    if not answers.record.group_thresholds:
        table = replace(table, made_by=answers.threshold)
    run = run_of(answers.folder)
    own = run / MANIFEST
    trained_on = read_manifest(own) if own.is_file() else manifest
    wanted = ReportOptions(names=[run.name])
    document = run_report([table], output / "report", wanted, manifest=manifest, trained_on=trained_on)
    with atomic_path(OwnFolder(output / "report", REPORT).claim(CARD)) as file:
        card = model_card(run.name, answers.record, trained_on, document, split)
        file.write_text(card, encoding="utf-8")
    return output / "report" / CARD, output / "report" / PAGE


@contextlib.contextmanager
def open_world(settings: InferenceSettings) -> Iterator[World]:
    """The world of an evaluation, with its threads; reports which loader is used."""
    with start_world(settings.device) as world:
        set_threads(0, world)
        name, why = choose_loader(settings.loader, world.device.type)
        logger.info(f"loader: {name} ({why})")
        yield world


def predict_split(
    folder: Path, manifest: Manifest, world: World, settings: InferenceSettings, progress: Progress
) -> SplitPredictions:
    """Runs a checkpoint on the images of a manifest."""
    model, record = load_checkpoint(folder)
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if world.first:
            progress("evaluating", done, -(-len(manifest) // world.size))

    model = model.to(world.device).to(memory_format=torch.channels_last)
    found = infer(model, manifest.images, record.preprocess, world, settings, advance=advance)
    groups = manifest.groups_by(record.groups)[found.index]
    score = found.probabilities(record, groups)
    return SplitPredictions(folder, record, found.index, score, groups, found.failures)


def scored_images(manifest: Manifest, score: NDArray[np.float64]) -> Scored:
    return Scored(manifest.image_names, manifest.targets, score, manifest.groups, manifest.group_names)


def conclude(
    scored: Scored,
    threshold: float | NDArray[np.float64],
    output: Path,
    about: dict[str, Any],
    title: str,
    remarks: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> Evaluation:
    """Computes the metrics and writes predictions.csv and metrics.json."""
    measured = measure(scored, threshold)
    measured["remarks"] += remarks
    write_scored(output / PREDICTIONS, scored, threshold)
    about = about | {"left_out": list(left_out)}
    write_metrics(output / METRICS, about | measured)
    return Evaluation(measured, title, (output / METRICS, output / PREDICTIONS))


def read_split(folder: Path, data_path: str | Path | None, split: str) -> Manifest:
    """The images to evaluate on.

    Raises:
        InputError: no such split, no data, or no image with a target.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"`split` must be {', '.join(SPLITS)} or all, got {split!r}")
    path = Path(data_path or run_of(folder) / MANIFEST)
    if data_path is None and not path.is_file():
        raise InputError(f"{folder}: is not in a run folder with a {MANIFEST}: expected `data_path`")
    manifest = read_manifest(path) if is_manifest(path) else import_source(path)
    if split != "all":
        manifest = manifest.split(split)
    if (manifest.targets < 0).all():
        raise InputError(f"{path}: none of the {len(manifest)} images has a target; 'melfast predict' needs none")
    return manifest


def run_of(folder: Path) -> Path:
    """The run that a checkpoint folder belongs to, or the folder itself if there is none."""
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


@check_words
def evaluation_remarks(answers: SplitPredictions, manifest: Manifest, tta: Tta) -> list[str]:
    found = []
    failures = answers.failures
    if tta != "none":
        found.append("the threshold was chosen without test-time augmentation")
    if answers.record.threshold is None:
        found.append(f"the checkpoint has no threshold yet (its first epoch was not over): {DEFAULT_THRESHOLD} is used")
    if failures:
        found.append(f"{len(failures)} of {len(manifest)} images left out; the first: {failures[0]}")
    return found
