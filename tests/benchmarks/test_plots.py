"""The curves of suite scaling, from numbers by hand and from the committed file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import plots
from benchmarks.constants import RESULTS

COMMITTED = RESULTS / "scaling-cpu.json"


def comparison(title: str, at: dict, **rates: float) -> dict:
    lines = [{"name": name, "rate": {"median": rate, "q1": rate - 1, "q3": rate + 1}} for name, rate in rates.items()]
    return {"title": title, "at": at, "contestants": lines}


def test_points_of_a_curve_come_in_order_of_its_axis():
    points = [
        comparison("a, 4", {"threads": 4}, x=40, y=20),
        comparison("a, 1", {"threads": 1}, x=10),
        comparison("no curve", {}, x=5),
        comparison("b", {"rows": 7}, x=9),
    ]
    for point in points[2:3]:
        del point["at"]  # as older files have it
    record = {"suites": {"scaling": {"comparisons": points}}}
    found = plots.lines(record, "threads")
    assert found["x"] == plots.Line([1, 4], [10, 40], [9, 39], [11, 41])
    assert found["y"] == plots.Line([4], [20], [19], [21])
    assert list(plots.lines(record, "rows", "b")) == ["x"]
    with pytest.raises(plots.click.ClickException, match="no curve over 'rows' 'c' in the file"):
        plots.lines(record, "rows", "c")


@pytest.mark.parametrize(("value", "text"), [(1e6, "1M"), (2.5e9, "2.5G"), (1000, "1k"), (64, "64"), (0.27, "0.27")])
def test_numbers_at_the_axes(value, text):
    assert plots.plain(value) == text


def test_committed_curves_are_drawn(tmp_path: Path):
    found = CliRunner().invoke(plots.main, ["--output", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(plots.FIGURES)
    for path in tmp_path.iterdir():
        # The pictures on the page come from this file and have the same size.
        with Image.open(path) as drawn, Image.open(plots.FOLDER / path.name) as kept:
            assert drawn.size == kept.size
            assert len(drawn.convert("RGB").getcolors(2**20) or []) > 50


def test_lines_show_what_the_file_holds():
    record = json.loads(COMMITTED.read_text())
    figures = dict(plots.figures(record))
    (axes,) = figures["threads"].axes
    expected = plots.lines(record, "threads")
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    for name, line in expected.items():
        assert drawn[name] == line.median
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_ylabel() == "images/s"
    assert len(figures["rows"].axes) == 3


def test_a_file_without_curves(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('{"suites": {}}')
    found = CliRunner().invoke(plots.main, [str(path)])
    assert found.exit_code == 1
    assert "a.json: holds no suite scaling" in found.output
