"""Ways to run an exported model: each a context that gives `run(uint8 [B, H, W, 3])`.

All take images from the host's memory and give P(malignant) [B] back to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melfast.engines.base import INPUT, OUTPUTS

if TYPE_CHECKING:
    import torch

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class UnusableError(Exception):
    """This engine cannot run here; the message says why."""


@contextmanager
def torch_engine(exported: "torch.nn.Module", device: str) -> Iterator[Engine]:
    """The module that the file was made of, in torch."""
    import torch

    module = exported.to(device).to(memory_format=torch.channels_last)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probability: Any = module(torch.from_numpy(images).to(device))[0].cpu().numpy()
        return probability

    yield run


@contextmanager
def onnx_engine(path: Path, device: str) -> Iterator[Engine]:
    """ONNX Runtime; on CUDA only where it really works there, for it falls back in silence."""
    import onnxruntime

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise UnusableError(f"this ONNX Runtime has no {provider}: pip install onnxruntime-gpu")
    if device == "cuda":
        onnxruntime.preload_dlls()  # the CUDA libraries that torch came with
    session = onnxruntime.InferenceSession(path, providers=[provider])
    if session.get_providers()[0] != provider:
        raise UnusableError(f"ONNX Runtime took {session.get_providers()[0]} for {provider}")

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (probability,) = session.run(OUTPUTS[:1], {INPUT: images})
        return probability

    yield run


@contextmanager
def tensorrt_engine(path: Path, batch: int) -> Iterator[Engine]:
    """TensorRT with one profile, for batches of 1 to `batch`; torch holds its memory."""
    import torch

    from melfast.engines.tensorrt import build_engine, find_tensorrt, make_logger, reason

    plan = build_engine(path, batches=(1, batch, batch))
    if not torch.cuda.is_available():
        raise UnusableError(f"an engine of {len(plan):,} bytes was built; no CUDA device runs it")
    trt = find_tensorrt()
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UnusableError(f"TensorRT cannot load its engine: {reason(logger.errors)}")
    context = engine.create_execution_context()
    stream = torch.cuda.Stream()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.cuda.stream(stream):
            inputs = torch.from_numpy(images).cuda(non_blocking=True)
            outputs = {}
            context.set_input_shape(INPUT, tuple(inputs.shape))
            context.set_tensor_address(INPUT, inputs.data_ptr())
            for name in OUTPUTS:
                shape = tuple(context.get_tensor_shape(name))
                outputs[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
                context.set_tensor_address(name, outputs[name].data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError(f"TensorRT: {reason(logger.errors)}")
            probability: Any = outputs[OUTPUTS[0]].cpu().numpy()
        return probability

    yield run
