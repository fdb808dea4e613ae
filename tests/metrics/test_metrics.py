"""Metrics: by hand, then against scikit-learn, then where they are undefined."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from melfast.metrics import metrics
from melfast.metrics.metrics import Confusion, binary_metrics, confusion

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
    assert metrics.accuracy(counts) == pytest.approx(3 / 5)
    assert metrics.false_positive_rate(counts) == pytest.approx(1 / 2)
    assert metrics.false_negative_rate(counts) == pytest.approx(1 / 3)
    assert metrics.selection_rate(counts) == pytest.approx(3 / 5)


def test_a_malignant_image_with_the_lowest_score() -> None:
    assert metrics.average_precision([0, 1], [0.9, 0.1]) == 0.5
    assert metrics.sensitivity_at_specificity([0, 1], [0.9, 0.1], 0) == 1
    assert metrics.sensitivity_at_specificity([0, 1], [0.9, 0.1], 1) == 0  # nothing is called so
    assert metrics.specificity_at_sensitivity([0, 1], [0.9, 0.1], 0) == 1


@pytest.mark.parametrize("least", [-0.1, 1.1])
def test_the_least_rate_is_a_share(least: float) -> None:
    with pytest.raises(ValueError, match=rf"^the least rate must be in 0\.\.1, got {least}$"):
        metrics.sensitivity_at_specificity(TRUE, SCORE, least)


def test_rates_at_rates_by_hand() -> None:
    # (specificity, recall) down the scores: (1, 0), 0.9 (1, 1/3), 0.6 (1/2, 2/3), 0.2 (1/2, 1).
    for least, value in ((1.0, 1 / 3), (0.6, 1 / 3), (0.5, 1), (0.0, 1)):
        assert metrics.sensitivity_at_specificity(TRUE, SCORE, least) == pytest.approx(value)
    for least, value in ((1.0, 1 / 2), (0.5, 1 / 2), (0.3, 1), (0.0, 1)):
        assert metrics.specificity_at_sensitivity(TRUE, SCORE, least) == pytest.approx(value)


def test_a_rate_that_is_just_reached() -> None:
    """7 of 100 are 0.07, though 0.07 * 100 > 7 in floating point."""
    true = np.arange(101) == 100
    score = np.append(np.arange(100) < 93, True).astype(float)
    assert metrics.sensitivity_at_specificity(true, score, 0.07) == 1


def test_probabilities_by_hand() -> None:
    squares = (0.1**2, 0.1**2, 0.6**2, 0.4**2, 0.8**2)
    assert metrics.brier_score(TRUE, SCORE) == pytest.approx(sum(squares) / 5)
    likelihood = 0.9 * 0.9 * 0.4 * 0.6 * 0.2
    assert metrics.log_loss(TRUE, SCORE) == pytest.approx(-math.log(likelihood) / 5)
    # Bins 0..0.5 and 0.5..1: sums of P 0.3 and 2.1, malignant 1 and 2; |0.3 - 1| + |2.1 - 2|.
    assert metrics.expected_calibration_error(TRUE, SCORE, 2) == pytest.approx(0.8 / 5)
    one_bin = metrics.expected_calibration_error(TRUE, SCORE, 1)
    assert one_bin == pytest.approx(abs(2.4 - 3) / 5)
    assert metrics.ECE_BINS == 15
    assert metrics.log_loss([0], [1.0]) == metrics.log_loss([1], [0.0]) == pytest.approx(36.04, abs=0.01)
    # 0.5 lies on the edge and so in the lower bin, with 0.4; |0.9 - 1| + |0.8 - 1|.
    assert metrics.expected_calibration_error([0, 1, 1], [0.4, 0.5, 0.8], 2) == pytest.approx(0.1)


def test_pauc_by_hand() -> None:
    # All five malignant images above the benign ones but one, which is below half of them.
    true, score = [1, 1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.3, 0.5, 0.1]
    assert metrics.pauc_above_tpr(true, score) == pytest.approx(0.2 * 0.5)
    assert metrics.pauc_above_tpr([1, 0], [0.9, 0.1]) == pytest.approx(0.2)
    assert metrics.pauc_above_tpr([1, 0], [0.5, 0.5]) == pytest.approx(0.02)
    assert metrics.pauc_above_tpr([1, 0], [0.1, 0.9]) == 0


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
    assert [counts.tn, counts.fp, counts.fn, counts.tp] == sk.confusion_matrix(true, called).ravel().tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 16])
def test_the_others_against_scikit_learn(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random(300) < 0.2
    score = np.round(rng.random(300) * 0.7 + 0.3 * true, digits)  # at few digits 0 and 1, too
    counts, called = confusion(true, score >= 0.5), score >= 0.5
    assert metrics.accuracy(counts) == pytest.approx(sk.accuracy_score(true, called), abs=1e-12)
    benign_recall = sk.recall_score(true, called, pos_label=0)
    assert metrics.false_positive_rate(counts) == pytest.approx(1 - benign_recall, abs=1e-12)
    missed = 1 - sk.recall_score(true, called)
    assert metrics.false_negative_rate(counts) == pytest.approx(missed, abs=1e-12)
    assert metrics.selection_rate(counts) == pytest.approx(called.mean(), abs=1e-12)
    brier = sk.brier_score_loss(true, score)
    assert metrics.brier_score(true, score) == pytest.approx(brier, abs=1e-12)
    assert metrics.log_loss(true, score) == pytest.approx(sk.log_loss(true, score), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(true, score, drop_intermediate=False)
    for least in (0.0, 0.5, 0.8, 0.95, 1.0):
        found = metrics.sensitivity_at_specificity(true, score, least)
        assert found == pytest.approx(tpr[1 - fpr >= least - 1e-12].max(), abs=1e-12)
        found = metrics.specificity_at_sensitivity(true, score, least)
        assert found == pytest.approx((1 - fpr)[tpr >= least - 1e-12].max(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 16])
def test_pauc_against_scikit_learn(seed: int, digits: int) -> None:
    """As the challenge's own code: classes and scores turned round, McClish's scaling undone."""
    rng = np.random.default_rng(seed)
    true = rng.random(300) < 0.2
    score = np.round(rng.random(300) * 0.7 + 0.3 * true, digits)
    for least in (0.8, 0.5):
        most = 1 - least
        scaled = sk.roc_auc_score(~true, -score, max_fpr=most)
        raw = most**2 / 2 + (most - most**2 / 2) * (2 * scaled - 1)
        assert metrics.pauc_above_tpr(true, score, least) == pytest.approx(raw, abs=1e-12)


@pytest.mark.parametrize("bins", ["uniform", "quantile"])
@pytest.mark.parametrize("digits", [1, 2, 16])
def test_calibration_error_against_scikit_learn(bins: str, digits: int) -> None:
    rng = np.random.default_rng(3)
    true = rng.random(400) < 0.2
    score = np.round(rng.random(400) * 0.7 + 0.3 * true, digits)
    share, mean = calibration_curve(true, score, n_bins=10, strategy=bins)
    edges = np.linspace(0, 1, 11)
    edges = np.quantile(score, edges) if bins == "quantile" else edges
    images = np.bincount(metrics.bin_of(score, edges))
    images = images[images > 0]
    found = metrics.expected_calibration_error(true, score, 10, bins)  # type: ignore[arg-type]
    assert found == pytest.approx(np.abs(share - mean) @ images / 400, abs=1e-12)


def test_many_counts_at_once_as_one_by_one() -> None:
    counts = np.random.default_rng(0).integers(0, 3, (50, 4, 4))  # with many zeros
    found = metrics.threshold_metrics(counts)
    assert list(found) == list(metrics.THRESHOLD_METRICS)
    for name, metric in metrics.THRESHOLD_METRICS.items():
        one_by_one = [[metric(Confusion(*map(int, c))) for c in row] for row in counts]
        np.testing.assert_array_equal(found[name], one_by_one)
        assert np.isnan(found[name]).any()


def test_any_float_type_gives_the_same() -> None:
    score = np.array(SCORE, np.float32)
    assert metrics.roc_auc(np.array(TRUE, np.int8), score) == metrics.roc_auc(TRUE, SCORE)


@pytest.mark.parametrize(
    ("true", "score", "undefined"),
    [
        ([0, 0], [0.1, 0.2], {"auc", "average_precision", "recall", "precision", "f1", "balanced_accuracy"}),
        ([0, 0], [0.1, 0.9], {"auc", "average_precision", "recall", "precision", "f1", "balanced_accuracy"}),
        ([1, 1], [0.1, 0.9], {"auc", "average_precision", "specificity", "balanced_accuracy", "precision", "f1"}),
        ([0, 1], [0.1, 0.2], {"precision"}),
        ([], [], {"auc", "average_precision", "recall", "precision", "f1", "specificity", "balanced_accuracy"}),
    ],
)
def test_nan_where_undefined(true: list[int], score: list[float], undefined: set[str]) -> None:
    found = binary_metrics(true, score, 0.5)
    assert {name for name, value in found.items() if math.isnan(value)} == undefined


@pytest.mark.parametrize(
    ("true", "undefined"),
    [
        (
            [],
            {
                "accuracy",
                "fpr",
                "fnr",
                "selection_rate",
                "brier",
                "log_loss",
                "ece",
                "pauc_80tpr",
                "sensitivity",
                "specificity",
            },
        ),
        ([1, 1], {"fpr", "pauc_80tpr", "sensitivity", "specificity"}),
        ([0, 0], {"fnr", "pauc_80tpr", "sensitivity", "specificity"}),
        ([0, 1], set()),
    ],
)
def test_the_others_where_undefined(true: list[int], undefined: set[str]) -> None:
    score = [0.25, 0.75][: len(true)]
    counts = confusion(true, np.array(score) >= 0.5)
    found = {
        "accuracy": metrics.accuracy(counts),
        "fpr": metrics.false_positive_rate(counts),
        "fnr": metrics.false_negative_rate(counts),
        "selection_rate": metrics.selection_rate(counts),
        "brier": metrics.brier_score(true, score),
        "log_loss": metrics.log_loss(true, score),
        "ece": metrics.expected_calibration_error(true, score),
        "pauc_80tpr": metrics.pauc_above_tpr(true, score),
        "sensitivity": metrics.sensitivity_at_specificity(true, score, 0.9),
        "specificity": metrics.specificity_at_sensitivity(true, score, 0.9),
    }
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


@pytest.mark.parametrize("name", metrics.SCORE_METRICS)
def test_nan_refused_by_each(name: str) -> None:
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        metrics.SCORE_METRICS[name]([0, 1], [0.5, math.nan])


def test_refused_calls_probabilities_and_rates() -> None:
    with pytest.raises(ValueError, match=r"y_pred must hold 0 and 1, got \[0.0, 0.7\]"):
        confusion([0, 1], [0, 0.7])
    for metric in (metrics.brier_score, metrics.log_loss, metrics.expected_calibration_error):
        with pytest.raises(ValueError, match=r"1 of 2 probabilities .* in 0..1, the first: 1.5"):
            metric([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        metrics.expected_calibration_error([0, 1], [0.5, 0.5], 0)
    with pytest.raises(ValueError, match=r"least rate must be in 0..1, got 90"):
        metrics.sensitivity_at_specificity([0, 1], [0.5, 0.5], 90)
