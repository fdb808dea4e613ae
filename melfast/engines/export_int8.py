"""INT8: an exported ONNX file quantised for the CPU, kept where it is as good."""

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.engines.predict import open_engine, predictions
from melfast.errors import InputError
from melfast.evaluate.metrics import roc_auc
from melfast.manifest import Manifest

CALIBRATION_IMAGES, BATCH = 256, 32
MAX_AUC_LOSS = 0.005
# What holds nearly all of the work; colours, norms and decoding stay in float32.
QUANTISED = ["Conv", "MatMul", "Gemm"]


@dataclass(frozen=True)
class Quantised:
    """What quantisation came to.

    Attributes:
        auc_fp32, auc_int8: on the validation images.
        rate_fp32, rate_int8: images/s of the two files on those images, decoding among it.
        images: of the validation split; `calibrated` of the training split set the ranges.
    """

    auc_fp32: float
    auc_int8: float
    rate_fp32: float
    rate_int8: float
    images: int
    calibrated: int

    @property
    def kept(self) -> bool:
        """False for NaN, too."""
        return abs(self.auc_int8 - self.auc_fp32) <= MAX_AUC_LOSS


def quantise(path: Path, manifest: Manifest, *, seed: int = 0) -> Quantised:
    """Replaces an exported float32 file by one in INT8, if its AUC is the same within MAX_AUC_LOSS.

    Static quantisation by ONNX Runtime: weights by channel, activations by the ranges that
    CALIBRATION_IMAGES of the training split show. Weights have 7 bits, since with 8 processors
    without VNNI saturate in silence.

    Args:
        path: the file; it stays as it is where INT8 is worse.
        manifest: with a training split, and a validation split of both classes.
        seed: of which training images are taken.
    Raises:
        InputError: a split is missing, or an image cannot be read.
    """
    valid = _labelled(manifest, "valid")
    if len(set(valid.targets.tolist())) < 2:
        raise InputError(
            f"{manifest.path}: INT8 is judged by AUC; wanted validation images of both classes"
        )
    train = manifest.split("train")
    taken = np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_IMAGES]
    files = [str(train.image_paths[i]) for i in sorted(taken)]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        int8 = Path(folder, "int8.onnx")
        _quantise(path, int8, files)
        (auc_fp32, rate_fp32), (auc_int8, rate_int8) = (_measure(f, valid) for f in (path, int8))
        found = Quantised(auc_fp32, auc_int8, rate_fp32, rate_int8, len(valid), len(files))
        if found.kept:
            int8.replace(path)
    return found


def _labelled(manifest: Manifest, split: str) -> Manifest:
    part = manifest.split(split)
    return part.select(np.flatnonzero(part.targets >= 0))


def _quantise(path: Path, output: Path, files: list[str]) -> None:
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _batches(path, files)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with contextlib.redirect_stdout(io.StringIO()), _silent(logging.getLogger()):
        quantization.quantize_static(
            path, output, Images(), per_channel=True, reduce_range=True,
            op_types_to_quantize=QUANTISED,
        )  # fmt: skip
    whole, model = onnx.load(path), onnx.load(output)
    properties = {entry.key: entry.value for entry in whole.metadata_props}
    onnx.helper.set_model_props(model, properties | {"precision": "int8"})
    onnx.save(model, output)


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
    answers = predictions(engine, images.image_paths, batch_size=BATCH)
    score = np.concatenate([batch.probability for batch in answers])
    return roc_auc(images.targets, score), len(score) / (time.perf_counter() - begin)


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """ONNX Runtime's quantiser recommends steps that this one needs not."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
