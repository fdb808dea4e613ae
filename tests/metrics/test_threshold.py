"""The threshold: by hand, then against all thresholds there are."""

import numpy as np
import pytest
from sklearn import metrics as sk

from melfast.io.errors import InputError
from melfast.metrics.threshold import choose_by_group, choose_threshold, require_both_classes


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
    with pytest.raises(ValueError, match="rule: got 'best', expected youden, f1, recall, cost or equal_recall"):
        choose_threshold([0, 1], [0.1, 0.2], "best")  # type: ignore[arg-type]


def test_equal_recall_by_hand() -> None:
    # Groups a, b, one without malignant images, one unknown.
    true = np.array([1, 1, 0, 0, 1, 1, 0, 0, 0, 1])
    score = np.array([0.9, 0.7, 0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.95, 0.05])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, -1])
    by_group = choose_by_group(true, score, groups, 3, 1.0)
    common = choose_threshold(true, score, "recall", 1.0)
    assert by_group == pytest.approx((0.6, 0.35, common))
    assert choose_by_group(true, score, groups, 3, 0.5)[:2] == pytest.approx((0.8, 0.5))


@pytest.mark.parametrize("least", [0.5, 0.8, 1.0])
def test_equal_recall_holds_in_every_group(least: float) -> None:
    rng = np.random.default_rng(3)
    true, groups = rng.integers(0, 2, 600), rng.integers(0, 3, 600)
    score = np.clip(rng.normal(0.3 + 0.2 * true + 0.1 * groups, 0.15), 0, 1)
    for group, threshold in enumerate(choose_by_group(true, score, groups, 3, least)):
        called = score[(groups == group) & (true == 1)] >= threshold
        assert least <= called.mean() < least + 1 / len(called)


def test_groups_that_have_no_threshold_of_their_own() -> None:
    true, groups = np.array([0, 1, 0, 0, 1]), np.array([0, 0, 1, 1, -1])
    few = "fewer than 10 malignant validation images in light (1): their thresholds are rough guesses"
    rule = "warning: train.threshold_rule equal_recall: "
    assert require_both_classes(true, groups, ("light",)) == rule + few
    often = np.tile(true, 10), np.tile(groups, 10)
    assert require_both_classes(*often, ("light",)) == ""
    assert require_both_classes(true, groups, ("light", "tan", "dark")) == (
        rule + "no validation images of both classes in tan, dark: the threshold for all images is used there; " + few
    )
    with pytest.raises(InputError, match="needs a tone group with images of both classes in the "):
        require_both_classes(true, groups - 1, ("light",))
