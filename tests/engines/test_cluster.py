"""Prediction on a Ray cluster: a local one with two workers."""

import csv
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from melfast.engines import cluster
from melfast.engines.cluster import Job, Workers, part_table, predict_on_ray
from melfast.engines.predict import open_engine
from melfast.engines.sources import ImageFiles, find_images
from melfast.engines.writer import Wanted, write_predictions
from melfast.errors import InputError

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


def predict(model: Path, files: ImageFiles, folder: Path, **options: object):  # type: ignore[no-untyped-def]
    engine = open_engine(model)
    wanted = options.pop("wanted", Wanted(0.25))
    job = Job(model, "auto", 1, wanted, "none", 2, folder)  # type: ignore[arg-type]
    return predict_on_ray(
        engine, job, files, options.pop("workers", LOCAL), images_a_part=3, **options  # type: ignore[arg-type]
    )  # fmt: skip


# Ray's own, of its own settings.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_on_one_machine_and_gone_on_with(model: Path, files: ImageFiles, tmp_path: Path) -> None:
    folder, done = tmp_path / "parts", []
    summary = predict(model, files, folder, progress=done.append)
    assert (summary.predicted, summary.malignant, summary.resumed) == (8, 4, 0)
    assert sum(done) == 12
    assert [Path(failure.path).stem for failure in summary.failures] == ["p04", "p09", "p10", "p11"]
    with open(folder / "failed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_name"] for row in rows] == ["p04", "p09", "p10", "p11"]
    assert rows[0]["reason"] == "found an empty file, wanted a JPEG or PNG"

    write_predictions(open_engine(model), files, tmp_path / "whole.parquet", Wanted(0.25))
    tables = [parquet.read_table(part_table(folder, part)) for part in range(3)]
    found = [row for table in tables for row in table.to_pylist()]
    assert found == parquet.read_table(tmp_path / "whole.parquet").to_pylist()
    assert not part_table(folder, 3).exists()

    # A part is lost: it alone is done again.
    kept = part_table(folder, 0).stat().st_mtime_ns
    part_table(folder, 1).unlink()
    again = predict(model, files, folder)
    assert (again.predicted, again.resumed) == (8, 3)
    assert part_table(folder, 0).stat().st_mtime_ns == kept
    assert part_table(folder, 1).exists()

    with pytest.raises(InputError) as caught:
        predict(model, files, folder, wanted=Wanted(0.5))
    assert str(caught.value) == (
        f"{folder}: holds parts of a run with other settings (threshold); wanted the same command, "
        "or another --output"
    )


def test_whole_again_without_a_cluster(
    model: Path, files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts are there: no cluster is asked for."""
    folder = tmp_path / "parts"
    engine = open_engine(model)
    for part in range(3):
        some = files.select(range(3 * part, 3 * part + 3))
        write_predictions(engine, some, part_table(folder, part), Wanted(0.25))
    with pytest.raises(InputError, match="wanted an empty folder, or that of a run to go on with"):
        predict(model, files.select(range(9)), folder)
    settings = cluster.settings_of(engine, Wanted(0.25), "none")
    for path in folder.glob("*.failed.csv"):
        assert path.name == "part-00001.failed.csv"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for path in kept:
        path.unlink()
    cluster._require_same(folder, settings, files.select(range(9)), 3)
    for path, content in kept.items():
        path.write_bytes(content)
    monkeypatch.setattr(cluster, "_cluster", lambda workers: pytest.fail("a cluster was asked for"))
    summary = predict(model, files.select(range(9)), folder)
    assert (summary.predicted, summary.resumed, len(summary.failures)) == (8, 3, 1)
    assert json.loads((folder / "parts.json").read_text())["images_a_part"] == 3


def test_more_workers_than_the_cluster_has(model: Path, files: ImageFiles, tmp_path: Path) -> None:
    engine = open_engine(model)
    job = Job(model, "auto", 1, Wanted(0.25), "none", 2, tmp_path / "parts")

    class Small:
        """A cluster of one processor, as far as it is asked."""

        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"CPU": 1.0}

    answers = cluster._answers(Small, [{"part": 0}, {"part": 1}], job, Workers("h:1", 2, 1))
    with pytest.raises(InputError) as caught:
        next(answers)
    assert str(caught.value) == (
        "--address h:1: the cluster has 1 processors; wanted for 2 workers 1 each"
    )
    assert engine.provider


def test_without_ray(
    model: Path, files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed: pip install 'melfast\[ray\]'"):
        predict(model, files, tmp_path / "parts")


def test_a_cluster_that_does_not_answer(model: Path, files: ImageFiles, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"--address 127.0.0.1:{port}: nothing answers there: "):
        predict(model, files, tmp_path / "parts", workers=Workers(f"127.0.0.1:{port}"))
    with pytest.raises(InputError, match="--address auto: no Ray cluster can be reached: "):
        predict(model, files, tmp_path / "parts", workers=Workers("auto"))
