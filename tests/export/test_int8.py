"""INT8: kept where the AUC is the same, float32 otherwise."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from melfast.data.manifest import Manifest, read_manifest
from melfast.data.preprocess import Preprocess
from melfast.export import int8 as export_int8
from melfast.export.formats import export_onnx
from melfast.export.int8 import calibration_split, quantise
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.predict.predictor import open_engine

RECORD = ModelRecord("resnet10t", Preprocess(32, 32, "cielab"), {"channels": [8, 8, 16, 16]}, threshold=0.3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(build_classifier(RECORD).eval(), RECORD, path)
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """40 images for training and 24 for validation; the malignant ones are darker."""
    rng = np.random.default_rng(0)
    lines = ["image_name,path,target,split"]
    for i in range(64):
        level = rng.integers(90, 200) - 60 * (i % 2)
        pixels = np.clip(rng.normal(level, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(f"i{i},{i}.png,{i % 2},{'train' if i < 40 else 'valid'}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    return read_manifest(tmp_path / "m.csv")


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_smaller_and_near(exported: Path, manifest: Manifest, tmp_path: Path) -> None:
    model = tmp_path / "int8.onnx"
    found = quantise(exported, model, calibration_split(manifest))
    assert (found.images, found.calibrated) == (24, 40)
    assert model.stat().st_size < 0.5 * exported.stat().st_size
    before, after = open_engine(exported), open_engine(model)
    assert after.record == before.record
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert properties["precision"] == "int8"
    # Of the kind that set the ranges; others would leave them.
    images = np.stack([np.asarray(Image.open(p).resize((32, 32))) for p in manifest.image_paths[:16]])
    wanted, found_logits = before.run(images)[1], after.run(images)[1]
    assert 0 < np.abs(found_logits - wanted).max() < 0.2 * np.ptp(wanted) + 0.05


def test_convolutions_are_computed_in_int8(exported: Path, manifest: Manifest, tmp_path: Path) -> None:
    """With signed activations, ONNX Runtime on x86 silently leaves some convolutions in float32."""
    model, optimised = tmp_path / "int8.onnx", tmp_path / "optimised.onnx"
    quantise(exported, model, calibration_split(manifest))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = kinds(optimised)
    assert found.count("QLinearConv") == kinds(exported).count("Conv") > 10
    assert "Conv" not in found


def test_no_two_products_overflow_16_bits(exported: Path, manifest: Manifest, tmp_path: Path) -> None:
    """Processors without VNNI add pairs of products of uint8 and int8, and saturate silently."""
    model = tmp_path / "int8.onnx"
    quantise(exported, model, calibration_split(manifest))
    graph = onnx.load(model).graph
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name.endswith("_quantized") and tensor.data_type == onnx.TensorProto.INT8
    ]
    assert len(weights) > 10
    assert 2 * 255 * max(int(np.abs(w.astype(int)).max()) for w in weights) < 2**15
    activations = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    points = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert {points[node.input[2]] for node in activations} == {onnx.TensorProto.UINT8}


def test_depthwise_convolutions_stay_in_float32(manifest: Manifest, tmp_path: Path) -> None:
    torch.manual_seed(0)
    record = ModelRecord("convnext_atto", Preprocess(32, 32), {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]})
    path, model = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    export_onnx(build_classifier(record).eval(), record, path)
    quantise(path, model, calibration_split(manifest))
    graph = onnx.load(model).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
            assert (made.get(node.input[1]) != "DequantizeLinear") == grouped
    assert any(a.name == "group" and a.i > 1 for n in graph.node for a in n.attribute)


class Raised(Exception):  # noqa: N818
    pass


def classifier_of(record: ModelRecord) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_classifier(record).eval()


@pytest.mark.parametrize(("auc", "kept"), [(0.896, True), (0.894, False)])
def test_kept_or_not(
    auc: float, kept: bool, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aucs = iter([(0.9, 100.0), (auc, 200.0)])
    monkeypatch.setattr(export_int8, "_measure", lambda path, images: next(aucs))
    output = tmp_path / "out" / "model.onnx"
    check, found = export_int8.export_int8(classifier_of(RECORD), RECORD, output, calibration_split(manifest))
    assert check.passed
    assert found.kept == kept
    assert ("QuantizeLinear" in kinds(output)) == kept
    properties = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert properties["precision"] == ("int8" if kept else "fp32")
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("step", ["write_onnx", "write_int8", "_measure"])
def test_a_failure_leaves_the_file_that_was_there(
    step: str, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object) -> None:
        raise Raised

    monkeypatch.setattr(export_int8, step, fail)
    output = tmp_path / "out" / "model.onnx"
    output.parent.mkdir()
    output.write_bytes(b"before")
    with pytest.raises(Raised):
        export_int8.export_int8(classifier_of(RECORD), RECORD, output, calibration_split(manifest))
    assert output.read_bytes() == b"before"
    assert list(output.parent.iterdir()) == [output]


def test_the_limit() -> None:
    def kept(auc: float) -> bool:
        return export_int8.Quantised(0.9, auc, 1, 1, 1, 1).kept

    assert [kept(auc) for auc in (0.8951, 0.9049)] == [True, True]
    assert [kept(auc) for auc in (0.8949, 0.9051, float("nan"))] == [False] * 3


def test_bad_input(manifest: Manifest) -> None:
    one_class = manifest.select(np.flatnonzero((manifest.targets == 1) | (manifest.splits != "valid")))
    with pytest.raises(InputError, match="judged by AUC; expected validation images of both classes"):
        calibration_split(one_class)
    with pytest.raises(InputError, match="no image in split 'train'"):
        calibration_split(manifest.split("valid"))
    with pytest.raises(InputError, match="no image in split 'valid'"):
        calibration_split(manifest.split("train"))
    lost = manifest.split("valid").image_paths[3]
    lost.unlink()
    with pytest.raises(InputError) as caught:
        calibration_split(manifest)
    assert str(caught.value) == (
        f"{manifest.path}: 1 of the 64 images that INT8 needs are missing, the first is {lost}"
    )
