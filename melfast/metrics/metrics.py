"""Metrics of a binary classifier as plain functions of arrays; NaN where a metric is undefined.

`y_true` holds 0 (benign) and 1 (malignant), `score` P(malignant), `y_pred` the calls 0 and 1.
Values are fractions, equal to scikit-learn's but for rounding, and NaN where it warns or gives 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

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


def roc_auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: P(a malignant image scores above a benign one), ties count half.

    Returns:
        NaN where only one class is present.
    """
    malignant, score = _checked(y_true, score)
    num_malignant, num_benign = int(malignant.sum()), int((~malignant).sum())
    if num_malignant == 0 or num_benign == 0:
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # 1-based; tied scores share their mean rank
    rank_sum = mean_rank[place][malignant].sum()
    above = rank_sum - num_malignant * (num_malignant + 1) / 2  # Mann and Whitney's U
    return float(above / (num_malignant * num_benign))


def average_precision(y_true: ArrayLike, score: ArrayLike) -> float:
    """Sum over thresholds of precision times the step in recall.

    Returns:
        NaN where no image is malignant.
    """
    malignant, score = _checked(y_true, score)
    if not malignant.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    malignant, score = malignant[order], score[order]
    last_of_tie = np.append(score[1:] != score[:-1], True)
    tp = np.cumsum(malignant)[last_of_tie]
    called = np.flatnonzero(last_of_tie) + 1
    recall_step = np.diff(tp, prepend=0) / tp[-1]
    return float((tp / called) @ recall_step)


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
    order = np.argsort(-score, kind="stable")
    malignant, score = malignant[order], score[order]
    last_of_tie = np.append(score[1:] != score[:-1], True)
    tpr = np.append(0.0, np.cumsum(malignant)[last_of_tie] / num_malignant)
    fpr = np.append(0.0, np.cumsum(~malignant)[last_of_tie] / num_benign)
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
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Confusion) -> float:
    """Share of the benign images that are called benign."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def precision(counts: Confusion) -> float:
    """Share of the images called malignant that are; NaN where none is called so."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def f1(counts: Confusion) -> float:
    """Harmonic mean of precision and recall; NaN where no image is malignant or called so."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def balanced_accuracy(counts: Confusion) -> float:
    """Mean of recall and specificity; NaN where only one class is present."""
    return (recall(counts) + specificity(counts)) / 2


def accuracy(counts: Confusion) -> float:
    """Share of the images whose call is right; NaN where there is none."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.tn + counts.fp + counts.fn)


def false_positive_rate(counts: Confusion) -> float:
    """Share of the benign images that are called malignant: 1 - specificity."""
    return _ratio(counts.fp, counts.tn + counts.fp)


def false_negative_rate(counts: Confusion) -> float:
    """Share of the malignant images that are called benign: 1 - recall."""
    return _ratio(counts.fn, counts.tp + counts.fn)


def selection_rate(counts: Confusion) -> float:
    """Share of all images that are called malignant; NaN where there is none."""
    return _ratio(counts.tp + counts.fp, counts.tp + counts.tn + counts.fp + counts.fn)


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
    tn, fp, fn, tp = np.moveaxis(counts, -1, 0)
    images = tn + fp + fn + tp
    ratios = {
        "accuracy": (tp + tn, images),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "fpr": (fp, tn + fp),
        "fnr": (fn, tp + fn),
        "selection_rate": (tp + fp, images),
    }
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as meant
        found = {name: part / whole for name, (part, whole) in ratios.items()}
    found["balanced_accuracy"] = (found["recall"] + found["specificity"]) / 2
    return {name: found[name] for name in THRESHOLD_METRICS}


def binary_metrics(y_true: ArrayLike, score: ArrayLike, threshold: float | NDArray[np.float64]) -> dict[str, float]:
    """Every metric by name; an image is called malignant at `score >= threshold`, which is one for
    all or one an image [N]."""
    counts = confusion(y_true, np.asarray(score) >= threshold)
    return {
        "auc": roc_auc(y_true, score),
        "average_precision": average_precision(y_true, score),
        "recall": recall(counts),
        "precision": precision(counts),
        "f1": f1(counts),
        "specificity": specificity(counts),
        "balanced_accuracy": balanced_accuracy(counts),
    }


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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _best_rate(y_true: ArrayLike, score: ArrayLike, least: float, *, of_malignant: bool) -> float:
    """The largest share of one class that is called right where that of the other is `least`."""
    if not 0 <= least <= 1:
        raise ValueError(f"the least rate must be in 0..1, got {least}")
    malignant, score = _checked(y_true, score)
    num_malignant, num_benign = int(malignant.sum()), int((~malignant).sum())
    if num_malignant == 0 or num_benign == 0:
        return math.nan
    order = np.argsort(-score, kind="stable")
    malignant, score = malignant[order], score[order]
    last_of_tie = np.append(score[1:] != score[:-1], True)
    # Divided and not multiplied, so that 7 of 100 reach 0.07.
    recalls = np.append(0, np.cumsum(malignant)[last_of_tie]) / num_malignant
    specificities = (num_benign - np.append(0, np.cumsum(~malignant)[last_of_tie])) / num_benign
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
