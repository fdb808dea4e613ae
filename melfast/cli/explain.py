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
    help="Explain this run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)
@click.option(
    "--images", help="Explain these images: a folder, one file, or a quoted pattern.  [default: images of --split]"
)
@click.option(
    "--data-path", type=Path, help="Take the images from this manifest or data set.  [default: the run's manifest]"
)
@click.option(
    "--split", default="test", show_default=True, help="Take the images of this split: train, valid, test or all."
)
@click.option("--name", "names", multiple=True, help="Explain the image with this image_name; may be repeated.")
@click.option(
    "--n",
    "count",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Explain at most this number of images, half of them malignant.",
)
@click.option("--output", required=True, type=Path, help="Write the overlaid images to this folder.")
def command(
    checkpoint: Path,
    images: str | None,
    data_path: Path | None,
    split: str,
    names: tuple[str, ...],
    count: int,
    output: Path,
) -> None:
    """Show which parts of an image led the model to its answer.

    Writes each image with a heat map on top, and sheet.png with all of them, P(malignant) and the
    truth. Convolutional networks use Grad-CAM, vision transformers the gradients of their tokens.
    A map shows what influenced this model, not what is malignant.

    \b
    Examples:
      melfast explain --checkpoint runs/first --output maps
      melfast explain --checkpoint runs/first --images photos --output maps
    """
    from melfast.evaluate.explain import run_explain

    for line in run_explain(checkpoint, output, images, data_path, split, names, count):
        say(line)
