"""How a classifier's metrics differ between groups of images, called as fairlearn's metrics are.

`f(y_true, y_pred, *, sensitive_features)` with lists, arrays and Series alike. Where every group has
images of both classes the numbers are fairlearn's; to a group without malignant images fairlearn
gives a recall of 0, here it has none. A gap says nothing without what chance alone makes of it: see
`gaps.Gaps`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.metrics.groups import Groups, groups_of_labels
from melfast.metrics.metrics import (
    LOWER_IS_BETTER,
    NEITHER_IS_BETTER,
    SCORE_METRICS,
    Confusion,
    checked_calls,
    gap,
    ratio,
    threshold_metrics,
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
    groups, counts = _counted(y_true, y_pred, sensitive_features)
    found = {name: _disparity(name, values, groups.names) for name, values in threshold_metrics(counts).items()}
    if score is not None:
        true, scores = np.asarray(y_true), np.asarray(score, np.float64)
        parts = [slice(None), *(groups.index == g for g in range(len(groups.names)))]
        for name, metric in SCORE_METRICS.items():
            values = np.array([metric(true, scores)] + [metric(true[part], scores[part]) for part in parts[1:]])
            found[name] = _disparity(name, values, groups.names)
    return found


def confusions(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> dict[str, Confusion]:
    """Counts of images by true class and call, of each group."""
    groups, counts = _counted(y_true, y_pred, sensitive_features)
    return {name: Confusion(*map(int, row)) for name, row in zip(groups.names, counts[1:], strict=True)}


def demographic_parity_difference(
    y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures
) -> float:
    """Largest less smallest share of images that are called malignant, whatever they are.

    It is not 0 for a perfect classifier where the share of malignant images differs.
    """
    return _between(gap, "selection_rate", y_true, y_pred, sensitive_features)


def demographic_parity_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """Smallest through largest share of images that are called malignant."""
    return _between(ratio, "selection_rate", y_true, y_pred, sensitive_features)


def equal_opportunity_difference(
    y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures
) -> float:
    """Largest less smallest recall."""
    return _between(gap, "recall", y_true, y_pred, sensitive_features)


def equal_opportunity_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """Smallest through largest recall."""
    return _between(ratio, "recall", y_true, y_pred, sensitive_features)


def equalized_odds_difference(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """The larger of the gaps in recall and in the false positive rate; NaN where one is."""
    found = [_between(gap, name, y_true, y_pred, sensitive_features) for name in ("recall", "fpr")]
    return float(np.max(found))  # unlike max(), NaN of NaN


def equalized_odds_ratio(y_true: ArrayLike, y_pred: ArrayLike, *, sensitive_features: SensitiveFeatures) -> float:
    """The smaller of the ratios of recall and of the false positive rate; NaN where one is."""
    found = [_between(ratio, name, y_true, y_pred, sensitive_features) for name in ("recall", "fpr")]
    return float(np.min(found))


def _between(
    spread: Callable[[ArrayLike], float],
    metric: str,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sensitive_features: SensitiveFeatures,
) -> float:
    _, counts = _counted(y_true, y_pred, sensitive_features)
    return spread(threshold_metrics(counts[1:])[metric])


def _counted(
    y_true: ArrayLike, y_pred: ArrayLike, sensitive_features: SensitiveFeatures
) -> tuple[Groups, NDArray[np.int64]]:
    """The groups; tn, fp, fn, tp of all images, then of each group [1 + G, 4]."""
    malignant, called = checked_calls(y_true, y_pred)
    groups = sensitive_features
    if not isinstance(groups, Groups):
        groups = groups_of_labels("group", groups)
    if len(groups) != len(malignant):
        raise ValueError(f"there are {len(malignant)} images and {len(groups)} groups")
    kind = 2 * malignant + called
    known = groups.known
    by_group = np.bincount(4 * groups.index[known] + kind[known], minlength=4 * len(groups.names)).reshape(-1, 4)
    return groups, np.concatenate([np.bincount(kind, minlength=4)[None], by_group])


def _disparity(metric: str, values: NDArray[np.float64], names: tuple[str, ...]) -> Disparity:
    rates = values[1:]
    worst = None
    if metric not in NEITHER_IS_BETTER and not np.isnan(rates).all():
        worst = names[int(np.nanargmax(rates) if metric in LOWER_IS_BETTER else np.nanargmin(rates))]
    by_group = dict(zip(names, rates.tolist(), strict=True))
    return Disparity(float(values[0]), by_group, gap(rates), ratio(rates), worst)
