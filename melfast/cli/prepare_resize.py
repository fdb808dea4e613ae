"""melfast prepare resize."""

import os
from pathlib import Path

import click

from melfast.cli.options import FILE, sweep_options


@click.command("resize")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The manifest to write.")
@click.option(
    "--size",
    type=click.IntRange(min=8),
    default=288,
    show_default=True,
    help="Pixels of the shorter side; smaller images keep theirs.",
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of the JPEGs.")
@click.option("--copies-dir", type=FILE, help="Where they go.  [default: resized-SIZE beside the output]")
@sweep_options
@click.option("--force", is_flag=True, help="Replace copies that are in the way.")
def command(
    manifest: Path,
    output: Path,
    size: int,
    quality: int,
    copies_dir: Path | None,
    quarantine: Path | None,
    threads: int,
    force: bool,
) -> None:
    """Make a small working copy of each image of MANIFEST, and of its mask, to train from.

    JPEGs, upright, in 256 folders; the manifest points to them, original_path to where they were
    made from. The originals stay as they are. A bad image is left out and listed in the quarantine
    table. The same command takes up an interrupted run.

    \b
    Example: melfast prepare resize manifest.csv --output small.csv --size 288 --quality 95
    """
    from melfast.cli.quarantine import open_output
    from melfast.data.manifest import read_manifest
    from melfast.io.files import require_new, require_writable
    from melfast.prepare.resize import copy_files, resize_step, with_resized

    rows = read_manifest(manifest)
    require_writable(output)
    folder = copies_dir or output.with_name(f"resized-{size}")
    settings = {"size": size, "quality": quality, "folder": str(folder.absolute())}
    with open_output(rows, output, quarantine, "resize", settings, [folder]) as out:
        assert out.journal is not None
        if not force and not out.journal.is_started():  # else the files are ours
            require_new(file for name in rows.image_names for file in copy_files(folder, name))
        swept = out.sweep(resize_step(rows, folder, size, quality), "resizing", threads)
        good = [result for result in swept.results if result is not None]
        num_bytes = sum(os.path.getsize(result["path"]) for result in good)
        title = f"{len(good):,} copies in {folder}, {num_bytes / 2**20:,.1f} MiB"
        out.finish(swept.bad, with_resized(rows, swept), title, [], swept.resumed)
