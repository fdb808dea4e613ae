"""Suite gpu in small: on the CPU up to the call of the device, and on a GPU if there is one."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import harness, images, run
from benchmarks.harness import CheckFailedError, Run
from benchmarks.suites import gpu
from benchmarks.suites.gpu import Scale
from melfast.io.errors import InputError

SMALL = Scale("cpu", "resnet10t", size=48, batch=4, images=10, steps=2, compiled=(False,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drawn")
    images.draw(made, 5, 150, 200)
    return made


@pytest.fixture
def quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(gpu, "INFERENCE_BATCHES", (1, 4))
    return Run(folder, threads=2, repeats=1, console=Console(file=StringIO(), width=110))


def test_on_the_cpu(quiet: Run) -> None:
    gpu.measure(quiet, SMALL)
    assert list(quiet.missing) == ["TensorRT", "TensorRT, fp16"]
    for reason in quiet.missing.values():
        assert "bytes was built; no GPU (cuda" in reason
    loading, training, *inference, half = quiet.comparisons
    assert [timing.name for timing in loading.timings] == [
        "melfast native",
        "melfast dali-cpu",
        "torch DataLoader, PIL and OpenCV",
    ]
    assert {timing.items for timing in loading.timings} == {8}  # of 10, in batches of 4
    assert [timing.name for timing in training.timings] == [
        "one batch on the device",
        "native",
        "native, copies",
        "dali-cpu",
        "dali-cpu, copies",
    ]
    assert {timing.items for timing in training.timings} == {8}
    assert half.title == "inference resnet10t, 16 bits, batches of 4"
    assert [(timing.name, timing.target) for timing in half.timings] == [("torch, eager, bf16", None)]
    (apart,) = [check.found for check in quiet.checks if "bf16" in check.what]
    assert 1e-5 < apart <= 5e-2  # a smaller difference would not be bfloat16
    for batch, comparison in zip((1, 4), inference, strict=True):
        names = [timing.name for timing in comparison.timings]
        assert names == ["ONNX Runtime cpu", "torch cpu"]
        assert {timing.items % batch for timing in comparison.timings} == {0}
    parity = [check for check in quiet.checks if "native" in check.what]
    assert len(parity) == 2 * 2 * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(quiet: Run) -> None:
    gpu.measure(quiet, replace(SMALL, device="cuda", compiled=(False, True)))
    assert len(quiet.comparisons) == 1 + 2 + 1 + 2
    half = quiet.comparisons[-1]
    assert [(timing.name, timing.target) for timing in half.timings] == HALF


# What TensorRT is measured against, in the order of the table.
HALF = [("TensorRT, fp16", None), ("torch.compile, bf16", 1.3), ("torch, eager, bf16", None)]


def test_tensorrt_in_fp16_beside_torch_compile(quiet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with ONNX Runtime in place of TensorRT, and eager torch in place of compiled torch."""
    files: list[Path] = []

    def stand_in(path: Path, batch: int) -> Any:
        files.append(path)
        return gpu.engines.onnx_engine(path, "cpu")

    monkeypatch.setattr(gpu.engines, "tensorrt_engine", stand_in)
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    scale = replace(SMALL, compiled=(False, True))
    gpu.inference(quiet, scale, images.list_images(quiet.data), quiet.data)  # type: ignore[arg-type]
    *_, half = quiet.comparisons
    assert [(timing.name, timing.target) for timing in half.timings] == HALF
    assert [path.name for path in files] == ["model.onnx", "half.onnx"]
    (module,) = compiled
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert [check.at_most for check in quiet.checks[-3:]] == [5e-3, 5e-2, 5e-2]


def test_another_picture_is_found(quiet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gpu.all_images

    def spoilt(loader: str, *others: Any) -> np.ndarray:
        return made(loader, *others)[:, :, :: 1 if loader == "native" else -1]  # type: ignore[arg-type]

    monkeypatch.setattr(gpu, "all_images", spoilt)
    with pytest.raises(CheckFailedError, match=r"dali-cpu and native, plain rgb, .*: median"):
        gpu.measure(quiet, SMALL)


def test_other_probabilities_are_found(quiet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gpu.host_images
    monkeypatch.setattr(gpu, "host_images", lambda *words: 255 - made(*words))
    opened = gpu.opened

    def wrong(*words: Any) -> Any:
        engine = opened(*words)
        return engine and (lambda pixels: engine(255 - pixels))

    monkeypatch.setattr(gpu, "opened", wrong)
    with pytest.raises(CheckFailedError, match="ONNX Runtime cpu, batch 1: largest difference"):
        gpu.inference(quiet, SMALL, images.list_images(quiet.data), quiet.data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu(quiet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="suite gpu needs a CUDA device, found none"):
        gpu.gpu(quiet)
    assert "gpu" in harness.NEED_GPU
    monkeypatch.setattr(run, "SUITES", {"gpu": gpu.gpu})
    from click.testing import CliRunner

    result = CliRunner().invoke(run.main, ["all"])
    assert (result.exit_code, result.stdout) == (0, "gpu: left out, there is no GPU\n")
