"""TensorRtEngine: its order of work on a CUDA simulated in host memory, and on a GPU if there is one."""

import ctypes
import gc
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from melfast.data.preprocess import Preprocess
from melfast.engines import tensorrt, tensorrt_file
from melfast.engines.base import INPUT, OUTPUTS, UnusableError, file_sha256
from melfast.engines.gpu import Gpu, find_gpu
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.engines.tensorrt import TensorRtEngine, require_valid
from melfast.engines.tensorrt_builder import find_tensorrt, is_portable
from melfast.engines.tensorrt_file import write_engine
from melfast.export import formats as export
from melfast.export.formats import export_model
from melfast.io.errors import InputError
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict.predictor import predictions

SHAPE = (4, 6, 3)
OK = 0


class HostCuda:
    """CUDA's runtime on the host: work is done only when its stream is synchronised.

    Attributes:
        log: what was asked, in order.
        memory, work: what is not yet freed, by its address and stream.
    """

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self) -> None:
        self.log: list[str] = []
        self.numbers = itertools.count(100)
        self.memory: dict[int, Any] = {}
        self.work: dict[int, list[Callable[[], None]]] = {}
        self.capturing: set[int] = set()

    def allocate(self, num_bytes: int, *_: int) -> tuple[int, int]:
        block = (ctypes.c_byte * num_bytes)()
        self.memory[ctypes.addressof(block)] = block
        return OK, ctypes.addressof(block)

    def free(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (OK,)

    cudaMalloc = cudaHostAlloc = allocate  # noqa: N815
    cudaFree = cudaFreeHost = free  # noqa: N815

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        stream = next(self.numbers)
        self.work[stream] = []
        return OK, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        del self.work[stream]
        return (OK,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: str, stream: int) -> Any:  # noqa: N802
        self.work[stream].append(lambda: ctypes.memmove(to, source, size) and None)
        self.log.append(kind)
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        assert stream not in self.capturing
        work, self.work[stream] = self.work[stream], []
        for each in work:
            each()
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:  # noqa: N802
        assert not self.work[stream]
        self.capturing.add(stream)
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:  # noqa: N802
        self.capturing.remove(stream)
        graph, self.work[stream] = self.work[stream], []
        return OK, graph

    def cudaGetLastError(self) -> tuple[int]:  # noqa: N802
        self.log.append("forget")
        return (OK,)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:  # noqa: N802
        self.log.append("graph")
        return OK, list(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:  # noqa: N802
        return (OK,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:  # noqa: N802
        self.log.append("destroy")
        return (OK,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:  # noqa: N802
        self.log.append("launch")
        self.work[stream] += graph
        return (OK,)


class HostContext:
    """An execution context of the red model."""

    def __init__(self, cuda: HostCuda) -> None:
        self.cuda, self.addresses, self.count = cuda, dict[str, int](), 0
        self.fails_to_capture = False

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert (name, shape[1:]) == (INPUT, SHAPE)
        self.count = shape[0]
        return 1 <= self.count <= 4

    def execute_async_v3(self, stream: int) -> bool:
        if self.fails_to_capture and stream in self.cuda.capturing:
            return False
        count = self.count
        self.cuda.work[stream].append(lambda: self._compute(count))
        self.cuda.log.append("run")
        return True

    def _compute(self, count: int) -> None:
        images = self._array(INPUT, (count, *SHAPE), np.uint8).astype(np.float32)
        means = images.mean(axis=(1, 2))
        self._array(OUTPUTS[0], (count,), np.float32)[:] = means[:, 0] / 255
        self._array(OUTPUTS[1], (count, 2), np.float32)[:] = means[:, [1, 0]]

    def _array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_byte * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


@pytest.fixture
def model(red_model: Callable[..., Path], tmp_path: Path) -> Path:
    path = red_model(tmp_path / "model.onnx")
    write_engine(path, path.with_suffix(".engine"), batches=(1, 2, 4))
    return path


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    """Replaces CUDA and the runtime of TensorRT while an engine is created."""
    from cuda import bindings

    host, trt = HostCuda(), find_tensorrt()
    context = SimpleNamespace(create_runtime_config=None)
    context.create_execution_context = lambda *config: HostContext(host)
    context.create_runtime_config = lambda: SimpleNamespace(
        create_runtime_cache=lambda: SimpleNamespace(
            serialize=lambda: b"kernels", deserialize=lambda content: content == b"kernels"
        ),
        set_runtime_cache=lambda cache: None,
    )
    loaded = SimpleNamespace(
        deserialize_cuda_engine=lambda content: context,
        get_engine_validity=lambda content: (trt.EngineValidity.VALID, 0),
    )
    monkeypatch.setattr(bindings, "runtime", host)
    monkeypatch.setattr(trt, "Runtime", lambda logger: loaded)
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: Gpu("drawn", "9.0"))
    return host


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def require_right(engine: TensorRtEngine, images: np.ndarray) -> None:
    probability, logits = engine.run(images)
    means = images.mean(axis=(1, 2))
    np.testing.assert_allclose(probability, means[:, 0] / 255, rtol=1e-5)
    np.testing.assert_allclose(logits, means[:, [1, 0]], rtol=1e-5)


def one_lane(engine: TensorRtEngine) -> Any:
    while engine.lanes.qsize() > 1:
        engine.lanes.get()
    lane = engine.lanes.get()
    engine.lanes.put(lane)
    return lane


def test_order_of_work(cuda: HostCuda, model: Path) -> None:
    engine = TensorRtEngine(model)
    one_lane(engine)
    plain = ["in", "run", "out", "out"]
    for count, work in (
        (4, plain),
        (4, [*plain, "graph", "launch"]),  # captured, which does nothing, and launched
        (4, ["launch"]),
        (3, ["destroy", *plain]),  # the last batch
        (4, plain),
        (9, [*plain, "graph", "launch", "launch", "destroy", *plain]),  # 4, 4 and 1
    ):
        cuda.log.clear()
        require_right(engine, drawn(count, seed=count))
        assert cuda.log == work, count


def test_fewer_images_than_the_engine_takes(cuda: HostCuda, model: Path) -> None:
    write_engine(model, model.with_suffix(".engine"), batches=(3, 3, 4))
    engine = TensorRtEngine(model)
    one_lane(engine)
    for count in (4, 1, 2, 3):
        require_right(engine, drawn(count))
    probability, logits = engine.run(drawn(1))
    assert (probability.shape, logits.shape) == ((1,), (1, 2))
    assert cuda.log.count("graph") == 1  # 1, 2 and 3 images are all a batch of 3


def test_results_are_the_callers(cuda: HostCuda, model: Path) -> None:
    engine = TensorRtEngine(model)
    first = engine.run(drawn(4))
    before = [each.copy() for each in first]
    for seed in range(1, 4):
        engine.run(drawn(4, seed))
    for kept, was in zip(first, before, strict=True):
        np.testing.assert_array_equal(kept, was)


def test_from_several_threads(cuda: HostCuda, model: Path) -> None:
    engine = TensorRtEngine(model)
    assert engine.lanes.qsize() == 2
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(require_right, engine, drawn(i % 5 + 1, i)) for i in range(200)]
        for job in jobs:
            job.result()
    assert engine.lanes.qsize() == 2


def test_both_lanes_work_in_predict(cuda: HostCuda, model: Path, tmp_path: Path) -> None:
    """The second batch starts before the results of the first are there."""
    both, seen = threading.Barrier(2), set[int]()
    synchronize = cuda.cudaStreamSynchronize

    def together(stream: int) -> tuple[int]:
        both.wait(timeout=30)
        seen.add(stream)
        return synchronize(stream)

    cuda.cudaStreamSynchronize = together  # type: ignore[method-assign]
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        Image.new("RGB", (6, 4), (30 * i, 7, 9)).save(path)
    answers = list(predictions(TensorRtEngine(model), paths, settings=InferenceSettings(batch_size=2)))
    found = np.concatenate([each.probability for each in answers])
    np.testing.assert_allclose(found, np.arange(8) * 30 / 255, rtol=1e-5)
    assert len(seen) == 2


def test_where_nothing_can_be_captured(cuda: HostCuda, model: Path) -> None:
    engine = TensorRtEngine(model)
    one_lane(engine).context.fails_to_capture = True
    for _ in range(3):
        require_right(engine, drawn(4))
    assert "launch" not in cuda.log
    assert cuda.log.count("forget") == 1  # tried once
    assert cuda.log.count("run") == 3


def test_memory_is_given_back(cuda: HostCuda, model: Path) -> None:
    engine = TensorRtEngine(model)
    engine.run(drawn(2))
    assert len(cuda.memory) == 2 * 6
    del engine
    gc.collect()
    assert cuda.memory == {} == cuda.work


@pytest.mark.skipif(not is_portable(find_tensorrt()), reason="TensorRT-RTX alone has it")
def test_kernels_are_kept(cuda: HostCuda, model: Path) -> None:
    kept = model.with_suffix(".cache")
    for before in (None, b"of another GPU"):
        if before:
            kept.write_bytes(before)
        engine = TensorRtEngine(model)
        engine.run(drawn(1))
        assert kept.read_bytes() == b"kernels"
    changed = kept.stat().st_mtime_ns
    TensorRtEngine(model).run(drawn(1))
    assert kept.stat().st_mtime_ns == changed


def test_no_room(cuda: HostCuda, model: Path) -> None:
    class Code(int):
        name = "cudaErrorMemoryAllocation"

    cuda.cudaMalloc = lambda size: (Code(2), None)  # type: ignore[method-assign]
    with pytest.raises(UnusableError) as caught:
        TensorRtEngine(model)
    assert str(caught.value) == (f"{model.with_suffix('.engine')}: no room on drawn (cudaErrorMemoryAllocation)")
    del caught
    gc.collect()
    assert cuda.memory == {} == cuda.work


class Means(torch.nn.Module):
    """Logits: mean green and mean red, 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(3, 2)
        self.last.weight.data = torch.tensor([[0.0, 1, 0], [1, 0, 0]])
        self.last.bias.data.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(images.mean((2, 3)))
        return logits


@pytest.mark.parametrize(("off", "precision"), [(0, "fp32"), (1e-4, "fp32"), (1e-4, "fp16")])
@pytest.mark.parametrize("kind", ["tensorrt", "triton"])
def test_export_compares_the_engine_where_it_runs(
    off: float, precision: Any, kind: Any, cuda: HostCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself is compared, not its graph, so that its own errors are found."""
    record = ModelRecord("means", Preprocess(4, 6, "rgb", (0, 0, 0), (1, 1, 1)))
    counts, flags = [], []

    def compute(self: HostContext, count: int) -> None:
        images = self._array(INPUT, (count, *SHAPE), np.uint8).astype(np.float32)
        logits = images.mean(axis=(1, 2))[:, [1, 0]] / 255
        right = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        self._array(OUTPUTS[0], (count,), np.float32)[:] = right + off
        self._array(OUTPUTS[1], (count, 2), np.float32)[:] = logits
        counts.append(count)

    def shape(self: HostContext, name: str, shape: tuple[int, ...]) -> bool:
        self.count = shape[0]
        return True

    build = tensorrt_file.build_engine

    def built(path: Path, **options: Any) -> bytes:
        flags.append(options["tf32"])
        return build(path, **options)

    monkeypatch.setattr(HostContext, "_compute", compute)
    monkeypatch.setattr(HostContext, "set_input_shape", shape)
    monkeypatch.setattr(tensorrt_file, "build_engine", built)
    monkeypatch.setattr(export, "_require_full_tensorrt", lambda output: None)
    output = tmp_path / "made"
    options: Any = {"precision": precision, "runtime": "tensorrt" if kind == "triton" else "onnx"}
    if off and precision == "fp32":
        with pytest.raises(InputError, match=r"differs from torch by 0\.0001 in probability"):
            export_model(Means().eval(), record, output, kind, **options)
        assert [path for path in tmp_path.iterdir() if path.suffix != ".timing"] == []
    else:
        check = export_model(Means().eval(), record, output, kind, **options)
        assert check.not_run == ""
        assert check.probability_error == pytest.approx(off, abs=1e-6 if precision == "fp32" else 1e-3)
        made = output / "melfast" / "1" / "model.plan" if kind == "triton" else output
        assert made.stat().st_size > 1000
    assert counts == [1, 2, 7, 32]
    assert flags == [False]


def test_what_it_was_is_told(cuda: HostCuda, model: Path) -> None:
    for path in (model, model.with_suffix(".engine")):
        info = TensorRtEngine(path).info
        assert (info.backend, info.provider) == ("tensorrt", "TensorRT on drawn")
        assert info.model == str(model.with_suffix(".engine"))
        assert info.runtime.startswith("tensorrt")
        assert info.origin == file_sha256(model)


def test_invalid_by_tensorrt_itself() -> None:
    trt = find_tensorrt()
    kinds = trt.EngineInvalidityDiagnostics
    found = int(kinds.UNSUPPORTED_CC) | int(kinds.OLD_CUDA_DRIVER)
    runtime = SimpleNamespace(get_engine_validity=lambda _: (trt.EngineValidity.INVALID, found))
    with pytest.raises(UnusableError) as caught:
        require_valid(runtime, b"", Path("m.engine"), trt)
    assert str(caught.value) == ("m.engine: not for this GPU or driver: unsupported cc, old cuda driver")


def usable() -> bool:
    try:
        find_gpu()
        find_tensorrt()
    except InputError:
        return False
    return True


@pytest.mark.gpu
@pytest.mark.skipif(not usable(), reason="no CUDA device, or no TensorRT")
def test_on_a_gpu(model: Path) -> None:
    engine, reference = TensorRtEngine(model), OnnxEngine(model)
    for count in (4, 4, 4, 3, 1, 9):
        images = drawn(count, seed=count)
        for found, wanted in zip(engine.run(images), reference.run(images), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=2e-3)
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(engine.run, drawn(4)) for _ in range(20)]:
            np.testing.assert_allclose(job.result()[0], reference.run(drawn(4))[0], rtol=2e-3)
