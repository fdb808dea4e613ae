"""Compare: which differences between models on the same images are real."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from melfast.metrics.bootstrap import Bootstrap, bootstrap
from melfast.metrics.intervals import percentile_interval
from melfast.metrics.metrics import SCORE_METRICS, checked_calls, checked_probabilities

if TYPE_CHECKING:
    from melfast.report.analysis import Images, Model, Settings

METRICS = ("auc", "average_precision", "pauc_80tpr", "balanced_accuracy", "recall", "specificity", "f1", "brier")


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another.

    Attributes:
        low, high: of the paired bootstrap; NaN where the models never differ.
        p_value: share of the replicates, doubled, in which the difference has the other sign or
            is none; 1 at most.
    """

    value: float
    low: float
    high: float
    p_value: float


def delong(y_true: ArrayLike, score: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """DeLong's test (1988) of two AUCs on the same images.

    Images are taken for independent.

    Args:
        y_true: 0 and 1 [N].
        score, other: P(malignant) by the two models [N].
    Returns:
        Difference of the AUCs, its standard error, and the two-sided p-value; NaN where one class
        is missing, and a p-value of 1 where the two rank all images alike.
    """
    malignant, first = checked_probabilities(y_true, score)
    _, second = checked_probabilities(y_true, other)
    if malignant.all() or not malignant.any():
        return (math.nan,) * 3
    # Structural components by midranks (Sun and Xu 2014).
    by_malignant, by_benign, aucs = [], [], []
    for values in (first, second):
        ranks = stats.rankdata(values)
        own_malignant = stats.rankdata(values[malignant])
        own_benign = stats.rankdata(values[~malignant])
        num_malignant, num_benign = len(own_malignant), len(own_benign)
        by_malignant.append((ranks[malignant] - own_malignant) / num_benign)
        by_benign.append(1 - (ranks[~malignant] - own_benign) / num_malignant)
        aucs.append(float(by_malignant[-1].mean()))
    difference = aucs[0] - aucs[1]
    variance = 0.0
    for one, another in (by_malignant, by_benign):
        if len(one) > 1:
            variance += float(np.var(one - another, ddof=1)) / len(one)
    error = math.sqrt(variance)
    if error == 0:
        return difference, 0.0, 1.0 if difference == 0 else 0.0
    return difference, error, float(2 * stats.norm.sf(abs(difference) / error))


def mcnemar(y_true: ArrayLike, called: ArrayLike, other: ArrayLike) -> tuple[int, int, float]:
    """McNemar's exact test (1947) of two models' calls on the same images.

    Returns:
        Images that the first alone calls rightly, those that the second alone does, and the
        two-sided p-value; 1 where there are none of either.
    """
    malignant, first = checked_calls(y_true, called)
    _, second = checked_calls(y_true, other)
    right, wrong = first == malignant, second == malignant
    one, another = int((right & ~wrong).sum()), int((wrong & ~right).sum())
    if one + another == 0:
        return 0, 0, 1.0
    return one, another, float(stats.binomtest(one, one + another).pvalue)


def paired_difference(first: Bootstrap, second: Bootstrap, metric: str, level: float = 0.95) -> Difference:
    """Of two bootstraps that drew the same images in each replicate, over all images."""
    value = float(first.estimate[metric][0] - second.estimate[metric][0])
    differences = first.replicates[metric][:, 0] - second.replicates[metric][:, 0]
    interval = percentile_interval(value, differences, level)
    known = differences[~np.isnan(differences)]
    if math.isnan(value) or len(known) == 0:
        return Difference(value, math.nan, math.nan, math.nan)
    other_side = min((known <= 0).sum(), (known >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(other_side)) / (1 + len(known)))
    return Difference(value, interval.low, interval.high, p_value)


def compare_all(images: "Images", models: Sequence["Model"], settings: "Settings") -> list[dict[str, Any]]:
    """Every pair of models by every metric that both have.

    Each replicate draws the same images, or patients, for all models, and each class apart.
    """
    if len(models) < 2:
        return []
    clusters = np.array(images.names) if images.patients is None else images.patients
    drawn = [
        bootstrap(
            images.y_true,
            np.zeros(len(images.names), np.int64) if model.called is None else model.called,
            model.score,
            patients=clusters,
            replicates=settings.replicates,
            seed=settings.seed,
        )
        for model in models
    ]
    found = []
    for i, j in itertools.combinations(range(len(models)), 2):
        one, other = models[i], models[j]
        both = [m for m in METRICS if m in drawn[i].estimate and m in drawn[j].estimate]
        if one.called is None or other.called is None:
            both = [m for m in both if m in SCORE_METRICS]
        pair: dict[str, Any] = {
            "first": one.name,
            "second": other.name,
            "differences": {m: asdict(paired_difference(drawn[i], drawn[j], m, settings.level)) for m in both},
            "delong": None,
            "mcnemar": None,
        }
        if one.score is not None and other.score is not None:
            value, error, p_value = delong(images.y_true, one.score, other.score)
            pair["delong"] = {"auc": value, "standard_error": error, "p_value": p_value}
        if one.called is not None and other.called is not None:
            alone, other_alone, p_value = mcnemar(images.y_true, one.called, other.called)
            pair["mcnemar"] = {"first_alone_right": alone, "second_alone_right": other_alone, "p_value": p_value}
        found.append(pair)
    return found
