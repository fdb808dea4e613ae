"""Fairness: by hand, then against fairlearn, then where it is undefined."""

import math
from typing import Any

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from melfast.metrics import fairness
from melfast.metrics.fairness import confusions, disparities
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import SCORE_METRICS, THRESHOLD_METRICS, Confusion

# Light: both classes half right; dark: one malignant image, found; one image of no known group.
TRUE = np.array([1, 1, 0, 0, 1, 0])
CALLED = np.array([1, 0, 1, 0, 1, 1])
SCORE = np.array([0.9, 0.2, 0.6, 0.1, 0.8, 0.7])
TONE = Groups("tone", np.array([0, 0, 0, 0, 1, -1]), ("light", "dark"))

NAMES = [
    f"{metric}_{spread}"
    for metric in ("demographic_parity", "equal_opportunity", "equalized_odds")
    for spread in ("difference", "ratio")
]


def test_by_hand() -> None:
    found = disparities(TRUE, CALLED, SCORE, sensitive_features=TONE)
    assert list(found) == [*THRESHOLD_METRICS, *SCORE_METRICS]
    recall = found["recall"]
    assert recall.by_group == {"light": 0.5, "dark": 1.0}
    assert (recall.gap, recall.ratio, recall.worst_group) == (0.5, 0.5, "light")
    assert recall.overall == pytest.approx(2 / 3)
    assert found["selection_rate"].overall == pytest.approx(4 / 6)
    assert found["selection_rate"].worst_group is None
    assert found["fnr"].worst_group == "light"
    assert found["brier"].by_group == pytest.approx({"light": (0.1**2 + 0.8**2 + 0.6**2 + 0.1**2) / 4, "dark": 0.2**2})
    assert found["auc"].by_group["light"] == 0.75
    groups = {"sensitive_features": TONE}
    assert fairness.demographic_parity_difference(TRUE, CALLED, **groups) == 0.5
    assert fairness.demographic_parity_ratio(TRUE, CALLED, **groups) == 0.5
    assert fairness.equal_opportunity_difference(TRUE, CALLED, **groups) == 0.5
    assert confusions(TRUE, CALLED, **groups) == {
        "light": Confusion(tn=1, fp=1, fn=1, tp=1),
        "dark": Confusion(tn=0, fp=0, fn=0, tp=1),
    }


def test_a_gap_needs_two_groups() -> None:
    """No benign image is dark: its false positive rate is none, not 0."""
    found = disparities(TRUE, CALLED, SCORE, sensitive_features=TONE)
    for name in ("fpr", "specificity", "auc", "pauc_80tpr"):
        assert math.isnan(found[name].by_group["dark"])
        assert math.isnan(found[name].gap)
        assert math.isnan(found[name].ratio)
        assert found[name].worst_group == "light"
    assert math.isnan(fairness.equalized_odds_difference(TRUE, CALLED, sensitive_features=TONE))


@pytest.mark.parametrize("seed", range(5))
def test_against_fairlearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random(400) < 0.3
    score = np.round(0.7 * rng.random(400) + 0.3 * true, 2)
    called = score >= 0.5
    groups = Groups("g", rng.integers(0, 3, 400), ("a", "b", "c"))
    both = {"y_true": true, "y_pred": called, "sensitive_features": groups.index}
    mine = {"y_true": true, "y_pred": called, "sensitive_features": groups}
    for name in NAMES:
        found = getattr(fairness, name)(**mine)
        assert found == pytest.approx(getattr(fl, name)(**both), abs=1e-12)
    found = disparities(true, called, score, sensitive_features=groups)
    of_calls = {
        "recall": fl.true_positive_rate,
        "fpr": fl.false_positive_rate,
        "fnr": fl.false_negative_rate,
        "specificity": fl.true_negative_rate,
        "selection_rate": fl.selection_rate,
        "f1": sk.f1_score,
        "precision": sk.precision_score,
        "accuracy": sk.accuracy_score,
    }
    of_scores = {"auc": sk.roc_auc_score, "brier": sk.brier_score_loss}
    for metrics, values in ((of_calls, called), (of_scores, score)):
        frame = fl.MetricFrame(metrics=metrics, y_true=true, y_pred=values, sensitive_features=groups.index)
        for name in metrics:
            by_group = list(found[name].by_group.values())
            np.testing.assert_allclose(by_group, frame.by_group[name], atol=1e-12)
            assert found[name].overall == pytest.approx(frame.overall[name], abs=1e-12)
            assert found[name].gap == pytest.approx(frame.difference()[name], abs=1e-12)
            assert found[name].ratio == pytest.approx(frame.ratio()[name], abs=1e-12)


def test_groups_without_images() -> None:
    empty = Groups("tone", np.array([0, 0, 0, 0, 2, -1]), ("light", "none", "dark", "none either"))
    found = disparities(TRUE, CALLED, SCORE, sensitive_features=empty)
    assert list(found["recall"].by_group) == list(empty.names)
    assert math.isnan(found["recall"].by_group["none"])
    assert found["recall"].gap == 0.5
    assert found["recall"].worst_group == "light"
    unknown = Groups("tone", np.full(6, -1), ("light", "dark"))
    nothing = disparities(TRUE, CALLED, sensitive_features=unknown)["recall"]
    assert nothing.overall == pytest.approx(2 / 3)
    assert math.isnan(nothing.gap)
    assert nothing.worst_group is None
    assert all(math.isnan(value) for value in nothing.by_group.values())


def test_no_image() -> None:
    none = Groups("tone", np.zeros(0, np.int64), ("light",))
    assert math.isnan(disparities([], [], [], sensitive_features=none)["auc"].overall)


def test_ratio_of_zeros_is_none() -> None:
    found = disparities([1, 1], [0, 0], sensitive_features=Groups("g", np.arange(2), ("a", "b")))
    assert found["recall"].gap == 0
    assert math.isnan(found["recall"].ratio)


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"y_true \(6,\) and values \(5,\) must be equally long"):
        disparities(TRUE, CALLED[:5], sensitive_features=TONE)
    with pytest.raises(ValueError, match=r"^there are 6 images and 5 groups$"):
        disparities(TRUE, CALLED, sensitive_features=list("aabba"))
    with pytest.raises(ValueError, match=r"^sensitive_features must have one value per image; cross\(\) joins two"):
        disparities(TRUE, CALLED, sensitive_features=[["a", "b"]] * 6)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, lambda x: pd.Series(x, index=range(9, 9 + len(x)))])
def test_called_as_fairlearn_is(kind: Any) -> None:
    """Lists, arrays and Series alike, whatever their index."""
    true, called = kind([1, 0, 1, 0, 1, 0, 1, 1]), kind([1, 0, 0, 1, 1, 1, 1, 0])
    groups = kind(["b", "a", "b", "a", "a", "b", "a", "b"])
    for name in NAMES:
        found = getattr(fairness, name)(true, called, sensitive_features=groups)
        wanted = getattr(fl, name)(list(true), list(called), sensitive_features=list(groups))
        assert found == pytest.approx(wanted), name


def test_images_of_no_group() -> None:
    for missing in (None, math.nan, "", pd.NA, pd.NaT):
        found = confusions(TRUE, CALLED, sensitive_features=["a", "a", "b", "b", "a", missing])
        assert list(found) == ["a", "b"]
        assert sum(sum(vars(c).values()) for c in found.values()) == 5


def test_a_group_of_one_class_has_no_precision_and_is_never_worst() -> None:
    true, called = [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]
    found = disparities(true, called, sensitive_features=["a", "a", "a", "a", "b", "b"])
    for name in ("precision", "recall", "f1"):
        assert math.isnan(found[name].by_group["b"])
        assert found[name].worst_group == "a"
        assert math.isnan(found[name].gap)
