"""OnnxEngine: numbers by hand, and files that are not models of ours."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from melfast.data.preprocess import Preprocess
from melfast.engines import onnx_runtime
from melfast.engines.base import UnusableError
from melfast.engines.gpu import Gpu, find_gpu
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.io.errors import InputError

RedModel = Callable[..., Path]


@pytest.fixture
def model(red_model: RedModel, tmp_path: Path) -> Path:
    return red_model(tmp_path / "model.onnx")


def test_by_hand(model: Path) -> None:
    engine = OnnxEngine(model, threads=2)
    images = np.zeros((3, 4, 6, 3), np.uint8)
    images[1, ..., 0] = 51
    images[2, :2, ..., 0] = 255
    images[2, ..., 1] = 100
    probability, logits = engine.run(images)
    np.testing.assert_allclose(probability, [0, 0.2, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(logits, [[0, 0], [0, 51], [100, 127.5]])
    assert probability.dtype == logits.dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_batch(model: Path, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    probability, logits = OnnxEngine(model, threads=1).run(images)
    assert (probability.shape, logits.shape) == ((count,), (count, 2))
    np.testing.assert_allclose(probability, images[..., 0].mean((1, 2)) / 255, rtol=1e-6)


def test_says_what_it_is_and_runs_on(model: Path) -> None:
    engine = OnnxEngine(model)
    assert engine.record.backbone == "red"
    assert engine.record.threshold == 0.25
    assert engine.provider == "CPUExecutionProvider" == engine.session.get_providers()[0]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 6, 3), np.uint8), ((1, 6, 4, 3), np.uint8), ((1, 4, 6, 3), np.float32)]
)
def test_wrong_images(model: Path, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match="images must be uint8") as caught:
        OnnxEngine(model).run(np.zeros(shape, dtype))
    found = f"{np.dtype(dtype)} {list(shape)}"
    assert str(caught.value) == f"images must be uint8 [B, 4, 6, 3], got {found}"


def test_threads(model: Path) -> None:
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        OnnxEngine(model, threads=0)


def test_missing_or_folder(tmp_path: Path) -> None:
    for path, found in ((tmp_path / "no.onnx", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError) as caught:
            OnnxEngine(path)
        assert str(caught.value) == f"{path}: {found}, expected a model that melfast export wrote"


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(1000), b"\x89PNG\r\n\x1a\n"])
def test_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be loaded as an ONNX file; is it complete") as caught:
        OnnxEngine(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_truncated_anywhere(model: Path) -> None:
    whole = model.read_bytes()
    for size in range(1, len(whole), 7):
        model.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model\.onnx: "):
            OnnxEngine(model)


def edit(model: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    proto = onnx.load(model)
    change(proto)
    onnx.save(proto, model)


def test_not_ours(model: Path) -> None:
    edit(model, lambda proto: onnx.helper.set_model_props(proto, {"author": "somebody"}))
    with pytest.raises(InputError) as caught:
        OnnxEngine(model)
    assert str(caught.value) == (
        f"{model}: an ONNX model that melfast export did not write; to use it, give `colour` rgb or cielab"
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "not JSON: EOF while parsing an object"),
        ("{}", "backbone is missing; .*preprocess is missing"),
        ('{"melfast_format": 99}', "melfast_format must be 1, got 99"),
    ],
)
def test_broken_record(model: Path, record: str, message: str) -> None:
    edit(model, lambda proto: onnx.helper.set_model_props(proto, {"melfast": record}))
    with pytest.raises(InputError, match=message) as caught:
        OnnxEngine(model)
    assert str(caught.value).startswith(f"{model}: metadata 'melfast': ")


def test_record_of_another_size(red_model: RedModel, tmp_path: Path) -> None:
    model = red_model(tmp_path / "model.onnx", preprocess=Preprocess(8, 6))
    with pytest.raises(InputError, match=r"expected .*\[8, 6, 3\].* got .*\[4, 6, 3\]"):
        OnnxEngine(model)


def test_another_provider_is_no_silent_matter(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["Other"])
    with pytest.raises(UnusableError) as caught:
        OnnxEngine(model)
    assert str(caught.value) == "ONNX Runtime uses Other instead of CPUExecutionProvider"


def test_what_it_was_is_told(model: Path) -> None:
    info = OnnxEngine(model).info
    assert info.to_dict() == {
        "backend": "onnx-cpu",
        "provider": "CPUExecutionProvider",
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "model": str(model),
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "assumed": "",
        "passed_over": {},
        "source_sha256": "",
    }


def test_unknown_opset_is_one_line(model: Path) -> None:
    def newer(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = 999

    edit(model, newer)
    with pytest.raises(
        InputError, match=r"model\.onnx: has opset 999, onnxruntime .* supports up to \d+; expected a newer"
    ):
        OnnxEngine(model)


def test_cuda_where_there_is_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_gpu", lambda: Gpu("drawn", "9.0"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UnusableError) as caught:
        OnnxEngine(model, device="cuda")
    assert str(caught.value) == (
        "onnxruntime-gpu is not installed: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    )


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_silent_fallback_is_found(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime for the CPU, made to believe that it has CUDA, silently uses the CPU."""
    monkeypatch.setattr(onnx_runtime, "require_cuda", lambda: None)
    with pytest.raises(UnusableError) as caught:
        OnnxEngine(model, device="cuda")
    assert str(caught.value) == (
        "ONNX Runtime uses CPUExecutionProvider instead of CUDAExecutionProvider: the CUDA or cuDNN "
        "libraries that it needs are missing or of another version"
    )


def on_a_gpu() -> bool:
    try:
        find_gpu()
    except UnusableError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.gpu
@pytest.mark.skipif(not on_a_gpu(), reason="no CUDA device, or no onnxruntime-gpu")
def test_on_a_gpu(model: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 6, 3), dtype=np.uint8)
    engine = OnnxEngine(model, device="cuda")
    assert engine.info.backend == "onnx-cuda"
    assert engine.provider == "CUDAExecutionProvider"
    for found, wanted in zip(engine.run(images), OnnxEngine(model).run(images), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_pieces_of_a_batch_come_back_in_order(red_model: Callable[..., Path], tmp_path: Path, count: int) -> None:
    engine = OnnxEngine(red_model(tmp_path / "m.onnx"), threads=3)
    images = np.zeros((count, 4, 6, 3), np.uint8)
    images[..., 0] = np.arange(count)[:, None, None]
    probability, logits = engine.run(images)
    np.testing.assert_allclose(probability, np.arange(count) / 255, rtol=1e-6)
    np.testing.assert_allclose(logits[:, 1], np.arange(count))
    alone = OnnxEngine(tmp_path / "m.onnx", threads=1)
    np.testing.assert_array_equal(alone.run(images)[1], logits)
