"""Gaps between groups: how large they may be, and what chance alone makes of them.

One statistic gives the p-value and the interval of a gap: the largest score statistic of all pairs
of groups (Miettinen and Nurminen 1985), each group counted as the independent images that it is
worth. Its distribution where groups are alike comes from dealing out whole patients again among the
groups (max-t: Westfall and Young 1993), so that the interval leaves out 0 exactly where p is at
most 1 - level.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
FEWEST = 10  # images of the kind that a metric counts; groups with fewer are left out

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
        gap, ratio: largest less, and smallest through, largest value of a group; NaN where fewer
            than two groups count.
        low, high: of the gap, holding for all pairs of groups at once.
        lowest, highest: the groups of the smallest and largest value; None as for the gap, and of
            equalized odds, whose two rates may differ in that.
        worst: which of the two fares worse; None also where neither more nor less is better.
        left_out: groups with fewer than FEWEST images of the kind that is counted, and how many.
        counted: that kind, in words.
        mean, upper: of the gaps that chance alone makes, their mean and the one that 5 % exceed.
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
    """What is observed, beside what chance makes: statistics and gaps of each permutation [B]."""

    observed: float
    statistics: Floats
    gaps: Floats

    def p_value(self) -> float:
        """Mid-p: permutations further off, and half of those as far off, the observed one among them.

        Shares of few images take few values, and counting all of those as far off would reject 3 %
        of equal groups at 5 % (Lancaster 1961).
        """
        values = np.round(self.statistics, DIGITS)
        own = round(self.observed, DIGITS)
        if own == 0:
            return 1.0
        return float((values > own).sum() + (1 + (values == own).sum()) / 2) / (1 + len(values))

    def critical(self, level: float) -> float:
        """Above it p is at most 1 - level, and only there; infinite with too few permutations."""
        values, ties = np.unique(np.round(self.statistics, DIGITS), return_counts=True)
        above = ties.sum() - np.cumsum(ties)
        limit = (1 - level) * (1 + ties.sum()) + 1e-9
        if limit < 0.5:
            return math.inf
        first = int(np.searchsorted(-(above + (1 + ties) / 2), -limit))  # the first value with so small a p
        # A statistic that no permutation has may lie below it, and be as improbable.
        between = first == len(values) or (first > 0 and above[first - 1] + 0.5 <= limit)
        edge = 0.6 * 10.0**-DIGITS
        return float(values[first - 1] + edge if between else values[first] - edge)


@dataclass(frozen=True)
class Gaps:
    """Everything about the gaps of one model between the groups of one grouping.

    Attributes:
        cells: see `shares.Cells`; of the images of known group.
        aucs: of each group; empty without scores.
    """

    groups: Groups
    cells: Cells
    aucs: Sequence[Auc]
    permutations: int = 10_000
    seed: int = 0
    level: float = 0.95
    _nulls: dict[str, _Null] = field(default_factory=dict)

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
        return Gaps(groups, cells, aucs, permutations, seed, level)

    def all(self) -> dict[str, Gap]:
        """Of each metric of COUNTED, without scores but the AUC, and of equalized odds."""
        metrics = [metric for metric in COUNTED if metric != "auc" or self.aucs]
        found = {metric: self.of_metric(metric) for metric in metrics}
        return found | {EQUALIZED_ODDS: self._equalized_odds(found["recall"], found["fpr"])}

    def of_metric(self, metric: str) -> Gap:
        """The gap of one metric of COUNTED."""
        return self._by_estimates(metric) if metric in NOT_TESTED else self._tested(metric)

    def eligible(self, metric: str) -> Ints:
        """The groups with enough images for a metric."""
        sizes = np.min([self.cells.by_group[:, kind].sum(1) for kind in COUNTED[metric][1]], axis=0)
        return np.flatnonzero(sizes >= FEWEST)

    def _tested(self, metric: str) -> Gap:
        chosen = self.eligible(metric)
        if len(chosen) < 2:
            return self._gap(metric, chosen, np.full(len(self.groups.names), math.nan), (math.nan, math.nan))
        if metric == "auc":
            value = np.array([a.estimate.value for a in self.aucs])
            worth = np.array([a.worth for a in self.aucs])[chosen]
            null = self._null_of_aucs(value[chosen], worth)
        else:
            shares = self.cells.share(*SHARES[metric])
            value, of_chosen = shares.value, shares.of_groups(chosen)
            worth = of_chosen.worth
            null = self._null_of_shares(metric, of_chosen)
        self._nulls[metric] = null
        z = null.critical(self.level)
        pairs = [
            pair_interval((value[chosen[i]], value[chosen[j]]), (worth[i], worth[j]), z)
            for i, j in itertools.combinations(range(len(chosen)), 2)
        ]
        return self._gap(metric, chosen, value, largest_difference(pairs), null)

    def _null_of_shares(self, metric: str, shares: Shares) -> _Null:
        rng = np.random.default_rng([self.seed, list(COUNTED).index(metric)])
        share, worth = shares.permuted(self.permutations, rng)
        observed = float(pair_statistics(shares.value, shares.worth))
        return _Null(observed, pair_statistics(share, worth), np.ptp(share, axis=1))

    def _null_of_aucs(self, value: Floats, worth: Floats) -> _Null:
        """What normal errors make of groups alike, each with the variance of its own AUC.

        Dealing out images again would take as long as measuring a model for each permutation.
        """
        rng = np.random.default_rng([self.seed, list(COUNTED).index("auc")])
        common = float(np.average(value, weights=worth))
        error = math.sqrt(common * (1 - common))
        drawn = common + error * rng.standard_normal((self.permutations, len(value))) / np.sqrt(worth)
        statistics = np.zeros(self.permutations)
        for i, j in itertools.combinations(range(len(value)), 2):
            both = worth[i] + worth[j]
            spread = error * math.sqrt(both**2 / (worth[i] * worth[j] * (both - 1)))
            statistics = np.maximum(statistics, np.abs(drawn[:, i] - drawn[:, j]) / max(spread, 1e-12))
        return _Null(float(pair_statistics(value, worth)), statistics, np.ptp(np.clip(drawn, 0, 1), axis=1))

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
        low, high = largest_difference(pairs)
        return self._gap(metric, chosen, value, (low, min(1.0, high)))

    def _gap(self, metric: str, chosen: Ints, value: Floats, ends: Ends, null: _Null | None = None) -> Gap:
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
        low, high = min(ends[0], size), max(ends[1], size)
        found = Gap(size, low, high, float(ratio(value[chosen])), lowest, highest, worst, left_out, counted)
        if null is None:
            return replace(found, reason=NOT_TESTED[metric])
        return _beside(found, null)

    def _equalized_odds(self, recall: Gap, fpr: Gap) -> Gap:
        """The larger of two gaps, tested by the larger of their statistics."""
        counted, left_out = "malignant or benign images", {**fpr.left_out, **recall.left_out}
        size = float(np.max([recall.gap, fpr.gap]))  # unlike max(), NaN of NaN
        found = Gap(size, math.nan, math.nan, math.nan, None, None, None, left_out, counted)
        if math.isnan(size):
            return replace(found, reason=recall.reason or fpr.reason)
        nulls = [self._nulls[m] for m in ("recall", "fpr")]
        null = _Null(
            max(n.observed for n in nulls),
            np.maximum(*(n.statistics for n in nulls)),
            np.maximum(*(n.gaps for n in nulls)),
        )
        z = null.critical(self.level)
        ends = []
        for metric in ("recall", "fpr"):
            chosen = self.eligible(metric)
            shares = self.cells.share(*SHARES[metric]).of_groups(chosen)
            for i, j in itertools.combinations(range(len(chosen)), 2):
                ends.append(pair_interval((shares.value[i], shares.value[j]), (shares.worth[i], shares.worth[j]), z))
        low, high = largest_difference(ends)
        return _beside(replace(found, low=min(low, size), high=max(high, size)), null)


def _beside(found: Gap, null: _Null) -> Gap:
    upper = float(np.quantile(null.gaps, 0.95))
    return replace(found, mean=float(null.gaps.mean()), upper=upper, p_value=null.p_value())
