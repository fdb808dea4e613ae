"""export_int8: write a classifier as an ONNX file quantised for the CPU, if its AUC stays the same."""

import contextlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from melfast.data.manifest import Manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.export.check import Check, Pictures, compare_outputs
from melfast.export.formats import require_exportable
from melfast.export.onnx import write_onnx
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.metrics.metrics import roc_auc
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict.predictor import open_engine, predictions

CALIBRATION_IMAGES, BATCH = 256, 32
MAX_AUC_LOSS = 0.005
# The operators with nearly all of the work; colours, norms and decoding stay in float32.
QUANTISED = ["Conv", "MatMul", "Gemm"]


@dataclass(frozen=True)
class Quantised:
    """Result of a quantisation.

    Attributes:
        auc_fp32, auc_int8: AUC on the validation images.
        rate_fp32, rate_int8: images/s of the two files on those images, including decoding.
        images: number of validation images.
        calibrated: number of training images that set the ranges.
    """

    auc_fp32: float
    auc_int8: float
    rate_fp32: float
    rate_int8: float
    images: int
    calibrated: int

    @property
    def kept(self) -> bool:
        """Whether the AUC is good enough; False for NaN."""
        return abs(self.auc_int8 - self.auc_fp32) <= MAX_AUC_LOSS


@dataclass(frozen=True)
class Split:
    """The images that quantisation needs from a manifest.

    Attributes:
        calibration: images of the training split.
        valid: images of the validation split, with both classes.
    """

    calibration: list[Path]
    valid: Manifest


def calibration_split(manifest: Manifest, *, seed: int = 0) -> Split:
    """The images that quantisation needs; checked before any work is done.

    Args:
        seed: seed of the choice of training images.
    Raises:
        InputError: a split is missing, validation has only one class, or image files are missing.
    """
    valid = manifest.split("valid")
    valid = valid.select(np.flatnonzero(valid.targets >= 0))
    if len(set(valid.targets.tolist())) < 2:
        raise InputError(f"{manifest.path}: INT8 is judged by AUC; expected validation images of both classes")
    train = manifest.split("train")
    taken = np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_IMAGES]
    calibration = train.select(np.sort(taken)).image_paths
    files = [*calibration, *valid.image_paths]
    missing = [path for path in files if not os.path.isfile(path)]
    if missing:
        raise InputError(
            f"{manifest.path}: {len(missing)} of the {len(files)} images that INT8 needs are "
            f"missing, the first is {missing[0]}"
        )
    return Split(calibration, valid)


def export_int8(
    classifier: torch.nn.Module,
    record: ModelRecord,
    output: str | Path,
    split: Split,
    *,
    pictures: Pictures | None = None,
) -> tuple[Check, Quantised]:
    """`export_model` to ONNX in float32, then INT8; writes float32 if INT8 is worse.

    Returns:
        How far the float32 file is from torch, and the result of the quantisation.
    Raises:
        InputError: see export_model; or an image cannot be read. Nothing is left behind, and an
            existing file is kept.
    """
    output = Path(output)
    require_exportable(classifier, record, output)
    with atomic_path(output) as temporary, tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        run = write_onnx(classifier, record, fp32, "fp32")
        check = compare_outputs(run, classifier, record, "fp32", pictures)
        check.require_passed(output)
        found = quantise(fp32, int8, split)
        shutil.copyfile(int8 if found.kept else fp32, temporary)
    return check, found


def quantise(path: Path, output: Path, split: Split) -> Quantised:
    """Writes an exported float32 file in INT8, and evaluates both.

    Raises:
        InputError: an image cannot be read.
    """
    write_int8(path, output, [str(file) for file in split.calibration])
    (auc_fp32, rate_fp32), (auc_int8, rate_int8) = (_measure(file, split.valid) for file in (path, output))
    return Quantised(auc_fp32, auc_int8, rate_fp32, rate_int8, len(split.valid), len(split.calibration))


def write_int8(path: Path, output: Path, files: list[str]) -> None:
    """Writes an exported float32 file in INT8.

    Static quantisation by ONNX Runtime: weights per channel, activations by their ranges on the
    images in `files`. Activations are unsigned: with signed ones ONNX Runtime on x86 computed
    21 of ConvNeXt-Tiny's 22 convolutions in float32, between two conversions. Weights have 7 bits,
    so that processors without VNNI, which add two products in 16 bits, do not saturate silently:
    2 * 255 * 64 < 2**15.
    """
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _batches(path, files)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with contextlib.redirect_stdout(io.StringIO()), _silent(logging.getLogger()):
        quantization.quantize_static(
            path,
            output,
            Images(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=_depthwise(path),
        )
    whole, model = onnx.load(path), onnx.load(output)
    properties = {entry.key: entry.value for entry in whole.metadata_props}
    onnx.helper.set_model_props(model, properties | {"precision": "int8"})
    onnx.save(model, output)


def _depthwise(path: Path) -> list[str]:
    """Convolutions by channel group: little of the work, and ranges that differ greatly between channels."""
    graph = onnx.load(path).graph
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]


def _batches(path: Path, files: list[str]) -> Iterator[NDArray[np.uint8]]:
    preprocess = open_engine(path, "onnx-cpu").record.preprocess
    plan = evaluation_plan(len(files), batch_size=BATCH)
    with NativeLoader(files, preprocess, plan, dtype=np.uint8) as batches:
        for batch in batches:
            yield batch.images.copy()


def _measure(path: Path, images: Manifest) -> tuple[float, float]:
    """AUC and images/s of an exported file."""
    engine = open_engine(path, "onnx-cpu")
    begin = time.perf_counter()
    answers = predictions(engine, images.image_paths, InferenceSettings(batch_size=BATCH))
    score = np.concatenate([batch.probability for batch in answers])
    return roc_auc(images.targets, score), len(score) / (time.perf_counter() - begin)


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Silences ONNX Runtime's quantiser, which recommends steps that are not needed here."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
