"""Ways to run an exported model: each is a context that yields `run(uint8 [B, H, W, 3])`.

All take images from host memory and return P(malignant) [B] there.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast.engines.base import UnusableError

if TYPE_CHECKING:
    import torch

    from melfast.models.deploy import ExportedClassifier

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@contextmanager
def torch_engine(exported: "torch.nn.Module", device: str) -> Iterator[Engine]:
    """The original torch module of the file."""
    import torch

    module = exported.to(device, memory_format=torch.channels_last)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probability: Any = module(torch.from_numpy(images).to(device))[0].cpu().numpy()
        return probability

    yield run


@contextmanager
def bf16_engine(exported: "ExportedClassifier", device: str, *, compiled: bool) -> Iterator[Engine]:
    """The same with weights and products of the network in bfloat16, with or without torch.compile.

    Colours and decoding stay in float32, as in an fp16 file.
    """
    import torch

    module = copy.deepcopy(exported).to(device)
    network = module.classifier.bfloat16().to(memory_format=torch.channels_last)

    def to_bfloat16(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(each.to(torch.bfloat16, memory_format=torch.channels_last) for each in inputs)

    network.register_forward_pre_hook(to_bfloat16)
    with torch_engine(torch.compile(module) if compiled else module, device) as run:  # type: ignore[arg-type]
        yield run


@contextmanager
def tensorrt_engine(path: Path, batch: int) -> Iterator[Engine]:
    """TensorRT with one profile, for batches of 1 to `batch`; the engine is written next to the file."""
    from melfast.engines.tensorrt import TensorRtEngine
    from melfast.engines.tensorrt_file import write_engine

    built = path.with_suffix(".engine")
    write_engine(path, built, batches=(1, batch, batch), tf32=True)
    try:
        engine = TensorRtEngine(built)
    except UnusableError as error:
        num_bytes = built.stat().st_size
        raise UnusableError(f"an engine of {num_bytes:,} bytes was built; {error}") from None
    yield lambda images: engine.run(images)[0]


@contextmanager
def onnx_engine(path: Path, device: Literal["cpu", "cuda"]) -> Iterator[Engine]:
    """ONNX Runtime; on CUDA only if it really runs there, because it falls back silently."""
    from melfast.engines.onnx_runtime import OnnxEngine

    engine = OnnxEngine(path, device=device)
    yield lambda images: engine.run(images)[0]
