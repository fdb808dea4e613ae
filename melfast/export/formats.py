"""export_model: write a classifier in a form that runs without melfast, checked against torch."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from melfast.engines.base import UnusableError
from melfast.engines.tensorrt import TensorRtEngine
from melfast.engines.tensorrt_file import write_engine
from melfast.export.check import Check, Pictures, Run, compare_outputs
from melfast.export.hf import logit_names, write_hf
from melfast.export.onnx import write_onnx
from melfast.export.torch import write_torch_export, write_torchscript
from melfast.export.triton import MAX_BATCH, Runtime, lay_out
from melfast.io.errors import InputError
from melfast.io.files import atomic_folder, atomic_path, require_writable
from melfast.io.words import check_words
from melfast.models.deploy import Precision
from melfast.models.record import ModelRecord

PLAN_BATCHES = (1, MAX_BATCH // 2, MAX_BATCH)
ExportFormat = Literal["onnx", "torchscript", "torch-export", "hf", "tensorrt", "triton"]


def export_onnx(classifier: torch.nn.Module, record: ModelRecord, path: str | Path) -> Check:
    """`export_model` to ONNX in float32."""
    return export_model(classifier, record, path)


@check_words
def export_model(
    classifier: torch.nn.Module,
    record: ModelRecord,
    output: str | Path,
    kind: ExportFormat = "onnx",
    *,
    precision: Precision = "fp32",
    pictures: Pictures | None = None,
    card: str | None = None,
    runtime: Runtime = "onnx",
) -> Check:
    """Writes a classifier in one of the formats, and compares the result with torch.

    For TensorRT, the ONNX graph is compared, and also the engine if this machine can run it; otherwise
    Check.not_run says why not.

    Args:
        classifier: normalised images [B, 3, H, W] to logits [B, K]; float32, on the CPU, in eval
            mode.
        output: a file; for `hf` and `triton` a new folder.
        pictures: real images for the comparison, besides synthetic ones.
        card: for `hf`, the model card that `melfast evaluate --report` wrote.
        runtime: for `triton`, the runtime of the model there.
    Raises:
        InputError: the network cannot be written in this format, its outputs differ from those of
            torch by more than melfast.export.check allows, or `output` cannot be written. Nothing is
            left behind, and an existing file is kept.
    """
    output = Path(output)
    require_exportable(classifier, record, output)

    def checked(run: Run) -> Check:
        check = compare_outputs(run, classifier, record, precision, pictures)
        check.require_passed(output)
        return check

    def engine(path: Path) -> Check:
        with _scratch_folder() as scratch:
            onnx = scratch / "model.onnx"
            found = checked(write_onnx(classifier, record, onnx, precision, optional_group=False))

            def run(built: Path) -> None:
                nonlocal found
                try:
                    loaded = TensorRtEngine(built)
                except UnusableError as error:
                    found = replace(found, not_run=str(error).replace(str(built), path.name))
                else:
                    found = checked(loaded.run)

            write_engine(onnx, path, batches=PLAN_BATCHES, check=run)
        return found

    # The temporary file comes first, so an unwritable folder is reported before the work.
    if kind == "hf":
        with atomic_folder(output) as folder:
            return checked(write_hf(classifier, record, folder, precision, card))
    if kind == "triton":
        with atomic_folder(output) as folder:
            model = lay_out(record, folder, runtime, logit_names(record))
            if runtime == "onnx":
                # Triton does not batch requests for a model with an input that has a default.
                return checked(write_onnx(classifier, record, model, precision, optional_group=False))
            _require_full_tensorrt(output)
            with _scratch_folder() as scratch:
                check = engine(scratch / "model.plan")
                shutil.copyfile(scratch / "model.plan", model)
            return check
    if kind == "tensorrt":
        require_writable(output)
        return engine(output)
    write = {"onnx": write_onnx, "torchscript": write_torchscript, "torch-export": write_torch_export}[kind]
    with atomic_path(output) as temporary:
        return checked(write(classifier, record, temporary, precision))


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def require_exportable(classifier: torch.nn.Module, record: ModelRecord, output: Path) -> None:
    """Raises InputError, naming `output`, for a model that cannot be exported."""
    assert not classifier.training, "export of a model in training mode"
    tensors = (*classifier.parameters(), *classifier.buffers())
    assert all(t.device.type == "cpu" for t in tensors), "export of a model that is not on the CPU"
    if record.preprocess.masked:
        raise InputError(
            f"{output}: the model was trained on masked images (preprocess.masked), which an exported file cannot "
            "make; expected a model trained without"
        )


def _require_full_tensorrt(output: Path) -> None:
    from melfast.engines.tensorrt_builder import find_tensorrt

    name = find_tensorrt().__name__
    if name != "tensorrt":
        raise InputError(
            f"{output}: Triton runs only engines of TensorRT itself, got {name}; "
            "pip install tensorrt-cu13, or the ONNX file: `runtime='onnx'`"
        )
