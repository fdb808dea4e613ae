"""The threshold on P(malignant), chosen on the validation split by a named rule."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from melfast.errors import InputError

ThresholdRule = Literal["youden", "f1", "recall", "cost"]


def choose_threshold(
    y_true: ArrayLike, score: ArrayLike, rule: ThresholdRule, value: float = 0.0
) -> float:  # fmt: skip
    """The threshold that is best by a rule when `score >= threshold` is called malignant.

    Args:
        y_true: 0 and 1, both present.
        score: P(malignant).
        rule: `youden`: largest recall + specificity (Youden 1950); `f1`: largest F1; `recall`: the
            highest threshold whose recall is at least `value`; `cost`: least cost where a missed
            malignant image costs `value` times as much as a false alarm.
        value: of the last two rules.
    Returns:
        Halfway between the lowest score called malignant and the next one below, so that rounding
        in another engine does not flip the calls. The highest of equally good ones.
    Raises:
        InputError: one class only.
    """
    malignant, score = np.asarray(y_true) == 1, np.asarray(score, dtype=np.float64)
    num_malignant = int(malignant.sum())
    num_benign = len(malignant) - num_malignant
    if num_malignant == 0 or num_benign == 0:
        raise InputError(
            f"a threshold needs images of both classes, got {num_malignant} malignant and "
            f"{num_benign} benign"
        )
    order = np.argsort(-score, kind="stable")
    score, malignant = score[order], malignant[order]
    last_of_tie = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    tp = np.cumsum(malignant)[last_of_tie]
    called = last_of_tie + 1
    if rule == "youden":
        gain = tp / num_malignant - (called - tp) / num_benign
    elif rule == "f1":
        gain = 2 * tp / (called + num_malignant)
    elif rule == "recall":
        gain = tp / num_malignant >= value  # the first that is True
    elif rule == "cost":
        gain = value * tp - (called - tp)
    else:
        raise ValueError(f"unknown threshold rule {rule!r}")
    lowest = last_of_tie[int(np.argmax(gain))]
    below = score[lowest + 1] if lowest + 1 < len(score) else 0.0
    return float((score[lowest] + below) / 2)
