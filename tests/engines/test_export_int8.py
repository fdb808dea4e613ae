"""INT8: kept where the AUC is the same, float32 otherwise."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from melfast.engines import export_int8
from melfast.engines.export import export_onnx
from melfast.engines.export_int8 import quantise
from melfast.engines.predict import open_engine
from melfast.errors import InputError
from melfast.manifest import Manifest, read_manifest
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.preprocess import Preprocess


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    record = ModelRecord(
        "resnet10t", Preprocess(32, 32, "cielab"), {"channels": [8, 8, 16, 16]}, threshold=0.3
    )
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(build_classifier(record).eval(), record, path)
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


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    path = tmp_path / "out" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(exported.read_bytes())
    return path


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_smaller_and_near(
    model: Path, exported: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_int8, "MAX_AUC_LOSS", 1.0)  # random weights; the limit is below
    found = quantise(model, manifest)
    assert found.kept
    assert (found.images, found.calibrated) == (24, 40)
    assert model.stat().st_size < 0.5 * exported.stat().st_size
    assert "QuantizeLinear" in kinds(model)
    assert list(model.parent.iterdir()) == [model]
    before, after = open_engine(exported), open_engine(model)
    assert after.record == before.record
    assert onnx.load(model).metadata_props != onnx.load(exported).metadata_props
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert properties["precision"] == "int8"
    # Of the kind that set the ranges; others would leave them.
    images = np.stack(
        [np.asarray(Image.open(p).resize((32, 32))) for p in manifest.image_paths[:16]]
    )
    wanted, found_logits = before.run(images)[1], after.run(images)[1]
    assert 0 < np.abs(found_logits - wanted).max() < 0.2 * np.ptp(wanted) + 0.05


def test_worse_is_not_kept(
    model: Path, exported: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    aucs = iter([(0.9, 100.0), (0.894, 200.0)])
    monkeypatch.setattr(export_int8, "_measure", lambda path, images: next(aucs))
    found = quantise(model, manifest)
    assert not found.kept
    assert model.read_bytes() == exported.read_bytes()
    assert list(model.parent.iterdir()) == [model]


def test_the_limit() -> None:
    def kept(auc: float) -> bool:
        return export_int8.Quantised(0.9, auc, 1, 1, 1, 1).kept

    assert [kept(auc) for auc in (0.8951, 0.9049)] == [True, True]
    assert [kept(auc) for auc in (0.8949, 0.9051, float("nan"))] == [False] * 3


def test_bad_input(model: Path, manifest: Manifest) -> None:
    one_class = manifest.select(
        np.flatnonzero((manifest.targets == 1) | (manifest.splits != "valid"))
    )
    with pytest.raises(InputError, match="judged by AUC; wanted validation images of both classes"):
        quantise(model, one_class)
    with pytest.raises(InputError, match="no image in split 'train'"):
        quantise(model, manifest.split("valid"))
