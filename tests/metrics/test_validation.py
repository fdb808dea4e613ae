"""What a validation split says, by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from melfast.io.errors import InputError
from melfast.metrics.metrics import pauc_above_tpr
from melfast.metrics.validation import require_metric, validation_metrics, value_of

TRUE = np.array([1, 1, 0, 0, 1, 0, 1, 0])
SCORE = np.array([0.9, 0.2, 0.3, 0.1, 0.6, 0.7, 0.8, 0.2])
GROUP = np.array([0, 0, 0, 0, 1, 1, -1, 2])
NAMES = ("light", "tan", "dark")


def test_by_hand() -> None:
    found = validation_metrics(TRUE, SCORE, 0.5, GROUP, NAMES)
    assert found["recall"] == 0.75
    assert (found["recall/light"], found["recall/tan"]) == (0.5, 1.0)
    assert "recall/dark" not in found  # no malignant image
    assert found["worst_group_recall"] == 0.5
    # light: 0.9 is above both, 0.2 above one of two; tan: 0.6 is below 0.7.
    assert found["worst_group_auc"] == 0.0
    assert value_of(found, "malignant_recall") == 0.75
    assert value_of(found, "malignant_f1") == found["f1"] == 0.75


def test_without_groups() -> None:
    found = validation_metrics(TRUE, SCORE, 0.5, np.full(8, -1), ())
    assert math.isnan(found["worst_group_auc"])
    assert math.isnan(found["worst_group_recall"])


def isic_2024(y_true: np.ndarray, score: np.ndarray) -> float:
    """As the challenge computes it: both classes swapped, McClish's correction taken back."""
    scaled = roc_auc_score(1 - y_true, -score, max_fpr=0.2)
    return float(0.5 * 0.2**2 + (0.2 - 0.5 * 0.2**2) / 0.5 * (scaled - 0.5))


def test_pauc_by_hand() -> None:
    """Of five malignant four are above all four benign, the fifth is above two of them."""
    true = np.array([1] * 5 + [0] * 4)
    score = np.array([9, 8, 7, 6, 3, 5, 4, 2, 1.0])
    assert pauc_above_tpr(true, score) == pytest.approx(0.2 * 0.5)
    assert pauc_above_tpr(true, -true) == 0
    assert pauc_above_tpr(true, true) == pytest.approx(0.2)
    assert pauc_above_tpr(true, np.ones(9)) == pytest.approx(0.02)
    assert math.isnan(pauc_above_tpr(np.ones(3), np.ones(3)))


@pytest.mark.parametrize("seed", range(20))
def test_pauc_is_the_challenges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 200))
    true = np.append([0, 1], rng.integers(0, 2, count))
    score = np.round(true * 0.3 + rng.normal(size=len(true)), 1 + seed % 2)  # ties
    assert pauc_above_tpr(true, score) == pytest.approx(isic_2024(true, score), abs=1e-12)


@pytest.mark.parametrize("name", ["worst_group_auc", "worst_group_recall"])
def test_metric_that_is_nowhere_defined(name: str) -> None:
    require_metric(name, TRUE, GROUP)
    with pytest.raises(InputError, match=rf"^train.best_metric {name} needs a tone group with "):
        require_metric(name, TRUE, np.full(8, -1))
    with pytest.raises(InputError, match="found none: melfast prepare ita"):
        require_metric(name, np.array([0, 1]), np.array([0, -1]))
    require_metric("auc", TRUE, np.full(8, -1))
