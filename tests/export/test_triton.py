"""The model repository, read with Triton's own schema; its client against a simulated server."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from melfast.data.preprocess import Preprocess
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.export import formats as export
from melfast.export.check import draw_images
from melfast.export.formats import export_model
from melfast.export.triton import lay_out
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

RECORD = ModelRecord(
    "resnet10t",
    Preprocess.for_colour(24, 32, "cielab"),
    {"channels": [8, 8, 8, 8], "stem_width": 8},
    head="domain_discriminative",
    groups=("light", "dark"),
    priors=((0.6, 0.1), (0.2, 0.1)),
    threshold=0.3,
    threshold_rule='a "quoted" rule, größer',
)


def parse(config: Path) -> Any:
    return text_format.Parse(config.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_classifier(RECORD).eval()
    folder = tmp_path_factory.mktemp("triton") / "repository"
    assert export_model(model, RECORD, folder, "triton").probability_error <= 1e-5
    return folder


def test_files(repository: Path) -> None:
    files = {p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()}
    assert files == {"client.py", "melfast/config.pbtxt", "melfast/labels.txt", "melfast/1/model.onnx"}
    labels = (repository / "melfast" / "labels.txt").read_text().splitlines()
    assert labels == ["light benign", "light malignant", "dark benign", "dark malignant"]


def test_config_agrees_with_the_model(repository: Path) -> None:
    config = parse(repository / "melfast" / "config.pbtxt")
    assert config.name == "melfast"  # Triton requires the name of the folder
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
    session = OnnxEngine(repository / "melfast" / "1" / "model.onnx").session
    kinds = {"tensor(uint8)": model_config_pb2.TYPE_UINT8, "tensor(float)": model_config_pb2.TYPE_FP32}
    found = [*session.get_inputs(), *session.get_outputs()]
    assert [value.name for value in found] == ["images", "probability", "logits"]
    for value, told in zip(found, [*config.input, *config.output], strict=True):
        assert told.name == value.name
        assert told.data_type == kinds[value.type]
        # The batch is not part of the shape; a reshape maps the outputs of the model to what clients see.
        own = told.reshape.shape if told.HasField("reshape") else told.dims
        assert ["batch", *own] == value.shape
    assert config.output[0].dims == [1]
    assert config.output[1].label_filename == "labels.txt"
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")


def test_threshold_and_record_are_in_the_config(repository: Path) -> None:
    parameters = parse(repository / "melfast" / "config.pbtxt").parameters
    assert float(parameters["threshold"].string_value) == 0.3
    assert ModelRecord.from_json(parameters["melfast"].string_value, "x") == RECORD


def test_without_a_threshold(tmp_path: Path) -> None:
    lay_out(RECORD.replace(threshold=None), tmp_path, "onnx", ["a"])
    config = parse(tmp_path / "melfast" / "config.pbtxt")
    assert config.parameters["threshold"].string_value == "none"
    assert "THRESHOLDS = [0.5]\n" in (tmp_path / "client.py").read_text()


def test_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that Triton runs are built on a GPU: here the file is of TensorRT-RTX."""
    monkeypatch.setattr(export, "_require_full_tensorrt", lambda output: None)
    model = build_classifier(RECORD).eval()
    export_model(model, RECORD, tmp_path / "repo", "triton", runtime="tensorrt")
    config = parse(tmp_path / "repo" / "melfast" / "config.pbtxt")
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert (tmp_path / "repo" / "melfast" / "1" / "model.plan").stat().st_size > 1000
    assert not list((tmp_path / "repo").rglob("*.onnx"))


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers as Triton does: by the config, with ONNX Runtime."""

    def __init__(self, repository: Path) -> None:
        self.config = parse(repository / "melfast" / "config.pbtxt")
        file = repository / "melfast" / "1" / self.config.default_model_filename
        self.session = OnnxEngine(file, threads=1).session

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert request.model_name == self.config.name
        feed = {}
        for told, given, content in zip(self.config.input, request.inputs, request.raw_input_contents, strict=True):
            kind = {"UINT8": np.uint8, "INT64": np.int64}[given.datatype]
            assert (given.name, f"TYPE_{given.datatype}") == (told.name, model_config_pb2.DataType.Name(told.data_type))
            assert list(given.shape)[1:] == list(told.dims)
            shape = told.reshape.shape if told.HasField("reshape") else told.dims
            feed[told.name] = np.frombuffer(content, kind).reshape(given.shape[0], *shape)
        images = feed["images"]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        values = self.session.run(None, feed)
        for output, value in zip(self.config.output, values, strict=True):
            shape = (len(images), *output.dims)
            answer.outputs.add(name=output.name, datatype="FP32", shape=shape)
            answer.raw_output_contents.append(value.reshape(shape).tobytes())
        return answer


@pytest.fixture
def url(repository: Path) -> Iterator[str]:
    yield from serve(repository)


def serve(repository: Path) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(repository), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


def test_client(repository: Path, url: str, tmp_path: Path) -> None:
    images = draw_images(np.random.default_rng(1), 3, 24, 32)
    files = [str(tmp_path / f"{n}.png") for n in range(3)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    command = [sys.executable, str(repository / "client.py"), *files, "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split(",") for line in done.stdout.splitlines()]
    wanted, _ = OnnxEngine(repository / "melfast" / "1" / "model.onnx").run(images)
    assert [row[0] for row in rows] == files
    np.testing.assert_allclose([float(row[1]) for row in rows], wanted, atol=1e-6)
    assert [row[2] for row in rows] == [str(int(p >= 0.3)) for p in wanted]


def test_client_of_a_model_that_takes_the_tone_group(tmp_path: Path) -> None:
    record = RECORD.replace(
        head="domain_independent", inference="group_conditional", group_thresholds=(0.2, 0.9), threshold=0.5
    )
    torch.manual_seed(0)
    model = build_classifier(record).eval()
    assert export_model(model, record, tmp_path / "repo", "triton").probability_error <= 1e-5
    config = parse(tmp_path / "repo" / "melfast" / "config.pbtxt")
    assert [each.name for each in config.input] == ["images", "group"]
    engine = OnnxEngine(tmp_path / "repo" / "melfast" / "1" / "model.onnx")
    # Triton does not batch requests for a model with an input that may be left out.
    assert [each.name for each in engine.session.get_inputs()] == ["images", "group"]
    (image,) = draw_images(np.random.default_rng(1), 1, 24, 32)
    Image.fromarray(image).save(tmp_path / "a.png")
    server = serve(tmp_path / "repo")
    command = [sys.executable, str(tmp_path / "repo" / "client.py"), str(tmp_path / "a.png"), "--url", next(server)]
    found = {}
    for group, words in ((-1, []), (0, ["--group", "0"]), (1, ["--group", "1"])):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
        _, probability, called = done.stdout.strip().split(",")
        wanted, _ = engine.run(image[None], np.array([group]))
        found[group] = float(probability)
        assert found[group] == pytest.approx(float(wanted[0]), abs=1e-6)
        assert called == str(int(wanted[0] >= (0.2, 0.9, 0.5)[group]))
    assert len(set(found.values())) == 3
    server.close()
