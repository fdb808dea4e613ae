"""Suite prepare on small files."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import images
from benchmarks.harness import Run
from benchmarks.suites import prepare


def test_suite_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "DRAWN", {images.LARGE: (16, 20, 1600)})
    monkeypatch.setattr(prepare, "LARGE", (1600, 1200))
    run = Run("drawn", threads=2, repeats=1, console=Console(file=StringIO(), width=110))
    raced: list[list[str]] = []
    monkeypatch.setattr(
        run, "compare", lambda title, unit, contestants: raced.append([each.name for each in contestants])
    )
    prepare.prepare(run)
    assert [check.found for check in run.checks] == [0]
    assert raced == [["prepare all", "seven commands", "prepare ita and resize"]]


def test_suite_prepare_finds_what_differs(tmp_path: Path) -> None:
    for name in ("all/manifest.csv", "seven/split.csv", "all/a.jpg", "seven/a.jpg", "all/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("same")
    (tmp_path / "seven" / "a.jpg").write_text("other")
    assert prepare.differing(tmp_path / "all", tmp_path / "seven") == 2
