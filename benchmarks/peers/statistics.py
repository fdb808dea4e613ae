"""Bootstrap and permutation as a loop over scikit-learn, the way they are usually written."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

Array = NDArray[np.generic]
Measured = dict[str, float]


def measure_one_by_one(true: Array, called: Array, score: Array) -> Measured:
    """Each metric by its own function."""
    fpr = 1 - sk.recall_score(true, called, pos_label=0)
    return {
        "accuracy": sk.accuracy_score(true, called),
        "balanced_accuracy": sk.balanced_accuracy_score(true, called),
        "precision": sk.precision_score(true, called),
        "recall": sk.recall_score(true, called),
        "specificity": sk.recall_score(true, called, pos_label=0),
        "f1": sk.f1_score(true, called),
        "fpr": fpr,
        "fnr": 1 - sk.recall_score(true, called),
        "selection_rate": float(np.mean(called)),
        "auc": sk.roc_auc_score(true, score),
    }


def measure_leanly(true: Array, called: Array, score: Array) -> Measured:
    """The metrics of the calls from one confusion matrix."""
    tn, fp, fn, tp = sk.confusion_matrix(true, called).ravel().tolist()
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "accuracy": (tp + tn) / len(true),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": tp / (tp + fp),
        "recall": recall,
        "specificity": specificity,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "fpr": 1 - specificity,
        "fnr": 1 - recall,
        "selection_rate": (tp + fp) / len(true),
        "auc": sk.roc_auc_score(true, score),
    }


Measure = Callable[[Array, Array, Array], Measured]


def bootstrap_loop(
    measure: Measure, true: Array, called: Array, score: Array, group: Array, replicates: int
) -> list[list[Measured]]:
    """Images drawn within class and group; measured over all, then by group."""
    rng = np.random.default_rng(0)
    groups = np.unique(group)
    strata = [np.flatnonzero((group == g) & (true == c)) for g in groups for c in (0, 1)]
    found = []
    for _ in range(replicates):
        drawn = np.concatenate([rng.choice(stratum, len(stratum)) for stratum in strata])
        parts = [drawn, *(drawn[group[drawn] == g] for g in groups)]
        found.append([measure(true[part], called[part], score[part]) for part in parts])
    return found


def permutation_loop(
    measure: Measure, true: Array, called: Array, score: Array, group: Array, permutations: int
) -> list[list[Measured]]:
    """Groups permuted within class; measured by group."""
    rng = np.random.default_rng(0)
    shuffled = group.copy()
    found = []
    for _ in range(permutations):
        for c in (0, 1):
            shuffled[true == c] = rng.permutation(group[true == c])
        parts = [shuffled == g for g in np.unique(group)]
        found.append([measure(true[part], called[part], score[part]) for part in parts])
    return found
