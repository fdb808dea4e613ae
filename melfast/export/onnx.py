"""Write a classifier as one self-contained ONNX file, as described in melfast.engines.base."""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import melfast
from melfast.engines.base import GROUP, INPUT, METADATA_KEY, OUTPUTS
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export.check import Run
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.deploy import Precision, deployed
from melfast.models.record import ModelRecord

# The default of torch, and the first with Gelu as one operator; ONNX Runtime supports it since 1.17.
OPSET = 20
GROUP_IN_WORDS = f"{GROUP} (may be left out): int64 [B], tone group of each image by its place in groups, -1 unknown"
# protobuf refuses messages of 2 GiB; 64 MiB are left for the graph around the weights.
MAX_WEIGHT_BYTES = 2**31 - 2**26


@check_words
def write_onnx(
    classifier: torch.nn.Module, record: ModelRecord, path: Path, precision: Precision, *, optional_group: bool = True
) -> Run:
    """Writes the file, weights inside, and opens it with ONNX Runtime on the CPU.

    Args:
        optional_group: whether the input `group`, if there is one, may be omitted.

    Raises:
        InputError: the network cannot be written as ONNX, or not in one file.
    """
    tensors = (*classifier.parameters(), *classifier.buffers())
    num_bytes = sum(t.numel() * t.element_size() for t in tensors)
    num_bytes = num_bytes // 2 if precision == "fp16" else num_bytes
    if num_bytes > MAX_WEIGHT_BYTES:
        raise InputError(
            f"model.backbone {record.backbone!r} has {num_bytes / 2**30:.2f} GiB of weights, "
            f"expected at most {MAX_WEIGHT_BYTES / 2**30:.2f}: an ONNX file cannot hold more"
        )
    model = build_graph(classifier, record, precision)
    if record.takes_group and optional_group:
        _make_optional(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return OnnxEngine(path).run


@check_words
def build_graph(classifier: torch.nn.Module, record: ModelRecord, precision: Precision = "fp32") -> onnx.ModelProto:
    """The classifier with colour conversion and decode around it, and the record in its metadata.

    Raises:
        InputError: torch cannot trace or translate the network.
    """
    module = deployed(classifier, record, precision)
    example = module.example()
    batch = torch.export.Dim("batch")
    try:
        # The fused attention kernels use a memory layout of their own, and the
        # exporter assumes that views of it are possible.
        with sdpa_kernel(SDPBackend.MATH):
            program = torch.onnx.export(
                module,
                example,
                input_names=[INPUT, GROUP][: len(example)],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: batch}, {0: torch.export.Dim.AUTO})[: len(example)],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().split("\n")[0] or repr(cause)
        raise InputError(f"model.backbone {record.backbone!r} cannot be written as ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    assert model.opset_import[0].version == OPSET, model.opset_import
    _strip(model)
    model.producer_name, model.producer_version = "melfast", melfast.__version__
    onnx.helper.set_model_props(model, {**metadata(record), "precision": precision})
    return model


def metadata(record: ModelRecord) -> dict[str, str]:
    """The record as JSON under METADATA_KEY, and in plain words for people with a viewer."""
    size = record.preprocess
    threshold = "none" if record.threshold is None else f"{record.threshold!r}"
    if record.threshold_rule:
        threshold += f" ({record.threshold_rule}, on the validation split)"
    threshold += by_group_in_words(record)
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (size.mean, size.std))
    return {
        METADATA_KEY: record.to_json(),
        "input": f"{INPUT}: uint8 sRGB [B, {size.height}, {size.width}, 3]; the upright image, "
        "resized to that size (antialiased, stretched)",
        **({"input_group": GROUP_IN_WORDS} if record.takes_group else {}),
        "outputs": f"probability [B]: of {record.classes[-1]}; logits [B, {record.num_logits}]",
        "preprocess": f"inside the graph: ({size.colour} - [{mean}]) / [{std}]",
        "backbone": record.backbone,
        "classes": ", ".join(record.classes),
        "groups": ", ".join(record.groups) or "none",
        "threshold": threshold,
        "training": json.dumps(record.training),
        "melfast_version": melfast.__version__,
    }


def by_group_in_words(record: ModelRecord) -> str:
    """The thresholds of the tone groups, to follow the common one; '' if there are none."""
    by_group = zip(record.groups, record.group_thresholds, strict=False)
    listed = ", ".join(f"{name} {threshold!r}" for name, threshold in by_group)
    return listed and f"; by tone group {listed}"


def _make_optional(graph: onnx.GraphProto) -> None:
    """Gives the input `group` a default: one -1, unknown, which all images of a batch share.

    In ONNX a default is an initializer with the input's name; the batch sizes of the inputs may then differ.
    """
    (group,) = [each for each in graph.input if each.name == GROUP]
    group.type.tensor_type.shape.dim[0].dim_param = "group_batch"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), GROUP))


def _strip(model: onnx.ModelProto) -> None:
    """Removes the source lines and paths that torch stores with each node."""
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    assert not model.functions
