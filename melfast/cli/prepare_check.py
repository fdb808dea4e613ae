"""melfast prepare check."""

from pathlib import Path

import click

from melfast.cli.options import FILE, sweep_options
from melfast.cli.say import say


@click.command("check")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, help="Write the manifest of the good images, with their sizes.")
@sweep_options
@click.pass_context
def command(ctx: click.Context, manifest: Path, output: Path | None, quarantine: Path | None, threads: int) -> None:
    """Decode every image and mask of MANIFEST to its end; put the bad ones aside.

    Bad images are listed with reasons in a table (--quarantine); nothing is deleted. The exit code
    is 0 when all images are good, or when the good ones were written to --output; else 1.

    \b
    Example: melfast prepare check manifest.csv --output good.csv
    """
    from melfast.cli.quarantine import open_output
    from melfast.data.manifest import read_manifest, write_manifest
    from melfast.io.files import require_other
    from melfast.prepare.check import CHECK, checked_rows, manifest_remarks

    if output:
        require_other(output, manifest)
    rows = read_manifest(manifest)
    with open_output(rows, output, quarantine) as out:
        checked = checked_rows(rows, out.sweep(CHECK, "checking", threads))
        out.put_aside(checked.bad)
        for note in manifest_remarks(checked.good, checked.profiles):
            say(f"note: {note}", err=True)
        if output:
            write_manifest(checked.good, output)
    written = f"; {output} holds the good ones" if output else ""
    say(f"{manifest}: {len(checked.good):,} images good, {len(checked.bad):,} bad{written}")
    if checked.bad:
        say(f"{out.quarantine} lists the bad ones")
        if not output:
            ctx.exit(1)
