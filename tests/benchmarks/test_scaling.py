"""Suite scaling in small: every line runs; the committed curves are drawn."""

import os
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import images
from benchmarks.harness import CheckFailedError, Run
from benchmarks.suites import scaling, train


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE_WIDTH", 500)
    monkeypatch.setattr(scaling, "SIZES", ((300, 240, 2, 4), (480, 360, 2, 4)))
    monkeypatch.setattr(scaling, "THREADS_RUN", 8)
    monkeypatch.setattr(scaling, "BATCHES", (1, 2))
    monkeypatch.setattr(scaling, "BACKBONE", "resnet10t")
    monkeypatch.setattr(scaling, "TRAINED", 2)
    monkeypatch.setattr(scaling, "PREDICTED", 2)
    monkeypatch.setattr(scaling, "TOGETHER_IMAGES", 2)
    monkeypatch.setattr(scaling, "ROWS", (200, 500))
    monkeypatch.setattr(scaling, "STEPS", 2)
    monkeypatch.setattr(scaling, "COPIED", 2**16)
    monkeypatch.setattr(scaling, "available_cores", lambda: 1)
    monkeypatch.setattr(scaling, "apart", lambda function, *arguments: function(*arguments))
    # Peers that start processes are tested in suite loader.
    peers = {name: peer for name, peer in scaling.PEERS.items() if "DataLoader" not in name}
    monkeypatch.setattr(scaling, "PEERS", peers)


def quiet(data: Path | None, threads: int = 1) -> Run:
    return Run(data, threads, repeats=1, console=Console(file=StringIO(), width=110))


def test_suite_scaling(tmp_path: Path, small: None) -> None:
    images.draw(tmp_path, 2, 400, 520)
    found = quiet(tmp_path)
    scaling.scaling(found)
    at: dict[str, list[float]] = {}
    for comparison in found.comparisons:
        for axis, value in comparison.at.items():
            at.setdefault(axis, []).append(value)
    assert at == {
        "threads": [1, 2],
        "megapixels": [0.072, 0.1728],
        "training batch": [1, 2],
        "inference batch": [1, 2],
        "rows": [200] * 3 + [500] * 3,
    }
    together = [c for c in found.comparisons if not c.at]
    assert {c.title: len(c.timings) for c in together} == {
        "memory copied, 1 threads": 1,
        f"images {images.LARGE}: one core": 1,
        "copies of 288 px: one core": 1,
        "predicting: together and apart": 3,
        "training: together and apart, 1 threads": 3,
    }
    assert found.missing == {}
    record = found.to_dict()
    assert [m["at"] for m in record["measurements"] if "memory" in m["title"]] == (
        [{"rows": 200}] * 3 + [{"rows": 500}] * 3
    )
    spread = next(m for m in found.measurements if m.title.startswith("copies of 288 px: spread"))
    assert spread.value > 0


def test_copies_are_counted_and_checked(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    found = quiet(None, threads=2)
    scaling.copies(found)
    assert [c.title for c in found.comparisons] == [f"memory copied, {n} threads" for n in (1, 2)]
    assert {t.items for c in found.comparisons for t in c.timings} == {2 * 2**16}  # read, written
    monkeypatch.setattr(scaling.np, "copyto", lambda target, source: None)
    with pytest.raises(CheckFailedError, match="numbers not copied: 8191 "):
        scaling.copies(quiet(None))


def test_suite_scaling_without_large_images(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images.draw(tmp_path, 2, 75, 100)
    for part in ("over_sizes", "steps_over_batches", "over_rows", "train_together"):
        monkeypatch.setattr(scaling, part, lambda run: None)
    monkeypatch.setattr(scaling, "large_network", lambda threads: nullcontext())
    monkeypatch.setattr(scaling, "inference_over_batches", lambda run, network: None)
    found = quiet(tmp_path)
    scaling.scaling(found)
    assert list(found.missing) == ["curve over threads"]


def test_peak_memory_is_that_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(folder: Path, rows: int) -> dict:
        return {"array": (lambda: len(np.ones(rows, np.uint8)), {})}

    monkeypatch.setattr(scaling, "table_jobs", jobs)
    (_, _, small), (_, _, large) = scaling.peaks(tmp_path, (10, 64 << 20))
    assert small < 8 << 20
    assert 60 << 20 <= large < 72 << 20  # the kernel counts in lots


def test_apart_is_another_process() -> None:
    assert scaling.apart(os.getpid) != os.getpid()
    assert scaling.apart(max, 1, 2) == 2


def test_suite_scaling_finds_a_table_that_is_not_what_was_written(tmp_path: Path) -> None:
    scaling.draw_tables(tmp_path, 50)
    jobs = scaling.table_jobs(tmp_path, 50)
    assert jobs["reading a manifest"][0]() == 50
    path = tmp_path / "manifest-50.csv"
    path.write_text(path.read_text().replace("ISIC_0000049", "ISIC_0000099"))
    with pytest.raises(CheckFailedError, match="the manifest's last row"):
        jobs["reading a manifest"][0]()


def test_train_recipe_takes_a_batch_size() -> None:
    assert train.recipe(1, batch_size=4).train.batch_size == 4
