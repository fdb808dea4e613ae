"""Confidence intervals in closed form: of one metric, of a difference, of the largest difference.

An interval is a function of the critical value (`Estimate.at`), so that a single one, simultaneous
ones and a p-value all follow from one statistic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Ends = tuple[float, float]
NOTHING: Ends = (math.nan, math.nan)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a metric or gap.

    Attributes:
        estimate: the value of the images themselves.
        low, high: NaN where there is none.
        method: how it was found; '' where there is none.
        note: what to doubt about it, in words; '' nothing.
    """

    estimate: float
    low: float
    high: float
    method: str = ""
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """A value, and its interval at every critical value.

    Attributes:
        at: low and high end at a critical value z, as many standard errors.
        df: degrees of freedom of the standard error; infinite: known well.
        method, note: see Interval.
    """

    value: float
    at: Callable[[float], Ends]
    method: str = ""
    df: float = math.inf
    note: str = ""

    def interval(self, level: float = 0.95) -> Interval:
        """The interval that holds the true value in `level` of the samples."""
        low, high = NOTHING if math.isnan(self.value) else self.at(critical(level, self.df))
        return Interval(self.value, low, high, "" if math.isnan(low) else self.method, self.note)


UNDEFINED = Estimate(math.nan, lambda z: NOTHING)


def critical(level: float, df: float = math.inf) -> float:
    """Two-sided critical value of Student's t, or of the normal distribution.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    tail = (1 + level) / 2
    return float(special.ndtri(tail) if math.isinf(df) else stats.t.ppf(tail, df))


def wilson(share: float, images: float, z: float) -> Ends:
    """Wilson's interval (1927) of a share of `images` independent images, whole or not."""
    if not images > 0:
        return NOTHING
    width = z * math.sqrt(share * (1 - share) / images + (z / images) ** 2 / 4)
    centre, scale = share + z**2 / images / 2, 1 + z**2 / images
    return max(0.0, (centre - width) / scale), min(1.0, (centre + width) / scale)


def logit_interval(value: float, error: float, z: float, top: float = 1.0) -> Ends:
    """Interval of a value in 0..top, by a standard error carried over to its log-odds."""
    if not 0 < value < top:
        return NOTHING
    centre, reach = special.logit(value / top), z * error * top / (value * (top - value))
    low, high = special.expit([centre - reach, centre + reach])
    return float(top * low), float(top * high)


def score_interval(value: float, variance: Callable[[float], float], z: float) -> Ends:
    """All x in 0..1 with (x - value)^2 <= z^2 variance(x), by bisection on either side of the value."""
    ends = []
    for edge in (0.0, 1.0):
        inside, outside = value, edge
        for _ in range(60):
            middle = (inside + outside) / 2
            holds = (middle - value) ** 2 <= z**2 * variance(middle)
            inside, outside = (middle, outside) if holds else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def log_interval(value: float, error: float, z: float) -> Ends:
    """Interval of a value above 0, by a standard error carried over to its logarithm."""
    if not value > 0:
        return NOTHING
    factor = math.exp(min(z * error / value, 700.0))
    return value / factor, value * factor


def mover(signs: ArrayLike, estimates: ArrayLike, ends: ArrayLike, correlation: float = 0.0) -> Ends:
    """Interval of a sum or difference of two values from the interval of each (MOVER).

    Newcombe's method 10 (1998) with two shares; Zou and Donner (2008) with any.

    Args:
        signs: factors of the two, such as (1, -1).
        estimates: [2].
        ends: low and high of each [2, 2].
        correlation: of the two estimates.
    """
    factor, value, side = np.asarray(signs, float), np.asarray(estimates, float), np.asarray(ends, float)
    off = factor[:, None] * (side - value[:, None])
    off.sort(axis=1)  # how far below and above each term may lie
    related = correlation * np.sign(factor.prod())
    reach = np.sqrt(np.maximum(0, (off**2).sum(0) + 2 * related * off[0] * off[1]))
    centre = float(factor @ value)
    return centre - float(reach[0]), centre + float(reach[1])


def ratio_interval(numerator: Ends, denominator: Ends, values: Ends) -> Ends:
    """Interval of a ratio of two independent values above 0 (Donner and Zou 2012)."""
    (l1, u1), (l2, u2), (a, b) = numerator, denominator, values
    low_root = (a * b) ** 2 - l1 * u2 * (2 * a - l1) * (2 * b - u2)
    high_root = (a * b) ** 2 - u1 * l2 * (2 * a - u1) * (2 * b - l2)
    low = (a * b - math.sqrt(max(0.0, low_root))) / (u2 * (2 * b - u2)) if u2 != 2 * b else math.nan
    below = l2 * (2 * b - l2)
    high = (a * b + math.sqrt(max(0.0, high_root))) / below if below > 0 else math.inf
    return max(0.0, low), high


def exact_interval(part: int, whole: int, level: float = 0.95) -> Interval:
    """Clopper and Pearson's interval (1934) of a share of independent images; NaN of no image."""
    if whole == 0:
        return Interval(math.nan, *NOTHING)
    left, right = (1 - level) / 2, (1 + level) / 2
    low = special.betaincinv(part, whole - part + 1, left) if part else 0.0
    high = special.betaincinv(part + 1, whole - part, right) if part < whole else 1.0
    return Interval(part / whole, float(low), float(high), "exact")


def pair_statistics(share: Floats, images: Floats) -> Floats:
    """Largest of the score statistics (Miettinen and Nurminen 1985) of all pairs of groups.

    Args:
        share, images: of each group [..., G]; the effective number of images.
    Returns:
        [...], the absolute difference by its standard error where the two groups are alike.
    """
    most = np.zeros(share.shape[:-1])
    for i in range(share.shape[-1]):
        for j in range(i):
            a, b = share[..., i], share[..., j]
            both = images[..., i] + images[..., j]
            pooled = (a * images[..., i] + b * images[..., j]) / both
            spread = pooled * (1 - pooled) * both**2 / (images[..., i] * images[..., j] * np.maximum(both - 1, 1e-9))
            with np.errstate(invalid="ignore", divide="ignore"):
                most = np.fmax(most, np.where(a == b, 0.0, np.abs(a - b) / np.sqrt(spread)))
    return most


def pair_interval(share: Ends, images: Ends, z: float) -> Ends:
    """Miettinen and Nurminen's interval (1985) of the difference of two shares.

    It excludes 0 if and only if the pair's statistic is above z.

    Args:
        share, images: of the two groups.
    """
    (a, b), (m, n) = share, images
    if math.isinf(z):
        return -1.0, 1.0

    def excess(delta: float) -> float:
        p = _restricted(a, b, m, n, delta)
        q = p - delta
        spread = (p * (1 - p) / m + q * (1 - q) / n) * (m + n) / max(m + n - 1, 1e-9)
        return (a - b - delta) ** 2 - z**2 * max(spread, 0.0)

    ends = []
    for edge in (-1.0, 1.0):
        inside, outside = a - b, edge
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if excess(middle) <= 0 else (inside, middle)
        ends.append(inside)
    # Of the two sides of the last step, the one that agrees with the statistic at 0.
    significant = excess(0.0) > 0
    if significant and ends[0] <= 0 <= ends[1]:
        ends = [math.ulp(0), ends[1]] if a > b else [ends[0], -math.ulp(0)]
    elif not significant:
        ends = [min(ends[0], 0.0), max(ends[1], 0.0)]
    return ends[0], ends[1]


def _restricted(a: float, b: float, m: float, n: float, delta: float) -> float:
    """The likeliest first share of two whose difference is `delta`: a root of their cubic."""
    both, hits = m + n, a * m + b * n
    c2 = (m + 2 * n) * delta - both - hits
    c1 = (n * delta - both - 2 * b * n) * delta + hits
    c0 = b * n * delta * (1 - delta)
    third = c2 / (3 * both)
    q = third**3 - c1 * c2 / (6 * both**2) + c0 / (2 * both)
    p = math.copysign(math.sqrt(max(0.0, third**2 - c1 / (3 * both))), q)
    angle = (math.pi + math.acos(min(1.0, max(-1.0, q / p**3)))) / 3 if p else math.pi / 2
    second = 2 * p * math.cos(angle) - third
    return min(1.0, max(0.0, delta, second + delta))


def largest_difference(pairs: list[Ends]) -> Ends:
    """Interval of the largest absolute difference, from simultaneous intervals of all differences."""
    low = max(max(left, -right, 0.0) for left, right in pairs)
    return low, max(max(abs(left), abs(right)) for left, right in pairs)


def p_from(excludes: Callable[[float], bool], df: float = math.inf) -> float:
    """Two-sided p-value: that of the critical value at which an interval comes to hold 0."""
    if not excludes(0.0):
        return 1.0
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excludes(middle) else (low, middle)
    return float(2 * (special.ndtr(-low) if math.isinf(df) else stats.t.sf(low, df)))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values (1979), in the given order; NaN stays and does not count."""
    p = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = p.copy()
    factor = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factor))
    return adjusted
