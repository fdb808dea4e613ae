"""Building TensorRT engines, which needs no GPU with TensorRT-RTX."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from melfast.engines import tensorrt_builder
from melfast.engines.tensorrt_builder import build_engine, find_tensorrt
from melfast.io.errors import InputError


def test_builds_an_exported_model(red_model: Callable[..., Path], tmp_path: Path) -> None:
    engine = build_engine(red_model(tmp_path / "m.onnx"), batches=(1, 2, 7))
    assert len(engine) > 1000
    other = build_engine(red_model(tmp_path / "m.onnx"), batches=(1, 2, 8))
    assert engine != other  # the profile is in it


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_as_asked(
    red_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    trt, flags = find_tensorrt(), []

    made = trt.Builder

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.builder = made(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.builder, name)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            flags.append(config.get_flag(trt.BuilderFlag.TF32))
            return self.builder.build_serialized_network(network, config)

    monkeypatch.setattr(trt, "Builder", Builder)
    build_engine(red_model(tmp_path / "m.onnx"), tf32=tf32)
    assert flags == [tf32]


def test_what_cannot_be_built_is_said(red_model: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"none\.onnx: TensorRT cannot read it: \S+"):
        build_engine(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"gone\.onnx: cannot be read: No such file"):
        build_engine(tmp_path / "gone.onnx")
    model = onnx.load(red_model(tmp_path / "m.onnx"))
    model.graph.input[0].name = "pixels"
    model.graph.node[0].input[0] = "pixels"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="has inputs pixels, expected 'images'"):
        build_engine(tmp_path / "other.onnx")
    for batches in ((0, 1, 2), (2, 1, 3), (1, 5, 4)):
        with pytest.raises(ValueError, match="batches must rise from 1 or more"):
            build_engine(tmp_path / "m.onnx", batches=batches)


def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorrt_builder, "MODULES", ("no_such_tensorrt",))
    with pytest.raises(InputError, match="TensorRT is not installed: pip install tensorrt-cu13"):
        find_tensorrt()
