"""melfast prepare split."""

from pathlib import Path

import click

from melfast.cli.say import say

FILE = click.Path(path_type=Path)


@click.command("split")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The manifest to write.")
@click.option(
    "--fractions", default="0.7,0.15,0.15", show_default=True, help="Of the labelled images for train, valid and test."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another split.")
@click.option("--force", is_flag=True, help="Replace the split that the manifest has.")
def command(manifest: Path, output: Path, fractions: str, seed: int, force: bool) -> None:
    """Split MANIFEST into train, valid and test.

    Images that share a patient, a lesion or a duplicate group stay together; targets and skin-tone
    groups are spread as evenly as that allows. The same seed gives the same split, whatever the
    order of the rows. Unlabelled images get no split. If MANIFEST has training images and none for
    validation, these are drawn from the training images, and its test images stay.

    \b
    Example: melfast prepare split manifest.csv --output split.csv --fractions 0.8,0.1,0.1
    """
    from melfast.data.manifest import read_manifest, write_manifest
    from melfast.io.errors import InputError
    from melfast.prepare.split import balance, complete_split, lacks_validation, split_manifest, unused_identities

    try:
        wanted = [float(word) for word in fractions.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"expected three numbers as 0.7,0.15,0.15, got {fractions!r}", param_hint="--fractions"
        ) from None
    rows = read_manifest(manifest)
    if (rows.splits != "").any() and not (force or lacks_validation(rows)):
        raise InputError(f"{manifest}: has a split already; --force draws a new one")
    split = (split_manifest if force else complete_split)(rows, wanted, seed)
    lines = balance(split)
    write_manifest(split, output)
    for line in unused_identities(split):
        say(f"warning: {line}", err=True)
    say(f"{output}:")
    for line in lines:
        say(f"  {line}")
