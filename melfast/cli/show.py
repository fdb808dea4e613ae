"""melfast show."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import config_options
from melfast.cli.say import say
from melfast.config.loading import Override


@click.command("show", context_settings=CONTEXT)
@click.argument("manifest", type=Path)
@click.option("--output", type=Path, required=True, help="Write the contact sheet to this file: PNG or JPEG.")
@click.option(
    "--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Show this epoch; the first is 0."
)
@click.option(
    "--n",
    "images",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Show at most this number of images.",
)
@click.option("--columns", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images per row.")
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    default="train",
    show_default=True,
    help="Show this split; train is sampled and augmented, the others are shown as in evaluation.",
)
@config_options(
    ("--batch-size", "train.batch_size", int, "Number of images per step, over all processes."),
    ("--seed", "train.seed", int, "Seed of the image order and the augmentation."),
)
def command(
    manifest: Path,
    output: Path,
    epoch: int,
    images: int,
    columns: int,
    split: str,
    config_path: Path | None,
    overrides: list[Override],
) -> None:
    """Draw a contact sheet of the images of MANIFEST that the model will see in one epoch.

    The images are augmented and in training order, exactly as training with the same config sees
    them. The captions give class, tone group and ITA; `to` is the ITA after the skin-former.

    \b
    Example: melfast show manifest.csv --config configs/ham10000.yaml --epoch 0 --output sheet.png
    """
    from melfast.cli.progress import progress_bar
    from melfast.config.schema import load_config
    from melfast.data.manifest import read_manifest
    from melfast.train.preview import draw_preview

    config, _ = load_config(config_path, overrides)
    rows = read_manifest(manifest)
    with progress_bar("drawing", min(images, len(rows))) as advance:
        shown, failures = draw_preview(
            rows, config, output, split=split, epoch=epoch, images=images, columns=columns, progress=advance
        )
    for failure in failures:
        say(f"bad: {failure}", err=True)
    say(f"{output}: {shown} images")
