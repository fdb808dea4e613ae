"""What a validation split says of a model, and by which of it the best checkpoint is chosen."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.metrics.metrics import binary_metrics, confusion, pauc_above_tpr, recall, roc_auc

BestMetric = Literal[
    "auc",
    "average_precision",
    "pauc_80tpr",
    "balanced_accuracy",
    "malignant_f1",
    "malignant_recall",
    "worst_group_auc",
    "worst_group_recall",
]


def validation_metrics(
    y_true: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    threshold: float | NDArray[np.float64],
    groups: NDArray[np.integer[Any]],
    group_names: Sequence[str],
) -> dict[str, float]:
    """Every metric by name; a call of the threshold-bound ones is made at `score >= threshold`.

    Args:
        y_true: 0 and 1 [N].
        score: P(malignant) [N].
        threshold: one, or one an image [N].
        groups: [N], index into group_names, -1 unknown.
    Returns:
        Those of `binary_metrics`; `pauc_80tpr`; `recall/NAME` of each group with malignant images;
        `worst_group_auc` and `worst_group_recall`, least over the groups in which they are defined,
        NaN where they are in none.
    """
    threshold = np.broadcast_to(threshold, score.shape)
    found = binary_metrics(y_true, score, threshold)
    found["pauc_80tpr"] = pauc_above_tpr(y_true, score)
    recalls, aucs = {}, []
    for group, name in enumerate(group_names):
        mine = groups == group
        value = recall(confusion(y_true[mine], score[mine] >= threshold[mine]))
        if not math.isnan(value):
            recalls[f"recall/{name}"] = value
            aucs.append(roc_auc(y_true[mine], score[mine]))
    found |= recalls
    found["worst_group_auc"] = min((a for a in aucs if not math.isnan(a)), default=math.nan)
    found["worst_group_recall"] = min(recalls.values(), default=math.nan)
    return found


@check_words
def value_of(metrics: dict[str, float], name: BestMetric) -> float:
    """`malignant_f1` and `malignant_recall` are F1 and recall, which are of that class here."""
    return metrics[name.removeprefix("malignant_")]


@check_words
def require_metric(name: BestMetric, y_true: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]]) -> None:
    """
    Raises:
        InputError: no tone group of the validation split has what the metric is of.
    """
    if not name.startswith("worst_group"):
        return
    wanted = {0, 1} if name == "worst_group_auc" else {1}
    if not any(wanted <= set(y_true[groups == group]) for group in set(groups[groups >= 0])):
        what = "images of both classes" if len(wanted) == 2 else "malignant images"
        raise InputError(
            f"train.best_metric {name} needs a tone group with {what} in the validation split; "
            "found none: melfast prepare ita"
        )
