"""Files and folders: complete or absent, written by one process at a time, and never over files of the user."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from melfast.io import files
from melfast.io.errors import InputError
from melfast.io.files import LEDGER, OwnFolder, atomic_folder, atomic_path, locked, own_folder, require_own_table


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "folder"
    with atomic_folder(wanted) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("content")
        assert not wanted.exists()
    assert (wanted / "sub" / "file").read_text() == "content"
    assert [path.name for path in wanted.parent.iterdir()] == ["folder"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "file").write_text("content")
    assert (tmp_path / "empty" / "file").read_text() == "content"


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("as it was")
    for place in (tmp_path / "full", tmp_path / "full" / "file"):
        with pytest.raises(InputError) as caught, atomic_folder(place):
            pytest.fail("the work began")
        assert str(caught.value) == f"{place}: already exists, expected the name of a new folder"
    assert (tmp_path / "full" / "file").read_text() == "as it was"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/folder: cannot be written: "),
        atomic_folder(tmp_path / "file" / "folder"),
    ):
        pytest.fail("the work began")


def test_a_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "content"


@pytest.fixture
def untidied() -> Iterator[None]:
    """As in a process that has just started."""
    before = set(files._tidied)
    files._tidied.clear()
    yield
    files._tidied.update(before)


HEX = "0123456789abcdef"


@pytest.mark.usefixtures("untidied")
def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path: Path) -> None:
    mine = [
        f".melfast-{HEX}.tmp.bak",
        f"melfast-{HEX}.tmp",
        ".melfast-1.tmp",
        f".melfast-{HEX[::-1].upper()}.tmp",
        "a.tmp",
    ]
    in_use, leftover, folder = (tmp_path / f".melfast-{part}{HEX[4:]}.tmp" for part in ("0000", "1111", "2222"))
    for path in (*(tmp_path / name for name in mine), in_use, leftover):
        path.write_text("content")
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("content")
    (tmp_path / f".melfast-3333{HEX[4:]}.tmp").symlink_to(tmp_path / "a.tmp")
    for path in (in_use, leftover, folder):
        os.utime(path, (time.time() - 60,) * 2)
    with open(in_use) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with atomic_path(tmp_path / "new"):
            assert not leftover.exists()
            assert not folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*mine, in_use.name, f".melfast-3333{HEX[4:]}.tmp", "new"]
    )


def test_two_processes_of_the_same_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers, where each is process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with atomic_path(tmp_path / "file") as one, atomic_path(tmp_path / "file") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


HOLD = """
import sys, time
from melfast.io.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


@contextmanager
def holding(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the lock of a path."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_second_process_is_told_who_writes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "output"
    if kind == "folder":
        path.mkdir()
    with holding(path) as process:
        if kind == "link":
            path = tmp_path / "other name"
            path.symlink_to(tmp_path / "output")
        with pytest.raises(InputError) as caught, locked(path):
            pytest.fail("two have the lock")
        year = time.strftime("%Y-")
        assert str(caught.value).startswith(
            f"{path}: is being written by process {process.pid} on {socket.gethostname()} since {year}"
        )
        assert str(caught.value).endswith("; wait until it has ended, or choose another output")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with locked(path):  # a killed process holds nothing
        pass
    left = tmp_path / "output" if kind == "folder" else tmp_path
    assert not [entry.name for entry in left.iterdir() if entry.name.endswith("lock")]


def test_a_lock_on_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(InputError) as caught, locked(tmp_path / "output"):
            pytest.fail("locked")
    assert str(caught.value) == f"{tmp_path / 'output'}: cannot be written: No space left on device"
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "output"):  # nor is it still held
        pass


def test_one_of_many_threads_at_a_time(tmp_path: Path) -> None:
    inside, most, refused = 0, 0, 0
    guard, barrier = threading.Lock(), threading.Barrier(8)

    def work() -> None:
        nonlocal inside, most, refused
        barrier.wait()
        for _ in range(40):
            try:
                with locked(tmp_path / "output"):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except InputError:
                with guard:
                    refused += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, refused > 0) == (1, True)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "output"), atomic_path(tmp_path / "output") as temporary:
        temporary.write_text("content")
    assert caplog.messages == [
        f"{tmp_path / 'output'}: the file system has no locks; make sure that no second process writes there"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_folder_of_the_users_is_refused(tmp_path: Path) -> None:
    for name in "dacb":
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError) as caught, own_folder(tmp_path, "melfast report"):
        pytest.fail("the work began")
    assert str(caught.value) == (
        f"{tmp_path}: holds a, b, c, ..., which 'melfast report' did not write; expected a new or empty folder"
    )
    with (
        pytest.raises(InputError, match="d: is a file, expected a folder"),
        own_folder(tmp_path / "d", "melfast report"),
    ):
        pytest.fail("the work began")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


def test_own_files_alone_are_replaced_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with own_folder(folder, "melfast report") as own:
        for name in ("page", "old.png"):
            own.claim(name).write_text("ours")
    (folder / "notes").write_text("mine")
    with own_folder(folder, "melfast report") as own:
        assert own.claim("page", "new.png") == folder / "new.png"
        with pytest.raises(InputError) as caught:
            own.claim("notes")
        own.remove(["old.png", "notes", "../new"])
    assert str(caught.value) == (
        f"{folder / 'notes'}: already exists and 'melfast report' did not write it; move it, or choose another folder"
    )
    assert sorted(path.name for path in folder.iterdir()) == [LEDGER, "notes", "page"]
    assert json.loads((folder / LEDGER).read_text()) == {"command": "melfast report", "files": ["new.png", "page"]}
    with pytest.raises(InputError) as caught, own_folder(folder, "melfast explain"):
        pytest.fail("the work began")
    assert str(caught.value) == f"{folder}: holds the output of 'melfast report'; expected a new or empty folder"
    (folder / LEDGER).write_text("[]")
    with pytest.raises(InputError, match=r"\.melfast\.json: is broken; expected a new or empty folder"):
        OwnFolder(folder, "melfast report")


def test_a_new_folder_without_files_goes(tmp_path: Path) -> None:
    with own_folder(tmp_path / "new", "melfast report") as own:
        own.claim("page")
    assert not (tmp_path / "new").exists()


def test_tables_beside_an_output(tmp_path: Path) -> None:
    table = tmp_path / "x.bad.csv"
    require_own_table(table, ("image_name", "path", "reason"))
    table.write_text("image_name,path,reason\na,b,c\n")
    require_own_table(table, ("image_name", "path", "reason"))
    table.write_text("image_name,path,why\n")
    with pytest.raises(InputError) as caught:
        require_own_table(table, ("image_name", "path", "reason"))
    assert str(caught.value) == (
        f"{table}: already exists and was not written by melfast; move it, or choose another output"
    )
