"""melfast export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from melfast.cli import CONTEXT
from melfast.cli.say import say

if TYPE_CHECKING:
    from melfast.export.check import Check, Pictures
    from melfast.export.int8 import Quantised, Split
    from melfast.models.record import ModelRecord

FORMATS = ("onnx", "torchscript", "torch-export", "hf", "tensorrt", "triton")


@click.command("export", context_settings=CONTEXT)
@click.option(
    "--checkpoint",
    required=True,
    type=Path,
    help="Export this run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="onnx", show_default=True, help="Write this format."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Store weights in this format. fp16 halves the size; colours, norms and probabilities stay in float32. int8 "
    "is for onnx on CPUs, and is used only if the validation AUC stays within 0.005.",
)
@click.option("--output", required=True, type=Path, help="Write this file, or for hf and triton this new folder.")
@click.option(
    "--images",
    type=Path,
    help="Compare the exported model with torch on these images (manifest or folder) as well as on synthetic ones.  "
    "[default: the run's images, if they are available]",
)
@click.option(
    "--data-path",
    type=Path,
    help="Calibrate int8 on the training images of this manifest and check it on the validation images.  "
    "[default: the run's manifest]",
)
@click.option("--card", type=Path, help="Use this model_card.md, written by evaluate --report, in the README.md of hf.")
@click.option(
    "--runtime",
    type=click.Choice(["onnx", "tensorrt"]),
    help="Run the triton model with this runtime.  [default: onnx]",
)
def command(
    checkpoint: Path,
    kind: str,
    precision: str,
    output: Path,
    images: Path | None,
    data_path: Path | None,
    card: Path | None,
    runtime: str | None,
) -> None:
    """Write a classifier in a form that runs without melfast.

    \b
    onnx          one file for ONNX Runtime and TensorRT
    torchscript   .pt for torch.jit.load and libtorch (torch calls it deprecated)
    torch-export  .pt2 for torch.export.load
    hf            folder for transformers' AutoModelForImageClassification
    tensorrt      engine for this machine's kind of GPU
    triton        model repository for NVIDIA's Triton server

    All formats except hf take uint8 RGB images at the model's input size and return the probability
    of malignancy and the logits; colour conversion, normalisation, decoding and calibration are
    built in. The outputs are compared with those of torch before any file is put in place.

    \b
    Example: melfast export --checkpoint runs/first --format onnx --output model.onnx
    """
    for option, value, wanted in (("--card", card, "hf"), ("--runtime", runtime, "triton")):
        if value is not None and kind != wanted:
            raise click.UsageError(f"{option} goes with --format {wanted}, got --format {kind}")
    if precision == "int8" and kind != "onnx":
        raise click.UsageError(f"--precision int8 goes with --format onnx, got --format {kind}")
    if data_path is not None and precision != "int8":
        raise click.UsageError("--data-path goes with --precision int8")

    from melfast.export.check import read_pictures
    from melfast.export.formats import export_model
    from melfast.export.hf import needs, unfolded
    from melfast.io.files import locked
    from melfast.models.checkpoint import load_checkpoint

    classifier, record = load_checkpoint(checkpoint)
    split = int8_split(checkpoint, data_path) if precision == "int8" else None
    none = ""
    if images:
        pictures: Pictures | None = read_pictures(images, record)
    else:
        pictures, none = default_pictures(data_path or run_manifest(checkpoint), record)
    quantised = None
    with locked(output, beside=True):
        if split is not None:
            from melfast.export.int8 import export_int8

            check, quantised = export_int8(classifier, record, output, split, pictures=pictures)
        else:
            check = export_model(
                classifier,
                record,
                output,
                kind,  # type: ignore[arg-type]
                precision=precision,  # type: ignore[arg-type]
                pictures=pictures,
                card=read_card(card) if card else None,
                runtime=runtime or "onnx",  # type: ignore[arg-type]
            )
    for line in told(output, record, check, kind, quantised, engine="tensorrt" in (kind, runtime)):
        say(line)
    if none:
        say(f"  {none}")
    if kind == "hf" and (beyond := needs(unfolded(classifier, record))):
        say(f"  not done by transformers: {'; '.join(beyond)}; README.md in the folder has the Python code for it")
    if record.threshold is None:
        say("note: the model has no threshold; melfast predict will use 0.5", err=True)


def int8_split(checkpoint: Path, data_path: Path | None) -> "Split":
    from melfast.data.manifest import read_manifest
    from melfast.export.int8 import calibration_split

    return calibration_split(read_manifest(data_path or run_manifest(checkpoint)))


def run_manifest(checkpoint: Path) -> Path:
    """Path of the manifest in the run that a checkpoint belongs to."""
    from melfast.evaluate.run import run_of
    from melfast.models.checkpoint import find_checkpoint
    from melfast.train.data import MANIFEST

    return run_of(find_checkpoint(checkpoint)) / MANIFEST


def default_pictures(manifest: Path, record: "ModelRecord") -> "tuple[Pictures | None, str]":
    """Images of the run for the check, or None and the reason why there are none."""
    from melfast.export.check import pictures_at_hand
    from melfast.io.errors import InputError

    try:
        return pictures_at_hand(manifest, record), ""
    except InputError as error:
        return None, f"not checked on images of the run: {error}; use --images"


def told_of_int8(found: "Quantised") -> list[str]:
    """The result of quantisation as lines to print."""
    from melfast.export.int8 import MAX_AUC_LOSS

    numbers = (
        f"AUC {found.auc_int8:.4f} against {found.auc_fp32:.4f} in float32 on {found.images:,} "
        f"validation images; {found.rate_int8:,.0f} against {found.rate_fp32:,.0f} images/s"
    )
    if not found.kept:
        return [f"  int8 is not kept, the file is float32: expected AUC within {MAX_AUC_LOSS}, got {numbers}"]
    lines = [f"  int8, calibrated on {found.calibrated} training images: {numbers}"]
    if found.rate_int8 < found.rate_fp32:
        lines.append("  int8 is slower than float32 on this processor, but smaller")
    return lines


def read_card(path: Path) -> str:
    from melfast.io.errors import InputError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not text.startswith("---\n") or text.count("---\n") < 2:
        raise InputError(f"{path}: has no front matter between lines of '---', expected a model_card.md")
    return text


def told(
    output: Path,
    record: "ModelRecord",
    check: "Check",
    kind: str,
    quantised: "Quantised | None" = None,
    *,
    engine: bool,
) -> list[str]:
    """What was written and how it compares with torch, as lines to print."""
    from melfast.export.check import CHECK_BATCHES

    files = [f for f in output.rglob("*") if f.is_file()] if output.is_dir() else [output]
    size, num_bytes = record.preprocess, sum(f.stat().st_size for f in files)
    takes = f"input uint8 RGB [B, {size.height}, {size.width}, 3]"
    if kind == "hf":
        takes = f"input pixel_values [B, 3, {size.height}, {size.width}]"
    if record.takes_group:
        takes += " and the tone group int64 [B], -1 unknown"
    batches = ", ".join(map(str, CHECK_BATCHES))
    precision = "int8" if quantised and quantised.kept else check.precision
    graph = "before that, in float32, " if precision == "int8" else ""
    if engine:
        graph = "its ONNX graph " if check.not_run else "the engine itself "
    return [
        f"{output}: {num_bytes / 1e6:.1f} MB, {kind} {precision}, {record.backbone}, {takes}",
        *(told_of_int8(quantised) if quantised else []),
        f"  {graph}checked against torch on "
        f"{sum(CHECK_BATCHES)} synthetic images"
        + (f" and {check.pictures}" if check.pictures else "")
        + f", batches of {batches}: probability within {check.probability_error:.1e} "
        f"(of {check.lowest:.3f} to {check.highest:.3f})",
        *([f"  the engine itself was not run: {check.not_run}"] if check.not_run else []),
    ]
