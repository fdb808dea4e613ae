"""melfast report."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.say import say


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
@click.option("--image-column", default="", help="Column of image names.  [default: by its usual name]")
@click.option(
    "--score-column",
    "score_columns",
    multiple=True,
    help="Column of P(malignant); may be given again, one model each.  [default: by its usual name]",
)
@click.option("--call-column", default="", help="Column of the model's calls, 0 or 1.  [default: by its usual name]")
@click.option("--truth-column", default="", help="Column of the truth, 0 or 1.  [default: by its usual name]")
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
    score_columns: tuple[str, ...],
    call_column: str,
    truth_column: str,
) -> None:
    """Say how good models are, for whom and how sure, from PREDICTIONS.

    PREDICTIONS are anybody's tables: image_name and probability, prediction (the model's calls) or both.
    The truth is their column target, or that of the manifest. Probabilities without calls and without
    --threshold give AUC, average precision and calibration alone. The threshold is never chosen on the
    reported images. Writes report.html, metrics.json, tables.csv and the pictures.

    \b
    Examples:
      melfast report predictions.csv --manifest manifest.csv --output report
      melfast report a.csv b.csv --manifest manifest.csv --cross group,sex --output both
      melfast report models.csv --score-column resnet --score-column convnext --threshold 0.3 --output r
    """
    from melfast.io.errors import InputError
    from melfast.io.tables import read_cells
    from melfast.report.predictions import Columns, predictions_of

    if call_column and len(score_columns) > 1:
        raise InputError("--call-column goes with one --score-column: the calls are of one model")
    pairs = []
    for text in crossed:
        first, comma, second = (word.strip() for word in text.partition(","))
        if not (first and comma and second) or "," in second:
            raise InputError(f"--cross {text}: wanted two columns as group,sex")
        pairs.append((first, second))
    if manifest is not None and not manifest.exists():
        raise InputError(f"{manifest}: no such file")
    tables = []
    for path in predictions:  # before all that is slow to import
        cells = read_cells(path)
        tables += [
            predictions_of(cells, Columns(image_column, score, call_column, truth_column))
            for score in score_columns or ("",)
        ]
    from melfast.report.analysis import Settings
    from melfast.report.writing import Wanted, read_any_manifest, run_report

    settings = Settings(level, permutations, seed)
    document = run_report(
        tables,
        output,
        Wanted(names, by, pairs, threshold, title),
        manifest=None if manifest is None else read_any_manifest(manifest),
        settings=settings,
    )
    for remark in document["about"]["remarks"]:
        say(f"note: {remark['text']}")
    for name in ("report.html", "metrics.json", "tables.csv"):
        say(output / name)
