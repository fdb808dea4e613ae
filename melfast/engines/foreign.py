"""ONNX files that melfast did not write: what the user states about one, and what the file itself tells."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.preprocess import ColourSpace, Preprocess
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.record import ModelRecord
from melfast.models.running import SLACK

OutputKind = Literal["logits", "probability"]
Numbers = tuple[float, float, float]
# ONNX Runtime's names of the types that an image may have.
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
TAKEN = "float [N,3,H,W], float [N,H,W,3] or uint8 [N,H,W,3]"


@check_words
@dataclass(frozen=True)
class Foreign:
    """What the user states about an ONNX file that melfast did not write; None: not stated.

    Attributes:
        input_size: (width, height) in pixels.
        colour: colour space of its input, RGB in 0..1 or CIELAB, before mean and std.
        mean, std: per channel, in the units of `colour`; None: the usual ones of `colour`.
        output: `logits`, to which softmax or sigmoid is applied, or `probability`; None: a
            probability if the graph ends in a softmax or sigmoid.
    """

    input_size: tuple[int, int] | None = None
    colour: ColourSpace | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    output: OutputKind | None = None

    @property
    def given(self) -> str:
        """Names of the fields that the user stated, in words."""
        return " and ".join(each.name.replace("_", " ") for each in fields(self) if getattr(self, each.name))


class Adapter:
    """Converts images to the input of a foreign file, and its output to probabilities.

    Attributes:
        record: what is assumed about the file; the last class is the malignant one.
        assumed: the same in words.
    """

    def __init__(self, session: Any, path: Path, foreign: Foreign) -> None:
        """
        Args:
            session: an onnxruntime.InferenceSession.
        Raises:
            InputError: the statements are incomplete or do not fit the file, or the file does not take
                images or return usable outputs.
        """
        self.path = path
        self.input, self.dtype, self.planes, size = _image_input(session, path)
        count = session.get_inputs()[0].shape[0]
        # Many files take one image at a time, or another fixed number.
        self.count = count if isinstance(count, int) else None
        wanted = foreign.input_size or size
        if foreign.colour is None or wanted is None:
            lacking = ["`colour` rgb or cielab"] if foreign.colour is None else []
            lacking += ["`input_size` WxH"] if wanted is None else []
            raise InputError(
                f"{path}: an ONNX model that melfast export did not write; to use it, give {' and '.join(lacking)}"
            )
        if size is not None and wanted != size:
            raise InputError(
                f"{path}: takes images of {size[0]}x{size[1]} (width x height), got `input_size` "
                f"{wanted[0]}x{wanted[1]}"
            )
        if self.dtype == np.uint8 and (foreign.colour != "rgb" or foreign.mean or foreign.std):
            raise InputError(f"{path}: takes uint8 images, so its colour must be rgb; got {foreign.given}")
        usual = Preprocess.for_colour(wanted[1], wanted[0], foreign.colour)
        size_hw = usual.height, usual.width
        self.preprocess = Preprocess(*size_hw, foreign.colour, foreign.mean or usual.mean, foreign.std or usual.std)
        self.output = session.get_outputs()[0].name
        self.kind = foreign.output or _ending(path)
        # Run on a black and a white image, because the shapes in the file may be wrong or missing.
        asked = (np.full((1, *size_hw, 3), value, np.uint8) for value in (0, 255))
        answers = np.concatenate([self._columns(self._ask(session, image)) for image in asked])
        if self.kind == "probability" and not _possible(answers).all():
            raise InputError(
                f"{path}: its output was assumed to be a probability, but is {answers.min():g} to "
                f"{answers.max():g} for a black and a white image; expected `model_output='logits'`"
            )
        columns = answers.shape[1]
        if columns > 2:
            raise InputError(
                f"{path}: its output {self.output!r} has {columns} classes, and which of them are malignant is not "
                "known; expected one output, P(malignant) or its logit, or two, benign and malignant"
            )
        name = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)[:80]
        self.record = ModelRecord(name, self.preprocess, classes=("benign", "malignant"))
        self.assumed = self._in_words(session, columns)

    def run(self, session: Any, images_bhw3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Engine.run; logits [B, 1] of a file with one output are log-odds. The probability is
        NaN if the output of a file that is assumed to return probabilities is not one."""
        answers = self._columns(self._ask(session, images_bhw3))
        if self.kind == "probability":
            answers[~_possible(answers)] = np.nan
            answers = answers.clip(1e-30, 1)
            if answers.shape[1] == 1:
                logits = np.log(answers) - np.log1p(-answers.clip(None, 1 - 1e-7))
            else:
                logits = np.log(answers)
            return answers[:, -1].copy(), logits.astype(np.float32)
        if answers.shape[1] == 1:
            probability = 1 / (1 + np.exp(-answers[:, 0].astype(np.float64)))
        else:
            powers = np.exp((answers - answers.max(axis=1, keepdims=True)).astype(np.float64))
            probability = powers[:, -1] / powers.sum(axis=1)
        return probability.astype(np.float32), answers

    def _ask(self, session: Any, images_bhw3: NDArray[np.uint8]) -> NDArray[Any]:
        feed: NDArray[Any] = images_bhw3
        if self.dtype != np.uint8:
            feed = np.empty(images_bhw3.shape, self.dtype)
            size = self.preprocess
            for image, out in zip(images_bhw3, feed, strict=True):
                core.normalize(image, out, size.colour, size.mean, size.std)
        if self.planes:
            feed = np.ascontiguousarray(feed.transpose(0, 3, 1, 2))
        if self.count is None:
            return np.asarray(session.run([self.output], {self.input: feed})[0])
        pieces = []
        for first in range(0, len(feed), self.count):
            piece = feed[first : first + self.count]
            lacking = self.count - len(piece)
            filled = np.pad(piece, [(0, lacking)] + [(0, 0)] * 3) if lacking else piece
            pieces.append(session.run([self.output], {self.input: filled})[0][: len(piece)])
        return np.concatenate(pieces)

    def _columns(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        if answers.ndim == 1:
            answers = answers[:, None]
        if answers.ndim != 2 or not answers.shape[1]:
            raise InputError(
                f"{self.path}: its output {self.output!r} is {list(answers.shape)}, "
                "expected [N], [N, 1] or [N, classes]"
            )
        return answers.astype(np.float32)

    def _in_words(self, session: Any, columns: int) -> str:
        size = self.preprocess
        values = "uint8 RGB 0..255"
        if self.dtype != np.uint8:
            mean, std = (", ".join(f"{value:g}" for value in numbers) for numbers in (size.mean, size.std))
            values = f"{size.colour} less mean ({mean}) over std ({std})"
        others = len(session.get_outputs()) - 1
        last = "" if columns == 1 else f", malignant is the last of {columns} classes"
        turned = {"logits": "sigmoid" if columns == 1 else "softmax", "probability": "none"}
        return (
            f"input {self.input!r} {size.width}x{size.height} of {values}; output "
            f"{self.output!r} is {self.kind}, {turned[self.kind]} applied{last}"
            + (f"; {others} other outputs are ignored" if others else "")
        )


def _possible(answers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows could be probabilities. NaN, which a file may return for some image, does not count
    against it."""
    return ~np.any((answers < -SLACK) | (answers > 1 + SLACK), axis=1, keepdims=True)[:, 0]


def _image_input(session: Any, path: Path) -> tuple[str, Any, bool, tuple[int, int] | None]:
    """The input's name, its type, whether channels come first, and its (width, height) if fixed."""
    inputs = session.get_inputs()
    told = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    if len(inputs) == 1 and inputs[0].type in TYPES and len(inputs[0].shape) == 4:
        (only,) = inputs
        dtype, shape = TYPES[only.type], only.shape
        planes = shape[1] == 3 or (shape[3] != 3 and not isinstance(shape[1], int))
        if (planes and dtype != np.uint8) or shape[3] == 3:
            height, width = shape[2:] if planes else shape[1:3]
            fixed = isinstance(height, int) and isinstance(width, int)
            return only.name, dtype, planes, (width, height) if fixed else None
    raise InputError(f"{path}: takes {told}; expected one input of images, {TAKEN}")


def _ending(path: Path) -> OutputKind:
    """Whether the graph ends in a softmax or a sigmoid."""
    import onnx

    # External weight files are not needed.
    graph = onnx.load(path, load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(graph.output[0].name)
    passing = ("Cast", "Identity", "Squeeze", "Reshape", "Flatten")
    while node is not None and node.op_type in passing:
        node = makers.get(node.input[0])
    return "probability" if node is not None and node.op_type in ("Softmax", "Sigmoid") else "logits"
