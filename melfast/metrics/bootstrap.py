"""How sure a metric is: bootstrap intervals, and what chance alone makes of a gap between groups.

The metrics of `metrics.py`, over all images and by group, measured thousands of times on images
drawn again, by compiled loops (`kernels.py`). One seed gives the same draws on every machine.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.io.words import check_words
from melfast.metrics import kernels
from melfast.metrics.design import (
    Design,
    Floats,
    Measured,
    by_name,
    checked_images,
    empty_results,
    rows_by_score,
    seeds_of,
)
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import Interval, acceleration, bca_interval, percentile_interval

Statistic = Callable[[Measured], Floats]
IntervalMethod = Literal["percentile", "bca"]

OVERALL = "all"
EQUALIZED_ODDS = "equalized_odds"


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of images, of replicates of them, and of all but one cluster of them.

    A cluster is an image or, where patients are known, a patient. Of each metric there are the
    values over all images and those of each group, as `parts` names them.

    Attributes:
        parts: `all`, then the groups' names.
        estimate: of each metric [S].
        replicates: of each metric [R, S].
        strata: int64 [T], the clusters in each stratum.
    """

    parts: tuple[str, ...]
    estimate: Measured
    replicates: Measured
    strata: NDArray[np.int64]
    _design: Design

    @check_words
    def interval(
        self, metric: str, part: str = OVERALL, *, method: IntervalMethod = "bca", level: float = 0.95
    ) -> Interval:
        """The interval of a metric over all images or in one group."""
        place = self.parts.index(part)
        return self.interval_of(lambda found: found[metric][..., place], method=method, level=level)

    def gap_interval(self, metric: str, *, level: float = 0.95) -> Interval:
        """The interval of a metric's gap between groups, or of `equalized_odds`.

        From intervals of the differences of all pairs of groups that hold at once: each as many
        standard errors wide as the furthest of all pairs is off in `level` of the replicates
        (max-t: Westfall and Young 1993). The gap is at least the largest of their lower ends, and
        at most the largest of their upper ones. An interval of the largest difference by itself
        would lean to large gaps, and lie above 0 even where the groups are alike.

        Returns:
            NaN for the ends where resampling does not move a group's value, as 15 hits of 15.
        """
        estimate = float(_over_groups(gap, metric, self.estimate, self.estimate, first=1))
        pairs = [
            (self.estimate[name][a] - self.estimate[name][b], self.replicates[name][:, a] - self.replicates[name][:, b])
            for name in (("recall", "fpr") if metric == EQUALIZED_ODDS else (metric,))
            for a, b in itertools.combinations(_with_value(self.estimate[name]), 2)
        ]
        whole = np.ones(len(self.replicates[next(iter(self.replicates))]), bool)
        for _, replicates in pairs:
            whole &= ~np.isnan(replicates)
        undefined = int((~whole).sum())
        if math.isnan(estimate) or whole.sum() < 2:
            return Interval(estimate, math.nan, math.nan, undefined)
        furthest, errors = np.zeros(int(whole.sum())), []
        for own, replicates in pairs:
            off = np.abs(replicates[whole] - own)
            errors.append(replicates[whole].std(ddof=1))
            with np.errstate(invalid="ignore", divide="ignore"):
                furthest = np.maximum(furthest, off / errors[-1])
        if not min(errors) > 0 or not _all_move(self.replicates, metric, self.estimate):
            return Interval(estimate, math.nan, math.nan, undefined)
        reach = np.quantile(furthest, level) * np.array(errors)
        size = np.abs([own for own, _ in pairs])
        low, high = max(0.0, float((size - reach).max())), min(1.0, float((size + reach).max()))
        return Interval(estimate, low, high, undefined)

    @check_words
    def ratio_interval(self, metric: str, *, method: IntervalMethod = "bca", level: float = 0.95) -> Interval:
        """The interval of a metric's smallest through its largest value in a group."""
        return self.interval_of(self._between_groups(ratio, metric), method=method, level=level)

    @check_words
    def interval_of(self, statistic: Statistic, *, method: IntervalMethod = "bca", level: float = 0.95) -> Interval:
        """The interval of anything that follows from the metrics.

        Args:
            statistic: of metrics [..., S] gives values [...].
            method: `percentile`; `bca`: bias-corrected and accelerated (Efron 1987).
        Raises:
            ValueError: there is no such method, or the level is not between 0 and 1.
        """
        estimate, values = float(statistic(self.estimate)), statistic(self.replicates)
        if method == "percentile":
            return percentile_interval(estimate, values, level)
        return bca_interval(estimate, values, self._acceleration(statistic), level)

    def _acceleration(self, statistic: Statistic) -> float:
        stratum, left_out = self._left_out
        return acceleration(statistic(left_out), stratum, self.strata)

    @cached_property
    def _left_out(self) -> tuple[NDArray[np.int64], Measured]:
        return self._design.leave_out()

    def _between_groups(self, spread: Callable[[Floats, NDArray[np.bool_]], Floats], metric: str) -> Statistic:
        return lambda found: _over_groups(spread, metric, found, self.estimate, first=1)


@dataclass(frozen=True)
class Null:
    """A gap, and the gaps that there are when nothing but chance makes groups differ.

    Attributes:
        gap: of the images as they are; NaN where fewer than two groups have the metric.
        mean: of the gap over the permutations.
        upper: the gap that 5 % of the permutations exceed.
        p_value: share of permutations whose gap is as large or larger, the images' own among them.
        undefined: permutations in which a group lacks the metric; mean and p-value are of the
            others.
    """

    gap: float
    mean: float
    upper: float
    p_value: float
    undefined: int


def bootstrap(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    score: ArrayLike | None = None,
    *,
    sensitive_features: Groups | None = None,
    patients: ArrayLike | None = None,
    replicates: int = 10_000,
    seed: int = 0,
) -> Bootstrap:
    """Resamples images, or patients with all their images, within strata.

    Images are drawn within class and group, so that every replicate has as many malignant and
    benign images of each group as there are. A patient's images are of many groups, so patients
    are drawn among those with and those without a malignant image, and a small group may be
    without malignant images in some replicates.

    Args:
        y_true: 0 and 1 [N].
        y_pred: the calls, 0 and 1 [N].
        score: P(malignant) [N]; None: labels are all there is, and no metric of scores is given.
        sensitive_features: a group of each image.
        patients: an identifier of each image's patient [N]; '' unknown, a patient of its own.
    Raises:
        ValueError: lengths differ, values are none of a metric's, or there is nothing to draw.
    """
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, got {replicates}")
    design = Design.of(y_true, y_pred, score, sensitive_features, patients)
    groups = () if sensitive_features is None else sensitive_features.names
    return Bootstrap(
        parts=(OVERALL, *groups),
        estimate={name: values[0] for name, values in design.without(-1).items()},
        replicates=design.replicates(replicates, seed),
        strata=np.diff(design.strata),
        _design=design,
    )


def permutation_null(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    score: ArrayLike | None = None,
    *,
    sensitive_features: Groups,
    permutations: int = 10_000,
    seed: int = 0,
) -> dict[str, Null]:
    """Each metric's gap beside those that chance makes: the groups are permuted within each class.

    The largest of a few small groups' values less the smallest is large by chance alone. Images
    without a group are left out; those of one patient are taken for independent.

    Returns:
        Of each metric, and of `equalized_odds`.
    Raises:
        ValueError: as `bootstrap`.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    malignant, called, probability = checked_images(y_true, y_pred, score, sensitive_features)
    known = sensitive_features.known
    order, rows = rows_by_score(malignant[known], called[known], probability[known])
    group = sensitive_features.index[known][order].astype(np.int32)
    num_groups = len(sensitive_features.names)
    class_rows = np.argsort(rows.malignant, kind="stable").astype(np.int32)
    classes = np.array([0, (rows.malignant == 0).sum(), len(order)], np.int64)
    unmoved = np.zeros(2, np.int64)  # no class to shuffle

    def measure(seeds: NDArray[np.uint64], classes: NDArray[np.int64]) -> Measured:
        counts, scores = empty_results(len(seeds), num_groups)
        kernels.permutation(seeds, classes, class_rows, group, rows, counts, scores)
        return by_name(counts, scores, score is not None)

    own = {name: values[0] for name, values in measure(seeds_of(0, 1), unmoved).items()}
    chance = measure(seeds_of(seed, permutations), classes)
    return {name: _null(name, own, chance) for name in (*own, EQUALIZED_ODDS)}


def gap(values: Floats, groups: NDArray[np.bool_]) -> Floats:
    """Largest less smallest value of some groups.

    Args:
        values: [..., G].
        groups: bool [G]; those that count.
    Returns:
        [...]; NaN where one of them has no value, or fewer than two count.
    """
    if groups.sum() < 2:
        return np.full(values.shape[:-1], math.nan)
    return np.ptp(values[..., groups], axis=-1)


def ratio(values: Floats, groups: NDArray[np.bool_]) -> Floats:
    """Smallest through largest value of some groups; NaN as for `gap`, and where both are 0."""
    if groups.sum() < 2:
        return np.full(values.shape[:-1], math.nan)
    chosen = values[..., groups]
    with np.errstate(invalid="ignore"):
        return chosen.min(axis=-1) / chosen.max(axis=-1)


def _with_value(values: Floats) -> list[int]:
    """Places of the groups that have a value, in values [S] whose first is that of all images."""
    return (1 + np.flatnonzero(~np.isnan(values[1:]))).tolist()


def _all_move(replicates: Measured, metric: str, own: Measured) -> bool:
    """Whether resampling moves the value of every group that has one."""
    return all(
        np.nanmax(replicates[name][:, place]) > np.nanmin(replicates[name][:, place])
        for name in (("recall", "fpr") if metric == EQUALIZED_ODDS else (metric,))
        for place in _with_value(own[name])
    )


def _over_groups(
    spread: Callable[[Floats, NDArray[np.bool_]], Floats], metric: str, found: Measured, own: Measured, first: int
) -> Floats:
    """A metric's gap or ratio between the groups that have it in the images themselves.

    Args:
        found: of each metric [..., S].
        own: of each metric [S], of the images themselves.
        first: place of the first group in S.
    """
    if metric == EQUALIZED_ODDS:
        of_classes = [_over_groups(spread, m, found, own, first) for m in ("recall", "fpr")]
        return np.maximum(*of_classes)
    groups = ~np.isnan(own[metric][first:])
    return spread(found[metric][..., first:], groups)


def _null(metric: str, own: Measured, chance: Measured) -> Null:
    observed = float(_over_groups(gap, metric, own, own, first=0))
    gaps = _over_groups(gap, metric, chance, own, first=0)
    defined = gaps[~np.isnan(gaps)]
    undefined = len(gaps) - len(defined)
    if math.isnan(observed) or len(defined) == 0:
        return Null(observed, math.nan, math.nan, math.nan, undefined)
    # Equal gaps of other groups may differ by rounding.
    as_large = int((defined >= observed - 1e-12).sum())
    return Null(
        gap=observed,
        mean=float(defined.mean()),
        upper=float(np.quantile(defined, 0.95)),
        p_value=(1 + as_large) / (1 + len(defined)),
        undefined=undefined,
    )
