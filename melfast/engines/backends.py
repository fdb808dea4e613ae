"""Backends: what can run a model on this machine, and which of them is taken."""

from pathlib import Path
from typing import Literal

from melfast.engines.base import Engine

Backend = Literal["auto", "onnx-cpu"]


def open_engine(
    model: str | Path, backend: Backend = "auto", *, threads: int | None = None
) -> Engine:
    """Loads an exported model.

    Args:
        backend: `auto` takes the CPU.
        threads: None: one a core that the process may use.
    Raises:
        InputError: see OnnxCpuEngine.
    """
    from melfast.engines.onnx_cpu import OnnxCpuEngine

    if backend not in ("auto", "onnx-cpu"):
        raise ValueError(f"backend must be 'auto' or 'onnx-cpu', got {backend!r}")
    return OnnxCpuEngine(model, threads=threads)
