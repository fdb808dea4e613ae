"""Calibration: P(malignant) that is as often right as it says: fitted, measured, and used to decide."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from melfast.io.words import check_words
from melfast.metrics.intervals import UNDEFINED, Estimate, Interval, log_interval
from melfast.metrics.metrics import checked_probabilities, log_loss, steps
from melfast.metrics.scores import Sample, by_patient, patients_with
from melfast.metrics.shares import Cells
from melfast.models.record import CalibrationName

EPS = 1e-7  # of decode, which takes the same logarithm in float32
SHARPEST, FLATTEST = 0.05, 20.0  # temperatures
LARGEST_OFFSET = 20.0  # of log-odds
BINS, FEWEST_IN_BIN = 10, 20  # of the curve
NEWTON_STEPS = 50
Floats = NDArray[np.float64]


@check_words
def fit(name: CalibrationName, y_true: ArrayLike, score: ArrayLike) -> dict[str, Any]:
    """The calibration that fits best, as fields of a ModelRecord.

    Args:
        name: `temperature`: the log-odds divided by one number, that of the least log loss (Guo et
            al. 2017); it changes no order. `sigmoid`: divided by one number and shifted by another
            (Platt 1999), which undoes another share of malignant images than in training as well.
            `isotonic`: the rising steps of least squared error (Zadrozny and Elkan 2002), joined by
            lines; it makes ties, and wants a thousand images.
        y_true: 0 and 1, both present.
        score: P(malignant) before calibration.
    Raises:
        ValueError: values are none of a metric's.
    """
    none: dict[str, Any] = {"temperature": 1.0, "offset": 0.0, "isotonic": ()}
    if name == "none":
        return none
    malignant, probability = checked_probabilities(y_true, score)
    odds = logit(probability.clip(EPS, 1 - EPS))
    if name == "temperature":

        def loss(log_temperature: float) -> float:
            return log_loss(malignant.astype(int), expit(odds / np.exp(log_temperature)))

        bounds = (np.log(SHARPEST), np.log(FLATTEST))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return none | {"temperature": float(np.exp(found.x))}
    if name == "sigmoid":
        temperature, offset = _platt(malignant, odds)
        return none | {"temperature": temperature, "offset": offset}
    steps = IsotonicRegression(y_min=0, y_max=1).fit(probability, malignant)
    knots = zip(steps.X_thresholds_.tolist(), steps.y_thresholds_.tolist(), strict=True)
    return none | {"isotonic": tuple(knots)}


def _platt(malignant: NDArray[np.bool_], odds: Floats) -> tuple[float, float]:
    """Temperature and offset of the log-odds, of the least log loss.

    Against targets a little inside 0 and 1, as Platt has them, so that it ends where the classes are
    separated.
    """
    count = malignant.sum()
    target = np.where(malignant, (count + 1) / (count + 2), 1 / (len(malignant) - count + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        moved = line[0] * odds + line[1]
        off = expit(moved) - target
        return float((np.logaddexp(0, moved) - target * moved).mean()), np.array([(off * odds).mean(), off.mean()])

    bounds = ((1 / FLATTEST, 1 / SHARPEST), (-LARGEST_OFFSET, LARGEST_OFFSET))
    found = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14})
    slope, offset = found.x
    return float(1 / slope), float(offset)


@dataclass(frozen=True)
class Bin:
    """Images of about the same P(malignant).

    Attributes:
        predicted: their mean P(malignant).
        observed: the share that is malignant, with its interval.
    """

    images: int
    malignant: int
    predicted: float
    observed: Interval


@dataclass(frozen=True)
class Assessment:
    """How far P(malignant) of some images is from what is observed (Van Calster et al. 2019).

    Attributes:
        observed, expected: share of malignant images, and mean P(malignant).
        ratio: observed by expected; 1 is right on average.
        intercept: calibration in the large: what to add to all log-odds; 0 is right.
        slope: by what to multiply the log-odds; 1 is right, less is too sure of itself.
        brier_reference: Brier score of giving every image the observed share.
        curve: bins of equally many images, from the lowest P(malignant) up.
    """

    observed: float
    expected: float
    ratio: Interval
    intercept: Interval
    slope: Interval
    brier_reference: float
    curve: tuple[Bin, ...]


def assess(sample: Sample, level: float = 0.95) -> Assessment:
    """Calibration of the images, of which patients are independent.

    Args:
        sample: with scores.
    """
    assert sample.score is not None
    malignant, probability = sample.malignant, sample.score
    observed, expected = float(malignant.mean()), float(probability.mean())
    ratio = observed / expected if expected > 0 else math.nan
    off = (malignant - ratio * probability) / probability.sum() if expected > 0 else np.zeros(len(malignant))
    error = _error(off[:, None], sample)[0, 0] ** 0.5
    of_ratio = Estimate(ratio, lambda z: log_interval(ratio, error, z), "log")
    odds = logit(probability.clip(EPS, 1 - EPS))
    intercept = _regression(np.ones((len(odds), 1)), odds, sample)
    slope = _regression(np.stack([odds, np.ones(len(odds))], axis=1), np.zeros(len(odds)), sample)
    return Assessment(
        observed,
        expected,
        of_ratio.interval(level),
        intercept.interval(level),
        slope.interval(level),
        observed * (1 - observed),
        _curve(sample, level),
    )


def _regression(columns: Floats, offset: Floats, sample: Sample) -> Estimate:
    """The first coefficient of a logistic regression of the class, its error by the sandwich over patients.

    Undefined where one class is missing or separated from the other.
    """
    malignant = sample.malignant.astype(float)
    if malignant.all() or not malignant.any() or (columns.shape[1] > 1 and np.ptp(columns[:, 0]) == 0):
        return UNDEFINED
    found = np.zeros(columns.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = expit(columns @ found + offset)
        information = (columns * (probability * (1 - probability))[:, None]).T @ columns
        if np.linalg.cond(information) > 1e12:
            return UNDEFINED
        step = np.linalg.solve(information, columns.T @ (malignant - probability))
        found = found + step
        if np.abs(step).max() < 1e-9:
            break
    else:
        return UNDEFINED
    influence = np.linalg.solve(information, (columns * (malignant - probability)[:, None]).T).T
    value, error = float(found[0]), _error(influence, sample)[0, 0] ** 0.5
    return Estimate(value, lambda z: (value - z * error, value + z * error), "sandwich")


def _error(influence: Floats, sample: Sample) -> Floats:
    """Covariance of sums of influences [N, K], over patients."""
    sums = np.stack([by_patient(column, sample.patient) for column in influence.T], axis=1)
    clusters = patients_with(np.ones(len(influence), bool), sample.patient)
    return np.asarray(sums.T @ sums * clusters / max(1, clusters - 1))


def _curve(sample: Sample, level: float) -> tuple[Bin, ...]:
    assert sample.score is not None
    number = max(1, min(BINS, len(sample.score) // FEWEST_IN_BIN))
    found = []
    order = np.argsort(sample.score, kind="stable")
    for rows in np.array_split(order, number):
        part = sample.select(rows)
        assert part.score is not None
        group = np.zeros(len(rows), np.int64)
        share = Cells.of(part.malignant, part.malignant, group, 1, part.patient).share([3], [0, 3])
        observed = share.estimate().interval(level)
        found.append(Bin(len(rows), int(part.malignant.sum()), float(part.score.mean()), observed))
    return tuple(found)


def decision_curve(y_true: ArrayLike, score: ArrayLike, thresholds: ArrayLike) -> dict[str, Floats]:
    """Net benefit per image (Vickers and Elkin 2006) of three ways to decide who is biopsied.

    True positives less false positives, each of which costs threshold / (1 - threshold).

    Args:
        thresholds: on P(malignant) [T], above 0 and below 1.
    Returns:
        [T] of `model`, of `treat_all` and of `treat_none`, which is 0.
    """
    malignant, probability = checked_probabilities(y_true, score)
    limits = np.asarray(thresholds, np.float64)
    if not ((limits > 0) & (limits < 1)).all():
        raise ValueError(f"thresholds must be above 0 and below 1, got {limits.min()} to {limits.max()}")
    step = steps(malignant, probability)
    # Called at a threshold: as many images, from the highest score down, as reach it.
    called = np.searchsorted(-probability[step.order], -limits, side="right")
    tp = np.append(0, np.cumsum(malignant[step.order]))[called]
    cost = limits / (1 - limits)
    images, share = len(malignant), malignant.mean()
    return {
        "model": (tp - (called - tp) * cost) / images,
        "treat_all": share - (1 - share) * cost,
        "treat_none": np.zeros(len(limits)),
    }
