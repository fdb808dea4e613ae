"""Suite ita on small files."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import images
from benchmarks.harness import CheckFailedError, Run
from benchmarks.suites import ita


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(ita, "DRAWN", 24)
    images.draw(tmp_path, 1, 200, 1600)
    return Run(tmp_path, threads=2, repeats=1, console=Console(file=StringIO(), width=110))


def test_suite_ita_with_all_its_peers(found: Run) -> None:
    ita.ita(found)
    names = [[timing.name for timing in race.timings] for race in found.comparisons]
    assert names == [
        ["melfast cielab", "OpenCV, published", "melfast published"],
        ["melfast cielab", "simplejpeg scaled decode alone"],
        ["melfast cielab, 2 threads", "melfast cielab, 1 thread"],
    ]
    targets = [timing.target for race in found.comparisons for timing in race.timings]
    assert targets == [None, 40, None, None, 0.6, None, None]
    assert all(timing.items == 1 for race in found.comparisons for timing in race.timings)


def test_suite_ita_finds_what_is_wrong(found: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melfast.core.srgb_to_lab", lambda rgb: rgb.astype("float32") / 3)
    with pytest.raises(CheckFailedError, match="cielab, drawn: mean error in degrees"):
        ita.ita(found)
