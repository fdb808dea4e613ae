"""melfast synth."""

from pathlib import Path

import click

from melfast.cli.say import say

FILE = click.Path(path_type=Path)


@click.command("synth")
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--images", type=int, required=True, help="Draw this number of images.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the random draws; the same seed draws the same images.",
)
@click.option(
    "--size", default="600x450", show_default=True, metavar="WxH", help="Size of the images in pixels, width x height."
)
@click.option(
    "--malignant", type=float, default=0.3, show_default=True, help="Fraction of the lesions that are malignant."
)
@click.option(
    "--groups",
    type=click.Choice(["six", "four"]),
    default="six",
    show_default=True,
    help="Number of skin-tone groups in the table.",
)
@click.option("--sheet", type=FILE, help="Also draw a contact sheet from light to dark skin (PNG or JPEG).")
@click.option("--threads", "--workers", type=int, help="Number of processes.  [default: all cores]")
@click.option("--overwrite", is_flag=True, help="Write into a folder that contains other files.")
def command(
    folder: Path,
    images: int,
    seed: int,
    size: str,
    malignant: float,
    groups: str,
    sheet: Path | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Draw synthetic dermoscopic images with known truth into DIR.

    Writes images/*.jpg, exact lesion masks in masks/*.png, and labels.csv with class, patient,
    lesion, true ITA and tone group of each image. labels.csv is a manifest, and `melfast prepare
    import DIR` can read it. The six tone groups are equally frequent. The same seed gives the same images.

    \b
    Example: melfast synth data --images 800 --sheet sheet.png
    """
    from melfast.cli.progress import progress_bar
    from melfast.io.contact_sheet import check_sheet_path
    from melfast.prepare.synth import SynthSettings, synthesize, write_sheet

    settings = SynthSettings(images, seed, _parse_size(size), malignant, groups)  # type: ignore[arg-type]
    if sheet:
        check_sheet_path(sheet)
    with progress_bar("drawing", images) as advance:
        manifest = synthesize(folder, settings, workers=threads, overwrite=overwrite, progress=advance)
    count = int(manifest.targets.sum())
    patients = len(set(manifest.column("patient_id")))
    say(f"{manifest.path}: {images:,} images of {patients:,} patients, {count:,} of them malignant")
    if sheet:
        write_sheet(manifest, sheet)
        say(f"{sheet}: contact sheet")


def _parse_size(text: str) -> tuple[int, int]:
    from melfast.io.errors import InputError

    width, x, height = text.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size must be WIDTHxHEIGHT as in 600x450, got {text!r}")
    return int(width), int(height)
