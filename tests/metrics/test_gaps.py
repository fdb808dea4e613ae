"""Gaps: by hand, exactly, with what is left out, and how often their tests and intervals are right."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from melfast.metrics.dealing import cells_of, part_of, permuted_aucs
from melfast.metrics.gaps import EQUALIZED_ODDS, FEWEST, Gap, Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import pair_statistics
from melfast.metrics.metrics import roc_auc
from melfast.metrics.scores import Sample, auc
from melfast.metrics.shares import Cells


def of_hits(hits: list[int], sizes: list[int], **options: object) -> Gaps:
    """So many malignant images in each group, so many of them found, and as many benign ones."""
    called = np.concatenate([np.repeat([True, False], [h, n - h]) for h, n in zip(hits, sizes, strict=True)])
    group = np.repeat(np.arange(len(sizes)), sizes)
    malignant = np.repeat([True, False], [len(group), len(group)])
    sample = Sample(malignant, np.append(called, np.zeros(len(group), bool)), None)
    names = tuple("abcdefgh"[: len(sizes)])
    return Gaps.of(sample, Groups("g", np.tile(group, 2), names), **options)  # type: ignore[arg-type]


def test_against_every_way_to_deal() -> None:
    """Of three groups: the distribution of the statistic, from the multivariate hypergeometric."""
    hits, sizes = np.array([9, 20, 14]), np.array([10, 30, 25])
    deals = np.array([d for d in itertools.product(range(11), range(31), range(26)) if sum(d) == hits.sum()])
    weight = special.comb(sizes, deals).prod(axis=1)
    statistic = pair_statistics(deals / sizes, np.broadcast_to(sizes.astype(float), deals.shape))
    own = float(pair_statistics(hits / sizes, sizes.astype(float)))
    expected = (weight[statistic > own + 1e-9].sum() + weight[np.abs(statistic - own) < 1e-9].sum() / 2) / weight.sum()
    gaps = np.ptp(deals / sizes, axis=1)
    found = of_hits(hits.tolist(), sizes.tolist(), permutations=20_000).all()["recall"]
    assert found.gap == pytest.approx(0.9 - 14 / 25)
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert found.mean == pytest.approx(gaps @ weight / weight.sum(), abs=0.003)
    assert (found.lowest, found.highest, found.worst) == ("c", "a", "c")


def test_a_tiny_group_hides_nothing() -> None:
    """85 and 60 of 100, and two groups of two malignant images: left out, and p stays as small."""
    alone = of_hits([85, 60], [100, 100]).all()["recall"]
    found = of_hits([85, 60, 0, 2], [100, 100, 2, 2]).all()["recall"]
    assert dict(found.left_out) == {"c": 2, "d": 2}
    assert found.counted == "malignant images"
    assert (found.gap, found.p_value) == pytest.approx((0.25, alone.p_value))
    assert (found.lowest, found.highest, found.worst) == ("b", "a", "b")
    assert found.p_value < 0.001
    assert found.low > 0


def test_too_few_groups() -> None:
    found = of_hits([85, 2], [100, FEWEST - 1]).all()
    for metric in ("recall", "fpr", "f1", "balanced_accuracy", EQUALIZED_ODDS):
        gap = found[metric]
        assert math.isnan(gap.gap)
        assert math.isnan(gap.low)
        assert math.isnan(gap.p_value)
        assert gap.worst is None
        assert gap.reason.startswith("fewer than two groups have 10 "), metric
    enough = of_hits([85, 2], [100, FEWEST]).all()["recall"]
    assert dict(enough.left_out) == {}
    assert enough.p_value < 0.01


def test_every_gap_has_an_interval_also_at_the_ends() -> None:
    """Groups that stand at 0 and at 100 %; where all stand at 100 % the gap may still be large."""
    for hits, sizes in (([15, 59], [15, 82]), ([15, 0], [15, 20]), ([15, 20], [15, 20]), ([0, 0], [12, 20])):
        found = of_hits(hits, sizes, permutations=999).all()
        for metric in ("recall", "fpr", "selection_rate", "balanced_accuracy", "f1", EQUALIZED_ODDS):
            gap = found[metric]
            if metric == "f1" and math.isnan(gap.gap):
                continue
            assert 0 <= gap.low <= gap.gap <= gap.high <= 1, (hits, metric)
            assert gap.high > gap.gap or gap.gap == 1, (hits, metric)


@pytest.mark.parametrize("seed", range(15))
def test_interval_and_p_value_never_contradict(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 400
    malignant = rng.random(count) < 0.4
    group = rng.integers(0, 4, count)
    score = np.clip(0.35 + 0.2 * malignant - 0.02 * group * malignant + 0.2 * rng.normal(size=count), 0, 1)
    patient = rng.integers(0, 150, count) if seed % 2 else None
    sample = Sample(malignant, score >= 0.5, score, patient)
    found = Gaps.of(sample, Groups("g", group, tuple("abcd")), permutations=199, level=0.9).all()
    tested = [gap for gap in found.values() if not math.isnan(gap.p_value)]
    assert len(tested) == 6
    for gap in tested:
        assert (gap.low > 0) == (gap.p_value <= 0.1 + 1e-12)


def test_demographic_parity_is_not_permuted_within_class() -> None:
    """A perfect model where melanoma is commoner in one group: selection differs, and not by chance."""
    malignant = np.concatenate([np.repeat([True, False], [50, 50]), np.repeat([True, False], [20, 80])])
    groups = Groups("g", np.repeat([0, 1], 100), ("a", "b"))
    found = Gaps.of(Sample(malignant, malignant, None), groups, permutations=999).all()
    assert found["selection_rate"].gap == pytest.approx(0.3)
    assert found["selection_rate"].p_value < 0.01
    assert found["recall"].p_value == 1
    assert found["selection_rate"].worst is None


def test_what_has_no_test_says_why() -> None:
    found = of_hits([85, 60], [100, 100], permutations=99).all()
    for metric in ("f1", "balanced_accuracy"):
        assert math.isnan(found[metric].p_value)
        assert found[metric].reason.startswith("not tested: ")


def test_equalized_odds_is_the_larger_gap() -> None:
    found = of_hits([85, 60, 35], [100, 100, 50], permutations=999).all()
    odds, recall = found[EQUALIZED_ODDS], found["recall"]
    assert odds.gap == recall.gap
    assert odds.low <= recall.low
    assert odds.high >= recall.high
    assert odds.p_value >= recall.p_value  # larger by chance where two rates may be
    assert odds.worst is None


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"^permutations must be at least 1, got 0$"):
        of_hits([1, 2], [10, 10], permutations=0)
    sample = Sample(np.ones(3, bool), np.ones(3, bool), None)
    with pytest.raises(ValueError, match=r"^there are 3 images and 2 groups$"):
        Gaps.of(sample, Groups("g", np.zeros(2, int), ("a",)))


def clustered(rng: np.random.Generator, recalls: tuple[float, ...], patients: int, each: int, alike: float) -> Gap:
    """Malignant images of as many patients in each group, four a patient, say, correlated by `alike`."""
    scale = (1 - alike) / alike if alike else 0.0
    own = [rng.beta(r * scale, (1 - r) * scale, patients) if alike else np.full(patients, r) for r in recalls]
    called = rng.random((len(recalls), patients, each)) < np.array(own)[..., None]
    group = np.repeat(np.arange(len(recalls)), patients * each)
    patient = np.arange(len(group)) // each if each > 1 else None
    sample = Sample(np.ones(len(group), bool), called.ravel(), None, patient)
    return Gaps.of(sample, Groups("g", group, tuple("abcdef"[: len(recalls)])), permutations=199).of_metric("recall")


@pytest.mark.parametrize(("each", "alike"), [(1, 0.0), (4, 0.3)])
def test_size_of_the_test(each: int, alike: float) -> None:
    """5 % of equal groups differ at p <= 0.05, also with four images a patient."""
    rng = np.random.default_rng(0)
    rejected = [clustered(rng, (0.8, 0.8), 100 // each, each, alike).p_value <= 0.05 for _ in range(400)]
    assert 0.025 <= np.mean(rejected) <= 0.08  # 0.05 +- 2.8 standard errors


def test_power_of_the_test() -> None:
    rng = np.random.default_rng(0)
    rejected = [clustered(rng, (0.85, 0.6), 100, 1, 0.0).p_value <= 0.05 for _ in range(100)]
    assert np.mean(rejected) > 0.9


def test_patients_are_dealt_out_whole() -> None:
    """Two patients of three images each: a permuted group has three hits or none."""
    counts = np.array([[0, 0, 0, 3], [0, 0, 3, 0]])
    shares = Cells(counts, np.array([0, 1]), np.ones(2, np.int64), 2).share([3], [2, 3])
    values, _ = shares.permuted(200, np.random.default_rng(0))
    assert set(map(tuple, values.tolist())) == {(1.0, 0.0), (0.0, 1.0)}
    assert stats.binomtest(int((values[:, 0] == 1).sum()), 200).pvalue > 1e-3


def test_the_same_seed_gives_the_same() -> None:
    first, again, other = (of_hits([9, 20], [10, 30], permutations=50, seed=s).all()["recall"] for s in (1, 1, 2))
    assert first == again
    assert first.mean != other.mean


def scored(seed: int, patients: bool) -> tuple[Sample, np.ndarray]:
    """Three groups with ties, patients of both classes, and an image that is alone of its kind."""
    rng = np.random.default_rng(seed)
    true, group = rng.random(240) < 0.4, rng.integers(0, 3, 240)
    score = np.round(rng.normal(size=240) + true, 1)
    patient = np.unique(80 * group + rng.integers(0, 40, 240), return_inverse=True)[1] if patients else None
    return Sample(true, score > 0.5, score, patient), group


@pytest.mark.parametrize("patients", [False, True])
def test_compiled_aucs_are_those_of_scores(patients: bool) -> None:
    sample, group = scored(0, patients)
    value, worth = permuted_aucs(sample, group, 3, permutations=20, seed=0)
    for g in range(3):
        found = auc(sample.select(np.flatnonzero(group == g)))
        assert value[0, g] == pytest.approx(found.estimate.value, abs=1e-12)
        assert worth[0, g] == pytest.approx(found.worth, rel=1e-9)
    assert len(np.unique(value[1:], axis=0)) == 20


@pytest.mark.parametrize("patients", [False, True])
def test_dealing_again_is_exchangeable(patients: bool) -> None:
    """Mean and spread of the AUC of a group as by dealing in plain NumPy, within each kind of patient."""
    sample, group = scored(1, patients)
    assert sample.score is not None
    value, _ = permuted_aucs(sample, group, 3, permutations=4000, seed=3)
    number = np.arange(240) if sample.patient is None else sample.patient
    own = np.zeros(number.max() + 1, int)
    own[number] = group
    kind = np.array([sample.malignant[number == p].sum() for p in range(len(own))]) > 0
    kind = kind + 2 * np.array([(~sample.malignant[number == p]).any() for p in range(len(own))])
    rng = np.random.default_rng(0)
    wanted = []
    for _ in range(1500):
        for k in np.unique(kind):
            own[kind == k] = rng.permutation(own[kind == k])
        mine = own[number] == 0
        wanted.append(roc_auc(sample.malignant[mine].astype(int), sample.score[mine]))
    assert value[1:, 0].mean() == pytest.approx(np.mean(wanted), abs=0.006)
    assert value[1:, 0].std() == pytest.approx(np.std(wanted), rel=0.08)


def test_the_same_numbers_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, group = scored(2, True)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("melfast.metrics.dealing.available_cores", lambda n=threads: n)
        found.append(permuted_aucs(sample, group, 3, permutations=101, seed=5))
    np.testing.assert_array_equal(found[0], found[1])
    other = permuted_aucs(sample, group, 3, permutations=101, seed=6)
    assert (other[0][1:] != found[0][0][1:]).mean() > 0.9


def large(seed: int, patients: bool) -> tuple[Sample, np.ndarray]:
    """A small group of 20 malignant images beside two large ones; three images a patient."""
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.repeat([True, False], sizes) for sizes in ((20, 1000), (500, 3000), (400, 2000))])
    group = np.repeat(np.arange(3), (1020, 3500, 2400))
    score = np.round(rng.normal(size=len(true)) + 1.3 * true - 0.35 * true * (group == 0), 3)
    patient = 3000 * group + rng.integers(0, np.array([340, 1167, 800])[group])
    return Sample(true, score > 1, score, np.unique(patient, return_inverse=True)[1] if patients else None), group


@pytest.mark.parametrize("patients", [False, True])
def test_dealing_a_part_of_large_groups_agrees_with_dealing_all(
    patients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, index = large(2, patients)
    groups = Groups("g", index, ("a", "b", "c"))
    part = Gaps.of(sample, groups).of_metric("auc")
    monkeypatch.setattr("melfast.metrics.dealing.MOST_CELLS", (10_000, 10_000))
    every = Gaps.of(sample, groups, permutations=4000).of_metric("auc")
    assert part.gap == every.gap
    assert 0.01 < every.p_value < 0.3
    assert part.p_value == pytest.approx(every.p_value, abs=0.02)
    assert (part.low, part.high) == pytest.approx((every.low, every.high), abs=0.005)
    assert (part.mean, part.upper) == pytest.approx((every.mean, every.upper), abs=0.003)


@pytest.mark.parametrize("patients", [False, True])
def test_the_part_that_is_dealt_is_of_whole_patients(patients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melfast.metrics.dealing.MOST_CELLS", (30, 50))
    sample, group = large(0, patients)
    rows = part_of(sample, group, np.random.default_rng(0))
    cell = cells_of(sample, group)
    assert (np.diff(rows) > 0).all()
    assert np.isin(cell, cell[rows]).sum() == len(rows)
    for g, malignant in enumerate((20, 30, 30)):
        mine = np.unique(cell[rows][group[rows] == g])
        assert len(mine) == malignant + 50
        assert np.isin(mine, cell[sample.malignant]).sum() == malignant


def test_fewer_permutations_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, index = scored(3, True)
    groups = Groups("g", index, ("a", "b", "c"))
    dealt = Gaps.of(sample, groups).of_metric("auc")
    monkeypatch.setattr("melfast.metrics.gaps.MOST_DEALT", 240 * 2000)
    fewer = Gaps.of(sample, groups).of_metric("auc")
    assert 2 * 2001 * fewer.p_value == pytest.approx(round(2 * 2001 * fewer.p_value))
    assert fewer.p_value == pytest.approx(dealt.p_value, abs=0.06)


def test_the_upper_end_needs_no_correction_for_many_pairs() -> None:
    """Of two groups the same as beside two others that lie between them; the lower end is corrected."""
    two = of_hits([90, 40], [100, 100]).of_metric("recall")
    four = of_hits([90, 40, 65, 65], [100, 100, 100, 100]).of_metric("recall")
    assert four.high == pytest.approx(two.high, abs=0.01)
    assert two.low == pytest.approx(four.low, abs=0.01)  # no other pair may be the largest
    near = of_hits([90, 40, 89, 41], [100, 100, 100, 100]).of_metric("recall")
    assert near.low < two.low - 0.005


@pytest.mark.parametrize(("each", "alike"), [(1, 0.0), (4, 0.3)])
def test_size_of_the_test_of_aucs(each: int, alike: float) -> None:
    rng = np.random.default_rng(0)
    true = np.tile(np.repeat([True, False], [32, 60]), 2)
    group = np.repeat([0, 1], 92)
    patient = np.arange(184) // each
    rejected = []
    for _ in range(300):
        common = rng.normal(size=patient[-1] + 1)[patient]
        score = true + np.sqrt(alike) * common + np.sqrt(1 - alike) * rng.normal(size=184)
        sample = Sample(true, score > 0.5, score, patient if each > 1 else None)
        gap = Gaps.of(sample, Groups("g", group, ("a", "b")), permutations=199).of_metric("auc")
        rejected.append(gap.p_value <= 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.085  # 0.05 +- 2.5 standard errors
