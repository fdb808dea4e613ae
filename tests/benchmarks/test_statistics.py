"""Suite statistics on few images."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.harness import CheckFailedError, Run
from benchmarks.suites import statistics
from melfast.metrics import kernels


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(statistics, "SIZES", ((40, 25), (60, 20)))
    monkeypatch.setattr(statistics, "REPLICATES", 50)
    monkeypatch.setattr(statistics, "LOOP_REPLICATES", 2)
    return Run(None, threads=1, repeats=1, console=Console(file=StringIO(), width=110))


def test_suite_statistics(few: Run) -> None:
    statistics.statistics(few)
    assert [check.passed for check in few.checks] == [True]
    for comparison in few.comparisons:
        assert [timing.items for timing in comparison.timings] == [50, 2, 2]
        assert [timing.target for timing in comparison.timings] == [None, 50, 50]
    assert "50 replicates: 0." in few.notes[-1]


def test_suite_statistics_finds_what_is_wrong(few: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = kernels.draw

    def other_draws(seed: int, *arguments: object) -> None:
        draw(kernels.GOLDEN, *arguments)

    monkeypatch.setattr(kernels, "draw", other_draws)
    with pytest.raises(CheckFailedError, match="largest difference from scikit-learn"):
        statistics.statistics(few)
