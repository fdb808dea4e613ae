"""The threshold on P(malignant), chosen on the validation split by a named rule."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.metrics.metrics import steps

ThresholdRule = Literal["youden", "f1", "recall", "cost", "equal_recall"]
# Rules that `value` says nothing to.
BARE_RULES = ("youden", "f1")
FEW = 10  # malignant images of a group


@check_words
def choose_threshold(y_true: ArrayLike, score: ArrayLike, rule: ThresholdRule, value: float = 0.0) -> float:
    """The threshold that is best by a rule when `score >= threshold` is called malignant.

    Args:
        y_true: 0 and 1, both present.
        score: P(malignant).
        rule: `youden`: largest recall + specificity (Youden 1950); `f1`: largest F1; `recall`: the
            highest threshold whose recall is at least `value`; `cost`: least cost where a missed
            malignant image costs `value` times as much as a false alarm; `equal_recall`: `recall`,
            to be taken for each tone group, see `choose_by_group`.
        value: of all but the first two rules.
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
            f"a threshold needs images of both classes, got {num_malignant} malignant and {num_benign} benign"
        )
    order, last, tp, fp = steps(malignant, score)
    gain: NDArray[Any]
    if rule == "youden":
        gain = tp / num_malignant - fp / num_benign
    elif rule == "f1":
        gain = 2 * tp / (tp + fp + num_malignant)
    elif rule in ("recall", "equal_recall"):
        gain = tp / num_malignant >= value  # the first that is True
    else:
        gain = value * tp - fp
    lowest, ordered = last[int(np.argmax(gain))], score[order]
    below = ordered[lowest + 1] if lowest + 1 < len(score) else 0.0
    return float((ordered[lowest] + below) / 2)


def choose_by_group(
    y_true: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    groups: NDArray[np.integer[Any]],
    num_groups: int,
    value: float,
) -> tuple[float, ...]:
    """For each group the highest threshold whose recall in the group is at least `value`.

    Recall is then about equal in all groups (equal opportunity: Hardt, Price and Srebro 2016); the
    false alarms are not. With few malignant images in a group its threshold is a rough guess.

    Args:
        groups: [N], 0..num_groups - 1, -1 unknown.
    Returns:
        A threshold a group; that of all images where a group has no images of both classes.
    """
    common = choose_threshold(y_true, score, "recall", value)
    found = []
    for group in range(num_groups):
        mine = groups == group
        both = len(set(y_true[mine].tolist())) == 2
        found.append(choose_threshold(y_true[mine], score[mine], "recall", value) if both else common)
    return tuple(found)


def require_both_classes(
    y_true: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]], names: Sequence[str]
) -> str:
    """What `equal_recall` cannot do for some of the groups, in words; '' where there is nothing.

    Raises:
        InputError: no group has images of both classes.
    """
    counts = [int(((groups == i) & (y_true == 1)).sum()) for i in range(len(names))]
    lacking = [name for i, name in enumerate(names) if len(set(y_true[groups == i].tolist())) < 2]
    if len(lacking) == len(names):
        raise InputError(
            "train.threshold_rule equal_recall needs a tone group with images of both classes in "
            "the validation split; found none: melfast prepare ita"
        )
    few = [
        f"{name} ({count})" for name, count in zip(names, counts, strict=True) if name not in lacking and count < FEW
    ]
    notes = []
    if lacking:
        notes.append(
            f"no validation images of both classes in {', '.join(lacking)}: the threshold for all images is used there"
        )
    if few:
        notes.append(
            f"fewer than {FEW} malignant validation images in {', '.join(few)}: their thresholds are rough guesses"
        )
    return f"warning: train.threshold_rule equal_recall: {'; '.join(notes)}" if notes else ""
