"""python benchmarks/tables.py: writes the table of docs/benchmarks.md and README's chart from benchmarks/results."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.machine import ROOT
from melfast.io.files import atomic_path
from melfast.report.plots import save

BEGIN, END = "<!-- measured: python benchmarks/tables.py -->", "<!-- /measured -->"
# The bars of README's chart: suite, start of the comparison's title, label, and the peers of melfast.
CHART = [
    ("loader", "70 images", "JPEGs ≥ 1500 px to 224 px", ("torch DataLoader, PIL", "timm create_loader", "DALI cpu")),
    ("skin", "sRGB8 to CIELAB", "sRGB to CIELAB", ("scikit-image rgb2lab", "kornia rgb_to_lab", "OpenCV float32")),
    ("ita", "ITA of 6", "skin tone of an image", ("OpenCV, published",)),
    ("masks", "published mask, 6000", "published lesion mask", ("OpenCV, the same steps",)),
    ("statistics", "AUC by group", "permutations of the AUC", ("NumPy and scikit-learn, AUC alone",)),
    ("inference", "files to probabilities", "JPEGs to probabilities", ("OpenCV and ONNX Runtime, image by image",)),
    ("train", "24 steps of ham10000.yaml: the loop", "a training step", ("timm's train.py step, the same",)),
]
# Versions in a file that matter to readers.
VERSIONS = [
    *("python", "torch", "timm", "onnxruntime", "nvidia-dali-cuda130", "opencv-python-headless"),
    *("pillow", "simplejpeg", "scikit-learn", "numpy"),
]


def measured(folder: Path) -> str:
    """The table of all `*.json` in a folder, and below it the source of its figures.

    `scaling-*.json` are left out: their curves are in docs/scaling.md.

    Raises:
        click.ClickException: two files hold the same suite.
    """
    files = [path for path in sorted(folder.glob("*.json")) if not path.match("scaling-*")]
    records = {path.name: json.loads(path.read_text()) for path in files}
    suites: dict[str, str] = {}
    lines = ["| suite | what | melfast | times as fast (x) as its peers |", "|---|---|---|---|"]
    for file, record in records.items():
        for suite, found in record["suites"].items():
            if suite in suites:
                raise click.ClickException(f"suite {suite} is in both {suites[suite]} and {file}")
            suites[suite] = file
            lines += [row(suite, comparison) for comparison in found["comparisons"]]
    return "\n".join([*lines, "", *sources(records)])


def row(suite: str, comparison: dict[str, Any]) -> str:
    subject, *peers = comparison["contestants"]
    beside = "; ".join(ratio(peer) for peer in peers)
    name, rate = subject["name"], number(subject["rate"]["median"])
    return f"| `{suite}` | {comparison['title']} | {name}: {rate} {comparison['unit']} | {beside} |"


def ratio(peer: dict[str, Any]) -> str:
    """Bold for a missed target, or for being slower than a peer without a target."""
    median, met = peer["ratio"]["median"], peer["target_met"]
    factor = f"{median:.2f}x" if median < 10 else f"{median:.0f}x"
    wanted = f" (target {peer['target']:g}x)" if met is False else ""
    bold = "**" if wanted or (met is None and median < 1) else ""
    return f"{bold}{factor} {peer['name']}{wanted}{bold}"


def number(value: float) -> str:
    """Three digits, with M for millions."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{round(value, 2 - len(str(int(value))) + 1):,g}" if value >= 1 else f"{value:.3g}"


def sources(records: dict[str, Any]) -> Iterator[str]:
    """Commit, date, machine and versions; values that all files share appear once."""
    machines = {file: machine(record) for file, record in records.items()}
    versions = {file: record["versions"] for file, record in records.items()}
    first = next(iter(versions.values()))
    shared = {
        name: first[name]
        for name in VERSIONS
        if name in first and all(found.get(name) == first[name] for found in versions.values())
    }
    one = len(set(machines.values())) == 1
    if one:
        yield f"All on {next(iter(machines.values()))}."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in shared.items()) + "."
    yield ""
    for file, record in records.items():
        own = [f"{name} {found}" for name, found in versions[file].items() if name in VERSIONS and name not in shared]
        facts = [
            f"commit `{record['commit'][:7]}`",
            record["time"][:10],
            f"--threads {record['settings']['threads']}",
            *own,
        ]
        facts += [] if one else [machines[file]]
        yield f"- [{file}](../benchmarks/results/{file}): {', '.join(facts)}."


def machine(record: dict[str, Any]) -> str:
    hardware = record["hardware"]
    gpus = ", ".join(hardware["gpus"]) or "no GPU"
    return f"{hardware['cores']} cores of {hardware['cpu']} ({hardware['isa']}), {gpus}"


def replaced(text: str, table: str) -> str:
    """The text with what is between the marks replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise click.ClickException(f"docs/benchmarks.md must hold {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"


def chart(folder: Path) -> Figure:
    """Bars of how many times as fast melfast is as its peers in the same run; suites without figures are left out."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*-cpu.json"))]
    suites = {name: (record, found) for record in records for name, found in record["suites"].items()}
    bars, machines = [], set()
    for suite, title, label, peers in CHART:
        if suite not in suites:
            continue
        record, found = suites[suite]
        machines.add(machine(record))
        (found, *_) = (c for c in found["comparisons"] if c["title"].startswith(title))
        ratios = {peer["name"]: peer["ratio"]["median"] for peer in found["contestants"]}
        bars += [(f"{label}\nvs {peer.removesuffix(', the same')}", ratios[peer]) for peer in peers]
    figure = Figure(figsize=(8, 0.42 * len(bars) + 0.9), layout="constrained")
    axes = figure.subplots()
    names, ratios = zip(*bars, strict=True)
    drawn = axes.barh(
        names, [r - 1 for r in ratios], left=1, color=["#0072b2" if r >= 1 else "#d55e00" for r in ratios], height=0.7
    )
    axes.bar_label(drawn, [f"{r:.2g}x" if r < 10 else f"{r:.0f}x" for r in ratios], padding=4, fontsize="small")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlim=(0.7, 2 * max(ratios)), xlabel="times as fast as the peer, in the same run (log scale)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize="x-small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("; ".join(sorted(machines)), fontsize="x-small", color="grey")
    return figure


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Only say whether docs/benchmarks.md is up to date.")
def main(check: bool) -> None:
    """Write the table of docs/benchmarks.md and README's chart from benchmarks/results."""
    path = ROOT / "docs" / "benchmarks.md"
    text = path.read_text()
    wanted = replaced(text, measured(ROOT / "benchmarks" / "results"))
    if check and text != wanted:
        raise click.ClickException("docs/benchmarks.md is out of date; run: python benchmarks/tables.py")
    if not check:
        with atomic_path(path) as temporary:
            temporary.write_text(wanted)
        save(chart(ROOT / "benchmarks" / "results"), ROOT / "docs" / "speed.png")


if __name__ == "__main__":
    main()
