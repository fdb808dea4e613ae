"""melfast prepare import."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melfast.cli.say import say
from melfast.prepare.datasets import DATASETS

if TYPE_CHECKING:
    from melfast.prepare.sources import Imported

FOLDER = click.Path(path_type=Path)


def show_data_sets(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Prints the known data sets, one per line."""
    if not value or context.resilient_parsing:
        return
    for kind, data_set in DATASETS.items():
        say(f"{kind:<18} {data_set.title}")
        if data_set.header:
            target = {"target": "its own column", "": "its own labels"}.get(data_set.target, data_set.target)
            say(f"{'':<18} table with {', '.join(data_set.header)}; target: {target}")
    context.exit()


def import_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands that import."""
    for option in reversed(
        [
            click.option(
                "--kind",
                type=click.Choice(("auto", *DATASETS)),
                metavar="KIND",
                default="auto",
                show_default=True,
                help="Name the data set (see import --list); auto goes by header and folders.",
            ),
            click.option(
                "--images", type=FOLDER, help="Look for the images of a table in this folder.  [default: beside it]"
            ),
            click.option(
                "--on-missing",
                type=click.Choice(("error", "drop")),
                default="error",
                show_default=True,
                help="Choose what happens to listed images that have no file.",
            ),
            click.option(
                "--target",
                "--target-column",
                metavar="melanoma|malignant|COLUMN|MAP.yaml",
                help="Choose what the target is: a class by diagnosis, a column, or a YAML file of DIAGNOSIS: 0 or 1.",
            ),
            click.option("--positive", metavar="WORD,WORD", help="Name the words of the target's column that mean 1."),
            click.option(
                "--image-column",
                "image",
                metavar="COLUMN",
                help="Name the column of image names or files.  [default: image_name, isic_id, file, …]",
            ),
            click.option(
                "--patient-column",
                metavar="COLUMN",
                help="Name the column of patients.  [default: patient_id, Patient, …]",
            ),
            click.option(
                "--lesion-column", metavar="COLUMN", help="Name the column of lesions.  [default: lesion_id, Lesion, …]"
            ),
            click.option("--unlabelled", is_flag=True, help="Import images without labels, for prediction."),
        ]
    ):
        function = option(function)
    return function


def as_note(text: str) -> str:
    """A line for stderr."""
    return text if text.startswith("warning: ") else f"note: {text}"


def import_from(source: Path, output: Path, options: dict[str, Any]) -> "Imported":
    """Imports by the options, for an output, and says what the user should know; lists images without a file."""
    from melfast.io.files import require_other, require_own_table, require_writable
    from melfast.prepare.importers import Choice
    from melfast.prepare.sources import MISSING_COLUMNS, import_dataset, write_missing

    choice = Choice(
        options.pop("target"),
        tuple(word.strip() for word in (options.pop("positive") or "").split(",") if word.strip()),
        options.pop("image"),
        options.pop("patient_column"),
        options.pop("lesion_column"),
        options.pop("unlabelled"),
    )
    unpack = output.with_name(f"{output.stem}.images")
    found = import_dataset(source, choice=choice, unpack=unpack, **options)
    require_other(output, found.manifest.path)
    require_writable(output)
    listed = output.with_name(f"{output.stem}.missing.csv")
    if found.dropped:
        require_own_table(listed, MISSING_COLUMNS)
        write_missing(found.dropped, listed)
    for note in found.notes:
        say(as_note(note), err=True)
    if found.dropped:
        say(f"note: they are listed in {listed}", err=True)
    return found


@click.command("import")
@click.argument("source", type=FOLDER)
@click.option("--output", type=FOLDER, required=True, help="The manifest to write.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=show_data_sets, help="List the data sets known."
)
@click.option("--masks", type=FOLDER, help="Look for their lesion masks in this folder.  [default: beside them]")
@click.option("--no-images", is_flag=True, help="Import a table alone, without paths.")
@import_options
def command(source: Path, output: Path, no_images: bool, **options: Any) -> None:
    """Import SOURCE, a table or a folder, as a manifest.

    All data sets of --list are recognised by their tables or folders, and any table with a column of
    image names or files, and perhaps labels (0, 1, benign, malignant) or diagnoses: CSV, JSON lines
    or Excel. Diagnoses get the names of the ISIC Archive in column `diagnosis`; the words of the
    source stay in `diagnosis_source`. The target is melanoma where the diagnoses are known.

    Masks are paired by name: x.png, x_mask.jpg and x_segmentation.png belong to image x. With
    --on-missing drop, the images that were left out are listed beside the output, in
    NAME.missing.csv. Images that are packed in HDF5 are unpacked beside the output, into NAME.images.

    \b
    Example: melfast prepare import data/ham10000 --output ham10000.csv
             melfast prepare import labels.csv --images photos --target dx --positive mel --output m.csv
    """
    from melfast.data.manifest import write_manifest
    from melfast.prepare.sources import import_summary

    found = import_from(source, output, {"require_images": not no_images, **options})
    figures = import_summary(found, found.manifest)
    write_manifest(found.manifest, output)
    say(f"{output}: imported {source} as {found.kind}")
    for what, counts in figures:
        say(f"  {what:<9} {counts}")
