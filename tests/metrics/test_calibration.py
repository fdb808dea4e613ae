"""Calibration: by hand, against scikit-learn, in training and in the exported graph."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from melfast.data.preprocess import Preprocess
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export.formats import export_onnx
from melfast.metrics.calibration import assess, decision_curve, fit
from melfast.metrics.metrics import brier_score, expected_calibration_error, log_loss, roc_auc
from melfast.metrics.scores import Sample
from melfast.models.classifier import build_classifier
from melfast.models.decode import calibrated, decode
from melfast.models.record import ModelRecord

PREPROCESS = Preprocess(24, 32)


def record_of(**calibration: object) -> ModelRecord:
    options = {"channels": [4, 4, 8, 8], "stem_width": 4}
    return ModelRecord("resnet10t", PREPROCESS, options).replace(**calibration)


def fit_of(record: ModelRecord) -> tuple[float, tuple[tuple[float, float], ...], float]:
    return record.temperature, record.isotonic, record.offset


def overconfident(count: int, times: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from log-odds, and probabilities whose log-odds are so many times those."""
    rng = np.random.default_rng(0)
    odds = rng.normal(-1, 1.5, count)
    return (rng.random(count) < expit(odds)).astype(int), expit(times * odds)


def test_temperature_by_hand() -> None:
    """Log-odds of ln 9, divided by 2: ln 3."""
    record = record_of(temperature=2.0)
    found = calibrated(torch.tensor([0.9, 0.5, 0.1]), *fit_of(record))
    torch.testing.assert_close(found, torch.tensor([0.75, 0.5, 0.25]))
    logits = torch.tensor([[0.0, math.log(9)]])
    torch.testing.assert_close(decode(logits, record), torch.tensor([0.75]))
    sure = calibrated(torch.tensor([0.0, 1.0]), *fit_of(record))
    assert 0 < sure[0] < 1e-3
    assert 1 - 1e-3 < sure[1] < 1


def test_isotonic_by_hand() -> None:
    record = record_of(isotonic=((0.2, 0.1), (0.4, 0.5), (0.6, 0.5), (0.6, 0.9)))
    found = calibrated(torch.tensor([0.0, 0.2, 0.3, 0.4, 0.5, 0.9]), *fit_of(record))
    torch.testing.assert_close(found[:5], torch.tensor([0.1, 0.1, 0.3, 0.5, 0.5]))


def test_none_changes_no_bit() -> None:
    probability = torch.rand(100)
    assert calibrated(probability, *fit_of(record_of())) is probability
    assert fit("none", [0, 1], [0.1, 0.2]) == {"temperature": 1.0, "offset": 0.0, "isotonic": ()}


def test_sigmoid_by_hand() -> None:
    """Log-odds of ln 9, halved, and ln 2 more: ln 6."""
    found = calibrated(torch.tensor([0.9, 0.5]), temperature=2.0, offset=math.log(2))
    torch.testing.assert_close(found, torch.tensor([6 / 7, 2 / 3]))
    torch.testing.assert_close(calibrated(torch.tensor([0.5]), offset=math.log(3)), torch.tensor([0.75]))


def test_sigmoid_is_logistic_regression_against_platts_targets() -> None:
    """Each image twice, weighed by its target and the rest of it."""
    true, score = overconfident(300, 3.0)
    found = fit("sigmoid", true, score)
    positive, negative = true.sum(), (1 - true).sum()
    target = np.where(true == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    odds = np.tile(logit(score.clip(1e-7, 1 - 1e-7)), 2)[:, None]
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    regression.fit(odds, np.repeat([1, 0], len(true)), np.append(target, 1 - target))
    assert 1 / found["temperature"] == pytest.approx(regression.coef_[0, 0], rel=1e-4)
    assert found["offset"] == pytest.approx(regression.intercept_[0], abs=1e-4)


def test_sigmoid_undoes_a_base_rate_shift_and_temperature_does_not() -> None:
    """Trained where half are malignant, used where one in ten is: log-odds too high by ln 9."""
    rng = np.random.default_rng(0)
    true = (rng.random(20_000) < 0.1).astype(int)
    score = expit(rng.normal(2 * true - 1, math.sqrt(2)))  # log-odds of the classes' densities
    off = {}
    for name in ("none", "temperature", "sigmoid"):
        after = calibrated(torch.from_numpy(score), *fit_of(record_of(**fit(name, true, score)))).numpy()
        off[name] = abs(after.mean() - true.mean())
        assert roc_auc(true, after) == pytest.approx(roc_auc(true, score), abs=1e-9)
    assert off["none"] > 0.15
    assert off["temperature"] > 0.1
    assert off["sigmoid"] < 0.002
    assert fit("sigmoid", true, score)["offset"] == pytest.approx(-math.log(9), abs=0.1)


def test_sigmoid_of_separated_classes_is_finite() -> None:
    found = fit("sigmoid", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    record_of(**found)  # within the record's bounds
    turned = fit("sigmoid", [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])
    assert turned["temperature"] == pytest.approx(20)  # it never turns the order round


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_temperature_is_found(times: float) -> None:
    true, score = overconfident(20_000, times)
    found = fit("temperature", true, score)
    assert found["temperature"] == pytest.approx(times, rel=0.05)
    after = calibrated(torch.from_numpy(score), *fit_of(record_of(**found))).numpy()
    assert expected_calibration_error(true, after) < 0.3 * expected_calibration_error(true, score)
    assert log_loss(true, after) < log_loss(true, score)
    assert roc_auc(true, after) == pytest.approx(roc_auc(true, score), abs=1e-12)
    for other in (0.97, 1.03):  # none near it is better
        near = expit(logit(score.clip(1e-7, 1 - 1e-7)) / (other * found["temperature"]))
        assert log_loss(true, near) >= log_loss(true, after) - 1e-12


def test_isotonic_is_scikit_learns() -> None:
    true, score = overconfident(3_000, 3.0)
    found = fit("isotonic", true, score)
    after = calibrated(torch.from_numpy(score), *fit_of(record_of(**found))).numpy()
    expected = IsotonicRegression(y_min=0, y_max=1).fit(score, true).predict(score)
    np.testing.assert_allclose(after, expected, atol=1e-9)
    assert expected_calibration_error(true, after) < 0.02


def test_record_round_trip() -> None:
    for calibration in (
        {"temperature": 1.7},
        {"temperature": 0.7, "offset": -2.0},
        {"isotonic": ((0.1, 0.0), (0.5, 0.9))},
    ):
        record = record_of(**calibration)
        assert ModelRecord.from_json(record.to_json(), "x") == record
    old = json.loads(record_of().to_json())
    del old["temperature"], old["isotonic"]  # of a checkpoint from before
    assert ModelRecord.from_json(json.dumps(old), "x") == record_of()


@pytest.mark.parametrize(
    "calibration",
    [
        {"temperature": 1.7},
        {"temperature": 0.6, "offset": -1.5},
        {"isotonic": ((0.2, 0.1), (0.45, 0.3), (0.5, 0.8), (0.7, 0.9))},
    ],
)
def test_the_exported_graph_calibrates(tmp_path: Path, calibration: dict) -> None:
    torch.manual_seed(0)
    record = record_of(**calibration)
    model = build_classifier(record).eval()
    export_onnx(model, record, tmp_path / "model.onnx")
    engine = OnnxEngine(tmp_path / "model.onnx", threads=1)
    assert engine.record == record
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    probability, logits = engine.run(images)
    expected = decode(torch.from_numpy(logits), record).numpy()
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    bare = decode(torch.from_numpy(logits), record_of()).numpy()
    assert np.abs(probability - bare).max() > 1e-3


def sample_of(true: np.ndarray, score: np.ndarray, patient: np.ndarray | None = None) -> Sample:
    return Sample(true == 1, score >= 0.5, score, patient)


def test_calibration_against_scikit_learn() -> None:
    """Slope and, with the log-odds given, intercept of a logistic regression without a penalty."""
    true, score = overconfident(3000, 1.7)
    found = assess(sample_of(true, score))
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(score)[:, None], true)
    assert found.slope.estimate == pytest.approx(regression.coef_[0, 0], abs=1e-4)
    assert found.slope.low < 1 / 1.7 < found.slope.high
    # The intercept makes the mean of what is said the share that is seen.
    shifted = expit(logit(score) + found.intercept.estimate)
    assert shifted.mean() == pytest.approx(true.mean(), abs=1e-9)
    assert found.ratio.estimate == pytest.approx(true.sum() / score.sum())
    assert (found.observed, found.expected) == (true.mean(), score.mean())
    always = np.full(len(true), true.mean())
    assert found.brier_reference == pytest.approx(brier_score(true, always))


def test_calibration_of_a_model_that_is_right() -> None:
    true, score = overconfident(5000, 1.0)
    found = assess(sample_of(true, score))
    for interval, right in ((found.slope, 1), (found.intercept, 0), (found.ratio, 1)):
        assert interval.low < right < interval.high
    assert sum(b.images for b in found.curve) == 5000
    assert len(found.curve) == 10
    held = [b.observed.low <= b.predicted <= b.observed.high for b in found.curve]
    assert sum(held) >= 8
    assert [b.predicted for b in found.curve] == sorted(b.predicted for b in found.curve)


def test_calibration_by_patients_is_less_sure() -> None:
    true, score = overconfident(500, 1.0)
    again, patient = np.repeat(true, 4), np.repeat(np.arange(500), 4)
    alone, joined = (assess(sample_of(again, np.repeat(score, 4), p)) for p in (None, patient))
    single = assess(sample_of(true, score))
    for name in ("slope", "intercept", "ratio"):
        widths = [getattr(f, name).high - getattr(f, name).low for f in (alone, joined, single)]
        assert widths[1] == pytest.approx(widths[2], rel=0.02)
        assert widths[0] == pytest.approx(widths[2] / 2, rel=0.05)


def test_calibration_where_it_is_undefined() -> None:
    one = assess(sample_of(np.ones(30, int), np.linspace(0.1, 0.9, 30)))
    assert math.isnan(one.slope.estimate)
    assert math.isnan(one.intercept.estimate)
    assert one.ratio.estimate == pytest.approx(2)
    apart = assess(sample_of(np.repeat([0, 1], 20), np.repeat([0.1, 0.9], 20)))
    assert math.isnan(apart.slope.estimate)  # separated: no slope is steep enough
    same = assess(sample_of(np.tile([0, 1], 20), np.full(40, 0.3)))
    assert math.isnan(same.slope.estimate)
    assert same.intercept.estimate == pytest.approx(-logit(0.3))


def test_decision_curve_by_hand() -> None:
    """At 0.5 a false positive costs one true positive, at 0.2 a quarter."""
    true, score = [1, 1, 0, 0, 0], [0.9, 0.4, 0.6, 0.2, 0.1]
    found = decision_curve(true, score, [0.2, 0.5, 0.95])
    assert found["model"].tolist() == pytest.approx([(2 - 2 / 4) / 5, (1 - 1) / 5, 0])
    assert found["treat_all"].tolist() == pytest.approx([0.4 - 0.6 / 4, 0.4 - 0.6, 0.4 - 0.6 * 19])
    assert found["treat_none"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"^thresholds must be above 0 and below 1, got 0.0 to 0.5$"):
        decision_curve(true, score, [0, 0.5])
