"""open_engine: which backend is used, why the others are not, and what each one loads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from melfast.data.preprocess import Preprocess
from melfast.engines import gpu, onnx_runtime, tensorrt, tensorrt_builder
from melfast.engines.backends import ModelFile, open_engine, read_model
from melfast.engines.base import UnusableError, file_sha256
from melfast.engines.gpu import Gpu
from melfast.engines.tensorrt_file import write_engine
from melfast.export.formats import export_onnx
from melfast.io.errors import InputError
from melfast.models.checkpoint import State, save_checkpoint
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

NO_GPU = "no GPU (drawn)"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> Gpu:
        raise UnusableError(NO_GPU)

    for module in (onnx_runtime, tensorrt):
        monkeypatch.setattr(module, "find_gpu", find)


@pytest.fixture
def model(red_model: Callable[..., Path], tmp_path: Path) -> Path:
    return red_model(tmp_path / "model.onnx")


RECORD = ModelRecord("resnet10t", Preprocess.for_colour(32, 48, "cielab"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = build_classifier(RECORD)
    save_checkpoint(folder, network.state_dict(), RECORD, State(epoch=1), {}, best=True)
    return folder


@pytest.mark.usefixtures("no_gpu")
def test_auto_says_why(model: Path) -> None:
    info = open_engine(model, threads=1).info
    assert info.backend == "onnx-cpu"
    assert info.passed_over == {"tensorrt": NO_GPU, "onnx-cuda": NO_GPU}


@pytest.mark.usefixtures("no_gpu")
def test_auto_on_a_checkpoint(run: Path) -> None:
    for path in (run, run / "checkpoints" / "epoch-001" / "model.safetensors"):
        info = open_engine(path).info
        assert info.backend == "torch"
        assert info.model == str(run / "checkpoints" / "epoch-001" / "model.safetensors")
        assert info.passed_over == {
            "tensorrt": "the file is a checkpoint, expected a TensorRT engine or an ONNX model",
            "onnx-cuda": "the file is a checkpoint, expected an ONNX model",
            "onnx-cpu": "the file is a checkpoint, expected an ONNX model",
        }


def test_torch_and_onnx_agree(run: Path, tmp_path: Path) -> None:
    engine: Any = open_engine(run, "torch")
    export_onnx(engine.module.classifier.cpu(), RECORD, tmp_path / "m.onnx")
    engine.module.to(engine.device)
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 48, 3), dtype=np.uint8)
    images.setflags(write=False)
    found, wanted = (each.run(images) for each in (engine, open_engine(tmp_path / "m.onnx")))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=1e-4)
    with pytest.raises(ValueError, match=r"images must be uint8 \[B, 32, 48, 3\], got uint8 \[0"):
        engine.run(images[:0])


@pytest.mark.usefixtures("no_gpu")
def test_asked_for_and_unusable(model: Path, run: Path) -> None:
    cases = [
        (model, "tensorrt", NO_GPU),
        (model, "onnx-cuda", NO_GPU),
        (model, "torch", "the file is an ONNX model, expected a checkpoint"),
        (run, "onnx-cpu", "the file is a checkpoint, expected an ONNX model"),
    ]
    for path, backend, reason in cases:
        with pytest.raises(InputError) as caught:
            open_engine(path, backend)  # type: ignore[arg-type]
        assert str(caught.value) == f"{path}: backend {backend} cannot run it: {reason}"


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_that_nothing_runs(model: Path) -> None:
    engine = model.with_suffix(".engine")
    write_engine(model, engine, batches=(1, 2, 4))
    with pytest.raises(InputError) as caught:
        open_engine(engine)
    assert str(caught.value) == f"{engine}: no backend can run it here: tensorrt: {NO_GPU}"


@pytest.mark.usefixtures("no_gpu")
def test_read_model_needs_no_gpu(model: Path, run: Path) -> None:
    engine = model.with_suffix(".engine")
    write_engine(model, engine, batches=(1, 2, 4))
    digest = file_sha256(model)
    found = [read_model(path) for path in (model, engine)]
    assert found[0] == found[1] == ModelFile(found[0].record, digest)
    assert (found[0].record.backbone, found[0].record.threshold) == ("red", 0.25)
    assert open_engine(model).info.origin == digest
    assert read_model(run) == ModelFile(RECORD, open_engine(run).info.origin)
    with pytest.raises(InputError, match="colour applies only to ONNX files that melfast did not"):
        read_model(run, colour="rgb")


def test_auto_does_not_build(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: Gpu("drawn", "9.0"))
    monkeypatch.setattr(onnx_runtime, "find_gpu", lambda: Gpu("drawn", "9.0"))
    monkeypatch.setattr(onnx_runtime.onnxruntime, "get_available_providers", list)
    info = open_engine(model).info
    assert info.passed_over == {
        "tensorrt": "no model.engine next to it: `backend=tensorrt` builds it once",
        "onnx-cuda": f"onnxruntime-gpu is not installed: {onnx_runtime.INSTALL}",
    }
    assert not model.with_suffix(".engine").exists()
    monkeypatch.setattr(tensorrt_builder, "MODULES", ("no_such_tensorrt",))
    reason = open_engine(model).info.passed_over["tensorrt"]
    assert reason == f"TensorRT is not installed: {tensorrt_builder.INSTALL}"


def test_what_is_broken_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"hello\n")
    with pytest.raises(InputError, match=r"m\.onnx: cannot be loaded as an ONNX file"):
        open_engine(tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        open_engine(tmp_path / "no.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'no.onnx'}: no such file, expected a model that melfast export wrote, or a run folder"
    )
    with pytest.raises(InputError, match="no checkpoint here; expected a run folder"):
        open_engine(tmp_path)


def test_flags_for_other_files(run: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_engine(run, input_size=(6, 4))
    assert str(caught.value) == (
        f"{run}: input size applies only to ONNX files that melfast did not write, this is a checkpoint"
    )


def test_masked_models_are_refused(tmp_path: Path) -> None:
    record = RECORD.replace(preprocess=Preprocess(32, 48, masked=True))
    weights = build_classifier(record).state_dict()
    save_checkpoint(tmp_path, weights, record, State(epoch=1), {}, best=True)
    with pytest.raises(InputError, match="the model was trained on masked images"):
        open_engine(tmp_path)


def test_torch_threads(run: Path) -> None:
    before = torch.get_num_threads()
    try:
        open_engine(run, "torch", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        open_engine(run, "torch", threads=0)


def test_no_torch_is_loaded(model: Path) -> None:
    """torch would cost seconds at every start, and gigabytes in every server image."""
    code = (
        "import sys, numpy as np\n"
        "from melfast.engines.backends import open_engine\n"
        "import melfast.engines.tensorrt\n"
        f"engine = open_engine({str(model)!r})\n"
        "engine.run(np.zeros((1, 4, 6, 3), np.uint8))\n"
        "print(sorted({'torch', 'timm', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_gpu_has_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import runtime

    code = runtime.cudaError_t
    for answer, words in (
        ((code.cudaErrorNoDevice, None), r"^no GPU \(cudaErrorNoDevice\)$"),
        ((code.cudaSuccess, 0), "^no GPU$"),
    ):
        monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda answer=answer: answer)
        with pytest.raises(UnusableError, match=words):
            gpu.find_gpu()
