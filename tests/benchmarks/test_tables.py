"""The table of docs/benchmarks.md: by hand, and from the committed files."""

import json
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import tables


def line(name: str, rate: float, ratio: float, target: float | None = None) -> dict:
    met = None if target is None else ratio >= target
    return {"name": name, "rate": {"median": rate}, "ratio": {"median": ratio}, "target": target, "target_met": met}


def record(suite: str, *, cores: int = 4, torch: str = "2.15") -> dict:
    peers = [
        line("a", 10, 147.39, 50),
        line("b", 500, 0.87, 0.85),
        line("c", 500, 2.94, 3.5),
        line("d", 500, 0.9),
        line("e", 500, 1.5),
    ]
    comparison = {"title": "to 224 px", "unit": "images/s"}
    return {
        "time": "2026-11-23T16:05:47+00:00",
        "commit": "0123456789abcdef",
        "versions": {"torch": torch, "pillow": "13.0.0", "attrs": "1"},
        "hardware": {"cpu": "X", "cores": cores, "isa": "avx2", "gpus": []},
        "settings": {"threads": 2},
        "suites": {suite: {"comparisons": [comparison | {"contestants": [line("melfast", 1776.2, 1), *peers]}]}},
    }


def written(folder: Path, **records: dict) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_row_by_hand(tmp_path):
    table = tables.measured(written(tmp_path, one=record("loader"))).splitlines()
    assert table[2] == (
        "| `loader` | to 224 px | melfast: 1,780 images/s | 147x a; 0.87x b; "
        "**2.94x c (target 3.5x)**; **0.90x d**; 1.50x e |"
    )
    assert "All on 4 cores of X (avx2), no GPU." in table
    assert "Versions: torch 2.15, pillow 13.0.0." in table
    assert table[-1] == ("- [one.json](../benchmarks/results/one.json): commit `0123456`, 2026-11-23, --threads 2.")


def test_what_differs_stands_with_its_file(tmp_path):
    folder = written(tmp_path, one=record("a"), two=record("b", cores=8, torch="2.14"))
    table = tables.measured(folder)
    assert "All on" not in table
    assert "Versions: pillow 13.0.0." in table
    assert "--threads 2, torch 2.15, 4 cores of X (avx2), no GPU." in table
    assert "--threads 2, torch 2.14, 8 cores of X (avx2), no GPU." in table


def test_a_suite_stands_once(tmp_path):
    folder = written(tmp_path, one=record("a"), two=record("a"))
    with pytest.raises(click.ClickException, match=r"suite a is in both one\.json and two\.json"):
        tables.measured(folder)


def test_curves_stand_on_a_page_of_their_own(tmp_path):
    folder = written(tmp_path, one=record("a"), **{"scaling-cpu": record("scaling", cores=8)})
    assert tables.measured(folder) == tables.measured(written(tmp_path / "b", one=record("a")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.512, "0.512"),
        (1.25, "1.25"),
        (22.25, "22.2"),
        (272.7, "273"),
        (1776.2, "1,780"),
        (4989.6, "4,990"),
        (51437683.6, "51.4 M"),
        (202502975.5, "203 M"),
    ],
)
def test_three_digits(value, text):
    assert tables.number(value) == text


@pytest.mark.parametrize("text", ["", tables.BEGIN, tables.END, 2 * (tables.BEGIN + tables.END)])
def test_marks_must_be_there_once(text):
    with pytest.raises(click.ClickException, match=re.escape(tables.BEGIN)):
        tables.replaced(text, "table")


def test_only_what_stands_between_the_marks_changes():
    old = f"a\n{tables.BEGIN}\nold\n{tables.END}\nb\n"
    new = tables.replaced(old, "new")
    assert new == f"a\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nb\n"
    assert tables.replaced(new, "new") == new


def test_the_page_holds_the_committed_figures():
    found = CliRunner().invoke(tables.main, ["--check"])
    assert found.exit_code == 0, found.output


def test_a_wrong_figure_is_seen(tmp_path, monkeypatch):
    """The check fails if the page differs."""
    text = (tables.ROOT / "docs" / "benchmarks.md").read_text()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").write_text(text.replace("images/s", "images/h"))
    (tmp_path / "benchmarks").symlink_to(tables.ROOT / "benchmarks")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    found = CliRunner().invoke(tables.main, ["--check"])
    assert found.exit_code == 1
    assert "docs/benchmarks.md is out of date; run: python benchmarks/tables.py" in found.output
    assert CliRunner().invoke(tables.main, []).exit_code == 0
    assert (tmp_path / "docs" / "benchmarks.md").read_text() != text.replace("images/s", "images/h")


def test_the_chart_leaves_out_suites_without_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHART", [("a", "to 224", "here", ("a", "b")), ("b", "to 224", "absent", ("a",))])
    figure = tables.chart(written(tmp_path, **{"one-cpu": record("a")}))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["here\nvs a", "here\nvs b"]


def test_the_chart_shows_the_committed_figures(tmp_path):
    """Compared at 24 x 24 pixels, because fonts may differ; a bar more or less changes the height."""
    tables.save(tables.chart(tables.ROOT / "benchmarks" / "results"), tmp_path / "speed.png")
    sizes, small = [], []
    for path in (tmp_path / "speed.png", tables.ROOT / "docs" / "speed.png"):
        with Image.open(path) as picture:
            sizes.append(picture.height / picture.width)
            small.append(np.asarray(picture.convert("L").resize((24, 24), Image.Resampling.BOX), float))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert np.abs(small[0] - small[1]).mean() < 3
