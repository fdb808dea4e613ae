"""Times contestants by turns and reports the median, the IQR and the ratio to each peer.

A suite is a function that takes a Run. It checks its contestants' results, then compares them:

    @suite("loader")
    def loader(run: Run) -> None:
        '''Files to normalised batches, images per second.'''
        run.check("PSNR in dB of melfast", psnr_db, at_least=40)
        peers = [Contestant("melfast", f), Contestant("PIL", g, target=3.5)]
        run.compare("to 224 px", "images/s", peers)

Contestants take turns (A B C A B C ...), so that other load on the machine affects all alike.
"""

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.images import Data

WARMUPS = 1


class CheckFailedError(Exception):
    """A contestant's result is wrong, so its time means nothing."""


@dataclass(frozen=True)
class Contestant:
    """One line of a comparison.

    Attributes:
        run: one timed run; returns the number of items processed.
        target: the first contestant should be at least this many times as fast as this one.
    """

    name: str
    run: Callable[[], int]
    target: float | None = None


@dataclass
class Timing:
    """Timing of one contestant: `items` in each of `seconds`."""

    name: str
    target: float | None
    items: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second of each repeat."""
        return self.items / np.array(self.seconds)


# Position on a curve, by axis: {"threads": 2}.
Place = Mapping[str, float]


@dataclass
class Comparison:
    """Timings of contestants that took turns; the first one is the subject.

    Attributes:
        at: position on a curve; empty: not part of a curve.
    """

    title: str
    unit: str
    timings: list[Timing]
    at: Place = field(default_factory=dict)

    def ratios(self, timing: Timing) -> NDArray[np.float64]:
        """How many times as fast as `timing` the subject was, repeat by repeat."""
        return self.timings[0].rates / timing.rates

    def met(self, timing: Timing) -> bool | None:
        """Whether the median ratio reaches the target; None if there is no target."""
        return None if timing.target is None else bool(np.median(self.ratios(timing)) >= timing.target)

    def to_dict(self) -> dict[str, Any]:
        lines = [
            asdict(timing)
            | {"rate": quartiles(timing.rates), "ratio": quartiles(self.ratios(timing)), "target_met": self.met(timing)}
            for timing in self.timings
        ]
        found = {"title": self.title, "unit": self.unit, "contestants": lines}
        return found | ({"at": dict(self.at)} if self.at else {})


@dataclass(frozen=True)
class Measurement:
    """A number that is not a rate, such as memory use."""

    title: str
    unit: str
    value: float
    at: Place


@dataclass(frozen=True)
class Check:
    """A number that shows whether a result is correct."""

    what: str
    found: float
    at_least: float | None
    at_most: float | None

    @property
    def passed(self) -> bool:
        """A NaN never passes."""
        low = self.at_least is None or self.found >= self.at_least
        high = self.at_most is None or self.found <= self.at_most
        return low and high and not np.isnan(self.found)

    def __str__(self) -> str:
        limits = [f">= {self.at_least:g}"] if self.at_least is not None else []
        limits += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.what}: {self.found:.4g} (expected {' and '.join(limits)})"


@dataclass
class Run:
    """One run of a suite: its settings and results.

    Attributes:
        data: a folder of images, or `drawn`; None: real images if available, otherwise synthetic ones.
        threads: number of threads per contestant.
        repeats: number of timed runs per contestant.
    """

    data: Data
    threads: int
    repeats: int
    console: Console = field(default_factory=lambda: Console(width=None if sys.stdout.isatty() else 110))
    checks: list[Check] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def check(self, what: str, found: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Records a result; raises CheckFailedError if it is outside the limits."""
        check = Check(what, float(found), at_least, at_most)
        self.checks.append(check)
        if not check.passed:
            raise CheckFailedError(f"wrong result: {check}")
        self.console.print(f"  checked: {check}", highlight=False)

    def miss(self, line: str, reason: str) -> None:
        """Notes that a line of the suite could not be measured, and why."""
        self.missing[line] = reason
        self.console.print(f"  [yellow]missing[/]: {line}: {reason}", highlight=False)

    def note(self, text: str) -> None:
        """Adds a note for the reader of the figures."""
        self.notes.append(text)
        self.console.print(f"  {text}", highlight=False)

    def measured(self, title: str, unit: str, value: float, at: Place | None = None) -> None:
        """Records a number that is not a rate; `at` as in a comparison."""
        self.measurements.append(Measurement(title, unit, float(value), dict(at or {})))
        self.console.print(f"  {title}: {value:.4g} {unit}", highlight=False)

    def compare(self, title: str, unit: str, contestants: Sequence[Contestant], at: Place | None = None) -> Comparison:
        """Times the contestants in turn, and prints and records the table.

        Args:
            unit: unit of the rates, such as `images/s`.
            contestants: the subject, then its peers.
            at: position of the comparison on a curve.
        Raises:
            CheckFailedError: a contestant did not do the same number of items in each run.
        """
        timings = [Timing(c.name, c.target) for c in contestants]
        comparison = Comparison(title, unit, timings, dict(at or {}))
        with self.console.status("") as status:
            for repeat in range(-WARMUPS, self.repeats):
                for contestant, timing in zip(contestants, timings, strict=True):
                    status.update(f"{title}: {contestant.name}, {max(repeat, 0)}/{self.repeats}")
                    gc.collect()
                    begin = time.perf_counter()
                    items = contestant.run()
                    seconds = time.perf_counter() - begin
                    if repeat < 0:
                        timing.items = items
                    elif items != timing.items:
                        raise CheckFailedError(f"{contestant.name} did {items} items, {timing.items} the time before")
                    else:
                        timing.seconds.append(seconds)
        self.comparisons.append(comparison)
        self.console.print(table(comparison))
        return comparison

    def to_dict(self) -> dict[str, Any]:
        return {
            "checks": [asdict(check) | {"passed": check.passed} for check in self.checks],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            **({"measurements": [asdict(m) for m in self.measurements]} if self.measurements else {}),
            "missing": self.missing,
            "notes": self.notes,
        }


Suite = Callable[[Run], None]
SUITES: dict[str, Suite] = {}
NEED_GPU: set[str] = set()
APART: set[str] = set()


def suite(name: str, *, needs_gpu: bool = False, apart: bool = False) -> Callable[[Suite], Suite]:
    """Registers a function as a suite; the first line of its docstring is its description.

    `all` skips suites that need a GPU if there is none.

    Args:
        apart: `all` skips it because it takes long; run it by its name.
    """

    def register(function: Suite) -> Suite:
        assert name not in SUITES, f"two suites are called {name}"
        SUITES[name] = function
        if needs_gpu:
            NEED_GPU.add(name)
        if apart:
            APART.add(name)
        return function

    return register


def quartiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Median and the ends of the interquartile range."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q1": float(low), "q3": float(high)}


def table(comparison: Comparison) -> Table:
    """The comparison as a table; a ratio above 1 means that the subject is faster."""
    subject, *peers = comparison.timings
    grid = Table(title=comparison.title, title_justify="left")
    grid.add_column("", no_wrap=True)
    for heading in (comparison.unit, "IQR", f"{subject.name} is", "IQR", "target"):
        grid.add_column(heading, justify="right")
    grid.add_row(subject.name, *spread(subject.rates, "{:.4g}"), "", "", "", style="bold")
    for peer in peers:
        target = ""
        if peer.target is not None:
            verdict = "[green]met[/]" if comparison.met(peer) else "[red]missed[/]"
            target = f">= {peer.target:g}x {verdict}"
        grid.add_row(peer.name, *spread(peer.rates, "{:.4g}"), *spread(comparison.ratios(peer), "{:.2f}x"), target)
    return grid


def spread(values: NDArray[np.float64], form: str) -> tuple[str, str]:
    q = quartiles(values)
    return form.format(q["median"]), f"{form.format(q['q1'])} - {form.format(q['q3'])}"
