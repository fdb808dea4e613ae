"""Tables of predictions as people have them."""

from pathlib import Path

import pytest

from melfast.io.errors import InputError
from melfast.report.predictions import Predictions, read_predictions


def read(tmp_path: Path, text: str, **options: str) -> Predictions:
    path = tmp_path / "p.csv"
    path.write_text(text)
    return read_predictions(path, **options)


def listed(found: Predictions) -> tuple[list[float] | None, list[int] | None, list[int] | None]:
    arrays = (found.score, found.called, found.truth)
    return tuple(None if a is None else a.tolist() for a in arrays)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # melfast evaluate
        (
            "image_name,probability,target_predicted,target,group\nx,0.2,0,1,light\ny,0.8,1,,\n",
            ([0.2, 0.8], [0, 1], [1, -1]),
        ),
        # melfast predict
        ("image_name,target,probability\nx,0,0.1\ny,1,0.7\n", ([0.1, 0.7], [0, 1], None)),
        # the published system
        ("image_name,target\nx,0\ny,1\n", (None, [0, 1], None)),
        # Kaggle
        ("image_name,target\nx,0.1\ny,1\n", ([0.1, 1.0], None, None)),
        # others
        ("isic_id;score;label\nx;0,25;0\ny;0,5;1\n", ([0.25, 0.5], [0, 1], None)),
        ("isic_id\tscore\nx\t0,25\ny\t0,5\n", ([0.25, 0.5], None, None)),
        ("file,y_score,y_pred,y_true\nx,0.1,0,0.0\ny,0.7,1,1.0\n", ([0.1, 0.7], [0, 1], [0, 1])),
    ],
)
def test_kinds(tmp_path: Path, text: str, expected: tuple) -> None:
    found = read(tmp_path, text)
    assert found.names == ["x", "y"]
    assert listed(found) == expected


def test_other_columns_by_name(tmp_path: Path) -> None:
    text = "image,melanoma,say\nx,0.1,0\ny,0.9,1\n"
    found = read(tmp_path, text, score_column="melanoma", call_column="say", name_column="image")
    assert listed(found) == ([0.1, 0.9], [0, 1], None)


def test_threshold_between_the_calls(tmp_path: Path) -> None:
    found = read(tmp_path, "image_name,target,probability\nx,0,0.1\ny,1,0.7\nz,0,0.3\n")
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
            "y_score) or calls (target_predicted, predicted, prediction, pred, y_pred); there are "
            "image, b; melfast report takes them by --score-column and --call-column",
        ),
        ("image,score\n", ": holds a header and no rows"),
        ("image,score\nx,0.1\nx,0.2\n", ":3: image must name each image once, got 'x'"),
        ("image,score\nx,0.1\n,0.2\n", ":3: image must name an image, got ''"),
        (
            "image,score\nx,0.1\ny,1\nx,0.2\ny,0\n",
            ":4: image must name each image once, got 'x'; 2 such rows: lines 4 'x', 5 'y'",
        ),
        ("image,score\nx,0.1\ny,1,5\n", ":3: found 3 cells, wanted 2 as in the header"),
        ('image,score\nx,0.1\ny,"0,5"\n', ":3: score must be a number in 0..1, got '0,5'"),
        (
            "image,score\na,2\nb,-1\nc,nan\nd,\ne,x\nf,1e9\ng,0.5\n",
            ":2: score must be a number in 0..1, got '2'; 6 such rows: lines 2 '2', 3 '-1', 4 'nan', 5 '', 6 'x', ...",
        ),
        ("image,score\nx,1.1\n", ":2: score must be a number in 0..1, got '1.1'"),
        ("image,score\nx,nan\n", ":2: score must be a number in 0..1, got 'nan'"),
        ("image,pred\nx,2\n", ":2: pred must be 0, 1 or empty, got '2'"),
        ("image,target\nx,benign\n", ":2: target must be a number in 0..1, got 'benign'"),
    ],
)
def test_bad_input(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'p.csv'}{message}"


def test_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p.csv: no column 'p'; there are image, score$"):
        read(tmp_path, "image,score\nx,0.5\n", score_column="p")
