"""melfast prepare ita."""

from pathlib import Path

import click

from melfast.cli.options import FILE, sweep_options


@click.command("ita")
@click.argument("manifest", type=FILE)
@click.option("--output", type=FILE, required=True, help="The manifest to write.")
@click.option(
    "--convention",
    type=click.Choice(["cielab", "published"]),
    default="cielab",
    show_default=True,
    help="True ITA, or the published method's 8-bit numbers.",
)
@click.option(
    "--tone-groups",
    type=click.Choice(["six", "four"]),
    default="six",
    show_default=True,
    help="Groups of ITA; four: tan, brown and dark are one.",
)
@click.option(
    "--fitzpatrick",
    type=click.Choice(["kinyanjui_groh", "groh_empirical", "published_three"]),
    default="kinyanjui_groh",
    show_default=True,
    help="ITA to Fitzpatrick type, by source.",
)
@click.option(
    "--min-quality",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave group and type empty where ita_quality is lower.",
)
@sweep_options
@click.option("--force", is_flag=True, help="Replace what the manifest has in these columns.")
def command(
    manifest: Path,
    output: Path,
    convention: str,
    tone_groups: str,
    fitzpatrick: str,
    min_quality: float,
    quarantine: Path | None,
    threads: int,
    force: bool,
) -> None:
    """Estimate the skin tone of each image of MANIFEST: ITA, group and Fitzpatrick type.

    Adds ita (degrees), ita_quality (0 to 1), ita_doubts (why the number may be wrong), group,
    group_str, fitzpatrick, the dominant skin colour and the settings. Where no skin is visible ita
    is empty. The columns are those, skin_fraction, skin_l, skin_a, skin_b (CIELAB), skin_red,
    skin_green, skin_blue and the settings. A bad image keeps its row and is listed in the
    quarantine table. The same command takes up an interrupted run.

    \b
    Example: melfast prepare ita manifest.csv --output toned.csv --min-quality 0.3
    """
    from melfast.cli.quarantine import open_output
    from melfast.data.manifest import read_manifest
    from melfast.io.errors import InputError
    from melfast.prepare.ita import FILLED, ToneSettings, tone_step, tones_summary, with_tones

    settings = ToneSettings(convention, tone_groups, fitzpatrick, min_quality)  # type: ignore[arg-type]
    rows = read_manifest(manifest)
    for name in FILLED:
        if (known := int((rows.column(name) != "").sum())) and not force:
            raise InputError(f"{manifest}: {known} images have {name!r} already; --force replaces it")
    with open_output(rows, output, quarantine, "ita", {"ita": convention}) as out:
        swept = out.sweep(tone_step(settings.ita_convention), "estimating", threads)
        toned = with_tones(rows, swept, settings)
        title = f"skin tone of {len(rows) - len(swept.bad):,} images"
        out.finish(swept.bad, toned, title, tones_summary(toned, settings), swept.resumed)
