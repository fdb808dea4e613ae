"""Compiled loops: the AUC of each group with whole patients permuted among the groups.

Each permutation has a generator of its own, seeded by its number: results do not depend on how many
threads share the work. Importing this module loads numba; compiled code is cached on disk.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from melfast.data.loader import available_cores
from melfast.metrics.scores import PRIOR_FREEDOM, USUAL_CORRELATION, Sample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
MOST_CELLS = (300, 1000)  # cells of a group that are permuted: with a malignant image, and without
# SplitMix64 (Steele, Lea and Flood 2014).
STEP, FIRST, SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
S27, S30, S31, S32 = (np.uint64(n) for n in (27, 30, 31, 32))


@compiled
def _below(state, number):  # type: ignore[no-untyped-def]
    """A whole number in 0..number - 1; moves the state [1] on."""
    state[0] += STEP
    x = state[0]
    x = (x ^ (x >> S30)) * FIRST
    x = (x ^ (x >> S27)) * SECOND
    x ^= x >> S31
    return np.int64(((x >> S32) * np.uint64(number)) >> S32)


@compiled
def _deal(state, group, edges):  # type: ignore[no-untyped-def]
    """Shuffles groups [C] within each stratum (Fisher and Yates)."""
    for stratum in range(len(edges) - 1):
        first = edges[stratum]
        for last in range(edges[stratum + 1] - 1, first, -1):
            other = first + _below(state, last - first + 1)
            group[last], group[other] = group[other], group[last]


@compiled
def _aucs(images_of, group, loads, prior, found):  # type: ignore[no-untyped-def]
    """AUC and effective number of images of each group, as of `scores.auc`.

    Args:
        images_of: class and cell of each image, the highest score first [N], and one past the last
            image of each run of equal scores.
        group: of each cell [C].
        loads: what each cell adds to the variance of a share of its benign, malignant images [C, 2].
        prior: degrees of freedom of the variance predicted from the AUC.
        found: AUC and effective number of each group [2, G].
    """
    malignant, cell, ends = images_of
    value, worth = found
    groups = len(value)
    images, load, cells = np.zeros((groups, 2)), np.zeros((groups, 2)), np.zeros((groups, 2))
    for c in range(len(group)):
        for kind in range(2):
            if loads[c, kind] > 0:
                load[group[c], kind] += loads[c, kind]
                cells[group[c], kind] += 1
    for i in range(len(cell)):
        images[group[cell[i]], malignant[i]] += 1
    # The share of the other class that each image is ranked right against, ties counting half.
    placed, above = np.empty(len(cell)), np.zeros((groups, 2))
    value[:] = 0
    first = 0
    for end in ends:
        for i in range(first, end):
            above[group[cell[i]], malignant[i]] += 0.5
        for i in range(first, end):
            g = group[cell[i]]
            if malignant[i]:
                placed[i] = 1 - above[g, 0] / images[g, 0]
                value[g] += placed[i] / images[g, 1]
            else:
                placed[i] = above[g, 1] / images[g, 1]
        for i in range(first, end):
            above[group[cell[i]], malignant[i]] += 0.5
        first = end
    sums = np.zeros((len(group), 2))
    for i in range(len(cell)):
        sums[cell[i], malignant[i]] += placed[i] - value[group[cell[i]]]
    of_class, of_both = np.zeros((groups, 2)), np.zeros(groups)
    for c in range(len(group)):
        g, both = group[c], 0.0
        for kind in range(2):
            if loads[c, kind] > 0 and cells[g, kind] > 1:
                part = sums[c, kind] / images[g, kind] * np.sqrt(cells[g, kind] / (cells[g, kind] - 1))
                of_class[g, kind] += part**2
                both += part
        of_both[g] += both**2
    for g in range(groups):
        x, n, m = value[g], images[g, 0] ** 2 / max(1.0, load[g, 0]), images[g, 1] ** 2 / max(1.0, load[g, 1])
        per_share = (1 + (n - 1) * x / (1 + x) + (m - 1) * (1 - x) / (2 - x)) / (m * n)
        factor, seen = 1.0, of_class[g].sum()
        if min(cells[g, 0], cells[g, 1]) > 1 and 0 < x < 1 and seen > 0:
            freedom = seen**2 / (of_class[g, 0] ** 2 / (cells[g, 0] - 1) + of_class[g, 1] ** 2 / (cells[g, 1] - 1))
            factor = (prior + freedom * of_both[g] / (x * (1 - x) * per_share)) / (prior + freedom)
        worth[g] = 1 / (factor * per_share)


@compiled
def _permute(seed, images, group, edges, loads, prior, found):  # type: ignore[no-untyped-def]
    """Permutations number seed.. of as many as `found` has rows [B, 2, G]."""
    state = np.empty(1, np.uint64)
    for b in range(len(found)):
        state[0] = np.uint64(seed + b)
        _below(state, 2)
        state[0] ^= state[0] >> S31  # the seeds lie one apart, their states far
        state[0] *= FIRST
        dealt = group.copy()
        _deal(state, dealt, edges)
        _aucs(images, dealt, loads, prior, found[b])


def cells_of(sample: Sample, group: Ints) -> Ints:
    """A number for each image's cell [N]: a patient's images of one group; an image alone if patients are unknown."""
    if sample.patient is None:
        return np.arange(len(group))
    return np.unique(sample.patient * (int(group.max(initial=0)) + 1) + group, return_inverse=True)[1]


def part_of(sample: Sample, group: Ints, rng: np.random.Generator) -> Ints:
    """Rows of a random part of each group: at most MOST_CELLS cells with a malignant image, and without one.

    With so many the studentised difference of two AUCs is distributed as with all, but for its scale.
    """
    cell = cells_of(sample, group)
    kind = np.zeros(int(cell.max()) + 1, np.int64)
    kind[cell] = 2 * group
    kind[cell[sample.malignant]] += 1
    order = rng.permutation(len(kind))
    order = order[np.argsort(kind[order], kind="stable")]
    sizes = np.bincount(kind)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its kind
    kept = np.empty(len(order), np.bool_)
    kept[order] = place < np.where(kind[order] % 2, *MOST_CELLS)
    return np.flatnonzero(kept[cell])


def permuted_aucs(
    sample: Sample, group: Ints, num_groups: int, *, permutations: int, seed: int
) -> tuple[Floats, Floats]:
    """AUC and effective number of images of each group, as observed and with the groups permuted.

    A cell, a patient's images of one group, stays whole. Cells are permuted within their
    kind: with only malignant images, only benign ones, or both. Every group keeps its number of
    each kind.

    Args:
        sample: with scores.
        group: of each image, 0..num_groups - 1 [N]; each has images of both classes.
    Returns:
        AUC and effective number (`scores.Auc`), [1 + permutations, G] each; the first as observed.
    """
    assert sample.score is not None
    cell = cells_of(sample, group)
    counts = np.bincount(2 * cell + sample.malignant, minlength=2 * int(cell.max() + 1)).reshape(-1, 2)
    kind = (counts > 0) @ np.array([1, 2])
    order = np.argsort(kind, kind="stable")  # cells of one kind side by side
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    edges = np.append(0, np.cumsum(np.bincount(kind, minlength=4)))
    of_cell = np.empty(len(order), np.int64)
    of_cell[place[cell]] = group
    loads = (counts * (1 + np.maximum(counts - 1, 0) * USUAL_CORRELATION))[order].astype(np.float64)
    by_score = np.argsort(-sample.score, kind="stable")
    ordered = sample.score[by_score]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    images = (sample.malignant[by_score].astype(np.int64), place[cell][by_score], ends)
    found = np.empty((1 + permutations, 2, num_groups))
    _aucs(images, of_cell, loads, PRIOR_FREEDOM, found[0])
    threads = available_cores()
    step = max(1, -(-permutations // (4 * threads)))

    def part(first: int) -> None:
        rows = found[1 + first : 1 + min(first + step, permutations)]
        _permute(seed * 1_000_003 + first, images, of_cell, edges, loads, PRIOR_FREEDOM, rows)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(0, permutations, step)))
    return found[:, 0], found[:, 1]
