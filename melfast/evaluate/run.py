"""An evaluation from checkpoint and data to table and files."""

from pathlib import Path
from typing import Any, Literal

import click
import torch
from rich.console import Console
from rich.progress import Progress

from melfast.data.loader import LoaderName, OnError, choose_loader
from melfast.errors import InputError
from melfast.evaluate.infer import BATCH_SIZE, infer
from melfast.evaluate.report import Scored, measure, table, write_metrics, write_predictions
from melfast.manifest import SPLITS, Manifest, read_manifest
from melfast.models.record import ModelRecord
from melfast.prepare.sources import import_source
from melfast.train.checkpoint import find_checkpoint, load_model
from melfast.train.data import MANIFEST, is_manifest
from melfast.train.distributed import start_world
from melfast.train.feed import Precision, set_threads

DEFAULT_THRESHOLD = 0.5


def run_evaluation(
    checkpoint: Path, data_path: Path | None = None, split: str = "test",
    output_dir: Path | None = None, *, device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "fp32", batch_size: int = BATCH_SIZE, loader: LoaderName = "auto",
    threads: int = 0,
    on_error: OnError = "raise",
) -> None:  # fmt: skip
    """Measures a model, prints a table and writes `metrics.json` and `predictions.csv`.

    Under torchrun every process calls it, and the first alone prints and writes.

    Args:
        checkpoint: a run, a checkpoint folder or a file in one.
        data_path: a manifest or a data set; None: the run's own manifest.
        split: train, valid, test, or all.
        output_dir: None: RUN/evaluation/SPLIT.
    Raises:
        InputError: the checkpoint, the data or an image cannot be used.
    """
    with start_world(device) as world:
        set_threads(0, world)
        name, why = choose_loader(loader, world.device.type)
        if world.first:
            click.echo(f"loader: {name} ({why})", err=True)
        folder = find_checkpoint(checkpoint)
        model, record = load_model(folder)
        manifest = world.first_does(lambda: read_split(folder, data_path, split))
        with Progress(console=Console(stderr=True), transient=True, disable=not world.first) as bar:
            task = bar.add_task("evaluate", total=len(manifest) / world.size)
            found = infer(
                model.to(world.device).to(memory_format=torch.channels_last),
                manifest.image_paths, record.preprocess, world, masks=manifest.lesion_masks,
                checked=manifest.checked, loader=loader,
                batch_size=batch_size, precision=precision, threads=threads, on_error=on_error,
                advance=lambda images: bar.advance(task, images),
            )  # fmt: skip
        if not world.first:
            return
        kept = manifest.select(found.index)
        score = found.probabilities(record, kept.groups_by(record.groups))
        scored = Scored(kept.image_names, kept.targets, score, kept.groups, kept.group_names)
        threshold = DEFAULT_THRESHOLD if record.threshold is None else record.threshold
        measured = measure(scored, threshold)
        measured["remarks"] += remarks(record, manifest, [str(f) for f in found.failures])
        output = output_dir or run_of(folder) / "evaluation" / split
        write_predictions(output / "predictions.csv", scored, threshold)
        about = {"checkpoint": str(folder), "data": str(data_path or run_of(folder) / MANIFEST),
                 "split": split, "threshold": threshold, "threshold_rule": record.threshold_rule,
                 "left_out": [str(failure) for failure in found.failures]}  # fmt: skip
        write_metrics(output / "metrics.json", about | measured)
        show(measured, f"{folder}, split {split}, threshold {threshold:.4f}")
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
        manifest = manifest.split(split)
    if (manifest.targets < 0).all():
        raise InputError(
            f"{path}: none of the {len(manifest)} images has a target; 'melfast predict' needs none"
        )
    return manifest


def run_of(folder: Path) -> Path:
    """The run that a checkpoint folder is of, or the folder itself where it stands alone."""
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def remarks(record: ModelRecord, manifest: Manifest, failures: list[str]) -> list[str]:
    found = []
    if record.threshold is None:
        found.append(
            f"the checkpoint has no threshold yet (its first epoch was not over): "
            f"{DEFAULT_THRESHOLD} taken"
        )
    if failures:
        found.append(
            f"{len(failures)} of {len(manifest)} images left out; the first: {failures[0]}"
        )
    return found


def show(measured: dict[str, Any], title: str) -> None:
    """The table, whole even where the terminal is narrow or none."""
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    console.print(table(measured, title))
    for remark in measured["remarks"]:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
