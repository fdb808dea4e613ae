"""Prediction on a local Ray cluster with two workers."""

import csv
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from melfast.data.preprocess import Preprocess
from melfast.engines.backends import read_model
from melfast.io.errors import InputError
from melfast.io.files import OwnFolder
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict import cluster
from melfast.predict.cluster import Job, Workers, part_table, predict_on_ray
from melfast.predict.outputs import failed_path
from melfast.predict.predictor import open_engine
from melfast.predict.sources import ImageFiles, find_images
from melfast.predict.writer import Summary, TableOptions, write_predictions

ONE = InferenceSettings(threads=1, batch_size=2, on_error="skip")
LOCAL = Workers("local", 2, 1)


@pytest.fixture
def model(red_model: Callable[..., Path], tmp_path: Path) -> Path:
    return red_model(tmp_path / "model.onnx")


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """12 images of red 0, 20, ... 220 in four parts of three; one and the last part are bad."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(12):
        Image.new("RGB", (6, 4), (20 * n, 7, 9)).save(folder / f"p{n:02d}.png")
    for n in (4, 9, 10, 11):
        (folder / f"p{n:02d}.png").write_bytes(b"")
    return find_images(str(folder))


def predict(model: Path, files: ImageFiles, folder: Path, **options: Any) -> Summary:
    wanted = options.pop("wanted", TableOptions(0.25))
    job = Job(model, options.pop("backend", "auto"), wanted, ONE, folder)
    return predict_on_ray(read_model(model), job, files, options.pop("workers", LOCAL), images_a_part=3, **options)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ray believes that this machine has two GPUs; a folder where each worker notes the one it got
    and the parts it did."""
    import ray

    folder = tmp_path / "notes"
    folder.mkdir()
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: init(**options, num_gpus=2))

    class Noting(cluster.Worker):
        def __init__(self, job: Job) -> None:
            super().__init__(job)
            gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
            self.note = folder / f"{os.getpid()} on {gpu}"
            self.note.touch()
            # Neither starts before the other is ready.
            until = time.monotonic() + 60
            while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.05)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            with open(self.note, "a") as file:
                file.write(f"{batch['part'][0]}\n")
            time.sleep(0.5)
            return super().__call__(batch)

    monkeypatch.setattr(cluster, "Worker", Noting)
    return folder


def parts_done(notes: Path) -> list[str]:
    return sorted(part for note in notes.iterdir() for part in note.read_text().split())


# Ray's own, of its own settings.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_on_one_machine_and_gone_on_with(
    model: Path, files: ImageFiles, tmp_path: Path, notes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, done = tmp_path / "parts", []
    summary = predict(model, files, folder, progress=done.append)
    assert (summary.predicted, summary.malignant, summary.resumed) == (8, 4, 0)
    assert sum(done) == 12
    assert [Path(failure.path).stem for failure in summary.failures] == ["p04", "p09", "p10", "p11"]
    with open(folder / "failed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_name"] for row in rows] == ["p04", "p09", "p10", "p11"]
    assert rows[0]["reason"] == "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"
    assert capfd.readouterr() == ("", "")

    # Both workers worked, each with a GPU of its own; no GPU being there, on the CPU, as is told.
    assert sorted(note.name.split(" on ")[1] for note in notes.iterdir()) == ["0", "1"]
    assert all(note.read_text() for note in notes.iterdir())
    assert parts_done(notes) == ["0", "1", "2", "3"]
    (engine,) = summary.engines
    assert engine["rows"] == 8
    assert "CPU" not in engine["provider"] or "tensorrt" in engine["passed_over"]

    write_predictions(open_engine(model), files, tmp_path / "whole.parquet", TableOptions(0.25))
    tables = [parquet.read_table(part_table(folder, part)) for part in range(3)]
    found = [row for table in tables for row in table.to_pylist()]
    assert found == parquet.read_table(tmp_path / "whole.parquet").to_pylist()
    assert not part_table(folder, 3).exists()

    # A part is lost and a bad file is mended: these parts and the bad one are done again.
    kept = part_table(folder, 2).stat().st_mtime_ns
    part_table(folder, 0).unlink()
    Image.new("RGB", (6, 4), (80, 7, 9)).save(files.paths[4])
    for note in notes.iterdir():
        note.unlink()
    again = predict(model, files, folder)
    assert (again.predicted, again.resumed) == (9, 1)
    assert [Path(failure.path).stem for failure in again.failures] == ["p09", "p10", "p11"]
    assert part_table(folder, 2).stat().st_mtime_ns == kept
    assert part_table(folder, 0).exists()
    assert parts_done(notes) == ["0", "1", "3"]
    assert not failed_path(part_table(folder, 1)).exists()

    with pytest.raises(InputError) as caught:
        predict(model, files, folder, wanted=TableOptions(0.5))
    assert str(caught.value) == (
        f"{folder}: holds parts of a run with other settings (threshold); "
        "expected the same command, or another `output`"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_worker_fails_over(
    model: Path, files: ImageFiles, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "parts"
    settings = cluster.settings_of(read_model(model).origin, RECORD, TableOptions(0.25), "none")
    cluster._require_same(OwnFolder(folder, cluster.COMMAND), settings, files, 3)
    part_table(folder, 2).mkdir()
    with pytest.raises(InputError) as caught:
        predict(model, files, folder, workers=Workers("local", 1, 1))
    assert str(caught.value) == (
        f"a worker failed: {part_table(folder, 2)}: is a folder, expected a file name to write; "
        "the same command resumes"
    )
    assert capfd.readouterr() == ("", "")


RECORD = ModelRecord("red", Preprocess(4, 6))


@pytest.mark.parametrize("provider", ["CUDA", "CPU"])
def test_whole_again_without_a_cluster(
    model: Path, files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """If all parts exist, whatever engine of the model made them, no cluster is needed."""
    folder = tmp_path / "parts"
    engine, files = open_engine(model), files.select([0, 1, 2, 3, 5, 6, 7, 8])
    # TensorRT's engine is another file, and every machine may build its own.
    built = {} if provider == "CPU" else {"sha256": "0" * 64, "source_sha256": engine.info.sha256}
    engine.info = replace(engine.info, provider=provider, **built)
    for first in range(0, 8, 3):
        some = files.select(range(first, min(first + 3, 8)))
        write_predictions(engine, some, part_table(folder, first // 3), TableOptions(0.25))
    with pytest.raises(InputError, match="which 'melfast predict --engine ray' did not write; "):
        predict(model, files, folder)
    settings = cluster.settings_of(read_model(model).origin, engine.record, TableOptions(0.25), "none")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for path in kept:
        path.unlink()
    assert not any(folder.iterdir())
    cluster._require_same(OwnFolder(folder, cluster.COMMAND), settings, files, 3)
    for path, content in kept.items():
        path.write_bytes(content)
    monkeypatch.setattr(cluster, "_cluster", lambda workers: pytest.fail("a cluster was asked for"))
    summary = predict(model, files, folder)
    assert (summary.predicted, summary.resumed, summary.failures) == (8, 3, ())
    assert [(made["provider"], made["rows"]) for made in summary.engines] == [(provider, 8)]
    assert json.loads((folder / "parts.json").read_text())["images_a_part"] == 3


@pytest.mark.parametrize(
    ("backend", "there", "wanted", "found"),
    [
        ("auto", {"CPU": 16, "GPU": 2}, 0, (2, 1)),
        ("auto", {"CPU": 16}, 0, (4, None)),
        ("torch", {"CPU": 16, "GPU": 2}, 0, (2, 1)),
        ("onnx-cpu", {"CPU": 16, "GPU": 2}, 0, (4, None)),
        ("tensorrt", {"CPU": 16, "GPU": 2}, 1, (1, 1)),
        ("auto", {"CPU": 4, "GPU": 2}, 0, (1, 1)),
        ("auto", {"CPU": 400, "GPU": 20}, 0, (8, 1)),
        (
            "onnx-cuda",
            {"CPU": 16},
            0,
            "16 processors and 0 GPUs; expected 4 processors for 1 workers, and a GPU each (none with "
            "`backend=onnx-cpu`)",
        ),
        (
            "auto",
            {"CPU": 16, "GPU": 1},
            2,
            "16 processors and 1 GPUs; expected 4 processors for 2 workers, and a GPU each (none with "
            "`backend=onnx-cpu`)",
        ),
        ("onnx-cpu", {"CPU": 7, "GPU": 8}, 2, "7 processors and 8 GPUs; expected 4 processors for 2 workers"),
    ],
)
def test_what_is_asked_of_a_cluster(
    tmp_path: Path, backend: Any, there: dict[str, float], wanted: int, found: Any
) -> None:
    job = Job(tmp_path / "m.onnx", backend, TableOptions(0.25), ONE, tmp_path)
    workers = Workers("h:1", wanted, 4)
    if not isinstance(found, str):
        assert cluster._share(there, 8, job, workers) == found
        return
    with pytest.raises(InputError) as caught:
        cluster._share(there, 8, job, workers)
    assert str(caught.value) == f"`address=h:1`: the cluster has {found}"


def test_without_ray(model: Path, files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'ray\[data\]' pyarrow"):
        predict(model, files, tmp_path / "parts")


def test_a_cluster_that_does_not_answer(model: Path, files: ImageFiles, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"`address=127.0.0.1:{port}`: nothing answers there: "):
        predict(model, files, tmp_path / "parts", workers=Workers(f"127.0.0.1:{port}"))
    with pytest.raises(InputError, match="`address=auto`: no Ray cluster can be reached: "):
        predict(model, files, tmp_path / "parts", workers=Workers("auto"))
