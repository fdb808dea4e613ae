"""export_onnx: a classifier to one self-contained ONNX file, checked against torch."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

import melfast
from melfast import core
from melfast.decode import decode
from melfast.engines.base import INPUT, METADATA_KEY, OUTPUTS
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.errors import InputError
from melfast.files import atomic_path
from melfast.models.deploy import ExportedClassifier
from melfast.models.record import ModelRecord

# torch's own default, and the first with Gelu as one operator; ONNX Runtime runs it from 1.17 on.
OPSET = 20
# protobuf refuses messages of 2 GiB; 64 MiB are left for the graph around the weights.
MAX_WEIGHT_BYTES = 2**31 - 2**26

CHECK_BATCHES = (1, 2, 7, 32)
MAX_PROBABILITY_ERROR = 1e-5
# Of the largest logit: catches what a probability near 0 or 1 hides.
MAX_LOGIT_ERROR = 1e-4


@dataclass(frozen=True)
class Check:
    """How far the file's numbers are from torch's, over `images` images.

    Attributes:
        probability_error: largest |difference| of P(malignant).
        logit_error: largest |difference| of a logit, as a fraction of the largest |logit| (or of 1
            where all are smaller).
        lowest, highest: torch's P(malignant); a check on images that are all alike says little.
    """

    images: int
    probability_error: float
    logit_error: float
    lowest: float
    highest: float

    @property
    def passed(self) -> bool:
        """False for NaN, too."""
        return (
            self.probability_error <= MAX_PROBABILITY_ERROR and self.logit_error <= MAX_LOGIT_ERROR
        )


def export_onnx(classifier: torch.nn.Module, record: ModelRecord, path: str | Path) -> Check:
    """Writes the ONNX file that melfast.engines.base describes, weights inside.

    Args:
        classifier: normalised images [B, 3, H, W] to logits [B, C]; float32, on the CPU, in eval
            mode.
    Raises:
        InputError: the network cannot be written as ONNX or in one file, its numbers differ from
            torch's by more than MAX_PROBABILITY_ERROR, or `path` cannot be written. Nothing is
            left behind, and a file that was there stays.
    """
    assert not classifier.training, "export of a model in training mode"
    tensors = (*classifier.parameters(), *classifier.buffers())
    assert all(t.device.type == "cpu" for t in tensors), "export of a model that is not on the CPU"
    if record.preprocess.masked:
        raise InputError(
            f"{path}: the model sees masked images (preprocess.masked), which an exported graph "
            "cannot make; wanted one trained without"
        )
    num_bytes = sum(t.numel() * t.element_size() for t in tensors)
    if num_bytes > MAX_WEIGHT_BYTES:
        raise InputError(
            f"{path}: {record.backbone} has {num_bytes / 2**30:.2f} GiB of weights, "
            f"wanted at most {MAX_WEIGHT_BYTES / 2**30:.2f}: an ONNX file holds no more"
        )
    # The temporary file comes first: a folder that cannot be written to is told before the work.
    with atomic_path(path) as temporary:
        model = build_graph(classifier, record)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)
        check = compare(OnnxEngine(temporary), classifier)
        if not check.passed:
            raise InputError(
                f"{path}: the ONNX graph differs from torch by {check.probability_error:.2g} in "
                f"probability and {check.logit_error:.2g} in logits, wanted at most "
                f"{MAX_PROBABILITY_ERROR:g} and {MAX_LOGIT_ERROR:g}; nothing was written"
            )
    return check


def build_graph(classifier: torch.nn.Module, record: ModelRecord) -> onnx.ModelProto:
    """The classifier with colour conversion and decode around it, and the record in its metadata.

    Raises:
        InputError: torch cannot trace or translate the network.
    """
    size = record.preprocess
    # A batch of 1 would be taken for a constant.
    example = torch.zeros((2, size.height, size.width, 3), dtype=torch.uint8)
    try:
        # The fused attention kernels lay their results out in memory as nothing else does, and the
        # exporter takes views of them for granted.
        with sdpa_kernel(SDPBackend.MATH):
            program = torch.onnx.export(
                ExportedClassifier(classifier, record).eval(),
                (example,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().split("\n")[0] or repr(cause)
        raise InputError(
            f"model.backbone {record.backbone!r} cannot be written as ONNX: {reason}"
        ) from error
    assert program is not None
    model = program.model_proto
    assert model.opset_import[0].version == OPSET, model.opset_import
    _strip(model)
    model.producer_name, model.producer_version = "melfast", melfast.__version__
    onnx.helper.set_model_props(model, metadata(record))
    return model


def metadata(record: ModelRecord) -> dict[str, str]:
    """The record for programs under METADATA_KEY, and in plain words for people with a viewer."""
    size = record.preprocess
    threshold = "none" if record.threshold is None else f"{record.threshold!r}"
    if record.threshold_rule:
        threshold += f" ({record.threshold_rule}, on the validation split)"
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (size.mean, size.std))
    return {
        METADATA_KEY: record.to_json(),
        "input": f"{INPUT}: uint8 sRGB [B, {size.height}, {size.width}, 3]; the upright image, "
        "resized to that size (antialiased, stretched)",
        "outputs": f"probability [B]: of {record.classes[-1]}; logits [B, {record.num_logits}]",
        "preprocess": f"inside the graph: ({size.colour} - [{mean}]) / [{std}]",
        "backbone": record.backbone,
        "classes": ", ".join(record.classes),
        "groups": ", ".join(record.groups) or "none",
        "threshold": threshold,
        "training": json.dumps(record.training),
        "melfast_version": melfast.__version__,
    }


def compare(engine: OnnxEngine, classifier: torch.nn.Module) -> Check:
    """Runs an engine and torch, fed as in training, on drawn images in batches of CHECK_BATCHES."""
    rng = np.random.default_rng(0)
    size = engine.record.preprocess
    errors, probabilities = [], []
    for count in CHECK_BATCHES:
        images = draw_images(rng, count, size.height, size.width)
        inputs = np.empty(images.shape, np.float32)
        for image, out in zip(images, inputs, strict=True):
            core.normalize(image, out, size.colour, size.mean, size.std)
        with torch.inference_mode():
            logits = classifier(torch.from_numpy(inputs).permute(0, 3, 1, 2)).float()
            probability = decode(logits, engine.record).numpy()
        found_probability, found_logits = engine.run(images)
        scale = max(1.0, float(logits.abs().max()))
        errors.append((
            np.abs(found_probability - probability).max(),
            np.abs(found_logits - logits.numpy()).max() / scale,
        ))  # fmt: skip
        probabilities.append(probability)
    worst, all_probabilities = np.max(errors, axis=0), np.concatenate(probabilities)
    return Check(
        images=len(all_probabilities),
        probability_error=float(worst[0]),
        logit_error=float(worst[1]),
        lowest=float(all_probabilities.min()),
        highest=float(all_probabilities.max()),
    )


def draw_images(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Colourful smooth images with noise from none to much, uint8 [count, height, width, 3]."""
    images = np.empty((count, height, width, 3), np.uint8)
    for image in images:
        patches = rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), dtype=np.uint8)
        core.resize(patches, image)
        noise = rng.normal(0, rng.choice([0, 8, 64]), image.shape)
        image[:] = np.clip(image + noise, 0, 255)
    return images


def _strip(model: onnx.ModelProto) -> None:
    """Removes what torch notes at each node: source lines, with paths."""
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                   *graph.initializer):  # fmt: skip
        del holder.metadata_props[:]
        holder.doc_string = ""
    assert not model.functions
