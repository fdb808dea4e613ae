"""How a classifier's metrics differ between groups of images.

Rates by group, gaps and ratios come from fairlearn's MetricFrame, over the metrics of this package:
fairlearn's own rates give 0, and not NaN, to a group without malignant images. A gap says nothing
without what chance alone makes of it: see `bootstrap.permutation_null`.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from fairlearn.metrics import MetricFrame
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melfast.io.words import check_words
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import (
    LOWER_IS_BETTER,
    NEITHER_IS_BETTER,
    SCORE_METRICS,
    THRESHOLD_METRICS,
    Confusion,
    checked_calls,
    checked_probabilities,
    confusion,
)

Metric = Callable[[ArrayLike, ArrayLike], float]


@dataclass(frozen=True)
class Disparity:
    """A metric by group, and how far the groups are apart.

    Attributes:
        overall: of all images, those without a group too.
        by_group: of every group by name; NaN where it is undefined, as without an image.
        gap: largest less smallest value, NaN where fewer than two groups have one.
        ratio: smallest through largest value; NaN as for the gap, and where both are 0.
        worst_group: the group that fares worst; None where no group has a value, and for metrics
            of which neither more nor less is better.
    """

    overall: float
    by_group: dict[str, float]
    gap: float
    ratio: float
    worst_group: str | None


def disparities(
    y_true: ArrayLike, y_pred: ArrayLike, score: ArrayLike | None = None, *, sensitive_features: Groups
) -> dict[str, Disparity]:
    """Every metric by group: those of the calls and, where there are scores, of the scores.

    Args:
        y_true: 0 and 1 [N].
        y_pred: the calls, 0 and 1 [N].
        score: P(malignant) [N].
        sensitive_features: a group of each image; those without one count in `overall` alone.
    Raises:
        ValueError: lengths differ, or values are none of a metric's.
    """
    found = _by_group(_of_calls(THRESHOLD_METRICS), y_true, y_pred, sensitive_features)
    if score is not None:
        found |= _by_group(SCORE_METRICS, y_true, score, sensitive_features)
    return found


def confusions(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: Groups) -> dict[str, Confusion]:
    """Counts of images by true class and call, of each group."""
    true, called = _same_length(y_true, y_pred, sensitive_features)
    return {
        name: confusion(true[mine], called[mine])
        for i, name in enumerate(sensitive_features.names)
        for mine in [sensitive_features.index == i]
    }


def demographic_parity_difference(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: Groups) -> float:
    """Largest less smallest share of images that are called malignant, whatever they are.

    It is not 0 for a perfect classifier where the share of malignant images differs.
    """
    return _rate("selection_rate", y_true, y_pred, sensitive_features).gap


def demographic_parity_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: Groups) -> float:
    """Smallest through largest share of images that are called malignant."""
    return _rate("selection_rate", y_true, y_pred, sensitive_features).ratio


def equal_opportunity_difference(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: Groups) -> float:
    """Largest less smallest recall."""
    return _rate("recall", y_true, y_pred, sensitive_features).gap


def equalized_odds_difference(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: Groups) -> float:
    """The larger of the gaps in recall and in the false positive rate; NaN where one is."""
    gaps = [_rate(n, y_true, y_pred, sensitive_features).gap for n in ("recall", "fpr")]
    return float(np.max(gaps))  # unlike max(), NaN of NaN


@dataclass(frozen=True)
class ScoreTest:
    """P(malignant) of some images by group, and whether the groups differ.

    Attributes:
        images, mean, sd: of each group by name; sd has n - 1 below, NaN of one image.
        anova_f, anova_p: one-way analysis of variance.
        kruskal_h, kruskal_p: Kruskal and Wallis's test on ranks, corrected for ties. All four are
            NaN where fewer than two groups have images or the scores are all the same.
    """

    images: dict[str, int]
    mean: dict[str, float]
    sd: dict[str, float]
    anova_f: float
    anova_p: float
    kruskal_h: float
    kruskal_p: float


@check_words
def score_test(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    score: ArrayLike,
    *,
    sensitive_features: Groups,
    images: Literal["malignant", "true positive"],
) -> ScoreTest:
    """Whether P(malignant) differs across groups, on malignant images or those called so rightly.

    Images are taken for independent, which those of one patient are not.
    """
    _same_length(y_true, y_pred, sensitive_features)
    malignant, called = checked_calls(y_true, y_pred)
    _, scores = checked_probabilities(y_true, score)
    chosen = malignant & called if images == "true positive" else malignant
    index, names = sensitive_features.index, sensitive_features.names
    samples = {name: scores[chosen & (index == i)] for i, name in enumerate(names)}
    f, f_p, h, h_p = _tests([sample for sample in samples.values() if len(sample)])
    return ScoreTest(
        images={name: len(sample) for name, sample in samples.items()},
        mean={n: float(s.mean()) if len(s) else math.nan for n, s in samples.items()},
        sd={n: float(s.std(ddof=1)) if len(s) > 1 else math.nan for n, s in samples.items()},
        anova_f=f,
        anova_p=f_p,
        kruskal_h=h,
        kruskal_p=h_p,
    )


def _tests(samples: list[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    """F, its p-value, H, its p-value."""
    if len(samples) < 2 or np.ptp(np.concatenate(samples)) == 0:
        return (math.nan,) * 4
    with warnings.catch_warnings():
        # No spread within groups, or one image in each: F is infinite or NaN, which says it.
        warnings.simplefilter("ignore", RuntimeWarning)
        f, f_p = stats.f_oneway(*samples)
    h, h_p = stats.kruskal(*samples)
    return float(f), float(f_p), float(h), float(h_p)


def _rate(name: str, y_true: ArrayLike, y_pred: ArrayLike, groups: Groups) -> Disparity:
    metrics = _of_calls({name: THRESHOLD_METRICS[name]})
    return _by_group(metrics, y_true, y_pred, groups)[name]


def _of_calls(metrics: Mapping[str, Callable[[Confusion], float]]) -> dict[str, Metric]:
    """Metrics of counts as metrics of arrays."""

    def of_arrays(metric: Callable[[Confusion], float]) -> Metric:
        return lambda y_true, y_pred: metric(confusion(y_true, y_pred))

    return {name: of_arrays(metric) for name, metric in metrics.items()}


def _by_group(
    metrics: Mapping[str, Metric], y_true: ArrayLike, values: ArrayLike, groups: Groups
) -> dict[str, Disparity]:
    true, values = _same_length(y_true, values, groups)
    overall = {name: metric(true, values) for name, metric in metrics.items()}
    known = groups.known
    if not known.any():
        nothing = dict.fromkeys(groups.names, math.nan)
        return {n: Disparity(v, dict(nothing), math.nan, math.nan, None) for n, v in overall.items()}
    frame = MetricFrame(
        metrics=dict(metrics),
        y_true=true[known],
        y_pred=values[known],
        sensitive_features={groups.name: groups.index[known]},
    )
    by_group = frame.by_group.reindex(range(len(groups.names))).astype(np.float64)
    gap, ratio = frame.difference(), frame.ratio()
    found = {}
    for name in metrics:
        rates = by_group[name].to_numpy()
        alone = np.isfinite(rates).sum() < 2
        found[name] = Disparity(
            overall=overall[name],
            by_group=dict(zip(groups.names, rates.tolist(), strict=True)),
            gap=math.nan if alone else float(gap[name]),
            ratio=math.nan if alone else float(ratio[name]),
            worst_group=_worst(name, rates, groups.names),
        )
    return found


def _worst(metric: str, rates: NDArray[np.float64], names: tuple[str, ...]) -> str | None:
    if metric in NEITHER_IS_BETTER or np.isnan(rates).all():
        return None
    worst = np.nanargmax(rates) if metric in LOWER_IS_BETTER else np.nanargmin(rates)
    return names[int(worst)]


def _same_length(y_true: ArrayLike, values: ArrayLike, groups: Groups) -> tuple[NDArray[Any], NDArray[Any]]:
    true, array = np.asarray(y_true), np.asarray(values)
    if not true.shape == array.shape == groups.index.shape:
        raise ValueError(
            f"y_true {true.shape}, values {array.shape} and groups {groups.index.shape} must be equally long lists"
        )
    return true, array
