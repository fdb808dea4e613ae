"""Metrics: by hand, then against scikit-learn, then where they are undefined."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from melfast.evaluate import metrics
from melfast.evaluate.metrics import Confusion, binary_metrics, confusion

TRUE = [0, 1, 0, 1, 1]
SCORE = [0.1, 0.9, 0.6, 0.6, 0.2]


def test_by_hand() -> None:
    # Of the 6 pairs (malignant, benign): 0.9 beats both, 0.6 beats 0.1 and ties, 0.2 beats 0.1.
    assert metrics.roc_auc(TRUE, SCORE) == pytest.approx(4.5 / 6)
    # Down the scores: 0.9 (1 of 1), 0.6 twice (2 of 3), 0.2 (3 of 4); a third of recall each.
    assert metrics.average_precision(TRUE, SCORE) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    counts = confusion(TRUE, np.array(SCORE) >= 0.6)
    assert counts == Confusion(tn=1, fp=1, fn=1, tp=2)
    assert metrics.recall(counts) == pytest.approx(2 / 3)
    assert metrics.specificity(counts) == pytest.approx(1 / 2)
    assert metrics.precision(counts) == pytest.approx(2 / 3)
    assert metrics.f1(counts) == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 16])  # few digits: many ties
def test_against_scikit_learn(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random(300) < 0.2
    score = np.round(rng.random(300) * 0.7 + 0.3 * true, digits)
    called = score >= 0.5
    found = binary_metrics(true, score, 0.5)
    assert found == pytest.approx(
        {
            "auc": sk.roc_auc_score(true, score),
            "average_precision": sk.average_precision_score(true, score),
            "recall": sk.recall_score(true, called),
            "precision": sk.precision_score(true, called),
            "f1": sk.f1_score(true, called),
            "specificity": sk.recall_score(~true, ~called),
            "balanced_accuracy": sk.balanced_accuracy_score(true, called),
        },
        abs=1e-12,
    )
    counts = confusion(true, called)
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == sk.confusion_matrix(
        true, called
    ).ravel().tolist()


def test_any_float_type_gives_the_same() -> None:
    score = np.array(SCORE, np.float32)
    assert metrics.roc_auc(np.array(TRUE, np.int8), score) == metrics.roc_auc(TRUE, SCORE)


@pytest.mark.parametrize(
    ("true", "score", "undefined"),
    [
        ([0, 0], [0.1, 0.2], {"auc", "average_precision", "recall", "precision", "f1",
                              "balanced_accuracy"}),
        ([0, 0], [0.1, 0.9], {"auc", "average_precision", "recall", "balanced_accuracy"}),
        ([1, 1], [0.1, 0.9], {"auc", "specificity", "balanced_accuracy"}),
        ([0, 1], [0.1, 0.2], {"precision"}),
        ([], [], {"auc", "average_precision", "recall", "precision", "f1", "specificity",
                  "balanced_accuracy"}),
    ],
)  # fmt: skip
def test_nan_where_undefined(true: list[int], score: list[float], undefined: set[str]) -> None:
    found = binary_metrics(true, score, 0.5)
    assert {name for name, value in found.items() if math.isnan(value)} == undefined


@pytest.mark.parametrize(
    ("true", "score", "message"),
    [
        ([0, 1, 1], [0.5, 0.5], r"y_true \(3,\) and values \(2,\) must be equally long"),
        ([0, 2], [0.5, 0.5], r"y_true must hold 0 and 1, got \[0, 2\]"),
        ([0, -1], [0.5, 0.5], r"y_true must hold 0 and 1, got \[-1, 0\]"),
        ([0, 1], [0.5, math.nan], "1 of 2 scores are NaN"),
    ],
)
def test_refused(true: list[int], score: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.roc_auc(true, score)
