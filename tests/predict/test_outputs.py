"""Outputs of predictions never replace the images, the list of images or the model."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from melfast.engines.onnx_runtime import OnnxEngine
from melfast.engines.tensorrt_file import sidecar_path
from melfast.io.errors import InputError
from melfast.predict.outputs import require_apart
from melfast.predict.sources import find_images
from melfast.predict.writer import TableOptions, write_predictions


@pytest.fixture
def engine(red_model: Callable[..., Path], tmp_path: Path) -> OnnxEngine:
    return OnnxEngine(red_model(tmp_path / "model.onnx"), threads=1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 30), (51, 7, 9)).save(folder / f"{name}.jpg")
    return folder


def refused(engine: OnnxEngine, images: Path | str, output: Path, overlay: Path | None) -> str:
    """The message; nothing in the folders has changed."""
    root = output.parent
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    with pytest.raises(InputError) as caught:
        write_predictions(engine, find_images(str(images)), output, TableOptions(0.5, overlay=overlay))
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    return str(caught.value)


def test_pictures_do_not_replace_the_images(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    output, linked = tmp_path / "p.csv", tmp_path / "linked"
    for overlay in (photos, photos / "seen", tmp_path / "photos" / ".." / "photos"):
        assert refused(engine, photos, output, overlay) == (
            f"`overlay={overlay}`: lies in {photos}, so the next run would predict the pictures; "
            "expected a folder elsewhere"
        )
    linked.symlink_to(photos)
    for images, overlay in (
        (f"{photos}/*.jpg", photos),
        (f"{photos}/*.jpg", linked),
        (photos / "a.jpg", photos),
        (f"{photos}/*.jpg", tmp_path),
    ):
        assert refused(engine, images, output, overlay) == (
            f"`overlay={overlay}`: images that are predicted lie there, in {photos}; expected a "
            "folder for the pictures alone"
        )


def test_pictures_do_not_replace_images_that_links_lead_to(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.jpg").symlink_to(photos / "a.jpg")
    assert refused(engine, tmp_path / "links", tmp_path / "p.csv", photos) == (
        f"`overlay`: {photos / 'a.jpg'} is {tmp_path / 'links' / 'a.jpg'}, an image that is "
        "predicted; expected another folder"
    )


def test_a_folder_of_pictures_may_be_used_again(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    for _ in range(2):
        files = find_images(str(photos))
        write_predictions(engine, files, tmp_path / "p.csv", TableOptions(0.5, overlay=tmp_path / "o"))
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [".melfast.json", "a.jpg", "b.jpg"]


def test_a_folder_of_the_users_takes_no_pictures(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "a.jpg").write_bytes(b"mine")
    assert refused(engine, photos, tmp_path / "p.csv", tmp_path / "o") == (
        f"{tmp_path / 'o'}: holds a.jpg, which 'melfast predict --overlay' did not write; "
        "expected a new or empty folder"
    )
    assert (tmp_path / "o" / "a.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize(("name", "content"), [("p.json", '{"my": "notes"}'), ("p.failed.csv", "name,why\na,b\n")])
def test_files_of_the_users_beside_the_table_stay(
    engine: OnnxEngine, photos: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    assert refused(engine, photos, tmp_path / "p.csv", None) == (
        f"{tmp_path / name}: already exists and was not written by melfast; move it, or choose another output"
    )
    assert (tmp_path / name).read_text() == content
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("images", "output"),
    [
        ("labels.csv", "labels.csv"),
        ("p.failed.csv", "p.csv"),
        ("link.csv", "labels.csv"),
        ("p.parquet.failed.csv", "p.parquet"),
        ("p.csv.partial.csv", "p.csv"),
    ],
)
def test_a_table_does_not_replace_the_list_of_images(
    engine: OnnxEngine, photos: Path, tmp_path: Path, images: str, output: str
) -> None:
    table = tmp_path / ("labels.csv" if images == "link.csv" else images)
    table.write_text("image_name,path\nA,photos/a.jpg\nB,photos/b.jpg\n")
    if images == "link.csv":
        (tmp_path / images).symlink_to(table)
    if images == "p.csv.partial.csv":
        os.link(table, tmp_path / "p.csv.partial")
        table = tmp_path / "p.csv.partial"
    assert refused(engine, tmp_path / images, tmp_path / output, None) == (
        f"{table}: would be replaced, but is read as {tmp_path / images}; expected another `output`"
    )


def test_a_table_does_not_replace_an_image_or_the_model(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    os.rename(photos / "b.jpg", photos / "b.csv")
    (tmp_path / "list.csv").write_text("path\nphotos/a.jpg\nphotos/b.csv\n")
    assert "is read as" in refused(engine, tmp_path / "list.csv", photos / "b.csv", None)
    os.rename(photos / "b.csv", photos / "b.jpg")
    for model, output in (("m.csv", "m.csv"), ("m.json", "m.csv")):
        os.rename(engine.info.model, tmp_path / model)
        engine = OnnxEngine(tmp_path / model, threads=1)
        assert refused(engine, photos, tmp_path / output, None).startswith(f"{tmp_path / model}: would be replaced")
    sidecar_path(tmp_path / model).write_text("{}")  # m.json.json
    with pytest.raises(InputError, match=r"m\.json\.json: would be replaced"):
        require_apart(tmp_path / "m.json.csv", find_images(str(photos)), engine)


def test_csv_and_parquet_side_by_side(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_bytes(b"")
    folder = tmp_path / "out"
    for name, threshold in (("p.csv", 0.1), ("p.parquet", 0.9)):
        write_predictions(engine, find_images(str(photos)), folder / name, TableOptions(threshold))
    (photos / "c.jpg").unlink()
    write_predictions(engine, find_images(str(photos)), folder / "p.parquet", TableOptions(0.9))
    assert {path.name for path in folder.iterdir()} == {
        "p.csv",
        "p.json",
        "p.failed.csv",
        "p.parquet",
        "p.parquet.json",
    }
    found = [json.loads((folder / f"p{end}").read_text()) for end in (".json", ".parquet.json")]
    assert [(each["threshold"], each["failed"]) for each in found] == [(0.1, 1), (0.9, 0)]
