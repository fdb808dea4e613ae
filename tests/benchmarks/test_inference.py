"""Suite inference in small: every line runs, on synthetic images."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import images
from benchmarks.harness import Run
from benchmarks.suites import inference


def quiet_run() -> Run:
    return Run(None, threads=1, repeats=1, console=Console(file=StringIO(), width=110))


def test_inference_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MOST_SECONDS", 0.01)
    # For a small network with random weights, three synthetic images differ by less than INT8 resolves.
    monkeypatch.setattr(inference, "INT8_SAME_ORDER", -1)
    files = images.draw(tmp_path, 3, 150, 200)
    found = quiet_run()
    inference.measure(found, "drawn", files, tmp_path, "resnet10t", 64)
    comparisons: list[Any] = found.to_dict()["comparisons"]
    ratios = {
        contestant["name"]: contestant["ratio"]["median"]
        for comparison in comparisons
        for contestant in comparison["contestants"]
    }
    assert set(ratios) == {
        "melfast predict",
        "OpenCV and ONNX Runtime, image by image",
        "the model alone, random batches",
        "melfast predict, INT8",
        "OpenCV and ONNX Runtime in float32",
        "melfast predict, float32",
        "ONNX Runtime",
        "torch, eager",
        "0.01 s, the limit",
    }
    assert all(ratio > 0 for ratio in ratios.values())
    # A start that takes too long is marked as any missed target is.
    assert comparisons[-1]["title"] == "start to the end of one image's prediction"
    subject, limit = comparisons[-1]["contestants"]
    assert (subject["items"], limit["target"], limit["target_met"]) == (1, 1, False)
    assert "missed" in found.console.file.getvalue()  # type: ignore[attr-defined]


def test_agreement_is_of_margins() -> None:
    logits = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]])
    assert inference.agreement(logits, logits + 5) == pytest.approx(1)
    assert inference.agreement(logits, logits[:, ::-1]) == pytest.approx(-1)
    assert inference.agreement(logits, logits[[0, 2, 1]]) == pytest.approx(1 / 7)


@pytest.mark.parametrize(("seconds", "met"), [(2.9, True), (3.1, False)])
def test_the_limit_of_the_start(seconds: float, met: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with its own clock."""
    now = 0.0

    def wait(duration: float) -> None:
        nonlocal now
        now += duration

    def predict(words: list[str], **options: object) -> None:
        Path(words[words.index("--output") + 1]).write_text("header\none row\n")
        wait(seconds)

    monkeypatch.setattr(inference.time, "sleep", wait)
    monkeypatch.setattr(inference.time, "perf_counter", lambda: now)
    monkeypatch.setattr(inference.subprocess, "run", predict)
    found = quiet_run()
    inference.start(found, tmp_path / "model.onnx", tmp_path / "photo.jpg")
    assert found.to_dict()["comparisons"][0]["contestants"][1]["target_met"] is met
