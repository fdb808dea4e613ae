"""ONNX files that melfast did not write: results by hand, assumptions, and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from melfast import core
from melfast.engines.foreign import Foreign
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.io.errors import InputError

FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
PLANES = ["n", 3, 4, 6]


def write(
    path: Path, shape: list[Any], *, dtype: int = FLOAT, channels: tuple[int, ...] = (1, 0), last: str = ""
) -> Path:
    """A file whose outputs are the means of some channels; `last` is a final operator."""
    planes = shape[1] == 3
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "channels"], ["chosen"], axis=1),
        helper.make_node(last or "Identity", ["chosen"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("axes", [2, 3] if planes else [1, 2]), ("channels", channels))
    ]
    answer = helper.make_tensor_value_info("y", FLOAT, ["n", len(channels)])
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)], [answer], constants)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [PLANES, ["n", 4, 6, 3], ["n", 3, "h", "w"]])
@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_rgb_by_hand(shape: list[Any], dtype: int, tmp_path: Path, images: np.ndarray) -> None:
    path = write(tmp_path / "m.onnx", shape, dtype=dtype)
    engine = OnnxEngine(path, foreign=Foreign((6, 4), "rgb"))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = ((images / 255 - mean) / std).mean(axis=(1, 2))[:, [1, 0]]
    probability, logits = engine.run(images)
    close = 1e-5 if dtype == FLOAT else 2e-3
    np.testing.assert_allclose(logits, wanted, atol=close)
    np.testing.assert_allclose(probability, softmax(wanted)[:, 1], atol=close)
    assert probability.dtype == logits.dtype == np.float32
    assert (engine.record.preprocess.height, engine.record.preprocess.width) == (4, 6)
    assert engine.info.assumed == (
        "input 'x' 6x4 of rgb less mean (0.485, 0.456, 0.406) over std (0.229, 0.224, 0.225); "
        "output 'y' is logits, softmax applied, malignant is the last of 2 classes"
    )


def test_cielab_with_its_own_mean(tmp_path: Path, images: np.ndarray) -> None:
    foreign = Foreign(colour="cielab", mean=(50, 0, 0), std=(100, 128, 128))
    engine = OnnxEngine(write(tmp_path / "m.onnx", PLANES), foreign=foreign)
    lab = (core.srgb_to_lab(images) - [50, 0, 0]) / [100, 128, 128]
    _, logits = engine.run(images)
    np.testing.assert_allclose(logits, lab.mean(axis=(1, 2))[:, [1, 0]], atol=1e-5)


def test_uint8_is_passed_on(tmp_path: Path, images: np.ndarray) -> None:
    path = write(tmp_path / "m.onnx", ["n", 4, 6, 3], dtype=UINT8)
    engine = OnnxEngine(path, foreign=Foreign(colour="rgb"))
    _, logits = engine.run(images)
    np.testing.assert_allclose(logits, images.mean(axis=(1, 2))[:, [1, 0]], rtol=1e-5)
    for wrong, got in (
        (Foreign(colour="cielab"), "colour"),
        (Foreign(colour="rgb", mean=(0, 0, 0)), "colour and mean"),
    ):
        with pytest.raises(InputError) as caught:
            OnnxEngine(path, foreign=wrong)
        assert str(caught.value) == f"{path}: takes uint8 images, so its colour must be rgb; got {got}"


@pytest.mark.parametrize(
    ("last", "output", "kind"),
    [
        ("", None, "logits"),
        ("Softmax", None, "probability"),
        ("Softmax", "logits", "logits"),
        ("Sigmoid", None, "probability"),
    ],
)
def test_logits_and_probabilities(last: str, output: Any, kind: str, tmp_path: Path, images: np.ndarray) -> None:
    path = write(tmp_path / "m.onnx", PLANES, last=last)
    engine = OnnxEngine(path, foreign=Foreign(colour="rgb", output=output))
    (answers,) = engine.session.run(None, {"x": normal(images)})
    probability, logits = engine.run(images)
    wanted = answers if kind == "probability" else softmax(answers)
    np.testing.assert_allclose(probability, wanted[:, 1], atol=1e-6)
    if last != "Sigmoid":  # of two sigmoids the logits are not one softmax
        np.testing.assert_allclose(softmax(logits)[:, 1], probability, atol=1e-6)
    assert f"output 'y' is {kind}," in engine.info.assumed


@pytest.mark.parametrize(("last", "kind"), [("", "logits, sigmoid"), ("Sigmoid", "probability")])
def test_one_output(last: str, kind: str, tmp_path: Path, images: np.ndarray) -> None:
    path = write(tmp_path / "m.onnx", PLANES, channels=(0,), last=last)
    engine = OnnxEngine(path, foreign=Foreign(colour="rgb"))
    wanted = normal(images)[:, 0].mean(axis=(1, 2))
    probability, logits = engine.run(images)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-wanted)), atol=1e-6)
    np.testing.assert_allclose(logits, wanted[:, None], atol=1e-5)
    assert engine.record.classes == ("benign", "malignant")
    assert kind in engine.info.assumed


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_fixed_number_of_images(count: int, tmp_path: Path, images: np.ndarray) -> None:
    fixed = write(tmp_path / "fixed.onnx", [count, 3, 4, 6])
    any_number = write(tmp_path / "any.onnx", PLANES)
    found, wanted = (OnnxEngine(path, foreign=Foreign(colour="rgb")).run(images) for path in (fixed, any_number))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_size_that_the_graph_does_not_bear(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", ["n", 3, "h", "w"])
    proto = onnx.load(path)
    proto.graph.node[-1].CopyFrom(helper.make_node("Add", ["float", "eight"], ["y"]))
    eight = onnx.numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), "eight")
    proto.graph.initializer.append(eight)
    onnx.save(proto, path)
    with pytest.raises(InputError, match=r"m\.onnx: does not run on such images: \S+") as caught:
        OnnxEngine(path, foreign=Foreign((6, 4), "rgb"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"its output 'y' is \[1, 3, 8, 8\], expected \[N\]"):
        OnnxEngine(path, foreign=Foreign((8, 8), "rgb"))


def test_classes_that_nobody_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", PLANES, channels=(0, 1, 2))
    with pytest.raises(InputError) as caught:
        OnnxEngine(path, foreign=Foreign(colour="rgb"))
    assert str(caught.value) == (
        f"{path}: its output 'y' has 3 classes, and which of them are malignant is not known; expected one output, "
        "P(malignant) or its logit, or two, benign and malignant"
    )


def normal(images: np.ndarray) -> np.ndarray:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def test_no_probability_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", ["n", 4, 6, 3], dtype=UINT8)
    with pytest.raises(InputError) as caught:
        OnnxEngine(path, foreign=Foreign(colour="rgb", output="probability"))
    assert str(caught.value) == (
        f"{path}: its output was assumed to be a probability, but is 0 to 255 for a black and a white "
        "image; expected `model_output='logits'`"
    )


def test_no_probability_is_found_for_some_images(tmp_path: Path) -> None:
    # RGB in 0..1, the white image's answer is 1: this one seems right until it is asked more.
    path = write(tmp_path / "m.onnx", PLANES)
    foreign = Foreign(colour="rgb", output="probability", mean=(0.0, 0.0, 0.0), std=(1.0, 0.5, 1.0))
    with pytest.raises(InputError, match=r"is 0 to 2 for a black and a white image"):
        OnnxEngine(path, foreign=foreign)
    proto = onnx.load(path)
    # Twice as much for grey as for black and white: 4 x (1 - x).
    proto.graph.node[-1].CopyFrom(helper.make_node("Sub", ["one", "chosen"], ["rest"]))
    proto.graph.node.append(helper.make_node("Mul", ["chosen", "rest"], ["part"]))
    proto.graph.node.append(helper.make_node("Mul", ["part", "eight"], ["y"]))
    for name, value in (("one", 1), ("eight", 8)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    onnx.save(proto, path)
    foreign = Foreign(colour="rgb", output="probability", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images = np.zeros((3, 4, 6, 3), np.uint8)
    images[1], images[2] = 255, 127
    probability, logits = OnnxEngine(path, foreign=foreign).run(images)
    np.testing.assert_allclose(probability, [0, 0, np.nan], atol=1e-6)
    assert np.isnan(logits[2]).all()
    assert not np.isnan(logits[:2]).any()


def test_what_is_lacking(tmp_path: Path, red_model: Callable[..., Path]) -> None:
    fixed = write(tmp_path / "fixed.onnx", PLANES)
    open_size = write(tmp_path / "open.onnx", ["n", 3, "h", "w"])
    begin = "an ONNX model that melfast export did not write; to use it, give"
    cases: list[tuple[Path, Foreign, str]] = [
        (fixed, Foreign(), f"{begin} `colour` rgb or cielab"),
        (open_size, Foreign(), f"{begin} `colour` rgb or cielab and `input_size` WxH"),
        (open_size, Foreign(colour="rgb"), f"{begin} `input_size` WxH"),
        (fixed, Foreign((4, 6), "rgb"), "takes images of 6x4 (width x height), got `input_size` 4x6"),
        (
            write(tmp_path / "grey.onnx", ["n", 1, 4, 6]),
            Foreign(colour="rgb"),
            "takes x tensor(float) ['n', 1, 4, 6]; expected one input of images, float [N,3,H,W], "
            "float [N,H,W,3] or uint8 [N,H,W,3]",
        ),
        (
            red_model(tmp_path / "ours.onnx"),
            Foreign(colour="rgb"),
            "melfast export wrote this file, which records its own input and output; remove colour",
        ),
    ]
    for path, foreign, message in cases:
        with pytest.raises(InputError) as caught:
            OnnxEngine(path, foreign=foreign)
        assert str(caught.value) == f"{path}: {message}"
