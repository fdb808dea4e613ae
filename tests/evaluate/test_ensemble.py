"""Ensembles: combined scores by hand, and tables that do not match."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from melfast.evaluate.ensemble import combine, read_member, run_ensemble, seen_before
from melfast.io.errors import InputError
from melfast.train.data import MANIFEST

ROWS = {"a": (0.9, 1), "b": (0.1, 0), "c": (0.4, 1), "d": (0.2, 0)}


def table(path: Path, scores: dict[str, float], threshold: float = 0.5, **cells: dict) -> Path:
    names = list(scores)
    calls = {n: int(s >= threshold) for n, s in scores.items()}
    columns = {"image_name": dict(zip(names, names, strict=True)), "probability": scores, "prediction": calls} | cells
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([column[name] for column in columns.values()] for name in names)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_mean_by_hand() -> None:
    score, threshold = combine(np.array([[0.2, 0.8], [0.4, 0.4]]), [0.5, 0.3], "mean")
    np.testing.assert_allclose(score, [0.3, 0.6])
    assert threshold == 0.4
    assert combine(np.array([[0.2], [0.4]]), [0.5, None], "mean")[1] is None


def test_rank_mean_by_hand() -> None:
    """The scores of the second member are a hundredth of the first's, in the same order."""
    score_mn = np.array([[0.1, 0.9, 0.5, 0.5], [0.001, 0.009, 0.005, 0.003]])
    score, threshold = combine(score_mn, [0.6, 0.004], "rank-mean")
    np.testing.assert_allclose(score, [1 / 8, 7 / 8, (4 / 8 + 5 / 8) / 2, (4 / 8 + 3 / 8) / 2])
    assert threshold == (3 / 4 + 2 / 4) / 2


def test_one_model_twice_is_that_model() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(100)
    for method in ("mean", "rank-mean"):
        found, threshold = combine(np.stack([score, score]), [0.3, 0.3], method)
        assert (np.argsort(found) == np.argsort(score)).all()
        assert ((found >= threshold) == (score >= 0.3)).all()


def test_tables(tmp_path: Path) -> None:
    truth = {"a": 1, "b": 0, "c": 1, "d": 0}
    one = table(
        tmp_path / "1.csv",
        {n: s for n, (s, _) in ROWS.items()},
        target=truth,
        group={"a": "light", "b": "dark", "c": "", "d": "dark"},
    )
    # Another order, and no truth.
    two = table(tmp_path / "2.csv", {"d": 0.3, "c": 0.8, "b": 0.2, "a": 0.6})
    evaluation = run_ensemble([one, str(two)], str(tmp_path / "out"))
    rows = read(tmp_path / "out" / "predictions.csv")
    assert [row["image_name"] for row in rows] == ["a", "b", "c", "d"]
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, [0.75, 0.15, 0.6, 0.25])
    assert [row["target"] for row in rows] == ["1", "0", "1", "0"]
    assert [row["group"] for row in rows] == ["light", "dark", "", "dark"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    # Halfway between the calls of each: 0.65 and 0.45.
    assert metrics["threshold"] == pytest.approx((0.65 + 0.45) / 2)
    assert metrics["members"] == [str(one), str(two)]
    assert metrics["all"]["auc"] == 1.0
    assert [row["prediction"] for row in rows] == ["1", "0", "1", "0"]
    assert evaluation is not None
    assert evaluation.title == "mean of 2 models, threshold 0.5500"
    assert evaluation.measured["all"]["auc"] == 1.0


def test_tables_of_predict_have_calls_and_no_truth(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("image_name,prediction,probability\nx,0,0.1\ny,1,0.7\n")
    member = read_member(path)
    assert member.threshold == pytest.approx(0.4)
    assert member.scored.targets.tolist() == [-1, -1]


BAD = {
    "image_name,probability\nx,0.5\nx,0.6\n": ":3: image_name must name each image once, got 'x'",
    "image_name,probability\nx,1.5\n": ":2: probability must be a number in 0..1, got '1.5'",
    "image_name,probability\nx,\n": ":2: probability must be a number in 0..1, got ''",
    "image_name,probability,target\nx,0.5,mel\n": (
        ":2: target must be 0, 1, true, false, benign, malignant or empty, got 'mel'"
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_bad_table(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_member(path)
    assert str(caught.value) == f"{path}{message}"


def test_what_does_not_go_together(tmp_path: Path) -> None:
    scores = {n: s for n, (s, _) in ROWS.items()}
    one = table(tmp_path / "1.csv", scores, target={"a": 1, "b": 0, "c": 1, "d": 0})
    few = table(tmp_path / "2.csv", {"a": 0.9, "d": 0.1})
    other = table(tmp_path / "3.csv", scores, target={"a": 1, "b": 1, "c": 1, "d": 1})
    uncalled = table(tmp_path / "4.csv", scores, threshold=0.95)
    wrong: list[tuple[list[Path], dict, str]] = [
        ([one], {}, "an ensemble needs at least two models, got 1"),
        ([one, few], {}, f"{few}: lacks 2 images of {one}: b, c"),
        ([few, one], {}, f"{few}: lacks 2 images of {one}: b, c"),
        ([one, other], {}, f"{one} and {other} disagree on the truth of 'b' (0 and 1), and of 1 more"),
        ([one, tmp_path], {}, f"{tmp_path}: expected tables of predictions (.csv) only, or runs and checkpoints only"),
        ([one, one], {"threshold": 1.5}, "`threshold` must be in 0..1, got 1.5"),
        (
            [one, uncalled],
            {"method": "rank-mean"},
            "rank-mean: the members' thresholds are unknown"
            ", because their tables lack calls of both classes; expected `threshold`, a share of the "
            "images",
        ),
    ]
    for sources, options, message in wrong:
        with pytest.raises(InputError) as caught:
            run_ensemble(sources, tmp_path / "out", **options)
        assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_images_that_a_member_was_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "epoch-001"
    folder.mkdir(parents=True)
    (tmp_path / "run" / MANIFEST).write_text(
        "image_name,path,target,split\nx,x.png,1,train\ny,y.png,0,test\nz,z.png,0,train\n"
    )
    assert seen_before(folder, ["x", "y"]) == [f"{folder} was trained on 1 of these images"]
    assert seen_before(folder, ["y"]) == []
