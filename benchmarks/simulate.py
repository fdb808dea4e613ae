"""python benchmarks/simulate.py: predict how fast the pipeline is on machines where it has not run, and why.

Each plant (benchmarks/machine_models.py) is described by constants (benchmarks/constants.py) as a pipeline
of stages, and paced twice (benchmarks/pipeline.py): by a formula, and by a simulation. What was
measured is predicted from other measurements in the same way, and held against them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from rich.console import Console
from rich.table import Table

from benchmarks.constants import PUBLIC, Results
from benchmarks.machine import ROOT
from benchmarks.machine_models import (
    BATCH,
    COPIES,
    GPUS,
    LARGE,
    MANY,
    NATIVE,
    SIDE,
    Pick,
    Plant,
    all_reduce,
    best,
    checks,
    middle,
    pace_both,
    plants,
    worst,
)
from benchmarks.pipeline import closed_form
from benchmarks.tables import number
from melfast.io.files import atomic_path

PAGE = ROOT / "docs" / "scaling.md"
COPY = "numpy.copyto"
FOLDERS = 256  # folders over which `melfast prepare resize` spreads its files
# In the forward pass an activation is written and read; in the backward pass it is read, and its gradient is
# written and read.
FORWARD, MOVES = 2, 5


def duration(seconds: float) -> str:
    """Seconds, minutes or hours with three digits."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def predicted(results: Results) -> list[list[str]]:
    """One row per machine and task: name, images, bound, rate, its range, simulated, plan, time, use of resources."""
    rows = []
    for plant in plants(results):
        pipe = plant.build(middle)
        by_hand, played = pace_both(pipe, plant.images)
        low, high = (closed_form(plant.build(pick)).images for pick in (worst, best))
        drawn = plant.plan(middle) if plant.plan else 0
        rows.append(
            [
                plant.name,
                f"{plant.images:,}",
                by_hand.bottleneck,
                number(by_hand.images),
                f"{number(low)} – {number(high)}",
                number(played.images),
                duration(drawn) if drawn else "",
                duration(drawn + steps(plant, middle)),
                ", ".join(f"{name} {share:.0%}" for name, share in played.shares.items()),
            ]
        )
    return rows


def steps(plant: Plant, pick: Pick) -> float:
    """Steps for processing all images once."""
    pipe = plant.build(pick)
    return closed_form(pipe).epoch(pipe.steps(plant.images))


def follows(results: Results) -> str:
    """What limits each machine and task, and whether another stage may, within the ranges."""
    lines = []
    for plant in plants(results):
        paces = [closed_form(plant.build(pick)) for pick in (worst, middle, best)]
        names = [pace.bottleneck for pace in paces]
        said = f"bound by {names[1]} at worst, in the middle and at best"
        if len(set(names)) > 1:
            said = "bound by {} at worst, {} in the middle, {} at best".format(*names)
        longest, _, shortest = ({name: pace.step * share for name, share in pace.shares.items()} for pace in paces)
        rivals = [n for n in longest if n != names[1] and longest[n] >= shortest[names[1]]]
        if rivals:
            said = f"undecided; {said}, but {', '.join(rivals)} may take longer than {names[1]}"
        lines.append(f"- {plant.name}: {said}.")
        if plant.plan:
            pairs = ((middle, middle), (best, worst), (worst, best))
            drawn = [(plant.plan(one), steps(plant, other)) for one, other in pairs]
            shares = [f"{100 * plan / (plan + rest):.2g}" for plan, rest in drawn]
            lines.append(
                "  Drawing the plan is {} % of an epoch, between {} and {} % within the ranges.".format(*shares)
            )
    return "\n".join(lines)


HEADINGS = ["what", "images", "bound by", "images/s", "range", "simulated", "its plan", "all of them", "used"]
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
        rows.append(
            [check.name, number(check.measured.value), number(by_hand.images), number(played.images), off, allowed]
        )
    return rows


def bounds(results: Results) -> list[list[str]]:
    """How fast each stage would be alone."""

    def of(name: str) -> float:
        return PUBLIC[name].value

    def copied_by(threads: int) -> float:
        return results.rate("scaling", f"memory copied, {threads} threads", COPY).value

    rows = []
    for files in (LARGE, COPIES):
        rate = results.rate("scaling", f"{files}: one core", NATIVE).value
        num_bytes, pixels = (
            results.measurement("scaling", f"{files}: {what}").value for what in ("mean bytes a file", "mean pixels")
        )
        # The file is copied and read, its pixels are written and read, and the result is written.
        most = 3 * num_bytes + 2 * 3 * pixels * 1e6 + SIDE * SIDE * 3 * 4
        drive = of("sequential reads of a drive")
        decoder = of("JPEG pixels by an A100's decoder") / 1e6
        rows += [
            [
                f"decode, {files}",
                "entropy decoding and all else, one core here",
                f"{number(num_bytes * rate / 1e6)} MB/s, {number(pixels * rate)} megapixels/s",
                number(rate),
            ],
            [
                f"decode, {files}",
                "memory bandwidth of one core here",
                f"{number(most / 1e6)} MB an image at most, of {number(copied_by(1) / 1e9)} GB/s",
                number(copied_by(1) / most),
            ],
            [
                f"read, {files}",
                "one NVMe drive",
                f"{number(num_bytes / 1e3)} kB a file, {number(pixels)} megapixels",
                number(drive / num_bytes),
            ],
            [
                f"decode by the GPU, {files}",
                "JPEG pixels by its decoder, every one of them",
                f"{number(decoder)} megapixels/s",
                number(decoder / pixels),
            ],
        ]
    prefix = of("requests to an object store a prefix")
    copied = SIDE * SIDE * 3 * 2
    cores = results.cores
    alone = results.rate("scaling", "predicting: together and apart", "the model alone").value
    activations = FORWARD * 4 * of("activations of ConvNeXt-T at 224 px")
    moved = MOVES * 2 * of("activations of ConvNeXt-T at 224 px")
    peak = of("bf16 peak of an H100") / 6 / of("multiply-adds of ConvNeXt-T at 224 px")
    share = of("share of the peak in training")
    rows += [
        [
            "fetch from an object store",
            "requests, one prefix",
            f"{MANY:,} files: {duration(MANY / prefix)}; over {FOLDERS} folders "
            f"{duration(MANY / prefix / FOLDERS)}, by the requests alone",
            number(prefix),
        ],
        ["compute, ConvNeXt-T forward, float32", f"all it does, {cores} cores here", "", number(alone)],
        [
            "compute, ConvNeXt-T forward, float32",
            f"memory bandwidth of {cores} cores here",
            f"{number(activations / 1e6)} MB of activations an image, of {number(copied_by(cores) / 1e9)} GB/s",
            number(copied_by(cores) / activations),
        ],
        [
            "copy to the GPU",
            "PCIe 5.0",
            f"{number(copied / 1e3)} kB an image, float16",
            number(of("copy to the GPU") / copied),
        ],
        [
            "compute, ConvNeXt-T, bf16",
            "memory bandwidth of an H100, activations alone",
            f"{number(moved / 1e6)} MB an image",
            number(of("memory bandwidth of an H100") / moved),
        ],
        [
            "compute, ConvNeXt-T, bf16",
            f"arithmetic of an H100 at {share:.0%} of its peak",
            f"{number(peak)} images/s at the peak",
            number(share * peak),
        ],
    ]
    for ranks in (GPUS, 64 * GPUS):
        reduced = all_reduce(ranks, middle)
        link = "NVLink" if ranks == GPUS else "the slower of NVLink and a node's InfiniBand"
        rows.append(
            [
                f"all-reduce over {ranks} GPUs",
                link,
                f"{1e3 * reduced:.2g} ms a step that nothing hides",
                number(BATCH * ranks / reduced),
            ]
        )
    return rows


def constants() -> list[list[str]]:
    """The constants that are not measured."""
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
    """The text between the marks of the page, by mark."""
    return {
        "bounds": markdown(BOUND_HEADINGS, bounds(results)),
        "predicted": markdown(HEADINGS, predicted(results)),
        "follows": follows(results),
        "checked": markdown(CHECK_HEADINGS, checked(results, others)),
        "constants": markdown(["what", "value", "range", "unit", "source"], constants()),
    }


def replaced(text: str, found: dict[str, str]) -> str:
    """The page with new tables.

    Raises:
        click.ClickException: a mark does not occur exactly once.
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
    return Results.read("scaling-cpu.json"), others


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write", is_flag=True, help="Write the tables into docs/scaling.md.")
@click.option("--check", is_flag=True, help="Only say whether docs/scaling.md holds them.")
def main(write: bool, check: bool) -> None:
    """Predicts training and prediction on machines that we do not have, by formula and by simulation."""
    results, others = read_results()
    if write or check:
        text = PAGE.read_text()
        wanted = replaced(text, tables(results, others))
        if check and text != wanted:
            raise click.ClickException(f"{PAGE.name} differs: python benchmarks/simulate.py --write writes it")
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
