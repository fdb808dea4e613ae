"""Images laid out for the kernels: sorted by score, listed by group, clustered and stratified."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melfast.metrics import kernels
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import (
    ECE_BINS,
    SCORE_METRICS,
    bin_of,
    checked_calls,
    checked_probabilities,
    log_losses,
    threshold_metrics,
)

Floats = NDArray[np.float64]
# Of each metric [..., S]: over all images, then by group.
Measured = Mapping[str, Floats]

# The acceleration of BCa is a mean over clusters left out one by one: so many are enough.
MOST_LEFT_OUT = 8_000


@dataclass(frozen=True)
class Design:
    """What the kernels need: images as rows in the order of their score, and what is drawn.

    Attributes:
        slices: all images, then each group's.
        cluster: int32 [N], of each row; numbered stratum by stratum.
        strata: int64 [T + 1], the first cluster of each stratum, and the number of clusters.
        with_scores: whether the rows' scores are more than the calls.
    """

    rows: kernels.Rows
    slices: kernels.Slices
    cluster: NDArray[np.int32]
    strata: NDArray[np.int64]
    with_scores: bool

    @staticmethod
    def of(
        y_true: ArrayLike, y_pred: ArrayLike, score: ArrayLike | None, groups: Groups | None, patients: ArrayLike | None
    ) -> "Design":
        """See `bootstrap.bootstrap`."""
        if groups is None:
            groups = Groups("", np.full(np.shape(y_true), -1), ())
        malignant, called, probability = checked_images(y_true, y_pred, score, groups)
        if len(malignant) == 0:
            raise ValueError("there is no image to draw")
        order, rows = rows_by_score(malignant, called, probability)
        index = groups.index[order]
        members = [np.flatnonzero(index == g) for g in range(len(groups.names))]
        slices = [np.arange(len(order)), *members]
        if patients is None:
            cluster = np.arange(len(order))
            stratum = 2 * index + rows.malignant
        else:
            cluster = _patients(np.asarray(patients), malignant.shape)[order]
            stratum = (np.bincount(cluster, weights=rows.malignant) > 0).astype(np.int64)
        _, stratum, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
        place = np.empty(len(stratum), np.int32)
        place[np.argsort(stratum, kind="stable")] = np.arange(len(stratum))
        return Design(
            rows=rows,
            slices=kernels.Slices(np.cumsum([0, *map(len, slices)]), np.concatenate(slices).astype(np.int32)),
            cluster=place[cluster],
            strata=np.append(0, np.cumsum(sizes)).astype(np.int64),
            with_scores=score is not None,
        )

    def replicates(self, number: int, seed: int) -> Measured:
        """Metrics of images drawn again [R, S]."""
        counts, scores = empty_results(number, len(self.slices.start) - 1)
        seeds = seeds_of(seed, number)
        kernels.bootstrap(seeds, self.strata, self.cluster, self.rows, self.slices, counts, scores)
        return by_name(counts, scores, self.with_scores)

    def without(self, *clusters: int) -> Measured:
        """Metrics of all images but those of one cluster, for each given; -1 leaves out none."""
        counts, scores = empty_results(len(clusters), len(self.slices.start) - 1)
        left_out = np.array(clusters, np.int32)
        kernels.leave_out(left_out, self.cluster, self.rows, self.slices, counts, scores)
        return by_name(counts, scores, self.with_scores)

    def leave_out(self) -> tuple[NDArray[np.int64], Measured]:
        """Stratum of each cluster that is left out [J], and the metrics of the others [J, S].

        Where there are very many, they are a sample of the large strata; small ones are whole.
        """
        sizes = np.diff(self.strata)
        most = MOST_LEFT_OUT
        while np.minimum(sizes, most).sum() > MOST_LEFT_OUT:
            most = most * 9 // 10
        rng = np.random.default_rng(0)
        chosen = [
            first + (np.arange(size) if size <= most else rng.choice(size, most, replace=False))
            for first, size in zip(self.strata[:-1], sizes, strict=True)
        ]
        clusters = np.concatenate(chosen)
        stratum = np.searchsorted(self.strata, clusters, side="right") - 1
        return stratum, self.without(*clusters)


def checked_images(
    y_true: ArrayLike, y_pred: ArrayLike, score: ArrayLike | None, groups: Groups
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Malignant, called, and P(malignant), for which the calls stand where there is none."""
    malignant, called = checked_calls(y_true, y_pred)
    _, probability = checked_probabilities(y_true, called if score is None else score)
    if groups.index.shape != malignant.shape:
        raise ValueError(f"there are {len(malignant)} images and {len(groups)} groups")
    return malignant, called, probability


def rows_by_score(
    malignant: NDArray[np.bool_], called: NDArray[np.bool_], probability: Floats
) -> tuple[NDArray[np.int64], kernels.Rows]:
    """The order of the scores, the highest first, and the images in it."""
    order = np.argsort(-probability, kind="stable")
    malignant, called, probability = malignant[order], called[order], probability[order]
    steps = probability[1:] != probability[:-1]
    excess = probability - malignant
    return order, kernels.Rows(
        malignant=malignant.astype(np.uint8),
        called=called.astype(np.uint8),
        tie=np.append(0, np.cumsum(steps)).astype(np.int32)[: len(order)],
        bin=bin_of(probability, np.linspace(0, 1, ECE_BINS + 1)).astype(np.int32),
        excess=excess,
        brier=excess**2,
        log_loss=log_losses(malignant, probability),
    )


def _patients(patients: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """A number for each image's patient; one of its own where it is ''."""
    if patients.shape != shape:
        raise ValueError(f"there are {shape[0]} images and patients of shape {patients.shape}")
    names = patients.astype(str)
    _, number = np.unique(names, return_inverse=True)
    number = np.where(names == "", len(names) + np.arange(len(names)), number)
    return np.unique(number, return_inverse=True)[1]


def seeds_of(seed: int, number: int) -> NDArray[np.uint64]:
    """Seeds of the replicates; the first ones are the same however many there are."""
    return np.random.SeedSequence(seed).generate_state(number, np.uint64).astype(np.uint64)


def empty_results(number: int, num_slices: int) -> tuple[NDArray[np.int64], Floats]:
    """Room for what a kernel finds: counts [R, S, 4] and scores [R, S, 8]."""
    counts = np.empty((number, num_slices, len(kernels.COUNTS)), np.int64)
    return counts, np.empty((number, num_slices, len(kernels.SCORES)))


def by_name(counts: NDArray[np.int64], scores: Floats, with_scores: bool) -> Measured:
    """Metrics by name [..., S]."""
    found = threshold_metrics(counts)
    if with_scores:
        found |= {name: scores[..., kernels.SCORES.index(name)] for name in SCORE_METRICS}
    return found
