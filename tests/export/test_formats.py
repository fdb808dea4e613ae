"""Every format: heads and colours survive it; its messages; no files are left behind."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from melfast.data.preprocess import ColourSpace, Preprocess
from melfast.engines import tensorrt_builder
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.engines.tensorrt_file import read_sidecar, write_engine
from melfast.export import formats as export
from melfast.export import torch as export_torch
from melfast.export.check import Check, draw_images, torch_logits
from melfast.export.formats import export_model
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.record import Head, ModelRecord

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
HEADS: tuple[Head, ...] = ("plain", "domain_discriminative", "domain_independent")
COLOURS: tuple[ColourSpace, ...] = ("rgb", "cielab")
EVERY_HEAD = pytest.mark.parametrize("head", HEADS)
EVERY_COLOUR = pytest.mark.parametrize("colour", COLOURS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side; threads that wait for each other's cores take far longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def model_of(head: Head, colour: ColourSpace) -> tuple[torch.nn.Module, ModelRecord]:
    """Random weights, P(malignant) spread over images; with a calibration and a threshold."""
    groups: dict[str, Any] = {}
    if head != "plain":
        groups = {"groups": ("light", "dark"), "priors": ((0.6, 0.1), (0.2, 0.1))}
    isotonic = ((0.1, 0.05), (0.5, 0.6), (0.9, 0.95)) if colour == "cielab" else ()
    record = ModelRecord(
        "resnet10t",
        Preprocess.for_colour(24, 32, colour),
        {"channels": [8, 8, 8, 8], "stem_width": 8},
        head=head,
        **groups,
        temperature=1.0 if isotonic else 1.7,
        isotonic=isotonic,
        offset=0.0 if isotonic else -0.4,
        threshold=0.3,
        threshold_rule="youden",
    )
    torch.manual_seed(1)
    model = build_classifier(record).eval()
    logits = torch_logits(model, record.preprocess, images_of(32))
    head_layer: torch.nn.Linear = model.fc  # type: ignore[assignment]
    with torch.no_grad():
        head_layer.weight /= logits.std(0)[:, None]
        head_layer.bias.copy_(-logits.mean(0) / logits.std(0))
    return model, record


def images_of(count: int) -> NDArray[np.uint8]:
    return draw_images(np.random.default_rng(5), count, 24, 32)


def answer_of(model: torch.nn.Module, record: ModelRecord, images: NDArray[np.uint8]) -> Answer:
    logits = torch_logits(model, record.preprocess, images)
    return decode(logits, record).numpy(), logits.numpy()


def torchscript(path: Path) -> torch.nn.Module:
    with pytest.deprecated_call():
        return torch.jit.load(path)  # type: ignore[no-any-return]


def torch_export(path: Path) -> torch.nn.Module:
    return torch.export.load(path).module()


LOADERS = {"torchscript": torchscript, "torch-export": torch_export}


@EVERY_HEAD
@EVERY_COLOUR
@pytest.mark.parametrize("kind", list(LOADERS))
def test_through_torch_s_own_files(kind: Any, head: Head, colour: ColourSpace, tmp_path: Path) -> None:
    model, record = model_of(head, colour)
    path = tmp_path / ("model.pt" if kind == "torchscript" else "model.pt2")
    check = export_model(model, record, path, kind)
    assert check.probability_error <= 1e-5
    loaded = LOADERS[kind](path)
    for count in (1, 3):
        images = images_of(count)
        with torch.inference_mode():
            found = [each.numpy() for each in loaded(torch.from_numpy(images))]
        for got, wanted in zip(found, answer_of(model, record, images), strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, wanted, atol=1e-5)


@EVERY_HEAD
@EVERY_COLOUR
def test_through_onnx_and_tensorrt(head: Head, colour: ColourSpace, tmp_path: Path) -> None:
    """One export serves both: an engine that builds without a GPU does not run without one."""
    model, record = model_of(head, colour)
    export_model(model, record, tmp_path / "model.onnx")
    images = images_of(3)
    engine = OnnxEngine(tmp_path / "model.onnx", threads=1)
    assert engine.record == record
    for got, wanted in zip(engine.run(images), answer_of(model, record, images), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    write_engine(tmp_path / "model.onnx", tmp_path / "model.plan")
    assert (tmp_path / "model.plan").stat().st_size > 1000
    assert read_sidecar(tmp_path / "model.plan").record == record


@EVERY_COLOUR
def test_half_precision_through_tensorrt(colour: ColourSpace, tmp_path: Path) -> None:
    model, record = model_of("plain", colour)
    check = export_model(model, record, tmp_path / "m.plan", "tensorrt", precision="fp16")
    assert 0 < check.probability_error <= 5e-3
    assert (tmp_path / "m.plan").stat().st_size > 1000
    assert [path.name for path in tmp_path.glob("*.onnx")] == []


@pytest.mark.parametrize("kind", list(LOADERS))
def test_half_precision_through_torch_s_own_files(kind: Any, tmp_path: Path) -> None:
    model, record = model_of("plain", "cielab")
    check = export_model(model, record, tmp_path / "half.pt2", kind, precision="fp16")
    assert 1e-6 < check.probability_error <= 5e-3
    assert {p.dtype for p in model.parameters()} == {torch.float32}, "the model is as it was"
    loaded = list(LOADERS[kind](tmp_path / "half.pt2").parameters())
    assert {p.dtype for p in loaded} == {torch.float16}
    assert sum(p.numel() for p in loaded) == sum(p.numel() for p in model.parameters())


@EVERY_HEAD
@EVERY_COLOUR
def test_a_trace_can_go_to_another_device(head: Head, colour: ColourSpace, tmp_path: Path) -> None:
    """What the trace has on its own device goes to that of the images before it meets others."""
    model, record = model_of(head, colour)
    export_model(model, record, tmp_path / "model.pt", "torchscript")
    graph = str(torchscript(tmp_path / "model.pt").inlined_graph)
    nodes: list[tuple[str, str, list[str]]] = []
    for line in graph.splitlines():
        if found := re.match(r"\s*%(\S+) : .* = (\w+::\w+)\((.*)\)", line):
            nodes.append((found[1], found[2], re.findall(r"%([\w.]+)", found[3])))
    stay = set(re.findall(r"%(\S+) : Device = prim::Constant", graph))
    for output, operator, inputs in nodes:
        if stay & set(inputs):
            if operator != "aten::type_as":
                assert operator in ("aten::to", "aten::detach"), f"{operator} of {inputs}"
                stay.add(output)
            else:
                assert inputs[1] not in stay
    assert head == "plain" or any(operator == "aten::type_as" for _, operator, _ in nodes)


@pytest.mark.gpu
@pytest.mark.parametrize("head", HEADS)
def test_torchscript_on_a_gpu(head: Head, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model, record = model_of(head, "cielab")
    export_model(model, record, tmp_path / "model.pt", "torchscript")
    with pytest.deprecated_call():
        loaded = torch.jit.load(tmp_path / "model.pt", map_location="cuda")
    images = images_of(3)
    with torch.inference_mode():
        probability, _ = loaded(torch.from_numpy(images).cuda())
    wanted, _ = answer_of(model, record, images)
    np.testing.assert_allclose(probability.cpu(), wanted, atol=1e-3)  # TF32


@pytest.mark.parametrize("kind", list(LOADERS))
def test_the_record_is_inside(kind: Any, tmp_path: Path) -> None:
    model, record = model_of("domain_independent", "rgb")
    path = tmp_path / "model.pt2"
    export_model(model, record, path, kind)
    extra = {export_torch.RECORD_FILE: ""}
    if kind == "torchscript":
        with pytest.deprecated_call():
            torch.jit.load(path, _extra_files=extra)
    else:
        torch.export.load(path, extra_files=extra)
    text = extra[export_torch.RECORD_FILE]
    assert ModelRecord.from_json(text, "x") == record
    assert json.loads(text)["threshold"] == 0.3


def test_torch_alone_runs_them(tmp_path: Path) -> None:
    """In a process that cannot import melfast or timm."""
    model, record = model_of("plain", "cielab")
    images = torch.from_numpy(images_of(2))
    torch.save(images, tmp_path / "images.pt")
    files = {"torchscript": tmp_path / "model.pt", "torch-export": tmp_path / "model.pt2"}
    for kind, path in files.items():
        export_model(model, record, path, kind)  # type: ignore[arg-type]
    script = (
        "import sys, torch\n"
        "sys.modules['melfast'] = sys.modules['timm'] = None\n"
        "traced, exported, images = sys.argv[1:]\n"
        "for model in torch.jit.load(traced), torch.export.load(exported).module():\n"
        "    print(*model(torch.load(images))[0].tolist())\n"
    )
    words = [*files.values(), tmp_path / "images.pt"]
    command = [sys.executable, "-W", "ignore", "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted, _ = answer_of(model, record, images.numpy())
    for line in done.stdout.splitlines():
        np.testing.assert_allclose(np.array(line.split(), float), wanted, atol=1e-5)
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "torch-export", "hf", "triton", "tensorrt"])
def test_what_differs_is_not_kept(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, record = model_of("plain", "rgb")
    monkeypatch.setattr(export, "compare_outputs", lambda run, *_: Check(42, 2e-5, 0.0, 0.0, 1.0, "fp32"))
    if kind in ("onnx", "triton", "tensorrt"):  # seconds, for a file that is thrown away
        monkeypatch.setattr(export, "write_onnx", lambda *_, **options: None)
    with pytest.raises(InputError) as caught:
        export_model(model, record, tmp_path / "model", kind)
    assert str(caught.value) == (
        f"{tmp_path / 'model'}: the exported model differs from torch by 2e-05 in probability and "
        "0 in logits, expected at most 1e-05 and 0.0001 (fp32); nothing was written"
    )
    assert not list(tmp_path.iterdir())


class Sorting(torch.nn.Module):
    """A network whose output for an image depends on the other images of the batch."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images)
        return logits + len(images) * 0.01  # a constant to torch.jit.trace


def test_a_trace_of_one_batch_size_is_found(tmp_path: Path) -> None:
    model, record = model_of("plain", "rgb")
    with pytest.raises(InputError, match="differs from torch by"):
        export_model(Sorting(model).eval(), record, tmp_path / "model.pt", "torchscript")
    assert not list(tmp_path.iterdir())


class Branching(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean((2, 3))[:, :2]
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_torch_export_cannot_trace(tmp_path: Path) -> None:
    _, record = model_of("plain", "rgb")
    record = record.replace(backbone="branching")
    with pytest.raises(InputError) as caught:
        export_model(Branching().eval(), record, tmp_path / "m.pt2", "torch-export")
    message = str(caught.value)
    assert message.startswith("model.backbone 'branching' cannot be written as torch.export: ")
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_masked_models_stay(tmp_path: Path) -> None:
    model, record = model_of("plain", "rgb")
    masked = record.replace(preprocess=Preprocess(24, 32, masked=True))
    with pytest.raises(InputError, match="the model was trained on masked images"):
        export_model(model, masked, tmp_path / "m.pt", "torchscript")


@pytest.mark.parametrize("kind", ["hf", "triton"])
def test_a_folder_that_is_there_stays(kind: Any, tmp_path: Path) -> None:
    model, record = model_of("plain", "rgb")
    (tmp_path / "file").write_text("as it was")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError) as caught:
            export_model(model, record, output, kind)
        assert str(caught.value) == f"{output}: already exists, expected the name of a new folder"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_place_of_an_engine_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, record = model_of("plain", "rgb")
    monkeypatch.setattr(export, "write_onnx", lambda *_: pytest.fail("the work began"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export_model(model, record, tmp_path / "file" / "model.plan", "tensorrt")


def test_engines_for_triton_are_of_tensorrt_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, record = model_of("plain", "rgb")
    monkeypatch.setattr(tensorrt_builder, "MODULES", ("tensorrt_rtx", "tensorrt_rtx_bindings"))
    with pytest.raises(InputError) as caught:
        export_model(model, record, tmp_path / "repo", "triton", runtime="tensorrt")
    found = tensorrt_builder.find_tensorrt().__name__
    assert str(caught.value) == (
        f"{tmp_path / 'repo'}: Triton runs only engines of TensorRT itself, got {found}; pip install "
        "tensorrt-cu13, or the ONNX file: `runtime='onnx'`"
    )
    assert not list(tmp_path.iterdir())


def test_rgb_pixels_are_floats_before_all_else(tmp_path: Path) -> None:
    """TensorRT does nothing else with uint8."""
    model, record = model_of("plain", "rgb")
    export_model(model, record, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert {node.op_type for node in graph.node if "images" in node.input} == {"Cast"}


@functools.cache
def model_by_group() -> tuple[torch.nn.Module, ModelRecord]:
    model, record = model_of("domain_independent", "rgb")
    return model, record.replace(inference="group_conditional")


@pytest.mark.parametrize("kind", list(LOADERS))
def test_the_tone_group_through_torch_s_own_files(kind: Any, tmp_path: Path) -> None:
    model, record = model_by_group()
    path = tmp_path / ("model.pt" if kind == "torchscript" else "model.pt2")
    export_model(model, record, path, kind)
    loaded, images, group = LOADERS[kind](path), images_of(5), torch.tensor([0, 1, -1, 0, 1])
    logits = torch_logits(model, record.preprocess, images)
    own, mean = decode(logits, record, group), decode(logits, record)
    with torch.inference_mode():
        np.testing.assert_allclose(loaded(torch.from_numpy(images), group)[0], own, atol=1e-5)
        if kind == "torchscript":  # torch.export knows no optional input
            np.testing.assert_allclose(loaded(torch.from_numpy(images))[0], mean, atol=1e-5)
    assert (own - mean).abs().max() > 0.01


def test_the_tone_group_through_onnx_and_tensorrt(tmp_path: Path) -> None:
    model, record = model_by_group()
    export_model(model, record, tmp_path / "model.onnx")
    images, group = images_of(5), np.array([0, 1, -1, 0, 1])
    logits = torch_logits(model, record.preprocess, images)
    for threads in (1, 3):
        engine = OnnxEngine(tmp_path / "model.onnx", threads=threads)
        for given in (group, None):
            wanted = decode(logits, record, None if given is None else torch.from_numpy(given))
            np.testing.assert_allclose(engine.run(images, given)[0], wanted, atol=1e-5)
    # Left out, one for all and one an image, as ONNX Runtime alone takes them.
    session = engine.session
    one = {"images": images, "group": np.array([1])}
    np.testing.assert_allclose(session.run(None, one)[0], decode(logits, record, torch.full((5,), 1)), atol=1e-5)
    np.testing.assert_allclose(session.run(None, {"images": images})[0], decode(logits, record), atol=1e-5)
    # TensorRT would take an input with a default for a constant.
    trt = tensorrt_builder.find_tensorrt()
    write_engine(tmp_path / "model.onnx", tmp_path / "model.plan")
    built = trt.Runtime(tensorrt_builder.make_logger(trt)).deserialize_cuda_engine(
        (tmp_path / "model.plan").read_bytes()
    )
    if built is not None:  # None: without a GPU
        assert [built.get_tensor_name(i) for i in range(2)] == ["images", "group"]
    content = onnx.load_from_string(tensorrt_builder.without_defaults((tmp_path / "model.onnx").read_bytes()))
    assert "group" not in [each.name for each in content.graph.initializer]
    assert [each.name for each in content.graph.input] == ["images", "group"]


def test_a_file_without_the_input_is_refused(tmp_path: Path) -> None:
    """As written by an older melfast, whose probabilities do not depend on the group."""
    model, record = model_of("domain_independent", "rgb")
    export_model(model, record, tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    onnx.helper.set_model_props(file, {"melfast": record.replace(inference="group_conditional").to_json()})
    onnx.save(file, tmp_path / "old.onnx")
    with pytest.raises(InputError, match=r"old\.onnx: inputs and outputs do not fit its metadata"):
        OnnxEngine(tmp_path / "old.onnx")
