"""Samplers: which records are in an epoch, how often, and whether all ranks agree."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from melfast.data.sampler import Sampler, draw_order, expected_draws
from melfast.io.errors import InputError

TARGETS = np.array([0] * 90 + [1] * 10)
GROUPS = np.array([0, 1, 2, -1, 0] * 20, np.int16)
LEAST_P = 1e-4  # of a chi-square over seeds that do not change


def order_of(name, seed=0, batch_size=8, ratio=1.0, targets=TARGETS, groups=GROUPS):
    return draw_order(np.random.default_rng(seed), Sampler(name, ratio), targets, groups, batch_size)


def test_shuffle_has_each_record_once():
    assert sorted(order_of("shuffle")) == list(range(100))


def test_balanced_batches_are_balanced_to_every_even_share():
    order = order_of("balanced_batch")
    assert len(order) == 22 * 8  # 90 benign, 4 a batch
    assert TARGETS[order].reshape(-1, 2).sum(axis=1).tolist() == [1] * (len(order) // 2)
    benign, malignant = order[0::2], order[1::2]
    assert len(set(benign)) == len(benign) == 88
    # Rounds: each malignant record once before any is seen again.
    for first, last in pairwise(range(0, 81, 10)):
        assert sorted(malignant[first:last]) == list(range(90, 100))


def test_balanced_batches_where_malignant_is_the_larger_class():
    order = order_of("balanced_batch", targets=1 - TARGETS)
    assert (1 - TARGETS)[order].reshape(-1, 8).sum(axis=1).tolist() == [4] * 22


@pytest.mark.parametrize(("ratio", "benign"), [(1, 10), (3, 30), (0.5, 5), (50, 90)])
def test_undersample_keeps_all_malignant_and_some_benign_ones(ratio, benign):
    order = order_of("undersample", ratio=ratio)
    assert len(set(order)) == len(order) == 10 + benign
    assert TARGETS[order].sum() == 10


def test_undersample_takes_other_benign_ones_in_other_epochs():
    counts = sum(np.bincount(order_of("undersample", seed), minlength=100) for seed in range(900))
    assert (counts[90:] == 900).all()
    assert stats.chisquare(counts[:90]).pvalue > LEAST_P


def counted(name, cells):
    orders = [order_of(name, seed) for seed in range(200)]
    assert {len(order) for order in orders} == {100}
    drawn = np.concatenate(orders)
    return [np.bincount(drawn, minlength=100)[rows] for rows in cells]


def test_oversample_makes_classes_as_likely():
    cells = [np.flatnonzero(label == TARGETS) for label in (0, 1)]
    counts = counted("oversample", cells)
    assert stats.chisquare([c.sum() for c in counts]).pvalue > LEAST_P
    for within in counts:
        assert stats.chisquare(within).pvalue > LEAST_P


def test_group_balanced_makes_groups_of_a_class_as_likely():
    cells = [np.flatnonzero((t == TARGETS) & (g == GROUPS)) for t in (0, 1) for g in (-1, 0, 1, 2)]
    counts = counted("group_balanced", cells)
    assert stats.chisquare([c.sum() for c in counts]).pvalue > LEAST_P
    for within in counts:
        assert stats.chisquare(within).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("name", "ratio", "batch_size", "of_benign", "of_malignant"),
    [
        ("shuffle", 1.0, 8, 96 / 100, 96 / 100),  # 4 of 100 fill no batch
        ("balanced_batch", 1.0, 8, 88 / 90, 88 / 10),
        ("balanced_batch", 1.0, 178, 89 / 90, 89 / 10),  # one batch
        ("undersample", 3.0, 8, 30 / 90, 1),
        ("undersample", 0.01, 1, 1 / 90, 1),
        ("undersample", 50.0, 4, 1, 1),
        ("oversample", 1.0, 8, 48 / 90, 48 / 10),
        ("oversample", 1.0, 50, 50 / 90, 50 / 10),
    ],
)
def test_expected_draws_by_hand(name, ratio, batch_size, of_benign, of_malignant):
    found = expected_draws(Sampler(name, ratio), TARGETS, GROUPS, batch_size)
    np.testing.assert_allclose(found, np.where(TARGETS == 1, of_malignant, of_benign))


def test_expected_draws_of_one_benign_record():
    targets = np.array([0, 1, 1])
    found = expected_draws(Sampler("undersample"), targets, GROUPS[:3], 1)
    np.testing.assert_allclose(found, 1)


def test_expected_draws_of_balanced_groups_by_hand():
    found = expected_draws(Sampler("group_balanced"), TARGETS, GROUPS, 10)
    # 8 cells of 100 / 8 draws; of every five images two are of group 0.
    sizes = np.where(TARGETS == 1, 2, 18) * np.where(GROUPS == 0, 2, 1)
    np.testing.assert_allclose(found, 100 / 8 / sizes)


def test_defaults_and_the_least_share():
    assert Sampler().ratio == 1
    assert len(order_of("undersample", ratio=0.01)) == 10 + 1


@pytest.mark.parametrize("name", ["balanced_batch", "undersample", "oversample", "group_balanced"])
def test_both_classes_are_needed(name):
    message = f"sampler.name {name} needs both classes, found 0 malignant and 100 benign"
    with pytest.raises(InputError, match=f"^{message}"):
        order_of(name, targets=np.zeros(100, np.int64))


def test_odd_batches_cannot_be_balanced():
    with pytest.raises(InputError, match=r"needs an even train\.batch_size, found 7$"):
        order_of("balanced_batch", batch_size=7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "random"}, "^Sampler: name must be 'shuffle', .*, got 'random'$"),
        ({"ratio": 0.0}, "^Sampler: ratio must be > 0, got 0.0$"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        Sampler(**options)
