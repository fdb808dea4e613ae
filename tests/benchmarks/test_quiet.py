"""Waiting for a quiet machine: runs are judged by what others did meanwhile."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from benchmarks import quiet
from benchmarks.quiet import Patience


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What others have used, look by look; the last value stays."""
    values = [0.0]

    def look() -> float:
        return values.pop(0) if len(values) > 1 else values[0]

    monkeypatch.setattr(quiet, "others_seconds", look)
    monkeypatch.setattr(quiet.Patience, "wait", lambda self: None)
    return values


def runs(values: list[int]) -> Callable[[], int]:
    def run() -> int:
        time.sleep(0.05)
        return values.pop(0)

    return run


def test_a_quiet_run_is_taken_at_once(others: list[float]) -> None:
    patience = Patience()
    items, seconds = patience.timed(runs([7]))
    assert items == 7
    assert seconds >= 0.05
    assert patience.disturbed == 0


def test_a_disturbed_run_is_done_again(others: list[float]) -> None:
    others[:] = [0, 5, 5, 5]  # five core-seconds in the first run, none in the second
    patience = Patience()
    assert patience.timed(runs([1, 2, 3]))[0] == 2
    assert patience.disturbed == 0


def test_the_last_try_counts_whatever_happens(others: list[float]) -> None:
    others[:] = [float(i) for i in range(0, 100, 5)]
    patience = Patience()
    assert patience.timed(runs([1, 2, 3]))[0] == 3
    assert patience.disturbed == 1


def test_waiting_ends_when_it_is_quiet_or_patience_is_over(monkeypatch) -> None:
    monkeypatch.setattr(quiet, "LOOK", 0.01)
    monkeypatch.setattr(quiet, "PATIENCE", 0.2)
    values = iter([0, 9, 9, 18, 18, 18])  # busy, busy, quiet
    monkeypatch.setattr(quiet, "others_seconds", lambda: next(values))
    Patience().wait()
    assert list(values) == []
    clock = iter(range(0, 100_000, 9))
    monkeypatch.setattr(quiet, "others_seconds", lambda: next(clock))
    begin = time.perf_counter()
    Patience().wait()
    assert 0.2 <= time.perf_counter() - begin < 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_own_work_is_told_from_that_of_others() -> None:
    own, busy = quiet.own_seconds(), quiet.busy_seconds()
    spin(0.3)
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert quiet.own_seconds() - own >= 0.75  # the child's work is ours
        child.communicate(b"\n")
    assert quiet.busy_seconds() - busy >= 0.75
