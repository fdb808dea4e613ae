"""melfast prepare sheet."""

from pathlib import Path

import click

from melfast.cli.say import say

FILE = click.Path(path_type=Path)


@click.command("sheet")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The picture to write: PNG or JPEG.")
@click.option(
    "--images", type=click.IntRange(min=1), default=8, show_default=True, help="How many, evenly over the manifest."
)
@click.option(
    "--targets",
    default="55,30,10,-30",
    show_default=True,
    help="ITA in -60..75 degrees to move the skin to, one column each.",
)
@click.option(
    "--method",
    type=click.Choice(["exact", "published"]),
    default="exact",
    show_default=True,
    help="Skin-former: to the measured target along human skin colours, or the published steps.",
)
def command(manifest: Path, output: Path, images: int, targets: str, method: str) -> None:
    """Show images of MANIFEST, the regions found in them, and the skin moved to other tones.

    Red is lesion, green hair, blue ruler and ink, white glare, dark vignette, grey what is too near
    one of them; the rest is skin. Under each picture stands the ITA measured in it.

    \b
    Example: melfast prepare sheet manifest.csv --output sheet.png --targets 40,-30
    """
    from melfast.cli.progress import progress_bar
    from melfast.data.manifest import read_manifest
    from melfast.prepare.skin_sheet import draw_sheet
    from melfast.skin.locus import ITA_RANGE

    low, high = ITA_RANGE
    try:
        degrees = [float(word) for word in targets.split(",")]
    except ValueError:
        degrees = []
    if not degrees or not all(low <= value <= high for value in degrees):
        raise click.BadParameter(
            f"expected degrees in {low:g}..{high:g} as 55,30,-30, got {targets!r}", param_hint="--targets"
        )
    rows = read_manifest(manifest)
    with progress_bar("moving skin", min(images, len(rows))) as advance:
        bad = draw_sheet(rows, output, degrees, method, images, advance)  # type: ignore[arg-type]
    for name, _, reason in bad:
        say(f"bad: {name}: {reason}", err=True)
    shown = f" of {min(images, len(rows))}" if bad else ""
    say(f"{output}: {min(images, len(rows)) - len(bad)}{shown} images")
