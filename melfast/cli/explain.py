"""melfast explain."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.say import say


@click.command("explain", context_settings=CONTEXT)
@click.option(
    "--checkpoint",
    required=True,
    type=Path,
    help="Run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)
@click.option("--images", help="Folder, one file, or a quoted pattern; else those of a split.")
@click.option("--data-path", type=Path, help="Manifest, or data set; the run's own without it.")
@click.option("--split", default="test", show_default=True, help="train, valid, test or all.")
@click.option("--name", "names", multiple=True, help="An image_name; may be given again.")
@click.option(
    "--n",
    "count",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="At most so many images, half of them malignant.",
)
@click.option("--output", required=True, type=Path, help="Folder of the overlaid pictures.")
def command(
    checkpoint: Path,
    images: str | None,
    data_path: Path | None,
    split: str,
    names: tuple[str, ...],
    count: int,
    output: Path,
) -> None:
    """Show where in images the evidence for malignant lies.

    Writes each image with a map laid over it, and sheet.png of all, with P(malignant) and the
    truth. Grad-CAM of convolutional networks, a map of gradients by token of vision transformers.
    A map says what moved this model's answer, not what is malignant.

    \b
    Examples:
      melfast explain --checkpoint runs/first --output maps
      melfast explain --checkpoint runs/first --images photos --output maps
    """
    from melfast.evaluate.explain import run_explain

    for line in run_explain(checkpoint, output, images, data_path, split, names, count):
        say(line)
