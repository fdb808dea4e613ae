"""Metrics of scores: influences by leaving out, the AUC's interval against DeLong, and coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from melfast.metrics.metrics import SCORE_METRICS, placements, roc_auc
from melfast.metrics.scores import Sample, auc, estimates, influence, worth_of


def sample_of(malignant: int, benign: int, seed: int = 0, apart: float = 1.3, each: int = 1) -> Sample:
    rng = np.random.default_rng(seed)
    true = np.repeat([True, False], [malignant, benign])
    patient = None
    common = np.zeros(len(true))
    if each > 1:
        patient = np.concatenate([np.arange(malignant) // each, malignant + np.arange(benign) // each])
        patient = np.unique(patient, return_inverse=True)[1]
        common = math.sqrt(0.3) * rng.normal(size=patient.max() + 1)[patient]
    normal = apart * true + common + math.sqrt(0.7 if each > 1 else 1) * rng.normal(size=len(true))
    return Sample(true, normal >= 1, stats.norm.cdf(normal), patient)


def test_values_as_the_metrics() -> None:
    sample = sample_of(30, 200)
    found = estimates(sample)
    assert list(found) == list(SCORE_METRICS)
    for name, metric in SCORE_METRICS.items():
        interval = found[name].interval()
        assert interval.estimate == pytest.approx(metric(sample.malignant, sample.score), abs=1e-12)
        assert interval.low < interval.estimate < interval.high, name


@pytest.mark.parametrize("name", ["auc", "average_precision", "pauc_80tpr", "brier", "log_loss", "ece"])
def test_influences_against_weights(name: str) -> None:
    """An image twice instead of once changes the metric by its influence, about; they sum to 0."""
    sample = sample_of(100, 400, seed=3)
    own = influence(name, sample)
    assert own.sum() == pytest.approx(0, abs=1e-9)
    metric, score = SCORE_METRICS[name], sample.score
    assert score is not None
    value = metric(sample.malignant, score)
    rows = np.arange(500)
    off = [metric(sample.malignant[again], score[again]) - value for again in (np.append(rows, i) for i in rows)]
    assert np.corrcoef(own, off)[0, 1] > 0.99
    assert np.std(off) == pytest.approx(np.std(own), rel=0.1)


@pytest.mark.parametrize("name", ["recall", "f1", "balanced_accuracy", "precision"])
def test_influences_of_calls(name: str) -> None:
    from melfast.metrics.metrics import THRESHOLD_METRICS, confusion

    sample = sample_of(100, 400, seed=3)
    own = influence(name, sample)

    def value(rows: np.ndarray) -> float:
        return THRESHOLD_METRICS[name](confusion(sample.malignant[rows], sample.called[rows]))

    rows = np.arange(500)
    off = np.array([value(np.append(rows, i)) for i in rows]) - value(rows)
    np.testing.assert_allclose(own, off, atol=2e-4)


def test_placements_are_delongs() -> None:
    true = np.array([True, True, True, False, False, False, False])
    score = np.array([0.9, 0.4, 0.6, 0.5, 0.4, 0.3, 0.7])
    psi = (score[true][:, None] > score[~true]) + 0.5 * (score[true][:, None] == score[~true])
    found = placements(true, score)
    np.testing.assert_allclose(found[true], psi.mean(axis=1))
    np.testing.assert_allclose(found[~true], psi.mean(axis=0))
    assert roc_auc(true, score) == pytest.approx(psi.mean())


def test_auc_of_many_images_is_delongs() -> None:
    sample = sample_of(2000, 8000)
    placed = placements(sample.malignant, sample.score)
    error = math.sqrt(sum(np.var(placed[c], ddof=1) / c.sum() for c in (sample.malignant, ~sample.malignant)))
    interval = auc(sample).estimate.interval()
    value = interval.estimate
    assert (interval.low, interval.high) == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=3e-4)


def test_auc_where_nothing_is_out_of_order() -> None:
    true, score = np.repeat([True, False], [6, 40]), np.repeat([0.9, 0.1], [6, 40])
    estimate = auc(Sample(true, true, score)).estimate
    low, high = estimate.at(1.96)
    assert 0.5 < low < 0.9
    assert high == 1.0
    assert estimate.note == "no image is out of order"


def test_auc_of_one_image_is_marked() -> None:
    true = np.append(True, np.zeros(50, bool))
    estimate = auc(Sample(true, true, true * 0.8)).estimate
    assert estimate.value == 1.0
    assert estimate.note == "1 malignant image"
    assert estimate.at(1.96)[0] < 0.6
    two = auc(Sample(np.append(True, true), np.append(True, true), np.append(0.9, true * 0.8)))
    assert two.estimate.note == "2 malignant images"
    nothing = auc(Sample(np.zeros(5, bool), np.zeros(5, bool), np.zeros(5)))
    assert math.isnan(nothing.estimate.value)


def test_worth_of_patients() -> None:
    patient = np.array([0, 0, 0, 0, 1, 2])
    images = np.ones(6, bool)
    assert worth_of(images, None) == 6
    assert worth_of(images, patient, 1.0) == pytest.approx(36 / 18)
    assert worth_of(images, patient, 0.0) == 6


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("malignant", [5, 10, 58])
def test_coverage_of_the_auc(malignant: int, each: int) -> None:
    held = 0
    truth = stats.norm.cdf(1.3 / math.sqrt(2))
    for seed in range(300):
        low, high = auc(sample_of(malignant, 150, seed=seed, each=each)).estimate.at(1.96)
        held += low <= truth <= high
    assert 0.91 <= held / 300 <= 0.99
