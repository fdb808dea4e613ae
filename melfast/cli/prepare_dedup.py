"""melfast prepare dedup."""

from pathlib import Path

import click

from melfast.cli.options import FILE, sweep_options
from melfast.cli.say import say

SHOWN = 10


@click.command("dedup")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The manifest to write.")
@click.option("--table", type=FILE, help="Known duplicates: columns image_name_1 and image_name_2.")
@click.option("--drop", is_flag=True, help="Write only the rows kept, one of each group.")
@sweep_options
@click.option("--force", is_flag=True, help="Replace the duplicate_group that the manifest has.")
def command(
    manifest: Path, output: Path, table: Path | None, drop: bool, quarantine: Path | None, threads: int, force: bool
) -> None:
    """Find the images of MANIFEST that are copies of one picture.

    Copies have the same bytes, the same pixels, or nearly the same picture: turned, mirrored,
    rescaled, re-encoded, cropped by 5 %. Adds duplicate_group, duplicate_of (the image that is
    kept: labelled, then largest, then first) and duplicate_kind (bytes, pixels, near, table). Two
    photographs of one lesion are no copies. A split never separates a group. The same command takes
    up an interrupted run.

    \b
    Example: melfast prepare dedup manifest.csv --output unique.csv --drop
    """
    from melfast.cli.progress import progress_bar
    from melfast.cli.quarantine import open_output
    from melfast.data.manifest import read_manifest
    from melfast.io.errors import InputError
    from melfast.io.files import require_other
    from melfast.prepare.dedup import (
        THUMBNAIL,
        contradictions,
        duplicates_summary,
        find_duplicates,
        rows_kept,
        table_pairs,
        with_duplicates,
    )

    if drop:
        require_other(output, manifest)
    rows = read_manifest(manifest)
    if (known := int((rows.column("duplicate_group") != "").sum())) and not force:
        raise InputError(f"{manifest}: {known} images have 'duplicate_group' already; --force replaces it")
    listed, unknown = table_pairs(rows, table) if table else ([], 0)
    with open_output(rows, output, quarantine, "dedup", {"pictures": 1}) as out:
        swept = out.sweep(THUMBNAIL, "reading", threads)
        copies = find_duplicates(rows, swept, threads=threads, bar=progress_bar)
        grouped = with_duplicates(rows, copies, listed)
        kept = rows_kept(grouped)
        lines, contrary = duplicates_summary(grouped), contradictions(grouped)
        done = "left out" if drop else "marked"
        title = f"{len(grouped) - len(kept):,} copies among {len(grouped):,} images {done}"
        out.finish(copies.bad, kept if drop else grouped, title, lines, copies.resumed)
    if table:
        say(f"{table}: {len(listed):,} pairs joined")
        if unknown:
            say(f"note: {table}: {unknown:,} pairs name an image that is not in {manifest}", err=True)
    for line in contrary[:SHOWN]:
        say(f"note: targets differ in {line}", err=True)
    if len(contrary) > SHOWN:
        say(f"note: and in {len(contrary) - SHOWN} more groups", err=True)
