"""A classifier as torch's own files: TorchScript (.pt) and torch.export (.pt2).

Both need torch alone, and hold the ModelRecord as JSON beside the program:

    model = torch.jit.load("model.pt")                          # TorchScript
    model = torch.export.load("model.pt2").module()             # torch.export
    probability, logits = model(images)                         # uint8 sRGB [B, H, W, 3]

    extra = {"melfast.json": ""}
    torch.jit.load("model.pt", _extra_files=extra)              # or
    torch.export.load("model.pt2", extra_files=extra)
    threshold = json.loads(extra["melfast.json"])["threshold"]
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.export.check import Run
from melfast.io.errors import InputError
from melfast.models.deploy import Precision, deployed
from melfast.models.record import ModelRecord

RECORD_FILE = "melfast.json"


def write_torchscript(classifier: torch.nn.Module, record: ModelRecord, path: Path, precision: Precision) -> Run:
    """Writes what torch.jit.trace makes of the classifier, and opens it.

    torch calls TorchScript deprecated; who loads it with libtorch still has nothing else.

    Raises:
        InputError: torch cannot trace the network.
    """
    model = deployed(classifier, record, precision)
    with torch.no_grad(), warnings.catch_warnings():
        # That it is deprecated, and that the trace is of one shape: which the check sees to.
        warnings.simplefilter("ignore")
        try:
            program = torch.jit.trace(model, (_example(record),), check_trace=False)
        except (RuntimeError, torch.jit.TracingCheckError) as error:
            raise _untraceable(record, "TorchScript", error) from error
        torch.jit.save(program, str(path), _extra_files={RECORD_FILE: record.to_json()})
        return _run(torch.jit.load(str(path)))


def write_torch_export(classifier: torch.nn.Module, record: ModelRecord, path: Path, precision: Precision) -> Run:
    """Writes what torch.export makes of the classifier, for batches of any size, and opens it.

    Raises:
        InputError: torch cannot trace the network.
    """
    try:
        program = torch.export.export(
            deployed(classifier, record, precision),
            (_example(record),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    except Exception as error:  # torch.export's errors have no base of their own
        raise _untraceable(record, "torch.export", error) from error
    # By way of memory: torch asks for a name that ends in .pt2, which the temporary file has not.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={RECORD_FILE: record.to_json()})
    path.write_bytes(buffer.getvalue())
    buffer.seek(0)
    return _run(torch.export.load(buffer).module())


def _example(record: ModelRecord) -> torch.Tensor:
    # A batch of 1 would be taken for a constant.
    size = record.preprocess
    return torch.zeros((2, size.height, size.width, 3), dtype=torch.uint8)


def _untraceable(record: ModelRecord, kind: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0] or repr(error)
    return InputError(f"model.backbone {record.backbone!r} cannot be written as {kind}: {reason}")


def _run(model: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Run:
    def run(images_bhw3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            probability, logits = model(torch.from_numpy(images_bhw3))
        return probability.numpy(), logits.numpy()

    return run
