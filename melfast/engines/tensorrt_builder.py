"""TensorRT: build an engine from an exported ONNX file.

TensorRT and TensorRT-RTX share one API. TensorRT-RTX builds without a GPU; neither runs without one.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from melfast.engines.base import INPUT, UnusableError
from melfast.io.errors import InputError
from melfast.io.files import atomic_path

# The second RTX name is the one that its wheel with only the bindings installs.
MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
INSTALL = (
    "pip install tensorrt-cu13 (or tensorrt-rtx-cu13-libs and tensorrt-rtx-cu13-bindings, which "
    "also build without a GPU)"
)


def find_tensorrt() -> ModuleType:
    """The first of MODULES that is installed.

    Raises:
        UnusableError: none is installed.
    """
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise UnusableError(f"TensorRT is not installed: {INSTALL}")


def is_portable(trt: ModuleType) -> bool:
    """Whether engines work on every GPU: those of TensorRT-RTX are completed when first loaded."""
    return "rtx" in trt.__name__


def build_engine(
    path: str | Path,
    *,
    batches: tuple[int, int, int] = (1, 32, 64),
    timing_cache: Path | None = None,
    tf32: bool = False,
) -> bytes:
    """A serialized engine of a file that `melfast export` wrote.

    The network is strongly typed: its precision is that of the file.

    Args:
        batches: smallest, optimal and largest number of images per batch.
        timing_cache: a file that keeps kernel timings for the next build. TensorRT-RTX does not time
            kernels while it builds, and writes none.
        tf32: whether float32 products may use TF32, the default of TensorRT: faster, but with a 10-bit
            mantissa, which is too inexact for our float32 tolerance.
    Raises:
        InputError: TensorRT is not installed, or cannot read or build the file.
        ValueError: `batches` are not rising numbers >= 1.
    """
    if not 1 <= batches[0] <= batches[1] <= batches[2]:
        raise ValueError(f"batches must rise from 1 or more, got {batches}")
    trt = find_tensorrt()
    try:
        content = without_defaults(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    # Typed by the ONNX file; TensorRT 11 has only such networks, but still accepts the flag.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise InputError(f"{path}: TensorRT cannot read it: {reason(reasons + logger.errors)}")
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    if INPUT not in inputs:
        raise InputError(
            f"{path}: has inputs {', '.join(inputs)}, expected {INPUT!r}: a model that melfast export wrote"
        )
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, tensor in inputs.items():
        profile.set_shape(name, *((batch, *tuple(tensor.shape)[1:]) for batch in batches))
    config.add_optimization_profile(profile)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if is_portable(trt):
        timing_cache = None
    if timing_cache:
        before = timing_cache.read_bytes() if timing_cache.is_file() else b""
        # Timings of another GPU or version are refused and measured again.
        if not config.set_timing_cache(config.create_timing_cache(before), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise InputError(f"{path}: TensorRT cannot build an engine: {reason(logger.errors)}")
    if timing_cache:
        with atomic_path(timing_cache) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def without_defaults(content: bytes) -> bytes:
    """An ONNX file whose inputs are all required: TensorRT treats an input with a default as a constant."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        return content  # TensorRT reports what is wrong with it
    names = {each.name for each in model.graph.input}
    constants = [each for each in model.graph.initializer if each.name not in names]
    if len(constants) == len(model.graph.initializer):
        return content
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    return model.SerializeToString()


def make_logger(trt: ModuleType) -> Any:
    """A logger that is silent and keeps the errors in its list `errors`."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Logger()


def reason(errors: list[str]) -> str:
    return " ".join(errors[0].split()) if errors else "no reason given"
