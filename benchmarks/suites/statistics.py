"""Suite statistics: the permutation test of a gap in AUC, and the analysis of a large table."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Contestant, Run, suite

if TYPE_CHECKING:
    from melfast.metrics.scores import Sample

# Benign and malignant images of each tone group in the published validation split of ISIC 2020.
SIZES = ((268, 17), (4379, 58), (1569, 46), (209, 16))
PERMUTATIONS, LOOP_PERMUTATIONS = 10_000, 20
ROWS, REPLICATES = 100_000, 5
THRESHOLD = 0.5
TARGET = 50


@suite("statistics")
def statistics(run: Run) -> None:
    """Permutations/s of the AUC by group, and images/s of a whole analysis, compared with scikit-learn."""
    permutation(run)
    analysis(run)


def permutation(run: Run) -> None:
    """Reassigns whole patients; a loop over scikit-learn does the same without the variances."""
    from benchmarks.peers.statistics import aucs_and_worths, dealt_aucs
    from melfast.metrics.dealing import permuted_aucs

    sample, group = draw(SIZES)
    assert sample.score is not None
    assert sample.patient is not None
    images = (sample.malignant, sample.score, group, sample.patient)
    value, worth = permuted_aucs(sample, group, len(SIZES), permutations=PERMUTATIONS, seed=0)
    own = np.stack([value[0], worth[0]], axis=1)
    run.check(
        "AUC and worth of each group beside NumPy's",
        np.abs(own / aucs_and_worths(sample, group) - 1).max(),
        at_most=1e-9,
    )
    loop = dealt_aucs(*images, 500, np.random.default_rng(0))
    off = np.abs(value[1:].std(axis=0) / loop.std(axis=0) - 1).max()
    run.check("spread of the permuted AUCs beside scikit-learn's", off, at_most=0.15)

    def mine() -> int:
        permuted_aucs(sample, group, len(SIZES), permutations=PERMUTATIONS, seed=0)
        return PERMUTATIONS

    def peer() -> int:
        return len(dealt_aucs(*images, LOOP_PERMUTATIONS, np.random.default_rng(0)))

    run.note(f"{len(group):,} drawn images in {len(SIZES)} groups; melfast takes every core there is")
    contestants = [Contestant("melfast", mine), Contestant("NumPy and scikit-learn, AUC alone", peer, TARGET)]
    run.compare("AUC by group, patients dealt out again", "permutations/s", contestants)


def analysis(run: Run) -> None:
    """Everything in the document of a report; the peer bootstraps three metrics of it."""
    from benchmarks.peers.statistics import analyse_by_bootstrap
    from melfast.metrics.groups import Groups
    from melfast.report.analysis import Images, Model, Settings, analyse

    share = ROWS / sum(map(sum, SIZES))
    sizes = [(round(benign * share), round(malignant * share)) for benign, malignant in SIZES]
    sample, group = draw(sizes)
    assert sample.score is not None
    names = tuple(f"group {g}" for g in range(len(sizes)))
    images = Images([""] * len(group), sample.malignant.astype(np.int64), [Groups("tone", group, names)])
    model = Model("drawn", sample.score, sample.called.astype(np.int64), THRESHOLD, "given")
    whole = (sample.malignant, sample.called, sample.score, group)
    found = analyse(images, [model], Settings(), {})["models"][0]
    wanted = analyse_by_bootstrap(*whole, 1)
    parts = [found["overall"], *(found["groupings"]["tone"]["groups"][name]["metrics"] for name in names)]
    off = [abs(part[m]["value"] - wanted[m][place, 0]) for place, part in enumerate(parts) for m in wanted]
    run.check("largest difference from scikit-learn's AUC, recall and specificity", max(off), at_most=1e-12)

    def mine() -> int:
        analyse(images, [model], Settings(), {})
        return len(group)

    def peer() -> int:
        analyse_by_bootstrap(*whole, REPLICATES)
        return len(group)

    title = f"analysis of {len(group):,} images by {len(sizes)} groups"
    contestants = [
        Contestant("melfast, all metrics, 10,000 permutations", mine),
        Contestant(f"scikit-learn, three metrics, {REPLICATES} bootstrap replicates", peer),
    ]
    run.compare(title, "images/s", contestants)


def draw(sizes: "tuple[tuple[int, int], ...] | list[tuple[int, int]]") -> "tuple[Sample, NDArray[np.int64]]":
    """Scores of a classifier with an AUC of about 0.86, rounded so that there are ties; three images per patient."""
    from melfast.metrics.scores import Sample

    rng = np.random.default_rng(0)
    true = np.concatenate([np.repeat([False, True], of_group) for of_group in sizes])
    group = np.repeat(np.arange(len(sizes)), [sum(of_group) for of_group in sizes])
    score = np.round(1 / (1 + np.exp(-(1.5 * rng.normal(size=len(true)) + 2.4 * true - 1.5))), 4)
    # No patient is in two groups, and some have images of both classes.
    patient = 1_000_000 * group + rng.integers(0, len(true) // 3, len(true))
    patient = np.unique(patient, return_inverse=True)[1]
    return Sample(true, score >= THRESHOLD, score, patient), group
