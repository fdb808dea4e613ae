"""How a classifier's metrics differ between groups of images, called as fairlearn's metrics are.

`f(y_true, y_pred, *, sensitive_features)` with lists, arrays and Series alike. fairlearn's MetricFrame
computes metrics by group and compares the groups. The metrics are ours, because fairlearn's give a
group without malignant images a recall of 0; here it is NaN. A gap means little without its size by
chance: see `gaps.Gaps`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.metrics.groups import Groups, groups_of_labels
from melfast.metrics.metrics import (
    LOWER_IS_BETTER,
    NEITHER_IS_BETTER,
    SCORE_METRICS,
    THRESHOLD_METRICS,
    Confusion,
    checked_calls,
    confusion,
)

SensitiveFeatures = Groups | Iterable[Any]


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
    y_true: ArrayLike, y_pred: ArrayLike, score: ArrayLike | None = None, *, sensitive_features: SensitiveFeatures
) -> dict[str, Disparity]:
    """Every metric by group: those of the calls and, where there are scores, of the scores.

    Args:
        y_true: 0 and 1 [N].
        y_pred: the calls, 0 and 1 [N].
        score: P(malignant) [N].
        sensitive_features: the group of each image, or Groups; those without one (None, NaN, '')
            count in `overall` alone.
    Raises:
        ValueError: lengths differ, or values are none of a metric's.
    """
    groups, malignant, called = _checked(y_true, y_pred, sensitive_features)
    found = _by_group({name: partial(_of_calls, name) for name in THRESHOLD_METRICS}, malignant, called, groups)
    if score is not None:
        found |= _by_group(SCORE_METRICS, malignant, np.asarray(score, np.float64), groups)
    return found


def confusions(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> dict[str, Confusion]:
    """Counts of images by true class and call, of each group."""
    groups, malignant, called = _checked(y_true, y_pred, sensitive_features)
    parts = ((name, groups.index == g) for g, name in enumerate(groups.names))
    return {name: confusion(malignant[part], called[part]) for name, part in parts}


def demographic_parity_difference(
    y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures
) -> float:
    """Largest minus smallest share of images that are called malignant, of either class.

    It is not 0 for a perfect classifier where the share of malignant images differs.
    """
    return _between("gap", "selection_rate", y_true, y_pred, sensitive_features)


def demographic_parity_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """Smallest through largest share of images that are called malignant."""
    return _between("ratio", "selection_rate", y_true, y_pred, sensitive_features)


def equal_opportunity_difference(
    y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures
) -> float:
    """Largest less smallest recall."""
    return _between("gap", "recall", y_true, y_pred, sensitive_features)


def equal_opportunity_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """Smallest through largest recall."""
    return _between("ratio", "recall", y_true, y_pred, sensitive_features)


def equalized_odds_difference(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """The larger of the gaps in recall and in the false positive rate; NaN where one is."""
    found = [_between("gap", name, y_true, y_pred, sensitive_features) for name in ("recall", "fpr")]
    return float(np.max(found))  # unlike max(), NaN of NaN


def equalized_odds_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """The smaller of the ratios of recall and of the false positive rate; NaN where one is."""
    found = [_between("ratio", name, y_true, y_pred, sensitive_features) for name in ("recall", "fpr")]
    return float(np.min(found))


def _between(
    spread: Literal["gap", "ratio"],
    metric: str,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sensitive_features: SensitiveFeatures,
) -> float:
    groups, malignant, called = _checked(y_true, y_pred, sensitive_features)
    found = _by_group({metric: partial(_of_calls, metric)}, malignant, called, groups)
    return float(getattr(found[metric], spread))


def _of_calls(metric: str, malignant: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    return THRESHOLD_METRICS[metric](confusion(malignant, called))


def _checked(
    y_true: ArrayLike, y_pred: ArrayLike, sensitive_features: SensitiveFeatures
) -> tuple[Groups, NDArray[np.bool_], NDArray[np.bool_]]:
    """The groups, and of each image whether it is malignant and called so [N]."""
    malignant, called = checked_calls(y_true, y_pred)
    groups = sensitive_features
    if not isinstance(groups, Groups):
        groups = groups_of_labels("group", groups)
    if len(groups) != len(malignant):
        raise ValueError(f"there are {len(malignant)} images and {len(groups)} groups")
    return groups, malignant, called


def _by_group(
    metrics: Mapping[str, Callable[..., float]],
    malignant: NDArray[np.bool_],
    predicted: NDArray[np.bool_] | NDArray[np.float64],
    groups: Groups,
) -> dict[str, Disparity]:
    """Metrics of calls or of scores, over all and by group; undefined of groups without an image."""
    overall = {name: float(metric(malignant, predicted)) for name, metric in metrics.items()}
    known = groups.known
    if not known.any():
        nothing = dict.fromkeys(groups.names, math.nan)
        return {name: Disparity(value, nothing, math.nan, math.nan, None) for name, value in overall.items()}
    # fairlearn brings scikit-learn with it: a second to load.
    from fairlearn.metrics import MetricFrame

    images = {"y_true": malignant[known], "y_pred": predicted[known], "sensitive_features": groups.index[known]}
    frame = MetricFrame(metrics=dict(metrics), **images)
    gaps, ratios = frame.difference(), frame.ratio()
    found = {}
    for name, value in overall.items():
        rates = frame.by_group[name].astype(float).reindex(range(len(groups.names)))
        worst = None
        if name not in NEITHER_IS_BETTER and rates.notna().any():
            worst = groups.names[int(rates.idxmax() if name in LOWER_IS_BETTER else rates.idxmin())]
        compared = rates.count() > 1  # fairlearn gives one group alone a gap of 0
        spread = (float(gaps[name]), float(ratios[name])) if compared else (math.nan, math.nan)
        by_group = dict(zip(groups.names, rates.tolist(), strict=True))
        found[name] = Disparity(value, by_group, *spread, worst)
    return found
