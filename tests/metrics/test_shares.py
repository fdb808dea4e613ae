"""Shares of images: what clusters are worth, and how often the intervals hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from melfast.metrics.intervals import wilson
from melfast.metrics.metrics import THRESHOLD_METRICS, confusion
from melfast.metrics.shares import USUAL_CORRELATION, USUAL_PAIRS, Cells, call_estimates


def cells_of(called: np.ndarray, patient: np.ndarray | None = None, malignant: np.ndarray | None = None) -> Cells:
    malignant = np.ones(len(called), bool) if malignant is None else malignant
    return Cells.of(malignant, called.astype(bool), np.zeros(len(called), int), 1, patient)


def test_values_as_the_metrics() -> None:
    rng = np.random.default_rng(0)
    malignant, called, group = rng.random(300) < 0.3, rng.random(300) < 0.4, rng.integers(-1, 3, 300)
    for patient in (None, rng.integers(0, 60, 300)):
        found = call_estimates(Cells.of(malignant, called, group, 3, patient))
        for g in range(3):
            counts = confusion(malignant[group == g], called[group == g])
            for name, metric in THRESHOLD_METRICS.items():
                interval = found[name][g].interval()
                assert interval.estimate == pytest.approx(metric(counts), abs=1e-12)
                assert 0 <= interval.low < interval.estimate < interval.high <= 1, name
            recall, fpr = counts.tp / (counts.tp + counts.fn), counts.fp / (counts.fp + counts.tn)
            assert found["lr_positive"][g].value == pytest.approx(recall / fpr)
            assert found["lr_negative"][g].value == pytest.approx((1 - recall) / (1 - fpr))
            assert found["number_needed_to_biopsy"][g].value == pytest.approx((counts.tp + counts.fp) / counts.tp)


def test_images_of_no_patient_are_independent() -> None:
    called = np.repeat([1, 0], [36, 22])
    alone, numbered = cells_of(called), cells_of(called, np.arange(58))
    for cells in (alone, numbered):
        share = cells.share([3], [2, 3])
        assert share.correlation == 0
        assert share.worth.tolist() == [58]
        interval = share.estimate().interval()
        wanted = stats.binomtest(36, 58).proportion_ci(method="wilson")
        assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))


def test_correlation_by_hand() -> None:
    """Ten patients of two images, five all found, five none: fully alike; 10 pairs join 10 of the usual."""
    share = cells_of(np.repeat([1, 0], [10, 10]), np.repeat(np.arange(10), 2)).share([3], [2, 3])
    seen = 1 + 1 / 20
    expected = (10 * seen + USUAL_PAIRS * USUAL_CORRELATION) / (10 + USUAL_PAIRS)
    assert share.correlation == pytest.approx(expected)
    assert share.worth[0] == pytest.approx(20 / (1 + expected))


def test_all_alike_is_the_worst_case() -> None:
    """15 of 15 of five patients are 5 of 5."""
    share = cells_of(np.ones(15), np.repeat(np.arange(5), 3)).share([3], [2, 3])
    assert share.correlation == 1
    assert share.worth.tolist() == [5]
    low, high = share.estimate().at(1.96)
    assert (low, high) == pytest.approx(wilson(1.0, 5, 1.96))


def test_few_images_have_no_impossible_interval() -> None:
    """1 of 5 was 0 to 80 %, 4 of 8 0 to 100 % once."""
    for hits, images in ((1, 5), (4, 8), (5, 5), (0, 5)):
        interval = cells_of(np.repeat([1, 0], [hits, images - hits])).share([3], [2, 3]).estimate().interval()
        assert interval.low < interval.high
        assert (interval.low > 0) == (hits > 0)
        assert (interval.high < 1) == (hits < images)
    assert cells_of(np.ones(1)).share([3], [2, 3]).estimate().note == "1 image"
    assert math.isnan(cells_of(np.ones(0)).share([3], [2, 3]).estimate().interval().low)


@pytest.mark.parametrize(("each", "alike"), [(1, 0.0), (2, 0.3), (4, 0.3), (4, 0.0)])
@pytest.mark.parametrize("images", [10, 58, 136])
def test_coverage(images: int, each: int, alike: float) -> None:
    """Recalls of 0.5 to 0.95, alike within patients; benchmarks/simulations.py has more draws."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        recall = rng.uniform(0.5, 0.95)
        patient = np.arange(images) // each
        scale = (1 - alike) / alike if alike else 0
        own = rng.beta(recall * scale, (1 - recall) * scale, patient[-1] + 1)[patient] if alike else recall
        called = rng.random(images) < own
        interval = cells_of(called, patient if each > 1 else None).share([3], [2, 3]).estimate().interval()
        held += interval.low <= recall <= interval.high
    assert 0.91 <= held / 400 <= 0.995
