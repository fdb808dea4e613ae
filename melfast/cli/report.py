"""melfast report."""

from pathlib import Path

import click

from melfast.cli import CONTEXT


@click.command("report", context_settings=CONTEXT)
@click.argument("predictions", nargs=-1, required=True, type=Path)
@click.option("--manifest", type=Path, help="Truth, groups and patients: manifest, or data set.")
@click.option("--output", required=True, type=Path, help="The folder to write.")
@click.option("--name", "names", multiple=True, help="Of each model.  [default: the file's]")
@click.option(
    "--by", multiple=True, help="Column to compare by; may be given again.  [default: tone group, sex, age, site]"
)
@click.option("--cross", "crossed", multiple=True, metavar="A,B", help="Two columns to compare by, crossed.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="On P(malignant), chosen on other images.  [default: the tables' own calls]",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Of the groups, to test the gaps.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--title", default="", help="Of the page.")
@click.option("--image-column", default="", help="Of the tables, where it has no usual name.")
@click.option("--score-column", default="", help="P(malignant), likewise.")
@click.option("--call-column", default="", help="The calls, 0 or 1, likewise.")
def command(
    predictions: tuple[Path, ...],
    manifest: Path | None,
    output: Path,
    names: tuple[str, ...],
    by: tuple[str, ...],
    crossed: tuple[str, ...],
    threshold: float | None,
    level: float,
    permutations: int,
    seed: int,
    title: str,
    image_column: str,
    score_column: str,
    call_column: str,
) -> None:
    """Say how good models are, for whom and how sure, from PREDICTIONS.

    PREDICTIONS are tables of anybody's: image_name and probability, or calls alone. Writes
    report.html, metrics.json, tables.csv and the pictures. The threshold is never chosen on the
    reported images.

    \b
    Examples:
      melfast report predictions.csv --manifest manifest.csv --output report
      melfast report a.csv b.csv --manifest manifest.csv --cross group,sex --output both
    """
    from melfast.io.errors import InputError
    from melfast.report.analysis import Settings
    from melfast.report.predictions import read_predictions
    from melfast.report.writing import read_any_manifest, run_report

    pairs = []
    for text in crossed:
        first, comma, second = (word.strip() for word in text.partition(","))
        if not (first and comma and second) or "," in second:
            raise InputError(f"--cross {text}: wanted two columns as group,sex")
        pairs.append((first, second))
    tables = [
        read_predictions(path, name_column=image_column, score_column=score_column, call_column=call_column)
        for path in predictions
    ]
    settings = Settings(level, permutations, seed)
    document = run_report(
        tables,
        output,
        names=names,
        manifest=None if manifest is None else read_any_manifest(manifest),
        by=by,
        crossed=pairs,
        threshold=threshold,
        settings=settings,
        title=title,
        say=lambda line: click.echo(line, err=True),
    )
    for remark in document["about"]["remarks"]:
        click.echo(f"note: {remark}")
    click.echo(f"{output / 'report.html'}\n{output / 'metrics.json'}\n{output / 'tables.csv'}")
