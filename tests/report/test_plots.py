"""Plots: words in any script, and curves from the document."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import metrics as sk

from melfast.report import plots

BINS = [
    {"predicted": p, "observed": p / 2, "low": p / 4, "high": p, "images": 100, "malignant": 5} for p in (0.1, 0.4, 0.9)
]


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    counts = {"tn": 5, "fp": 1, "fn": 2, "tp": 3}
    figure = plots.confusion_matrices({"all": counts, "東京 병원": counts, "العربية": counts, "हिन्दी": counts})
    plots.save(figure, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        assert np.ptp(np.asarray(image.convert("L"))) > 200


def test_fonts_are_looked_for_by_the_letters_that_are_lacking() -> None:
    assert plots.fonts_for("very light, São Paulo, Ελλάδα, العربية") == []
    installed = {font.name for font in plots.fontManager.ttflist}
    assert set(plots.fonts_for("東京")) <= installed


def test_calibration_and_decision_curves_are_those_of_the_document() -> None:
    score = np.linspace(0, 1, 50)
    axis, below = plots.calibration({"m": BINS}, {"m": score}).axes
    assert axis.lines[0].get_xydata().tolist() == [[0.1, 0.05], [0.4, 0.2], [0.9, 0.45]]  # type: ignore[union-attr]
    assert len(axis.collections) == 1
    assert below.patches[0].get_data().values.sum() == 50  # type: ignore[attr-defined]
    curve = {"threshold": [0.1, 0.2], "model": [0.05, 0.04], "treat_all": [0.03, -0.5], "treat_none": [0.0, 0.0]}
    (axis,) = plots.net_benefit({"m": curve}).axes
    assert [line.get_label() for line in axis.lines] == ["m", "treat all", "treat none"]
    assert axis.get_ylim()[0] > -0.1  # where the model is seen, not where treating all ends


def test_curves_are_scikit_learns_and_the_threshold_has_its_intervals() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(80) < 0.3
    score = np.round(0.6 * rng.random(80) + 0.3 * true, 1)  # ties
    metric = {"value": 0.5, "low": 0.3, "high": 0.8}
    overall = {"m": {"recall": metric, "fpr": metric | {"value": 0.4}, "precision": metric}, "calls": {}}
    curve, across, up, point, _ = plots.roc(true, {"m": score}, overall).axes[0].lines
    fpr, tpr, _ = sk.roc_curve(true, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.get_xydata(), np.stack([fpr, tpr], axis=1))
    assert across.get_xydata().tolist() == [[0.3, 0.5], [0.8, 0.5]]  # type: ignore[union-attr]
    assert up.get_xydata().tolist() == [[0.4, 0.3], [0.4, 0.8]]  # type: ignore[union-attr]
    assert point.get_xydata().tolist() == [[0.4, 0.5]]  # type: ignore[union-attr]
    precision, recall, _ = sk.precision_recall_curve(true, score)
    curve = plots.precision_recall(true, {"m": score}, overall).axes[0].lines[0]
    np.testing.assert_allclose(curve.get_xydata()[1:], np.stack([recall, precision], axis=1)[-2::-1])  # type: ignore[index]
    assert len(plots.roc(true, {"calls": score}, overall).axes[0].lines) == 2  # no threshold, no cross
