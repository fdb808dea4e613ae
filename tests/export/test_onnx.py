"""The exported graph: colour by hand and by scikit-image, parity with torch, bad input."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.color
import torch
from numpy.typing import NDArray
from PIL import Image

import melfast
from melfast import core
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import ColourSpace, Preprocess
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export import onnx as module
from melfast.export.check import Check, compare_outputs, draw_images
from melfast.export.formats import export_model, export_onnx
from melfast.export.onnx import build_graph
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.deploy import LabInput, RgbInput, lab_curve
from melfast.models.record import ModelRecord

TRAINING = {"epoch": 3, "valid_metrics": {"auc": 0.875}}
# One of each kind; sides differ. vit_relpos has attention with a bias, which the exporter stumbles
# over when torch fuses it.
MODELS: dict[str, tuple[int, int, ColourSpace, dict[str, object]]] = {
    "test_resnet": (48, 64, "rgb", {}),
    "test_convnext": (70, 90, "cielab", {"depths": [1, 1, 1, 1]}),
    "test_efficientnet": (65, 99, "rgb", {}),
    "test_vit_relpos": (64, 96, "cielab", {"img_size": [64, 96], "depth": 1}),
}


@dataclass(frozen=True)
class Exported:
    classifier: torch.nn.Module
    record: ModelRecord
    path: Path
    check: Check


def make_classifier(record: ModelRecord) -> torch.nn.Module:
    """Random weights; the head is scaled so that P(malignant) spreads over images about 0.5."""
    torch.manual_seed(0)
    model = build_classifier(record)
    size = record.preprocess
    images = draw_images(np.random.default_rng(9), 16, size.height, size.width)
    normalised = np.empty(images.shape, np.float32)
    for image, out in zip(images, normalised, strict=True):
        core.normalize(image, out, size.colour, size.mean, size.std)
    inputs = torch.from_numpy(normalised).permute(0, 3, 1, 2)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of these images, not those it began with
    with torch.no_grad():
        model.train()(inputs)
    model.eval()
    head: torch.nn.Linear = model.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        logits = model(inputs)
        scale = 1 / (logits[:, 1] - logits[:, 0]).std()
        head.weight *= scale
        head.bias.copy_(-scale * (logits.mean(0) - head.bias))
    return model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side; threads that wait for each other's cores take far longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    height, width, colour, options = MODELS[request.param]
    record = ModelRecord(
        request.param,
        Preprocess.for_colour(height, width, colour),
        options,
        groups=("light", "dark"),
        threshold=0.3,
        threshold_rule="youden",
        training=TRAINING,
    )
    classifier = make_classifier(record)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return Exported(classifier, record, path, export_onnx(classifier, record, path))


def levels(step: int) -> NDArray[np.uint8]:
    """All colours of a grid of levels, 255 among them; uint8 [1, H, W, 3]."""
    axis = np.arange(0, 256, step, dtype=np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return cube.reshape(1, len(axis) ** 2, len(axis), 3)


def plain_lab(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    plain = Preprocess(1, 1, "cielab", (0, 0, 0), (1, 1, 1))
    lab: NDArray[np.float32] = LabInput(plain.mean, plain.std)(torch.from_numpy(images)).numpy()
    return lab.transpose(0, 2, 3, 1)


def test_lab_by_hand() -> None:
    # Values of the CSS Color 4 and Lindbloom calculators for sRGB, D65.
    colours = {
        (0, 0, 0): (0, 0, 0),
        (255, 255, 255): (100, 0, 0),
        (119, 119, 119): (50.03, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    found = plain_lab(np.array([[list(colours)]], np.uint8))[0, 0]
    np.testing.assert_allclose(found, list(colours.values()), atol=0.02)


def test_lab_against_float64_and_the_core() -> None:
    images = levels(step=5)
    found = plain_lab(images)
    np.testing.assert_allclose(found, skimage.color.rgb2lab(images / 255.0), atol=1e-3)
    np.testing.assert_allclose(found, core.srgb_to_lab(images), atol=1e-3)


def test_lab_curve_is_the_one_of_cie() -> None:
    t = np.linspace(0, 1, 10001)
    wanted = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    found = lab_curve(torch.from_numpy(t.astype(np.float32)))
    np.testing.assert_allclose(found, wanted, atol=3e-7)


@pytest.mark.parametrize("colour", ["rgb", "cielab"])
def test_normalisation_is_the_core_s(colour: ColourSpace) -> None:
    preprocess = Preprocess(1, 1, colour, (0.3, 5.0, -7.0), (0.2, 11.0, 3.0))
    images = levels(step=17)
    wanted = np.empty(images.shape[1:], np.float32)
    core.normalize(images[0], wanted, colour, preprocess.mean, preprocess.std)
    convert = RgbInput if colour == "rgb" else LabInput
    found = convert(preprocess.mean, preprocess.std)(torch.from_numpy(images))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-6 if colour == "rgb" else 1e-3)


def test_check_of_the_export(exported: Exported) -> None:
    check = exported.check
    assert check.images == 1 + 2 + 7 + 32
    assert 0 <= check.probability_error <= 1e-5
    assert check.logit_error <= 1e-5
    assert check.highest - check.lowest > 0.3, "images that are all alike check nothing"


def test_parity_from_files(exported: Exported, tmp_path: Path) -> None:
    """float32 from the loader through torch, and uint8 from the loader through the graph."""
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{n}.{'jpg' if n % 2 else 'png'}" for n in range(9)]
    for n, path in enumerate(paths):
        Image.fromarray(draw_images(rng, 1, 90 + 31 * n, 120 + 17 * n)[0]).save(path)
    size, plan = exported.record.preprocess, evaluation_plan(len(paths), batch_size=4)
    engine = OnnxEngine(exported.path, threads=2)
    floats = NativeLoader(paths, size, plan, threads=2)
    bytes_ = NativeLoader(paths, size, plan, threads=2, dtype=np.uint8)
    seen = []
    for wanted, found in zip(floats, bytes_, strict=True):
        with torch.inference_mode():
            logits = exported.classifier(torch.from_numpy(wanted.images).permute(0, 3, 1, 2))
        probability, found_logits = engine.run(found.images)
        np.testing.assert_allclose(probability, decode(logits, exported.record), rtol=0, atol=1e-5)
        np.testing.assert_allclose(found_logits, logits, rtol=0, atol=1e-4)
        seen += list(probability)
    assert len(seen) == 9
    assert np.ptp(seen) > 0.1


def test_self_contained(exported: Exported) -> None:
    assert list(exported.path.parent.iterdir()) == [exported.path]
    model = onnx.load(exported.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert model.opset_import[0].version >= 18
    text = exported.path.read_bytes()
    assert str(Path(melfast.__file__).parent).encode() not in text
    assert b"site-packages" not in text


def test_interface(exported: Exported) -> None:
    graph = onnx.load(exported.path).graph
    size = exported.record.preprocess
    found = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert found == {
        "images": ("UINT8", ["batch", size.height, size.width, 3]),
        "probability": ("FLOAT", ["batch"]),
        "logits": ("FLOAT", ["batch", 2]),
    }


def test_metadata(exported: Exported) -> None:
    engine = OnnxEngine(exported.path)
    # Through JSON and back: a tuple in the backbone's options would be a list.
    assert engine.record == exported.record
    words = engine.session.get_modelmeta().custom_metadata_map
    assert words["backbone"] == exported.record.backbone
    assert words["classes"] == "benign, malignant"
    assert words["groups"] == "light, dark"
    assert words["threshold"] == "0.3 (youden, on the validation split)"
    assert json.loads(words["training"]) == TRAINING
    assert words["melfast_version"] == melfast.__version__
    size = exported.record.preprocess
    assert f"[B, {size.height}, {size.width}, 3]" in words["input"]
    assert words["preprocess"].startswith(f"inside the graph: ({size.colour} - [")


@pytest.fixture(scope="module")
def small() -> tuple[torch.nn.Module, ModelRecord]:
    record = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4})
    return make_classifier(record), record


@pytest.fixture(scope="module")
def small_graph(small: tuple[torch.nn.Module, ModelRecord]) -> onnx.ModelProto:
    return build_graph(*small)


def spoil(graph: onnx.ModelProto, value: float) -> onnx.ModelProto:
    """The graph with a changed bias of the malignant class."""
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(graph)
    (gemm,) = (node for node in spoilt.graph.node if node.op_type == "Gemm")
    (bias,) = (t for t in spoilt.graph.initializer if t.name == gemm.input[2])
    array = onnx.numpy_helper.to_array(bias) + np.array([0, value], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(array, bias.name))
    return spoilt


Small = tuple[torch.nn.Module, ModelRecord]


@pytest.mark.parametrize(("shift", "shown"), [(0.1, "0.02"), (1e-3, "0.0002"), (np.nan, "nan")])
def test_a_graph_that_differs_is_not_kept(
    small: Small,
    small_graph: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shift: float,
    shown: str,
) -> None:
    monkeypatch.setattr(module, "build_graph", lambda *_: spoil(small_graph, shift))
    path = tmp_path / "model.onnx"
    path.write_text("as it was")
    with pytest.raises(InputError, match=rf"differs from torch by {shown}\S* in probability and"):
        export_onnx(*small, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "as it was"


def test_a_graph_that_is_the_same_is_kept(
    small: Small, small_graph: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "build_graph", lambda *_: spoil(small_graph, 0))
    assert export_onnx(*small, tmp_path / "model.onnx").passed
    monkeypatch.setattr(module, "build_graph", lambda *_: spoil(small_graph, 2e-5))
    assert export_onnx(*small, tmp_path / "model.onnx").probability_error > 2e-6


def test_the_comparison_feeds_torch_as_training_does(
    small: Small, small_graph: onnx.ModelProto, tmp_path: Path
) -> None:
    """With another mean in the record the same weights and graph no longer agree."""
    classifier, record = small
    other = record.replace(preprocess=Preprocess(24, 32, mean=(0.5, 0.5, 0.5)))
    graph = onnx.ModelProto()
    graph.CopyFrom(small_graph)
    onnx.helper.set_model_props(graph, {"melfast": other.to_json()})
    onnx.save(graph, tmp_path / "model.onnx")
    engine = OnnxEngine(tmp_path / "model.onnx")
    assert compare_outputs(engine.run, classifier, record).passed
    assert not compare_outputs(engine.run, classifier, engine.record).passed


def test_too_large_for_one_file(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT_BYTES", 1000)
    with pytest.raises(InputError) as caught:
        export_onnx(*small, tmp_path / "model.onnx")
    assert str(caught.value) == (
        "model.backbone 'resnet10t' has 0.00 GiB of weights, expected at most 0.00: an ONNX file cannot hold more"
    )
    assert not list(tmp_path.iterdir())


def test_place_is_tried_before_the_work(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_graph", lambda *_: pytest.fail("the work began"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export_onnx(*small, tmp_path / "file" / "model.onnx")


class Branching(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean((2, 3))[:, :2]
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_cannot_be_traced(small: Small, tmp_path: Path) -> None:
    record = small[1].replace(backbone="branching")
    with pytest.raises(InputError) as caught:
        export_onnx(Branching().eval(), record, tmp_path / "model.onnx")
    message = str(caught.value)
    assert message.startswith("model.backbone 'branching' cannot be written as ONNX: ")
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_training_mode_is_our_mistake(small: Small, tmp_path: Path) -> None:
    classifier = make_classifier(small[1]).train()
    with pytest.raises(AssertionError, match="training mode"):
        export_onnx(classifier, small[1], tmp_path / "model.onnx")


@pytest.mark.parametrize("head", ["domain_discriminative", "domain_independent"])
def test_heads_of_groups_are_decoded_in_the_graph(head: Any, tmp_path: Path) -> None:
    options = {"channels": [8, 8, 8, 8], "stem_width": 8}
    record = ModelRecord(
        "resnet10t",
        Preprocess(32, 32),
        options,
        head=head,
        groups=("light", "tan", "dark"),
        priors=((0.5, 0.1), (0.3, 0.05), (0.05, 0.0)),
    )
    classifier = make_classifier(record)
    check = export_onnx(classifier, record, tmp_path / "model.onnx")
    assert check.highest - check.lowest > 0.1
    engine = OnnxEngine(tmp_path / "model.onnx")
    assert engine.record == record
    images = draw_images(np.random.default_rng(3), 5, 32, 32)
    probability, logits = engine.run(images)
    assert logits.shape == (5, 6)
    wanted = decode(torch.from_numpy(logits), record)
    np.testing.assert_allclose(probability, wanted, atol=1e-6)
    plain = torch.from_numpy(logits).view(5, 3, 2).softmax(2)[:, 0, 1]
    assert np.abs(probability - plain.numpy()).max() > 0.01  # not the result of any single group


@pytest.fixture(scope="module", params=["test_convnext", "test_vit_relpos"])
def halved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Layer norm after convolutions, and attention with a bias."""
    height, width, colour, options = MODELS[request.param]
    record = ModelRecord(request.param, Preprocess.for_colour(height, width, colour), options)
    classifier = make_classifier(record)
    path = tmp_path_factory.mktemp("halved") / "model.onnx"
    return Exported(classifier, record, path, export_model(classifier, record, path, precision="fp16"))


def test_half_precision(halved: Exported) -> None:
    assert 1e-6 < halved.check.probability_error <= 5e-3
    assert halved.check.highest - halved.check.lowest > 0.3
    model = onnx.load(halved.path)
    onnx.checker.check_model(model, full_check=True)
    found = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    kinds = onnx.TensorProto
    assert found == {"images": kinds.UINT8, "probability": kinds.FLOAT, "logits": kinds.FLOAT}
    sizes = dict.fromkeys((kinds.FLOAT, kinds.FLOAT16), 0)
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    count = sum(p.numel() for p in halved.classifier.parameters())
    assert sizes[kinds.FLOAT16] > 0.9 * count
    assert sizes[kinds.FLOAT] < 0.1 * count + 3 * 3 * 256  # norms, and the tables of the colours


def test_half_precision_leaves_what_overflows_in_float32(halved: Exported) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(halved.path))
    graph = model.graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    of_op = {
        op: {kinds[n.output[0]] for n in graph.node if n.op_type == op}
        for op in ("LayerNormalization", "Log", "Exp", "Conv", "Softmax")
    }
    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert of_op["LayerNormalization"] == {float32}
    assert of_op["Log"] == of_op["Exp"] == {float32}  # the CIELAB curve
    assert of_op["Conv"] == {float16}
    last = next(n for n in graph.node[::-1] if n.op_type == "Softmax")
    assert kinds[last.output[0]] == float32  # of the decoding


def test_norms_that_would_overflow(tmp_path: Path) -> None:
    """Squares of activations of 1000 are beyond float16, and their sums far beyond."""
    record = ModelRecord("test_convnext", Preprocess(64, 64), {"depths": [1, 1, 1, 1]})
    classifier = make_classifier(record)
    with torch.no_grad():
        stem: torch.nn.Conv2d = classifier.stem[0]  # type: ignore[union-attr, index, assignment]
        stem.weight *= 3000
        size = record.preprocess
        images = draw_images(np.random.default_rng(0), 4, size.height, size.width)
        highest = stem(RgbInput(size.mean, size.std)(torch.from_numpy(images))).abs().max()
    assert 1000 < highest < 65504
    assert export_model(classifier, record, tmp_path / "m.onnx", precision="fp16").passed


def test_a_network_beyond_float16_is_not_kept(tmp_path: Path) -> None:
    options = {"channels": [4, 4, 8, 8], "stem_width": 4}
    record = ModelRecord("resnet10t", Preprocess(24, 32), options)
    classifier = make_classifier(record)
    with torch.no_grad():
        classifier.bn1.weight *= 1e6  # type: ignore[union-attr, operator]
    with pytest.raises(InputError, match=r"m\.onnx: the exported model differs from torch by "):
        export_model(classifier, record, tmp_path / "m.onnx", precision="fp16")
    assert not list(tmp_path.iterdir())
