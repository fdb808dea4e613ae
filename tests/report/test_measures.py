"""The report: groups, remarks, table, JSON and CSV."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from melfast.cli.measured import results_table
from melfast.report.measures import Scored, measure, write_metrics, write_scored

SCORED = Scored(
    names=["a", "b", "c", "d", "e", "f"],
    targets=np.array([0, 1, 1, 0, 0, -1], np.int8),
    score=np.array([0.1, 0.9, 0.3, 0.6, 0.2, 0.7], np.float32),
    groups=np.array([0, 0, 0, 0, 1, -1], np.int16),
    group_names=("light", "dark", "none of these"),
)


def test_by_hand() -> None:
    found = measure(SCORED, 0.5)
    assert found["all"]["images"] == 5
    assert found["all"]["malignant"] == 2
    assert found["all"]["confusion"] == {"tn": 2, "fp": 1, "fn": 1, "tp": 1}
    assert found["all"]["auc"] == pytest.approx(5 / 6)
    assert list(found["groups"]) == ["light", "dark"]
    assert found["groups"]["light"]["auc"] == pytest.approx(3 / 4)
    assert found["groups"]["light"]["confusion"] == {"tn": 1, "fp": 1, "fn": 1, "tp": 1}
    assert found["groups"]["dark"]["specificity"] == 1.0
    assert found["remarks"] == [
        "dark: auc, average_precision, recall, precision, f1, balanced_accuracy undefined with "
        "0 malignant and 1 benign images",
        "1 images have no target: predicted, not measured",
    ]


def test_group_unknown_only_where_others_have_one() -> None:
    groups = np.array([0, 0, 0, 0, -1, -1])
    known = Scored(SCORED.names, SCORED.targets, SCORED.score, groups, ("light",))
    assert list(measure(known, 0.5)["groups"]) == ["light", "unknown"]
    assert measure(known, 0.5)["groups"]["unknown"]["images"] == 1
    nothing = Scored(SCORED.names, SCORED.targets, SCORED.score, np.full(6, -1))
    assert measure(nothing, 0.5)["groups"] == {}


def test_at_the_threshold_is_malignant() -> None:
    score = np.full(6, 0.25, np.float32)
    found = measure(Scored(SCORED.names, SCORED.targets, score, SCORED.groups, ("x", "y")), 0.25)
    assert found["all"]["confusion"] == {"tn": 0, "fp": 3, "fn": 0, "tp": 2}


def test_table_shows_every_number() -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(results_table(measure(SCORED, 0.5), "title"))
    text = console.export_text()
    (line,) = (line for line in text.splitlines() if line.startswith("│ all"))
    assert line.replace("│", " ").split() == [
        "all",
        "5",
        "2",
        "0.8333",
        "0.8333",
        "50.0",
        "50.0",
        "50.0",
        "58.3",
        "2",
        "1",
        "1",
        "1",
    ]
    (line,) = (line for line in text.splitlines() if line.startswith("│ dark"))
    assert line.replace("│", " ").split()[:5] == ["dark", "1", "0", "-", "-"]


def test_json_is_json(tmp_path: Path) -> None:
    write_metrics(tmp_path / "deep" / "metrics.json", measure(SCORED, 0.5))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "deep" / "metrics.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found["groups"]["dark"]["auc"] is None
    assert found["all"]["auc"] == pytest.approx(5 / 6)


def test_predictions(tmp_path: Path) -> None:
    write_scored(tmp_path / "p.csv", SCORED, 0.5)
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "image_name,probability,prediction,target,group",
        "a,0.100000001,0,0,light",
        "b,0.899999976,1,1,light",
        "c,0.300000012,0,1,light",
        "d,0.600000024,1,0,light",
        "e,0.200000003,0,0,dark",
        "f,0.699999988,1,,",
    ]
