"""melfast prepare import."""

from pathlib import Path
from typing import Any

import click

KINDS = ("auto", "isic2020-full", "ham10000", "isic2020", "kaggle", "isic-archive", "csv", "folder", "images")
FOLDER = click.Path(path_type=Path)


@click.command("import")
@click.argument("source", type=FOLDER)
@click.option("--output", type=FOLDER, required=True, help="The manifest to write.")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="What the source is; auto goes by header and folders.",
)
@click.option("--images", type=FOLDER, help="Folder of a table's images.  [default: beside it]")
@click.option("--masks", type=FOLDER, help="Folder of their lesion masks.  [default: beside them]")
@click.option("--no-images", is_flag=True, help="Import a table alone, without paths.")
@click.option(
    "--on-missing",
    type=click.Choice(("error", "drop")),
    default="error",
    show_default=True,
    help="What to do with listed images that have no file.",
)
def command(source: Path, output: Path, no_images: bool, **options: Any) -> None:
    """Import SOURCE, a table or a folder, as a manifest.

    Known are the HAM10000 metadata (target: melanoma), the ISIC 2020 ground truth, Kaggle's
    train.csv, the published ISIC_2020_full.csv, the metadata.csv of `isic image download` (target:
    melanoma), any CSV with image_name or path and perhaps a target (0, 1, benign, malignant), class
    folders ([train|valid|test/]{benign,malignant}/) and bare folders of images. A folder with
    labels.csv is imported by that table. Masks are paired by name: x.png, x_mask.jpg and
    x_segmentation.png belong to image x.

    With --on-missing drop, the images that were left out are listed beside the output, in
    NAME.missing.csv.

    \b
    Example: melfast prepare import data/ham10000 --output ham10000.csv
    """
    from melfast.data.manifest import write_manifest
    from melfast.io.errors import printable
    from melfast.io.files import require_other, require_own_table, require_writable
    from melfast.prepare.sources import MISSING_COLUMNS, import_dataset, summary, write_missing

    found = import_dataset(source, require_images=not no_images, **options)
    require_other(output, found.manifest.path)
    figures = summary(found.manifest)  # which may find fault with the table
    require_writable(output)
    listed = output.with_name(f"{output.stem}.missing.csv")
    if found.dropped:
        require_own_table(listed, MISSING_COLUMNS)
        write_missing(found.dropped, listed)
    write_manifest(found.manifest, output)
    for note in found.notes:
        click.echo(f"note: {printable(note)}", err=True)
    if found.dropped:
        click.echo(f"note: they are listed in {listed}", err=True)
    click.echo(f"{output}: imported {source} as {found.kind}")
    for what, counts in figures:
        click.echo(f"  {what:<9} {counts}")
