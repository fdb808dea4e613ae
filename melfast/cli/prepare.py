"""melfast prepare: commands that read a source or a manifest and write a manifest."""

import click

from melfast.cli import CONTEXT, LazyGroup

COMMANDS = {
    "all": ("melfast.cli.prepare_all", "Take all steps from a data set to a manifest to train from."),
    "import": ("melfast.cli.prepare_import", "Import a table or a folder as a manifest."),
    "check": ("melfast.cli.prepare_check", "Decode every image; put the bad ones aside."),
    "dedup": ("melfast.cli.prepare_dedup", "Find images that are copies of one picture."),
    "masks": ("melfast.cli.prepare_masks", "Make a mask of the lesion, hair or skin of each image."),
    "ita": ("melfast.cli.prepare_ita", "Estimate skin tone: ITA, group, Fitzpatrick type."),
    "sheet": ("melfast.cli.prepare_sheet", "Show images, regions and skin moved to other tones."),
    "resize": ("melfast.cli.prepare_resize", "Make small working copies to train from."),
    "split": ("melfast.cli.prepare_split", "Split by patient, lesion or image, stratified."),
}


@click.group(cls=LazyGroup, commands=COMMANDS, context_settings=CONTEXT)
def command() -> None:
    """Import, check and split images into a manifest.

    \b
    Example: melfast prepare all data --output manifest.csv
    """
