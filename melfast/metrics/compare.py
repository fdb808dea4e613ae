"""Which differences between two models on the same images are real: of metrics, and of their gaps."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melfast.metrics.gaps import Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import Ends, Estimate, critical, mover, p_from
from melfast.metrics.metrics import SHARES, checked_calls, checked_probabilities, gap, placements
from melfast.metrics.scores import Sample, by_patient, influence, patients_with

METRICS = ("auc", "average_precision", "pauc_80tpr", "balanced_accuracy", "recall", "specificity", "f1", "brier")
GAP_METRICS = ("recall", "fpr", "selection_rate", "auc")
FEWEST_OF_A_CLASS = 3  # whose variance is more than a guess
SHRINKING_PATIENTS = 10  # without correlation, by which that of few patients is shrunk


@dataclass(frozen=True)
class Difference:
    """A metric, or gap, of one model less that of another on the same images.

    Attributes:
        low, high: paired; NaN where one of the two has no interval.
        p_value: two-sided, of the same statistic; NaN as the ends, and where there is no test.
    """

    value: float
    low: float
    high: float
    p_value: float = math.nan


def delong(y_true: ArrayLike, score: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """DeLong's test (1988) of two AUCs on the same images.

    Images are taken for independent.

    Args:
        y_true: 0 and 1 [N].
        score, other: P(malignant) by the two models [N].
    Returns:
        Difference of the AUCs, its standard error, and the two-sided p-value. All are NaN where one
        class is missing; the last two where a class has fewer than three images or, as of models
        that both separate the classes, there is no variance although the models differ. The p-value
        is 1 where they rank all images alike.
    """
    malignant, first = checked_probabilities(y_true, score)
    _, second = checked_probabilities(y_true, other)
    if malignant.all() or not malignant.any():
        return (math.nan,) * 3
    one, another = placements(malignant, first), placements(malignant, second)
    apart = one - another
    difference = float(one[malignant].mean() - another[malignant].mean())
    if not apart.any():
        return difference, 0.0, 1.0
    classes = (apart[malignant], apart[~malignant])
    if min(map(len, classes)) < FEWEST_OF_A_CLASS:
        return difference, math.nan, math.nan
    error = math.sqrt(sum(float(np.var(part, ddof=1)) / len(part) for part in classes))
    if error == 0:
        return difference, math.nan, math.nan
    return difference, error, float(2 * stats.norm.sf(abs(difference) / error))


def mcnemar(y_true: ArrayLike, called: ArrayLike, other: ArrayLike) -> tuple[int, int, float]:
    """McNemar's exact test (1947) of two models' calls on the same images.

    Returns:
        Number of images that only the first calls correctly, that only the second does, and the
        two-sided p-value; 1 if there are none of either.
    """
    malignant, first = checked_calls(y_true, called)
    _, second = checked_calls(y_true, other)
    right, wrong = first == malignant, second == malignant
    one, another = int((right & ~wrong).sum()), int((wrong & ~right).sum())
    if one + another == 0:
        return 0, 0, 1.0
    return one, another, float(stats.binomtest(one, one + another).pvalue)


def paired_difference(
    metric: str, samples: tuple[Sample, Sample], estimates: tuple[Estimate, Estimate], level: float = 0.95
) -> Difference:
    """A metric of the first model less that of the second, from the interval of each (MOVER).

    The two are correlated as the influences of the same patients are.

    Args:
        samples: of the two models, the same images in the same order.
        estimates: of the metric by the two.
    """
    one, other = estimates
    value = one.value - other.value
    if math.isnan(value):
        return Difference(value, math.nan, math.nan)
    related = _correlation(metric, samples)

    def at(z: float) -> Ends:
        return mover((1, -1), (one.value, other.value), (one.at(z), other.at(z)), related)

    df = min(one.df, other.df)
    low, high = at(critical(level, df))
    if math.isnan(low):
        return Difference(value, low, high)
    if value == 0 and related == 1:
        return Difference(0.0, 0.0, 0.0, 1.0)

    def excludes(z: float) -> bool:
        below, above = at(z)
        return below > 0 or above < 0

    return Difference(value, low, high, p_from(excludes, df))


def gap_difference(metric: str, gaps: tuple[Gaps, Gaps], samples: tuple[Sample, Sample]) -> Difference:
    """The gap of the first model between groups less that of the second, from the interval of each (MOVER).

    The two are correlated as the differences of the groups that are furthest apart. Of few patients
    that is a guess: it is shrunk, which makes the interval wider. Without a p-value: that the
    interval excludes 0 is the test.

    Args:
        metric: of GAP_METRICS.
        gaps, samples: of the two models, the same images in the same order.
    """
    found = [g.of_metric(metric) for g in gaps]
    difference = found[0].gap - found[1].gap
    if math.isnan(difference):
        return Difference(math.nan, math.nan, math.nan)
    ends = [(f.low, f.high) for f in found]
    low, high = mover((1, -1), [f.gap for f in found], ends, _correlation_of_gaps(metric, gaps, samples))
    return Difference(difference, max(-1.0, low), min(1.0, high))


def gap_of(metric: str, gaps: Gaps) -> float:
    """The gap between the groups that have enough images."""
    return gap(_of_groups(metric, gaps)[0][gaps.eligible(metric)])


def _correlation_of_gaps(metric: str, gaps: tuple[Gaps, Gaps], samples: tuple[Sample, Sample]) -> float:
    """Of two models' differences between their own lowest and highest group."""
    groups, chosen = gaps[0].groups, gaps[0].eligible(metric)
    covariance, variances = 0.0, np.zeros(2)
    value, worth = (np.array([_of_groups(metric, g)[k][chosen] for g in gaps]) for k in (0, 1))  # [2, G]
    sign = np.zeros(value.shape)
    for model in range(2):
        sign[model, value[model].argmax()] += 1
        sign[model, value[model].argmin()] -= 1
    # As if two images more had been seen, one of either kind (Agresti and Caffo 2000).
    shrunk = (value * worth + 1) / (worth + 2)
    variance = shrunk * (1 - shrunk) / (worth + 2)
    for place, group in enumerate(chosen):
        variances += sign[:, place] ** 2 * variance[:, place]
        if sign[:, place].all():
            of_group = _of_group(samples, groups, group)
            patients = patients_with(np.ones(len(of_group[0].malignant), bool), of_group[0].patient)
            related = _correlation(metric, of_group) * patients / (patients + SHRINKING_PATIENTS)
            covariance += related * float(sign[:, place].prod() * np.sqrt(variance[:, place].prod()))
    scale = math.sqrt(float(variances.prod()))
    return covariance / scale if scale > 0 else 0.0


def _of_groups(metric: str, gaps: Gaps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value and worth of a metric in each group."""
    if metric == "auc":
        return np.array([a.estimate.value for a in gaps.aucs]), np.array([a.worth for a in gaps.aucs])
    shares = gaps.cells.share(*SHARES[metric])
    return shares.value, shares.worth


def _of_group(samples: tuple[Sample, Sample], groups: Groups, group: int) -> tuple[Sample, Sample]:
    rows = np.flatnonzero(groups.index == group)
    return samples[0].select(rows), samples[1].select(rows)


def _correlation(metric: str, samples: tuple[Sample, Sample]) -> float:
    """Of a metric of two models on the same patients; 0 where one of them does not vary."""
    one, other = (by_patient(influence(metric, sample), sample.patient) for sample in samples)
    scale = math.sqrt(float((one**2).sum() * (other**2).sum()))
    if scale == 0:
        return 0.0
    return 1.0 if (one == other).all() else float((one * other).sum() / scale)
