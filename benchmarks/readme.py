"""python benchmarks/readme.py: writes README's table of figures from benchmarks/results."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks.machine import ROOT
from melfast.io.files import atomic_path

BEGIN, END = "<!-- measured: python benchmarks/readme.py -->", "<!-- /measured -->"
# Of the versions in a file, those that a reader would ask for.
VERSIONS = [
    *("python", "torch", "timm", "onnxruntime", "nvidia-dali-cuda130", "opencv-python-headless"),
    *("pillow", "simplejpeg", "scikit-learn", "numpy"),
]


def measured(folder: Path) -> str:
    """The table, and under it where its figures come from, of all `*.json` in a folder.

    `scaling-*.json` are left out: their curves stand in docs/scaling.md.

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
                raise click.ClickException(f"suite {suite} stands in {suites[suite]} and {file}")
            suites[suite] = file
            lines += [row(suite, comparison) for comparison in found["comparisons"]]
    return "\n".join([*lines, "", *sources(records)])


def row(suite: str, comparison: dict[str, Any]) -> str:
    subject, *peers = comparison["contestants"]
    beside = "; ".join(ratio(peer) for peer in peers)
    name, rate = subject["name"], number(subject["rate"]["median"])
    return f"| `{suite}` | {comparison['title']} | {name}: {rate} {comparison['unit']} | {beside} |"


def ratio(peer: dict[str, Any]) -> str:
    """Missed targets in bold, and what is slower than a peer that has none."""
    median, met = peer["ratio"]["median"], peer["target_met"]
    factor = f"{median:.2f}x" if median < 10 else f"{median:.0f}x"
    wanted = f" (wanted {peer['target']:g}x)" if met is False else ""
    bold = "**" if wanted or (met is None and median < 1) else ""
    return f"{bold}{factor} {peer['name']}{wanted}{bold}"


def number(value: float) -> str:
    """Three digits, with M for millions."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{round(value, 2 - len(str(int(value))) + 1):,g}" if value >= 1 else f"{value:.3g}"


def sources(records: dict[str, Any]) -> Iterator[str]:
    """Which commit, when, on what, with which versions; what all files share is said once."""
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
        yield f"- [{file}](benchmarks/results/{file}): {', '.join(facts)}."


def machine(record: dict[str, Any]) -> str:
    hardware = record["hardware"]
    gpus = ", ".join(hardware["gpus"]) or "no GPU"
    return f"{hardware['cores']} cores of {hardware['cpu']} ({hardware['isa']}), {gpus}"


def replaced(text: str, table: str) -> str:
    """The text with what stands between the marks replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise click.ClickException(f"README.md must hold {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Only say whether README.md is what would be written.")
def main(check: bool) -> None:
    """Writes the table of figures in README.md from the files in benchmarks/results."""
    path = ROOT / "README.md"
    text = path.read_text()
    wanted = replaced(text, measured(ROOT / "benchmarks" / "results"))
    if check and text != wanted:
        raise click.ClickException("README.md differs: python benchmarks/readme.py writes it")
    if not check:
        with atomic_path(path) as temporary:
            temporary.write_text(wanted)


if __name__ == "__main__":
    main()
