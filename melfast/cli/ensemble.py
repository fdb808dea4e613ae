"""melfast ensemble."""

from pathlib import Path
from typing import Any

import click

from melfast.cli import CONTEXT
from melfast.cli.options import inference_options


@click.command("ensemble", context_settings=CONTEXT)
@click.argument("sources", nargs=-1, required=True, type=Path)
@click.option("--output-dir", required=True, type=Path, help="Where metrics.json and predictions.csv go.")
@click.option(
    "--method",
    type=click.Choice(["mean", "rank-mean"]),
    default="mean",
    show_default=True,
    help="Mean of the probabilities, or of the ranks among these images.",
)
@click.option("--threshold", type=float, help="That calls an image malignant.  [default: by the members']")
@click.option("--data-path", type=Path, help="Of checkpoints: manifest, or data set.")
@click.option("--split", default="test", show_default=True, help="train, valid, test or all.")
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
    """Combine SOURCES into one answer an image.

    SOURCES are tables of predictions, of melfast evaluate or predict, or runs and checkpoints,
    which are run over a split first. Prints a table and writes metrics.json and predictions.csv.

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
