"""Calibration: P(malignant) that is as often right as it says, fitted on the validation split."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from melfast.io.words import check_words
from melfast.metrics.metrics import checked_probabilities, log_loss
from melfast.models.record import CalibrationName

EPS = 1e-7  # of decode, which takes the same logarithm in float32
SHARPEST, FLATTEST = 0.05, 20.0  # temperatures


@check_words
def fit(name: CalibrationName, y_true: ArrayLike, score: ArrayLike) -> dict[str, Any]:
    """The calibration that fits best, as fields of a ModelRecord.

    Args:
        name: `temperature`: the log-odds divided by one number, that of the least log loss (Guo et
            al. 2017); it changes no order. `isotonic`: the rising steps of least squared error
            (Zadrozny and Elkan 2002), joined by lines; it makes ties, and wants a thousand images.
        y_true: 0 and 1, both present.
        score: P(malignant) before calibration.
    Raises:
        ValueError: values are none of a metric's.
    """
    if name == "none":
        return {"temperature": 1.0, "isotonic": ()}
    malignant, probability = checked_probabilities(y_true, score)
    if name == "temperature":
        odds = logit(probability.clip(EPS, 1 - EPS))

        def loss(log_temperature: float) -> float:
            return log_loss(malignant.astype(int), expit(odds / np.exp(log_temperature)))

        bounds = (np.log(SHARPEST), np.log(FLATTEST))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return {"temperature": float(np.exp(found.x)), "isotonic": ()}
    steps = IsotonicRegression(y_min=0, y_max=1).fit(probability, malignant)
    knots = zip(steps.X_thresholds_.tolist(), steps.y_thresholds_.tolist(), strict=True)
    return {"temperature": 1.0, "isotonic": tuple(knots)}
