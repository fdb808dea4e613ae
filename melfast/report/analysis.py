"""Analysis: how good, for whom, how sure; all numbers of a report, as one JSON document.

The page and the tables of a report show only what this document contains. Its keys:

- `about`: what the caller gives, and `images`, `malignant`, `patients` (None: unknown), and
  `intervals`: `level`, `permutations`, `seed`, `clusters` (what is independent: `patients` or
  `images`), and `family`: how many gaps are tested, which Holm's adjustment is over.
- `models`, each with `name`, `threshold`, `threshold_source`, `confusion`, `operating_points` and
    - `overall`: of each metric `value`, `low`, `high`, `method` (None: no interval) and `note` (None,
      or what to doubt about it in words, such as "1 malignant image");
    - `calibration`: None without scores, or `observed`, `expected`, `brier_reference`, `curve` (bins
      with `images`, `malignant`, `predicted`, `observed`, `low`, `high`), and with value and ends
      `observed_expected`, `intercept` and `slope`;
    - `decision_curve`: None without scores, or `threshold`, `model`, `treat_all`, `treat_none`:
      lists of net benefits per image;
    - `groupings`: by name `names`, `unknown` (images), `groups` (by name `images`, `malignant`,
      `confusion`, `metrics` as `overall`, `calibration`), and `gaps`: of each metric `gap`, `low`,
      `high`, `ratio`, `lowest_group`, `highest_group`, `worst_group` (None unless the gap `stands`),
      `stands` (adjusted p at most 1 - level), `left_out` (count of images by group too small to
      count), `counted` (images of which kind), and `null`: `mean` and `upper` of the gaps that chance
      makes, `p_value`, `p_adjusted`, and `reason` where there is no p-value. `low` is above 0 where,
      and only where, `p_value` is at most 1 - level.
- `comparisons`, of each pair of models `first`, `second`, `differences` (of each metric `value`, `low`,
  `high`, `p_value`), `delong` (None, or `auc`, `standard_error`, `p_value`), `mcnemar`, and `gaps`: a
  list of `grouping`, `metric`, `first` and `second` gap, their difference `value`, `low`, `high`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melfast
from melfast.io.log import logger
from melfast.metrics import compare
from melfast.metrics.calibration import assess, decision_curve
from melfast.metrics.gaps import Gap, Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.intervals import Estimate, Interval, holm
from melfast.metrics.metrics import (
    SCORE_METRICS,
    Confusion,
    confusion,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from melfast.metrics.scores import Sample, estimates
from melfast.metrics.shares import Cells, call_estimates

SCHEMA = "melfast-report/1"
OPERATING_POINTS = (0.8, 0.9, 0.95)
NET_BENEFIT_AT = np.arange(1, 100) / 100


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
        called: int64 [N], 0 and 1; None: no threshold is known, and so nothing that needs calls.
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
        permutations: of the tests of gaps.
    """

    level: float = 0.95
    permutations: int = 10_000
    seed: int = 0


def analyse(images: Images, models: Sequence[Model], settings: Settings, about: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a report; NaN where a number is undefined.

    Args:
        about: kept as it is, beside what is known here.
    """
    patient = None if images.patients is None else _numbered(images.patients)
    analysed = [_Analysed(images, model, patient, settings) for model in models]
    documents = [one.document() for one in analysed]
    family = _adjust(documents, settings.level)
    return {
        "schema": SCHEMA,
        "melfast": melfast.__version__,
        "about": {
            **about,
            "images": len(images.names),
            "malignant": int(images.y_true.sum()),
            "patients": None if patient is None else len(np.unique(patient)),
            "intervals": {
                "level": settings.level,
                "permutations": settings.permutations,
                "seed": settings.seed,
                "clusters": "images" if patient is None else "patients",
                "family": family,
            },
        },
        "models": documents,
        "comparisons": [_compared(*pair, settings.level) for pair in itertools.combinations(analysed, 2)],
    }


class _Analysed:
    """One model with its estimates and gaps, as objects."""

    def __init__(self, images: Images, model: Model, patient: NDArray[np.int64] | None, settings: Settings) -> None:
        self.model, self.level = model, settings.level
        # Sorted once, so that sorting a part of the images takes linear time.
        order = np.arange(len(images.y_true))
        if model.score is not None:
            order = np.argsort(-model.score, kind="stable")
        self.order = order
        called = np.zeros(len(order), bool) if model.called is None else model.called == 1
        whole = Sample(images.y_true == 1, called, model.score, patient)
        self.sample = whole.select(order)
        self.estimates = _all_estimates(self.sample)
        self.groupings = [Groups(g.name, g.index[order], g.names) for g in images.groupings]
        self.gaps = []
        for groups in self.groupings:
            options = {"permutations": settings.permutations, "seed": settings.seed, "level": settings.level}
            self.gaps.append(Gaps.of(self.sample, groups, **options))  # type: ignore[arg-type]

    def document(self) -> dict[str, Any]:
        model, sample = self.model, self.sample
        curve = None
        if sample.score is not None:
            found = decision_curve(sample.malignant, sample.score, NET_BENEFIT_AT)
            curve = {"threshold": NET_BENEFIT_AT.tolist()} | {name: line.tolist() for name, line in found.items()}
        document = {
            "name": model.name,
            "threshold": model.threshold,
            "threshold_source": model.threshold_source,
            "overall": self._intervals(self.estimates),
            "confusion": asdict(confusion(sample.malignant, sample.called)),
            "operating_points": _operating_points(sample),
            "calibration": self._calibration(sample),
            "decision_curve": curve,
            "groupings": {gaps.groups.name: self._grouping(gaps) for gaps in self.gaps},
        }
        return document if model.called is not None else _without_calls(document)

    def _grouping(self, gaps: Gaps) -> dict[str, Any]:
        place = f"{self.groupings.index(gaps.groups) + 1} of {len(self.groupings)}"
        logger.info(f"{self.model.name}: by {gaps.groups.name} ({place}), {gaps.permutations:,} permutations")
        groups, of_calls = gaps.groups, call_estimates(gaps.cells)
        found = {}
        for g, name in enumerate(groups.names):
            part = self.sample.select(np.flatnonzero(groups.index == g))
            counts = Confusion(*map(int, gaps.cells.by_group[g]))
            found[name] = {
                "images": len(part.malignant),
                "malignant": counts.tp + counts.fn,
                "confusion": asdict(counts),
                "metrics": self._intervals({m: e[g] for m, e in of_calls.items()} | estimates(part)),
                "calibration": self._calibration(part),
            }
        return {
            "names": list(groups.names),
            "unknown": int((~groups.known).sum()),
            "groups": found,
            "gaps": {metric: _of_gap(gap) for metric, gap in gaps.all().items()},
        }

    def _intervals(self, of_metrics: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
        return {metric: _of_interval(e.interval(self.level)) for metric, e in of_metrics.items()}

    def _calibration(self, sample: Sample) -> dict[str, Any] | None:
        if sample.score is None or len(sample.score) == 0:
            return None
        found = assess(sample, self.level)
        return {
            "observed": found.observed,
            "expected": found.expected,
            "observed_expected": _ends(found.ratio),
            "intercept": _ends(found.intercept),
            "slope": _ends(found.slope),
            "brier_reference": found.brier_reference,
            "curve": [
                {
                    "images": b.images,
                    "malignant": b.malignant,
                    "predicted": b.predicted,
                    "observed": b.observed.estimate,
                    "low": b.observed.low,
                    "high": b.observed.high,
                }
                for b in found.curve
            ],
        }


def _without_calls(document: dict[str, Any]) -> dict[str, Any]:
    """What is left of a model's document where its calls are made up."""
    parts = [part for grouping in document["groupings"].values() for part in grouping["groups"].values()]
    for part, metrics in [(document, "overall"), *((part, "metrics") for part in parts)]:
        part["confusion"] = None
        part[metrics] = {name: found for name, found in part[metrics].items() if name in SCORE_METRICS}
    for grouping in document["groupings"].values():
        grouping["gaps"] = {name: gap for name, gap in grouping["gaps"].items() if name in SCORE_METRICS}
    return document


def _all_estimates(sample: Sample) -> dict[str, Estimate]:
    """Of all images."""
    cells = Cells.of(sample.malignant, sample.called, np.zeros(len(sample.called), np.int64), 1, sample.patient)
    return {metric: found[0] for metric, found in call_estimates(cells).items()} | estimates(sample)


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def _of_interval(interval: Interval) -> dict[str, Any]:
    return _ends(interval) | {"method": interval.method or None, "note": interval.note or None}


def _of_gap(gap: Gap) -> dict[str, Any]:
    """As in the document, without what depends on the other gaps; see `_adjust`."""
    return {
        "gap": gap.gap,
        "low": gap.low,
        "high": gap.high,
        "ratio": gap.ratio,
        "lowest_group": gap.lowest,
        "highest_group": gap.highest,
        "worst_group": gap.worst,
        "stands": False,
        "left_out": dict(gap.left_out),
        "counted": gap.counted,
        "null": {
            "mean": gap.mean,
            "upper": gap.upper,
            "p_value": gap.p_value,
            "p_adjusted": math.nan,
            "reason": gap.reason or None,
        },
    }


def _adjust(documents: Sequence[dict[str, Any]], level: float) -> int:
    """Holm's adjustment over all gaps of the report; how many are tested."""
    gaps = [gap for m in documents for grouping in m["groupings"].values() for gap in grouping["gaps"].values()]
    adjusted = holm([gap["null"]["p_value"] for gap in gaps])
    for gap, p_value in zip(gaps, adjusted.tolist(), strict=True):
        gap["null"]["p_adjusted"] = p_value
        gap["stands"] = p_value <= 1 - level + 1e-12
        gap["worst_group"] = gap["worst_group"] if gap["stands"] else None
    return int((~np.isnan(adjusted)).sum())


def _compared(one: _Analysed, other: _Analysed, level: float) -> dict[str, Any]:
    """The first model minus the second, image by image."""
    back = np.argsort(other.order)[one.order]  # the second's images in the order of the first
    samples = one.sample, other.sample.select(back)
    calls = one.model.called is not None and other.model.called is not None
    both = [m for m in compare.METRICS if m in one.estimates and m in other.estimates]
    both = [m for m in both if calls or m in SCORE_METRICS]
    true = samples[0].malignant
    delong = mcnemar = None
    if calls:
        names = ("first_alone_right", "second_alone_right", "p_value")
        mcnemar = dict(zip(names, compare.mcnemar(true, samples[0].called, samples[1].called), strict=True))
    if samples[0].score is not None and samples[1].score is not None:
        names = ("auc", "standard_error", "p_value")
        delong = dict(zip(names, compare.delong(true, samples[0].score, samples[1].score), strict=True))
    gaps = []
    for first, second in zip(one.gaps, other.gaps, strict=True):
        for metric in compare.GAP_METRICS:
            if delong is None if metric == "auc" else not calls:
                continue
            sizes = [compare.gap_of(metric, g) for g in (first, second)]
            found = asdict(compare.gap_difference(metric, (first, second), samples))
            del found["p_value"]
            gaps.append(
                {"grouping": first.groups.name, "metric": metric, "first": sizes[0], "second": sizes[1], **found}
            )
    return {
        "first": one.model.name,
        "second": other.model.name,
        "differences": {
            m: asdict(compare.paired_difference(m, samples, (one.estimates[m], other.estimates[m]), level))
            for m in both
        },
        "delong": delong,
        "mcnemar": mcnemar,
        "gaps": gaps,
    }


def _operating_points(sample: Sample) -> dict[str, dict[str, float]]:
    if sample.score is None:
        return {}
    return {
        name: {f"{least:g}": rate(sample.malignant, sample.score, least) for least in OPERATING_POINTS}
        for name, rate in (
            ("sensitivity_at_specificity", sensitivity_at_specificity),
            ("specificity_at_sensitivity", specificity_at_sensitivity),
        )
    }


def _numbered(patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """A number for each image's patient [N]; one of its own where it is ''."""
    _, number = np.unique(patients, return_inverse=True)
    number = np.where(patients == "", len(patients) + np.arange(len(patients)), number)
    return np.unique(number, return_inverse=True)[1].astype(np.int64)
