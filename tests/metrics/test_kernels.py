"""Compiled loops: draws that are fair, scans that agree with the metrics of repeated images."""

from typing import Any

import numba
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from melfast.metrics import kernels
from melfast.metrics.design import rows_by_score
from melfast.metrics.metrics import SCORE_METRICS, confusion

SEEDS = np.random.SeedSequence(5).generate_state(4000, np.uint64)


def scan(
    true: np.ndarray, called: np.ndarray, score: np.ndarray, weight: np.ndarray
) -> tuple[dict[str, int], dict[str, float]]:
    order, rows = rows_by_score(true, called, score)
    counts, scores = np.empty(4, np.int64), np.empty(len(kernels.SCORES))
    row_list = np.arange(len(true), dtype=np.int32)
    kernels.scan(rows, row_list, weight[order].astype(np.int32), counts, scores)
    return (
        dict(zip(kernels.COUNTS, counts.tolist(), strict=True)),
        dict(zip(kernels.SCORES, scores.tolist(), strict=True)),
    )


def test_names() -> None:
    assert list(kernels.SCORES) == list(SCORE_METRICS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 2, 16])
@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_scan_as_the_metrics(seed: int, digits: int, size: int) -> None:
    """Images weighed are images repeated; few of them are of one class, or none at all."""
    rng = np.random.default_rng(seed)
    true = rng.random(size) < 0.3
    score = np.round(rng.random(size) * 0.7 + 0.3 * true, digits)
    called = rng.random(size) < 0.4
    for weight in (np.ones(size, int), rng.integers(0, 3, size), np.zeros(size, int)):
        counts, scores = scan(true, called, score, weight)
        again = np.repeat(np.arange(size), weight)
        assert counts == vars(confusion(true[again], called[again]))
        for name, metric in SCORE_METRICS.items():
            wanted = metric(true[again], score[again])
            assert scores[name] == pytest.approx(wanted, abs=1e-12, nan_ok=True), name


def test_least_share() -> None:
    for images in range(300):
        wanted = [n for n in range(images + 1) if images and n / images >= kernels.LEAST_RATE]
        assert kernels._least(images) == (wanted[0] if wanted else 0)


def test_scan_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true, weight = rng.random(200) < 0.3, rng.integers(0, 4, 200)
    score = np.round(rng.random(200) * 0.7 + 0.3 * true, 2)
    _, scores = scan(true, score >= 0.5, score, weight)
    for name, metric in (
        ("auc", sk.roc_auc_score),
        ("brier", sk.brier_score_loss),
        ("average_precision", sk.average_precision_score),
    ):
        wanted = metric(true, score, sample_weight=weight)
        assert scores[name] == pytest.approx(wanted, abs=1e-12)


def test_draws_stay_in_their_stratum_and_are_fair() -> None:
    strata = np.array([0, 1, 4, 4, 9])  # of 1, 3, 0 and 5
    drawn, total = np.empty(9, np.int32), np.zeros(9)
    for seed in SEEDS:
        kernels.draw(seed, strata, drawn)
        assert np.add.reduceat(drawn, [0, 1, 4]).tolist() == [1, 3, 5]
        total += drawn
    assert stats.chisquare(total[1:4]).pvalue > 1e-3
    assert stats.chisquare(total[4:]).pvalue > 1e-3
    assert total[0] == len(SEEDS)


def test_draws_are_binomial() -> None:
    """How often one of five is drawn."""
    drawn = np.empty(5, np.int32)
    times = np.zeros(6, int)
    for seed in SEEDS:
        kernels.draw(seed, np.array([0, 5]), drawn)
        times[drawn[4]] += 1
    expected = stats.binom.pmf(range(6), 5, 0.2) * len(SEEDS)
    assert stats.chisquare([*times[:4], times[4:].sum()], [*expected[:4], expected[4:].sum()])[1] > 1e-3


def test_every_order_is_as_probable() -> None:
    """Three images of one class, whose groups have six orders; the other class stays as it is."""
    orders: dict[tuple[int, ...], int] = {}
    for seed in SEEDS:
        group = np.array([7, 0, 1, 8, 2])
        kernels.shuffle(seed, np.array([0, 1, 4]), np.array([0, 1, 2, 4]), group)
        assert (group[0], group[3]) == (7, 8)
        order = tuple(group[[1, 2, 4]].tolist())
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 6
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_a_permutation_is_the_same_whichever_come_before() -> None:
    rng = np.random.default_rng(0)
    true, score = rng.random(50) < 0.4, rng.random(50)
    _, rows = rows_by_score(true, score >= 0.5, score)
    class_rows = np.argsort(rows.malignant, kind="stable").astype(np.int32)
    classes = np.array([0, (~true).sum(), 50])
    group = rng.integers(0, 3, 50).astype(np.int32)

    def counts_of(seeds: np.ndarray) -> np.ndarray:
        counts, scores = np.empty((len(seeds), 3, 4), np.int64), np.empty((len(seeds), 3, 8))
        kernels.permutation(seeds, classes, class_rows, group, rows, counts, scores)
        return counts

    forward = counts_of(SEEDS[:5])
    np.testing.assert_array_equal(forward, counts_of(SEEDS[:5][::-1])[::-1])
    assert len(np.unique(forward, axis=0)) == 5
    images = np.bincount(2 * group[class_rows] + (np.arange(50) >= classes[1]), minlength=6)
    by_class = np.stack([forward[..., :2].sum(-1), forward[..., 2:].sum(-1)], axis=-1)
    assert (by_class.reshape(5, 6) == images).all()


def test_draws_are_splitmix64() -> None:
    """The first outputs of the published generator from state 1234567."""
    state, found = np.uint64(1234567), []
    with np.errstate(over="ignore"):
        for _ in range(3):
            state = state + kernels.GOLDEN
            found.append(int(kernels._mix(state)))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_without_a_folder_to_keep_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    njit, asked = numba.njit, []

    def refuse_cache(function: Any, *, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse_cache)
    assert kernels.compiled(lambda x: x + 1)(2) == 3
    assert asked == [True, False]
