"""Intervals and nulls: by hand, against SciPy and scikit-learn, and how often they are right."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from melfast.metrics import design as module
from melfast.metrics import kernels
from melfast.metrics.bootstrap import OVERALL, Bootstrap, bootstrap, permutation_null
from melfast.metrics.design import Design, seeds_of
from melfast.metrics.fairness import disparities
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import (
    acceleration,
    bca_interval,
    exact_interval,
    independent_images,
    percentile_interval,
)
from melfast.metrics.metrics import SCORE_METRICS, THRESHOLD_METRICS, binary_metrics

Images = tuple[np.ndarray, np.ndarray, np.ndarray, Groups]


def images(size: int, seed: int = 0, digits: int = 2) -> Images:
    """Truth, calls, scores with ties, and three groups, some images without one."""
    rng = np.random.default_rng(seed)
    true = rng.random(size) < 0.3
    score = np.round(0.7 * rng.random(size) + 0.3 * true, digits)
    groups = Groups("tone", rng.integers(-1, 3, size), ("a", "b", "c"))
    return true, score >= 0.6, score, groups


def test_estimates_as_the_metrics() -> None:
    true, called, score, groups = images(200)
    found = bootstrap(true, called, score, sensitive_features=groups, replicates=1)
    assert found.parts == (OVERALL, "a", "b", "c")
    assert list(found.estimate) == [*THRESHOLD_METRICS, *SCORE_METRICS]
    for name, wanted in disparities(true, called, score, sensitive_features=groups).items():
        values = [wanted.overall, *wanted.by_group.values()]
        np.testing.assert_allclose(found.estimate[name], values, atol=1e-12, rtol=0)
        assert found.gap_interval(name).estimate == pytest.approx(wanted.gap, abs=1e-12)
        assert found.ratio_interval(name).estimate == pytest.approx(wanted.ratio, abs=1e-12)


@pytest.mark.parametrize("with_patients", [False, True])
def test_replicates_as_the_metrics_of_the_images_drawn(with_patients: bool) -> None:
    true, called, score, groups = images(200)
    patients = np.arange(200) // 3 if with_patients else None
    found = bootstrap(true, called, score, sensitive_features=groups, patients=patients, replicates=5, seed=3)
    design = Design.of(true, called, score, groups, patients)
    order = np.argsort(-score, kind="stable")
    drawn = np.empty(design.strata[-1], np.int32)
    for replicate, seed in enumerate(seeds_of(3, 5)):
        kernels.draw(seed, design.strata, drawn)
        again = np.repeat(order, drawn[design.cluster])
        if not with_patients:  # as many of each class and group as there are
            cells = 2 * groups.index + true
            assert sorted(cells[again]) == sorted(cells)
        else:
            times = np.bincount(again, minlength=200)
            np.testing.assert_array_equal(times, times[::3].repeat(3)[:200])
        for part, index in ((0, None), (2, 1)):
            mine = again if index is None else again[groups.index[again] == index]
            wanted = binary_metrics(true[mine], score[mine], 0.6)
            for name, value in wanted.items():
                got = found.replicates[name][replicate, part]
                assert got == pytest.approx(value, abs=1e-12), name


def test_a_replicate_is_the_same_among_few_and_many() -> None:
    true, called, score, _ = images(50)
    few, many, other = (
        bootstrap(true, called, score, replicates=n, seed=seed).replicates["auc"]
        for n, seed in ((3, 1), (30, 1), (3, 2))
    )
    np.testing.assert_array_equal(few, many[:3])
    assert (few != other).any()


def sample_statistics() -> list[Any]:
    """Metrics as functions of the scores of the malignant and of the benign images."""

    def auc(malignant: np.ndarray, benign: np.ndarray) -> float:
        true = np.repeat([1, 0], [len(malignant), len(benign)])
        return float(sk.roc_auc_score(true, np.concatenate([malignant, benign])))

    def precision(malignant: np.ndarray, benign: np.ndarray) -> float:
        tp, fp = (malignant >= 0.6).sum(), (benign >= 0.6).sum()
        return float(tp / (tp + fp))

    def brier(malignant: np.ndarray, benign: np.ndarray) -> float:
        squares = np.append((1 - malignant) ** 2, benign**2)
        return float(squares.mean())

    return [("auc", auc), ("precision", precision), ("brier", brier)]


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize(("metric", "statistic"), sample_statistics())
def test_intervals_against_scipy(method: str, metric: str, statistic: Any) -> None:
    """SciPy's interval of the very same replicates; its jackknife of two samples is its own."""
    true, called, score, _ = images(80, seed=2)
    found = bootstrap(true, called, score, replicates=999)
    wanted = stats.bootstrap(
        (score[true], score[~true]),
        statistic,
        n_resamples=0,
        vectorized=False,
        method="BCa" if method == "bca" else method,
        confidence_level=0.9,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=found.replicates[metric][:, 0]),
    ).confidence_interval
    interval = found.interval(metric, method=method, level=0.9)  # type: ignore[arg-type]
    assert (interval.low, interval.high) == pytest.approx(wanted, abs=1e-12)
    assert interval.low < interval.estimate < interval.high
    assert interval.undefined == 0


def test_spread_of_recall_is_binomial() -> None:
    true, called, score, groups = images(300)
    found = bootstrap(true, called, score, sensitive_features=groups, replicates=20_000)
    for part, chosen in ((0, true), (3, true & (groups.index == 2))):
        hits = np.round(found.replicates["recall"][:, part] * chosen.sum())
        rates = [
            called[chosen & (groups.index == i)].mean() for i in range(-1, 3) if (chosen & (groups.index == i)).any()
        ]
        sizes = [(chosen & (groups.index == i)).sum() for i in range(-1, 3)]
        sizes = [size for size in sizes if size]
        variance = sum(n * p * (1 - p) for n, p in zip(sizes, rates, strict=True))
        assert hits.mean() == pytest.approx(called[chosen].sum(), abs=0.1)
        assert hits.var() == pytest.approx(variance, rel=0.05)


def test_patients_are_drawn_whole() -> None:
    """Two patients with a malignant image, one found and one not: recall 0, 1/2 or 1."""
    true = np.array([1, 1, 1, 1, 0, 0])
    called = np.array([1, 1, 0, 0, 0, 0])
    patients = ["p", "p", "q", "q", "r", ""]
    found = bootstrap(true, called, patients=patients, replicates=4000)
    assert found.strata.tolist() == [2, 2]  # without and with a malignant image
    values, counts = np.unique(found.replicates["recall"], return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert stats.chisquare(counts, [1000, 2000, 1000]).pvalue > 1e-3
    alone = bootstrap(true, called, replicates=4000)
    assert set(np.unique(alone.replicates["recall"])) == {0, 0.25, 0.5, 0.75, 1}


def test_a_patient_of_one_image_is_an_image() -> None:
    true, called, score, _ = images(60)
    patients = np.array([f"p{i}" for i in range(60)])
    patients[::2] = ""  # unknown: each its own
    found = bootstrap(true, called, score, patients=patients, replicates=20_000)
    wanted = bootstrap(true, called, score, replicates=20_000)
    assert found.strata.tolist() == wanted.strata.tolist() == [(~true).sum(), true.sum()]
    for metric in ("auc", "f1"):
        one, other = found.interval(metric), wanted.interval(metric)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)


def test_small_groups_may_be_without_malignant_images() -> None:
    """One malignant image in group b, of a patient that is not always drawn."""
    true, called = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 0, 1, 0, 0, 1])
    groups = Groups("g", np.array([0, 0, 1, 0, 0, 1]), ("a", "b"))
    patients = ["p", "q", "r", "s", "t", "u"]
    found = bootstrap(true, called, sensitive_features=groups, patients=patients, replicates=2000)
    undefined = found.interval("recall", "b", method="percentile").undefined
    assert undefined == np.isnan(found.replicates["recall"][:, 2]).sum()
    assert undefined / 2000 == pytest.approx((2 / 3) ** 3, abs=0.05)
    # The gap needs both groups, and these are without a in some and without b in others.
    assert found.gap_interval("recall").undefined > undefined


def test_labels_only() -> None:
    true, called, _, groups = images(100)
    found = bootstrap(true, called, sensitive_features=groups, replicates=20)
    assert list(found.estimate) == list(THRESHOLD_METRICS)
    null = permutation_null(true, called, sensitive_features=groups, permutations=20)
    assert list(null) == [*THRESHOLD_METRICS, "equalized_odds"]


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_no_interval_where_all_replicates_are_the_same(method: Any) -> None:
    found = bootstrap([1, 1, 1, 0], [1, 1, 1, 0], replicates=100)
    interval = found.interval("recall", method=method)
    assert interval.estimate == 1
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    one_class = bootstrap([1, 1], [1, 0], [0.9, 0.2], replicates=100)
    interval = one_class.interval("specificity", method=method)
    assert math.isnan(interval.estimate)
    assert math.isnan(interval.low)
    assert interval.undefined == 100


@pytest.mark.parametrize("above", [1.0, 0.9995])
def test_no_interval_where_nearly_all_replicates_lie_on_one_side(above: float) -> None:
    replicates = np.linspace(0, 1, 10_000)
    estimate = float(np.quantile(replicates, 1 - above)) - (above == 1)
    for found in (bca_interval(estimate, replicates, 0.01), percentile_interval(estimate, replicates)):
        assert found.estimate == estimate
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    middle = percentile_interval(0.5, replicates)
    assert (middle.low, middle.high) == pytest.approx((0.025, 0.975))


def of_groups(hits: Any, sizes: Any, replicates: int, seed: int = 0) -> Bootstrap:
    """So many malignant images in each group, so many of them called so, and a benign one of each
    call."""
    true, called, index = [], [], []
    for group, (some, size) in enumerate(zip(hits, sizes, strict=True)):
        true += [1] * size + [0, 0]
        called += [1] * some + [0] * (size - some) + [1, 0]
        index += [group] * (size + 2)
    groups = Groups("g", np.array(index), tuple(map(str, range(len(sizes)))))
    return bootstrap(true, called, sensitive_features=groups, replicates=replicates, seed=seed)


def test_gap_of_two_groups_is_as_unsure_as_their_difference() -> None:
    """40 of 55 and 59 of 82, as near as can be: the normal interval of the difference is 15 % wide
    on either side, so a gap of 12 % may well be."""
    interval = of_groups((40, 59), (55, 82), 4000).gap_interval("recall")
    assert interval.estimate == pytest.approx(40 / 55 - 59 / 82)
    assert interval.low == 0
    error = 1.96 * math.sqrt(40 * 15 / 55**3 + 59 * 23 / 82**3)
    assert interval.high == pytest.approx(interval.estimate + error, abs=0.01)
    apart = of_groups((50, 20), (55, 82), 4000).gap_interval("recall")
    error = 1.96 * math.sqrt(50 * 5 / 55**3 + 20 * 62 / 82**3)
    ends = apart.estimate - error, apart.estimate + error
    assert (apart.low, apart.high) == pytest.approx(ends, abs=0.01)


def test_gap_of_equalized_odds_holds_for_both_rates() -> None:
    found = of_groups((40, 59, 20), (55, 82, 40), 2000)
    odds, recall, fpr = (found.gap_interval(n) for n in ("equalized_odds", "recall", "fpr"))
    assert odds.estimate == max(recall.estimate, fpr.estimate)
    assert odds.low <= max(recall.low, fpr.low)
    assert odds.high >= max(recall.high, fpr.high)


@pytest.mark.parametrize("recalls", [(0.74,) * 4, (0.7, 0.75, 0.78, 0.8), (0.6, 0.7, 0.8, 0.85)])
def test_gap_between_groups_of_unequal_size_is_covered(recalls: tuple[float, ...]) -> None:
    """17, 58, 46 and 16 malignant images: 95 of 100 intervals should hold the true gap. An interval
    of the largest difference by itself held 83."""
    rng = np.random.default_rng(0)
    sizes, gap, held = (17, 58, 46, 16), float(np.ptp(recalls)), []
    while len(held) < 120:
        hits = rng.binomial(sizes, recalls)
        interval = of_groups(hits, sizes, 300).gap_interval("recall")
        if not math.isnan(interval.low):
            held.append(interval.low <= gap <= interval.high)
    assert np.mean(held) > 0.88  # 0.92 to 0.99 in the long run


def test_no_interval_of_a_gap_where_a_group_does_not_move() -> None:
    interval = of_groups((15, 59), (15, 82), 200).gap_interval("recall")
    assert interval.estimate == pytest.approx(1 - 59 / 82)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_exact_interval_against_scipy() -> None:
    for part, whole in ((15, 15), (0, 7), (36, 58), (1, 2)):
        wanted = stats.binomtest(part, whole).proportion_ci(0.9, method="exact")
        found = exact_interval(part, whole, 0.9)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
        assert found.estimate == part / whole
    assert math.isnan(exact_interval(0, 0).low)


def test_exact_interval_of_patients() -> None:
    """Five patients with three images each are worth five images, not fifteen."""
    patients = np.array([*("abcde" * 3)])
    assert independent_images(patients) == 5
    found = exact_interval(15, 15, 0.9, independent=5)
    assert found == exact_interval(5, 5, 0.9)
    assert exact_interval(6, 15, independent=5).high == exact_interval(2, 5).high
    assert exact_interval(6, 15, independent=5).estimate == 0.4
    # One of four has seven images, the others, two of them unknown, one each: 100 / 52.
    assert independent_images(np.array(["a"] * 7 + ["b", "", ""])) == pytest.approx(100 / 52)
    assert independent_images(np.array([""] * 4)) == 4


def test_jackknife_of_a_sample_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    true, called, score, groups = images(3000, digits=16)
    kinds = {"sensitive_features": groups, "replicates": 2000}
    wanted = bootstrap(true, called, score, **kinds).interval("auc", "b")  # type: ignore[arg-type]
    monkeypatch.setattr(module, "MOST_LEFT_OUT", 900)
    stratum, _ = Design.of(true, called, score, groups, None).leave_out()
    left_out = np.bincount(stratum)
    strata = np.bincount(2 * groups.index + true + 2)
    assert 700 < left_out.sum() <= 900
    assert (left_out == np.minimum(strata, left_out.max())).all()
    found = bootstrap(true, called, score, **kinds).interval("auc", "b")  # type: ignore[arg-type]
    assert found.low != wanted.low
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-3)


def test_acceleration_of_a_sample_is_near_that_of_all() -> None:
    left_out = np.random.default_rng(0).lognormal(size=9000)
    stratum, strata = np.repeat([0, 1], [3000, 6000]), np.array([3000, 6000])
    wanted = acceleration(left_out, stratum, strata)
    assert acceleration(left_out[::3], stratum[::3], strata) == pytest.approx(wanted, rel=0.2)
    with_nan = np.where(np.arange(9000) % 3, math.nan, left_out)
    assert acceleration(with_nan, stratum, strata) == acceleration(left_out[::3], stratum[::3], strata)
    assert acceleration(np.ones(9000), stratum, strata) == 0


def test_null_by_hand() -> None:
    """Four malignant images, two in each group, hits 1 1 0 0: the gap is 1 in 2 of 6 orders."""
    true, called = np.array([1, 1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 0, 1])
    groups = Groups("g", np.array([0, 0, 1, 1, 0, 1]), ("a", "b"))
    null = permutation_null(true, called, sensitive_features=groups, permutations=30_000)
    recall = null["recall"]
    assert recall.gap == 1
    assert recall.mean == pytest.approx(2 / 6, abs=0.01)
    assert recall.p_value == pytest.approx(2 / 6, abs=0.01)
    assert recall.upper == 1
    # One benign image in each group, one of them called: the gap in fpr is always 1.
    assert (null["fpr"].gap, null["fpr"].mean, null["fpr"].p_value) == (1, 1, 1)
    assert (null["equalized_odds"].gap, null["equalized_odds"].p_value) == (1, 1)


def test_null_against_every_order() -> None:
    """AUC and demographic parity gaps of all orders of a few images."""
    true = np.array([1, 1, 1, 0, 0, 0, 0])
    score = np.array([0.9, 0.4, 0.6, 0.5, 0.4, 0.3, 0.7])
    index = np.array([0, 1, 1, 0, 0, 1, 1])
    called = score >= 0.5

    def gaps_of(index: np.ndarray) -> tuple[float, float]:
        parts = [index == 0, index == 1]
        aucs = [sk.roc_auc_score(true[mine], score[mine]) for mine in parts]
        return np.ptp(aucs), np.ptp([called[mine].mean() for mine in parts])

    orders = itertools.product(itertools.permutations(index[:3]), itertools.permutations(index[3:]))
    gaps = np.array([gaps_of(np.array(first + second)) for first, second in orders])
    groups = Groups("g", index, ("a", "b"))
    null = permutation_null(true, called, score, sensitive_features=groups, permutations=30_000)
    for name, values, own in zip(("auc", "selection_rate"), gaps.T, gaps_of(index), strict=True):
        assert null[name].gap == pytest.approx(own)
        assert null[name].mean == pytest.approx(values.mean(), abs=0.01)
        assert null[name].p_value == pytest.approx((values >= own - 1e-12).mean(), abs=0.02)


def test_null_leaves_out_images_without_a_group() -> None:
    true, called, score, groups = images(300)
    known = groups.known
    inside = Groups("tone", groups.index[known], groups.names)
    assert permutation_null(true, called, score, sensitive_features=groups, permutations=50) == permutation_null(
        true[known], called[known], score[known], sensitive_features=inside, permutations=50
    )


@pytest.mark.parametrize(("index", "names"), [([-1] * 6, ("a", "b")), ([0] * 6, ("a",)), ([-1] * 6, ())])
def test_no_null_without_two_groups(index: list[int], names: tuple[str, ...]) -> None:
    groups = Groups("g", np.array(index), names)
    null = permutation_null([1, 1, 1, 0, 0, 0], [1, 0] * 3, sensitive_features=groups)["recall"]
    assert math.isnan(null.gap)
    assert math.isnan(null.p_value)


def test_a_group_without_malignant_images_is_no_part_of_the_gap_in_recall() -> None:
    true, called = np.array([1, 1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 0, 1])
    groups = Groups("g", np.array([0, 0, 1, 1, 2, 2]), ("a", "b", "c", "none"))
    null = permutation_null(true, called, sensitive_features=groups, permutations=3000)["recall"]
    assert null.gap == 1
    assert null.mean == pytest.approx(2 / 6, abs=0.03)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Scores N(1, 1) and N(0, 1), of which the AUC and the recall at 1 are known."""
    rng = np.random.default_rng(0)
    truth = {"auc": stats.norm.cdf(1 / math.sqrt(2)), "recall": 0.5}
    true = np.repeat([1, 0], [60, 240])
    held = dict.fromkeys(itertools.product(truth, ("percentile", "bca")), 0)
    for _ in range(300):
        normal = rng.normal(size=300) + true
        found = bootstrap(true, normal >= 1, stats.norm.cdf(normal), replicates=400)
        for metric, method in held:
            interval = found.interval(metric, method=method)  # type: ignore[arg-type]
            held[metric, method] += interval.low <= truth[metric] <= interval.high
    for what, times in held.items():
        assert 0.91 <= times / 300 <= 0.98, what


def test_null_is_right_one_time_in_twenty_where_groups_are_alike() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(300):
        true = rng.random(300) < 0.3
        score = stats.norm.cdf(rng.normal(size=300) + true)
        groups = Groups("g", rng.choice(4, 300, p=(0.1, 0.6, 0.2, 0.1)), tuple("abcd"))
        null = permutation_null(true, score >= 0.7, score, sensitive_features=groups, permutations=200)
        p_values.append([null["recall"].p_value, null["auc"].p_value])
    for metric, share in zip(("recall", "auc"), (np.array(p_values) <= 0.05).mean(0), strict=True):
        assert 0.02 <= share <= 0.08, metric


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pred": [0, 1]}, r"y_true \(3,\) and values \(2,\)"),
        ({"y_pred": [0, 1, 2]}, r"y_pred must hold 0 and 1, got \[0.0, 1.0, 2.0\]"),
        ({"score": [0.5, 0.5, 1.5]}, r"1 of 3 probabilities are not in 0..1, the first: 1.5"),
        ({"score": [0.5, 0.5, math.nan]}, "1 of 3 scores are NaN"),
        ({"sensitive_features": Groups("g", np.zeros(2, int), ("a",))}, "3 images and 2 groups"),
        ({"sensitive_features": Groups("g", np.zeros(0, int), ("a",))}, "3 images and 0 groups"),
        ({"patients": ["a"]}, r"3 images and patients of shape \(1,\)"),
        ({"replicates": 0}, "replicates must be at least 1, got 0"),
        ({"y_true": [], "y_pred": []}, "there is no image to draw"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"y_true": [0, 1, 1], "y_pred": [0, 1, 0]}
    with pytest.raises(ValueError, match=message):
        bootstrap(**(arguments | change))


def test_refused_words() -> None:
    found = bootstrap([0, 1], [0, 1], replicates=2)
    with pytest.raises(ValueError, match="method: got 'normal', expected percentile or bca"):
        found.interval("recall", method="normal")  # type: ignore[arg-type]
    for method in ("percentile", "bca"):
        with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
            found.interval("recall", method=method, level=95)  # type: ignore[arg-type]
    groups = Groups("g", np.zeros(2, int), ("a",))
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        permutation_null([0, 1], [0, 1], sensitive_features=groups, permutations=0)
