"""Comparing models: DeLong, McNemar, the paired bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats

from melfast.metrics.bootstrap import bootstrap
from melfast.metrics.compare import compare_all, delong, mcnemar, paired_difference
from melfast.metrics.metrics import roc_auc
from melfast.report.analysis import Images, Model, Settings


def by_pairs(y_true: np.ndarray, scores: list[np.ndarray]) -> tuple[float, float]:
    """DeLong's difference and variance from all pairs of images, as the paper writes them."""
    fields = []
    for score in scores:
        malignant, benign = score[y_true == 1], score[y_true == 0]
        psi = (malignant[:, None] > benign) + 0.5 * (malignant[:, None] == benign)
        fields.append((psi.mean(axis=1), psi.mean(axis=0)))
    variance = 0.0
    for place in (0, 1):
        covariance = np.cov(np.stack([field[place] for field in fields]))
        contrast = np.array([1, -1])
        variance += contrast @ covariance @ contrast / len(fields[0][place])
    return fields[0][0].mean() - fields[1][0].mean(), float(variance)


def drawn(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_true = np.append([0, 0, 1, 1], rng.integers(0, 2, count))
    first = np.clip(0.3 * y_true + rng.random(len(y_true)) * 0.7, 0, 1)
    second = np.clip(0.5 * first + 0.5 * rng.random(len(y_true)), 0, 1)
    return y_true, np.round(first, 1 + seed % 3), np.round(second, 2)  # ties


@pytest.mark.parametrize("seed", range(10))
def test_delong_is_the_papers(seed: int) -> None:
    y_true, first, second = drawn(seed)
    difference, error, p_value = delong(y_true, first, second)
    expected, variance = by_pairs(y_true, [first, second])
    assert difference == pytest.approx(expected, abs=1e-12)
    assert difference == pytest.approx(roc_auc(y_true, first) - roc_auc(y_true, second), abs=1e-12)
    assert error == pytest.approx(math.sqrt(variance), rel=1e-9)
    assert p_value == pytest.approx(2 * stats.norm.sf(abs(expected) / math.sqrt(variance)))


def test_delong_at_the_edges() -> None:
    y_true, first, _ = drawn(0)
    assert delong(y_true, first, first) == (0, 0, 1)
    assert all(map(math.isnan, delong(np.ones(5), first[:5], first[:5])))
    one = delong(np.array([1, 0, 0]), np.array([0.9, 0.1, 0.2]), np.array([0.1, 0.9, 0.2]))
    assert one[0] == 1.0


def test_delong_holds_its_level() -> None:
    """Of models that are equally good, 5 % differ at p < 0.05."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        y_true = np.repeat([0, 1], 60)
        common = y_true * 0.8 + rng.normal(size=120)
        scores = [1 / (1 + np.exp(-(common + rng.normal(size=120)))) for _ in range(2)]
        hits += delong(y_true, *scores)[2] < 0.05
    assert 8 <= hits <= 34  # 20 expected; 3 standard deviations


def test_mcnemar_by_hand() -> None:
    """One alone right in 5 images, the other in 1: 2 * (1 + 6) / 64."""
    y_true = np.array([1] * 5 + [0] * 3)
    called = np.array([1] * 5 + [0, 1, 0])
    other = np.array([0] * 5 + [0, 0, 0])
    assert mcnemar(y_true, called, other) == (5, 1, pytest.approx(14 / 64))
    assert mcnemar(y_true, called, called) == (0, 0, 1.0)


def test_paired_bootstrap_draws_the_same_images() -> None:
    y_true, first, second = drawn(1, 200)
    names = np.array([f"i{i}" for i in range(len(y_true))])
    one, other, again = (
        bootstrap(y_true, score >= 0.5, score, patients=names, replicates=500, seed=3)
        for score in (first, second, np.clip(first * 0.9, 0, 1))
    )
    # The same ranks on the same images: the same AUC in every replicate.
    np.testing.assert_allclose(one.replicates["auc"], again.replicates["auc"], atol=1e-12)
    found = paired_difference(one, other, "auc")
    assert found.value == pytest.approx(roc_auc(y_true, first) - roc_auc(y_true, second))
    assert found.low < found.value < found.high
    apart = np.ptp(np.quantile(one.replicates["auc"][:, 0], [0.025, 0.975]))
    assert found.high - found.low < 1.4 * apart
    nothing = paired_difference(one, again, "auc")
    assert (nothing.value, nothing.p_value) == (pytest.approx(0, abs=1e-12), 1.0)


def test_every_pair() -> None:
    y_true, first, second = drawn(2)
    models = [
        Model(name, score, (score >= 0.5).astype(int), 0.5, "given")
        for name, score in (("a", first), ("b", second), ("c", 1 - first))
    ]
    calls = Model("calls", None, (first >= 0.5).astype(int), None, "given")
    images = Images([f"i{i}" for i in range(len(y_true))], y_true, [])
    found = compare_all(images, [*models, calls], Settings(replicates=200))
    assert [(pair["first"], pair["second"]) for pair in found] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "calls"),
        ("b", "c"),
        ("b", "calls"),
        ("c", "calls"),
    ]
    against_noise = found[1]
    assert against_noise["delong"]["p_value"] < 0.01
    assert against_noise["differences"]["auc"]["low"] > 0
    same_calls = found[2]
    assert same_calls["delong"] is None
    assert same_calls["mcnemar"]["p_value"] == 1
    assert set(same_calls["differences"]) == {"balanced_accuracy", "recall", "specificity", "f1"}
    assert compare_all(images, models[:1], Settings(replicates=200)) == []
