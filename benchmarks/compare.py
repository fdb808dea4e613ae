"""python benchmarks/compare.py OLD.json NEW.json: show what became slower or faster beyond noise."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Comparison, Timing

# A change counts if the interquartile ranges do not overlap and the medians differ by this much.
LEAST_CHANGE = 0.03
SLOWER, COULD_NOT = 1, 2  # exit codes
# Rates are not comparable if one of these differs.
SAME = [
    *(("hardware", key) for key in ("cpu", "cores", "gpus", "isa")),
    *(("settings", key) for key in ("threads", "data")),
]


@dataclass(frozen=True)
class Change:
    """The samples of a rate or of a ratio, before and after."""

    old: NDArray[np.float64]
    new: NDArray[np.float64]

    @property
    def factor(self) -> float:
        return float(np.median(self.new) / np.median(self.old))

    @property
    def direction(self) -> int:
        """-1 slower, 1 faster, 0 within noise."""
        (old_low, old_high), (new_low, new_high) = (
            np.percentile(samples, [25, 75]) for samples in (self.old, self.new)
        )
        if abs(self.factor - 1) < LEAST_CHANGE or (new_low <= old_high and old_low <= new_high):
            return 0
        return 1 if self.factor > 1 else -1


@dataclass(frozen=True)
class Row:
    """A comparison in both files: the rate of the subject, and its ratio to each peer."""

    suite: str
    title: str
    rate: Change
    ratios: dict[str, Change]

    @property
    def direction(self) -> int:
        """The direction of the rate, if the ratios to most peers went the same way: a machine that is
        slower today slows the peers, too, and a peer that became faster changes no rate."""
        same = [change.direction == self.rate.direction for change in self.ratios.values()]
        return self.rate.direction if 2 * sum(same) >= len(same) else 0

    @property
    def verdict(self) -> str:
        if self.direction:
            return "faster" if self.direction > 0 else "slower"
        return "within noise" if not self.rate.direction else "as its peers: the machine"


def read(path: Path) -> dict[str, Any]:
    """Reads a file of benchmarks/run.py."""
    try:
        record = json.loads(path.read_text())
        if not all(isinstance(record[key], dict) for key in ("suites", "hardware", "settings")):
            raise TypeError
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise failure(f"{path}: not a file of benchmarks/run.py --json") from error
    return record


def comparisons(record: dict[str, Any]) -> dict[tuple[str, str], Comparison]:
    """The comparisons by suite and title."""
    return {
        (name, each["title"]): Comparison(
            each["title"],
            each["unit"],
            [Timing(line["name"], line["target"], line["items"], line["seconds"]) for line in each["contestants"]],
        )
        for name, suite in record["suites"].items()
        for each in suite["comparisons"]
    }


def unlike(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Why two files are not compared."""
    for section, key in SAME:
        before, after = old[section].get(key), new[section].get(key)
        if before != after:
            yield f"{key}: {before} before, {after} now"


def rows(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Row | str]:
    """The comparisons in both files; for the others, the reason why they are not compared."""
    before, after = comparisons(old), comparisons(new)
    for suite, title in before | after:
        where = f"{suite}: {title}"
        if (suite, title) not in before or (suite, title) not in after:
            yield f"{where}: in the {'new' if (suite, title) in after else 'old'} file only"
            continue
        a, b = before[suite, title], after[suite, title]
        first, now = a.timings[0], b.timings[0]
        if (first.name, first.items) != (now.name, now.items):
            yield (f"{where}: {first.items} items of {first.name!r} before, {now.items} of {now.name!r} now")
            continue
        peers = {timing.name: timing for timing in a.timings[1:]}
        ratios = {
            timing.name: Change(a.ratios(peers[timing.name]), b.ratios(timing))
            for timing in b.timings[1:]
            if timing.name in peers
        }
        yield Row(suite, title, Change(first.rates, now.rates), ratios)


def table(compared: list[Row]) -> Table:
    grid = Table(show_lines=True)
    for heading in ("", "rate, now / before", "ratio to peers, now / before", "verdict"):
        grid.add_column(heading)
    colours = {1: "green", 0: "", -1: "red"}
    for row in compared:
        ratios = [f"{change.factor:.2f} {name}" for name, change in row.ratios.items()]
        grid.add_row(
            f"{row.suite}: {row.title}",
            f"{row.rate.factor:.2f}",
            "\n".join(ratios),
            row.verdict,
            style=colours[row.direction],
        )
    return grid


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("old", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(old: Path, new: Path) -> None:
    """Show what became slower or faster between two files of benchmarks/run.py --json.

    A change counts if the interquartile ranges of the rate do not overlap, the medians differ by 3 %,
    and the ratios to at least half of the peers agree. The exit code is 1 if something became slower
    or a suite now fails, and 2 if nothing could be compared.

    \b
    Example: python benchmarks/compare.py benchmarks/results/loader-cpu.json loader.json
    """
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    before, after = read(old), read(new)
    for path, record in ((old, before), (new, after)):
        commit, busy = str(record.get("commit"))[:7], record["hardware"].get("busy_percent")
        others = "" if busy is None else f", processor {busy:.0f} % busy with other work"
        console.print(f"{path}: commit {commit}, {record.get('time')}{others}")
    names = before.get("versions", {}) | after.get("versions", {})
    for name in sorted(names):
        was, now = (record.get("versions", {}).get(name, "absent") for record in (before, after))
        if was != now:
            console.print(f"{name}: {was} before, {now} now")
    reasons = list(unlike(before, after))
    if reasons:
        raise failure(f"not comparable: {'; '.join(reasons)}")
    found = list(rows(before, after))
    for reason in found:
        if isinstance(reason, str):
            console.print(f"not compared: {reason}")
    compared = [row for row in found if isinstance(row, Row)]
    broken = [f"{name}: {suite['failure']}" for name, suite in after["suites"].items() if suite.get("failure")]
    for each in broken:
        console.print(f"[red]fails now[/]: {each}")
    if compared:
        console.print(table(compared))
    elif not broken:
        raise failure("nothing to compare: no comparison is in both files")
    slower = sum(row.direction < 0 for row in compared)
    faster = sum(row.direction > 0 for row in compared)
    console.print(f"{len(compared)} compared: {slower} slower, {faster} faster")
    sys.exit(SLOWER if slower or broken else 0)


def failure(message: str) -> click.ClickException:
    error = click.ClickException(message)
    error.exit_code = COULD_NOT
    return error


if __name__ == "__main__":
    main()
