"""Suite inference, small: every line of it runs, on drawn images."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from benchmarks import images
from benchmarks.harness import Run
from benchmarks.suites import inference


def test_inference_suite(tmp_path: Path) -> None:
    files = images.draw(tmp_path, 3, 150, 200)
    out = StringIO()
    found = Run(None, threads=1, repeats=1, console=Console(file=out, width=110))
    inference.measure(found, "drawn", files, tmp_path, "resnet10t", 64)
    ratios = {
        contestant["name"]: contestant["ratio"]["median"]
        for comparison in found.to_dict()["comparisons"]
        for contestant in comparison["contestants"]
    }
    assert set(ratios) == {
        "melfast predict", "OpenCV and ONNX Runtime, image by image",
        "the model alone, random batches",
        "ONNX Runtime", "torch, eager",
    }  # fmt: skip
    assert all(ratio > 0 for ratio in ratios.values())
    assert "start to the end of one image's prediction: " in out.getvalue()
