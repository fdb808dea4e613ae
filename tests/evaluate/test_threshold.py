"""The threshold: by hand, then against all thresholds there are."""

import numpy as np
import pytest
from sklearn import metrics as sk

from melfast.errors import InputError
from melfast.evaluate.threshold import choose_threshold


def test_by_hand() -> None:
    true, score = [0, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.8]
    # Youden's J at 0.8: 1/2, at 0.4: 1/6, at 0.3: 2/3, at 0.2: 1/3; halfway from 0.3 down to 0.2.
    assert choose_threshold(true, score, "youden") == pytest.approx(0.25)
    # F1 at 0.8: 2/3, at 0.4: 1/2, at 0.3: 4/5.
    assert choose_threshold(true, score, "f1") == pytest.approx(0.25)


def test_everything_called_malignant() -> None:
    assert choose_threshold([1, 0, 1], [0.4, 0.5, 0.6], "f1") == pytest.approx(0.2)


def test_highest_of_equally_good_ones() -> None:
    assert choose_threshold([1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2], "youden") == pytest.approx(0.7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 16])
def test_no_other_threshold_is_better(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random(100) < 0.3
    score = np.round(rng.random(100) * 0.7 + 0.3 * true, digits)
    for rule, value in (("youden", sk.balanced_accuracy_score), ("f1", sk.f1_score)):
        chosen = value(true, score >= choose_threshold(true, score, rule))
        assert chosen == pytest.approx(max(value(true, score >= t) for t in score))


def test_recall_at_least() -> None:
    true, score = [1, 0, 1, 1, 0, 1], [0.9, 0.8, 0.7, 0.5, 0.4, 0.3]
    assert choose_threshold(true, score, "recall", 0.5) == pytest.approx(0.6)
    assert choose_threshold(true, score, "recall", 0.51) == pytest.approx(0.45)
    assert choose_threshold(true, score, "recall", 1.0) == pytest.approx(0.15)
    assert choose_threshold(true, score, "recall", 0.01) == pytest.approx(0.85)


def test_cost_by_hand() -> None:
    """A miss costs two false alarms: at 0.9: 2, at 0.7: 4 - 1, at 0.3: 6 - 3."""
    true, score = [1, 0, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.5, 0.4, 0.3]
    assert choose_threshold(true, score, "cost", 2) == pytest.approx(0.6)  # the highest of equals
    assert choose_threshold(true, score, "cost", 2.1) == pytest.approx(0.15)
    assert choose_threshold(true, score, "cost", 0.5) == pytest.approx(0.85)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random(100) < 0.3
    score = np.round(rng.random(100) * 0.7 + 0.3 * true, 1 + seed)

    def cost(threshold: float) -> float:
        called = score >= threshold
        return float(5 * (true & ~called).sum() + (~true & called).sum())

    found = cost(choose_threshold(true, score, "cost", 5))
    assert found == pytest.approx(min(map(cost, score)))
    for least in (0.5, 0.8, 0.95):
        chosen = choose_threshold(true, score, "recall", least)
        assert sk.recall_score(true, score >= chosen) >= least
        next_higher = score[score >= chosen].min() + 1e-9
        assert sk.recall_score(true, score >= next_higher) < least


def test_one_class_only() -> None:
    with pytest.raises(InputError, match="both classes, got 0 malignant and 2 benign"):
        choose_threshold([0, 0], [0.1, 0.2], "youden")


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match="unknown threshold rule 'best'"):
        choose_threshold([0, 1], [0.1, 0.2], "best")  # type: ignore[arg-type]
