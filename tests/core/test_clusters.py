"""core.cluster_colours and core.mean_shift by hand and against scikit-learn."""

import re
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MeanShift

from melfast import core

KS = range(3, 10)


def blobs(count: int, seed: int, places: int = 6, spread: float = 3) -> NDArray[np.float32]:
    """Colours around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 15, (places, 3))
    colours = centres[rng.integers(0, places, count)] + rng.normal(0, spread, (count, 3))
    return colours.astype(np.float32)


def test_three_colours_by_hand():
    """Each colour is a centre; there are none left for k > 3."""
    colours = np.float32([[60, 10, 20], [30, 5, 5], [60, 10, 20], [90, 0, 0], [60, 10, 20]])
    inertias, centres, counts = core.cluster_colours(colours)
    assert (inertias == 0).all()
    for k, centre, count in zip(KS, centres, counts, strict=True):
        assert centre.shape == (k, 3)
        assert count.shape == (k,)
        found = sorted((n, *colour) for n, colour in zip(count.tolist(), centre.tolist(), strict=True) if n)
        assert found == [(1, 30, 5, 5), (1, 90, 0, 0), (3, 60, 10, 20)]
        assert np.isnan(centre[count == 0]).all()


def test_pairs_by_hand():
    """Four pairs far apart: k = 4 puts a centre between the two of each, 1 from both."""
    pairs = np.float32([[0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]])
    aside = np.float32([0, 1, 0])
    colours = np.concatenate([pairs - aside, pairs + aside])
    inertias, centres, counts = core.cluster_colours(colours, attempts=5)
    assert inertias[1] == 8
    assert counts[1].tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(sorted(centres[1].tolist()), sorted(pairs.tolist()))


def test_one_colour_and_none():
    inertias, centres, counts = core.cluster_colours(np.float32([[7, 8, 9]]))
    assert (inertias == 0).all()
    assert [count.sum() for count in counts] == [1] * 7
    assert all(centre[0].tolist() == [7, 8, 9] for centre in centres)
    inertias, centres, counts = core.cluster_colours(np.empty((0, 3), np.float32))
    assert (inertias == 0).all()
    assert not any(count.any() for count in counts)
    assert all(np.isnan(centre).all() for centre in centres)


@pytest.mark.parametrize("count", [2, 64, 65, 1000])
def test_all_colours_equal(count):
    inertias, centres, counts = core.cluster_colours(np.full((count, 3), 33.25, np.float32))
    assert (inertias == 0).all()
    for centre, number in zip(centres, counts, strict=True):
        assert number[0] == count
        assert (centre[0] == 33.25).all()
        assert np.isnan(centre[1:]).all()


@pytest.mark.parametrize("count", [*range(2, 20), 63, 64, 65, 127, 129, 500])
def test_the_result_is_consistent(count):
    """Counts, centres and inertias belong to the same assignment, recomputed here in float64."""
    colours = blobs(count, count)
    inertias, centres, counts = core.cluster_colours(colours, epsilon=0)
    for k, inertia, centre, number in zip(KS, inertias, centres, counts, strict=True):
        used = centre[number > 0].astype(np.float64)
        assert len(used) == min(k, count)
        squares = np.square(colours[:, None] - used).sum(axis=2)
        labels = squares.argmin(axis=1)
        assert np.bincount(labels, minlength=len(used)).tolist() == number[number > 0].tolist()
        means = [colours[labels == c].mean(axis=0, dtype=np.float64) for c in range(len(used))]
        np.testing.assert_allclose(used, means, atol=1e-5)
        np.testing.assert_allclose(inertia, squares.min(axis=1).sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_inertia_near_the_best_of_scikit_learn(seed):
    colours = blobs(1500, seed, places=3 + seed, spread=1 + seed)
    inertias, _, _ = core.cluster_colours(colours, attempts=10, epsilon=0.02)
    for k, inertia in zip(KS, inertias, strict=True):
        best = KMeans(k, n_init=10, random_state=0).fit(colours).inertia_
        assert inertia <= 1.01 * best, f"k = {k}"


def test_more_attempts_are_never_worse():
    colours = blobs(700, 3)
    runs = [core.cluster_colours(colours, attempts=n)[0] for n in (1, 2, 5, 20)]
    for fewer, more in pairwise(runs):
        assert (more <= fewer).all()


def test_a_function_of_the_seed():
    colours = blobs(3000, 1, places=20)
    first, again, other = (core.cluster_colours(colours, seed=s)[0] for s in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()
    assert (core.cluster_colours(colours, seed=2**64 - 1)[0] > 0).all()


def test_repeats_are_as_good_as_copies():
    """Not the same draws, but the same optimum where it is easy to find."""
    rng = np.random.default_rng(4)
    colours, repeats = blobs(300, 4, places=5), rng.integers(1, 9, 300, dtype=np.int32)
    copies = np.repeat(colours, repeats, axis=0)
    settings = {"attempts": 20, "epsilon": 0}
    found = core.cluster_colours(colours, repeats, **settings)
    expected = core.cluster_colours(copies, **settings)
    np.testing.assert_allclose(found[0], expected[0], rtol=0.01)
    np.testing.assert_allclose(found[0][2], expected[0][2], rtol=1e-6)
    assert sorted(found[2][2]) == sorted(expected[2][2])
    assert all(count.sum() == repeats.sum() for count in found[2])


def test_takes_any_strides():
    memory = np.zeros((2, 400, 4), np.float32)
    memory[0, :, :3] = blobs(400, 2)
    view = memory[0, ::-2, :3]
    expected = core.cluster_colours(view.copy())
    for found, wanted in zip(core.cluster_colours(view)[1], expected[1], strict=True):
        assert (found == wanted).all()


GOOD = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("colours", "settings", "error", "message"),
    [
        ([[1, 2, 3]], {}, TypeError, "colours must be a numpy array, got list"),
        (GOOD.astype(np.float64), {}, TypeError, "colours must be float32, got float64"),
        (GOOD[:, :2], {}, ValueError, "colours must have shape (count, 3), got (4, 2)"),
        (GOOD[None], {}, ValueError, "colours must have shape (count, 3), got (1, 4, 3)"),
        (
            np.float32([[0, 0, 0], [0, np.nan, 0]]),
            {},
            ValueError,
            "colours must be finite and at most 1e18, got nan in row 1",
        ),
        (np.float32([[0, 0, -np.inf]]), {}, ValueError, "colours must be finite and at most 1e18, got -inf in row 0"),
        (GOOD, {"repeats": [1, 1, 1, 1]}, TypeError, "repeats must be a numpy array, got list"),
        (GOOD, {"repeats": np.ones(4)}, TypeError, "repeats must be int32, got float64"),
        (
            GOOD,
            {"repeats": np.ones(3, np.int32)},
            ValueError,
            "repeats must have shape (4,), one for each colour, got (3,)",
        ),
        (GOOD, {"repeats": np.int32([1, 1, 0, 2])}, ValueError, "repeats must be at least 1, got 0"),
        (GOOD, {"attempts": 0}, ValueError, "attempts must be at least 1, got 0"),
        (GOOD, {"iterations": -1}, ValueError, "iterations must be at least 1, got -1"),
        (GOOD, {"epsilon": -0.5}, ValueError, "epsilon must be at least 0, got -0.5"),
        (GOOD, {"epsilon": np.nan}, ValueError, "epsilon must be at least 0, got nan"),
    ],
)
def test_refuses(colours, settings, error, message):
    with pytest.raises(error, match=re.escape(message)):
        core.cluster_colours(colours, **settings)


ORIGIN = np.zeros((1, 3), np.float32)


def test_mean_shift_by_hand():
    """From 0 it sees 0 and 2, from their mean 4 as well; 20 is always too far."""
    colours = np.float32([[0, 0, 0], [2, 0, 0], [4, 0, 0], [20, 0, 0]])
    assert core.mean_shift(colours, ORIGIN, 3, iterations=1).tolist() == [1, 0, 0]
    assert core.mean_shift(colours, ORIGIN, 3).tolist() == [2, 0, 0]
    assert core.mean_shift(colours, ORIGIN, 3, epsilon=1).tolist() == [1, 0, 0]


def test_mean_shift_stays_where_nothing_is_near():
    colours = np.full((5, 3), 9, np.float32)
    assert core.mean_shift(colours, ORIGIN, 2).tolist() == [0, 0, 0]
    assert core.mean_shift(colours[:0], ORIGIN, 2).tolist() == [0, 0, 0]
    assert core.mean_shift(colours, ORIGIN + 9, 0).tolist() == [9, 9, 9]


@pytest.mark.parametrize("seed", range(4))
def test_mean_shift_as_scikit_learn(seed):
    colours = blobs(600, seed, places=3, spread=2)
    start = colours[:1]
    expected = MeanShift(bandwidth=6, seeds=start, max_iter=100).fit(colours).cluster_centers_[0]
    found = core.mean_shift(colours, start, 6, iterations=100, epsilon=1e-4)
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize(
    ("start", "settings", "message"),
    [
        (np.zeros((2, 3), np.float32), {}, "start must be one colour, got 2"),
        (np.zeros(3, np.float32), {}, "start must have shape (count, 3), got (3,)"),
        (ORIGIN, {"radius": -1}, "radius must be within 0..1e18, got -1.0"),
        (ORIGIN, {"radius": np.nan}, "radius must be within 0..1e18, got nan"),
        (ORIGIN, {"iterations": 0}, "iterations must be at least 1, got 0"),
        (ORIGIN, {"epsilon": -1}, "epsilon must be at least 0, got -1.0"),
    ],
)
def test_mean_shift_refuses(start, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        core.mean_shift(GOOD, start, **({"radius": 3} | settings))
