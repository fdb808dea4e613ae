"""melfast evaluate."""

from pathlib import Path
from typing import Any

import click

from melfast.cli import CONTEXT
from melfast.cli.options import inference_options


@click.command("evaluate", context_settings=CONTEXT)
@click.option(
    "--checkpoint",
    required=True,
    type=Path,
    help="Evaluate this run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)
@click.option("--data-path", type=Path, help="Evaluate on this manifest or data set.  [default: the run's manifest]")
@click.option("--split", default="test", show_default=True, help="Evaluate on this split: train, valid, test or all.")
@click.option("--output-dir", type=Path, help="Write results to this folder.  [default: RUN/evaluation/SPLIT]")
@click.option(
    "--report/--no-report",
    default=True,
    show_default=True,
    help="Also write the report of `melfast report` to OUTPUT_DIR/report.",
)
@inference_options
def command(
    checkpoint: Path, data_path: Path | None, split: str, output_dir: Path | None, report: bool, **settings: Any
) -> None:
    """Evaluate a trained classifier on one split.

    Prints a table and writes metrics.json, predictions.csv and a report.

    \b
    Examples:
      melfast evaluate --checkpoint runs/first
      melfast evaluate --checkpoint runs/first --data-path other/manifest.csv --split all
      torchrun --nproc-per-node 2 -m melfast evaluate --checkpoint runs/first
    """
    from melfast.cli.measured import show
    from melfast.cli.progress import live_bar
    from melfast.evaluate.run import run_evaluation
    from melfast.models.running import InferenceSettings

    with live_bar() as progress:
        evaluation = run_evaluation(
            checkpoint, data_path, split, output_dir, InferenceSettings(**settings), report=report, progress=progress
        )
    show(evaluation)
