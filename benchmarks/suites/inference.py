"""Suite inference: JPEG files to probabilities on the CPU, as in `melfast predict`."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import images
from benchmarks.harness import Contestant, Run, suite

if TYPE_CHECKING:
    import torch

    from melfast.engines.base import Engine
    from melfast.models.record import ModelRecord

BACKBONE, SIDE = "convnext_tiny", 224
BATCH = 32
PLAIN_TARGET, ALONE_TARGET, TORCH_TARGET = 4, 0.95, 1.2
# OpenCV decodes and resamples differently, and INT8 rounds: results are close, not equal.
SAME_ORDER, INT8_SAME_ORDER = 0.9, 0.9
MOST_SECONDS = 3  # from the start of the command to its first prediction


@suite("inference")
def inference(run: Run) -> None:
    """Files to P(malignant), compared with a plain script, with the model alone, and with torch."""
    with images.groups(run.data) as (source, groups), TemporaryDirectory() as folder:
        files = groups.get(images.LARGE)
        if not files:
            return run.miss(f"images {images.LARGE}", f"none in {source}")
        measure(run, source, files, Path(folder), BACKBONE, SIDE)


def measure(run: Run, source: str, files: list[Path], folder: Path, backbone: str, side: int) -> None:
    """Runs the suite for a network."""
    from melfast.predict.predictor import open_engine

    classifier, record = network(backbone, side)
    path = folder / "model.onnx"
    export(classifier, record, path)
    engine = open_engine(path, "onnx-cpu", threads=run.threads)
    run.note(
        f"{source}: {len(files)} images {images.LARGE}; {backbone}, {side}x{side} CIELAB, "
        f"random weights, {run.threads} threads, batches of {BATCH}"
    )
    plain = plain_script(path, files, run.threads)
    check(run, engine, files, plain)
    count = len(files)
    contestants = [
        Contestant("melfast predict", lambda: len(predict(engine, files, run.threads))),
        Contestant("OpenCV and ONNX Runtime, image by image", lambda: len(plain()), PLAIN_TARGET),
        Contestant("the model alone, random batches", alone(engine, count), ALONE_TARGET),
    ]
    run.compare("files to probabilities", "images/s", contestants)
    small = int8(run, path, engine, files)
    contestants = [
        Contestant("melfast predict, INT8", lambda: len(predict(small, files, run.threads))),
        Contestant("OpenCV and ONNX Runtime in float32", lambda: len(plain()), PLAIN_TARGET),
        Contestant("melfast predict, float32", lambda: len(predict(engine, files, run.threads))),
    ]
    run.compare("files to probabilities, INT8", "images/s", contestants)
    contestants = [
        Contestant("ONNX Runtime", alone(engine, 2 * BATCH)),
        Contestant("torch, eager", eager(classifier, record, 2 * BATCH, run.threads), TORCH_TARGET),
    ]
    run.compare(f"the model alone, batches of {BATCH}", "images/s", contestants)
    start(run, path, files[0])


def network(backbone: str, side: int) -> "tuple[torch.nn.Module, ModelRecord]":
    """A classifier with random weights whose outputs differ between images."""
    import torch

    from melfast.data.preprocess import Preprocess
    from melfast.models.classifier import build_classifier
    from melfast.models.record import ModelRecord

    torch.manual_seed(0)
    record = ModelRecord(backbone, Preprocess(side, side, "cielab"))
    return build_classifier(record).eval(), record


def export(classifier: "torch.nn.Module", record: "ModelRecord", path: Path) -> None:
    from melfast.export.formats import export_onnx

    export_onnx(classifier, record, path)


def predict(engine: "Engine", files: list[Path], threads: int) -> np.ndarray:
    from melfast.models.running import InferenceSettings
    from melfast.predict.predictor import predictions

    answers = predictions(engine, files, settings=InferenceSettings(batch_size=BATCH, threads=threads))
    return np.concatenate([batch.logits for batch in answers])


def plain_script(path: Path, files: list[Path], threads: int) -> Callable[[], np.ndarray]:
    """A script as one writes it in five minutes; ONNX Runtime with defaults except for the threads."""
    import cv2
    import onnxruntime

    cv2.setNumThreads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape

    def run() -> np.ndarray:
        logits = []
        for file in files:
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            logits.append(session.run(["logits"], {"images": small[None]})[0])
        return np.concatenate(logits)

    return run


def int8(run: Run, path: Path, engine: "Engine", files: list[Path]) -> "Engine":
    """The model as `melfast export --precision int8` writes it, calibrated on the files.

    Whether it is kept there, its AUC on images with known answers decides: these have none.
    """
    from melfast.export.int8 import write_int8
    from melfast.predict.predictor import open_engine

    smaller = path.with_name("int8.onnx")
    write_int8(path, smaller, [str(file) for file in files])
    small = open_engine(smaller, "onnx-cpu", threads=run.threads)
    answers = [predict(each, files, run.threads) for each in (small, engine)]
    run.check("correlation of INT8's logits with float32's", agreement(*answers), at_least=INT8_SAME_ORDER)
    return small


def alone(engine: "Engine", count: int, batch_size: int = BATCH) -> Callable[[], int]:
    """Runs the engine repeatedly on one random batch, `count` images in total."""
    size = engine.record.preprocess
    batch = np.random.default_rng(0).integers(0, 256, (batch_size, size.height, size.width, 3), dtype=np.uint8)

    def run() -> int:
        for first in range(0, count, batch_size):
            engine.run(batch[: min(batch_size, count - first)])
        return count

    return run


def eager(
    classifier: "torch.nn.Module", record: "ModelRecord", count: int, threads: int, batch_size: int = BATCH
) -> Callable[[], int]:
    """The same graph in torch, including colour conversion and decode."""
    import torch

    from melfast.models.deploy import ExportedClassifier

    whole = ExportedClassifier(classifier, record).eval().to(memory_format=torch.channels_last)
    size = record.preprocess
    batch = torch.randint(0, 256, (batch_size, size.height, size.width, 3), dtype=torch.uint8)

    def run() -> int:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(0, count, batch_size):
                whole(batch)
        return count

    return run


def check(run: Run, engine: "Engine", files: list[Path], plain: Callable[[], np.ndarray]) -> None:
    """Checks that the plain script gives the same results, up to its decoder and resampling."""
    mine, theirs = predict(engine, files, run.threads), plain()
    run.check("images answered", len(mine), at_least=len(files), at_most=len(files))
    run.check("correlation with the plain script's logits", agreement(mine, theirs), at_least=SAME_ORDER)


def agreement(*logits: np.ndarray) -> float:
    """Correlation of the log-odds of two models over the images."""
    return float(np.corrcoef(*(each[:, 1] - each[:, 0] for each in logits))[0, 1])


def start(run: Run, path: Path, file: Path) -> None:
    """The whole command for one image, compared with the time limit."""
    output = path.parent / "predictions.csv"
    words = [
        sys.executable,
        "-m",
        "melfast",
        "predict",
        "--model",
        path,
        "--images",
        file,
        "--output",
        output,
        "--threads",
        run.threads,
    ]

    def command() -> int:
        output.unlink(missing_ok=True)
        subprocess.run([str(word) for word in words], check=True, capture_output=True)
        return len(output.read_text().splitlines()) - 1  # under the header

    def limit() -> int:
        time.sleep(MOST_SECONDS)
        return 1

    contestants = [Contestant("melfast predict", command), Contestant(f"{MOST_SECONDS} s, the limit", limit, 1)]
    run.compare("start to the end of one image's prediction", "starts/s", contestants)
