"""Tables of predictions in their usual forms."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melfast.io.errors import InputError
from melfast.report.predictions import Columns, Predictions, odd, read_predictions, settle
from melfast.report.writing import ReportOptions, align


def read(tmp_path: Path, text: str, **columns: str) -> Predictions:
    path = tmp_path / "p.csv"
    path.write_text(text)
    return read_predictions(path, Columns(**columns))


def listed(found: Predictions) -> tuple[list[float] | None, list[int] | None, list[int] | None]:
    arrays = (found.score, found.called, found.truth)
    return tuple(None if a is None else a.tolist() for a in arrays)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # melfast evaluate
        ("image_name,probability,prediction,target,group\nx,0.2,0,1,light\ny,0.8,1,,\n", ([0.2, 0.8], [0, 1], [1, -1])),
        # melfast predict
        ("image_name,prediction,probability\nx,0,0.1\ny,1,0.7\n", ([0.1, 0.7], [0, 1], None)),
        # the published submission form
        ("image_name,target\nx,0\ny,1\n", (None, [0, 1], None)),
        # Kaggle
        ("image_name,target\nx,0.1\ny,1\n", ([0.1, 1.0], None, None)),
        # Beside a score or a call the truth is the truth.
        ("image_name,probability,target\nx,0.1,0\ny,0.7,1\n", ([0.1, 0.7], None, [0, 1])),
        ("isic_id;score;label\nx;0,25;0\ny;0,5;1\n", ([0.25, 0.5], None, [0, 1])),
        ("image,call,truth\nx,1,0\ny,1,1\n", (None, [1, 1], [0, 1])),
        ("image_name,target_predicted,target\nx,1,0\ny,1,1\n", (None, [1, 1], [0, 1])),
        # others
        ("isic_id\tscore\nx\t0,25\ny\t0,5\n", ([0.25, 0.5], None, None)),
        ("file,y_score,y_pred,y_true\nx,0.1,0,0.0\ny,0.7,1,1.0\n", ([0.1, 0.7], [0, 1], [0, 1])),
        ("Image_Name,Probability,Label\nx,0.1,benign\ny,0.7,Malignant\n", ([0.1, 0.7], None, [0, 1])),
        ("image,prediction\nx,benign\ny,malignant\n", (None, [0, 1], None)),
        ("image,score,benign_malignant\nx,0.1,NA\ny,0.7,malignant\n", ([0.1, 0.7], None, [-1, 1])),
    ],
)
def test_kinds(tmp_path: Path, text: str, expected: tuple) -> None:
    found = read(tmp_path, text)
    assert found.names == ["x", "y"]
    assert listed(found) == expected


def test_other_columns_by_name(tmp_path: Path) -> None:
    text = "image,melanoma,say\nx,0.1,0\ny,0.9,1\n"
    found = read(tmp_path, text, score="melanoma", call="say", image="image")
    assert listed(found) == ([0.1, 0.9], [0, 1], None)
    assert found.columns == {"image": "image", "probability": "melanoma", "prediction": "say"}


def test_columns_taken_and_passed_over(tmp_path: Path) -> None:
    found = read(tmp_path, "image,score,label,resnet,age_approx,site\nx,0.1,0,0.3,50,head\ny,0.9,1,,60,arm\n")
    assert found.columns == {"image": "image", "probability": "score", "target": "label"}
    assert found.passed_over == ("resnet",)


TRUTH = np.array([0, 1, 0, 1])
ROWS = "image,score,label\na,0.1,{}\nb,0.2,{}\nc,0.3,{}\nd,0.9,{}\n"


def test_beside_a_score_the_manifests_truth_is_the_truth(tmp_path: Path) -> None:
    table, remarks = settle(read(tmp_path, ROWS.format(0, 1, 0, 1)), TRUTH, Path("m.csv"))
    assert (table.called, remarks) == (None, [])
    assert table.truth is not None


def test_what_a_threshold_makes_is_a_call(tmp_path: Path) -> None:
    table, remarks = settle(read(tmp_path, ROWS.format(0, 0, 0, 1)), TRUTH, Path("m.csv"))
    assert listed(table) == ([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1], None)
    assert table.columns == {"image": "image", "probability": "score", "prediction": "label"}
    assert remarks == [
        f"{tmp_path / 'p.csv'}: column 'label' differs from the manifest's truth in 1 images, and a threshold on the "
        "probability gives it exactly: it is read as the model's calls"
    ]


def test_another_truth_gives_way_to_the_manifests(tmp_path: Path) -> None:
    table, remarks = settle(read(tmp_path, ROWS.format(1, 1, 0, 1)), TRUTH, Path("m.csv"))
    assert table.called is None
    assert remarks == [
        f"{tmp_path / 'p.csv'}: column 'label' differs from the manifest's truth in 1 images; the manifest's is used; "
        "if it holds the model's calls, name it by --call-column"
    ]


def test_a_copy_of_the_manifest_is_no_prediction(tmp_path: Path) -> None:
    table = read(tmp_path, "image,target,resnet\na,0,0.1\nb,1,0.2\nc,0,3\nd,1,4\n")
    with pytest.raises(InputError) as caught:
        settle(table, TRUTH, Path("m.csv"))
    assert str(caught.value) == (
        f"{tmp_path / 'p.csv'}: column 'target' is the truth of m.csv for every image, and there are no answers of a "
        "model; columns of numbers: resnet; name them by --score-column or --call-column"
    )
    # What is called a prediction may be right every time, but that is said.
    table = read(tmp_path, "image,prediction\na,0\nb,1\nc,0\nd,1\n")
    assert settle(table, TRUTH, Path("m.csv")) == (table, [])
    assert odd(table, TRUTH) == [
        f"{table.path}: the calls are right for every image; check that they are not a copy of the truth"
    ]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            "image,score\na,0.1\nb,0.8\nc,0.2\nd,0.9\n",
            "a threshold on the probability separates the classes without one error, which is rare: check that the "
            "truth is not made from the model's answers",
        ),
        (
            "image,score,pred\na,0.1,1\nb,0.2,1\nc,0.8,0\nd,0.9,0\n",
            "images called malignant have lower probabilities than those called benign: is the probability that of "
            "benign?",
        ),
        (
            "image,score,pred\na,0.1,0\nb,0.5,1\nc,0.6,0\nd,0.9,1\n",
            "no single threshold makes the calls: 1 images called benign have a higher probability than another "
            "called malignant (thresholds by group may do that)",
        ),
    ],
)
def test_what_is_hard_to_believe_gets_a_remark(tmp_path: Path, text: str, remark: str) -> None:
    table = read(tmp_path, text)
    assert f"{table.path}: {remark}" in odd(table, TRUTH)


def test_nothing_odd(tmp_path: Path) -> None:
    assert odd(read(tmp_path, "image,score,pred\na,0.1,0\nb,0.3,0\nc,0.2,0\nd,0.9,1\n"), TRUTH) == []


def test_one_image_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "image,score\nim0,0.1\nim1,0.3\nim0.jpg,0.2\nim1.PNG,0.2\n")
    assert str(caught.value) == (
        f"{tmp_path / 'p.csv'}:4: image must name each image once ('im0' comes first), got 'im0.jpg'; 2 such rows: "
        "lines 4 'im0.jpg', 5 'im1.PNG'"
    )
    # Two files of one name, and a dot that begins no suffix.
    assert len(read(tmp_path, "image,score\nim0.png,0.1\nim0.jpg,0.2\nv1.2,0.1\nv1.3,0.1\n")) == 4


def test_a_table_is_refused_before_slow_imports() -> None:
    modules = "melfast.report.predictions, melfast.cli.report"
    code = f"import sys, {modules}; print({{'pandas', 'scipy', 'torch'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_threshold_between_the_calls(tmp_path: Path) -> None:
    found = read(tmp_path, "image_name,prediction,probability\nx,0,0.1\ny,1,0.7\nz,0,0.3\n")
    assert found.threshold == pytest.approx(0.5)
    # Calls that no threshold makes, of one kind, and none.
    assert read(tmp_path, "image,pred,prob\nx,1,0.1\ny,0,0.7\n").threshold is None
    assert read(tmp_path, "image,pred,prob\nx,1,0.1\ny,1,0.7\n").threshold is None
    assert read(tmp_path, "image,prob\nx,0.1\n").threshold is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n",
            ": no column of image names (image_name, image, isic_id, image_id, "
            "filename, file); there are a, b; melfast report takes it by --image-column",
        ),
        (
            "image,b\nx,2\n",
            ": no column of probabilities (probability, prob, score, p_malignant, "
            "y_score, y_prob) or calls (prediction, predicted, target_predicted, predicted_label, call, pred, y_pred); "
            "there are image, b; of numbers: b; melfast report takes them by --score-column and --call-column",
        ),
        ("image,score\n", ": has a header but no rows"),
        ("image,score\nx,0.1\nx,0.2\n", ":3: image must name each image once, got 'x'"),
        ("image,score\nx,0.1\n,0.2\n", ":3: image must name an image, got ''"),
        (
            "image,score\nx,0.1\ny,1\nx,0.2\ny,0\n",
            ":4: image must name each image once, got 'x'; 2 such rows: lines 4 'x', 5 'y'",
        ),
        ("image,score\nx,0.1\ny,1,5\n", ":3: found 3 cells, expected 2 as in the header"),
        ('image,score\nx,0.1\ny,"0,5"\n', ":3: score must be a number in 0..1, got '0,5'"),
        (
            "image,score\na,2\nb,-1\nc,nan\nd,\ne,x\nf,1e9\ng,0.5\n",
            ":2: score must be a number in 0..1, got '2'; 6 such rows: lines 2 '2', 3 '-1', 4 'nan', 5 '', 6 'x', ...",
        ),
        ("image,score\nx,1.1\n", ":2: score must be a number in 0..1, got '1.1'"),
        ("image,score\nx,nan\n", ":2: score must be a number in 0..1, got 'nan'"),
        ("image,pred\nx,2\n", ":2: pred must be 0, 1, true, false, benign, malignant or empty, got '2'"),
        ("image,target\nx,naevus\n", ":2: target must be a number in 0..1, got 'naevus'"),
    ],
)
def test_bad_input(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'p.csv'}{message}"


def test_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p.csv: no column 'p'; there are image, score$"):
        read(tmp_path, "image,score\nx,0.5\n", score="p")


def drawn(tmp_path: Path, **columns: list[Any]) -> Path:
    path = tmp_path / "p.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_calls_that_look_like_the_truth_are_refused_without_a_manifest(tmp_path: Path) -> None:
    """`target` is 1 where the probability is 0.5 or more: AUC would be 1."""
    score = [i / 40 for i in range(40)]
    names, target = [f"i{i}" for i in range(40)], [int(s >= 0.5) for s in score]
    path = drawn(tmp_path, image_name=names, target=target, probability=score)
    with pytest.raises(InputError) as error:
        align([read_predictions(path)], None, ReportOptions())
    assert str(error.value) == (
        f"{path}: a threshold on column 'probability' gives column 'target' for every image, so it seems to hold the "
        "model's calls and not the truth; expected --manifest, or --truth-column if it is the truth"
    )
    data, _ = align([read_predictions(path, Columns(truth="target"))], None, ReportOptions())
    assert "separates the classes without one error" in data.remarks[0]["text"]


def test_a_named_column_is_not_read_as_something_else(tmp_path: Path) -> None:
    """`pred` holds fractions: not the calls too."""
    path = drawn(tmp_path, image_name=["a", "b"], pred=[0.2, 0.7], target=["True", "False"])
    found = read_predictions(path, Columns(score="pred"))
    assert found.called is None
    assert found.score is not None
    assert found.truth is not None
    assert (found.score.tolist(), found.truth.tolist()) == ([0.2, 0.7], [1, 0])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "image,score,label,y_true",
            "columns 'label' and 'y_true' differ in 2 images, and either may be the truth; name it by --truth-column, "
            "or calls by --call-column",
        ),
        (
            "image,score,y_pred,call",
            "columns 'call' and 'y_pred' differ in 2 images, and either may be the model's calls; name them by "
            "--call-column",
        ),
    ],
)
def test_two_columns_that_contradict_each_other_are_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, f"{header}\na,0.1,0,1\nb,0.8,1,1\nc,0.2,1,0\nd,0.9,1,\n")
    assert str(caught.value) == f"{tmp_path / 'p.csv'}: {message}"


def test_two_columns_of_the_truth_that_agree_or_are_told_apart(tmp_path: Path) -> None:
    table = "image,score,label,y_true\na,0.1,{},0\nb,0.8,{},1\n"
    assert read(tmp_path, table.format("benign", "malignant")).columns["target"] == "label"
    contradicting = table.format(1, 1)
    found = read(tmp_path, contradicting, truth="y_true")
    assert (found.columns["target"], found.called) == ("y_true", None)
    found = read(tmp_path, contradicting, call="label")
    assert (found.columns["target"], found.columns["prediction"]) == ("y_true", "label")


@pytest.mark.parametrize(("first", "second"), [("im0", "IM0"), ("im0.jpg", "Im0"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_differ_only_in_case_are_refused_without_a_manifest(tmp_path: Path, first: str, second: str) -> None:
    table = read(tmp_path, f"image,score,target\n{first},0.1,0\n{second},0.8,1\nim1,0.2,1\n")
    with pytest.raises(InputError) as caught:
        align([table], None, ReportOptions())
    assert str(caught.value) == (
        f"{table.path}: {first!r} and {second!r} may be one image; if they are different images, expected --manifest "
        "with both"
    )


def test_two_files_of_one_name_are_two_images_without_a_manifest(tmp_path: Path) -> None:
    table = read(tmp_path, "image,score,target\nim0.jpg,0.1,0\nim0.png,0.8,1\nim1,0.2,1\n")
    assert len(align([table], None, ReportOptions())[0].images.names) == 3
