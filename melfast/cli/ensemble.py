"""melfast ensemble."""

from pathlib import Path
from typing import Any

import click

from melfast.cli import CONTEXT
from melfast.cli.options import inference_options


@click.command("ensemble", context_settings=CONTEXT)
@click.argument("sources", nargs=-1, required=True, type=Path)
@click.option("--output-dir", required=True, type=Path, help="Write metrics.json and predictions.csv to this folder.")
@click.option(
    "--method",
    type=click.Choice(["mean", "rank-mean"]),
    default="mean",
    show_default=True,
    help="Average the probabilities, or the ranks within these images.",
)
@click.option(
    "--threshold",
    type=float,
    help="Call an image malignant from this value upwards.  [default: derived from the members' thresholds]",
)
@click.option("--data-path", type=Path, help="Evaluate checkpoints on this manifest or data set.")
@click.option("--split", default="test", show_default=True, help="Evaluate on this split: train, valid, test or all.")
@inference_options
def command(
    sources: tuple[Path, ...],
    output_dir: Path,
    method: str,
    threshold: float | None,
    data_path: Path | None,
    split: str,
    **settings: Any,
) -> None:
    """Combine SOURCES into one prediction per image.

    SOURCES are tables written by melfast evaluate or predict, or runs and checkpoints, which are
    evaluated on a split first. Prints a table and writes metrics.json and predictions.csv.

    \b
    Examples:
      melfast ensemble runs/a runs/b runs/c --output-dir runs/three
      melfast ensemble a.csv b.csv --method rank-mean --output-dir both
    """
    from melfast.cli.measured import show
    from melfast.cli.progress import live_bar
    from melfast.evaluate.ensemble import run_ensemble
    from melfast.models.running import InferenceSettings

    with live_bar() as progress:
        evaluation = run_ensemble(
            sources,
            output_dir,
            method=method,  # type: ignore[arg-type]
            threshold=threshold,
            data_path=data_path,
            split=split,
            settings=InferenceSettings(**settings),
            progress=progress,
        )
    show(evaluation)
