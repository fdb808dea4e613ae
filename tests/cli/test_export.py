"""melfast export, from a checkpoint to a file that melfast predict can use."""

import csv
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from melfast.cli import main
from melfast.data.manifest import read_manifest, write_manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.engines.gpu import find_gpu
from melfast.export import formats as export
from melfast.export import int8 as export_int8
from melfast.export.check import Check
from melfast.io.errors import InputError
from melfast.models.checkpoint import State, load_checkpoint, save_checkpoint
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.record import ModelRecord

RECORD = ModelRecord(
    "resnet10t",
    Preprocess.for_colour(24, 32, "cielab"),
    {"channels": [4, 4, 8, 8], "stem_width": 4},
    threshold=0.5,
    threshold_rule="youden",
)


def usable_gpu() -> bool:
    try:
        find_gpu()
    except InputError:
        return False
    return True


def melfast(*words: object) -> None:
    """In this process: torch takes seconds to import."""
    main.main([str(word) for word in words], standalone_mode=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = build_classifier(RECORD).state_dict()
    save_checkpoint(tmp_path / "run", weights, RECORD, State(epoch=1), {}, best=True)
    return tmp_path / "run"


def test_export_then_predict(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos, model, output = tmp_path / "photos", tmp_path / "model.onnx", tmp_path / "p.csv"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        pixels = rng.integers(0, 256, (30 + n, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{n}.png")

    melfast("export", "--checkpoint", run, "--format", "onnx", "--output", model)
    printed = capfd.readouterr()
    assert printed.err == "", "torch's exporter is not to be heard"
    size = f"{model.stat().st_size / 1e6:.1f} MB"
    first, second, third = printed.out.splitlines()
    assert first == f"{model}: {size}, onnx fp32, resnet10t, input uint8 RGB [B, 24, 32, 3]"
    assert "checked against torch on 42 synthetic images, batches of 1" in second
    wanted = f"  not checked on images of the run: {run / 'manifest.csv'}: no such file"
    assert third.startswith(wanted)
    assert third.endswith("; use --images")

    melfast("predict", "--model", model, "--images", photos, "--output", output)
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    classifier, _ = load_checkpoint(run)
    paths = sorted(photos.iterdir())
    (batch,) = NativeLoader(paths, RECORD.preprocess, evaluation_plan(5, batch_size=5))
    with torch.inference_mode():
        logits = classifier(torch.from_numpy(batch.images).permute(0, 3, 1, 2))
        wanted = decode(logits, RECORD).numpy()
    assert [row["image_name"] for row in rows] == [path.stem for path in paths]
    found = np.array([row["probability"] for row in rows], float)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert [int(row["prediction"]) for row in rows] == [int(p >= 0.5) for p in found]


def test_no_checkpoint_or_place(run: Path, tmp_path: Path) -> None:
    for checkpoint, output, message in (
        (tmp_path / "no", tmp_path / "m.onnx", f"{tmp_path / 'no'}: no such run"),
        (run, run, f"{run}: is a folder, expected a file name to write"),
    ):
        with pytest.raises(InputError) as caught:
            melfast("export", "--checkpoint", checkpoint, "--output", output)
        assert str(caught.value).startswith(message)
    assert not list(tmp_path.glob("*.onnx"))


def test_says_that_there_is_no_threshold(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(model: object, record: object, path: Path, kind: str, **options: object) -> Check:
        path.write_bytes(b"x" * 2_000_000)
        return Check(42, 1.2e-7, 3e-7, 0.25, 0.75)

    monkeypatch.setattr(export, "export_model", written)
    record = run / "checkpoints" / "epoch-001" / "record.json"
    record.write_text(record.read_text().replace('"threshold": 0.5', '"threshold": null'))
    melfast("export", "--checkpoint", run, "--output", tmp_path / "model.onnx")
    printed = capfd.readouterr()
    assert printed.err == "note: the model has no threshold; melfast predict will use 0.5\n"
    assert printed.out == (
        f"{tmp_path / 'model.onnx'}: 2.0 MB, onnx fp32, resnet10t, input uint8 RGB [B, 24, 32, 3]\n"
        "  checked against torch on 42 synthetic images, batches of 1, 2, 7, 32: probability within "
        "1.2e-07 (of 0.250 to 0.750)\n"
        f"  not checked on images of the run: {run / 'manifest.csv'}: no such file; use --images\n"
    )


def test_images_of_a_manifest(run: Path, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.pt"
    melfast(
        "export",
        "--checkpoint",
        run,
        "--format",
        "torchscript",
        "--images",
        tiny_data,
        "--precision",
        "fp16",
        "--output",
        output,
    )
    printed = capfd.readouterr()
    assert printed.err == ""
    assert f"{output}: " in printed.out
    assert "torchscript fp16" in printed.out
    assert (
        f"checked against torch on 42 synthetic images and 42 from {tiny_data} (21 benign, "
        "21 malignant), batches of 1, 2, 7, 32: probability within "
    ) in printed.out


def test_images_of_the_run(run: Path, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --images: those of the run's manifest, if the files exist."""
    table = read_manifest(tiny_data)
    manifest, output = run / "manifest.csv", tmp_path / "model.pt"
    words = ("export", "--checkpoint", run, "--format", "torchscript", "--output", output)
    paths = [str(path) for path in table.image_paths]
    write_manifest(table.with_columns(path=[*paths[:6], *["gone.png"] * 74]), manifest)
    melfast(*words)
    printed = capfd.readouterr().out
    assert f"42 synthetic images and 6 from {manifest} (3 benign, 3 malignant), batches" in printed
    assert "not checked on images" not in printed
    write_manifest(table.with_columns(path=["gone.png"] * 80), manifest)
    melfast(*words)
    printed = capfd.readouterr().out
    assert "checked against torch on 42 synthetic images, batches" in printed
    assert printed.endswith(
        f"  not checked on images of the run: {manifest}: no file of a benign image exists; use --images\n"
    )


@pytest.mark.skipif(usable_gpu(), reason="there is a GPU, which runs it")
def test_the_engine_itself_is_not_run(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    melfast("export", "--checkpoint", run, "--format", "tensorrt", "--output", tmp_path / "m.plan")
    printed = capfd.readouterr().out
    assert "\n  its ONNX graph checked against torch on 42 synthetic images" in printed
    assert "\n  the engine itself was not run: no GPU (cuda" in printed
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.plan", "m.plan.json"]


def test_transformers_folder(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "model_card.md"
    card.write_text("no front matter")
    words = ("export", "--checkpoint", run, "--format", "hf", "--output", tmp_path / "hf")
    with pytest.raises(InputError, match=r"model_card\.md: has no front matter"):
        melfast(*words, "--card", card)
    card.write_text("---\ntags: [a]\n---\n\n# Ours\n")
    melfast(*words, "--card", card)
    printed = capfd.readouterr().out
    assert "input pixel_values [B, 3, 24, 32]" in printed
    assert (
        "not done by transformers: before the network its RGB pixels are converted to CIELAB; "
        "README.md in the folder has the Python code for it"
    ) in printed
    assert "# Ours" in (tmp_path / "hf" / "README.md").read_text()


@pytest.mark.parametrize(("option", "wanted"), [("--card", "hf"), ("--runtime", "triton")])
def test_options_of_other_formats(run: Path, tmp_path: Path, option: str, wanted: str) -> None:
    value = "onnx" if option == "--runtime" else tmp_path
    with pytest.raises(click.UsageError) as caught:
        melfast("export", "--checkpoint", run, "--output", tmp_path / "m", option, value)
    assert str(caught.value) == f"{option} goes with --format {wanted}, got --format onnx"


# INT8


def int8(run: Path, output: Path, *words: object) -> None:
    melfast("export", "--checkpoint", run, "--precision", "int8", "--output", output, *words)


def precision_of(model: Path) -> str:
    return {p.key: p.value for p in onnx.load(model).metadata_props}["precision"]


def test_int8(
    run: Path, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_int8, "MAX_AUC_LOSS", 1.0)  # random weights
    output = tmp_path / "int8.onnx"
    int8(run, output, "--data-path", tiny_data)
    first, second, *others = capfd.readouterr().out.splitlines()
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    assert first == f"{output}: {size}, onnx int8, resnet10t, input uint8 RGB [B, 24, 32, 3]"
    assert second.startswith("  int8, calibrated on 32 training images: AUC 0.")
    assert " in float32 on 24 validation images; " in second
    assert others[-1].startswith("  before that, in float32, checked against torch on 42 synthetic ")
    assert precision_of(output) == "int8"
    melfast("predict", "--model", output, "--images", tiny_data, "--output", tmp_path / "p.csv")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 81


def test_int8_is_not_kept_where_the_auc_differs(
    run: Path, tiny_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([(0.9, 100.0), (0.89, 200.0)])
    monkeypatch.setattr(export_int8, "_measure", lambda path, images: next(found))
    output = tmp_path / "model.onnx"
    output.write_bytes(b"before")
    int8(run, output, "--data-path", tiny_data)
    first, second, *_ = capfd.readouterr().out.splitlines()
    assert "onnx fp32" in first
    assert second == (
        "  int8 is not kept, the file is float32: expected AUC within 0.005, got AUC 0.8900 against "
        "0.9000 in float32 on 24 validation images; 200 against 100 images/s"
    )
    assert precision_of(output) == "fp32"


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (lambda split, target: split != "valid", "no image in split 'valid'"),
        (lambda split, target: split != "train", "no image in split 'train'"),
        (lambda split, target: split != "valid" or target == "1", "images of both classes"),
    ],
    ids=["no valid", "no train", "one class"],
)
def test_int8_without_the_images_it_needs(
    kept: Callable[[str, str], bool],
    message: str,
    run: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes before the export, and the existing file stays."""
    monkeypatch.setattr(export_int8, "write_onnx", None)
    table = read_manifest(tiny_data)
    rows = np.array([kept(s, str(t)) for s, t in zip(table.splits, table.targets, strict=True)])
    paths = [str(path) for path in table.image_paths]
    write_manifest(table.with_columns(path=paths).select(rows), run / "manifest.csv")
    output = tmp_path / "model.onnx"
    output.write_bytes(b"before")
    with pytest.raises(InputError, match=message):
        int8(run, output)
    assert output.read_bytes() == b"before"
    assert not list(tmp_path.glob(".model*"))
