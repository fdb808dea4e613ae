"""Images to predictions.csv, by hand with a model whose probability is mean red / 255."""

import csv
import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import melfast
from melfast.data import native
from melfast.data.preprocess import Preprocess
from melfast.engines.base import Engine, EngineInfo, OptionalGroups
from melfast.engines.onnx_runtime import OnnxEngine
from melfast.io import images as images_module
from melfast.io.errors import ImageError, InputError
from melfast.io.folders import list_images
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict import overlay as look
from melfast.predict.predictor import Predictor, model_threshold, predictions
from melfast.predict.sources import ImageFiles, find_images
from melfast.predict.writer import Stopped, Summary, TableOptions, write_predictions

RedModel = Callable[..., Path]


@pytest.fixture
def model(red_model: RedModel, tmp_path: Path) -> Path:
    return red_model(tmp_path / "model.onnx")


@pytest.fixture
def engine(model: Path) -> OnnxEngine:
    return OnnxEngine(model, threads=1)


def write_png(path: Path, red: int, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 7, 9)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Red 0, 51, 102, ... 255 in p0.png ... p5.png, of different sizes."""
    folder = tmp_path / "photos"
    for n in range(6):
        write_png(folder / f"p{n}.png", 51 * n, size=(6 + 5 * n, 4 + 3 * n))
    return folder


def table(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write(engine: Engine, images: Path, output: Path, **options: object) -> Summary:
    names = TableOptions.__dataclass_fields__
    wanted = TableOptions(**{"threshold": 0.25} | {k: v for k, v in options.items() if k in names})  # type: ignore[arg-type]
    rest = {k: v for k, v in options.items() if k in ("resume", "progress")}
    given = {k: v for k, v in options.items() if k in InferenceSettings.__dataclass_fields__}
    settings = InferenceSettings(**{"batch_size": 4, "threads": 2, "on_error": "skip"} | given)  # type: ignore[arg-type]
    return write_predictions(engine, find_images(str(images)), output, wanted, settings, **rest)  # type: ignore[arg-type]


def test_by_hand(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "predictions.csv"
    done: list[int] = []
    summary = write(engine, photos, output, progress=done.append)
    assert output.read_text() == (
        "image_name,prediction,probability\np0,0,0.0\np1,0,0.2\np2,1,0.4\np3,1,0.6\np4,1,0.8\np5,1,1.0\n"
    )
    assert summary == Summary(predicted=6, malignant=4, failures=(), failed_path=None)
    assert done == [4, 2]
    assert {path.name for path in output.parent.iterdir()} == {"predictions.csv", "predictions.json"}


@pytest.mark.parametrize(("threshold", "malignant"), [(0.0, 6), (1.0, 1), (0.25, 4)])
def test_target_is_one_at_or_above_the_threshold(
    engine: OnnxEngine, photos: Path, tmp_path: Path, threshold: float, malignant: int
) -> None:
    assert write(engine, photos, tmp_path / "p.csv", threshold=threshold).malignant == malignant


class FixedEngine:
    """Returns given probabilities, whatever the images."""

    record = ModelRecord("fixed", Preprocess(4, 6))
    provider = "none"
    in_flight = 1
    info = EngineInfo("torch", "none", "none 1", "fixed", "0" * 64)

    def __init__(self, probability: NDArray[np.float32]) -> None:
        self.probability, self.calls = probability, 0

    def run(
        self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        first = self.calls
        self.calls += len(images_bhw3)
        p = self.probability[first : self.calls]
        return p, np.stack([1 - p, p], 1)


def test_digits_give_back_every_float32(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 0x3F800001, 200, dtype=np.uint32)
    wanted = bits.view(np.float32)  # of any size in 0..1
    png = str(write_png(tmp_path / "a.png", 0))
    files = ImageFiles([png] * 200, [str(i) for i in range(200)])
    write_predictions(FixedEngine(wanted), files, tmp_path / "p.csv", TableOptions(0.5))
    rows = table(tmp_path / "p.csv")[1:]
    found = np.array([row[2] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(found.view(np.uint32), bits)
    assert [row[1] for row in rows] == [str(int(p >= 0.5)) for p in wanted]


def test_threshold_is_not_rounded_to_float32(tmp_path: Path) -> None:
    p = np.array([0.3], np.float32)  # 0.300000012 as float64
    files = ImageFiles([str(write_png(tmp_path / "a.png", 0))], ["a"])
    for threshold, called in ((0.30000001, 1), (0.30000002, 0)):
        assert np.float32(threshold) == p[0]
        summary = write_predictions(FixedEngine(p), files, tmp_path / "p.csv", TableOptions(threshold))
        assert summary.malignant == called


def test_bad_images_are_listed_and_the_rest_answered(
    engine: OnnxEngine, photos: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("empty.jpg", "truncated.jpg", "cmyk.jpg", "grey.png", "sixteen.png", "huge.jpg"):
        os.rename(bad_images[name], photos / f"bad_{name}")
    summary = write(engine, photos, tmp_path / "p.csv")
    assert [row[0] for row in table(tmp_path / "p.csv")[1:]] == [f"p{n}" for n in range(6)]
    assert summary.failed_path == tmp_path / "p.failed.csv"
    rows = table(summary.failed_path)
    assert rows[0] == ["image_name", "path", "reason"]
    names = ["bad_cmyk", "bad_empty", "bad_grey", "bad_huge", "bad_sixteen", "bad_truncated"]
    assert [row[0] for row in rows[1:]] == names
    assert rows[2][1:] == [
        str(photos / "bad_empty.jpg"),
        "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF",
    ]
    assert [str(failure) for failure in summary.failures] == [f"{r[1]}: {r[2]}" for r in rows[1:]]


def test_a_batch_of_bad_images_alone(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    for n in range(5):
        (photos / f"a{n}.jpg").write_bytes(b"")
    summary = write(engine, photos, tmp_path / "p.csv", batch_size=2)
    assert (summary.predicted, len(summary.failures)) == (6, 5)


def test_a_list_of_failures_that_is_over_goes(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"")
    write(engine, photos, tmp_path / "p.csv")
    assert (tmp_path / "p.failed.csv").exists()
    (photos / "bad.jpg").unlink()
    write(engine, photos, tmp_path / "p.csv")
    assert not (tmp_path / "p.failed.csv").exists()


def test_nothing_readable(engine: OnnxEngine, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        (folder / name).write_bytes(b"")
    (tmp_path / "p.csv").write_text("as it was")
    with pytest.raises(InputError) as caught:
        write(engine, folder, tmp_path / "p.csv")
    assert str(caught.value) == (
        f"none of 2 images could be predicted, see {tmp_path / 'p.failed.csv'}; the first: "
        f"{folder / 'a.jpg'}: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"
    )
    assert (tmp_path / "p.csv").read_text() == "as it was"
    assert len(table(tmp_path / "p.failed.csv")) == 3


def test_on_error_raise(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (photos / "p3.png").write_bytes(b"")
    before = set(tmp_path.iterdir())
    with pytest.raises(ImageError, match=r"p3\.png: found an empty file"):
        write(engine, photos, tmp_path / "p.csv", on_error="raise")
    assert set(tmp_path.iterdir()) == before


def test_interrupted_keeps_what_is_done_and_the_table_that_was(photos: Path, tmp_path: Path) -> None:
    class Interrupted(FixedEngine):
        def run(self, images_bhw3, group_b=None):  # type: ignore[no-untyped-def]
            if self.calls:
                raise KeyboardInterrupt
            return super().run(images_bhw3)

    output = tmp_path / "p.csv"
    output.write_text("as it was")
    engine = Interrupted(np.ones(6, np.float32))
    with pytest.raises(Stopped) as caught:
        write(engine, photos, output)
    assert (caught.value.rows, caught.value.path) == (4, tmp_path / "p.csv.partial")
    assert engine.calls == 4
    assert output.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "p.csv", "p.csv.partial"}
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("melfast-loader")]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.5, -0.1])
def test_images_without_a_probability_fail_alone(photos: Path, tmp_path: Path, wrong: float) -> None:
    probability = np.array([0.5, 0.5, 0.5, 0.5, wrong, 0.5], np.float32)
    (photos / "p5.png").write_bytes(b"")
    summary = write(FixedEngine(probability), photos, tmp_path / "p.csv")
    assert (summary.predicted, len(summary.failures)) == (4, 2)
    assert [row[0] for row in table(tmp_path / "p.csv")[1:]] == ["p0", "p1", "p2", "p3"]
    assert table(tmp_path / "p.failed.csv")[1:] == [
        ["p4", str(photos / "p4.png"), f"the model's output is {np.float32(wrong)}, expected 0 to 1"],
        ["p5", str(photos / "p5.png"), "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"],
    ]
    (photos / "p5.png").unlink()
    with pytest.raises(ImageError, match=r"p4\.png: the model's output is"):
        write(FixedEngine(probability), photos, tmp_path / "q.csv", on_error="raise")
    assert not list(tmp_path.glob("q.csv"))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_that_goes_after_it_was_decoded(
    engine: OnnxEngine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    see = look.inspect_image

    def gone(path: Path, groups: tuple[str, ...]) -> look.Inspection:
        if path.name in ("p1.png", "p5.png"):
            raise ImageError(path, "no such file")
        return see(path, groups)

    monkeypatch.setattr(look, "inspect_image", gone)
    options: dict[str, Any] = {"ita": True, "batch_size": batch_size}
    summary = write(engine, photos, tmp_path / "p.csv", **options)
    assert [row[0] for row in table(tmp_path / "p.csv")[1:]] == ["p0", "p2", "p3", "p4"]
    assert [row[0] for row in table(tmp_path / "p.failed.csv")[1:]] == ["p1", "p5"]
    assert (summary.predicted, len(summary.failures)) == (4, 2)
    with pytest.raises(ImageError, match=r"p1\.png: no such file"):
        write(engine, photos, tmp_path / "q.csv", on_error="raise", **options)


def test_rows_of_one_broken_file_keep_their_names(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    listed = tmp_path / "m.csv"
    listed.write_text("image_name,path\na,photos/bad.png\nc,photos/p1.png\nb,photos/bad.png\n")
    write(engine, listed, tmp_path / "p.csv")
    assert [row[0] for row in table(tmp_path / "p.failed.csv")[1:]] == ["a", "b"]


def test_the_list_of_failures_is_a_table_of_images(
    engine: OnnxEngine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (photos / "p3.png").read_bytes()
    (photos / "p3.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    write(engine, Path("photos"), Path("out/p.csv"))
    (photos / "p3.png").write_bytes(good)
    again = write(engine, Path("out/p.failed.csv"), Path("out/again.csv"))
    assert (again.predicted, table(Path("out/again.csv"))[1]) == (1, ["p3", "1", "0.6"])


def test_output_that_cannot_be_written(engine: OnnxEngine, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(engine, photos, tmp_path / "file" / "p.csv")
    with pytest.raises(InputError, match="is a folder, expected a file name to write"):
        write(engine, photos, photos)
    with pytest.raises(InputError, match="is a folder, expected a file name to write"):
        write(engine, photos, Path())


def test_decoding_goes_on_while_the_model_runs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next_is_read = threading.Event()
    read = images_module.scaled

    def noting(path: Path, needed: images_module.Needed) -> Any:
        if Path(path).name == "p2.png":
            next_is_read.set()
        return read(path, needed)

    class Waiting(FixedEngine):
        def run(self, images_bhw3, group_b=None):  # type: ignore[no-untyped-def]
            # Image 2 is of the second batch: in a loader that sleeps it would come after this.
            assert next_is_read.wait(timeout=60)
            return super().run(images_bhw3)

    monkeypatch.setattr(native, "scaled", noting)
    write(Waiting(np.ones(6, np.float32)), photos, tmp_path / "p.csv", batch_size=2)


def test_predictions_in_order(engine: OnnxEngine, photos: Path) -> None:
    paths = [photos / f"p{n}.png" for n in (5, 0, 3)]
    batches = list(predictions(engine, paths, settings=InferenceSettings(batch_size=2, threads=3)))
    assert [list(batch.index) for batch in batches] == [[0, 1], [2]]
    found = np.concatenate([batch.probability for batch in batches])
    np.testing.assert_allclose(found, [1, 0, 0.6], rtol=1e-6)
    # Logits of the model: means of green and of red.
    np.testing.assert_allclose(batches[1].logits, [[7, 153]], rtol=1e-6)


def test_a_name_that_is_not_utf8(engine: OnnxEngine, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_png(folder / "a.png", 51)
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xe9.png")
    write(engine, folder, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_bytes() == b"image_name,prediction,probability\n\xe9,0,0.2\n"


def test_choose_threshold() -> None:
    record = ModelRecord("red", Preprocess(4, 6))
    assert model_threshold(record, None) == (0.5, "the model has none")
    assert model_threshold(record, 0.0) == (0.0, "as requested")
    record = record.replace(threshold=0.1, threshold_rule="f1")
    assert model_threshold(record, None) == (0.1, "the model's, by f1")
    assert model_threshold(record, 1.0) == (1.0, "as requested")
    for wrong, shown in ((-0.1, "-0.1"), (1.01, "1.01"), (float("nan"), "nan")):
        with pytest.raises(InputError) as caught:
            model_threshold(record, wrong)
        assert str(caught.value) == f"`threshold` must be in 0..1, got {shown}"


def test_predictor(model: Path, photos: Path) -> None:
    predict = melfast.Predictor(model, threads=2)
    assert isinstance(predict, Predictor)
    assert predict.record.threshold == 0.25
    files = [photos / "p4.png", str(photos / "p1.png"), photos / "p0.png"]
    found = predict(files, batch_size=2)
    np.testing.assert_allclose(found, [0.8, 0.2, 0], rtol=1e-6)
    assert found.dtype == np.float32
    arrays = [np.asarray(Image.open(file)) for file in files]
    np.testing.assert_array_equal(predict(arrays, batch_size=2), found)
    assert predict([]).shape == (0,)


def test_predictor_of_a_file_that_melfast_did_not_write(model: Path, photos: Path) -> None:
    proto = onnx.load(model)
    del proto.metadata_props[:]
    del proto.graph.output[1]  # the logits
    onnx.save(proto, model)
    said: dict[str, Any] = {"input_size": (6, 4), "colour": "rgb", "model_output": "probability"}
    found = Predictor(model, **said)([photos / "p1.png", photos / "p4.png"])
    np.testing.assert_allclose(found, [0.2, 0.8], rtol=1e-6)
    with pytest.raises(InputError, match="to use it, give `colour` rgb or cielab"):
        Predictor(model)
    with pytest.raises(InputError, match=r"its colour must be rgb; got colour and mean$"):
        Predictor(model, colour="rgb", mean=(0.5, 0.5, 0.5))


def test_predictor_takes_images_in_any_form(model: Path, photos: Path) -> None:
    """The same JPEG, PNG or pixels give the same probability in any form, alone or with others."""
    predict = Predictor(model, threads=1)
    file = photos / "p3.png"
    array = np.array(Image.open(file))
    with open(file, "rb") as opened:
        found = predict([file, str(file), file.read_bytes(), opened, Image.open(file), array, torch.from_numpy(array)])
    np.testing.assert_array_equal(found, predict([file])[[0] * 7])  # type: ignore[index]
    for one in (file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes()), Image.open(file), array):
        alone = predict(one)
        assert isinstance(alone, np.float32)
        assert alone == found[0]  # type: ignore[index]
    channels_first = torch.from_numpy(array.transpose(2, 0, 1).copy())
    assert predict(channels_first) == predict(array)
    for several in (np.stack([array, array]), torch.stack([channels_first] * 2), (each for each in (array, file))):
        np.testing.assert_array_equal(predict(several), found[:2])  # type: ignore[index]


def test_predictor_of_a_folder(model: Path, photos: Path) -> None:
    """Its images in sorted order, as list_images names them."""
    np.testing.assert_allclose(Predictor(model)(photos), [0, 0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)
    assert [path.stem for path in list_images(photos)] == [f"p{n}" for n in range(6)]


def test_predictor_of_pil_images(model: Path, tmp_path: Path) -> None:
    """They are turned upright, and what has no trustworthy colour is refused, as in files."""
    predict = Predictor(model, threads=1)
    half = Image.fromarray(np.repeat(np.uint8([[[255, 0, 0]], [[0, 0, 0]]]), 6, axis=1).repeat(2, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6
    half.save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    assert predict(turned) == predict(tmp_path / "turned.png")
    red = Image.new("RGB", (6, 4), (51, 7, 9))
    assert predict(red.convert("RGBA")) == predict(red)
    for mode, got in (("L", "a PIL image of mode L, expected RGB"), ("CMYK", "a PIL image of mode CMYK, expected RGB")):
        with pytest.raises(ImageError) as caught:
            predict([red, red.convert(mode)])
        assert str(caught.value) == f"images[1]: got {got}"
    red.putalpha(200)
    with pytest.raises(ImageError, match=r"^image: got transparent pixels, expected opaque 8-bit RGB$"):
        predict(red)


def test_predictor_describes_itself(model: Path) -> None:
    predict = Predictor(model, threads=1)
    assert repr(predict) == ("Predictor('model.onnx': red, 6x4 rgb, threshold 0.25, onnx-cpu on CPUExecutionProvider)")
    assert predict.threshold == 0.25


def test_predictor_is_pickled_by_its_path(model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    predict = Predictor(model.name, threads=1, backend="onnx-cpu")
    content = pickle.dumps(predict)
    assert len(content) < 1000
    monkeypatch.chdir(photos)  # another process may run elsewhere
    again = pickle.loads(content)
    assert repr(again) == repr(predict)
    assert again.threads == 1
    assert again("p3.png") == predict("p3.png")


def test_a_used_predictor_works_in_a_forked_process(model: Path, photos: Path) -> None:
    """gunicorn --preload and multiprocessing fork; the threads of an engine do not survive that."""
    code = f"""
import os, sys
from melfast import Predictor
predict = Predictor({str(model)!r}, threads=2)
files = [{str(photos / "p1.png")!r}] * 9
before = predict(files).tolist(), float(predict(files[0]))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
same = (predict(files).tolist(), float(predict(files[0]))) == before
sys.exit(0 if same else 1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_predictor_is_shared_by_threads(model: Path, photos: Path) -> None:
    predict = Predictor(model, threads=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: float(predict(photos / f"p{n % 6}.png")), range(24)))
    np.testing.assert_allclose(found, [0.2 * (n % 6) for n in range(24)], rtol=1e-6)


def test_predictor_refuses(model: Path, photos: Path) -> None:
    with pytest.raises(ValueError, match=r"backend: got 'gpu', expected auto, tensorrt, onnx-cuda, onnx-cpu or torch"):
        Predictor(model, backend="gpu")  # type: ignore[arg-type]
    predict = Predictor(model)
    with pytest.raises(TypeError, match=r"images must be a path, bytes, .* or a sequence of these, got int"):
        predict(7)
    with pytest.raises(TypeError, match=r"^images\[1\] must be a path, .* a uint8 array or tensor, got NoneType$"):
        predict([photos / "p1.png", None])
    with pytest.raises(ImageError, match="no such file"):
        predict([photos / "no.png"])
    with pytest.raises(ImageError, match=r"^images\[0\]: found an empty file"):
        predict([b""])
    with pytest.raises(TypeError, match=r"^images\[0\] must be uint8, got float64$"):
        predict([np.zeros((4, 6, 3))])
    with pytest.raises(ValueError, match=r"^image must have shape \[H, W, 3\] and a pixel, got \[4, 6\]$"):
        predict(np.zeros((4, 6), np.uint8))
    empty = photos / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: holds no image \(\.jpg, "):
        predict(empty)


def test_import_of_the_package_stays_light() -> None:
    code = "import sys, melfast; print(sorted({'numpy', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="module 'melfast' has no attribute 'Nothing'"):
        _ = melfast.Nothing
