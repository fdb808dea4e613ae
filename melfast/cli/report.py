"""melfast report."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.say import say


@click.command("report", context_settings=CONTEXT)
@click.argument("predictions", nargs=-1, required=True, type=Path)
@click.option("--manifest", type=Path, help="Read the truth, groups and patients from this manifest or data set.")
@click.option("--output", required=True, type=Path, help="Write the report to this folder.")
@click.option(
    "--name", "names", multiple=True, help="Name of each model; give it once per model.  [default: the file name]"
)
@click.option(
    "--by",
    multiple=True,
    help="Compare the groups in this column; may be repeated.  [default: tone group, sex, age, site]",
)
@click.option(
    "--cross",
    "crossed",
    multiple=True,
    metavar="A,B",
    help="Compare the combinations of two columns, for example group,sex; may be repeated.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Call images malignant from this P(malignant) upwards; choose it on other images.  "
    "[default: the calls in the tables]",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Set the confidence level of the intervals.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Number of random permutations of the groups in the tests of the gaps.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the permutations.")
@click.option("--title", default="", help="Set the title of the page.")
@click.option("--image-column", default="", help="Column with the image names.  [default: found by its usual names]")
@click.option(
    "--score-column",
    "score_columns",
    multiple=True,
    help="Column with P(malignant); may be repeated, one per model.  [default: found by its usual names]",
)
@click.option(
    "--call-column", default="", help="Column with the model's calls, 0 or 1.  [default: found by its usual names]"
)
@click.option("--truth-column", default="", help="Column with the truth, 0 or 1.  [default: found by its usual names]")
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
    """Report from PREDICTIONS how well models perform, overall and by group, with confidence intervals.

    PREDICTIONS are tables from any model: image_name with probability, prediction (the model's calls)
    or both. The truth is their column target, or that of the manifest. Probabilities without calls and
    without --threshold give only AUC, average precision and calibration. The threshold is never chosen
    on the reported images. Writes report.html, metrics.json, tables.csv and the figures.

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
            raise InputError(f"--cross {text}: expected two columns as group,sex")
        pairs.append((first, second))
    if manifest is not None and not manifest.exists():
        raise InputError(f"{manifest}: no such file")
    tables = []
    for path in predictions:  # before the slow imports
        cells = read_cells(path)
        tables += [
            predictions_of(cells, Columns(image_column, score, call_column, truth_column))
            for score in score_columns or ("",)
        ]
    from melfast.report.analysis import Settings
    from melfast.report.writing import ReportOptions, read_any_manifest, run_report

    settings = Settings(level, permutations, seed)
    document = run_report(
        tables,
        output,
        ReportOptions(names, by, pairs, threshold, title),
        manifest=None if manifest is None else read_any_manifest(manifest),
        settings=settings,
    )
    for remark in document["about"]["remarks"]:
        say(f"note: {remark['text']}")
    for name in ("report.html", "metrics.json", "tables.csv"):
        say(output / name)
