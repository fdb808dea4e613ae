"""Metrics of a binary classifier as plain functions of arrays; NaN where a metric is undefined.

`y_true` holds 0 (benign) and 1 (malignant), `score` P(malignant), `y_pred` the calls 0 and 1.
Values are fractions, equal to scikit-learn's but for rounding, and NaN where it warns or gives 0.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    """Counts of images by true class and call."""
    malignant, called = _checked(y_true, y_pred)
    positive = called == 1
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


def binary_metrics(y_true: ArrayLike, score: ArrayLike, threshold: float) -> dict[str, float]:
    """Every metric by name; an image is called malignant at `score >= threshold`."""
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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _checked(y_true: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    true, numbers = np.asarray(y_true), np.asarray(values, dtype=np.float64)
    if true.ndim != 1 or true.shape != numbers.shape:
        raise ValueError(
            f"y_true {true.shape} and values {numbers.shape} must be equally long lists"
        )
    if not np.isin(true, (0, 1)).all():
        raise ValueError(f"y_true must hold 0 and 1, got {np.unique(true)[:5].tolist()}")
    if np.isnan(numbers).any():
        raise ValueError(f"{int(np.isnan(numbers).sum())} of {len(numbers)} scores are NaN")
    return true == 1, numbers
