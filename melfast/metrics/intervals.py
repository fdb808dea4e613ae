"""Confidence intervals of replicates, and of a share of images by itself."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a metric or gap.

    Attributes:
        estimate: the value of the images themselves.
        low, high: NaN where the estimate is undefined; where the two are the same, for resampling
            15 hits of 15 cannot say how sure a recall of 1 is (see `exact_interval`); and where
            they do not hold the estimate. Nearly all replicates lie on one side of it then, as they
            do for the gap between many small groups.
        undefined: replicates in which the metric is undefined; the interval is of the others.
    """

    estimate: float
    low: float
    high: float
    undefined: int


def percentile_interval(estimate: float, replicates: Floats, level: float = 0.95) -> Interval:
    """From quantile to quantile of the replicates; see Interval for where it is NaN."""
    return _quantiles(estimate, replicates, _tails(level))


def bca_interval(estimate: float, replicates: Floats, accelerated: float, level: float = 0.95) -> Interval:
    """Bias-corrected and accelerated (Efron 1987): quantiles that allow for bias and skew.

    Args:
        accelerated: see `acceleration`.
    """
    defined = replicates[~np.isnan(replicates)]
    if len(defined) == 0:
        return _quantiles(estimate, replicates, np.array([0.0, 1.0]))
    # Replicates equal to the estimate count half, as SciPy does.
    below = ((defined < estimate).mean() + (defined <= estimate).mean()) / 2
    bias = special.ndtri(below)
    with np.errstate(invalid="ignore"):  # all replicates on one side: infinite, and NaN then
        z = bias + special.ndtri(_tails(level))
        places = special.ndtr(bias + z / (1 - accelerated * z))
    return _quantiles(estimate, replicates, places)


def acceleration(left_out: Floats, stratum: NDArray[np.int64], strata: NDArray[np.int64]) -> float:
    """How fast a statistic's spread grows with it, for BCa; 0 where nothing moves it.

    For strata as SciPy's bootstrap has it (Davison and Hinkley 1997): of each cluster's influence l
    and the n clusters in its stratum, sum(l^3 / n^3) / (6 sum(l^2 / n^2)^1.5).

    Args:
        left_out: [J], the statistic without each cluster, NaN where it is undefined then.
        stratum: [J], each cluster's.
        strata: [T], the clusters in each stratum; J may be a sample of them.
    """
    cubes = squares = 0.0
    for t, clusters in enumerate(strata):
        values = left_out[(stratum == t) & ~np.isnan(left_out)]
        if clusters < 2 or len(values) == 0:
            continue
        influence = (clusters - 1) * (values.mean() - values)
        sampled = clusters / len(values)
        cubes += sampled * (influence**3).sum() / clusters**3
        squares += sampled * (influence**2).sum() / clusters**2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def exact_interval(part: int, whole: int, level: float = 0.95, *, independent: float | None = None) -> Interval:
    """Clopper and Pearson's interval (1934) of a share of images; NaN of no image.

    It holds where the bootstrap says nothing: 15 of 15.

    Args:
        independent: as many independent images as these are worth (`independent_images`), of
            which the same share is taken (Korn and Graubard 1998); None: each is independent.
    """
    if whole == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    left, right = _tails(level)
    size = whole if independent is None else independent
    hits, misses = size * part / whole, size * (whole - part) / whole
    low = special.betaincinv(hits, misses + 1, left) if part else 0.0
    high = special.betaincinv(hits + 1, misses, right) if part < whole else 1.0
    return Interval(part / whole, float(low), float(high), 0)


def independent_images(patients: NDArray[np.str_]) -> float:
    """How many independent images some are worth where all images of a patient are alike.

    The worst case, for what they share is not to be measured where all are right: (sum n)^2 /
    sum n^2 with n images of each patient (Kish 1965), which is the number of patients where all
    have as many.

    Args:
        patients: of each image [N], N > 0; '' unknown, a patient of its own.
    """
    sizes = np.unique(patients[patients != ""], return_counts=True)[1]
    alone = int((patients == "").sum())
    return float(len(patients) ** 2 / ((sizes**2).sum() + alone))


def _tails(level: float) -> Floats:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return np.array([1 - level, 1 + level]) / 2


def _quantiles(estimate: float, replicates: Floats, places: Floats) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    undefined = len(replicates) - len(defined)
    nothing = Interval(estimate, math.nan, math.nan, undefined)
    if len(defined) == 0 or math.isnan(estimate) or np.isnan(places).any():
        return nothing
    low, high = np.quantile(defined, places)
    holds = low - 1e-12 <= estimate <= high + 1e-12  # rounding aside
    return Interval(estimate, float(low), float(high), undefined) if low < high and holds else nothing
