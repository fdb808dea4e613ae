"""How sure metrics of P(malignant) are: linearised variances, over patients where they are known.

The influence of an image is the change of a metric by its weight; a metric varies as the sum of the
influences of independent patients does (the infinitesimal jackknife: Efron 1982). For the AUC these
are DeLong's components (1988), and summed by patient Obuchowski's (1997).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melfast.metrics.intervals import UNDEFINED, Ends, Estimate, log_interval, logit_interval, score_interval, wilson
from melfast.metrics.metrics import (
    ECE_BINS,
    SCORE_METRICS,
    SHARES,
    bin_of,
    log_losses,
    placements,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    steps,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
USUAL_CORRELATION = 0.3  # of the placements of two images of one patient: less than of their calls
PRIOR_FREEDOM = 5.0  # of the variance of the AUC by its value and the number of images alone
TOP = {"pauc_80tpr": 0.2}  # values of which others than 1 are perfect


@dataclass(frozen=True)
class Sample:
    """Images of known class with the answers of one model.

    Attributes:
        malignant, called: bool [N].
        score: P(malignant) [N]; None: calls are all there is.
        patient: a number for each image's patient [N]; None: each image is one of its own.
    """

    malignant: Bools
    called: Bools
    score: Floats | None
    patient: Ints | None = None

    def select(self, rows: Bools | Ints) -> "Sample":
        score = None if self.score is None else self.score[rows]
        patient = None if self.patient is None else self.patient[rows]
        return Sample(self.malignant[rows], self.called[rows], score, patient)


def by_patient(values: Floats, patient: Ints | None) -> Floats:
    """Sums of the images of each patient; of numbers that are not used 0."""
    return values if patient is None else np.bincount(patient, weights=values).astype(np.float64)


def patients_with(images: Bools, patient: Ints | None) -> int:
    """How many patients have one of these images; each image is one where they are unknown."""
    return int(images.sum()) if patient is None else int(np.count_nonzero(np.bincount(patient[images])))


def worth_of(images: Bools, patient: Ints | None, correlation: float = USUAL_CORRELATION) -> float:
    """Effective number of the images, with a given correlation between images of one patient."""
    if patient is None:
        return float(images.sum())
    sizes = np.bincount(patient[images]).astype(float)
    return float(images.sum() ** 2 / max(1.0, (sizes * (1 + np.maximum(sizes - 1, 0) * correlation)).sum()))


@dataclass(frozen=True)
class Auc:
    """An AUC and its effective number of images.

    Attributes:
        worth: number of independent images whose share would have the same variance: A (1 - A) / variance.
    """

    estimate: Estimate
    worth: float


def auc(sample: Sample) -> Auc:
    """AUC with a score interval: it solves (x - AUC)^2 = z^2 variance(x), as Wilson's of a share.

    The variance is that of Hanley and McNeil (1982) at x (Newcombe 2006), times what DeLong's
    variance of these images, summed by patient, is of it. Of few malignant images DeLong's says
    little, and nothing where none is out of order: the factor is that of so many degrees of freedom
    as the images have and 1 of PRIOR_FREEDOM more.
    """
    malignant, score, patient = sample.malignant, sample.score, sample.patient
    counts = int(malignant.sum()), int((~malignant).sum())
    if score is None or min(counts) == 0:
        return Auc(UNDEFINED, math.nan)
    placed = placements(malignant, score)
    value = float(placed[malignant].mean())
    m, n = worth_of(malignant, patient), worth_of(~malignant, patient)

    def per_share(x: float) -> float:
        """Variance by x (1 - x)."""
        return (1 + (n - 1) * x / (1 + x) + (m - 1) * (1 - x) / (2 - x)) / (m * n)

    factor = 1.0
    clusters = [patients_with(malignant == c, patient) for c in (True, False)]
    if min(clusters) > 1 and 0 < value < 1:
        parts = [
            np.where(chosen, placed - value, 0) / number * math.sqrt(cluster / (cluster - 1))
            for chosen, number, cluster in zip((malignant, ~malignant), counts, clusters, strict=True)
        ]
        of_class = [float((by_patient(part, patient) ** 2).sum()) for part in parts]
        variance = float((by_patient(parts[0] + parts[1], patient) ** 2).sum())
        if sum(of_class) > 0:
            freedom = sum(of_class) ** 2 / sum(v**2 / (c - 1) for v, c in zip(of_class, clusters, strict=True))
            seen = variance / (value * (1 - value) * per_share(value))
            factor = (PRIOR_FREEDOM + freedom * seen) / (PRIOR_FREEDOM + freedom)

    def at(z: float) -> Ends:
        return score_interval(value, lambda x: factor * x * (1 - x) * per_share(x), z)

    kinds = zip(counts, ("malignant", "benign"), strict=True)
    few = " and ".join(f"{count} {kind} image{'s' * (count > 1)}" for count, kind in kinds if count < 3)
    note = few or ("no image is out of order" if value in (0.0, 1.0) else "")
    return Auc(Estimate(value, at, "score", note=note), 1 / (factor * per_share(value)))


def influence(metric: str, sample: Sample) -> Floats:
    """Influence of each image on a metric [N]; their sums by patient, squared, add to its variance."""
    malignant, called, score = sample.malignant, sample.called, sample.score
    images = len(malignant)
    if metric == "balanced_accuracy":
        return (influence("recall", sample) + influence("specificity", sample)) / 2
    if metric == "f1":
        part, whole = 2.0 * (malignant & called), 1.0 * malignant + called
        return (part - part.sum() / whole.sum() * whole) / whole.sum()
    if metric in SHARES:
        kind = 2 * malignant + called
        hit, inside = (np.isin(kind, cells).astype(float) for cells in SHARES[metric])
        return inside * (hit - hit.sum() / inside.sum()) / inside.sum()
    assert score is not None
    if metric == "auc":
        placed = placements(malignant, score)
        off = placed - placed[malignant].mean()
        return np.where(malignant, off / malignant.sum(), off / (~malignant).sum())
    if metric == "average_precision":
        return _of_average_precision(malignant, score)
    if metric == "pauc_80tpr":
        return _of_pauc(malignant, score)
    if metric == "ece":
        excess = score - malignant
        place = bin_of(score, np.linspace(0, 1, ECE_BINS + 1))
        sign = np.sign(np.bincount(place, weights=excess, minlength=ECE_BINS))[place]
        return (sign * excess - np.mean(sign * excess)) / images
    own = (score - malignant) ** 2 if metric == "brier" else log_losses(malignant, score)
    return (own - own.mean()) / images


def _of_average_precision(malignant: Bools, score: Floats) -> Floats:
    step = steps(malignant, score)
    sizes, called = np.diff(step.last, prepend=-1), step.last + 1
    risen = np.diff(step.tp, prepend=0)
    value = float((step.tp / called) @ risen) / step.tp[-1]
    # An image moves the precision at its own step and at all below.
    gain, loss = (np.cumsum((risen * term)[::-1])[::-1] for term in (1 / called, step.tp / called**2))
    gain, loss, own = (np.repeat(term, sizes) for term in (gain, loss, step.tp / called - value))
    found = np.empty(len(score))
    found[step.order] = (malignant[step.order] * (own + gain) - loss) / step.tp[-1]
    return found


def _of_pauc(malignant: Bools, score: Floats) -> Floats:
    """A mean of trimmed placements: those of the lowest fifth of the malignant images."""
    placed = placements(malignant, score)
    values = np.sort(placed[malignant])
    edge = values[max(0, math.ceil(TOP["pauc_80tpr"] * len(values)) - 1)]
    trimmed = np.minimum(placed - edge, 0)
    lowest = np.sort(score[malignant])[: max(1, round(TOP["pauc_80tpr"] * len(values)))]
    above = TOP["pauc_80tpr"] * (1 - np.searchsorted(lowest, score, side="right") / len(lowest))
    own = np.where(malignant, trimmed - trimmed[malignant].mean(), above - above[~malignant].mean())
    return own / np.where(malignant, malignant.sum(), (~malignant).sum())


def estimates(sample: Sample) -> dict[str, Estimate]:
    """Every metric of SCORE_METRICS, undefined ones too; none where there are no scores."""
    score = sample.score
    if score is None:
        return {}
    found = {}
    for name, metric in SCORE_METRICS.items():
        value = float(metric(sample.malignant, score))
        if math.isnan(value):
            found[name] = UNDEFINED
        elif name == "auc":
            found[name] = auc(sample).estimate
        elif "_at_" in name:
            found[name] = _at_another_threshold(name, value, sample)
        else:
            found[name] = _linearised(name, value, sample)
    return found


def _linearised(name: str, value: float, sample: Sample) -> Estimate:
    sums = by_patient(influence(name, sample), sample.patient)
    clusters = (
        len(sums) if sample.patient is None else patients_with(np.ones(len(sample.malignant), bool), sample.patient)
    )
    top = TOP.get(name, 1.0)
    if clusters < 2 or not value > 0 or (name in ("average_precision", *TOP) and value >= top):
        return Estimate(value, lambda z: (math.nan, math.nan), note="no spread to learn from")
    error = math.sqrt(float((sums**2).sum()) * clusters / (clusters - 1))
    if name in ("average_precision", *TOP):
        positive = patients_with(sample.malignant, sample.patient)
        df = max(1.0, positive - 1)
        return Estimate(value, lambda z: logit_interval(value, error, z, top), "logit", df)
    return Estimate(value, lambda z: log_interval(value, error, z), "log", float(clusters - 1))


def _at_another_threshold(name: str, value: float, sample: Sample) -> Estimate:
    """A rate at a threshold that was set on the same images by the other class.

    To its own variance comes that of the threshold: the change of the rate over a standard error
    of the other class's.
    """
    assert sample.score is not None
    of_malignant = name.startswith("sensitivity")
    rate: Callable[..., float] = sensitivity_at_specificity if of_malignant else specificity_at_sensitivity
    mine = sample.malignant == of_malignant
    worth, other = worth_of(mine, sample.patient), worth_of(~mine, sample.patient)
    reach = math.sqrt(0.9 * 0.1 / other)
    high, low = (rate(sample.malignant, sample.score, min(1.0, max(0.0, 0.9 + side))) for side in (-reach, reach))
    variance = value * (1 - value) / worth + ((high - low) / 2) ** 2
    images = value * (1 - value) / variance if 0 < value < 1 else worth

    def at(z: float) -> Ends:
        return wilson(value, images, z)

    return Estimate(value, at, "wilson")
