"""Metrics of `melfast evaluate`, overall and by skin-tone group, as JSON and CSV."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.io.files import atomic_path, write_json
from melfast.io.tables import write_csv
from melfast.metrics.metrics import binary_metrics, confusion

OVERALL = "all"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Scored:
    """Images with their truth, groups and predictions.

    Attributes:
        names: image_name [N].
        targets: int [N], 1 malignant, 0 benign, -1 unlabelled.
        score: P(malignant) [N].
        groups: int [N], index into group_names, -1 unknown.
        group_names: names of the skin-tone groups; empty if there are none.
    """

    names: Sequence[str]
    targets: NDArray[np.integer[Any]]
    score: NDArray[np.floating[Any]]
    groups: NDArray[np.integer[Any]]
    group_names: tuple[str, ...] = ()


def measure(scored: Scored, threshold: float | NDArray[np.float64]) -> dict[str, Any]:
    """Metrics of the labelled images, overall and by group, with a remark for each NaN.

    Args:
        threshold: one for all images, or one per image [N].
    Returns:
        {"all": {...}, "groups": {name: {...}}, "remarks": [...]}; each {...} holds `images`,
        `malignant`, the metrics of `binary_metrics` and `confusion`. Groups without images are
        left out; images without a group form the group `unknown` if others have one.
    """
    labelled = scored.targets >= 0
    remarks: list[str] = []
    thresholds = np.broadcast_to(threshold, scored.score.shape)
    parts = {OVERALL: labelled}
    if (scored.groups >= 0).any():
        parts |= {name: scored.groups == i for i, name in enumerate(scored.group_names)}
        parts[UNKNOWN] = scored.groups < 0
    measured = {
        name: _measure_part(name, scored, labelled & part, thresholds, remarks)
        for name, part in parts.items()
        if name == OVERALL or (labelled & part).any()
    }
    if without := int((~labelled).sum()):
        remarks.append(f"{without:,} images have no target: predicted, not measured")
    return {OVERALL: measured.pop(OVERALL), "groups": measured, "remarks": remarks}


def _measure_part(
    name: str, scored: Scored, part: NDArray[np.bool_], thresholds: NDArray[np.float64], remarks: list[str]
) -> dict[str, Any]:
    targets, score, threshold = scored.targets[part], scored.score[part], thresholds[part]
    metrics = binary_metrics(targets, score, threshold)
    undefined = [metric for metric, value in metrics.items() if math.isnan(value)]
    malignant = int(targets.sum())
    if undefined:
        remarks.append(
            f"{name}: {', '.join(undefined)} undefined with {malignant} malignant and "
            f"{len(targets) - malignant} benign images"
        )
    counts = asdict(confusion(targets, score >= threshold))
    return {"images": len(targets), "malignant": malignant, **metrics, "confusion": counts}


def write_metrics(path: Path, values: dict[str, Any]) -> None:
    """Writes JSON atomically; NaN, which JSON does not have, becomes null."""
    write_json(path, _without_nan(values))


def write_predictions(path: Path, scored: Scored, threshold: float | NDArray[np.float64]) -> None:
    """Writes CSV atomically: image_name, probability, prediction, target, group."""
    header = ("image_name", "probability", "prediction", "target", "group")
    called = (scored.score >= threshold).astype(int)
    rows = (
        # 9 digits hold a float32 exactly.
        (name, f"{score:.9g}", call, target if target >= 0 else "", scored.group_names[group] if group >= 0 else "")
        for name, score, call, target, group in zip(
            scored.names, scored.score, called, scored.targets, scored.groups, strict=True
        )
    )
    with atomic_path(path) as file:
        write_csv(file, header, rows)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
