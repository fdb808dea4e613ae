"""python benchmarks/simulate.py: how fast the pipeline goes where it has not run, and why.

Each plant (benchmarks/plants.py) is described by constants (benchmarks/constants.py) as a pipeline
of stages, and paced twice (benchmarks/pipeline.py): by a formula, and by a simulation. What was
measured is predicted from other measurements in the same way, and held against them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from rich.console import Console
from rich.table import Table

from benchmarks.constants import PUBLIC, Results, scaling_record
from benchmarks.machine import ROOT
from benchmarks.pipeline import closed_form
from benchmarks.plants import (
    BATCH,
    COPIES,
    GPUS,
    LARGE,
    MANY,
    SIDE,
    all_reduce,
    best,
    checks,
    middle,
    pace_both,
    plants,
    worst,
)
from benchmarks.readme import number
from melfast.files import atomic_path

PAGE = ROOT / "docs" / "scaling.md"
FOLDERS = 256  # over which `melfast prepare resize` spreads its files
# Forward an activation is written and read; backward it is read, its gradient written and read.
MOVES = 5


def duration(seconds: float) -> str:
    """Three digits of seconds, or minutes, or hours."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def predicted(results: Results) -> list[list[str]]:
    """A row a plant: name, images, bound, rate, its range, simulated, plan, epoch, used up."""
    # Each process draws the plan of all before the first step of an epoch.
    drawn = results.rate("scaling", "drawing the plan of an epoch, 1,000,000", "melfast").value
    rows = []
    for plant in plants(results):
        pipe = plant.build(middle)
        by_hand, played = pace_both(pipe, plant.images)
        low, high = (closed_form(plant.build(pick)).images for pick in (worst, best))
        rows.append([
            plant.name, f"{plant.images:,}", by_hand.bottleneck, number(by_hand.images),
            f"{number(low)} – {number(high)}", number(played.images),
            duration(plant.images / drawn),
            duration(plant.images / drawn + by_hand.epoch(pipe.steps(plant.images))),
            ", ".join(f"{name} {share:.0%}" for name, share in played.shares.items()),
        ])  # fmt: skip
    return rows


HEADINGS = ["what", "images", "bound by", "images/s", "range", "simulated", "its plan",
            "an epoch", "used"]  # fmt: skip
BOUND_HEADINGS = ["stage", "what bounds it", "how much", "images/s"]
CHECK_HEADINGS = ["what", "measured", "predicted", "simulated", "off", "allowed"]


def checked(results: Results, others: dict[str, Results]) -> list[list[str]]:
    rows = []
    for check in checks(results, others):
        by_hand, played = pace_both(check.pipe, 10_000)
        off = f"{played.images / check.measured.value - 1:+.1%}"
        allowed = f"{check.within:.0%}"
        if not check.sure:
            allowed = f"not held against: the quartiles of its figures are ±{check.spread:.0%}"
        rows.append([check.name, number(check.measured.value), number(by_hand.images),
                     number(played.images), off, allowed])  # fmt: skip
    return rows


def bounds(results: Results) -> list[list[str]]:
    """What each stage could do if nothing else held it up."""

    def of(name: str) -> float:
        return PUBLIC[name].value

    rows = []
    for files in (LARGE, COPIES):
        seconds, num_bytes, pixels = (
            results.measurement("scaling", f"{files}: {what}").value
            for what in ("mean seconds an image, one core", "mean bytes a file", "mean pixels")
        )
        drive = of("sequential reads of a drive")
        decoder = of("JPEG pixels by an A100's decoder") / 1e6
        rows += [
            [f"decode, {files}", "entropy decoding, on one core measured here",
             f"{number(num_bytes / seconds / 1e6)} MB/s, {number(pixels / seconds)} megapixels/s",
             number(1 / seconds)],
            [f"read, {files}", "one NVMe drive", f"{number(num_bytes / 1e3)} kB a file",
             number(drive / num_bytes)],
            [f"decode by the GPU, {files}", "JPEG pixels by its decoder, every one of them",
             f"{number(decoder)} megapixels/s",
             number(decoder / pixels)],
        ]  # fmt: skip
    prefix = of("requests to an object store a prefix")
    copied = SIDE * SIDE * 3 * 2
    moved = MOVES * 2 * of("activations of ConvNeXt-T at 224 px")
    peak = of("bf16 peak of an H100") / 6 / of("multiply-adds of ConvNeXt-T at 224 px")
    share = of("share of the peak in training")
    rows += [
        ["fetch from an object store", "requests, one prefix",
         f"{MANY:,} files: {duration(MANY / prefix)}; over {FOLDERS} folders "
         f"{duration(MANY / prefix / FOLDERS)}, if the network lets them", number(prefix)],
        ["copy to the GPU", "PCIe 5.0", f"{number(copied / 1e3)} kB an image, float16",
         number(of("copy to the GPU") / copied)],
        ["compute, ConvNeXt-T, bf16", "memory bandwidth of an H100, activations alone",
         f"{number(moved / 1e6)} MB an image", number(of("memory bandwidth of an H100") / moved)],
        ["compute, ConvNeXt-T, bf16", f"arithmetic of an H100 at {share:.0%} of its peak",
         f"{number(peak)} images/s at the peak", number(share * peak)],
    ]  # fmt: skip
    for ranks in (GPUS, 64 * GPUS):
        seconds = all_reduce(ranks, middle)
        rows.append([f"all-reduce over {ranks} GPUs", "NVLink" if ranks == GPUS else "InfiniBand",
                     f"{1e3 * seconds:.2g} ms a step that nothing hides",
                     number(BATCH * ranks / seconds)])  # fmt: skip
    return rows


def constants() -> list[list[str]]:
    """Those that are not measured."""
    rows = []
    for name, constant in PUBLIC.items():
        low, high = sorted((constant.low, constant.high))
        between = "" if low == high else f"{low:.3g} – {high:.3g}"
        rows.append([name, f"{constant.value:.4g}", between, constant.unit, constant.source])
    return rows


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(results: Results, others: dict[str, Results]) -> dict[str, str]:
    """What stands between the marks of the page, by mark."""
    return {
        "bounds": markdown(BOUND_HEADINGS, bounds(results)),
        "predicted": markdown(HEADINGS, predicted(results)),
        "checked": markdown(CHECK_HEADINGS, checked(results, others)),
        "constants": markdown(["what", "value", "range", "unit", "source"], constants()),
    }


def replaced(text: str, found: dict[str, str]) -> str:
    """The page with its tables written anew.

    Raises:
        click.ClickException: a mark is not there once.
    """
    for name, table in found.items():
        begin, end = f"<!-- {name}: python benchmarks/simulate.py --write -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise click.ClickException(f"{PAGE.name} must hold {begin} and {end} once each")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return text


def read_results() -> tuple[Results, dict[str, Results]]:
    names = ("loader", "inference", "train")
    others = {name: Results.read(f"{name}-cpu.json") for name in names}
    return Results("scaling-cpu.json", scaling_record()), others


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write", is_flag=True, help="Write the tables into docs/scaling.md.")
@click.option("--check", is_flag=True, help="Only say whether docs/scaling.md holds them.")
def main(write: bool, check: bool) -> None:
    """Paces training and prediction on machines that we have not got, by formula and simulation."""
    results, others = read_results()
    if write or check:
        text = PAGE.read_text()
        wanted = replaced(text, tables(results, others))
        if check and text != wanted:
            raise click.ClickException(
                f"{PAGE.name} differs: python benchmarks/simulate.py --write writes it"
            )
        if write:
            with atomic_path(PAGE) as temporary:
                temporary.write_text(wanted)
        return
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for title, headings, rows in (
        ("Bounds of the stages, images/s", BOUND_HEADINGS, bounds(results)),
        ("Predicted", HEADINGS, predicted(results)),
        ("Against what was measured: images/s", CHECK_HEADINGS, checked(results, others)),
    ):
        grid = Table(*headings, title=title, title_justify="left")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)


if __name__ == "__main__":
    main()
