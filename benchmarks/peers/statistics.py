"""The statistics of a report as usually written: loops over NumPy, SciPy and scikit-learn."""

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from melfast.metrics.scores import Sample, auc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def dealt_aucs(
    true: NDArray[np.bool_], score: Floats, group: Ints, patient: Ints, permutations: int, rng: np.random.Generator
) -> Floats:
    """AUC of each group after reassigning whole patients among those with the same classes [B, G]."""
    person, number = np.unique(patient, return_inverse=True)
    own = np.empty(len(person), np.int64)
    own[number] = group
    counts = np.stack([np.bincount(number[true == c], minlength=len(person)) for c in (False, True)])
    kind = (counts > 0).T @ np.array([1, 2])
    found = np.empty((permutations, group.max() + 1))
    for row in found:
        for k in np.unique(kind):
            own[kind == k] = rng.permutation(own[kind == k])
        dealt = own[number]
        row[:] = [sk.roc_auc_score(true[dealt == g], score[dealt == g]) for g in range(len(row))]
    return found


def aucs_and_worths(sample: Sample, group: Ints) -> NDArray[np.float64]:
    """AUC and worth of each group [G, 2], by `scores.auc`, with NumPy only."""
    parts = [auc(sample.select(np.flatnonzero(group == g))) for g in range(group.max() + 1)]
    return np.array([(part.estimate.value, part.worth) for part in parts])


def analyse_by_bootstrap(
    true: NDArray[np.bool_], called: NDArray[np.bool_], score: Floats, group: Ints, replicates: int
) -> dict[str, Floats]:
    """AUC, recall and specificity for all images and by group, each with a percentile interval [1 + G, 3]."""
    rng = np.random.default_rng(0)
    parts = [np.arange(len(true)), *(np.flatnonzero(group == g) for g in range(group.max() + 1))]
    measured: dict[str, list[list[float]]] = {"auc": [], "recall": [], "specificity": []}
    for part in parts:
        rows = [part, *(rng.choice(part, len(part)) for _ in range(replicates))]
        values = {
            "auc": [sk.roc_auc_score(true[r], score[r]) for r in rows],
            "recall": [sk.recall_score(true[r], called[r]) for r in rows],
            "specificity": [sk.recall_score(true[r], called[r], pos_label=0) for r in rows],
        }
        for name, found in values.items():
            measured[name].append([found[0], *np.quantile(found[1:], [0.025, 0.975])])
    return {name: np.array(found) for name, found in measured.items()}
