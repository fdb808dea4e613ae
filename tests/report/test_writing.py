"""The report: from tables to a page whose every number stands in metrics.json."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy import stats

from melfast.cli import main
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import critical, wilson
from melfast.metrics.shares import USUAL_PAIRS
from melfast.report.analysis import Images, Model, Settings, analyse
from melfast.report.page import METRICS, number, write_page


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A manifest of 240 images, and what three models say of 200 of them."""
    rng = np.random.default_rng(0)
    rows, tables = [], {"good": [], "fair": [], "calls": []}
    for i in range(240):
        group = int(rng.integers(0, 3))
        target = int(rng.random() < 0.3)
        rows.append(
            {
                "image_name": f"i{i:03d}",
                "path": f"i{i:03d}.png",
                "target": target if i < 238 else "",
                "patient_id": f"P{i // 2}",
                "group": group,
                "group_str": ("light", "tan", "dark")[group],
                "sex": ("female", "male", "")[i % 3],
                "age_approx": 20 + i % 60,
                "ita": round(50 - 30 * group + rng.normal(), 2),
            }
        )
        if i < 40:
            continue
        good = float(np.clip(0.3 + 0.4 * target + 0.2 * rng.normal(), 0, 1))
        fair = float(np.clip(0.5 * good + 0.5 * rng.random(), 0, 1))
        for name, score in (("good", good), ("fair", fair)):
            tables[name].append({"image_name": f"i{i:03d}", "probability": score, "target": int(score >= 0.5)})
        tables["calls"].append({"image_name": f"i{i:03d}.jpg", "target": int(good >= 0.5)})
    write(tmp_path / "manifest.csv", rows)
    for name, table in tables.items():
        write(tmp_path / f"{name}.csv", table)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "i041.png")
    return tmp_path


def test_one_model(data: Path) -> None:
    found = report(
        data / "good.csv",
        "--manifest",
        data / "manifest.csv",
        "--output",
        data / "r",
        "--permutations",
        300,
        "--cross",
        "group,sex",
    )
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert document["schema"] == "melfast-report/1"
    about = document["about"]
    assert (about["images"], about["patients"]) == (198, 99)
    assert about["intervals"]["clusters"] == "patients"
    assert about["remarks"][:2] == [
        "40 images of the manifest have no prediction: left out: i000, i001, i002, i003, i004, ...",
        "2 images are of unknown class: left out: i238, i239",
    ]
    (model,) = document["models"]
    assert list(model["groupings"]) == ["group", "sex", "age_approx", "group x sex"]
    assert model["groupings"]["group"]["names"] == ["light", "tan", "dark"]
    for metric in model["overall"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    with open(data / "r" / "tables.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    auc = next(row for row in rows if row["grouping"] == "all" and row["metric"] == "auc")
    assert float(auc["value"]) == pytest.approx(model["overall"]["auc"]["value"])
    of_gap = next(row for row in rows if row["grouping"] == "sex" and row["metric"] == "gap in recall")
    gap = model["groupings"]["sex"]["gaps"]["recall"]
    wanted = {"value": gap["gap"], "low": gap["low"], "high": gap["high"]} | {
        name: gap["null"][name] for name in ("p_value", "p_adjusted")
    }
    for name, value in wanted.items():
        assert float(of_gap[name]) == pytest.approx(value, rel=1e-8)
    names = {path.name for path in (data / "r").iterdir()}
    assert names >= {
        "report.html",
        "roc.png",
        "precision-recall.png",
        "calibration.png",
        "ita.png",
        "scores.png",
        "threshold-sweep.png",
        "confusion.png",
        "forest-group.png",
        "forest-group-x-sex.png",
    }
    for name in names:
        if name.endswith(".png"):
            with Image.open(data / "r" / name) as image:
                assert np.ptp(np.asarray(image.convert("L"))) > 200, name


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for entry in value.values() for x in numbers_of(entry)]
    if isinstance(value, list):
        return [x for entry in value for x in numbers_of(entry)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_every_number_of_the_page_stands_in_the_document(data: Path) -> None:
    report(
        data / "good.csv",
        data / "fair.csv",
        "--manifest",
        data / "manifest.csv",
        "--output",
        data / "r",
        "--permutations",
        300,
    )
    document = json.loads((data / "r" / "metrics.json").read_text())
    page = (data / "r" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")  # needs nothing else
    body = re.sub(r"<style>.*?</style>|<img[^>]*>", "", page, flags=re.S)
    tables = re.sub(r"<[^>]+>", " ", " ".join(re.findall(r"<td>.*?</td>", body, flags=re.S)))
    shown = {word.strip("+,") for word in re.findall(r"[-+]?\d[\d,.]*", html.unescape(tables))}
    known = {
        f"{form(x)}"
        for x in numbers_of(document)
        for form in (
            lambda x: f"{x:.4f}",
            lambda x: f"{100 * x:.1f}",
            lambda x: f"{x:.3f}",
            lambda x: f"{x:.2f}",
            lambda x: f"{x:,}",
            lambda x: f"{x:+.4f}".strip("+"),
        )
    }
    # Of words: ages, and "0 to 0.2", "2024", "15 bins", "80 % recall" (90, 95) of the explanations.
    words = {
        "30",
        "44",
        "45",
        "59",
        "60",
        "74",
        "75",
        "30-44",
        "0",
        "0.2",
        "2024",
        "15",
        "80",
        "-44",
        "-59",
        "-74",
        "0.001",
        "90",
        "95",
    }
    assert len(shown) > 100
    assert shown - known - words == set()


def test_the_page_is_made_of_the_document(data: Path) -> None:
    report(data / "good.csv", "--manifest", data / "manifest.csv", "--output", data / "r", "--permutations", 200)
    document = json.loads((data / "r" / "metrics.json").read_text())
    document["models"][0]["overall"]["auc"]["value"] = 0.123456
    document["about"]["title"] = "<script>"
    page = write_page(document, [])
    assert "0.1235" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_several_models_with_the_same_images(data: Path) -> None:
    found = report(
        data / "good.csv",
        data / "fair.csv",
        "--manifest",
        data / "manifest.csv",
        "--output",
        data / "r",
        "--permutations",
        300,
        "--by",
        "sex",
        "--name",
        "A",
        "--name",
        "B",
    )
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    (pair,) = document["comparisons"]
    assert (pair["first"], pair["second"]) == ("A", "B")
    assert pair["differences"]["auc"]["value"] == pytest.approx(pair["delong"]["auc"])
    assert [(g["grouping"], g["metric"]) for g in pair["gaps"]] == [
        ("sex", metric) for metric in ("recall", "fpr", "selection_rate", "auc")
    ]
    for found_gap in pair["gaps"]:
        own = [m["groupings"]["sex"]["gaps"][found_gap["metric"]]["gap"] for m in document["models"]]
        assert (found_gap["first"], found_gap["second"]) == pytest.approx(own)
        assert found_gap["low"] <= found_gap["value"] <= found_gap["high"]
    assert "A less B" in (data / "r" / "report.html").read_text()


def test_pictures_of_an_earlier_report_do_not_stay(data: Path) -> None:
    words = ("--manifest", data / "manifest.csv", "--output", data / "r", "--permutations", 100)
    report(data / "good.csv", data / "fair.csv", *words)
    assert (data / "r" / "scores-2.png").exists()
    (data / "r" / "own.png").write_bytes(b"")
    report(data / "good.csv", *words)
    names = {path.name for path in (data / "r").glob("*.png")}
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert names == {*document["pictures"], "own.png"}


def test_calls_alone_and_names_with_suffixes(data: Path) -> None:
    found = report(
        data / "calls.csv", "--manifest", data / "manifest.csv", "--output", data / "r", "--permutations", 200
    )
    assert found.exit_code == 0, found.output
    (model,) = json.loads((data / "r" / "metrics.json").read_text())["models"]
    assert "auc" not in model["overall"]
    assert model["operating_points"] == {}
    page = (data / "r" / "report.html").read_text()
    area = "<td>AUC<small>chance that a malignant image scores above a benign one</small></td>"
    assert f"{area}<td>not available</td>" in page
    assert "calls: calls alone, so AUC, calibration and all else of P(malignant) are not" in page
    assert not (data / "r" / "roc.png").exists()


def test_worst_misses_are_shown_where_files_are(data: Path) -> None:
    rows = [
        {"image_name": "i041", "path": "i041.png", "target": 1},
        {"image_name": "i042", "path": "i042.png", "target": 1},
        {"image_name": "i043", "path": "i043.png", "target": 0},
    ]
    write(data / "m.csv", rows)
    write(data / "p.csv", [{"image_name": r["image_name"], "probability": 0.1 * i} for i, r in enumerate(rows)])
    found = report(
        data / "p.csv", "--manifest", data / "m.csv", "--output", data / "r", "--permutations", 100, "--threshold", 0.5
    )
    assert found.exit_code == 0, found.output
    page = (data / "r" / "report.html").read_text()
    assert "The 1 malignant images of the lowest P(malignant)." in page
    with Image.open(data / "r" / "worst-misses.png") as image:
        assert image.size[0] == 240


def test_without_a_manifest(data: Path) -> None:
    rows = [
        {
            "image_name": f"x{i}",
            "probability": i / 40,
            "target_predicted": int(i >= 20),
            "target": int(i % 3 == 0),
            "group": "ab"[i % 2],
        }
        for i in range(40)
    ]
    path = write(data / "own.csv", rows)
    found = report(path, "--output", data / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert document["models"][0]["groupings"]["group"]["names"] == ["a", "b"]
    assert document["about"]["patients"] is None


def test_groups_of_one_class_are_named(data: Path) -> None:
    rows = [
        {
            "image_name": f"x{i}",
            "probability": i / 40,
            "target_predicted": int(i >= 20),
            "target": int(i % 4 == 1 or i == 2),
            "group": "abc"[i % 2 + (i == 2) * 2],
        }
        for i in range(40)
    ]
    found = report(write(data / "own.csv", rows), "--output", data / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert document["about"]["remarks"] == [
        "group: fewer than 10 malignant images, on which recall, AUC and their intervals say little, of c (1)",
        "group: no malignant images, so no recall and no AUC, of a",
        "group: no benign images, so no specificity and no AUC, of c",
    ]
    groups = document["models"][0]["groupings"]["group"]["groups"]
    assert groups["a"]["metrics"]["recall"]["value"] is None
    assert "note: group: no malignant images" in found.output


def test_a_rate_without_a_miss_counts_patients() -> None:
    """All 15 malignant images of five patients are found, in the dark group 6 of two: as 5 and 2."""
    dark = np.arange(25) % 5 >= 3
    images = Images(
        [f"i{i}" for i in range(25)],
        np.repeat([1, 0], [15, 10]),
        [Groups("tone", dark.astype(np.int64), ("light", "dark"))],
        np.array([*("abcde" * 3), *("fghij" * 2)]),
    )
    calls = Model("m", None, np.repeat([1, 0], [16, 9]), None, "given")
    settings = Settings(permutations=50)
    (found,) = analyse(images, [calls], settings, {})["models"]
    for metrics, patients in ((found["overall"], 5), (found["groupings"]["tone"]["groups"]["dark"]["metrics"], 2)):
        df = patients - 1 + USUAL_PAIRS
        assert metrics["recall"]["method"] == "wilson"
        assert metrics["recall"]["low"] == pytest.approx(wilson(1.0, patients, critical(0.95, df))[0])
    alone = replace(images, patients=None)
    (found,) = analyse(alone, [calls], settings, {})["models"]
    assert found["overall"]["recall"]["low"] == pytest.approx(
        stats.binomtest(15, 15).proportion_ci(method="wilson").low
    )


def bad_cases(data: Path) -> list[tuple[list[object], str]]:
    good, manifest = data / "good.csv", data / "manifest.csv"
    other = write(data / "other.csv", [{"image_name": "zz", "probability": 0.5, "target": 1}])
    bare = write(data / "bare.csv", [{"image_name": "i050", "probability": 0.5}])
    return [
        (
            [good, "--output", "r"],
            f"{good}: has no truth beside the calls (columns target and target_predicted); wanted --manifest",
        ),
        ([good, "--by", "sex", "--output", "r"], "--by and --cross name columns of a manifest; wanted --manifest"),
        ([other, "--manifest", manifest, "--output", "r"], f"{manifest}: lacks 1 of the 1 images of {other}: zz"),
        (
            [good, other, "--manifest", manifest, "--output", "r"],
            f"{other}: lacks 200 images of {good}: i040, i041, i042, i043, i044, ...",
        ),
        (
            [bare, "--manifest", manifest, "--output", "r"],
            f"{bare}: 1 of 1 images have no call "
            "(column target_predicted); wanted --threshold, chosen on other images than these",
        ),
        (
            [good, "--manifest", manifest, "--cross", "group", "--output", "r"],
            "--cross group: wanted two columns as group,sex",
        ),
        (
            [good, good, "--manifest", manifest, "--name", "a", "--output", "r"],
            "--name must name each of the 2 tables once, got a",
        ),
        (
            [data / "calls.csv", "--threshold", 0.5, "--manifest", manifest, "--output", "r"],
            f"{data / 'calls.csv'}: has calls alone, for which --threshold means nothing",
        ),
    ]


def test_bad_input(data: Path) -> None:
    for arguments, message in bad_cases(data):
        found = report(*arguments)
        assert str(found.exception) == message
        assert not Path("r").exists()


def test_shown_numbers() -> None:
    assert number("auc", 0.91234) == "0.9123"
    assert number("recall", 0.91234) == "91.2 %"
    assert number("recall", None) == "–"
    assert set(METRICS) >= {"auc", "recall", "equalized_odds"}


def test_the_published_models_report(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "isic2020"
    found = report(
        folder / "published_predictions.csv",
        "--manifest",
        folder / "ISIC_2020_full.csv",
        "--output",
        tmp_path / "r",
        "--by",
        "group",
        "--permutations",
        2000,
    )
    assert found.exit_code == 0, found.output
    (model,) = json.loads((tmp_path / "r" / "metrics.json").read_text())["models"]
    expected = {
        "accuracy": 0.8920,
        "balanced_accuracy": 0.8091,
        "f1": 0.2183,
        "recall": 0.7226,
        "selection_rate": 0.1173,
    }
    for metric, value in expected.items():
        assert model["overall"][metric]["value"] == pytest.approx(value, abs=5e-5)
    gaps = model["groupings"]["group"]["gaps"]
    assert gaps["selection_rate"]["gap"] == pytest.approx(0.1858, abs=5e-5)
    assert gaps["recall"]["gap"] == pytest.approx(0.2617, abs=5e-5)
    assert gaps["recall"]["null"]["mean"] == pytest.approx(0.19, abs=0.01)
    assert gaps["recall"]["null"]["p_value"] == pytest.approx(0.18, abs=0.03)
    assert (gaps["recall"]["stands"], gaps["recall"]["worst_group"]) == (False, None)
    assert (gaps["fpr"]["stands"], gaps["fpr"]["worst_group"]) == (True, "Tan")
    page = (tmp_path / "r" / "report.html").read_text()
    for shown in ("89.2 %", "80.9 %", "21.8 %", "72.3 %", "11.7 %", "18.6 %", "26.2 %"):
        assert shown in page
