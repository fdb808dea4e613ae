"""compare.py on artificial files: noise, differences between machines, and files that cannot be compared."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks import compare
from benchmarks.harness import Comparison, Timing

# Seconds of seven runs of 100 items: 10 items a second, give or take 2 %.
STEADY = [9.8, 9.9, 10.0, 10.0, 10.0, 10.1, 10.2]


def times(factor: float) -> list[float]:
    return [factor * seconds for seconds in STEADY]


def record(subject: list[float], *peers: list[float], suite: str = "loader") -> dict[str, Any]:
    timings = [Timing("melfast", None, 100, subject)]
    timings += [Timing(f"peer {i}", None, 100, peer) for i, peer in enumerate(peers)]
    comparison = Comparison("to 224 px", "images/s", timings).to_dict()
    return {
        "time": "2026-01-01",
        "commit": "0123456789",
        "versions": {"numpy": "2.4"},
        "hardware": {"cpu": "X", "cores": 4, "gpus": [], "isa": "avx2", "busy_percent": 0.1},
        "settings": {"threads": 4, "data": None},
        "suites": {suite: {"comparisons": [comparison], "failure": None}},
    }


def compared(folder: Path, old: object, new: object) -> Result:
    for name, content in (("old", old), ("new", new)):
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return CliRunner().invoke(compare.main, [str(folder / "old.json"), str(folder / "new.json")])


@pytest.mark.parametrize(
    ("subject", "peer", "verdict", "code"),
    [
        (1.0, 1.0, "within noise", 0),
        (1.02, 1.0, "within noise", 0),  # ranges apart or not: less than 3 %
        (1.2, 1.0, "slower", 1),
        (0.8, 1.0, "faster", 0),
        (1.2, 1.2, "as its peers: the machine", 0),
        (1.0, 0.8, "within noise", 0),  # the peer became faster
    ],
)
def test_verdicts(tmp_path, subject, peer, verdict, code):
    old, new = record(times(1), times(2)), record(times(subject), times(2 * peer))
    found = compared(tmp_path, old, new)
    assert verdict in " ".join(found.output.split()), found.output
    assert found.exit_code == code
    slower, faster = verdict == "slower", verdict == "faster"
    assert f"1 compared: {slower:d} slower, {faster:d} faster" in found.output


def test_a_wide_spread_is_noise(tmp_path):
    """The medians are 20 % apart, but so are the runs of each file."""
    old = record([8, 9, 10, 10, 10, 12, 14])
    new = record([9, 10, 12, 12, 12, 13, 15])
    assert compared(tmp_path, old, new).exit_code == 0
    assert "within noise" in compared(tmp_path, old, new).output


def test_half_of_the_peers_must_say_the_same(tmp_path):
    old = record(times(1), times(1), times(1))
    assert compared(tmp_path, old, record(times(1.2), times(1), times(1.2))).exit_code == 1
    old = record(times(1), times(1), times(1), times(1))
    new = record(times(1.2), times(1), times(1.2), times(1.2))
    assert compared(tmp_path, old, new).exit_code == 0


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("hardware", "cpu", "Y", "not comparable: cpu: X before, Y now"),
        ("hardware", "cores", 8, "not comparable: cores: 4 before, 8 now"),
        ("settings", "threads", 1, "not comparable: threads: 4 before, 1 now"),
        ("settings", "data", "d", "not comparable: data: None before, d now"),
    ],
)
def test_other_machines_and_settings_are_not_compared(tmp_path, section, key, value, message):
    old = record(times(1))
    new = copy.deepcopy(old)
    new[section][key] = value
    found = compared(tmp_path, old, new)
    assert found.exit_code == 2
    assert message in found.output


def test_what_only_one_file_holds_is_said(tmp_path):
    old, new = record(times(1)), record(times(1), suite="ita")
    found = compared(tmp_path, old, new)
    assert found.exit_code == 2
    assert "not compared: loader: to 224 px: in the old file only" in found.output
    assert "not compared: ita: to 224 px: in the new file only" in found.output
    assert "nothing to compare: no comparison is in both files" in found.output


def test_other_samples_are_not_compared(tmp_path):
    old, new = record(times(1)), record(times(1))
    new["suites"]["loader"]["comparisons"][0]["contestants"][0]["items"] = 50
    found = compared(tmp_path, old, new)
    assert found.exit_code == 2
    assert "100 items of 'melfast' before, 50 of 'melfast' now" in " ".join(found.output.split())


def test_versions_are_said_and_a_failure_counts(tmp_path):
    old, new = record(times(1)), record(times(1))
    new["versions"] = {"numpy": "2.5", "torch": "2.15"}
    new["suites"]["loader"]["failure"] = "wrong result: PSNR"
    found = compared(tmp_path, old, new)
    assert found.exit_code == 1
    assert "numpy: 2.4 before, 2.5 now" in found.output
    assert "torch: absent before, 2.15 now" in found.output
    assert "fails now: loader: wrong result: PSNR" in found.output


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"suites": 1}', "{\n"])
def test_not_a_file_of_ours(tmp_path, content):
    found = compared(tmp_path, content, record(times(1)))
    assert found.exit_code == 2
    assert "old.json: not a file of benchmarks/run.py --json" in found.output


def test_the_committed_results_compare_with_themselves():
    """Every file can be read, and nothing differs from itself."""
    folder = Path(__file__).parents[2] / "benchmarks" / "results"
    for path in sorted(folder.glob("*-cpu.json")):
        found = CliRunner().invoke(compare.main, [str(path), str(path)])
        assert found.exit_code == 0, found.output
        assert "0 slower, 0 faster" in found.output
