"""Images to predict: where they are found, and their names."""

import os
from pathlib import Path

import pytest

from melfast.io.errors import InputError
from melfast.predict.sources import ImageFiles, find_images


def test_find_images(tmp_path: Path) -> None:
    for name in ("b/two.JPG", "one.png", "c/d/three.jpeg", "notes.txt", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    files = find_images(str(tmp_path))
    assert files.names == ["two", "three", "one"]
    assert files.notes == ("not read: 1 .txt",)

    one = find_images(str(tmp_path / "notes.txt"))  # a file named explicitly is used
    assert one.names == ["notes"]

    matched = find_images(f"{tmp_path}/**/t*")
    assert matched.names == ["two", "three"]
    assert matched.paths == [f"{tmp_path}/b/two.JPG", f"{tmp_path}/c/d/three.jpeg"]


def test_find_images_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for images in (".", "*/*.png", str(tmp_path)):
        files = find_images(images)
        assert files.names == ["a/x.png", "b/x.png"]
        root = images if os.path.isdir(images) else "."
        assert files.notes == (f"some images share a name: image_name is the path below {root}",)


@pytest.mark.parametrize(
    "names", [("a/x.jpg", "b/x.jpg", "c.png"), ("x.jpg", "x.png"), ("x.jpg", "x.png", "x.jpg.png")]
)
def test_names_are_never_ambiguous(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files = find_images(str(tmp_path))
    assert files.names == sorted(names)


def test_no_images(tmp_path: Path) -> None:
    suffixes = ".jpg, .jpeg, .jpe, .jfif, .png, .webp, .bmp, .tif, .tiff"
    for images, message in (
        (str(tmp_path), f"{tmp_path}: holds no image ({suffixes})"),
        (f"{tmp_path}/*.jpg", f"{tmp_path}/*.jpg: matches no image ({suffixes})"),
        (f"{tmp_path}/no", f"{tmp_path}/no: no such file or folder of images"),
        ("", "'': no such file or folder of images"),
    ):
        with pytest.raises(InputError) as caught:
            find_images(images)
        assert str(caught.value) == message


def test_list_of_lines() -> None:
    files = find_images("-", ["\ufeffa/x.jpg\n", "\n", "b/y z.png\r\n"])
    assert files.paths == ["a/x.jpg", "b/y z.png"]
    assert files.names == ["x", "y z"]
    twice = find_images("-", ["/d/a/x.jpg", "/d/b/x.jpg"])
    assert twice.names == ["a/x.jpg", "b/x.jpg"]
    assert twice.notes == ("some images share a name: image_name is the path below /d",)
    for lines, message in (
        (["\n"], "standard input: names no image"),
        (["a/x.jpg", "b/x.jpg", "a/x.jpg"], "standard input: names a/x.jpg twice"),
    ):
        with pytest.raises(InputError) as caught:
            find_images("-", lines)
        assert str(caught.value) == message


def test_table_with_paths(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("image_name,path,other\nfirst,a/x.jpg,1\nsecond,/d/x.jpg,2\n")
    files = find_images(str(table))
    assert files.paths == [f"{tmp_path}/a/x.jpg", "/d/x.jpg"]
    assert files.names == ["first", "second"]
    table.write_text("path\na/x.jpg\nb/y.jpg\n")
    assert find_images(str(table)).names == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file\nx.jpg\n",
            ": no column 'path'; there are file; melfast prepare import makes a manifest of other tables",
        ),
        ("image_name,path\na,x.jpg\nb,\n", ":3: path must name a file, got ''"),
        ("image_name,path\na,x.jpg\na,y.jpg\n", ":3: image_name must name each image once, got 'a'"),
        ("image_name,path\n", ": has a header but no rows"),
    ],
)
def test_bad_table(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "m.csv"
    table.write_text(text)
    with pytest.raises(InputError) as caught:
        find_images(str(table))
    assert str(caught.value) == f"{table}{message}"


def test_shards_are_apart_and_together_all() -> None:
    files = ImageFiles([f"{i}.jpg" for i in range(10)], [str(i) for i in range(10)])
    shards = [files.shard(f"{k}/4") for k in (1, 2, 3, 4)]
    assert [shard.names for shard in shards] == [["0", "4", "8"], ["1", "5", "9"], ["2", "6"], ["3", "7"]]
    assert shards[1].paths == ["1.jpg", "5.jpg", "9.jpg"]
    for text in ("0/4", "5/4", "4", "a/b", "-1/4", "1/0"):
        with pytest.raises(InputError, match=f"`shard` must be K/N as 3/64, K from 1 to N, got '{text}"):
            files.shard(text)
    with pytest.raises(InputError, match="`shard=1/11`: there are 10 images, expected 11"):
        files.shard("1/11")
