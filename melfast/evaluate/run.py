"""An evaluation from checkpoint and data to table and files."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from melfast.data.feed import Precision, choose_loader, set_threads
from melfast.data.loader import LoaderName, OnError
from melfast.data.manifest import SPLITS, Manifest, is_manifest, read_manifest
from melfast.data.views import Tta
from melfast.distributed import World, start_world
from melfast.io.errors import ImageError, InputError
from melfast.io.files import atomic_path
from melfast.models.checkpoint import find_checkpoint, load_model
from melfast.models.infer import BATCH_SIZE, infer
from melfast.models.record import ModelRecord
from melfast.prepare.sources import import_source
from melfast.report.measures import Scored, measure, table, write_metrics, write_predictions
from melfast.train.data import MANIFEST

DEFAULT_THRESHOLD = 0.5
CARD = "model_card.md"


@dataclass(frozen=True)
class Means:
    """How a model is run over images.

    Attributes:
        device: `auto`: CUDA where there is a device.
        loader: see melfast.data.loader.
        threads: of the loader; 0: this process's share of the cores.
        on_error: an unreadable image stops the run (`raise`) or is left out and named (`skip`).
        tta: of which views of each image the mean is taken, see melfast.data.views.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    batch_size: int = BATCH_SIZE
    loader: LoaderName = "auto"
    threads: int = 0
    on_error: OnError = "raise"
    tta: Tta = "none"


DEFAULT_MEANS = Means()


@dataclass(frozen=True)
class Answers:
    """What a checkpoint says of the images that could be read.

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
        """Of images whose tone group is unknown."""
        return DEFAULT_THRESHOLD if self.record.threshold is None else self.record.threshold

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Of each image [N]."""
        return self.record.thresholds(self.groups, self.threshold)


def run_evaluation(
    checkpoint: Path,
    data_path: Path | None = None,
    split: str = "test",
    output_dir: Path | None = None,
    means: Means = DEFAULT_MEANS,
    *,
    report: bool = False,
) -> None:
    """Measures a model, prints a table and writes `metrics.json` and `predictions.csv`.

    Under torchrun every process calls it, and the first alone prints and writes.

    Args:
        checkpoint: a run, a checkpoint folder or a file in one.
        data_path: a manifest or a data set; None: the run's own manifest.
        split: train, valid, test, or all.
        output_dir: None: RUN/evaluation/SPLIT, or SPLIT-flips and the like with views.
        report: whether `melfast report` follows, into its folder `report`.
    Raises:
        InputError: the checkpoint, the data or an image cannot be used.
    """
    with open_world(means) as world:
        folder = find_checkpoint(checkpoint)
        manifest = world.first_does(lambda: read_split(folder, data_path, split))
        answers = ask(folder, manifest, world, means)
        if not world.first:
            return
        name = split if means.tta == "none" else f"{split}-{means.tta}"
        output = output_dir or run_of(folder) / "evaluation" / name
        record = answers.record
        about = {
            "checkpoint": str(folder),
            "data": str(data_path or run_of(folder) / MANIFEST),
            "split": split,
            "threshold_rule": record.threshold_rule,
            "threshold": answers.threshold,
            "tta": means.tta,
        }
        cut = f"threshold {answers.threshold:.4f}"
        if record.group_thresholds:
            by_group = dict(zip(record.groups, record.group_thresholds, strict=True))
            about["group_thresholds"] = by_group
            cut = "thresholds " + ", ".join(f"{name} {t:.4f}" for name, t in by_group.items())
        scored = scored_images(manifest.select(answers.index), answers.score)
        conclude(
            scored,
            answers.thresholds,
            output,
            about,
            f"{folder}, split {split}, {cut}",
            remarks(answers, manifest, means.tta),
            [str(f) for f in answers.failures],
        )
        if report:
            finish_with_report(output, answers, manifest, split)


def finish_with_report(output: Path, answers: Answers, manifest: Manifest, split: str) -> None:
    """`melfast report` of what was predicted, and the model's card."""
    from melfast.report.card import model_card
    from melfast.report.predictions import read_predictions
    from melfast.report.writing import PAGE, Wanted, run_report

    table = read_predictions(output / "predictions.csv")
    if not answers.record.group_thresholds:
        table = replace(table, made_by=answers.threshold)
    run = run_of(answers.folder)
    own = run / MANIFEST
    trained_on = read_manifest(own) if own.is_file() else manifest
    wanted = Wanted(names=[run.name])
    document = run_report([table], output / "report", wanted, manifest=manifest, trained_on=trained_on)
    with atomic_path(output / "report" / CARD) as file:
        card = model_card(run.name, answers.record, trained_on, document, split)
        file.write_text(card, encoding="utf-8")
    click.echo(f"{output / 'report' / CARD}\n{output / 'report' / PAGE}")


@contextlib.contextmanager
def open_world(means: Means) -> Iterator[World]:
    """The world of an evaluation, with its threads; says which loader there will be."""
    with start_world(means.device) as world:
        set_threads(0, world)
        name, why = choose_loader(means.loader, world.device.type)
        if world.first:
            click.echo(f"loader: {name} ({why})", err=True)
        yield world


def ask(folder: Path, manifest: Manifest, world: World, means: Means) -> Answers:
    """Runs a checkpoint over a manifest's images, with a bar."""
    model, record = load_model(folder)
    with Progress(console=Console(stderr=True), transient=True, disable=not world.first) as bar:
        task = bar.add_task("evaluate", total=len(manifest) / world.size)
        found = infer(
            model.to(world.device).to(memory_format=torch.channels_last),
            manifest.images,
            record.preprocess,
            world,
            loader=means.loader,
            batch_size=means.batch_size,
            precision=means.precision,
            threads=means.threads,
            on_error=means.on_error,
            tta=means.tta,
            advance=lambda images: bar.advance(task, images),
        )
    groups = manifest.groups_by(record.groups)[found.index]
    score = found.probabilities(record, groups)
    return Answers(folder, record, found.index, score, groups, found.failures)


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
) -> None:
    """Writes predictions.csv and metrics.json, and prints the table."""
    measured = measure(scored, threshold)
    measured["remarks"] += remarks
    write_predictions(output / "predictions.csv", scored, threshold)
    about = about | {"left_out": list(left_out)}
    write_metrics(output / "metrics.json", about | measured)
    show(measured, title)
    click.echo(f"{output / 'metrics.json'}\n{output / 'predictions.csv'}")


def read_split(folder: Path, data_path: Path | None, split: str) -> Manifest:
    """The images to measure on.

    Raises:
        InputError: no such split, no data, or no image with a target.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"--split must be {', '.join(SPLITS)} or all, got {split!r}")
    path = data_path or run_of(folder) / MANIFEST
    if data_path is None and not path.is_file():
        raise InputError(f"{folder}: is in no run folder with a {MANIFEST}: wanted --data-path")
    manifest = read_manifest(path) if is_manifest(path) else import_source(path)
    if split != "all":
        if not (manifest.splits == split).any():
            there = sorted(set(manifest.splits.tolist()) - {""}) or ["none"]
            raise InputError(
                f"{path}: no image is of split {split!r}; there are {', '.join(there)}: wanted "
                "--split, or --data-path with other images"
            )
        manifest = manifest.split(split)
    if (manifest.targets < 0).all():
        raise InputError(f"{path}: none of the {len(manifest)} images has a target; 'melfast predict' needs none")
    return manifest


def run_of(folder: Path) -> Path:
    """The run that a checkpoint folder is of, or the folder itself where it stands alone."""
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def remarks(answers: Answers, manifest: Manifest, tta: Tta) -> list[str]:
    found = []
    failures = answers.failures
    if tta != "none":
        found.append("the threshold was chosen without --tta")
    if answers.record.threshold is None:
        found.append(f"the checkpoint has no threshold yet (its first epoch was not over): {DEFAULT_THRESHOLD} taken")
    if failures:
        found.append(f"{len(failures)} of {len(manifest)} images left out; the first: {failures[0]}")
    return found


def show(measured: dict[str, Any], title: str) -> None:
    """The table, whole even where the terminal is narrow or none."""
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    console.print(table(measured, title))
    for remark in measured["remarks"]:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
