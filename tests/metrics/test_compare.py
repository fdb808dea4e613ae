"""Comparing models: DeLong, McNemar, paired differences, and whether a gap became smaller."""

import math

import numpy as np
import pytest
from scipy import stats

from melfast.metrics.compare import METRICS, delong, gap_difference, gap_of, mcnemar, paired_difference
from melfast.metrics.gaps import Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import SCORE_METRICS, binary_metrics, roc_auc
from melfast.metrics.scores import Sample, estimates
from melfast.metrics.shares import Cells, call_estimates
from melfast.report.analysis import Images, Model, Settings, analyse


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
    assert math.isnan(one[2])


@pytest.mark.parametrize(
    ("y_true", "first", "second"),
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], [0.2, 0.1, 0.9, 0.8]),  # four images
        ([1] * 5 + [0] * 5, [0.9] * 5 + [0.1] * 5, [0.1] * 5 + [0.9] * 5),  # both separable
    ],
)
def test_delong_without_a_variance_has_no_p_value(y_true: list[int], first: list[float], second: list[float]) -> None:
    difference, error, p_value = delong(y_true, first, second)
    assert difference == 1.0
    assert math.isnan(error)
    assert math.isnan(p_value)


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


def samples_of(y_true: np.ndarray, *scores: np.ndarray, patient: np.ndarray | None = None) -> list[Sample]:
    return [Sample(y_true == 1, score >= 0.5, score, patient) for score in scores]


def difference(metric: str, pair: list[Sample], level: float = 0.95):  # type: ignore[no-untyped-def]
    found = []
    for sample in pair:
        cells = Cells.of(sample.malignant, sample.called, np.zeros(len(sample.called), int), 1, sample.patient)
        found.append(({name: e[0] for name, e in call_estimates(cells).items()} | estimates(sample))[metric])
    return paired_difference(metric, (pair[0], pair[1]), (found[0], found[1]), level)


@pytest.mark.parametrize("metric", METRICS)
def test_paired_differences(metric: str) -> None:
    """Of values; near those of a bootstrap that draws the same images for both."""
    y_true, first, second = drawn(1, 400)
    pair = samples_of(y_true, first, second)
    found = difference(metric, pair)

    def value(rows: np.ndarray) -> float:
        own = [
            (
                binary_metrics(y_true[rows], s[rows], 0.5)
                | {n: m(y_true[rows], s[rows]) for n, m in SCORE_METRICS.items()}
            )
            for s in (first, second)
        ]
        return own[0][metric] - own[1][metric]

    assert found.value == pytest.approx(value(np.arange(len(y_true))), abs=1e-12)
    rng = np.random.default_rng(0)
    classes = [np.flatnonzero(y_true == c) for c in (0, 1)]
    again = [value(np.concatenate([rng.choice(c, len(c)) for c in classes])) for _ in range(300)]
    low, high = np.quantile(again, [0.025, 0.975])
    width = high - low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.2 * width)


def test_paired_interval_and_p_value_agree() -> None:
    for seed in range(20):
        y_true, first, second = drawn(seed, 60)
        for metric in ("auc", "recall", "specificity", "brier"):
            found = difference(metric, samples_of(y_true, first, second))
            assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0), (seed, metric)


def test_a_model_does_not_differ_from_itself() -> None:
    y_true, first, _ = drawn(1)
    for metric in METRICS:
        found = difference(metric, samples_of(y_true, first, first))
        assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1), metric


def test_recall_by_hand() -> None:
    """Newcombe's square-and-add (1998, paired) of Wilson's intervals: 48 and 38 of 50 found."""
    called = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [36, 12, 2, 0], axis=0)
    y_true = np.append(np.ones(50, int), [0, 0])
    first, second = (np.append(called[:, k], [0, 0]).astype(float) for k in (0, 1))
    found = difference("recall", samples_of(y_true, first, second))
    assert found.value == pytest.approx(0.20)
    (l1, u1), (l2, u2) = (stats.binomtest(k, 50).proportion_ci(method="wilson") for k in (48, 38))
    phi = (36 * 0 - 12 * 2) / math.sqrt(48 * 2 * 38 * 12)
    low = 0.2 - math.sqrt((0.96 - l1) ** 2 - 2 * phi * (0.96 - l1) * (u2 - 0.76) + (u2 - 0.76) ** 2)
    high = 0.2 + math.sqrt((u1 - 0.96) ** 2 - 2 * phi * (u1 - 0.96) * (0.76 - l2) + (0.76 - l2) ** 2)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def gaps_of(sample: Sample, groups: Groups) -> Gaps:
    return Gaps.of(sample, groups, permutations=100)


def test_a_gap_became_smaller() -> None:
    """The first model misses half of the dark group's melanomas, the second one as few as elsewhere."""
    y_true = np.tile(np.repeat([1, 0], [60, 60]), 2)
    groups = Groups("tone", np.repeat([0, 1], 120), ("light", "dark"))
    hits = [np.repeat([1, 0], [54, 6]), np.repeat([1, 0], [30, 30])]
    first = np.concatenate([hits[0], np.zeros(60), hits[1], np.zeros(60)])
    second = np.concatenate([hits[0], np.zeros(60), hits[0], np.zeros(60)])
    pair = samples_of(y_true, first, second)
    both = gaps_of(pair[0], groups), gaps_of(pair[1], groups)
    assert [gap_of("recall", g) for g in both] == pytest.approx([0.4, 0.0])
    found = gap_difference("recall", both, (pair[0], pair[1]))
    assert found.value == pytest.approx(0.4)
    assert 0.1 < found.low < 0.4 < found.high < 0.65
    same = gap_difference("recall", (both[0], both[0]), (pair[0], pair[0]))
    assert same.value == 0
    assert same.low <= 0 <= same.high
    few = Groups("tone", np.where(np.arange(240) < 235, 0, 1), ("light", "dark"))
    assert math.isnan(gap_difference("recall", tuple(gaps_of(s, few) for s in pair), (pair[0], pair[1])).value)


def test_every_pair() -> None:
    y_true, first, second = drawn(2)
    models = [
        Model(name, score, (score >= 0.5).astype(int), 0.5, "given")
        for name, score in (("a", first), ("b", second), ("c", 1 - first))
    ]
    calls = Model("calls", None, (first >= 0.5).astype(int), None, "given")
    images = Images([f"i{i}" for i in range(len(y_true))], y_true, [])
    found = analyse(images, [*models, calls], Settings(permutations=200), {})["comparisons"]
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
    assert against_noise["differences"]["auc"]["value"] == pytest.approx(against_noise["delong"]["auc"])
    same_calls = found[2]
    assert same_calls["delong"] is None
    assert same_calls["mcnemar"]["p_value"] == 1
    assert set(same_calls["differences"]) == {"balanced_accuracy", "recall", "specificity", "f1"}
    assert analyse(images, models[:1], Settings(permutations=200), {})["comparisons"] == []
