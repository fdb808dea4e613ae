"""Fairness: by hand, then against fairlearn and SciPy, then where it is undefined."""

import math

import fairlearn.metrics as fl
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from melfast.metrics import fairness
from melfast.metrics.fairness import confusions, disparities, score_test
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import SCORE_METRICS, THRESHOLD_METRICS, Confusion

# Light: both classes half right; dark: one malignant image, found; one image of no known group.
TRUE = np.array([1, 1, 0, 0, 1, 0])
CALLED = np.array([1, 0, 1, 0, 1, 1])
SCORE = np.array([0.9, 0.2, 0.6, 0.1, 0.8, 0.7])
TONE = Groups("tone", np.array([0, 0, 0, 0, 1, -1]), ("light", "dark"))


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
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equal_opportunity_difference",
        "equalized_odds_difference",
    ):
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


@pytest.mark.parametrize("images", ["malignant", "true positive"])
def test_score_test_against_scipy(images: str) -> None:
    rng = np.random.default_rng(1)
    true = rng.random(300) < 0.5
    score = np.round(rng.random(300), 2)  # with ties
    called = score >= 0.4
    index = rng.integers(-1, 3, 300)
    groups = Groups("g", index, ("a", "b", "c", "none"))
    found = score_test(true, called, score, sensitive_features=groups, images=images)  # type: ignore[arg-type]
    chosen = true & called if images == "true positive" else true
    samples = [score[chosen & (index == i)] for i in range(3)]
    f, f_p = stats.f_oneway(*samples)
    h, h_p = stats.kruskal(*samples)
    assert (found.anova_f, found.anova_p) == pytest.approx((f, f_p), abs=1e-12)
    assert (found.kruskal_h, found.kruskal_p) == pytest.approx((h, h_p), abs=1e-12)
    assert list(found.images.values()) == [*map(len, samples), 0]
    assert found.mean["b"] == pytest.approx(samples[1].mean())
    assert found.sd["b"] == pytest.approx(samples[1].std(ddof=1))
    assert math.isnan(found.mean["none"])


def test_score_test_by_hand() -> None:
    # Means 0.2 and 0.6, each 0.1 off: F = (4 * 0.2^2 / 1) / (4 * 0.1^2 / 2) = 8.
    groups = Groups("g", np.array([0, 0, 1, 1]), ("a", "b"))
    found = score_test([1, 1, 1, 1], [0, 0, 1, 1], [0.1, 0.3, 0.5, 0.7], sensitive_features=groups, images="malignant")
    assert found.anova_f == pytest.approx(8)
    # Ranks 1 + 2 and 3 + 4: H = 12 / (4 * 5) * (9 / 2 + 49 / 2) - 3 * 5 = 2.4.
    assert found.kruskal_h == pytest.approx(2.4)
    assert found.mean == pytest.approx({"a": 0.2, "b": 0.6})


@pytest.mark.parametrize(
    ("score", "index", "f"),
    [
        ([0.5, 0.5, 0.5], [0, 1, 1], math.nan),  # all the same
        ([0.1, 0.5, 0.7], [0, 0, 0], math.nan),  # one group
        ([0.1, 0.5, 0.7], [0, 1, -1], math.nan),  # one image in each
        ([0.1, 0.5, 0.5], [0, 1, 1], math.inf),  # no spread within
    ],
)
def test_score_test_where_undefined(score: list[float], index: list[int], f: float) -> None:
    groups = Groups("g", np.array(index), ("a", "b"))
    found = score_test([1] * 3, [1] * 3, score, sensitive_features=groups, images="malignant")
    np.testing.assert_equal(found.anova_f, f)
    none = score_test([0] * 3, [1] * 3, score, sensitive_features=groups, images="malignant")
    assert none.images == {"a": 0, "b": 0}
    assert math.isnan(none.kruskal_p)


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"y_true \(6,\), values \(5,\) and groups \(6,\)"):
        disparities(TRUE, CALLED[:5], sensitive_features=TONE)
    with pytest.raises(ValueError, match="1 of 6 scores are NaN"):
        score_test(TRUE, CALLED, [math.nan, 0, 0, 0, 0, 0], sensitive_features=TONE, images="malignant")
