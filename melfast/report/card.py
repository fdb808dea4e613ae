"""The model card: describes a model, its data and its performance to its users."""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from melfast.data.manifest import SPLITS, Manifest
from melfast.io.errors import printable
from melfast.models.record import ModelRecord
from melfast.report.shown import METRICS, number

# Our metric names and those of the Hugging Face hub.
HUB_METRICS = {"auc": "roc_auc", "accuracy": "accuracy", "recall": "recall", "precision": "precision", "f1": "f1"}
SHOWN = (
    "auc",
    "average_precision",
    "pauc_80tpr",
    "recall",
    "specificity",
    "precision",
    "f1",
    "balanced_accuracy",
    "brier",
    "ece",
)
GROUP_SHOWN = ("recall", "specificity", "auc")
INTENDED_USE = (
    "Research on melanoma classifiers and their fairness across skin tones. Not a medical "
    "device: do not base clinical decisions on it. It works only for dermoscopic images like "
    "those it was trained on."
)


def markdown(text: str) -> str:
    """Escapes text for Markdown, so that it adds no markup, HTML, table cell or link."""
    return re.sub(r"[\\`*_\[\]<>|&#~!$:@]|(?<=www)\.", r"\\\g<0>", printable(text))


def model_card(name: str, record: ModelRecord, manifest: Manifest, document: Mapping[str, Any], split: str) -> str:
    """The card as Markdown, with front matter for the Hugging Face hub.

    Args:
        manifest: manifest of the run with all splits.
        document: result of `melfast.report.analysis.analyse` for this one model.
        split: the split that the document describes.
    """
    (model,) = document["models"]
    parts = [
        "---",
        yaml.safe_dump(_front_matter(name, model), sort_keys=False).strip(),
        "---",
        "",
        f"# {markdown(name)}",
        "",
        f"P(malignant) of a dermoscopic image, by {record.backbone} on "
        f"{record.preprocess.width}x{record.preprocess.height} {record.preprocess.colour} pixels; "
        f"head {record.head}.",
        "",
        "## Intended use",
        "",
        INTENDED_USE,
        "",
        "## Data",
        "",
        *_data(manifest),
        "",
        "## Performance",
        "",
        *_overall(document, model, split),
        "",
        *_groups(model),
        "## Training",
        "",
        *making(record),
        "",
        "## Limits",
        "",
        *_limits(document, model),
        "",
    ]
    return "\n".join(parts)


def _front_matter(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    results = [
        {"type": hub, "name": METRICS[metric][0], "value": round(float(model["overall"][metric]["value"]), 4)}
        for metric, hub in HUB_METRICS.items()
        if not _missing(model["overall"].get(metric, {}).get("value"))
    ]
    task = {"type": "image-classification", "name": "melanoma classification"}
    return {
        "library_name": "melfast",
        "pipeline_tag": "image-classification",
        "tags": ["dermoscopy", "melanoma", "skin-tone", "fairness"],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": task,
                        "dataset": {"type": "dermoscopy", "name": "held-out images of the run"},
                        "metrics": results,
                    }
                ],
            }
        ],
    }


def _data(manifest: Manifest) -> list[str]:
    lines = ["| split | images | malignant | patients | lesions |", "|---|---|---|---|---|"]
    for split in SPLITS:
        part = manifest.select(manifest.splits == split)
        if not len(part):
            continue
        malignant = int((part.targets == 1).sum())
        ids = [_distinct(part, column) for column in ("patient_id", "lesion_id")]
        lines.append(f"| {split} | {len(part):,} | {malignant:,} ({malignant / len(part):.1%}) | {ids[0]} | {ids[1]} |")
    groups = manifest.groups
    if (groups >= 0).any():
        shares = ", ".join(
            f"{markdown(name)} {(groups == i).mean():.1%}" for i, name in enumerate(manifest.group_names)
        )
        lines += ["", f"Tone groups: {shares}, unknown {(groups < 0).mean():.1%}."]
    return lines


def _distinct(manifest: Manifest, column: str) -> str:
    found = set(manifest.column(column).tolist()) - {""}
    return f"{len(found):,}" if found else "unknown"


def _overall(document: Mapping[str, Any], model: Mapping[str, Any], split: str) -> list[str]:
    about = document["about"]
    intervals = about["intervals"]
    threshold = model["threshold"]
    lines = [
        f"On split {split}: {about['images']:,} images, {about['malignant']:,} malignant"
        + (f", {about['patients']:,} patients" if about["patients"] is not None else "")
        + (f"; threshold {threshold:.4f}" if threshold is not None else "")
        + ".",
        "",
        f"| metric | value | {intervals['level']:.0%} interval |",
        "|---|---|---|",
    ]
    for metric in SHOWN:
        found = model["overall"].get(metric)
        if found is not None:
            lines.append(f"| {METRICS[metric][0]} | {number(metric, found['value'])} | {_interval(metric, found)} |")
    return lines


def _groups(model: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for column, grouping in model["groupings"].items():
        shown = [metric for metric in GROUP_SHOWN if metric in model["overall"]]
        lines += [
            f"### By {markdown(column)}",
            "",
            "| group | images | malignant | " + " | ".join(METRICS[m][0] for m in shown) + " |",
            "|---" * (3 + len(shown)) + "|",
        ]
        for name in grouping["names"]:
            group = grouping["groups"][name]
            cells = [f"{number(m, group['metrics'][m]['value'])} ({_interval(m, group['metrics'][m])})" for m in shown]
            lines.append(f"| {markdown(name)} | {group['images']:,} | {group['malignant']:,} | {' | '.join(cells)} |")
        gap = grouping["gaps"]["recall"]
        null = gap["null"]
        if _missing(gap["gap"]):
            lines += ["", "No gap in recall: fewer than two groups have one.", ""]
        else:
            lines += [
                "",
                f"Gap in recall {number('recall', gap['gap'])}; by chance it would be "
                f"{number('recall', null['mean'])} on average, p = "
                f"{'–' if _missing(null['p_value']) else format(null['p_value'], '.3f')}.",
                "",
            ]
    return lines


def making(record: ModelRecord) -> list[str]:
    """How the model was trained, as Markdown lines from the record."""
    training = record.training
    versions = ", ".join(f"{markdown(k)} {markdown(v)}" for k, v in training.get("versions", {}).items())
    found = [f"- Backbone {record.backbone}, options {dict(record.backbone_options) or 'none'}."]
    if "epoch" in training:
        found.append(f"- The weights are those of epoch {training['epoch']}, the best by the validation split.")
    if record.threshold is not None:
        found.append(
            f"- Threshold {record.threshold:.4f}, chosen on the validation split by {markdown(record.threshold_rule)}."
        )
    if record.group_thresholds:
        by_group = zip(record.groups, record.group_thresholds, strict=True)
        found.append(
            "- Thresholds for images of known tone group: "
            + ", ".join(f"{markdown(name)} {t:.4f}" for name, t in by_group)
            + "."
        )
    found.append(f"- Seed {training.get('seed', 'unknown')}; {versions or 'versions unknown'}.")
    return found


def _limits(document: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    lines = [
        "- The results apply to images like those in the evaluation; they differ for other "
        "dermatoscopes, clinics and skin tones.",
        "- P(malignant) is not the probability that a patient has melanoma: it depends on how common "
        "melanoma is among the images.",
    ]
    return lines + [
        f"- {markdown(remark['text'][0].upper() + remark['text'][1:])}." for remark in document["about"]["remarks"]
    ]


def _interval(metric: str, found: Mapping[str, Any]) -> str:
    if _missing(found["low"]):
        return "–"
    return f"{number(metric, found['low'])} to {number(metric, found['high'])}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
