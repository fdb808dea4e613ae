"""Analysis: how good, for whom, how sure; all numbers of a report, as one JSON document.

The page and the tables of a report show what stands in this document and nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import melfast
from melfast.metrics import compare, fairness
from melfast.metrics.bootstrap import EQUALIZED_ODDS, OVERALL, Bootstrap, IntervalMethod, bootstrap, permutation_null
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import Interval, exact_interval, independent_images
from melfast.metrics.metrics import (
    SCORE_METRICS,
    THRESHOLD_METRICS,
    confusion,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)

SCHEMA = "melfast-report/1"
# Gaps of these are shown with their null; the others' rates by group stand beside them.
GAP_METRICS = ("recall", "fpr", "selection_rate", "balanced_accuracy", "f1", "precision", "auc")
OPERATING_POINTS = (0.8, 0.9, 0.95)
# Counts of a confusion that a rate is a share of: part, whole.
SHARES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "accuracy": (("tp", "tn"), ("tn", "fp", "fn", "tp")),
    "precision": (("tp",), ("tp", "fp")),
    "recall": (("tp",), ("tp", "fn")),
    "specificity": (("tn",), ("tn", "fp")),
    "fpr": (("fp",), ("tn", "fp")),
    "fnr": (("fn",), ("tp", "fn")),
    "selection_rate": (("tp", "fp"), ("tn", "fp", "fn", "tp")),
}


@dataclass(frozen=True)
class Images:
    """The images that are reported on, all of known class.

    Attributes:
        names: [N].
        y_true: int64 [N], 0 and 1.
        groupings: what they are compared by.
        patients: [N], '' unknown; None: of no image.
    """

    names: Sequence[str]
    y_true: NDArray[np.int64]
    groupings: Sequence[Groups]
    patients: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class Model:
    """One model's answers for the images, in their order.

    Attributes:
        score: float64 [N], P(malignant); None: calls are all there is.
        called: int64 [N], 0 and 1; None: no threshold is known, so nothing that needs calls is.
        threshold: that made the calls; None: unknown.
        threshold_source: in words.
    """

    name: str
    score: NDArray[np.float64] | None
    called: NDArray[np.int64] | None
    threshold: float | None
    threshold_source: str


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        level: of the intervals.
        replicates: of the bootstrap, and permutations.
    """

    level: float = 0.95
    method: IntervalMethod = "bca"
    replicates: int = 10_000
    seed: int = 0


def analyse(images: Images, models: Sequence[Model], settings: Settings, about: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a report; NaN where a number is undefined.

    Args:
        about: kept as it is, beside what is known here.
    """
    clustered = images.patients is not None
    return {
        "schema": SCHEMA,
        "melfast": melfast.__version__,
        "about": {
            **about,
            "images": len(images.names),
            "malignant": int(images.y_true.sum()),
            "patients": _count_patients(images.patients) if clustered else None,
            "intervals": {
                "level": settings.level,
                "method": settings.method,
                "seed": settings.seed,
                "replicates": settings.replicates,
                "resampled": "patients" if clustered else "images",
            },
        },
        "models": [_of_any_model(images, model, settings) for model in models],
        "comparisons": compare.compare_all(images, models, settings),
    }


def _of_any_model(images: Images, model: Model, settings: Settings) -> dict[str, Any]:
    """Of a model without calls, what needs none."""
    if model.called is not None:
        return _of_model(images, model, settings)
    found = _of_model(images, replace(model, called=np.zeros(len(images.names), np.int64)), settings)
    parts = [part for grouping in found["groupings"].values() for part in grouping["groups"].values()]
    for part, metrics in [(found, "overall"), *((part, "metrics") for part in parts)]:
        part["confusion"] = None
        part[metrics] = {name: value for name, value in part[metrics].items() if name in SCORE_METRICS}
    for grouping in found["groupings"].values():
        grouping["gaps"] = {name: gap for name, gap in grouping["gaps"].items() if name in SCORE_METRICS}
        grouping["score_tests"].pop("true positive", None)
    return found


def _of_model(images: Images, model: Model, settings: Settings) -> dict[str, Any]:
    called = model.called
    assert called is not None

    def resampled(groups: Groups | None) -> Bootstrap:
        return bootstrap(
            images.y_true,
            called,
            model.score,
            sensitive_features=groups,
            patients=images.patients,
            replicates=settings.replicates,
            seed=settings.seed,
        )

    counts = confusion(images.y_true, called)
    found: dict[str, Any] = {
        "name": model.name,
        "threshold": model.threshold,
        "threshold_source": model.threshold_source,
        "overall": _intervals(images, model, None, resampled(None), OVERALL, settings),
        "confusion": asdict(counts),
        "operating_points": _operating_points(images.y_true, model.score),
        "groupings": {},
    }
    for groups in images.groupings:
        found["groupings"][groups.name] = _of_grouping(images, model, groups, resampled(groups), settings)
    return found


def _of_grouping(
    images: Images, model: Model, groups: Groups, resampled: Bootstrap, settings: Settings
) -> dict[str, Any]:
    assert model.called is not None
    true, called, score = images.y_true, model.called, model.score
    counts = fairness.confusions(true, called, sensitive_features=groups)
    disparities = fairness.disparities(true, called, score, sensitive_features=groups)
    nulls = permutation_null(
        true, called, score, sensitive_features=groups, permutations=settings.replicates, seed=settings.seed
    )
    odds = fairness.equalized_odds_difference(true, called, sensitive_features=groups)
    gaps = {}
    for metric in [m for m in GAP_METRICS if m in disparities] + [EQUALIZED_ODDS]:
        of_all = disparities.get(metric)
        interval = resampled.gap_interval(metric, level=settings.level)
        gaps[metric] = {
            "gap": odds if of_all is None else of_all.gap,
            "low": interval.low,
            "high": interval.high,
            "ratio": math.nan if of_all is None else of_all.ratio,
            "worst_group": None if of_all is None else of_all.worst_group,
            "null": asdict(nulls[metric]),
        }
    found: dict[str, Any] = {
        "names": list(groups.names),
        "unknown": int((~groups.known).sum()),
        "groups": {
            name: {
                "images": sum(asdict(counts[name]).values()),
                "malignant": counts[name].tp + counts[name].fn,
                "confusion": asdict(counts[name]),
                "metrics": _intervals(images, model, groups, resampled, name, settings),
            }
            for name in groups.names
        },
        "gaps": gaps,
        "score_tests": {},
    }
    if score is not None:
        chosen: Literal["malignant", "true positive"]
        for chosen in ("malignant", "true positive"):
            test = fairness.score_test(true, called, score, sensitive_features=groups, images=chosen)
            found["score_tests"][chosen] = asdict(test)
    return found


def _intervals(
    images: Images, model: Model, groups: Groups | None, resampled: Bootstrap, part: str, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Of each metric its value, interval and how that was found."""
    found = {}
    for metric in [*THRESHOLD_METRICS, *SCORE_METRICS]:
        if metric not in resampled.estimate:
            continue
        interval = resampled.interval(metric, part, method=settings.method, level=settings.level)
        method: str = settings.method
        if math.isnan(interval.low) and not math.isnan(interval.estimate) and metric in SHARES:
            # Resampling 15 of 15 gives 15 of 15 again.
            held = np.full(len(images.names), True) if groups is None else groups.labels == part
            interval, method = _exact(metric, images, model, held, settings.level), "exact"
        found[metric] = {
            "value": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "method": None if math.isnan(interval.low) else method,
        }
    return found


def _exact(metric: str, images: Images, model: Model, held: NDArray[np.bool_], level: float) -> Interval:
    """Of the images `held`; where patients are known, those of one are not taken for independent.

    Args:
        held: [N].
    """
    assert model.called is not None
    cells = np.array(["tn", "fp", "fn", "tp"])[2 * images.y_true + model.called]
    part, whole = (held & np.isin(cells, names) for names in SHARES[metric])
    independent = None
    if images.patients is not None and whole.any():
        independent = independent_images(images.patients[whole])
    return exact_interval(int(part.sum()), int(whole.sum()), level, independent=independent)


def _operating_points(y_true: NDArray[np.int64], score: NDArray[np.float64] | None) -> dict[str, dict[str, float]]:
    if score is None:
        return {}
    return {
        "sensitivity_at_specificity": {
            f"{least:g}": sensitivity_at_specificity(y_true, score, least) for least in OPERATING_POINTS
        },
        "specificity_at_sensitivity": {
            f"{least:g}": specificity_at_sensitivity(y_true, score, least) for least in OPERATING_POINTS
        },
    }


def _count_patients(patients: NDArray[np.str_] | None) -> int:
    assert patients is not None
    return len(set(patients[patients != ""].tolist())) + int((patients == "").sum())
