"""Items of the reporting guidelines that the report covers, and those that authors must add.

TRIPOD+AI: Collins et al., BMJ 2024;385:e078378. CLAIM 2024: Tejani et al., Radiol Artif Intell 2024;6(4):e240300.
The item names are our own short forms; see the statements for the full text.
"""

from collections.abc import Mapping
from typing import Any

from melfast.report.shown import table

# TRIPOD+AI items, CLAIM items, topic, how far the page covers it ("yes", "partly"), where.
COVERED = (
    ("12e", "28", "Measures and plots of performance", "yes", "How good; Pictures"),
    ("23a", "29, 37, 38", "Performance with intervals, by key subgroups", "yes", "first screen; By group; How good"),
    ("14", "", "Fairness: how it was examined", "partly", "By group: gaps, tests and their limits"),
    ("25", "", "Interpretation, with fairness", "partly", "first screen"),
    ("26", "40", "Limitations that the numbers show", "partly", "How sure; Notes"),
    ("11", "12", "Missing labels, groups and predictions", "partly", "Notes: the images; tables by group"),
    ("20a, 20b", "35, 36", "Number of images, patients and cancers, by group", "partly", "first screen; By group"),
    ("15", "", "Output of the model and its threshold", "partly", "first screen; How good"),
    ("18f", "23", "Software and its version", "partly", "How it was computed"),
)
ON_TRAINING = (
    "12a, 21",
    "20",
    "Overlap of images, patients and lesions with training",
    "partly",
    "first screen; Notes",
)
FAILURES = ("", "39", "Failures: confusion tables and the worst misses", "yes", "Pictures")
CALIBRATION = ("12e", "", "Calibration and clinical utility", "yes", "How good; Pictures")
AUTHORS = (
    "TRIPOD+AI 1–10, 12b–12d, 12f, 12g, 13, 16–17, 18a–18e, 19, 20c, 22, 23b, 24, 27; "
    "CLAIM 1–11, 13–19, 21, 22, 24–27, 30–34, 41–44"
)


def checklist(document: Mapping[str, Any]) -> str:
    """The table as HTML."""
    models = document["models"]
    items = list(COVERED)
    if document["about"]["manifest"]:
        items.append(ON_TRAINING)
    if any(model["confusion"] for model in models):
        items.append(FAILURES)
    if any(model.get("calibration") or "brier" in model["overall"] for model in models):
        items.append(CALIBRATION)
    rows = [[topic, tripod or "–", claim or "–", covered, where] for tripod, claim, topic, covered, where in items]
    rows.append(["All other items", "", "", "no", f"for the authors to report: {AUTHORS}"])
    head = ["item", "TRIPOD+AI", "CLAIM 2024", "covered", "where"]
    return table(head, rows, "Collins et al., BMJ 2024, e078378; Tejani et al., Radiol Artif Intell 2024, e240300.")
