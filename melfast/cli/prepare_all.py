"""melfast prepare all."""

import time
from pathlib import Path
from typing import Any

import click

from melfast.cli.options import FILE, sweep_options
from melfast.cli.prepare_import import as_note, import_from, import_options
from melfast.cli.say import say

# Each is a key of the config's section `prepare`.
CHOICES = {
    "mask_method": (["lesion", "published", "hair", "skin"], "Choose what to mask."),
    "convention": (["cielab", "published"], "Compute true ITA, or the published method's 8-bit numbers."),
    "tone_groups": (["six", "four"], "Choose the ITA groups; four merges tan, brown and dark."),
    "fitzpatrick": (
        ["kinyanjui_groh", "groh_empirical", "published_three"],
        "Choose the map from ITA to Fitzpatrick type, by source.",
    ),
}
OTHERS = ("min_quality", "size", "quality", "fractions", "seed", "masks_dir", "copies_dir")
STEPS = {
    "check": "Set aside unreadable images.",
    "dedup": "Find copies of one picture.",
    "masks": "Make lesion masks.",
    "ita": "Estimate skin tone: ITA, group, Fitzpatrick type.",
    "resize": "Make small working copies to train from.",
    "split": "Split by patient, lesion or image.",
}


def _options(function: Any) -> Any:
    """An option for each key, None where it is not given."""
    options = [click.option(f"--{name}/--no-{name}", default=None, help=text) for name, text in STEPS.items()]
    options.append(
        click.option("--drop-copies", is_flag=True, default=None, help="Leave duplicates out of the manifest.")
    )
    for name, (words, text) in CHOICES.items():
        options.append(click.option(f"--{name.replace('_', '-')}", type=click.Choice(words), help=text))
    options += [
        click.option("--min-quality", type=float, help="Leave group and type empty if ita_quality is lower."),
        click.option("--size", type=int, help="Set the shorter side of the working copies in pixels.  [default: 288]"),
        click.option("--quality", type=int, help="Set the JPEG quality of the working copies.  [default: 95]"),
        click.option("--fractions", help="Set the fractions of train, valid and test.  [default: 0.7,0.15,0.15]"),
        click.option("--seed", type=int, help="Set the random seed of the split."),
        click.option("--masks-dir", help="Write the masks here.  [default: masks-METHOD beside the output]"),
        click.option("--copies-dir", help="Write the working copies here.  [default: resized-SIZE beside the output]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("all")
@click.argument("data", type=FILE)
@click.option("--output", type=FILE, required=True, help="Write this manifest.")
@import_options
@click.option("--config", "config_path", type=FILE, help="YAML file; its section `prepare` has these settings.")
@_options
@sweep_options
@click.option("--force", is_flag=True, help="Overwrite existing columns and files.")
def command(
    data: Path, output: Path, config_path: Path | None, quarantine: Path | None, threads: int, force: bool, **given: Any
) -> None:
    """Prepare DATA, a data set or a manifest, for training: all steps, each image decoded once.

    Runs import, check, dedup, masks, ita, resize and split, exactly like the single commands. Each
    can be switched off (--no-masks), or set in the section `prepare` of a YAML file; options
    override the file. Steps whose columns the table already has are skipped, with a note. Bad
    images are listed with reasons in a table (--quarantine). Rerun the command to resume an
    interrupted run.

    \b
    Examples:
      melfast prepare all data/ham10000 --output ham10000.csv
      melfast prepare all photos --output manifest.csv --no-masks --no-resize --fractions 0.8,0.1,0.1
    """
    from melfast.cli.progress import progress_bar
    from melfast.cli.quarantine import open_output
    from melfast.config.loading import Override
    from melfast.config.schema import load_config
    from melfast.prepare.all import plan_steps, prepare
    from melfast.prepare.sources import import_summary

    begun = time.monotonic()
    overrides = []
    for key in (*STEPS, "drop_copies", *CHOICES, *OTHERS):
        value = given.pop(key)
        if value is not None:
            option = f"--{'no-' if value is False else ''}{key.replace('_', '-')}"
            overrides.append(Override(f"prepare.{key}", _numbers(value) if key == "fractions" else value, option))
    config = load_config(config_path, overrides)[0].prepare
    found = import_from(data, output, given)
    figures = import_summary(found, found.manifest)
    plan = plan_steps(found.manifest, output, config, force=force)
    with open_output(plan.rows, output, quarantine, "all", plan.settings, plan.folders) as out:
        assert out.journal is not None
        out.journal.read()  # refuse bad settings before files in the way
        if not force and not out.journal.is_started():  # else the files are ours
            plan.require_new_files()
        prepared = prepare(plan, threads=threads, journal=out.journal, bar=progress_bar)
        for note in prepared.notes:
            say(as_note(note), err=True)
        took = time.monotonic() - begun
        imported = [("import", f"{found.kind}; {'; '.join(f'{what} {counts}' for what, counts in figures)}")]
        lines = [f"{step:<7} {text}" for step, text in imported + prepared.summary]
        lines.append(f"{'time':<7} {_duration(took)}, {len(plan.rows) / took:,.1f} images/s")
        title = f"{len(prepared.manifest):,} images of {data}"
        out.finish(prepared.bad, prepared.manifest, title, lines, prepared.resumed)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"expected three numbers as 0.7,0.15,0.15, got {text!r}", param_hint="--fractions"
        ) from None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
