"""An engine and its sidecar: round trip, and every engine that must not be run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from melfast.engines import tensorrt_file
from melfast.engines.base import UnusableError, file_sha256
from melfast.engines.gpu import Gpu
from melfast.engines.tensorrt import find_engine
from melfast.engines.tensorrt_builder import find_tensorrt
from melfast.engines.tensorrt_file import Sidecar, read_sidecar, require_fits, runtime_name, sidecar_path, write_engine
from melfast.io.errors import InputError
from melfast.io.schema import from_json

GPU = Gpu("drawn", "9.0")
BATCHES = (1, 2, 4)


@pytest.fixture
def model(red_model: Callable[..., Path], tmp_path: Path) -> Path:
    return red_model(tmp_path / "model.onnx")


@pytest.fixture
def engine(model: Path) -> Path:
    path = model.with_suffix(".engine")
    assert write_engine(model, path, batches=BATCHES) == sidecar_path(path)
    return path


def test_round_trip(engine: Path, model: Path) -> None:
    sidecar = read_sidecar(engine)
    assert sidecar == from_json(Sidecar, sidecar.to_json(), "")
    assert (sidecar.source, sidecar.batches) == ("model.onnx", BATCHES)
    assert sidecar.source_sha256 == file_sha256(model)
    assert sidecar.engine_sha256 == file_sha256(engine)
    assert (sidecar.record.backbone, sidecar.record.threshold) == ("red", 0.25)
    assert sidecar.runtime == runtime_name(find_tensorrt())
    require_fits(sidecar, engine, find_tensorrt(), sidecar.gpu or GPU)
    assert sorted(path.name for path in engine.parent.iterdir() if path.suffix != ".timing") == [
        "model.engine",
        "model.engine.json",
        "model.onnx",
    ]


def test_the_source_is_known_beside_the_engine_alone(model: Path, tmp_path: Path) -> None:
    write_engine(model, tmp_path / "there" / "m.engine", batches=BATCHES)
    engine = tmp_path / "there" / "m.engine"
    sidecar = read_sidecar(engine)
    assert sidecar.source == ""
    # As written by melfast export: there is no source that it could be older than.
    require_fits(sidecar, engine, find_tensorrt(), sidecar.gpu or GPU)


def test_stale_and_foreign(engine: Path, model: Path) -> None:
    trt, sidecar = find_tensorrt(), read_sidecar(engine)
    other = replace(sidecar, runtime="tensorrt 1.0")
    with pytest.raises(UnusableError) as caught:
        require_fits(other, engine, trt, GPU)
    assert str(caught.value) == f"{engine} was built by tensorrt 1.0, but {runtime_name(trt)} is installed"
    other = replace(sidecar, gpu=Gpu("other", "8.6"))
    with pytest.raises(UnusableError, match="was built for") as caught:
        require_fits(other, engine, trt, GPU)
    assert str(caught.value) == (
        f"{engine} was built for other (compute capability 8.6), found drawn (compute capability 9.0)"
    )
    proto = onnx.load(model)
    proto.doc_string = "changed"
    onnx.save(proto, model)
    with pytest.raises(UnusableError) as caught:
        require_fits(replace(sidecar, gpu=None), engine, trt, GPU)
    assert str(caught.value) == f"{engine} is stale: model.onnx has changed since it was built"
    model.unlink()  # an engine alone needs no source
    require_fits(replace(sidecar, gpu=None), engine, trt, GPU)


def test_found_beside_the_model_or_built(model: Path) -> None:
    trt, path = find_tensorrt(), model.with_suffix(".engine")
    with pytest.raises(UnusableError, match=r"^no model\.engine next to it"):
        find_engine(model, trt, GPU, build=False)
    found, first = find_engine(model, trt, GPU, build=True)
    assert (found, first.batches) == (path, (1, 32, 64))
    changed = path.stat().st_mtime_ns
    assert find_engine(model, trt, GPU, build=True) == (path, first)  # as it was
    assert path.stat().st_mtime_ns == changed
    proto = onnx.load(model)
    proto.doc_string = "changed"
    onnx.save(proto, model)
    with pytest.raises(UnusableError, match="is stale"):
        find_engine(model, trt, GPU, build=False)
    with pytest.raises(UnusableError, match="is stale"):  # named itself, it is not replaced
        find_engine(path, trt, GPU, build=True)
    _, second = find_engine(model, trt, GPU, build=True)
    assert second.source_sha256 == file_sha256(model) != first.source_sha256
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnusableError, match="is not the engine that"):
        find_engine(model, trt, GPU, build=False)
    find_engine(model, trt, GPU, build=True)
    read_sidecar(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "not JSON: EOF while parsing an object"),
        (lambda text: "[]", r"must be a mapping by name, got \[\]"),
        (lambda text: "{}", "source is missing; "),
        (
            lambda text: json.dumps(json.loads(text) | {"source": "../../x.onnx"}),
            "source must be the name of a file in",
        ),
        (lambda text: json.dumps(json.loads(text) | {"batches": [4, 2, 1]}), "batches must be three rising numbers"),
        (lambda text: json.dumps(json.loads(text) | {"engine_sha256": "x"}), "engine_sha256 must be 64 hexadecimal"),
        (
            lambda text: json.dumps(json.loads(text) | {"batches": [1]}),
            r"batches must be a list of at least 3, got \[1\]",
        ),
        (lambda text: json.dumps(json.loads(text) | {"more": 1}), "more: unknown key"),
        (lambda text: json.dumps(json.loads(text) | {"record": {}}), "record.backbone is missing"),
        (lambda text: '{"melfast_engine_format": 99}', "melfast_engine_format must be 1, got 99"),
    ],
)
def test_broken_sidecar(engine: Path, change: Any, message: str) -> None:
    path = sidecar_path(engine)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        read_sidecar(engine)
    assert str(caught.value).startswith(f"{path}: ")


def test_engines_that_are_not_whole(engine: Path) -> None:
    whole = engine.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        engine.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_sidecar(engine)
        assert str(caught.value) == f"{engine}: is not the engine that model.engine.json describes, or is incomplete"
    sidecar_path(engine).unlink()
    with pytest.raises(InputError) as caught:
        read_sidecar(engine)
    assert str(caught.value) == (
        f"{engine}: its sidecar model.engine.json is missing; expected both files that melfast export wrote"
    )


def test_both_or_none(engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in engine.parent.iterdir()}
    model.write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be read as an ONNX file; is it complete"):
        write_engine(model, engine)
    model.write_bytes(before["model.onnx"])

    def fail(path: Path, **options: Any) -> None:
        raise InputError("no engine")

    monkeypatch.setattr(tensorrt_file, "build_engine", fail)
    with pytest.raises(InputError, match="no engine"):
        write_engine(model, engine)
    assert {path.name: path.read_bytes() for path in engine.parent.iterdir()} == before


def test_not_ours(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    onnx.helper.set_model_props(proto, {"author": "somebody"})
    onnx.save(proto, model)
    with pytest.raises(InputError, match="an ONNX model without 'melfast' in its metadata"):
        write_engine(model, tmp_path / "m.engine")
    assert not (tmp_path / "m.engine").exists()
