"""melfast prepare: commands that read images or a manifest and write a manifest."""

import click

from melfast.cli import CONTEXT, LazyGroup

COMMANDS = {
    "all": ("melfast.cli.prepare_all", "Run all steps from a data set to a manifest for training."),
    "import": ("melfast.cli.prepare_import", "Import a table or a folder of images as a manifest."),
    "check": ("melfast.cli.prepare_check", "Decode every image and set the bad ones aside."),
    "dedup": ("melfast.cli.prepare_dedup", "Find copies of the same picture."),
    "masks": ("melfast.cli.prepare_masks", "Make a mask of the lesion, hair or skin in each image."),
    "ita": ("melfast.cli.prepare_ita", "Estimate skin tone: ITA, tone group and Fitzpatrick type."),
    "sheet": (
        "melfast.cli.prepare_sheet",
        "Draw a contact sheet of images, their regions, and their skin in other tones.",
    ),
    "resize": ("melfast.cli.prepare_resize", "Make small copies of the images for training."),
    "split": ("melfast.cli.prepare_split", "Assign images to train, valid and test by patient, lesion or image."),
}


@click.group(cls=LazyGroup, commands=COMMANDS, context_settings=CONTEXT)
def command() -> None:
    """Import, check and split images.

    \b
    Example: melfast prepare all data --output manifest.csv
    """
