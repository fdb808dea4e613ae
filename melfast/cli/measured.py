"""The output of `melfast evaluate` and `ensemble`."""

import math
from typing import TYPE_CHECKING, Any

from melfast.cli.say import say
from melfast.io.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from melfast.evaluate.run import Evaluation

PERCENT_COLUMNS = ("recall", "precision", "f1", "balanced_accuracy")


def show(evaluation: "Evaluation | None") -> None:
    """Prints the table (140 columns wide where there is no terminal), the remarks and the files; nothing for None."""
    from rich.console import Console

    if evaluation is None:
        return
    # No markup: groups are named by whoever wrote the manifest.
    console = Console(markup=False, emoji=False)
    console = console if console.is_terminal else Console(width=140, markup=False, emoji=False)
    console.print(results_table(evaluation.measured, evaluation.title))
    for remark in evaluation.measured["remarks"]:
        say(f"note: {remark}")
    for file in evaluation.files:
        say(file)


def results_table(measured: dict[str, Any], title: str) -> "Table":
    """The metrics as a table: AUC and average precision as fractions, the others in percent."""
    from rich.table import Table

    from melfast.report.measures import OVERALL

    grid = Table(title=title, title_justify="left")
    grid.add_column("group")
    for heading in (
        "images",
        "malignant",
        "AUC",
        "AP",
        "recall %",
        "precision %",
        "F1 %",
        "balanced acc. %",
        "TN",
        "FP",
        "FN",
        "TP",
    ):
        grid.add_column(heading, justify="right")
    for name, row in {OVERALL: measured[OVERALL], **measured["groups"]}.items():
        cells = [f"{row['images']:,}", f"{row['malignant']:,}"]
        cells += [_cell(row[key], 1, 4) for key in ("auc", "average_precision")]
        cells += [_cell(row[key], 100, 1) for key in PERCENT_COLUMNS]
        cells += [f"{row['confusion'][key]:,}" for key in ("tn", "fp", "fn", "tp")]
        grid.add_row(printable(name), *cells)
    return grid


def _cell(value: float, scale: int, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value * scale:.{digits}f}"
