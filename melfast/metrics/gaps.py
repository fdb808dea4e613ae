"""Gaps between groups: how large they are, how large they may be, and how much may be chance.

One statistic gives the p-value and the interval of a gap: the largest score statistic over all pairs
of groups (Miettinen and Nurminen 1985), with each group's effective number of images. Its null
distribution comes from permuting whole patients among the groups (max-t: Westfall and Young 1993),
so the interval excludes 0 exactly if p is at most 1 - level.

The true gap is the difference of a single pair, so the largest upper limit of the pairs' intervals
covers it as surely as that pair's: no correction for the number of pairs is needed. The lower limit
is corrected: for all pairs, or for those that may be the largest (Andrews and Soares 2010).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from melfast.metrics.groups import Groups
from melfast.metrics.intervals import Ends, critical, largest_difference, mover, pair_interval, pair_statistics
from melfast.metrics.metrics import FN, FP, LOWER_IS_BETTER, NEITHER_IS_BETTER, SHARES, TN, TP, gap, ratio
from melfast.metrics.scores import Auc, Sample, auc
from melfast.metrics.shares import Cells, Shares, call_estimates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
EQUALIZED_ODDS = "equalized_odds"
DIGITS = 7  # of a statistic, beyond which equal ones differ by rounding
MOST_DEALT = 50_000_000  # images in all permutations of an AUC: a second or two
FEWEST_DEALT = 999
FEWEST = 10  # images in a metric's denominator; groups with fewer are left out

# What each gap counts, and the columns of the counts that it needs ten of.
COUNTED: dict[str, tuple[str, tuple[Sequence[int], ...]]] = {
    "recall": ("malignant images", ([FN, TP],)),
    "fpr": ("benign images", ([TN, FP],)),
    "selection_rate": ("images", ([TN, FP, FN, TP],)),
    "precision": ("images called malignant", ([FP, TP],)),
    "auc": ("malignant and benign images", ([FN, TP], [TN, FP])),
    "balanced_accuracy": ("malignant and benign images", ([FN, TP], [TN, FP])),
    "f1": ("malignant images", ([FN, TP],)),
}
NOT_TESTED = {
    "balanced_accuracy": "not tested: its two halves, recall and the false positive rate, are",
    "f1": "not tested: F1 depends on how common melanoma is in a group; recall and precision are tested",
}


@dataclass(frozen=True)
class Gap:
    """How far groups are apart in a metric.

    Attributes:
        gap, ratio: the largest value of a group minus the smallest, and the smallest divided by the
            largest; NaN if fewer than two groups are compared.
        low, high: of the gap.
        lowest, highest: the groups of the smallest and largest value; None as for the gap, and of
            equalized odds, whose two rates may differ in that.
        worst: which of the two fares worse; None also where neither more nor less is better.
        left_out: groups with fewer than FEWEST images in the denominator, and how many.
        counted: the images in the denominator, in words.
        mean, upper: mean and 95th percentile of the gaps under permutation.
        p_value: NaN where there is no test.
        reason: why there is none, in words.
    """

    gap: float
    low: float
    high: float
    ratio: float
    lowest: str | None
    highest: str | None
    worst: str | None
    left_out: Mapping[str, int]
    counted: str
    mean: float = math.nan
    upper: float = math.nan
    p_value: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class _Null:
    """Observed values of the groups [G], and their values under permutation [B, G].

    Attributes:
        value, worth: of a metric, and the effective number of images.
    """

    value: Floats
    worth: Floats
    drawn: Floats
    drawn_worth: Floats

    @cached_property
    def gaps(self) -> Floats:
        return np.asarray(np.ptp(self.drawn, axis=1))


@dataclass(frozen=True)
class _Pair:
    """Two groups of a metric."""

    null: _Null
    groups: tuple[int, int]

    @property
    def observed(self) -> float:
        return float(pair_statistics(self.null.value[[*self.groups]], self.null.worth[[*self.groups]]))

    @property
    def statistics(self) -> Floats:
        """By chance [B]."""
        columns = [*self.groups]
        return pair_statistics(self.null.drawn[:, columns], self.null.drawn_worth[:, columns])

    def ends(self, z: float) -> Ends:
        i, j = self.groups
        value, worth = self.null.value, self.null.worth
        return pair_interval((value[i], value[j]), (worth[i], worth[j]), z)


def _p_value(observed: float, statistics: Floats) -> float:
    """Mid-p: permutations further off, and half of those as far off, the observed one among them.

    Shares of few images take few values, and counting all of those as far off would reject 3 %
    of equal groups at 5 % (Lancaster 1961).
    """
    values, own = np.round(statistics, DIGITS), round(observed, DIGITS)
    if own == 0:
        return 1.0
    return float((values > own).sum() + (1 + (values == own).sum()) / 2) / (1 + len(values))


def _critical(statistics: Floats, level: float) -> float:
    """Above it p is at most 1 - level, and only there; infinite with too few permutations."""
    values, ties = np.unique(np.round(statistics, DIGITS), return_counts=True)
    above = ties.sum() - np.cumsum(ties)
    limit = (1 - level) * (1 + ties.sum()) + 1e-9
    if limit < 0.5:
        return math.inf
    first = int(np.searchsorted(-(above + (1 + ties) / 2), -limit))  # the first value with so small a p
    # A statistic that no permutation has may lie below it, and be as improbable.
    between = first == len(values) or (first > 0 and above[first - 1] + 0.5 <= limit)
    edge = 0.6 * 10.0**-DIGITS
    return float(values[first - 1] + edge if between else values[first] - edge)


def _tested(nulls: Sequence[_Null], level: float) -> tuple[Ends, float]:
    """Interval of the largest difference of a pair of groups in any of some metrics, and its p-value."""
    pairs = [_Pair(n, groups) for n in nulls for groups in itertools.combinations(range(len(n.value)), 2)]
    every, own = np.zeros(len(nulls[0].drawn)), []
    for pair in pairs:
        statistics = pair.statistics
        np.maximum(every, statistics, out=every)
        own.append(pair.ends(_critical(statistics, level)))
    p_value = _p_value(max(pair.observed for pair in pairs), every)
    _, high = largest_difference(own)
    if p_value > 1 - level + 1e-12:
        return (0.0, high), p_value
    size = max(float(gap(null.value)) for null in nulls)
    rivals = [pair for pair, (left, right) in zip(pairs, own, strict=True) if max(-left, right) >= size]
    z = _critical(np.max([pair.statistics for pair in rivals], axis=0), level)
    low, _ = largest_difference([pair.ends(z) for pair in rivals])
    of_all, _ = largest_difference([pair.ends(_critical(every, level)) for pair in pairs])
    return (max(low, of_all), high), p_value


@dataclass(frozen=True)
class Gaps:
    """Everything about the gaps of one model between the groups of one grouping.

    Attributes:
        sample: all images, in the order of `groups`.
        cells: see `shares.Cells`; of the images of known group.
        aucs: of each group; empty without scores.
    """

    groups: Groups
    sample: Sample
    cells: Cells
    aucs: Sequence[Auc]
    permutations: int = 10_000
    seed: int = 0
    level: float = 0.95
    _nulls: dict[str, _Null] = field(default_factory=dict)
    _found: dict[str, Gap] = field(default_factory=dict)

    @staticmethod
    def of(sample: Sample, groups: Groups, *, permutations: int = 10_000, seed: int = 0, level: float = 0.95) -> "Gaps":
        """
        Raises:
            ValueError: there is no permutation, or images and groups differ in number.
        """
        if permutations < 1:
            raise ValueError(f"permutations must be at least 1, got {permutations}")
        if len(groups) != len(sample.malignant):
            raise ValueError(f"there are {len(sample.malignant)} images and {len(groups)} groups")
        cells = Cells.of(sample.malignant, sample.called, groups.index, len(groups.names), sample.patient)
        aucs = []
        if sample.score is not None:
            aucs = [auc(sample.select(np.flatnonzero(groups.index == g))) for g in range(len(groups.names))]
        return Gaps(groups, sample, cells, aucs, permutations, seed, level)

    def all(self) -> dict[str, Gap]:
        """Of each metric of COUNTED, without scores but the AUC, and of equalized odds."""
        metrics = [metric for metric in COUNTED if metric != "auc" or self.aucs]
        found = {metric: self.of_metric(metric) for metric in metrics}
        return found | {EQUALIZED_ODDS: self._equalized_odds(found["recall"], found["fpr"])}

    def of_metric(self, metric: str) -> Gap:
        """The gap of one metric of COUNTED."""
        if metric not in self._found:
            self._found[metric] = self._by_estimates(metric) if metric in NOT_TESTED else self._of_metric(metric)
        return self._found[metric]

    def eligible(self, metric: str) -> Ints:
        """The groups with enough images for a metric."""
        sizes = np.min([self.cells.by_group[:, kind].sum(1) for kind in COUNTED[metric][1]], axis=0)
        return np.flatnonzero(sizes >= FEWEST)

    def _of_metric(self, metric: str) -> Gap:
        chosen = self.eligible(metric)
        if metric == "auc":
            value = np.array([a.estimate.value for a in self.aucs])
        else:
            value = self.cells.share(*SHARES[metric]).value
        if len(chosen) < 2:
            return self._gap(metric, chosen, value, (math.nan, math.nan))
        null = self._null_of_aucs(chosen) if metric == "auc" else self._null_of_shares(metric, chosen)
        self._nulls[metric] = null
        ends, p_value = _tested([null], self.level)
        return _beside(self._gap(metric, chosen, value, ends), p_value, null.gaps)

    def _null_of_shares(self, metric: str, chosen: Ints) -> _Null:
        shares: Shares = self.cells.share(*SHARES[metric]).of_groups(chosen)
        rng = np.random.default_rng([self.seed, list(COUNTED).index(metric)])
        return _Null(shares.value, shares.worth, *shares.permuted(self.permutations, rng))

    def _null_of_aucs(self, chosen: Ints) -> _Null:
        """Large groups are subsampled, and the deviations scaled to the effective numbers of the whole groups."""
        # numba takes a second to load: only where an AUC is tested.
        from melfast.metrics.dealing import part_of, permuted_aucs

        rows = np.flatnonzero(np.isin(self.groups.index, chosen))
        group = np.searchsorted(chosen, self.groups.index[rows])
        part = part_of(self.sample.select(rows), group, np.random.default_rng([self.seed, list(COUNTED).index("auc")]))
        permutations = min(self.permutations, max(FEWEST_DEALT, MOST_DEALT // len(part)))
        options = {"permutations": permutations, "seed": self.seed}
        value, worth = permuted_aucs(self.sample.select(rows[part]), group[part], len(chosen), **options)
        if len(part) == len(rows):
            return _Null(value[0], worth[0], value[1:], worth[1:])
        whole = np.array([self.aucs[g].worth for g in chosen])
        times, centre = whole / worth[0], value[1:].mean(axis=0)
        drawn = np.clip(centre + (value[1:] - centre) / np.sqrt(times), 0, 1)
        return _Null(np.array([self.aucs[g].estimate.value for g in chosen]), whole, drawn, worth[1:] * times)

    def _by_estimates(self, metric: str) -> Gap:
        """The gap of a metric that is not tested: from the interval of each group (MOVER)."""
        chosen = self.eligible(metric)
        of_groups = call_estimates(self.cells)[metric]
        value = np.array([e.value for e in of_groups])
        chosen = chosen[~np.isnan(value[chosen])]
        if len(chosen) < 2:
            return self._gap(metric, chosen, value, (math.nan, math.nan))
        number = len(chosen) * (len(chosen) - 1) // 2
        z = critical(1 - (1 - self.level) / number)
        ends = {g: of_groups[g].at(z) for g in chosen}
        pairs = [mover((1, -1), (value[i], value[j]), (ends[i], ends[j])) for i, j in itertools.combinations(chosen, 2)]
        low, _ = largest_difference(pairs)
        ends = {g: of_groups[g].at(critical(self.level)) for g in chosen}
        pairs = [mover((1, -1), (value[i], value[j]), (ends[i], ends[j])) for i, j in itertools.combinations(chosen, 2)]
        _, high = largest_difference(pairs)
        found = self._gap(metric, chosen, value, (low, min(1.0, high)))
        return replace(found, reason=NOT_TESTED[metric])

    def _gap(self, metric: str, chosen: Ints, value: Floats, ends: Ends) -> Gap:
        counted, kinds = COUNTED[metric]
        names = self.groups.names
        sizes = np.min([self.cells.by_group[:, kind].sum(1) for kind in kinds], axis=0)
        left_out = {name: int(size) for name, size in zip(names, sizes, strict=True) if size < FEWEST}
        if len(chosen) < 2:
            reason = f"fewer than two groups have {FEWEST} {counted}"
            return Gap(math.nan, *ends, math.nan, None, None, None, left_out, counted, reason=reason)
        lowest, highest = (names[chosen[pick(value[chosen])]] for pick in (np.argmin, np.argmax))
        worst = None if metric in NEITHER_IS_BETTER else highest if metric in LOWER_IS_BETTER else lowest
        size = float(gap(value[chosen]))
        low, high = float(min(ends[0], size)), float(max(ends[1], size))
        return Gap(size, low, high, float(ratio(value[chosen])), lowest, highest, worst, left_out, counted)

    def _equalized_odds(self, recall: Gap, fpr: Gap) -> Gap:
        """The larger of two gaps, tested by the larger of their statistics."""
        counted, left_out = "malignant or benign images", {**fpr.left_out, **recall.left_out}
        size = float(np.max([recall.gap, fpr.gap]))  # unlike max(), NaN of NaN
        found = Gap(size, math.nan, math.nan, math.nan, None, None, None, left_out, counted)
        if math.isnan(size):
            return replace(found, reason=recall.reason or fpr.reason)
        nulls = [self._nulls[m] for m in ("recall", "fpr")]
        (low, high), p_value = _tested(nulls, self.level)
        found = replace(found, low=min(low, size), high=max(high, size))
        return _beside(found, p_value, np.maximum(*(null.gaps for null in nulls)))


def _beside(found: Gap, p_value: float, gaps: Floats) -> Gap:
    return replace(found, mean=float(gaps.mean()), upper=float(np.quantile(gaps, 0.95)), p_value=p_value)
