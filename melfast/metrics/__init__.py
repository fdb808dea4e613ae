"""Metrics of arrays: discrimination, calibration, fairness, intervals. The names of `dir(melfast.metrics)`
load when they are first used; each module has more.

    from melfast import metrics
    metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])    # 0.75
"""

from melfast import lazily

_MODULES = {
    "compare": ("delong", "mcnemar", "paired_difference"),
    "fairness": (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "disparities",
        "equal_opportunity_difference",
        "equalized_odds_difference",
    ),
    "gaps": ("Gaps",),
    "groups": ("bands", "cross", "group_by"),
    "intervals": ("exact_interval", "holm"),
    "metrics": (
        "accuracy",
        "average_precision",
        "balanced_accuracy",
        "binary_metrics",
        "brier_score",
        "confusion",
        "expected_calibration_error",
        "f1",
        "false_negative_rate",
        "false_positive_rate",
        "log_loss",
        "pauc_above_tpr",
        "precision",
        "recall",
        "roc_auc",
        "selection_rate",
        "sensitivity_at_specificity",
        "specificity",
        "specificity_at_sensitivity",
    ),
    "scores": ("Sample",),
    "threshold": ("choose_by_group", "choose_threshold"),
}
__getattr__, __dir__ = lazily(
    __name__, {name: f"{__name__}.{module}:{name}" for module, names in _MODULES.items() for name in names}
)
