"""melfast evaluate."""

from pathlib import Path

import click

from melfast.cli import CONTEXT


@click.command("evaluate", context_settings=CONTEXT)
@click.option(
    "--checkpoint", required=True, type=Path,
    help="Run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)  # fmt: skip
@click.option(
    "--data-path", type=Path, help="Manifest, or data set; the run's own manifest without it."
)
@click.option("--split", default="test", show_default=True, help="train, valid, test or all.")
@click.option("--output-dir", type=Path, help="Without it, RUN/evaluation/SPLIT.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--loader", type=click.Choice(["auto", "native", "dali-cpu", "dali-gpu"]), default="auto",
    help="What makes the batches.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Loader threads; 0: auto.")
@click.option("--on-error", type=click.Choice(["raise", "skip"]), default="raise")
def command(**options: object) -> None:
    """Measure a trained classifier on a split.

    Prints a table and writes metrics.json and predictions.csv.

    \b
    Examples:
      melfast evaluate --checkpoint runs/first
      melfast evaluate --checkpoint runs/first --data-path other/manifest.csv --split all
      torchrun --nproc-per-node 2 -m melfast evaluate --checkpoint runs/first
    """
    from melfast.evaluate.run import run_evaluation

    run_evaluation(**options)  # type: ignore[arg-type]
