"""Compiled loops of the resampling: draw, count, scan; once for each replicate.

Numbers are drawn by splitmix64 (Steele, Lea and Flood 2014), started anew for each replicate from a
seed of its own, so that a replicate is the same whichever come before it.

Images are rows in the order of their score, the highest first. A slice is a list of rows in that
order: all images, or those of one group.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

# Columns of the results of a scan.
COUNTS = ("tn", "fp", "fn", "tp")
SCORES = (
    "auc",
    "average_precision",
    "pauc_80tpr",
    "brier",
    "log_loss",
    "ece",
    "sensitivity_at_90_specificity",
    "specificity_at_90_sensitivity",
)
LEAST_TPR = 0.8  # of pauc_80tpr
LEAST_RATE = 0.9  # of the last two

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
LOW_32 = np.uint64(0xFFFFFFFF)


class Rows(NamedTuple):
    """What is known of each image [N], in the order of the scores, the highest first.

    Attributes:
        malignant, called: uint8, 0 or 1.
        tie: int32, ascending; the same for images of one score.
        bin: int32, descending; the bin of the calibration error.
        excess: float64, P(malignant) less the class.
        brier, log_loss: float64, the image's own.
    """

    malignant: NDArray[np.uint8]
    called: NDArray[np.uint8]
    tie: NDArray[np.int32]
    bin: NDArray[np.int32]
    excess: NDArray[np.float64]
    brier: NDArray[np.float64]
    log_loss: NDArray[np.float64]


class Slices(NamedTuple):
    """Lists of rows, one after the other.

    Attributes:
        start: int64 [S + 1], where each slice begins in `row`.
        row: int32, ascending in each slice.
    """

    start: NDArray[np.int64]
    row: NDArray[np.int32]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled when first called, and kept on disk where a folder can be written."""
    try:
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(function, nogil=True, error_model="numpy")


@compiled
def _mix(state: Any) -> Any:
    """64 random bits of a state of splitmix64."""
    z = (state ^ (state >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@compiled
def draw(seed: Any, strata: Any, drawn: Any) -> None:
    """Draws from each stratum, with replacement, as many clusters as it has.

    32 random bits are scaled to the size n of the stratum (Lemire 2019): no cluster is more
    probable than another by more than a part in 2^32 / n.

    Args:
        strata: int64 [T + 1], the first cluster of each stratum, and the number of clusters.
        drawn: int32 [clusters], receives how often each was drawn.
    """
    state = seed
    drawn[:] = 0
    for stratum in range(len(strata) - 1):
        first = strata[stratum]
        size = strata[stratum + 1] - first
        scale = np.uint64(size)
        for _ in range(size // 2):
            state += GOLDEN
            bits = _mix(state)
            drawn[first + np.int64(((bits >> np.uint64(32)) * scale) >> np.uint64(32))] += 1
            drawn[first + np.int64(((bits & LOW_32) * scale) >> np.uint64(32))] += 1
        if size % 2:
            state += GOLDEN
            drawn[first + np.int64(((_mix(state) >> np.uint64(32)) * scale) >> np.uint64(32))] += 1


@compiled
def shuffle(seed: Any, classes: Any, rows: Any, group: Any) -> None:
    """Permutes the groups of the images of each class (Fisher and Yates), in place.

    Args:
        classes: int64 [C + 1], where each class begins in `rows`.
        rows: int32, the images of one class after those of another.
        group: of each image.
    """
    state = seed
    for c in range(len(classes) - 1):
        first = classes[c]
        for left in range(classes[c + 1] - first, 1, -1):
            state += GOLDEN
            pick = np.int64(((_mix(state) >> np.uint64(32)) * np.uint64(left)) >> np.uint64(32))
            a, b = rows[first + pick], rows[first + left - 1]
            group[a], group[b] = group[b], group[a]


@compiled
def _least(images: Any) -> Any:
    """The fewest of so many images that are a share of LEAST_RATE; divided, as in the metrics."""
    least = np.int64(images * LEAST_RATE)
    while least and (least - 1) / images >= LEAST_RATE:
        least -= 1
    while least / images < LEAST_RATE:
        least += 1
    return least


@compiled
def scan(rows: Any, row_list: Any, weight: Any, counts: Any, scores: Any) -> None:
    """Measures one slice, each image counted `weight` times.

    Args:
        row_list: the slice's rows, ascending.
        weight: int32 [N].
        counts: int64 [4], receives COUNTS.
        scores: float64 [8], receives SCORES; NaN where one is undefined.
    """
    counts[:] = 0
    brier = log_loss = 0.0
    for row in row_list:
        w = weight[row]
        counts[2 * rows.malignant[row] + rows.called[row]] += w
        brier += w * rows.brier[row]
        log_loss += w * rows.log_loss[row]
    num_benign, num_malignant = counts[0] + counts[1], counts[2] + counts[3]
    images = num_benign + num_malignant
    scores[:] = np.nan
    if images == 0:
        return
    above = precisions = area = error = excess = 0.0
    least_tn, least_tp = _least(num_benign), _least(num_malignant)
    tp = fp = tied_malignant = tied_benign = most_tp = most_tn = 0
    last = len(row_list) - 1
    for i in range(len(row_list)):
        row = row_list[i]
        w = weight[row]
        excess += w * rows.excess[row]
        if rows.malignant[row]:
            tied_malignant += w
        else:
            tied_benign += w
        if i == last or rows.bin[row_list[i + 1]] != rows.bin[row]:
            error += abs(excess)
            excess = 0.0
        if i < last and rows.tie[row_list[i + 1]] == rows.tie[row]:
            continue
        # The end of a run of equal scores: one step along the ROC curve.
        above += tied_benign * (tp + 0.5 * tied_malignant)
        if tied_malignant:
            new_tp, new_fp = tp + tied_malignant, fp + tied_benign
            precisions += tied_malignant * (new_tp / (new_tp + new_fp))
            if num_benign - new_fp >= least_tn:
                most_tp = new_tp
            if tp < least_tp <= new_tp:
                most_tn = num_benign - new_fp
            low, high = max(tp / num_malignant, LEAST_TPR), new_tp / num_malignant
            if high > low and num_benign:
                slope = tied_benign / tied_malignant
                at_low = fp + (low * num_malignant - tp) * slope
                area += (high - low) * (1 - (at_low + new_fp) / (2 * num_benign))
        tp += tied_malignant
        fp += tied_benign
        tied_malignant = tied_benign = 0
    if num_malignant and num_benign:
        scores[0] = above / (num_malignant * num_benign)
        scores[2] = area
        scores[6] = most_tp / num_malignant
        scores[7] = most_tn / num_benign
    if num_malignant:
        scores[1] = precisions / num_malignant
    scores[3] = brier / images
    scores[4] = log_loss / images
    scores[5] = error / images


@compiled
def _scan_all(rows: Any, slices: Any, weight: Any, counts: Any, scores: Any) -> None:
    for s in range(len(slices.start) - 1):
        row_list = slices.row[slices.start[s] : slices.start[s + 1]]
        scan(rows, row_list, weight, counts[s], scores[s])


@compiled
def bootstrap(seeds: Any, strata: Any, cluster: Any, rows: Any, slices: Any, counts: Any, scores: Any) -> None:
    """Measures replicates: clusters of images drawn with replacement from each stratum.

    Args:
        seeds: uint64 [R].
        strata: see `draw`.
        cluster: int32 [N], the cluster that each row is in.
        counts: int64 [R, S, 4].
        scores: float64 [R, S, 8].
    """
    drawn = np.empty(strata[-1], np.int32)
    weight = np.empty(len(cluster), np.int32)
    for r in range(len(seeds)):
        draw(seeds[r], strata, drawn)
        for row in range(len(cluster)):
            weight[row] = drawn[cluster[row]]
        _scan_all(rows, slices, weight, counts[r], scores[r])


@compiled
def leave_out(left_out: Any, cluster: Any, rows: Any, slices: Any, counts: Any, scores: Any) -> None:
    """Measures all images but those of one cluster; -1 leaves out none.

    Args:
        left_out: int32 [R], a cluster each.
        cluster, counts, scores: see `bootstrap`.
    """
    weight = np.empty(len(cluster), np.int32)
    for r in range(len(left_out)):
        for row in range(len(cluster)):
            weight[row] = cluster[row] != left_out[r]
        _scan_all(rows, slices, weight, counts[r], scores[r])


@compiled
def permutation(seeds: Any, classes: Any, class_rows: Any, group: Any, rows: Any, counts: Any, scores: Any) -> None:
    """Measures the groups with the images' groups permuted within each class.

    Args:
        seeds: uint64 [R].
        classes, class_rows: see `shuffle`.
        group: int32 [N], 0..S-1.
        counts: int64 [R, S, 4].
        scores: float64 [R, S, 8].
    """
    num_groups = counts.shape[1]
    shuffled = group.copy()
    weight = np.ones(len(group), np.int32)
    start = np.zeros(num_groups + 1, np.int64)
    for g in group:
        start[g + 1] += 1
    start = np.cumsum(start)
    row = np.empty(len(group), np.int32)
    for r in range(len(seeds)):
        shuffled[:] = group
        shuffle(seeds[r], classes, class_rows, shuffled)
        end = start.copy()
        for i in range(len(group)):
            row[end[shuffled[i]]] = i
            end[shuffled[i]] += 1
        _scan_all(rows, Slices(start, row), weight, counts[r], scores[r])
