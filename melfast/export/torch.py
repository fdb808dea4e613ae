"""Write a classifier as a torch file: TorchScript (.pt) or torch.export (.pt2).

Both need only torch, and contain the ModelRecord as JSON:

    model = torch.jit.load("model.pt")                          # TorchScript
    model = torch.export.load("model.pt2").module()             # torch.export
    probability, logits = model(images)                         # uint8 sRGB [B, H, W, 3]

    extra = {"melfast.json": ""}
    torch.jit.load("model.pt", _extra_files=extra)              # or
    torch.export.load("model.pt2", extra_files=extra)
    threshold = json.loads(extra["melfast.json"])["threshold"]

With `model.inference: group_conditional` the second input is the tone group of each image, int64 [B], -1
unknown: `model(images, group)`. It is optional in TorchScript; torch.export has no optional inputs.
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.engines.base import OptionalGroups, Outputs, groups_or_unknown
from melfast.export.check import Run
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.deploy import Precision, deployed
from melfast.models.record import ModelRecord

RECORD_FILE = "melfast.json"


@check_words
def write_torchscript(classifier: torch.nn.Module, record: ModelRecord, path: Path, precision: Precision) -> Run:
    """Writes the classifier traced by torch.jit.trace, and opens it.

    torch calls TorchScript deprecated, but some users of libtorch still depend on it.

    Raises:
        InputError: torch cannot trace the network.
    """
    model = deployed(classifier, record, precision)
    with torch.no_grad(), warnings.catch_warnings():
        # Warnings that it is deprecated, and that the trace has one shape, which the check covers.
        warnings.simplefilter("ignore")
        try:
            program = torch.jit.trace(model, model.example(), check_trace=False)
            if record.takes_group:
                program = torch.jit.script(OptionalGroup(program))
        except (RuntimeError, torch.jit.TracingCheckError) as error:
            raise _untraceable(record, "TorchScript", error) from error
        torch.jit.save(program, str(path), _extra_files={RECORD_FILE: record.to_json()})
        return _run(torch.jit.load(str(path)), record)


@check_words
def write_torch_export(classifier: torch.nn.Module, record: ModelRecord, path: Path, precision: Precision) -> Run:
    """Writes the classifier as a torch.export program for any batch size, and opens it.

    Raises:
        InputError: torch cannot trace the network.
    """
    module = deployed(classifier, record, precision)
    example = module.example()
    try:
        program = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("batch")},) * len(example))
    except Exception as error:  # torch.export's errors have no common base class
        raise _untraceable(record, "torch.export", error) from error
    # Through memory: torch requires a name that ends in .pt2, and that of the temporary file does not.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={RECORD_FILE: record.to_json()})
    path.write_bytes(buffer.getvalue())
    buffer.seek(0)
    return _run(torch.export.load(buffer).module(), record)


class OptionalGroup(torch.nn.Module):
    """A trace with two inputs; the second, the tone group, may be omitted (all unknown)."""

    def __init__(self, traced: torch.nn.Module) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, images: torch.Tensor, group: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if group is None:
            group = torch.full((images.shape[0],), -1, dtype=torch.int64, device=images.device)
        probability, logits = self.traced(images, group)
        return probability, logits


def _untraceable(record: ModelRecord, kind: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0] or repr(error)
    return InputError(f"model.backbone {record.backbone!r} cannot be written as {kind}: {reason}")


def _run(model: Callable[..., tuple[torch.Tensor, torch.Tensor]], record: ModelRecord) -> Run:
    def run(images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        inputs = [torch.from_numpy(images_bhw3)]
        if record.takes_group:
            inputs.append(torch.from_numpy(groups_or_unknown(group_b, images_bhw3)))
        with torch.inference_mode():
            probability, logits = model(*inputs)
        return probability.numpy(), logits.numpy()

    return run
