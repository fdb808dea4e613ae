"""Shares of images, such as recall, by group, with effective numbers of images.

Images of one patient are correlated. With n images a patient and an intra-class correlation r, each
counts as 1 / (1 + (n - 1) r) independent images (Kish 1965; Rao and Scott 1992).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from melfast.metrics.intervals import UNDEFINED, Ends, Estimate, mover, ratio_interval, wilson
from melfast.metrics.metrics import NEED_BOTH_CLASSES, SHARES

Floats = NDArray[np.float64]
# A few pairs of images tell little of a correlation: they are joined by so many of the usual one.
USUAL_CORRELATION, USUAL_PAIRS = 0.5, 10
CHUNK = 2_000_000  # entries of the tables that are drawn at once


@dataclass(frozen=True)
class Cells:
    """Counts of the images of each patient in each group.

    Attributes:
        counts: int64 [C, 4], tn, fp, fn, tp of a cell.
        group: int64 [C].
        times: int64 [C], how many such cells there are.
    """

    counts: NDArray[np.int64]
    group: NDArray[np.int64]
    times: NDArray[np.int64]
    num_groups: int

    @staticmethod
    def of(
        malignant: NDArray[np.bool_],
        called: NDArray[np.bool_],
        group: NDArray[np.int64],
        num_groups: int,
        patient: NDArray[np.int64] | None = None,
    ) -> "Cells":
        """
        Args:
            group: [N], -1: of no group, left out.
            patient: a number for each image's patient [N]; None: each image is one of its own.
        """
        known = group >= 0
        kind = (2 * malignant + called)[known].astype(np.int64)
        mine = group[known]
        if patient is None:
            times = np.bincount(4 * mine + kind, minlength=4 * num_groups)
            counts = np.tile(np.eye(4, dtype=np.int64), (num_groups, 1))
            return Cells(counts, np.repeat(np.arange(num_groups), 4), times, num_groups)
        cell, place = np.unique(patient[known] * num_groups + mine, return_inverse=True)
        counts = np.bincount(4 * place + kind, minlength=4 * len(cell)).reshape(-1, 4)
        mine = cell % num_groups if len(cell) else cell
        width = float(counts.max(initial=0) + 1)
        if width**4 * num_groups > 2**62:  # patients of tens of thousands of images
            return Cells(counts, mine, np.ones(len(cell), np.int64), num_groups)
        key = mine * int(width) ** 4 + counts @ int(width) ** np.arange(4)
        _, first, times = np.unique(key, return_index=True, return_counts=True)
        return Cells(counts[first], mine[first], times, num_groups)

    @cached_property
    def by_group(self) -> NDArray[np.int64]:
        """tn, fp, fn, tp of each group [G, 4]."""
        found = np.zeros((self.num_groups, 4), np.int64)
        np.add.at(found, self.group, self.counts * self.times[:, None])
        return found

    def share(self, part: Sequence[int], whole: Sequence[int]) -> "Shares":
        """The share of the images counted in columns `whole` that are counted in `part`."""
        hits, images = self.counts[:, part].sum(1), self.counts[:, whole].sum(1)
        there = (images > 0) & (self.times > 0)
        width = int(images.max(initial=0)) + 1
        kind, place = np.unique(hits[there] * width + images[there], return_inverse=True)
        table = np.zeros((len(kind), self.num_groups), np.int64)
        np.add.at(table, (place, self.group[there]), self.times[there])
        return Shares(kind // width, kind % width, table)


@dataclass(frozen=True)
class Shares:
    """A share by group, from a table of cells of images: patients, or images by themselves.

    Attributes:
        hits, images: int64 [T], of a kind of cell.
        table: int64 [T, G], how many such cells each group has.
    """

    hits: NDArray[np.int64]
    images: NDArray[np.int64]
    table: NDArray[np.int64]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Images of each group [G]."""
        return self.images @ self.table

    @cached_property
    def value(self) -> Floats:
        """The share in each group [G]; NaN of no image."""
        with np.errstate(invalid="ignore"):
            return (self.hits @ self.table) / self.sizes

    @cached_property
    def correlation(self) -> float:
        """Of two images of one patient in one group, over all groups; 0 where no patient has two.

        Products of two images' distances from the group's share, by its variance. 1, the worst
        case, where all images of every group are alike: it cannot be learnt then.
        """
        own = np.nan_to_num(self.value)
        hits, images = self.hits[:, None], self.images[:, None]
        pairs = self.table * images * (images - 1)
        if pairs.sum() == 0:
            return 0.0
        variance = own * (1 - own)
        expected = float((pairs * variance).sum())
        if expected == 0:
            return 1.0
        alone = hits * (1 - own) ** 2 + (images - hits) * own**2
        # The share is learnt from the same images, which takes about 1 / n from the correlation.
        found = float((self.table * ((hits - images * own) ** 2 - alone)).sum()) / expected
        found += (self.sizes > 0).sum() / self.sizes.sum()
        number = pairs.sum() / 2
        found = (number * found + USUAL_PAIRS * USUAL_CORRELATION) / (number + USUAL_PAIRS)
        return min(max(found, 0.0), 1.0)

    @cached_property
    def load(self) -> Floats:
        """What a cell of each kind adds to a group's variance [T], 1 of a single image."""
        return self.images * (1 + (self.images - 1) * self.correlation)

    @cached_property
    def worth(self) -> Floats:
        """The effective number of images of each group [G]."""
        with np.errstate(invalid="ignore"):
            return self.sizes**2 / (self.load @ self.table)

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """Cells of each group [G]."""
        return self.table.sum(0)

    def estimate(self, group: int = 0) -> Estimate:
        """The share in one group, with Wilson's interval for the effective number of images."""
        share, worth = float(self.value[group]), float(self.worth[group])
        if math.isnan(share):
            return UNDEFINED

        def at(z: float) -> Ends:
            return wilson(share, worth, z)

        return Estimate(share, at, "wilson", note="1 image" if self.sizes[group] == 1 else "")

    def of_groups(self, groups: NDArray[np.int64]) -> "Shares":
        """The same of some groups."""
        table = self.table[:, groups]
        there = table.any(axis=1)
        return Shares(self.hits[there], self.images[there], table[there])

    def permuted(self, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Shares and effective numbers with the cells permuted among the groups [number, G] each.

        Every group gets as many cells as it has. A cell stays whole: a patient moves with all the
        images counted here.
        """
        if len(self.hits) < 2:  # nothing differs; random_table gives negative counts then
            return np.tile(self.value, (number, 1)), np.tile(self.worth, (number, 1))
        share, worth = np.empty((number, self.table.shape[1])), np.empty((number, self.table.shape[1]))
        drawn = stats.random_table(self.table.sum(1), self.table.sum(0), seed=rng)
        step = max(1, CHUNK // self.table.size)
        for first in range(0, number, step):
            last = min(first + step, number)
            tables = drawn.rvs(size=last - first)
            images = np.einsum("t,btg->bg", self.images.astype(float), tables)
            share[first:last] = np.einsum("t,btg->bg", self.hits.astype(float), tables) / images
            worth[first:last] = images**2 / np.einsum("t,btg->bg", self.load, tables)
        return share, worth


def call_estimates(cells: Cells) -> dict[str, list[Estimate]]:
    """Metrics of the calls, with their intervals, of each group [G]."""
    both = (cells.by_group[:, :2].sum(1) > 0) & (cells.by_group[:, 2:].sum(1) > 0)
    found: dict[str, list[Estimate]] = {}
    for name, (part, whole) in SHARES.items():
        share = cells.share(part, whole)
        found[name] = [
            UNDEFINED if name in NEED_BOTH_CLASSES and not both[g] else share.estimate(g)
            for g in range(cells.num_groups)
        ]
    found["f1"] = [_changed(e, lambda x: 2 * x / (1 + x)) for e in found.pop("jaccard")]
    found["number_needed_to_biopsy"] = [_changed(e, _inverse) for e in found["precision"]]
    rates = list(zip(found["recall"], found["specificity"], found["fpr"], found["fnr"], strict=True))
    found["balanced_accuracy"] = [_mean(recall, specificity) for recall, specificity, _, _ in rates]
    found["lr_positive"] = [_over(recall, fpr) for recall, _, fpr, _ in rates]
    found["lr_negative"] = [_over(fnr, specificity) for _, specificity, _, fnr in rates]
    return found


def _inverse(share: float) -> float:
    return 1 / share if share > 0 else math.nan


def _changed(estimate: Estimate, change: Callable[[float], float]) -> Estimate:
    """Of a share, what rises or falls with it."""
    value = change(estimate.value)

    def at(z: float) -> Ends:
        one, other = sorted(change(end) for end in estimate.at(z))
        return one, other

    return UNDEFINED if math.isnan(value) else replace(estimate, value=value, at=at)


def _mean(one: Estimate, other: Estimate) -> Estimate:
    if math.isnan(one.value + other.value):
        return UNDEFINED

    def at(z: float) -> Ends:
        return mover((0.5, 0.5), (one.value, other.value), (one.at(z), other.at(z)))

    return Estimate((one.value + other.value) / 2, at, "mover", min(one.df, other.df))


def _over(one: Estimate, other: Estimate) -> Estimate:
    """A ratio of two rates; undefined where the second is 0."""
    if math.isnan(one.value + other.value) or other.value == 0:
        return UNDEFINED

    def at(z: float) -> Ends:
        return ratio_interval(one.at(z), other.at(z), (one.value, other.value))

    return Estimate(one.value / other.value, at, "mover", min(one.df, other.df))
