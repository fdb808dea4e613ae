"""melfast prepare masks."""

from pathlib import Path

import click

from melfast.cli.options import FILE, sweep_options


@click.command("masks")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The manifest to write.")
@click.option(
    "--method",
    type=click.Choice(["lesion", "published", "hair", "skin"]),
    default="lesion",
    show_default=True,
    help="What to mask: see below.",
)
@click.option("--masks-dir", type=FILE, help="Where the masks go.  [default: masks-METHOD beside the output]")
@sweep_options
@click.option("--force", is_flag=True, help="Replace a mask_path that the manifest has, and files in the way.")
def command(
    manifest: Path,
    output: Path,
    method: str,
    masks_dir: Path | None,
    quarantine: Path | None,
    threads: int,
    force: bool,
) -> None:
    """Make a mask (PNG, 255 inside) for each image of MANIFEST; add mask_path.

    \b
    lesion     the lesion: one filled shape
    published  the published method: CLAHE, Otsu and dilations, hair included
    hair       hairs
    skin       clean skin: no lesion, hair, vignette, ruler, ink or glare

    Also adds mask_area (fraction of the image) and mask_method. A bad image keeps its row without
    a mask and is listed in the quarantine table. The same command takes up an interrupted run.

    \b
    Example: melfast prepare masks manifest.csv --output masked.csv --method lesion
    """
    from melfast.cli.quarantine import open_output
    from melfast.data.manifest import read_manifest
    from melfast.io.errors import InputError
    from melfast.io.files import require_new, require_writable
    from melfast.prepare.masks import mask_file, mask_step, with_masks

    rows = read_manifest(manifest)
    if (named := int((rows.column("mask_path") != "").sum())) and not force:
        raise InputError(
            f"{manifest}: {named} images have a mask_path already; --force replaces it (the files it names stay)"
        )
    require_writable(output)
    folder = masks_dir or output.with_name(f"masks-{method}")
    settings = {"masks": method, "folder": str(folder.absolute())}
    with open_output(rows, output, quarantine, "masks", settings, [folder]) as out:
        assert out.journal is not None
        if not force and not out.journal.is_started():  # else the files are ours
            require_new(folder / mask_file(name) for name in rows.image_names)
        swept = out.sweep(mask_step(rows, folder, method), "masking", threads)  # type: ignore[arg-type]
        masked = with_masks(rows, swept, method)  # type: ignore[arg-type]
        empty = int((masked.column("mask_area") == "0.0").sum())
        title = f"{len(rows) - len(swept.bad):,} {method} masks in {folder}"
        out.finish(swept.bad, masked, title, [f"empty: {empty:,}"] if empty else [], swept.resumed)
