"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from melfast.io.errors import InputError
from melfast.io.files import atomic_folder


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
        assert str(caught.value) == f"{place}: is there already, wanted the name of a new folder"
    assert (tmp_path / "full" / "file").read_text() == "as it was"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/folder: cannot be written: "),
        atomic_folder(tmp_path / "file" / "folder"),
    ):
        pytest.fail("the work began")
