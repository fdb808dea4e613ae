"""python benchmarks/simulations.py: how often the tests and intervals of a report are right.

Size and power of the gap test, and coverage of the intervals of recall, AUC, gap and difference of
gaps, for images that are independent and images that are alike within patients. The figures are
in docs/methods/fairness_simulations.md.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from melfast.metrics.compare import gap_difference
from melfast.metrics.gaps import Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.scores import Sample, auc
from melfast.metrics.shares import call_estimates

MALIGNANT = (5, 10, 17, 58, 137)
ALIKE = 0.3  # the intra-class correlation of a patient's images
DESIGNS = {"independent": 1, "2 a patient": 2, "4 a patient": 4}
SPREAD = (0.5, 0.95)  # recalls are drawn from this range, because coverage at a single recall can be lucky
PERMUTATIONS = 999


def patients(images: int, each: int) -> NDArray[np.int64] | None:
    return None if each == 1 else np.arange(images) // each


def normal(rng: np.random.Generator, images: int, each: int, alike: float = ALIKE) -> NDArray[np.float64]:
    """Standard normal numbers, correlated within each patient."""
    if each == 1:
        return rng.normal(size=images)
    place = np.arange(images) // each
    return np.sqrt(alike) * rng.normal(size=place[-1] + 1)[place] + np.sqrt(1 - alike) * rng.normal(size=images)


def calls(rng: np.random.Generator, recall: float, images: int, each: int) -> NDArray[np.bool_]:
    """Calls of malignant images; of one patient's by a beta-binomial distribution."""
    if each == 1:
        return rng.random(images) < recall
    scale = (1 - ALIKE) / ALIKE
    own = rng.beta(recall * scale, (1 - recall) * scale, -(-images // each))
    return rng.random(images) < np.repeat(own, each)[:images]


def groups_of(sizes: Iterable[int]) -> Groups:
    index = np.repeat(np.arange(len(list(sizes))), list(sizes))
    return Groups("g", index, tuple(f"g{g}" for g in range(len(list(sizes)))))


def malignant_sample(called: list[NDArray[np.bool_]], each: int) -> Sample:
    """Only malignant images, one group after the other; no patient is in two groups."""
    joined = np.concatenate(called)
    patient = None
    if each > 1:
        own = [np.arange(len(part)) // each for part in called]
        shift = np.cumsum([0] + [int(part[-1]) + 1 for part in own[:-1]])
        patient = np.concatenate([part + s for part, s in zip(own, shift, strict=True)])
    return Sample(np.ones(len(joined), bool), joined, None, patient)


def rejects(rng: np.random.Generator, recalls: list[float], sizes: list[int], each: int) -> bool:
    sample = malignant_sample([calls(rng, r, n, each) for r, n in zip(recalls, sizes, strict=True)], each)
    gaps = Gaps.of(sample, groups_of(sizes), permutations=PERMUTATIONS, seed=int(rng.integers(2**31)))
    return gaps.of_metric("recall").p_value <= 0.05


def holds_recall(rng: np.random.Generator, images: int, each: int) -> bool:
    recall = rng.uniform(*SPREAD)
    sample = malignant_sample([calls(rng, recall, images, each)], each)
    cells = Gaps.of(sample, groups_of([images]), permutations=1).cells
    interval = call_estimates(cells)["recall"][0].interval()
    return interval.low <= recall <= interval.high


def holds_auc(rng: np.random.Generator, images: int, each: int) -> bool:
    apart, benign = rng.uniform(0.8, 2.2), 300
    true = np.repeat([True, False], [images, benign])
    score = np.append(apart + normal(rng, images, each), normal(rng, benign, each))
    patient = None
    if each > 1:
        patient = np.append(np.arange(images) // each, images + np.arange(benign) // each)
        patient = np.unique(patient, return_inverse=True)[1]
    interval = auc(Sample(true, score > 1, stats.norm.cdf(score), patient)).estimate.interval()
    return bool(interval.low <= stats.norm.cdf(apart / np.sqrt(2)) <= interval.high)


def holds_gap(rng: np.random.Generator, sizes: list[int], each: int) -> bool:
    recalls = rng.uniform(*SPREAD, len(sizes)).tolist()
    sample = malignant_sample([calls(rng, r, n, each) for r, n in zip(recalls, sizes, strict=True)], each)
    gaps = Gaps.of(sample, groups_of(sizes), permutations=PERMUTATIONS, seed=int(rng.integers(2**31)))
    found = gaps.of_metric("recall")
    return found.low <= np.ptp(recalls) <= found.high


def holds_gap_difference(rng: np.random.Generator, sizes: list[int], each: int) -> bool:
    """Two models whose calls for an image have a correlation of about a half."""
    recalls = rng.uniform(*SPREAD, (2, len(sizes)))
    parts = []
    for group, size in enumerate(sizes):
        common = normal(rng, size, each)
        parts.append(
            [
                np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=size) < stats.norm.ppf(recalls[model, group])
                for model in range(2)
            ]
        )
    pair = [malignant_sample([part[model] for part in parts], each) for model in range(2)]
    both = [Gaps.of(sample, groups_of(sizes), permutations=PERMUTATIONS) for sample in pair]
    found = gap_difference("recall", (both[0], both[1]), (pair[0], pair[1]))
    return bool(found.low <= np.ptp(recalls[0]) - np.ptp(recalls[1]) <= found.high)


def rejects_auc(rng: np.random.Generator, apart: list[float], each: int) -> bool:
    """Groups of 50 malignant and 150 benign images; no patient is in two groups."""
    images, scores, patient, shift = [], [], [], 0
    for mean in apart:
        true = np.repeat([True, False], [50, 150])
        scores.append(np.append(mean + normal(rng, 50, each), normal(rng, 150, each)))
        patient.append(shift + np.append(np.arange(50) // each, 50 + np.arange(150) // each))
        shift += 200
        images.append(true)
    true, score = np.concatenate(images), np.concatenate(scores)
    sample = Sample(true, score > 1, score, None if each == 1 else np.concatenate(patient))
    groups = groups_of([200] * len(apart))
    gaps = Gaps.of(sample, groups, permutations=PERMUTATIONS, seed=int(rng.integers(2**31)))
    return gaps.of_metric("auc").p_value <= 0.05


def share(draw: Callable[[np.random.Generator], bool], draws: int) -> str:
    """A fraction in percent, with its standard error."""
    rng = np.random.default_rng(0)
    found = np.mean([draw(rng) for _ in range(draws)])
    return f"{100 * found:.1f} ({100 * np.sqrt(found * (1 - found) / draws):.1f})"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--draws", type=click.IntRange(min=1), default=4000, show_default=True, help="Of each design.")
def main(draws: int) -> None:
    """Prints tables of size, power and coverage, in percent (standard error), as Markdown.

    Gaps of four groups and differences of gaps take longer, so they are simulated a quarter as often.
    """
    tested: dict[str, tuple[list[float], list[int], int]] = {
        "size: two groups of 100": ([0.8, 0.8], [100, 100], 1),
        "size: two groups of 100, 4 images a patient": ([0.8, 0.8], [100, 100], 4),
        "size: 17, 58, 46 and 16": ([0.72] * 4, [17, 58, 46, 16], 1),
        "size: 100, 100 and four groups of 2 to 9": ([0.8] * 6, [100, 100, 2, 4, 6, 9], 1),
        "power: 0.85 against 0.60 of 100 each": ([0.85, 0.6], [100, 100], 1),
        "power: the same with four groups of 2 to 9": ([0.85, 0.6, 0.7, 0.7, 0.7, 0.7], [100, 100, 2, 4, 6, 9], 1),
    }
    click.echo("| gap test | rejected at 5 % |\n|---|---|")
    for name, (recalls, sizes, each) in tested.items():
        found = share(lambda rng, r=recalls, s=sizes, e=each: rejects(rng, r, s, e), draws)
        click.echo(f"| recall, {name} | {found} |")
    for name, apart, each in (
        ("size: three groups of 50 malignant", [1.2] * 3, 1),
        ("size: three groups of 50 malignant, 4 images a patient", [1.2] * 3, 4),
        ("power: AUC 0.90 against 0.76", [1.8, 1.0], 1),
    ):
        found = share(lambda rng, a=apart, e=each: rejects_auc(rng, a, e), draws // 2)
        click.echo(f"| AUC, {name} | {found} |")
    click.echo("\n| 95 % interval of | images |" + "".join(f" {n} |" for n in MALIGNANT) + "\n|---|---|" + "---|" * 5)
    covered: dict[str, tuple[Callable[[np.random.Generator, int, int], bool], int]] = {
        "recall": (holds_recall, draws),
        "AUC": (holds_auc, draws),
        "gap, two groups": (lambda rng, n, e: holds_gap(rng, [n, n], e), draws),
        "gap, four groups": (lambda rng, n, e: holds_gap(rng, [n] * 4, e), draws // 4),
        "difference of gaps, two groups": (lambda rng, n, e: holds_gap_difference(rng, [n, n], e), draws // 4),
        "difference of gaps, four groups": (lambda rng, n, e: holds_gap_difference(rng, [n] * 4, e), draws // 4),
    }
    for name, (holds, times) in covered.items():
        for design, each in DESIGNS.items():
            cells = []
            for images in MALIGNANT:
                # Gaps leave out groups with fewer than ten.
                left_out = images < 10 and "gap" in name
                cells.append("–" if left_out else share(lambda rng, h=holds, n=images, e=each: h(rng, n, e), times))
            click.echo(f"| {name} | {design} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
