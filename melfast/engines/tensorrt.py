"""TensorRtEngine: an engine of TensorRT on a GPU, without torch.

Two lanes each have a stream, an execution context and page-locked buffers, so that two threads that
call `run`, as melfast.predict.predictor does, overlap: one copies while the other computes.
"""

import ctypes
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.engines.base import (
    GROUP,
    INPUT,
    OUTPUTS,
    EngineInfo,
    OptionalGroups,
    Outputs,
    UnusableError,
    groups_or_unknown,
    require_images,
)
from melfast.engines.gpu import CudaError, call, find_gpu
from melfast.engines.tensorrt_builder import find_tensorrt, is_portable, make_logger, reason
from melfast.engines.tensorrt_file import Sidecar, is_engine, read_sidecar, require_fits, runtime_name, write_engine
from melfast.io.errors import InputError
from melfast.io.files import atomic_path

NUM_LANES = 2


class TensorRtEngine:
    """See melfast.engines.base.Engine. `run` may be called from several threads."""

    in_flight = NUM_LANES

    def __init__(self, path: str | Path, *, build: bool = False) -> None:
        """
        Args:
            path: an engine that `melfast export` wrote, or an ONNX file, whose engine is then NAME.engine
                next to it.
            build: build the engine of an ONNX file if it is missing or does not fit.
        Raises:
            UnusableError: no GPU or no TensorRT; the engine is missing, outdated, or for another
                version or GPU.
            InputError: the engine is broken, or cannot be built.
        """
        gpu, trt = find_gpu(), find_tensorrt()
        engine, sidecar = find_engine(Path(path), trt, gpu, build=build)
        self.logger = make_logger(trt)
        self.runtime = trt.Runtime(self.logger)
        content = engine.read_bytes()
        if is_portable(trt):
            require_valid(self.runtime, content, engine, trt)
        self.engine = self.runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise UnusableError(f"{engine}: TensorRT cannot load it: {reason(self.logger.errors)}")
        self.cache = RuntimeCache(self.engine, engine) if is_portable(trt) else None
        self.record, self.most = sidecar.record, sidecar.batches[2]
        self.lanes: SimpleQueue[Lane] = SimpleQueue()
        try:
            for _ in range(NUM_LANES):
                self.lanes.put(Lane(self._context(), sidecar, self.logger))
        except CudaError as error:
            raise UnusableError(f"{engine}: no room on {gpu.name} ({error})") from None
        self.provider = f"TensorRT on {gpu.name}"
        self.info = EngineInfo(
            backend="tensorrt",
            provider=self.provider,
            runtime=runtime_name(trt),
            model=str(engine),
            sha256=sidecar.engine_sha256,
            source_sha256=sidecar.source_sha256,
        )

    def run(self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        require_images(images_bhw3, self.record)
        inputs = (images_bhw3, groups_or_unknown(group_b, images_bhw3)) if self.record.takes_group else (images_bhw3,)
        lane = self.lanes.get()
        try:
            pieces = [
                lane.run(*(each[first : first + self.most] for each in inputs))
                for first in range(0, len(images_bhw3), self.most)
            ]
        finally:
            self.lanes.put(lane)
        if self.cache:
            self.cache.save()
        probability, logits = zip(*pieces, strict=True)
        return np.concatenate(probability), np.concatenate(logits)

    def _context(self) -> Any:
        config = [self.cache.config] if self.cache else []
        context = self.engine.create_execution_context(*config)
        if context is None:
            raise UnusableError(f"TensorRT cannot start: {reason(self.logger.errors)}")
        return context


def find_engine(path: Path, trt: ModuleType, gpu: Any, *, build: bool) -> tuple[Path, Sidecar]:
    """The engine for this machine: the file itself or NAME.engine next to it.

    Raises:
        UnusableError, InputError: as TensorRtEngine.
    """
    if is_engine(path):
        sidecar = read_sidecar(path)
        require_fits(sidecar, path, trt, gpu)
        return path, sidecar
    engine = path.with_suffix(".engine")
    try:
        if not engine.is_file():
            raise UnusableError(f"no {engine.name} next to it: `backend=tensorrt` builds it once")
        sidecar = read_sidecar(engine)
        require_fits(sidecar, engine, trt, gpu)
        if sidecar.source != path.name:
            raise UnusableError(f"{engine} was not built from {path.name}")
    except InputError as error:
        if not build:
            # If an engine that the user did not name is unusable, the model itself may still run.
            raise UnusableError(str(error)) from None
        write_engine(path, engine)
        sidecar = read_sidecar(engine)
    return engine, sidecar


def require_valid(runtime: Any, content: bytes, engine: Path, trt: ModuleType) -> None:
    """Raises UnusableError if TensorRT-RTX says that an engine is not for this GPU."""
    validity, diagnostics = runtime.get_engine_validity(content)
    if validity == trt.EngineValidity.INVALID:
        kinds = trt.EngineInvalidityDiagnostics.__members__
        found = [name for name, bit in kinds.items() if int(diagnostics) & int(bit)]
        words = ", ".join(found).lower().replace("_", " ") or "no reason given"
        raise UnusableError(f"{engine}: not for this GPU or driver: {words}")


class RuntimeCache:
    """Kernels that TensorRT-RTX has made for this GPU, in NAME.cache next to the engine."""

    def __init__(self, engine: Any, path: Path) -> None:
        self.config, self.path = engine.create_runtime_config(), path.with_suffix(".cache")
        self.cache = self.config.create_runtime_cache()
        self.saved = False
        with suppress(OSError):  # none yet
            content = self.path.read_bytes()
            # False: for another GPU or version; then it is written again.
            self.saved = self.cache.deserialize(content)
        self.config.set_runtime_cache(self.cache)

    def save(self) -> None:
        """Writes the cache once, after the kernels for the first batch are compiled."""
        if not self.saved:
            self.saved = True
            # If the folder is not writable, the next start only takes some seconds longer.
            with suppress(InputError), atomic_path(self.path) as temporary:
                temporary.write_bytes(bytes(self.cache.serialize()))


class Lane:
    """A stream with a context and buffers for the largest batch; one thread at a time."""

    def __init__(self, context: Any, sidecar: Sidecar, logger: Any) -> None:
        from cuda.bindings import runtime as cuda

        self.cuda, self.context, self.logger = cuda, context, logger
        self.held: list[tuple[Callable[[Any], Any], Any]] = []  # the function that frees it, and its argument
        # Not at exit: CUDA may already be gone then, and its memory with it.
        weakref.finalize(self, _release, self.held).atexit = False
        self.stream = call(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self.held.append((cuda.cudaStreamDestroy, self.stream))
        self.fewest, _, most = sidecar.batches
        size = sidecar.record.preprocess
        self.inputs = {INPUT: self._pinned((most, size.height, size.width, 3), np.uint8)}
        if sidecar.record.takes_group:
            self.inputs[GROUP] = self._pinned((most,), np.int64)
        self.outputs = [self._pinned((most,), np.float32), self._pinned((most, sidecar.record.num_logits), np.float32)]
        self.device = {
            name: self._on_device(host.nbytes)
            for name, host in zip((*self.inputs, *OUTPUTS), (*self.inputs.values(), *self.outputs), strict=True)
        }
        for name, address in self.device.items():
            context.set_tensor_address(name, address)
        self.count, self.graph, self.captures = 0, None, True

    def run(self, *inputs: NDArray[Any]) -> Outputs:
        """Runs at most as many images as there is room for."""
        count = len(inputs[0])
        for host, given in zip(self.inputs.values(), inputs, strict=True):
            np.copyto(host[:count], given)
        # If the engine takes no fewer rows, the remaining ones are computed and ignored.
        rows = max(count, self.fewest)
        if rows != self.count:
            self._resize(rows)
            self._enqueue()
        else:
            # From the second batch of a size on, everything is enqueued in one launch.
            if self.graph is None and self.captures:
                self._capture()
            if self.graph is None:
                self._enqueue()
            else:
                call(self.cuda.cudaGraphLaunch(self.graph, self.stream))
        call(self.cuda.cudaStreamSynchronize(self.stream))
        probability, logits = (host[:count].copy() for host in self.outputs)
        return probability, logits

    def _resize(self, count: int) -> None:
        # A graph is valid only for the shape that it was captured with.
        if self.graph is not None:
            call(self.cuda.cudaGraphExecDestroy(self.graph))
        self.graph, self.count = None, count
        for name, host in self.inputs.items():
            if not self.context.set_input_shape(name, (count, *host.shape[1:])):
                raise RuntimeError(f"TensorRT: {reason(self.logger.errors)}")

    def _enqueue(self) -> None:
        kinds = self.cuda.cudaMemcpyKind
        for name, host in self.inputs.items():
            self._copy(self.device[name], host, kinds.cudaMemcpyHostToDevice)
        if not self.context.execute_async_v3(int(self.stream)):
            raise RuntimeError(f"TensorRT: {reason(self.logger.errors)}")
        for name, host in zip(OUTPUTS, self.outputs, strict=True):
            self._copy(host, self.device[name], kinds.cudaMemcpyDeviceToHost)

    def _copy(self, to: Any, source: Any, kind: Any) -> None:
        host = to if isinstance(to, np.ndarray) else source
        ends = (end.ctypes.data if isinstance(end, np.ndarray) else end for end in (to, source))
        num_bytes = host[: self.count].nbytes
        call(self.cuda.cudaMemcpyAsync(*ends, num_bytes, kind, self.stream))

    def _capture(self) -> None:
        """Captures `_enqueue` as a graph; if that fails, it is called each time."""
        capturable = getattr(self.context, "is_stream_capturable", None)
        if capturable and not capturable(int(self.stream)):
            return  # not yet: TensorRT-RTX may still be making kernels
        cuda = self.cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(cuda.cudaStreamBeginCapture(self.stream, mode))
        try:
            self._enqueue()
        except RuntimeError:
            self.captures = False
        try:
            graph = call(cuda.cudaStreamEndCapture(self.stream))
            if self.captures:
                self.graph = call(cuda.cudaGraphInstantiate(graph, 0))
                call(cuda.cudaGraphDestroy(graph))
        except CudaError:
            self.captures = False
        if not self.captures:
            cuda.cudaGetLastError()  # which TensorRT would take for its own
            self.logger.errors.clear()

    def _on_device(self, num_bytes: int) -> int:
        address = int(call(self.cuda.cudaMalloc(num_bytes)))
        self.held.append((self.cuda.cudaFree, address))
        return address

    def _pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A page-locked array, which asynchronous copies to and from the device need."""
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(call(self.cuda.cudaHostAlloc(num_bytes, 0)))
        self.held.append((self.cuda.cudaFreeHost, address))
        memory = (ctypes.c_byte * num_bytes).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)


def _release(held: list[tuple[Callable[[Any], Any], Any]]) -> None:
    while held:
        free, each = held.pop()
        free(each)
