"""The sweep over the images of a manifest, and its journal."""

import errno
import json
import os
import threading
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

from melfast.data.manifest import Manifest
from melfast.io import journal as journal_module
from melfast.io.errors import ImageError, InputError
from melfast.io.journal import Journal
from melfast.prepare.sweep import SweepResult, sweep, write_quarantine


@pytest.fixture
def rows(tmp_path: Path) -> Manifest:
    """Nine rows; the file of each holds its number."""
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_text(str(i))
    names = [f"n{i}" for i in range(9)]
    table = pd.DataFrame({"image_name": names, "path": [f"{i}.jpg" for i in range(9)]})
    return Manifest(tmp_path / "m.csv", table)


class Worker:
    """Reads the numbers; remembers which rows it was asked for."""

    def __init__(self, manifest: Manifest, bad: tuple[int, ...] = (), stop_at: int = 99) -> None:
        self.paths, self.bad, self.stop_at = manifest.image_paths, bad, stop_at
        self.asked: list[int] = []

    def __call__(self, row: int) -> dict[str, int]:
        self.asked.append(row)
        if row == self.stop_at:
            raise OSError("the disk is full")
        if row in self.bad:
            raise ImageError(self.paths[row], "is bad")
        return {"number": int(self.paths[row].read_text())}


@pytest.mark.parametrize("threads", [1, 4])
def test_results_by_row_and_bad_ones_aside(rows, tmp_path, threads):
    done: list[None] = []
    swept = sweep(rows, Worker(rows, bad=(2, 7)), threads=threads, progress=lambda: done.append(None))
    assert [r and r["number"] for r in swept.results] == [0, 1, None, 3, 4, 5, 6, None, 8]
    assert swept.bad == [("n2", str(tmp_path / "2.jpg"), "is bad"), ("n7", str(tmp_path / "7.jpg"), "is bad")]
    assert swept.resumed == 0
    assert len(done) == 9


def test_as_many_at_a_time_as_threads(rows):
    meet = threading.Barrier(3, timeout=30)  # raises unless three rows are processed at the same time
    assert sweep(rows, lambda row: {"met": meet.wait() < 3}, threads=3).bad == []


def resumed(rows: Manifest, journal: Journal, **options) -> tuple[SweepResult, list[int]]:
    worker = Worker(rows)
    return sweep(rows, worker, journal=journal, **options), worker.asked


@pytest.fixture
def stopped(rows: Manifest, tmp_path: Path) -> Journal:
    """The journal of a sweep that ended at row 5, row 2 being bad then."""
    journal = Journal.beside(tmp_path / "out.csv", "masks", {"method": "a"})
    with pytest.raises(OSError, match="disk is full"):
        sweep(rows, Worker(rows, bad=(2,), stop_at=5), journal=journal)
    assert journal.path == tmp_path / "out.csv.masks.partial"
    return journal


def test_an_interrupted_sweep_goes_on(rows, stopped):
    done: list[None] = []
    swept, asked = resumed(rows, stopped, progress=lambda: done.append(None))
    assert asked == [2, 5, 6, 7, 8]  # the bad one is tried again
    assert swept.resumed == 4
    assert [r["number"] for r in swept.results] == list(range(9))
    assert len(done) == 9
    assert resumed(rows, stopped)[1] == []
    stopped.remove()
    assert not stopped.path.exists()


def test_a_line_cut_short_is_made_again(rows, stopped):
    text = stopped.path.read_text()
    stopped.path.write_text(text[:-9])
    swept, asked = resumed(rows, stopped)
    assert asked == [2, 4, 5, 6, 7, 8]
    assert [r["number"] for r in swept.results] == list(range(9))
    for line in stopped.path.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("text", ["{", "[1]\n", "\x00\n", '{"settings": 1}\n{"image": []}\n', "my,own\ntable,1\n"])
def test_what_is_no_journal_stays(rows, stopped, text):
    stopped.path.write_text(text)
    with pytest.raises(InputError) as caught:
        resumed(rows, stopped)
    assert str(caught.value) == (
        f"{stopped.path}: is not a journal of melfast and would be replaced; move it, or choose another output"
    )
    assert stopped.path.read_text() == text


def test_an_empty_journal_is_replaced(rows, stopped):
    stopped.path.write_text("")
    assert resumed(rows, stopped)[1] == list(range(9))


def test_results_of_other_settings_are_not_thrown_away(rows, stopped):
    other = Journal.beside(stopped.path.with_name("out.csv"), "masks", {"method": "b"})
    assert (stopped.is_started(), other.is_started()) == (True, False)
    with pytest.raises(InputError) as caught:
        resumed(rows, other)
    assert str(caught.value) == (
        f"{stopped.path}: keeps 4 results made with other settings (method); expected the same command; "
        "to start over, delete the file"
    )
    assert resumed(rows, stopped)[1] == [2, 5, 6, 7, 8]
    # Where there is no result to lose, other settings start over.
    stopped.path.write_text(stopped.path.read_text().splitlines(keepends=True)[0])
    assert resumed(rows, other)[1] == list(range(9))


def test_a_journal_is_text_of_a_line_an_image(rows, stopped):
    head, *lines = map(json.loads, stopped.path.read_text().splitlines())
    assert head == {"settings": {"version": version("melfast"), "method": "a"}}
    assert [(line["image"], line["result"]) for line in lines] == [(f"n{i}", {"number": i}) for i in (0, 1, 3, 4)]


def test_a_block_that_never_reached_the_disk_is_made_again(rows, stopped):
    lines = stopped.path.read_bytes().splitlines(keepends=True)
    stopped.path.write_bytes(b"".join([*lines[:3], b"\0" * 40 + b"\n", *lines[3:]]))
    assert resumed(rows, stopped)[1] == [2, 3, 4, 5, 6, 7, 8]


def test_a_full_disk_names_the_journal(rows, tmp_path, monkeypatch):
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal.beside(tmp_path / "out.csv", "ita", {})
    monkeypatch.setattr(journal_module, "_write", full)
    with pytest.raises(InputError) as caught:
        sweep(rows, Worker(rows), journal=journal)
    assert str(caught.value) == f"{tmp_path / 'out.csv.ita.partial'}: cannot be written: No space left on device"


def test_a_changed_image_is_made_again(rows, stopped, tmp_path):
    (tmp_path / "1.jpg").write_text("41")
    os.utime(tmp_path / "3.jpg", ns=(1, 1))
    swept, asked = resumed(rows, stopped)
    assert asked == [1, 2, 3, 5, 6, 7, 8]
    assert swept.results[1] == {"number": 41}


def test_an_image_that_moved_is_made_again(rows, stopped, tmp_path):
    (tmp_path / "0.jpg").rename(tmp_path / "zero.jpg")
    moved = rows.with_columns(path=["zero.jpg", *rows.column("path")[1:]])
    assert resumed(moved, stopped)[1] == [0, 2, 5, 6, 7, 8]


def test_results_that_are_no_longer_good_are_made_again(rows, stopped):
    _, asked = resumed(rows, stopped, still_good=lambda row, result: result["number"] != row or row)
    assert asked == [0, 2, 5, 6, 7, 8]


def test_quarantine_is_a_table(tmp_path):
    write_quarantine([("a", "x,y.jpg", 'says "no"')], tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_text() == ('image_name,path,reason\na,"x,y.jpg","says ""no"""\n')
