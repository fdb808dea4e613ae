"""Calibration: by hand, against scikit-learn, in training and in the exported graph."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from melfast.data.preprocess import Preprocess
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export.formats import export_onnx
from melfast.metrics.calibration import fit
from melfast.metrics.metrics import expected_calibration_error, log_loss, roc_auc
from melfast.models.classifier import build_classifier
from melfast.models.decode import calibrated, decode
from melfast.models.record import ModelRecord

PREPROCESS = Preprocess(24, 32)


def record_of(**calibration: object) -> ModelRecord:
    options = {"channels": [4, 4, 8, 8], "stem_width": 4}
    return ModelRecord("resnet10t", PREPROCESS, options).replace(**calibration)


def fit_of(record: ModelRecord) -> tuple[float, tuple[tuple[float, float], ...]]:
    return record.temperature, record.isotonic


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
    assert fit("none", [0, 1], [0.1, 0.2]) == {"temperature": 1.0, "isotonic": ()}


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
    for calibration in ({"temperature": 1.7}, {"isotonic": ((0.1, 0.0), (0.5, 0.9))}):
        record = record_of(**calibration)
        assert ModelRecord.from_json(record.to_json(), "x") == record
    old = json.loads(record_of().to_json())
    del old["temperature"], old["isotonic"]  # of a checkpoint from before
    assert ModelRecord.from_json(json.dumps(old), "x") == record_of()


@pytest.mark.parametrize(
    "calibration", [{"temperature": 1.7}, {"isotonic": ((0.2, 0.1), (0.45, 0.3), (0.5, 0.8), (0.7, 0.9))}]
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
