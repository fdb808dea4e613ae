"""Metrics of a binary classifier as plain functions of arrays; NaN where a metric is undefined.

`y_true` holds 0 (benign) and 1 (malignant), `score` P(malignant), `y_pred` the calls 0 and 1.
Values are fractions, equal to scikit-learn's but for rounding, and NaN where it warns or gives 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.io.words import check_words

ECE_BINS = 15
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Confusion:
    """Counts of images: (true class, call)."""

    tn: int
    fp: int
    fn: int
    tp: int


class Steps(NamedTuple):
    """The thresholds that there are, from the highest score down; one step for a run of equal scores.

    Attributes:
        order: int64 [N], the images, the highest score first.
        last: int64 [S], the place in `order` of the last image of each step.
        tp, fp: int64 [S], malignant and benign images called so at each step.
    """

    order: NDArray[np.int64]
    last: NDArray[np.int64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]


def steps(malignant: NDArray[np.bool_], score: NDArray[np.float64]) -> Steps:
    """The steps down the scores; see Steps."""
    order = np.argsort(-score, kind="stable")  # linear in time where the images are sorted already
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(order)])
    tp = np.cumsum(malignant[order], dtype=np.int64)[last]
    return Steps(order, last, tp, last + 1 - tp)


def placements(malignant: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the other class that each image is ranked right against, ties counting half [N].

    The mean over either class is the AUC; DeLong's structural components (1988).

    Args:
        malignant: with images of both classes.
    """
    step = steps(malignant, score)
    sizes = np.diff(step.last, prepend=-1)
    tp, fp = (np.repeat(count - np.diff(count, prepend=0) / 2, sizes) for count in (step.tp, step.fp))
    found = np.empty(len(score))
    found[step.order] = np.where(malignant[step.order], 1 - fp / step.fp[-1], tp / step.tp[-1])
    return found


def roc_auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: P(a malignant image scores above a benign one), ties count half.

    Returns:
        NaN where only one class is present.
    """
    malignant, score = _checked(y_true, score)
    num_malignant, num_benign = int(malignant.sum()), int((~malignant).sum())
    if num_malignant == 0 or num_benign == 0:
        return math.nan
    step = steps(malignant, score)
    risen = np.diff(step.fp, prepend=0)
    above = risen @ (step.tp - np.diff(step.tp, prepend=0) / 2)  # Mann and Whitney's U
    return float(above / (num_malignant * num_benign))


def average_precision(y_true: ArrayLike, score: ArrayLike) -> float:
    """Sum over thresholds of precision times the step in recall.

    Returns:
        NaN where only one class is present: without benign images it would be 1 for any scores.
    """
    malignant, score = _checked(y_true, score)
    if not malignant.any() or malignant.all():
        return math.nan
    step = steps(malignant, score)
    recall_step = np.diff(step.tp, prepend=0) / step.tp[-1]
    return float((step.tp / (step.last + 1)) @ recall_step)


def pauc_above_tpr(y_true: ArrayLike, score: ArrayLike, least_tpr: float = 0.8) -> float:
    """Area under the ROC curve and above a true-positive rate, in 0..1 - `least_tpr`.

    The metric of the ISIC 2024 challenge, unscaled: 0.2 is perfect, 0.02 is chance.

    Returns:
        NaN where only one class is present.
    """
    malignant, score = _checked(y_true, score)
    num_malignant, num_benign = int(malignant.sum()), int((~malignant).sum())
    if num_malignant == 0 or num_benign == 0:
        return math.nan
    step = steps(malignant, score)
    tpr, fpr = np.append(0.0, step.tp / num_malignant), np.append(0.0, step.fp / num_benign)
    # Only the part of each trapezium that lies above counts: 1 - FPR over the rise in TPR.
    low, high = np.maximum(tpr[:-1], least_tpr), np.maximum(tpr[1:], least_tpr)
    rise = np.where(tpr[1:] > tpr[:-1], tpr[1:] - tpr[:-1], 1.0)
    slope = (fpr[1:] - fpr[:-1]) / rise
    at_low, at_high = (fpr[:-1] + (side - tpr[:-1]) * slope for side in (low, high))
    return float(((high - low) * (1 - (at_low + at_high) / 2)).sum())


def confusion(y_true: ArrayLike, y_pred: ArrayLike) -> Confusion:
    """Counts of images by true class and call; all 0 where there is no image."""
    malignant, positive = checked_calls(y_true, y_pred)
    return Confusion(
        tn=int((~malignant & ~positive).sum()),
        fp=int((~malignant & positive).sum()),
        fn=int((malignant & ~positive).sum()),
        tp=int((malignant & positive).sum()),
    )


def recall(counts: Confusion) -> float:
    """Share of the malignant images that are called malignant (sensitivity)."""
    return _of_counts("recall", counts)


def specificity(counts: Confusion) -> float:
    """Share of the benign images that are called benign."""
    return _of_counts("specificity", counts)


def precision(counts: Confusion) -> float:
    """Share of the images called malignant that are (positive predictive value).

    NaN where none is called so, and where one class is missing: it would be 0 or 1 whatever the calls.
    """
    return _of_counts("precision", counts)


def negative_predictive_value(counts: Confusion) -> float:
    """Share of the images called benign that are; NaN as for precision."""
    return _of_counts("npv", counts)


def f1(counts: Confusion) -> float:
    """Harmonic mean of precision and recall; NaN where one class is missing."""
    return _of_counts("f1", counts)


def balanced_accuracy(counts: Confusion) -> float:
    """Mean of recall and specificity; NaN where only one class is present."""
    return _of_counts("balanced_accuracy", counts)


def accuracy(counts: Confusion) -> float:
    """Share of the images whose call is right; NaN where there is none."""
    return _of_counts("accuracy", counts)


def false_positive_rate(counts: Confusion) -> float:
    """Share of the benign images that are called malignant: 1 - specificity."""
    return _of_counts("fpr", counts)


def false_negative_rate(counts: Confusion) -> float:
    """Share of the malignant images that are called benign: 1 - recall."""
    return _of_counts("fnr", counts)


def selection_rate(counts: Confusion) -> float:
    """Share of all images that are called malignant; NaN where there is none."""
    return _of_counts("selection_rate", counts)


def sensitivity_at_specificity(y_true: ArrayLike, score: ArrayLike, least_specificity: float) -> float:
    """The largest recall of a threshold whose specificity is at least `least_specificity`.

    Only thresholds that there are: nothing is interpolated. Calling nothing malignant is one.

    Returns:
        NaN where only one class is present.
    """
    return _best_rate(y_true, score, least_specificity, of_malignant=True)


def specificity_at_sensitivity(y_true: ArrayLike, score: ArrayLike, least_sensitivity: float) -> float:
    """The largest specificity of a threshold whose recall is at least `least_sensitivity`.

    Only thresholds that there are: nothing is interpolated. Calling all malignant is one.

    Returns:
        NaN where only one class is present.
    """
    return _best_rate(y_true, score, least_sensitivity, of_malignant=False)


def brier_score(y_true: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of P(malignant) from the class; 0 is perfect, NaN of no image.

    Raises:
        ValueError: a probability is not in 0..1.
    """
    malignant, probability = checked_probabilities(y_true, probability)
    return float(np.mean((probability - malignant) ** 2)) if len(malignant) else math.nan


def log_loss(y_true: ArrayLike, probability: ArrayLike) -> float:
    """Mean of -ln of the probability given to the true class; NaN of no image.

    Probabilities are clipped to float64's epsilon from 0 and 1, as scikit-learn does, so that one
    sure mistake costs 36 and not infinity.

    Raises:
        ValueError: a probability is not in 0..1.
    """
    malignant, probability = checked_probabilities(y_true, probability)
    return float(np.mean(log_losses(malignant, probability))) if len(malignant) else math.nan


def log_losses(malignant: NDArray[np.bool_], probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log loss of each image."""
    clipped = np.clip(probability, EPSILON, 1 - EPSILON)
    return -np.log(np.where(malignant, clipped, 1 - clipped))


@check_words
def expected_calibration_error(
    y_true: ArrayLike,
    probability: ArrayLike,
    num_bins: int = ECE_BINS,
    bins: Literal["uniform", "quantile"] = "uniform",
) -> float:
    """Mean distance of P(malignant) from the share of malignant images, bin by bin (ECE).

    Naeini et al. 2015, for the probability of one class; each bin weighs as many images as it has.

    Args:
        num_bins: 15, as in Guo et al. 2017.
        bins: of equal width, or of equally many images. An image on an edge is in the lower bin.
    Returns:
        NaN of no image.
    Raises:
        ValueError: a probability is not in 0..1, or there is no bin.
    """
    malignant, probability = checked_probabilities(y_true, probability)
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    if len(malignant) == 0:
        return math.nan
    edges = np.linspace(0, 1, num_bins + 1)
    if bins == "quantile":
        edges = np.quantile(probability, edges)
    place = bin_of(probability, edges)
    # In a bin of n images, n |mean P - share| is |sum of P - number of malignant ones|.
    excess = np.bincount(place, weights=probability - malignant, minlength=num_bins)
    return float(np.abs(excess).sum() / len(malignant))


def bin_of(probability: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each probability; one on an edge is in the lower bin."""
    return np.searchsorted(edges[1:-1], probability).astype(np.int64)


TN, FP, FN, TP = range(4)
# Counts of a confusion that a metric is a share of: part, whole.
SHARES: dict[str, tuple[list[int], list[int]]] = {
    "accuracy": ([TN, TP], [TN, FP, FN, TP]),
    "precision": ([TP], [FP, TP]),
    "recall": ([TP], [FN, TP]),
    "specificity": ([TN], [TN, FP]),
    "fpr": ([FP], [TN, FP]),
    "fnr": ([FN], [FN, TP]),
    "selection_rate": ([FP, TP], [TN, FP, FN, TP]),
    "npv": ([TN], [TN, FN]),
    "jaccard": ([TP], [FP, FN, TP]),  # F1 is 2 J / (1 + J)
}
NEED_BOTH_CLASSES = frozenset({"precision", "npv", "jaccard"})

THRESHOLD_METRICS: dict[str, Callable[[Confusion], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "f1": f1,
    "fpr": false_positive_rate,
    "fnr": false_negative_rate,
    "selection_rate": selection_rate,
    "npv": negative_predictive_value,
}

SCORE_METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "auc": roc_auc,
    "average_precision": average_precision,
    "pauc_80tpr": pauc_above_tpr,
    "brier": brier_score,
    "log_loss": log_loss,
    "ece": expected_calibration_error,
    "sensitivity_at_90_specificity": partial(sensitivity_at_specificity, least_specificity=0.9),
    "specificity_at_90_sensitivity": partial(specificity_at_sensitivity, least_sensitivity=0.9),
}

LOWER_IS_BETTER = frozenset({"fpr", "fnr", "brier", "log_loss", "ece"})
NEITHER_IS_BETTER = frozenset({"selection_rate"})


def threshold_metrics(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The metrics of THRESHOLD_METRICS for many confusions at once.

    Args:
        counts: [..., 4]: tn, fp, fn, tp.
    Returns:
        Of each metric [...]; NaN where it is undefined.
    """
    both = (counts[..., :2].sum(-1) > 0) & (counts[..., 2:].sum(-1) > 0)
    found = {}
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as meant
        for name, (part, whole) in SHARES.items():
            share = counts[..., part].sum(-1) / counts[..., whole].sum(-1)
            found[name] = np.where(both, share, np.nan) if name in NEED_BOTH_CLASSES else share
        hits = 2 * counts[..., TP]
        found["f1"] = np.where(both, hits / (hits + counts[..., FP] + counts[..., FN]), np.nan)
    found["balanced_accuracy"] = (found["recall"] + found["specificity"]) / 2
    return {name: found[name] for name in THRESHOLD_METRICS}


def gap(values: ArrayLike) -> float:
    """Largest less smallest value of the groups that have one; NaN where fewer than two do."""
    known = _known(values)
    return float(np.ptp(known)) if len(known) > 1 else math.nan


def ratio(values: ArrayLike) -> float:
    """Smallest through largest value of the groups that have one; NaN as for `gap`, and of zeros."""
    known = _known(values)
    return float(known.min() / known.max()) if len(known) > 1 and known.max() > 0 else math.nan


def binary_metrics(y_true: ArrayLike, score: ArrayLike, threshold: float | NDArray[np.float64]) -> dict[str, float]:
    """Every metric by name; an image is called malignant at `score >= threshold`, which is one for
    all or one an image [N]."""
    counts = confusion(y_true, np.asarray(score) >= threshold)
    of_scores = {name: SCORE_METRICS[name](y_true, score) for name in ("auc", "average_precision")}
    names = ("recall", "precision", "f1", "specificity", "balanced_accuracy")
    return of_scores | {name: THRESHOLD_METRICS[name](counts) for name in names}


def checked_calls(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each image is malignant, and is called so.

    Raises:
        ValueError: the two are no equally long lists of 0 and 1.
    """
    malignant, called = _checked(y_true, y_pred)
    if not np.isin(called, (0, 1)).all():
        raise ValueError(f"y_pred must hold 0 and 1, got {np.unique(called)[:5].tolist()}")
    return malignant, called == 1


def checked_probabilities(y_true: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each image is malignant, and P(malignant).

    Raises:
        ValueError: y_true is no list of 0 and 1, or there are not as many numbers in 0..1.
    """
    malignant, numbers = _checked(y_true, probability)
    if (bad := numbers[(numbers < 0) | (numbers > 1)]).size:
        raise ValueError(f"{bad.size} of {len(numbers)} probabilities are not in 0..1, the first: {bad[0]}")
    return malignant, numbers


def _known(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]


def _of_counts(name: str, counts: Confusion) -> float:
    cells = np.array([counts.tn, counts.fp, counts.fn, counts.tp], np.int64)
    return float(threshold_metrics(cells)[name])


def _best_rate(y_true: ArrayLike, score: ArrayLike, least: float, *, of_malignant: bool) -> float:
    """The largest share of one class that is called right where that of the other is `least`."""
    if not 0 <= least <= 1:
        raise ValueError(f"the least rate must be in 0..1, got {least}")
    malignant, score = _checked(y_true, score)
    num_malignant, num_benign = int(malignant.sum()), int((~malignant).sum())
    if num_malignant == 0 or num_benign == 0:
        return math.nan
    step = steps(malignant, score)
    # Divided and not multiplied, so that 7 of 100 reach 0.07.
    recalls = np.append(0, step.tp) / num_malignant
    specificities = (num_benign - np.append(0, step.fp)) / num_benign
    wanted, other = (recalls, specificities) if of_malignant else (specificities, recalls)
    return float(wanted[other >= least].max())


def _checked(y_true: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    true, numbers = np.asarray(y_true), np.asarray(values, dtype=np.float64)
    if true.ndim != 1 or true.shape != numbers.shape:
        raise ValueError(f"y_true {true.shape} and values {numbers.shape} must be equally long lists")
    if not np.isin(true, (0, 1)).all():
        raise ValueError(f"y_true must hold 0 and 1, got {np.unique(true)[:5].tolist()}")
    if np.isnan(numbers).any():
        raise ValueError(f"{int(np.isnan(numbers).sum())} of {len(numbers)} scores are NaN")
    return true == 1, numbers
