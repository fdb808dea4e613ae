"""Suite statistics on few images."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.harness import CheckFailedError, Run
from benchmarks.suites import statistics


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(statistics, "SIZES", ((60, 20), (90, 25)))
    monkeypatch.setattr(statistics, "PERMUTATIONS", 500)
    monkeypatch.setattr(statistics, "LOOP_PERMUTATIONS", 2)
    monkeypatch.setattr(statistics, "ROWS", 400)
    monkeypatch.setattr(statistics, "REPLICATES", 2)
    return Run(None, threads=1, repeats=1, console=Console(file=StringIO(), width=110))


def test_melfast_and_its_peers_agree(run: Run) -> None:
    statistics.statistics(run)
    assert len(run.checks) == 3
    items = [[timing.items for timing in race.timings] for race in run.comparisons]
    assert items == [[500, 2], [400, 400]]


def test_a_wrong_auc_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.statistics.dealt_aucs", lambda *_: 1 / 0)
    monkeypatch.setattr("melfast.metrics.scores.placements", lambda malignant, score: score)
    with pytest.raises(CheckFailedError, match="AUC and worth of each group beside NumPy's"):
        statistics.permutation(run)
