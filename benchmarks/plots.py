"""python benchmarks/plots.py: draw the curves of suite scaling from a committed JSON file."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.constants import RESULTS
from benchmarks.machine import ROOT
from benchmarks.tables import machine, number
from melfast.report.plots import COLOURS, save

FOLDER = ROOT / "docs" / "scaling"
SUBJECT_WIDTH, PEER_WIDTH = 2.2, 1.2


@dataclass(frozen=True)
class Line:
    """A contestant's medians and quartiles along an axis."""

    x: list[float]
    median: list[float]
    low: list[float]
    high: list[float]


def lines(record: dict[str, Any], axis: str, start: str = "") -> dict[str, Line]:
    """Lines of the comparisons along an axis whose titles begin with `start`, by contestant."""
    found: dict[str, Line] = {}
    points = [
        c
        for c in record["suites"]["scaling"]["comparisons"]
        if axis in c.get("at", {}) and c["title"].startswith(start)
    ]
    for point in sorted(points, key=lambda point: point["at"][axis]):
        for contestant in point["contestants"]:
            line = found.setdefault(contestant["name"], Line([], [], [], []))
            rate = contestant["rate"]
            line.x.append(point["at"][axis])
            line.median.append(rate["median"])
            line.low.append(rate["q1"])
            line.high.append(rate["q3"])
    if not found:
        raise click.ClickException(f"no curve over {axis!r} {start!r} in the file")
    return found


def draw(axes: Axes, curves: dict[str, Line], *, x: str, y: str) -> None:
    """The first line is the subject: it is thick, and its points are labelled."""
    for (name, line), colour in zip(curves.items(), COLOURS, strict=False):
        first = name == next(iter(curves))
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(
            line.x,
            line.median,
            color=colour,
            marker="o",
            markersize=4 if first else 3,
            linewidth=SUBJECT_WIDTH if first else PEER_WIDTH,
            label=name,
        )
    subject = next(iter(curves.values()))
    for place, value in zip(subject.x, subject.median, strict=True):
        axes.annotate(
            number(value),
            (place, value),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
            fontweight="bold",
        )
    axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
    axes.set_xticks(subject.x, [plain(value) for value in subject.x])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    # Between powers of ten, only 2 and 5 fit.
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: plain(value) if f"{value:e}"[0] in "25" else ""))
    axes.margins(x=0.08, y=0.12)
    axes.grid(alpha=0.3, which="both", linewidth=0.4)
    axes.legend(fontsize="x-small")


def plain(value: float) -> str:
    """1000000 as 1M, 0.27 as it is."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def threads(record: dict[str, Any], figure: Figure) -> None:
    axes = figure.subplots()
    draw(axes, lines(record, "threads"), x="threads or worker processes", y="images/s")
    cores = record["hardware"]["cores"]
    axes.axvline(cores, color="grey", linewidth=0.8, linestyle=":")
    axes.text(cores, axes.get_ylim()[0], f" {cores} cores", color="grey", fontsize="x-small", va="bottom")
    axes.set_title("JPEGs at least 1500 px wide to normalised 224 px", fontsize="medium")


def image_size(record: dict[str, Any], figure: Figure) -> None:
    axes = figure.subplots()
    draw(axes, lines(record, "megapixels"), x="megapixels of the JPEG", y="images/s")
    axes.set_title("Drawn JPEGs of one size to normalised 224 px", fontsize="medium")


def batch(record: dict[str, Any], figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    draw(left, lines(record, "training batch"), x="images a step", y="images/s")
    left.set_title("Training, resnet10t at 96x72", fontsize="medium")
    draw(right, lines(record, "inference batch"), x="images a batch", y="images/s")
    right.set_title("Inference, ConvNeXt-Tiny at 224x224", fontsize="medium")


ROW_CURVES = ("reading a manifest", "reading predictions", "drawing the plan of an epoch")


def rows(record: dict[str, Any], figure: Figure) -> None:
    grid = figure.subplots(1, 3)
    for axes, start in zip(grid.ravel(), ROW_CURVES, strict=True):
        draw(axes, lines(record, "rows", start), x="rows", y="rows/s")
        axes.set_title(start.capitalize(), fontsize="medium")


def memory(record: dict[str, Any], figure: Figure) -> None:
    axes = figure.subplots()
    found: dict[str, Line] = {}
    for point in record["suites"]["scaling"]["measurements"]:
        if "memory" in point["title"] and "rows" in point["at"]:
            name = point["title"].partition(":")[0]
            line = found.setdefault(name, Line([], [], [], []))
            line.x.append(point["at"]["rows"])
            # The kernel counts in blocks of pages; less than that is not reliable.
            mib = max(point["value"], 2**18) / 2**20
            for values in (line.median, line.low, line.high):
                values.append(mib)
    if not found:
        raise click.ClickException("no measurement of memory in the file")
    draw(axes, found, x="rows", y="MiB at the peak, above what was held")
    axes.set_title("Memory of tables", fontsize="medium")


FIGURES: dict[str, tuple[Callable[[dict[str, Any], Figure], None], tuple[float, float]]] = {
    "threads": (threads, (6.4, 4.4)),
    "image_size": (image_size, (6.4, 4.4)),
    "batch": (batch, (9.6, 4.2)),
    "rows": (rows, (12.0, 4.2)),
    "memory": (memory, (6.4, 4.4)),
}


def figures(record: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Every figure, with the machine under it."""
    for name, (function, size) in FIGURES.items():
        figure = Figure(figsize=size, layout="constrained")
        function(record, figure)
        figure.supxlabel(
            f"{machine(record)}; commit {record['commit'][:7]}; medians and quartiles", fontsize="x-small", color="grey"
        )
        yield name, figure


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=RESULTS / "scaling-cpu.json"
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Folder for the PNG files.",
)
def main(file: Path, output: Path) -> None:
    """Draws the curves of FILE, written by `benchmarks/run.py scaling --json FILE`; by default those of
    the committed file."""
    record = json.loads(file.read_text())
    if "scaling" not in record.get("suites", {}):
        raise click.ClickException(f"{file}: holds no suite scaling")
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(record):
        save(figure, output / f"{name}.png")
        click.echo(output / f"{name}.png")


if __name__ == "__main__":
    main()
