"""Intervals: against worked numbers of the literature, SciPy, and how often they are right."""

import math

import numpy as np
import pytest
from scipy import stats

from melfast.metrics.intervals import (
    Estimate,
    critical,
    exact_interval,
    holm,
    largest_difference,
    mover,
    p_from,
    pair_interval,
    pair_statistics,
    ratio_interval,
    wilson,
)

Z = critical(0.95)


@pytest.mark.parametrize(("part", "whole"), [(15, 15), (0, 7), (36, 58), (1, 5), (4, 8)])
def test_wilson_against_scipy(part: int, whole: int) -> None:
    wanted = stats.binomtest(part, whole).proportion_ci(0.9, method="wilson")
    assert wilson(part / whole, whole, critical(0.9)) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_exact_interval_against_scipy() -> None:
    for part, whole in ((15, 15), (0, 7), (36, 58), (1, 2)):
        wanted = stats.binomtest(part, whole).proportion_ci(0.9, method="exact")
        found = exact_interval(part, whole, 0.9)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert math.isnan(exact_interval(0, 0).low)


@pytest.mark.parametrize(
    ("hits", "sizes", "expected"),
    [
        # Newcombe 1998 (unpaired), table II, method 5, Mee's, times the n / (n - 1) of Miettinen and Nurminen.
        ((56, 48), (70, 80), (0.0528, 0.3382)),
        ((9, 3), (10, 10), (0.1700, 0.8406)),
        ((5, 0), (56, 29), (-0.0326, 0.1933)),
        ((10, 0), (10, 20), (0.7156, 1.0)),
    ],
)
def test_miettinen_nurminen_against_the_literature(
    hits: tuple[int, int], sizes: tuple[int, int], expected: tuple[float, float]
) -> None:
    share = (hits[0] / sizes[0], hits[1] / sizes[1])
    found = pair_interval(share, (float(sizes[0]), float(sizes[1])), Z)
    assert found == pytest.approx(expected, abs=5e-4)
    other = pair_interval(share[::-1], (float(sizes[1]), float(sizes[0])), Z)
    assert other == pytest.approx((-found[1], -found[0]), abs=1e-9)


def test_pair_statistic_is_the_chi_square() -> None:
    table = np.array([[30, 10], [20, 25]])
    chi, *_ = stats.chi2_contingency(table, correction=False)
    sizes = table.sum(1).astype(float)
    found = pair_statistics(table[:, 0] / sizes, sizes)
    assert found**2 == pytest.approx(chi * (sizes.sum() - 1) / sizes.sum())


@pytest.mark.parametrize("seed", range(40))
def test_a_pairs_interval_leaves_out_zero_where_its_statistic_is_large(seed: int) -> None:
    """Also where it is just large enough: the critical value is the statistic, a little more or less."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 40, 2).astype(float)
    share = rng.integers(0, sizes + 1) / sizes
    statistic = float(pair_statistics(share, sizes))
    for z in (statistic * (1 - 1e-6), statistic * (1 + 1e-6), 1.96, math.inf):
        low, high = pair_interval((share[0], share[1]), (sizes[0], sizes[1]), z)
        assert (low > 0 or high < 0) == (statistic > z)
        assert low <= share[0] - share[1] <= high


def test_mover_of_two_shares_is_newcombes() -> None:
    """Newcombe 1998 (unpaired), table II, method 10: 56 of 70 and 48 of 80, 0.0524 to 0.3339."""
    ends = wilson(56 / 70, 70, Z), wilson(48 / 80, 80, Z)
    assert mover((1, -1), (56 / 70, 48 / 80), ends) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    mean = mover((0.5, 0.5), (0.8, 0.6), ends)
    assert mean[0] < 0.7 < mean[1]
    # What two estimates share does not blur their difference, and blurs their sum.
    together = mover((1, -1), (0.8, 0.6), ends, 0.9)
    assert together[1] - together[0] < 0.5 * (0.3339 - 0.0524)
    assert np.diff(mover((0.5, 0.5), (0.8, 0.6), ends, 0.9)) > np.diff(mean)


def test_ratio_of_two_shares() -> None:
    """Of large samples the delta method's; with a numerator of 1 it stays finite."""
    one, other = wilson(0.8, 4000, Z), wilson(0.2, 5000, Z)
    error = math.sqrt(0.2 / 0.8 / 4000 + 0.8 / 0.2 / 5000)
    expected = 4 * math.exp(-Z * error), 4 * math.exp(Z * error)
    assert ratio_interval(one, other, (0.8, 0.2)) == pytest.approx(expected, rel=2e-3)
    low, high = ratio_interval(wilson(1.0, 20, Z), wilson(0.1, 200, Z), (1.0, 0.1))
    assert 5 < low < 10 < high < 20


def test_largest_difference() -> None:
    assert largest_difference([(-0.1, 0.2), (0.05, 0.4), (-0.5, -0.1)]) == (0.1, 0.5)
    assert largest_difference([(-0.3, 0.2)]) == (0.0, 0.3)


def test_holm_by_hand() -> None:
    found = holm([0.01, math.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, math.nan, 0.06, 0.06, 0.02])
    assert np.isnan(holm([math.nan])).all()
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_p_value_of_an_interval() -> None:
    assert p_from(lambda z: z < 1.96) == pytest.approx(0.05, abs=1e-4)
    assert p_from(lambda z: z < 2.228, df=10) == pytest.approx(0.05, abs=1e-4)
    assert p_from(lambda z: False) == 1.0


def test_level_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"^level must be between 0 and 1, got 95$"):
        Estimate(0.5, lambda z: (0.0, 1.0)).interval(95)
