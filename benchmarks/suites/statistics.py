"""Suite statistics: bootstrap and permutation of every metric by group, on one core."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Contestant, Run, suite

if TYPE_CHECKING:
    from benchmarks.peers.statistics import Measure
    from melfast.metrics.groups import Groups

# Benign and malignant images of each tone group in the published validation split of ISIC 2020.
SIZES = ((268, 17), (4379, 58), (1569, 46), (209, 16))
REPLICATES = 10_000
LOOP_REPLICATES = 20
CHECKED = 3
MOST_SECONDS = 5
TARGET = 50
THRESHOLD = 0.5


@dataclass(frozen=True)
class Images:
    """Truth, calls and scores of drawn images, and their groups."""

    true: NDArray[np.int64]
    called: NDArray[np.bool_]
    score: NDArray[np.float64]
    groups: "Groups"


@suite("statistics")
def statistics(run: Run) -> None:
    """Replicates/s of every metric over all and by group, beside a loop over scikit-learn."""
    from benchmarks.peers.statistics import bootstrap_loop, measure_leanly, measure_one_by_one, permutation_loop
    from melfast.metrics.bootstrap import bootstrap, permutation_null

    images = draw()
    labels = (images.true, images.called, images.score)
    run.note(f"{len(images.true):,} drawn images in {len(SIZES)} groups; one thread each, whatever --threads says")
    check(run, images)

    def loop(function: Callable[..., list], measure: "Measure") -> Callable[[], int]:  # type: ignore[type-arg]
        arguments = (measure, *labels, images.groups.index, LOOP_REPLICATES)
        return lambda: len(function(*arguments))

    def resample() -> int:
        found = bootstrap(*labels, sensitive_features=images.groups, replicates=REPLICATES)
        return len(found.replicates["auc"])

    def permute() -> int:
        permutation_null(*labels, sensitive_features=images.groups, permutations=REPLICATES)
        return REPLICATES

    for title, mine, peer in (
        ("bootstrap within class and group", resample, bootstrap_loop),
        ("groups permuted within class", permute, permutation_loop),
    ):
        contestants = [
            Contestant("melfast", mine),
            Contestant("scikit-learn, one confusion matrix", loop(peer, measure_leanly), TARGET),
            Contestant("scikit-learn, metric by metric", loop(peer, measure_one_by_one), TARGET),
        ]
        found = run.compare(title, "replicates/s", contestants)
        seconds = float(np.median(found.timings[0].seconds))
        run.note(f"{REPLICATES:,} replicates: {seconds:.2f} s (wanted: under {MOST_SECONDS})")


def draw() -> Images:
    """Scores of a classifier of AUC 0.86 or so, rounded so that some are the same."""
    from melfast.metrics.groups import Groups

    rng = np.random.default_rng(0)
    true = np.concatenate([np.repeat([0, 1], sizes) for sizes in SIZES])
    group = np.repeat(np.arange(len(SIZES)), [sum(sizes) for sizes in SIZES])
    score = np.round(1 / (1 + np.exp(-(1.5 * rng.normal(size=len(true)) + 2.4 * true - 1.5))), 4)
    names = tuple(f"group {g}" for g in range(len(SIZES)))
    return Images(true, score >= THRESHOLD, score, Groups("tone", group, names))


def check(run: Run, images: Images) -> None:
    """The first replicates again, image by image, with scikit-learn."""
    from benchmarks.peers.statistics import measure_leanly, measure_one_by_one
    from melfast.metrics import kernels
    from melfast.metrics.bootstrap import bootstrap
    from melfast.metrics.design import Design, seeds_of

    labels = (images.true, images.called, images.score)
    found = bootstrap(*labels, sensitive_features=images.groups, replicates=CHECKED)
    design = Design.of(*labels, images.groups, None)
    by_score = np.argsort(-images.score, kind="stable")
    times = np.empty(design.strata[-1], np.int32)
    worst = 0.0
    for replicate, seed in enumerate(seeds_of(0, CHECKED)):
        kernels.draw(seed, design.strata, times)
        drawn = np.repeat(by_score, times[design.cluster])
        group = images.groups.index[drawn]
        parts = [drawn, *(drawn[group == g] for g in range(len(SIZES)))]
        for place, part in enumerate(parts):
            for measure in (measure_leanly, measure_one_by_one):
                for name, value in measure(*(of[part] for of in labels)).items():
                    off = abs(found.replicates[name][replicate, place] - value)
                    worst = float(np.maximum(worst, off))  # NaN stays
    run.check("largest difference from scikit-learn on the same draws", worst, at_most=1e-12)
