"""Format values, names and tables of a report for its page."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Name, meaning, and whether it is shown in percent.
METRICS = {
    "auc": ("AUC", "chance that a malignant image scores above a benign one", False),
    "average_precision": ("Average precision", "mean precision over recall", False),
    "pauc_80tpr": ("Partial AUC", "area above 80 % sensitivity, 0 to 0.2 (ISIC 2024)", False),
    "recall": ("Sensitivity (recall)", "malignant images called malignant", True),
    "specificity": ("Specificity", "benign images called benign", True),
    "precision": ("Precision (PPV)", "malignant calls that are right", True),
    "npv": ("NPV", "benign calls that are right", True),
    "lr_positive": ("Likelihood ratio +", "how much a malignant call raises the odds of cancer", False),
    "lr_negative": ("Likelihood ratio −", "how much a benign call lowers the odds of cancer", False),
    "number_needed_to_biopsy": ("Number needed to biopsy", "images called malignant for one cancer found", False),
    "f1": ("F1", "harmonic mean of precision and recall", True),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity", True),
    "accuracy": ("Accuracy", "calls of either kind that are right", True),
    "fpr": ("False positive rate", "benign images called malignant", True),
    "fnr": ("False negative rate", "malignant images missed", True),
    "selection_rate": ("Selection rate", "images called malignant", True),
    "sensitivity_at_90_specificity": ("Sensitivity at 90 % specificity", "at the threshold that gives it", True),
    "specificity_at_90_sensitivity": ("Specificity at 90 % sensitivity", "at the threshold that gives it", True),
    "brier": ("Brier score", "mean squared error of P(malignant); less is better", False),
    "log_loss": ("Log loss", "less is better", False),
    "ece": ("Calibration error", "ECE, 15 bins; less is better", False),
    "equalized_odds": ("Equalized odds", "the larger gap of sensitivity and false positive rate", True),
}
OF_GROUPS = ("equalized_odds",)  # defined only between groups


def title_of(metric: str) -> str:
    """The name of a metric; for one that is not in METRICS, its key in words."""
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")


def number(metric: str, value: float | None) -> str:
    """A formatted value: four digits, or percent with one decimal."""
    if missing(value):
        return "–"
    assert value is not None
    percent = METRICS.get(metric, ("", "", False))[2]
    shown = f"{100 * value:.1f}" if percent else f"{value:.4f}"
    shown = shown.lstrip("-") if float(shown) == 0 else shown
    return f"{shown} %" if percent else shown


def percent(share: float) -> str:
    """`95 %`, `99.9 %`."""
    return f"{100 * share:.4g} %"


def points(metric: str, difference: float | None) -> str:
    """A formatted difference: `26.2 points` of a percentage."""
    return number(metric, difference).replace(" %", " points")


def interval(metric: str, found: Mapping[str, Any], join: str = " to ") -> str:
    """`64.2 to 79.3`, or nothing."""
    if missing(found["low"]) or missing(found["high"]):
        return ""
    return join.join(number(metric, found[side]).removesuffix(" %") for side in ("low", "high"))


def with_interval(metric: str, found: Mapping[str, Any], key: str = "value") -> str:
    """HTML: a value, its interval in small print below, and a note."""
    below = [interval(metric, found), found.get("note") or ""]
    return number(metric, found[key]) + "".join(f"<small>{text(line)}</small>" for line in below if line)


def p_value(value: float | None) -> str:
    if missing(value):
        return "–"
    assert value is not None
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def p_of(gap: Mapping[str, Any]) -> float | None:
    """The p-value of a gap, if possible adjusted for the other gaps of the page."""
    null = gap.get("null") or {}
    adjusted: float | None = null.get("p_adjusted")
    return null.get("p_value") if missing(adjusted) else adjusted


def p_words(gap: Mapping[str, Any]) -> str:
    """`p = 0.160`, and whether it is adjusted."""
    adjusted = "adjusted " if not missing((gap.get("null") or {}).get("p_adjusted")) else ""
    found = p_value(p_of(gap))
    return f"{adjusted}p {found}" if found.startswith("<") else f"{adjusted}p = {found}"


def stands(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is larger than expected by chance."""
    found, p = gap.get("stands"), p_of(gap)
    return bool(found) if found is not None else p is not None and not missing(p) and p < 0.05


def extremes(grouping: Mapping[str, Any], metric: str) -> tuple[str, str] | None:
    """The compared groups with the smallest and the largest value; None if there are fewer than two."""
    gap = grouping["gaps"].get(metric, {})
    if gap.get("lowest_group") and gap.get("highest_group"):
        return gap["lowest_group"], gap["highest_group"]
    left_out = gap.get("left_out") or {}
    groups = grouping["groups"]
    values = {name: groups[name]["metrics"].get(metric, {}).get("value") for name in grouping["names"]}
    known = {name: value for name, value in values.items() if not missing(value) and name not in left_out}
    if len(known) < 2:
        return None
    return min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table that narrow screens show as one block per row. Cells are HTML."""
    header = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    body = "".join(
        "<tr>"
        + "".join(
            f"<th scope=row>{cell}</th>" if i == 0 else f'<td data-label="{text(without_tags(name))}">{cell}</td>'
            for i, (name, cell) in enumerate(zip(head, row, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    words = f"<caption>{text(caption)}</caption>" if caption else ""
    return f"<table class=data>{words}<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def without_tags(markup: str) -> str:
    """The text of a heading without its markup."""
    return html.unescape(re.sub("<[^>]*>", "", markup.split("<br>")[0]))


def name(value: object) -> str:
    """A name from the data in any script, isolated so that its direction does not affect the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def text(value: object) -> str:
    return html.escape(str(value))
