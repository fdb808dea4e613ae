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
from melfast.io.errors import InputError
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import critical, wilson
from melfast.report.analysis import Images, Model, Settings, analyse
from melfast.report.page import METRICS, number, write_page
from melfast.report.predictions import Predictions, read_predictions
from melfast.report.writing import Data, ReportOptions, align, read_any_manifest, seen_in_training


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
            tables[name].append({"image_name": f"i{i:03d}", "probability": score, "prediction": int(score >= 0.5)})
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
        {
            "kind": "images",
            "text": "40 images of the manifest have no prediction: left out: i000, i001, i002, i003, i004, ...",
        },
        {"kind": "images", "text": "2 images are of unknown class: left out: i238, i239"},
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
    body = page.split("<h2>Reporting checklists</h2>")[0]
    body = re.sub(r"<style>.*?</style>|<img[^>]*>|<div class='scale.*?</div>", "", body, flags=re.S)
    tables = re.sub(
        r"<[^>]+>", " ", " ".join(re.findall(r"<(?:td|dd|p class=lead).*?</(?:td|dd|p)>", body, flags=re.S))
    )
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
    counts = [model["confusion"] for model in document["models"]]
    counts += [
        g["confusion"] for m in document["models"] for x in m["groupings"].values() for g in x["groups"].values()
    ]
    known |= {f"{c[a] + c[b]:,}" for c in counts for a, b in (("fn", "tp"), ("fp", "tn"))}
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
    assert "<bdi>A</bdi> minus <bdi>B</bdi>" in (data / "r" / "report.html").read_text()


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
    area = 'AUC<small>chance that a malignant image scores above a benign one</small></th><td data-label="calls">'
    assert f"{area}not available</td>" in page
    assert "calls: only calls, so no AUC, calibration or anything else that needs probabilities" in page
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
            "prediction": int(i >= 20),
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
            "prediction": int(i >= 20),
            "target": int(i % 4 == 1 or i == 2),
            "group": "abc"[i % 2 + (i == 2) * 2],
        }
        for i in range(40)
    ]
    found = report(write(data / "own.csv", rows), "--output", data / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert [remark["text"] for remark in document["about"]["remarks"] if remark["kind"] == "groups"] == [
        "group: fewer than 10 malignant images in c (1): recall, AUC and their intervals say little there",
        "group: no malignant images in a: no recall and no AUC there",
        "group: no benign images in c: no specificity and no AUC there",
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
        assert metrics["recall"]["method"] == "wilson"
        assert metrics["recall"]["low"] == pytest.approx(wilson(1.0, patients, critical(0.95))[0])
    alone = replace(images, patients=None)
    (found,) = analyse(alone, [calls], settings, {})["models"]
    assert found["overall"]["recall"]["low"] == pytest.approx(
        stats.binomtest(15, 15).proportion_ci(method="wilson").low
    )


def aligned(tables: list[Predictions], manifest: Path | None = None, **wanted: Any) -> tuple[Data, list[Predictions]]:
    return align(tables, None if manifest is None else read_any_manifest(manifest), ReportOptions(**wanted))


def table(path: Path, text: str) -> Predictions:
    path.write_text(text)
    return read_predictions(path)


def test_probabilities_alone_need_no_threshold(data: Path) -> None:
    """As Kaggle wants them: fractions in `target`."""
    rows = [{"image_name": f"i{i:03d}", "target": f"{0.001 + (i * 37 % 100) / 101:.3f}"} for i in range(240)]
    path = write(data / "kaggle.csv", rows)
    words = (path, "--manifest", data / "manifest.csv", "--by", "group", "--permutations", 100, "--output", data / "r")
    found = report(*words)
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    (model,) = document["models"]
    assert {"auc", "average_precision", "pauc_80tpr", "brier"} <= model["overall"].keys()
    assert not {"recall", "specificity", "f1"} & model["overall"].keys()
    assert model["confusion"] is None
    assert model["groupings"]["group"]["gaps"].keys() == {"auc"}
    assert document["about"]["predictions"] == [
        {"path": str(path), "columns": {"image": "image_name", "probability": "target"}, "passed_over": []}
    ]
    assert "kaggle: no calls and no --threshold, so no sensitivity, specificity or missed cancers" in found.output
    assert (data / "r" / "forest-group.png").exists()
    assert report(*words, "--threshold", 0.4).exit_code == 0
    (model,) = json.loads((data / "r" / "metrics.json").read_text())["models"]
    assert "recall" in model["overall"]


def test_a_table_with_truth_and_scores_of_many_models_is_enough(data: Path) -> None:
    rows = [
        {
            "image": f"x{i}",
            "resnet": i / 60,
            "convnext": (i * 7 % 60) / 60,
            "vgg": 3,
            "label": ("benign", "malignant")[i % 3 == 0],
        }
        for i in range(60)
    ]
    path = write(data / "models.csv", rows)
    scores = ("--score-column", "resnet", "--score-column", "convnext")
    found = report(path, *scores, "--threshold", 0.5, "--output", data / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    document = json.loads((data / "r" / "metrics.json").read_text())
    assert [model["name"] for model in document["models"]] == ["resnet", "convnext"]
    assert document["about"]["predictions"][0]["passed_over"] == ["vgg"]
    assert document["about"]["malignant"] == 20
    assert 0.3 < document["models"][0]["overall"]["auc"]["value"] < 0.7  # never perfect by mistake
    found = report(path, *scores, "--call-column", "label", "--output", data / "r")
    assert str(found.exception) == "--call-column goes with one --score-column: the calls are of one model"


def test_inverted_scores_are_named(data: Path) -> None:
    rows = [{"image": f"x{i}", "score": 1 - (i + 5 * (i % 7)) / 100, "label": int(i >= 30)} for i in range(60)]
    found = report(write(data / "o.csv", rows), "--output", data / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    assert "note: o: its AUC is below 0.5 beyond chance: the probabilities seem to be those of benign" in found.output
    assert (
        "the probabilities seem to be those of benign" in (data / "r" / "report.html").read_text().split("id=notes")[0]
    )


LEAK = """image_name,path,target,split,patient_id,lesion_id
a,a.png,1,train,P1,L1
b,b.png,0,train,P2,
c,c.png,1,test,P1,L1
d,d.png,0,test,P3,L3
e,e.png,0,test,P2,L4
"""


def test_images_and_patients_seen_in_training_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(LEAK)
    manifest = read_any_manifest(tmp_path / "m.csv")
    remarks = seen_in_training(manifest, manifest, ["b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    assert remarks == [
        {"kind": "training", "text": text}
        for text in (
            "1 of the 4 reported images are of the training split: the model has seen them and looks better than it is",
            "2 of the 3 reported patients also have images in the training split: expect worse results for new "
            "patients",
            "1 of the 3 reported lesions also have images in the training split: expect worse results for new lesions",
        )
    ]
    # Of another manifest the training split may come.
    test = manifest.select(manifest.splits == "test")
    assert len(seen_in_training(test, manifest, ["c", "d", "e"])) == 2
    assert seen_in_training(test, test, ["c", "d", "e"]) == []


def test_names_match_with_and_without_suffix_and_folder(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_name,path,target\na,a.png,1\nb.jpg,b.png,0\nx/c,c.png,0\n")
    found, _ = aligned([table(tmp_path / "p.csv", "image,score\nc,0.1\na.jpg,0.9\nb.jpg,0.2\n")], tmp_path / "m.csv")
    assert found.images.y_true.tolist() == [0, 1, 0]
    with pytest.raises(InputError, match=r"m.csv: lacks 2 of the 3 images of .*p.csv: a.png, a.jpg$"):
        aligned([table(tmp_path / "p.csv", "image,score\nc,0.1\na.png,0.9\na.jpg,0.2\n")], tmp_path / "m.csv")


def test_tone_groups_are_made_of_ita(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_name,path,target,ita\na,a.png,1,60\nb,b.png,0,-40\nc,c.png,0,\n")
    found, _ = aligned([table(tmp_path / "p.csv", "image,score\na,0.1\nb,0.9\nc,0.2\n")], tmp_path / "m.csv")
    (groups,) = found.images.groupings
    assert groups.labels.tolist() == ["very light", "dark", ""]
    assert found.remarks[0]["text"].startswith("tone groups: made of column ita by the table of six groups (Chardon")


def test_groups_may_have_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_name,path,target,group\na,a.png,1,Dark\nb,b.png,0,Light\nc,c.png,0,\n")
    found, _ = aligned([table(tmp_path / "p.csv", "image,score\na,0.1\nb,0.9\nc,0.2\n")], tmp_path / "m.csv")
    (groups,) = found.images.groupings
    assert groups.labels.tolist() == ["Dark", "Light", ""]
    assert [name for name in groups.names if name in ("Dark", "Light")] == ["Light", "Dark"]  # light to dark


def test_too_many_groups_are_refused(tmp_path: Path) -> None:
    rows = range(130)
    own = "image,score,target,group\n" + "".join(f"i{i},0.{i:03d},{i % 2},g{i % 65}\n" for i in rows)
    with pytest.raises(InputError, match=r"p.csv: column 'group' has 65 different values, expected at most 64 groups$"):
        aligned([table(tmp_path / "p.csv", own)])
    (tmp_path / "m.csv").write_text(
        "image_name,path,target,group,a,b\n" + "".join(f"i{i},x,{i % 2},{i % 65},{i % 9},{i % 11}\n" for i in rows)
    )
    scores = table(tmp_path / "p.csv", "image,score\n" + "".join(f"i{i},0.{i:03d}\n" for i in rows))
    with pytest.raises(InputError, match=r"m.csv: column 'group' has 65 different values, expected at most 64 groups$"):
        aligned([scores], tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"m.csv: column 'a x b' has 99 different values, expected at most 64"):
        aligned([scores], tmp_path / "m.csv", by=["a"], crossed=[("a", "b")])


def test_tables_that_disagree_on_the_truth_are_refused(tmp_path: Path) -> None:
    one = table(tmp_path / "a.csv", "image,score,label\na,0.1,0\nb,0.9,1\n")
    other = table(tmp_path / "b.csv", "image,score,label\nb,0.9,0\na,0.1,0\n")
    with pytest.raises(InputError, match=r"b.csv: its truth differs from that of .*a.csv in 1 images$"):
        aligned([one, other])


def bad_cases(data: Path) -> list[tuple[list[object], str]]:
    good, manifest = data / "good.csv", data / "manifest.csv"
    other = write(data / "other.csv", [{"image_name": "zz", "probability": 0.5, "prediction": 1}])
    rows = [{"image_name": f"i{i:03d}", "probability": 0.5, "prediction": ("", 1)[i > 50]} for i in range(50, 60)]
    bare = write(data / "bare.csv", rows)
    return [
        (
            [good, "--output", "r"],
            f"{good}: has no truth (target, truth, label, y_true, ground_truth, benign_malignant) beside the model's "
            "answers; expected --manifest, or --truth-column",
        ),
        ([good, "--by", "sex", "--output", "r"], "--by and --cross name columns of a manifest; expected --manifest"),
        ([other, "--manifest", manifest, "--output", "r"], f"{manifest}: lacks 1 of the 1 images of {other}: zz"),
        (
            [good, other, "--manifest", manifest, "--output", "r"],
            f"{other}: lacks 200 images of {good}: i040, i041, i042, i043, i044, ...",
        ),
        (
            [bare, "--manifest", manifest, "--output", "r"],
            f"{bare}: 1 of 10 images have no call "
            "(column prediction); expected --threshold, chosen on other images than these",
        ),
        (
            [good, "--manifest", manifest, "--cross", "group", "--output", "r"],
            "--cross group: expected two columns as group,sex",
        ),
        (
            [good, good, "--manifest", manifest, "--name", "a", "--output", "r"],
            "--name must name each of the 2 models once, got a",
        ),
        (
            [data / "calls.csv", "--threshold", 0.5, "--manifest", manifest, "--output", "r"],
            f"{data / 'calls.csv'}: has only calls, for which --threshold means nothing",
        ),
    ]


def test_bad_input(data: Path) -> None:
    for arguments, message in bad_cases(data):
        found = report(*arguments)
        assert str(found.exception) == message
        assert not Path("r").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("threshold", [[], ["--threshold", 0.5]])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("target", [0, 1])
def test_one_class_is_reported_and_never_perfect(
    target: int, count: int, threshold: list[object], tmp_path: Path
) -> None:
    rows = [f"im{i},{target},{i / 20},{'ab'[i % 2]}" for i in range(count)]
    (tmp_path / "p.csv").write_text("\n".join(["image,target,probability,group", *rows]) + "\n")
    found = report(tmp_path / "p.csv", "--output", tmp_path / "r", "--permutations", 100, *threshold)
    assert found.exit_code == 0, found.output
    (model,) = json.loads((tmp_path / "r" / "metrics.json").read_text())["models"]
    assert (model["overall"]["auc"]["value"], model["overall"]["average_precision"]["value"]) == (None, None)
    assert "there is only one class" in (tmp_path / "r" / "report.html").read_text()


def test_an_empty_column_of_groups_is_no_grouping(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,target,probability,group\na,0,0.1,\nb,1,0.2,\nc,0,0.3,\n")
    found = report(tmp_path / "p.csv", "--output", tmp_path / "r", "--permutations", 100)
    assert found.exit_code == 0, found.output
    (model,) = json.loads((tmp_path / "r" / "metrics.json").read_text())["models"]
    assert model["groupings"] == {}


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
