"""The table of predictions: its columns, its formats, and runs that are stopped and resumed."""

import contextlib
import csv
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from melfast.cli import one_line
from melfast.data.preprocess import Preprocess
from melfast.engines.base import EngineInfo, OptionalGroups
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.io import journal
from melfast.io.errors import ImageError, InputError
from melfast.models.decode import decode
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict import partial
from melfast.predict.outputs import about_path
from melfast.predict.overlay import inspect_image, outline, scale_of
from melfast.predict.partial import Partial
from melfast.predict.sources import ImageFiles, find_images
from melfast.predict.writer import Stopped, TableOptions, group_probabilities, write_predictions
from melfast.prepare.ita import tone_of
from melfast.prepare.picture import open_picture
from melfast.prepare.synth.draw import draw_sample

TWO = InferenceSettings(batch_size=2, on_error="skip")
PRIORS = ((0.4, 0.1), (0.3, 0.2), (0.0, 0.0))
GROUPED = ModelRecord(
    "red", Preprocess(4, 6), head="domain_discriminative", groups=("light", "tan", "dark"), priors=PRIORS
)


class Engine:
    """P(malignant) is the mean red / 255; notes how many images it has seen; stops when told."""

    provider = "none"
    in_flight = 1
    info = EngineInfo("torch", "none", "none 1", "red", "0" * 64)

    def __init__(self, record: ModelRecord | None = None, stop_after: int = 10**9) -> None:
        self.record = record or ModelRecord("red", Preprocess(4, 6))
        self.seen, self.stop_after = 0, stop_after

    def run(
        self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images_bhw3)
        p = images_bhw3[..., 0].mean((1, 2)).astype(np.float32) / np.float32(255)
        return p, np.tile(np.linspace(0, 1, self.record.num_logits, dtype=np.float32), (len(p), 1))


@pytest.fixture
def photos(tmp_path: Path) -> ImageFiles:
    """Red 0, 51, 102, ... 255 in p0.png ... p5.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(6):
        Image.new("RGB", (6, 4), (51 * n, 7, 9)).save(folder / f"p{n}.png")
    return find_images(str(folder))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_json_beside_the_table(red_model: Callable[..., Path], photos: ImageFiles, tmp_path: Path) -> None:
    engine = OnnxEngine(red_model(tmp_path / "m.onnx"))
    write_predictions(engine, photos, tmp_path / "p.csv", TableOptions(0.25))
    found = json.loads((tmp_path / "p.json").read_text())
    digest = sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert found["model"] == found["engine"]["sha256"] == digest
    assert found["engine"]["model"] == str(tmp_path / "m.onnx")
    assert found["engine"]["backend"] == "onnx-cpu"
    assert found["engine"]["provider"] == "CPUExecutionProvider"
    assert found["threshold"] == 0.25
    assert (found["predicted"], found["malignant"], found["failed"]) == (6, 4, 0)
    assert found["columns"] == ["image_name", "prediction", "probability"]


def test_stopped_and_gone_on_with(photos: ImageFiles, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "p.csv"
    write_predictions(Engine(), photos, whole, TableOptions(0.5), settings=TWO)
    with pytest.raises(Stopped):
        write_predictions(Engine(stop_after=4), photos, output, TableOptions(0.5), settings=TWO)
    assert not output.exists()
    # A row that was being written when the machine went down.
    with open(tmp_path / "p.csv.partial", "a") as file:
        file.write('["p4", "1", "0.8", "/photos/p')
    engine, done = Engine(), []
    summary = write_predictions(
        engine, photos, output, TableOptions(0.5), settings=TWO, resume=True, progress=done.append
    )
    assert (engine.seen, summary.resumed, summary.predicted, summary.malignant) == (2, 4, 6, 3)
    assert done == [4, 2]
    assert output.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "p.csv.partial").exists()


def test_rows_that_are_kept_are_not_lost_without_resume(photos: ImageFiles, tmp_path: Path) -> None:
    output, kept = tmp_path / "p.csv", tmp_path / "p.csv.partial"
    with pytest.raises(Stopped):
        write_predictions(Engine(stop_after=4), photos, output, TableOptions(0.5), settings=TWO)
    before, engine = kept.read_bytes(), Engine()
    with pytest.raises(InputError) as caught:
        write_predictions(engine, photos, output, TableOptions(0.5))
    assert str(caught.value) == (
        f"{kept}: keeps 4 rows of a run that ended early; `resume=True` resumes it; to start over, delete the file"
    )
    assert (engine.seen, kept.read_bytes()) == (0, before)
    # The first line alone, of a run that was killed before its first row, is nothing to keep.
    kept.write_bytes(before.split(b"\n")[0] + b"\n")
    write_predictions(engine, photos, output, TableOptions(0.5))
    assert engine.seen == 6


NOTE = "{}.partial keeps {} rows; the same command with `resume=True` continues"


def test_what_is_kept_is_told_whatever_ends_the_run(
    photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, png = tmp_path / "p.parquet", Path(photos.paths[5])

    class Broken(Engine):
        def run(self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Any:
            if self.seen:
                raise RuntimeError("CUDA error")
            return super().run(images_bhw3, group_b)

    with pytest.raises(RuntimeError, match="CUDA error") as failed:
        write_predictions(Broken(), photos, output, TableOptions(0.5), settings=TWO)
    assert failed.value.__notes__ == [NOTE.format(output, 2)]

    good = png.read_bytes()
    png.write_bytes(b"")
    with pytest.raises(ImageError, match=r"p5\.png: found an empty file") as unreadable:
        write_predictions(Engine(), photos, output, TableOptions(0.5), replace(TWO, on_error="raise"), resume=True)
    assert unreadable.value.__notes__ == [NOTE.format(output, 4)]
    png.write_bytes(good)

    def full(self: Partial, path: Path, rows: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Partial, "_write_parquet", full)
        with pytest.raises(InputError) as caught:
            write_predictions(Engine(), photos, output, TableOptions(0.5), TWO, resume=True)
    assert one_line(caught.value) == (f"{output}: cannot be written: No space left on device; {NOTE.format(output, 6)}")
    engine = Engine()
    assert write_predictions(engine, photos, output, TableOptions(0.5), resume=True).resumed == 6
    assert engine.seen == 0


def test_a_full_disk_keeps_the_rows_before(photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "p.csv"
    row = len(json.dumps(["p0", "0", "0.0", str(photos.paths[0])]) + "\n")
    room = 3 * row

    def write(descriptor: int, content: memoryview) -> int:
        """A disk with room for three rows, with batches of two."""
        nonlocal room
        if room <= 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        count = os.write(descriptor, content[:room])
        room -= count
        return count

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", write)
        with pytest.raises(InputError) as caught:
            write_predictions(Engine(), photos, output, TableOptions(0.5), settings=TWO)
    assert one_line(caught.value) == (f"{output}.partial: cannot be written: File too large; {NOTE.format(output, 2)}")
    assert Path(f"{output}.partial").read_text().count("\n") == 3
    summary = write_predictions(Engine(), photos, output, TableOptions(0.5), resume=True)
    assert (summary.resumed, summary.predicted) == (2, 6)


def test_nothing_is_lost_before_the_json_is_there(
    photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: object) -> None:
        raise InputError(f"{path}: cannot be written: No space left on device")

    output = tmp_path / "p.csv"
    with monkeypatch.context() as patch:
        patch.setattr(partial, "write_json", full)
        with pytest.raises(InputError, match=r"p\.json: cannot be written"):
            write_predictions(Engine(), photos, output, TableOptions(0.5))
    engine = Engine()
    assert write_predictions(engine, photos, output, TableOptions(0.5), resume=True).resumed == 6
    assert (engine.seen, output.exists()) == (0, True)


def test_parquet_and_names_that_it_cannot_hold(photos: ImageFiles, tmp_path: Path) -> None:
    wrong, engine = os.fsdecode(b"caf\xe9"), Engine()
    files = ImageFiles(photos.paths[:2], ["a", wrong])
    with pytest.raises(InputError) as caught:
        write_predictions(engine, files, tmp_path / "p.parquet", TableOptions(0.5))
    assert str(caught.value) == (
        f"{tmp_path / 'p.parquet'}: Parquet cannot hold b'caf\\xe9', a name that is not UTF-8; "
        "expected a .csv, or another name"
    )
    assert engine.seen == 0
    write_predictions(engine, files, tmp_path / "p.csv", TableOptions(0.5))


def test_parquet_of_files_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    from pyarrow import parquet

    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Image.new("RGB", (6, 4)).save(folder / 'a,b\n"c.png')
    write_predictions(Engine(), find_images(str(folder)), tmp_path / "p.parquet", TableOptions(0.5))
    assert parquet.read_table(tmp_path / "p.parquet")["image_name"].to_pylist() == ['a,b\n"c']


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_engines_are_told_with_their_rows(photos: ImageFiles, tmp_path: Path, name: str) -> None:
    output = tmp_path / name

    def run(provider: str, count: int, *, stop_after: int = 10**9) -> list[tuple[str, int]]:
        engine = Engine(stop_after=stop_after)
        engine.info = replace(Engine.info, provider=provider, passed_over={"x": provider})
        with contextlib.suppress(Stopped):
            write_predictions(
                engine,
                photos.select(range(count)),
                output,
                TableOptions(0.5),
                settings=InferenceSettings(batch_size=1, on_error="skip"),
                resume=True,
            )
        if not about_path(output).exists():
            return []
        about = json.loads(about_path(output).read_text())
        assert about["engine"]["provider"] == provider
        return [(each["provider"], each["rows"]) for each in about["engines"]]

    assert run("CUDA", 5, stop_after=2) == []
    assert run("CPU", 5, stop_after=0) == []
    assert run("CUDA", 5, stop_after=1) == []
    with open(f"{output}.partial", "a") as file:
        file.write('["p4", "1", "0.8", "/photos/p')  # cut off
    assert run("CPU", 5) == [("CUDA", 3), ("CPU", 2)]
    assert run("CUDA", 6) == [("CPU", 2), ("CUDA", 4)]


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_resume_of_a_finished_table_does_what_is_new(photos: ImageFiles, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    write_predictions(Engine(), photos.select(range(4)), output, TableOptions(0.5))
    engine = Engine()
    summary = write_predictions(engine, photos, output, TableOptions(0.5), resume=True)
    assert (engine.seen, summary.resumed, summary.predicted) == (2, 4, 6)
    whole = tmp_path / f"whole_{name}"
    write_predictions(Engine(), photos, whole, TableOptions(0.5))
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("finished", [False, True])
def test_resume_with_other_images_of_the_same_names(photos: ImageFiles, tmp_path: Path, finished: bool) -> None:
    output, other = tmp_path / "p.csv", tmp_path / "other"
    stop = 10**9 if finished else 4
    with contextlib.suppress(Stopped):
        write_predictions(Engine(stop_after=stop), photos, output, TableOptions(0.5), settings=TWO)
    other.mkdir()
    for path in photos.paths:
        Image.new("RGB", (6, 4), (0, 0, 0)).save(other / Path(path).name)
    with pytest.raises(InputError) as caught:
        write_predictions(Engine(), find_images(str(other)), output, TableOptions(0.5), resume=True)
    message = (
        f"{output}: was made from other images; expected the same images, and possibly more; "
        "to start over, leave out `resume=True`"
    )
    if not finished:
        message = (
            f"{output}.partial: p0 was {photos.paths[0]}, now it is {other}/p0.png; "
            "expected the same images; to start over, delete the file"
        )
    assert str(caught.value) == message
    with pytest.raises(InputError, match=r"was made from other images|p0 was .*, now it is not among the images"):
        write_predictions(Engine(), photos.select([1, 2]), output, TableOptions(0.5), resume=True)


def test_names_that_lead_out_of_the_folder_of_pictures(photos: ImageFiles, tmp_path: Path) -> None:
    files = ImageFiles([photos.paths[0]], ["../p0"])
    with pytest.raises(InputError, match=r"`overlay`: image_name '\.\./p0' leads out of the folder"):
        write_predictions(Engine(), files, tmp_path / "p.csv", TableOptions(0.5, overlay=tmp_path / "o"))
    write_predictions(Engine(), files, tmp_path / "p.csv", TableOptions(0.5))


def test_resume_with_other_settings(photos: ImageFiles, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        write_predictions(Engine(stop_after=4), photos, tmp_path / "p.csv", TableOptions(0.5), settings=TWO)
    with pytest.raises(InputError) as caught:
        write_predictions(Engine(), photos, tmp_path / "p.csv", TableOptions(0.4, logits=True), resume=True)
    assert str(caught.value) == (
        f"{tmp_path / 'p.csv.partial'}: keeps 4 results made with other settings (columns, threshold); expected "
        "the same command; to start over, delete the file"
    )


def test_the_published_submission_form(photos: ImageFiles, tmp_path: Path) -> None:
    write_predictions(Engine(GROUPED), photos, tmp_path / "p.csv", TableOptions(0.5))
    write_predictions(Engine(GROUPED), photos, tmp_path / "s.csv", TableOptions(0.5, submission=True))
    header, *rows = ((tmp_path / "p.csv").read_text()).splitlines()
    assert header == "image_name,prediction,probability"
    calls = [",".join(row.split(",")[:2]) for row in rows]
    assert (tmp_path / "s.csv").read_text().splitlines() == ["image_name,target", *calls]
    message = "--format submission: holds only image_name and target; drop the --with- options"
    with pytest.raises(InputError, match=f"^{message}$"):
        write_predictions(Engine(GROUPED), photos, tmp_path / "t.csv", TableOptions(0.5, logits=True, submission=True))


def test_parquet(photos: ImageFiles, tmp_path: Path) -> None:
    from pyarrow import parquet

    output = tmp_path / "p.parquet"
    write_predictions(Engine(GROUPED), photos, output, TableOptions(0.5, logits=True, groups=True))
    table = parquet.read_table(output)
    assert table.column_names == [
        "image_name",
        "prediction",
        "probability",
        *(f"logit_{i}" for i in range(6)),
        "probability_light",
        "probability_tan",
        "probability_dark",
    ]
    assert [str(kind) for kind in table.schema.types] == ["string", "int8", *["float"] * 10]
    assert table["image_name"].to_pylist() == [f"p{n}" for n in range(6)]
    np.testing.assert_array_equal(
        table["probability"].to_numpy(), (np.arange(6) * 51 / np.float32(255)).astype(np.float32)
    )
    assert table["probability_dark"].null_count == 6  # of a group without training images


def test_other_formats_are_refused(photos: ImageFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.xlsx: expected a name that ends in \.csv or \.parquet"):
        write_predictions(Engine(), photos, tmp_path / "p.xlsx", TableOptions(0.5))


def test_parquet_without_pyarrow(photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install pyarrow"):
        write_predictions(Engine(), photos, tmp_path / "p.parquet", TableOptions(0.5))


def test_group_probabilities_by_hand_and_by_decode() -> None:
    logits = np.log(np.array([[0.4, 0.2, 0.1, 0.2, 0.05, 0.05]], np.float32))
    # (0.2 / 0.1) against (0.4 / 0.4), and (0.2 / 0.2) against (0.1 / 0.3).
    found = group_probabilities(logits, GROUPED)
    np.testing.assert_allclose(found, [[2 / 3, 3 / 4, np.nan]], rtol=1e-6)

    independent = GROUPED.replace(head="domain_independent", inference="group_conditional")
    logits = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    found = group_probabilities(logits, independent)
    for group in range(2):
        wanted = decode(torch.from_numpy(logits), independent, torch.full((5,), group))
        np.testing.assert_allclose(found[:, group], wanted, rtol=1e-6)


def test_groups_of_a_plain_head(photos: ImageFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`with_groups`: the model's head is plain, which knows"):
        write_predictions(Engine(), photos, tmp_path / "p.csv", TableOptions(0.5, groups=True))


@pytest.fixture
def skins(tmp_path: Path) -> ImageFiles:
    """Drawn images of the lightest and of the darkest skin of some, and a plane of no skin."""
    folder = tmp_path / "skins"
    folder.mkdir()
    drawn = sorted((draw_sample(0, i, (400, 300)) for i in range(0, 40, 4)), key=lambda s: s.ita_deg)
    for name, sample in (("a", drawn[-1]), ("b", drawn[0])):
        Image.fromarray(sample.image).save(folder / f"{name}.png")
    Image.new("RGB", (40, 30), (255, 0, 255)).save(folder / "c.png")
    return find_images(str(folder))


def test_tone_and_thresholds_by_group(skins: ImageFiles, tmp_path: Path) -> None:
    wanted = TableOptions(1.0, {"very light": 0.0, "dark": 1.0}, ita=True)
    summary = write_predictions(Engine(), skins, tmp_path / "p.csv", wanted)
    rows = rows_of(tmp_path / "p.csv")
    for row, path in zip(rows, skins.paths, strict=True):
        with open_picture(Path(path)) as picture:
            tone = tone_of(picture, "cielab")
        known = np.isfinite(tone.ita_deg)
        assert row["ita"] == (f"{tone.ita_deg:.4f}" if known else "")
    assert [row["group"] for row in rows] == ["very light", "dark", ""]
    assert [row["prediction"] for row in rows] == ["1", "0", "1"]
    assert summary.malignant == 2


def test_overlay(skins: ImageFiles, tmp_path: Path) -> None:
    write_predictions(Engine(), skins, tmp_path / "p.csv", TableOptions(0.5, overlay=tmp_path / "o"))
    assert sorted(path.name for path in (tmp_path / "o").glob("*")) == [".melfast.json", "a.jpg", "b.jpg", "c.jpg"]
    with Image.open(tmp_path / "o" / "a.jpg") as picture:
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (384 + 26, 512, 3)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 1] > 180) & (pixels[..., 2] < 90)
    assert 100 < yellow[:384].sum() < 0.2 * 384 * 512
    assert (pixels[384:] < 90).any()  # the words
    assert (pixels[384:, -20:] > 200).all()  # to their end
    # The table is what it is without pictures.
    write_predictions(Engine(), skins, tmp_path / "q.csv", TableOptions(0.5))
    assert (tmp_path / "p.csv").read_text() == (tmp_path / "q.csv").read_text()


def test_outline_by_hand() -> None:
    inside = np.zeros((7, 8), bool)
    inside[1:6, 1:7] = True
    found = outline(inside)
    assert found.sum() == 30 - 2  # all but the core of 1 x 2
    assert not found[3, 3:5].any()


def test_scale_by_the_names_of_the_models_groups() -> None:
    assert scale_of(()).names == scale_of(("x", "y")).names
    assert scale_of(()).names[4:] == ("brown", "dark")
    assert scale_of(("very light", "light", "intermediate", "tan")).names[3:] == ("tan",)


def test_look_at_an_image_without_skin(skins: ImageFiles) -> None:
    look = inspect_image(Path(skins.paths[2]))
    assert look.group == ""
    assert look.cells[2] == ""
