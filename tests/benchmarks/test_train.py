"""Suite train on a few small files."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import images
from benchmarks.harness import Run
from benchmarks.suites import train


def test_train_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "STEPS", 2)
    images.draw(tmp_path, 3, 75, 100)
    found = Run(tmp_path, threads=2, repeats=1, console=Console(file=StringIO(), width=110))
    train.train(found)
    assert len(found.comparisons) == 3  # the loop, the files, processes
    assert [len(comparison.timings) for comparison in found.comparisons] == [3, 2, 2]
    for comparison in found.comparisons:
        assert {timing.items for timing in comparison.timings} == {128}
    targets = [comparison.timings[1].target for comparison in found.comparisons]
    assert targets == [train.LOOP_TARGET, train.FILES_TARGET, train.PROCESSES_TARGET]
    assert len(found.checks) == 4
