"""DaliLoader: parity with the native executor, the same contract, and no leaks.

Each kind of record is compared with the reference in test_records.
"""

import gc
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline
from PIL import Image

from melfast.data import dali, dali_feed
from melfast.data.augment import Augment
from melfast.data.batch import Batch
from melfast.data.dali import DaliLoader
from melfast.data.dali_feed import read_whole, record_arrays
from melfast.data.dali_graph import finished, levels
from melfast.data.image_list import ImageList
from melfast.data.loader import PlanLoader
from melfast.data.manifest import Manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import EpochPlan, Rows, evaluation_plan, training_plan
from melfast.data.preprocess import Preprocess
from melfast.io.colour_profiles import chromatic_profile
from melfast.io.errors import ImageError, InputError
from tests.conftest import skin_rgb
from tests.data.conftest import EXECUTORS, KINDS, Executor, Pictures, pictures_of
from tests.data.reference import levels_apart, reference

# Mean absolute difference of an image from the native executor's, in levels of 255.
SAME_PIXELS = 0.75
JPEG_MEDIAN, JPEG_WORST = 1.5, 4
PLAIN = Preprocess(12, 16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
COLOURS = {"rgb": Preprocess(48, 64), "cielab": Preprocess.for_colour(48, 64, "cielab")}
LARGE = {"rgb": Preprocess(224, 224), "cielab": Preprocess.for_colour(224, 224, "cielab")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """11 small images of noise, JPEG and PNG by turns, of several sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(11):
        pixels = rng.integers(0, 256, (20 + i, 50 - i, 3), dtype=np.uint8)
        paths.append(folder / f"{i:02d}.{'jpg' if i % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def bad_files(files: list[Path], tmp_path: Path) -> list[Path]:
    """The same with number 5 (of batch 1, in batches of 4) and all of batch 2 unreadable."""
    paths = list(files)
    for i in (5, 8, 9, 10):
        paths[i] = tmp_path / f"bad{i}.jpg"
        paths[i].write_text("this is no image")
    return paths


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert reading_threads() == []


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("melfast-dali")]


def copies(loader: PlanLoader) -> list[Batch]:
    return [replace(batch, images=batch.images.copy()) for batch in loader]


def eval_loader(
    paths: list[Path], executor: Executor = DaliLoader, preprocess: Preprocess = PLAIN, **options: Any
) -> PlanLoader:
    plan = evaluation_plan(len(paths), batch_size=4)
    return executor(paths, preprocess, plan, **{"threads": 2} | options)


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert np.array_equal(a.index, b.index)
        assert np.array_equal(a.images, b.images)


def images_of(executor: Executor, pictures: Pictures, plan: EpochPlan, preprocess: Preprocess) -> NDArray[Any]:
    loader = executor(pictures.images, preprocess, plan, threads=2)
    images = np.concatenate([batch.images.copy() for batch in loader])
    assert len(images) == len(plan.index)
    return images


def apart_from_native(pictures: Pictures, plan: EpochPlan, preprocess: Preprocess) -> list[float]:
    """Differences for the image of each record."""
    found, wanted = (images_of(executor, pictures, plan, preprocess) for executor in (DaliLoader, NativeLoader))
    return [levels_apart(a, b, preprocess) for a, b in zip(found, wanted, strict=True)]


# Parity.


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_from_the_same_pixels(kind: str, colour: str, drawn_pngs: Pictures) -> None:
    plan = drawn_pngs.plan(KINDS[kind], COLOURS[colour])
    assert max(apart_from_native(drawn_pngs, plan, COLOURS[colour])) <= SAME_PIXELS


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_from_jpegs(kind: str, colour: str, drawn_jpegs: Pictures) -> None:
    plan = drawn_jpegs.plan(KINDS[kind], COLOURS[colour])
    apart = apart_from_native(drawn_jpegs, plan, COLOURS[colour])
    assert np.median(apart) <= JPEG_MEDIAN
    assert max(apart) <= JPEG_WORST


@pytest.fixture(scope="module")
def real_jpegs(real_data: Path, drawn_manifest: Manifest) -> Pictures:
    """Half of them are large, so that the native executor decodes them at a reduced size."""
    paths = [
        *sorted((real_data / "isic_fullres" / "images").glob("*.jpg"))[::12],
        *sorted((real_data / "ham10000" / "images").glob("*.jpg"))[::1500],
    ]
    assert len(paths) >= len(drawn_manifest)
    return pictures_of(paths[: len(drawn_manifest)], drawn_manifest)


@pytest.mark.parametrize("colour", LARGE)
@pytest.mark.parametrize("kind", ["plain", "warped", "everything"])
def test_from_real_jpegs(kind: str, colour: str, real_jpegs: Pictures) -> None:
    plan = real_jpegs.plan(KINDS[kind], LARGE[colour])
    apart = apart_from_native(real_jpegs, plan, LARGE[colour])
    assert np.median(apart) <= JPEG_MEDIAN
    assert max(apart) <= JPEG_WORST


def test_frames_around_real_jpegs_are_not_smeared(real_data: Path) -> None:
    """Around some large images somebody drew a line of one pixel, whose mean depends on how the
    image was resized: not for a turn to spread over what lies beyond the edge."""
    paths = sorted((real_data / "isic_fullres" / "images").glob("*.jpg"))
    count = len(paths) // 10 * 10
    rows = Rows(np.zeros(count, np.int64), np.full(count, -1, np.int16))
    pictures = Pictures(paths[:count], [None] * count, rows)
    augment = Augment(rotation_deg=180, scale=0.3, translation=0.3)
    plan = training_plan(rows, Preprocess(96, 96), augment, batch_size=10, seed=0, epoch=0)
    apart = apart_from_native(pictures, plan, Preprocess(96, 96))
    assert np.median(apart) <= JPEG_MEDIAN
    assert max(apart) <= JPEG_WORST


@pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)
def test_real_jpegs_are_the_reference(executor: Executor, real_jpegs: Pictures) -> None:
    preprocess = LARGE["rgb"]
    plan = real_jpegs.plan(KINDS["everything"], preprocess)
    apart = []
    for record, image in enumerate(images_of(executor, real_jpegs, plan, preprocess)):
        row = plan.index[record]
        path, mask = real_jpegs.paths[row], real_jpegs.masks[row]
        wanted = reference(path, plan, record, preprocess, mask)
        apart.append(levels_apart(image, wanted, preprocess))
    assert np.median(apart) <= JPEG_MEDIAN
    assert max(apart) <= JPEG_WORST


@pytest.mark.parametrize("colour", COLOURS)
def test_half_is_rounded_float(colour: str, files: list[Path]) -> None:
    halves, singles = (
        copies(eval_loader(files, preprocess=COLOURS[colour], dtype=dtype)) for dtype in (np.float16, np.float32)
    )
    for half, single in zip(halves, singles, strict=True):
        assert half.images.dtype == np.float16
        np.testing.assert_allclose(half.images, single.images, rtol=1e-3, atol=1e-4)


def encoded(kind: str, mode: str = "RGB", orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(skin_rgb(64, 96)).convert(mode).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


ODD = {
    "progressive": encoded("JPEG", progressive=True),
    "full chroma": encoded("JPEG", subsampling=0),
    "RGB inside": encoded("JPEG", keep_rgb=True),
    "opaque alpha": encoded("PNG", "RGBA"),
    "palette": encoded("PNG", "P"),
    **{f"JPEG shown {way}": encoded("JPEG", orientation=way) for way in range(1, 9)},
    **{f"PNG shown {way}": encoded("PNG", orientation=way) for way in range(1, 9)},
}


@pytest.mark.parametrize("name", ODD)
def test_files_of_every_kind_are_read_alike(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(ODD[name])
    found, wanted = (
        copies(eval_loader([path], executor, Preprocess(64, 96), dtype=np.uint8))[0].images[0]
        for executor in (DaliLoader, NativeLoader)
    )
    assert np.abs(found.astype(int) - wanted).mean() <= SAME_PIXELS


def test_parts_of_the_graph_are_those_that_the_plan_needs(drawn_pngs: Pictures) -> None:
    names = {
        kind: set(record_arrays(drawn_pngs.plan(augment, PLAIN), np.arange(4), 12, 16))
        for kind, augment in KINDS.items()
    }
    assert names["plain"] == set()
    assert names["warped"] == {"working", "start", "inner", "matrix"}
    assert names["skin-formed"] >= {"end", "k", "m"}
    assert "floor" not in names["skin-formed"]
    assert names["everything"] == {
        "working",
        "start",
        "inner",
        "matrix",
        "end",
        "k",
        "m",
        "jitter",
        "floor",
        "anchor",
        "shape",
    }


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_every_operator_has_a_side_for_the_gpu(colour: str, dtype: str) -> None:
    """The whole graph can be defined without a GPU; building it needs the device."""
    names = [
        "encoded",
        "plane",
        "working",
        "start",
        "inner",
        "matrix",
        "end",
        "k",
        "m",
        "jitter",
        "floor",
        "anchor",
        "shape",
    ]
    with Pipeline(4, 1, 0):
        inputs = {name: fn.external_source(name=name) for name in names}
        images = finished(levels(inputs, COLOURS[colour], "gpu"), COLOURS[colour], np.dtype(dtype))
    assert images.device == "gpu"


# The contract of the native executor.


def test_batches_follow_the_plan(files: list[Path]) -> None:
    index = np.array([7, 3, 3, 10, 0], dtype=np.int64)
    plan = replace(evaluation_plan(5, batch_size=1), index=index, bounds=np.array([0, 2, 2, 5]))
    with DaliLoader(files, PLAIN, plan, threads=2) as loader:
        batches = copies(loader)
    assert len(loader) == 3
    assert [batch.index.tolist() for batch in batches] == [[7, 3], [], [3, 10, 0]]
    assert batches[1].images.shape == (0, 12, 16, 3)
    assert batches[1].images.dtype == np.float32
    assert np.array_equal(batches[0].images[1], batches[2].images[0])
    assert batches[0].images.flags.c_contiguous


@pytest.mark.parametrize("bounds", [[0], [0, 0], [0, 2, 2], [0, 0, 0, 2, 2, 2]])
def test_batches_without_a_record(bounds: list[int], files: list[Path]) -> None:
    plan = replace(evaluation_plan(2, batch_size=2), bounds=np.array(bounds))
    loader = DaliLoader(files, PLAIN, plan, threads=1, prefetch=1)
    assert [len(batch.index) for batch in loader] == np.diff(bounds).tolist()


def test_threads_and_prefetch_change_nothing(files: list[Path]) -> None:
    one = copies(eval_loader(files, threads=1, prefetch=1))
    assert_same(copies(eval_loader(files, threads=3, prefetch=4)), one)


def test_start_gives_the_rest_of_the_epoch(files: list[Path]) -> None:
    whole = copies(eval_loader(files))
    for start in range(4):
        loader = eval_loader(files, start=start)
        assert len(loader) == 3 - start
        assert_same(copies(loader), whole[start:])
        assert_same(copies(loader), whole[start:])  # iterating again starts again


def test_memory_is_left_alone_while_in_use(files: list[Path]) -> None:
    for batch in eval_loader(files, prefetch=3):
        before = batch.images.copy()
        time.sleep(0.05)  # DALI fills all its buffers
        assert np.array_equal(batch.images, before)


def test_raise_names_the_first_bad_file_at_its_batch(bad_files: list[Path]) -> None:
    batches = iter(eval_loader(bad_files, prefetch=3))
    assert next(batches).index.tolist() == [0, 1, 2, 3]
    wanted = f"{bad_files[5]}: found a text file, expected a JPEG, PNG, WebP, BMP or TIFF"
    with pytest.raises(ImageError, match=f"^{re.escape(wanted)}$"):
        next(batches)
    assert reading_threads() == []
    assert list(batches) == []


def test_skip_leaves_out_and_lists(files: list[Path], bad_files: list[Path]) -> None:
    good = copies(eval_loader(files))
    batches = copies(eval_loader(bad_files, on_error="skip"))
    assert [b.index.tolist() for b in batches] == [[0, 1, 2, 3], [4, 6, 7], []]
    assert np.array_equal(batches[1].images, good[1].images[[0, 2, 3]])
    named = [[Path(error.path).name for error in batch.failures] for batch in batches]
    assert named == [[], ["bad5.jpg"], ["bad8.jpg", "bad9.jpg", "bad10.jpg"]]
    (error,) = batches[1].failures
    assert (error.__traceback__, error.__context__) == (None, None)


def test_bad_files_are_refused_in_the_same_words(bad_images: dict[str, Path]) -> None:
    paths = list(bad_images.values())
    found, wanted = (
        [str(error) for batch in eval_loader(paths, executor, on_error="skip") for error in batch.failures]
        for executor in (DaliLoader, NativeLoader)
    )
    assert found == wanted
    assert len(found) == len(paths)


def test_a_file_is_checked_once_as_long_as_it_is_the_same(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def counted(data: bytes, **options: int) -> NDArray[np.uint8]:
        checked.append(len(data))
        return skin_rgb()

    monkeypatch.setattr(dali_feed, "_whole", set())
    monkeypatch.setattr(dali_feed, "decode_image", counted)
    path = tmp_path / "image.jpg"
    path.write_bytes(files[1].read_bytes())
    for _ in range(3):
        assert read_whole(path, (16, 12)).tobytes() == files[1].read_bytes()
    assert len(checked) == 1
    path.write_bytes(files[1].read_bytes()[:-20])
    read_whole(path, (16, 12))
    assert len(checked) == 2


def test_a_file_cut_short_after_it_was_read(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    data = files[1].read_bytes()
    path.write_bytes(data)
    loader = eval_loader([path])
    assert len(list(loader)) == 1
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="truncated or damaged JPEG"):
        list(loader)


def test_what_nobody_expected_comes_out(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, size: tuple[int, int], *, checked: bool) -> NDArray[np.uint8]:
        raise MemoryError("no room")

    monkeypatch.setattr(dali_feed, "read_whole", broken)
    with pytest.raises(MemoryError, match="no room"):
        list(eval_loader(files, on_error="skip"))


# Stopping.


def test_sixty_restarts_leave_no_thread_and_no_file(bad_files: list[Path]) -> None:
    def once(way: int) -> None:
        loader = eval_loader(bad_files, prefetch=1 + way % 3)
        if way == 0:  # break, the loader still held
            for _ in loader:
                break
        elif way == 1:  # an image fails
            with pytest.raises(ImageError):
                list(loader)
        elif way == 2:  # closed with the iterator held
            with loader:
                batches = iter(loader)
                next(batches)
            assert list(batches) == []
        elif way == 3:  # never asked for a batch
            iter(loader)
        else:  # a second iteration ends the first
            first = iter(loader)
            next(first)
            assert next(iter(loader)).index.tolist() == [0, 1, 2, 3]
            assert list(first) == []

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    list(eval_loader(bad_files, on_error="skip"))
    gc.collect()
    before = held()
    for restart in range(60):
        once(restart % 5)
    assert held() == before


SCRIPT = """
import sys, time
from melfast.data.dali import DaliLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess

assert "torch" not in sys.modules
plan = evaluation_plan(10_000, batch_size=4)
loader = DaliLoader([sys.argv[1]] * 10_000, Preprocess(99, 99), plan, prefetch=4)
batches = iter(loader)
next(batches)
print("going", flush=True)
{rest}
"""


def run_script(path: Path, rest: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(rest=rest), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_ends_the_process(files: list[Path]) -> None:
    process = run_script(files[0], "for _ in batches: pass")
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_python_ends_with_an_iterator_under_way(files: list[Path]) -> None:
    process = run_script(files[0], "sys.exit(3)")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "Traceback" not in errors


# Missing libraries and devices.


def test_dali_is_not_installed(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "_installed", lambda module: False)
    with pytest.raises(InputError) as caught:
        eval_loader(files)
    assert str(caught.value) == ("loader dali-cpu: NVIDIA DALI is not installed: pip install nvidia-dali-cuda130")


def test_there_is_no_gpu(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        eval_loader(files, device="gpu")
    assert str(caught.value) == ("loader dali-gpu: found no CUDA device (dali-cpu works without one)")


def test_device_must_be_known(files: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"^device: got 'tpu', expected cpu or gpu; did you mean 'gpu'\?$"):
        eval_loader(files, device="tpu")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_is_the_native_executor(kind: str, colour: str, drawn_jpegs: Pictures) -> None:
    if not has_gpu():
        pytest.skip("no CUDA device")
    preprocess = COLOURS[colour]
    plan = drawn_jpegs.plan(KINDS[kind], preprocess)
    on_gpu = DaliLoader(drawn_jpegs.images, preprocess, plan, device="gpu", threads=2)
    native = NativeLoader(drawn_jpegs.images, preprocess, plan, threads=2)
    apart = []
    for found, wanted in zip(on_gpu, native, strict=True):
        tensor: Any = found.images
        assert tensor.is_cuda
        assert np.array_equal(found.index, wanted.index)
        apart += [levels_apart(a, b, preprocess) for a, b in zip(tensor.cpu().numpy(), wanted.images, strict=True)]
    assert np.median(apart) <= JPEG_MEDIAN
    assert max(apart) <= JPEG_WORST


def test_files_known_to_be_whole_are_not_checked(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, bool]] = []
    check = dali_feed.read_whole

    def read(path: Path, size: tuple[int, int], **known: bool) -> NDArray[np.uint8]:
        seen.append(known)
        return check(path, size, **known)

    monkeypatch.setattr(dali_feed, "read_whole", read)
    known = np.arange(len(files)) != 2
    plan = evaluation_plan(len(files), batch_size=4)
    list(DaliLoader(ImageList(files, checked=known), PLAIN, plan, threads=1))
    assert seen == [{"checked": checked} for checked in known.tolist()]
    decoded: list[bytes] = []
    monkeypatch.setattr(dali_feed, "_whole", set())
    monkeypatch.setattr(dali_feed, "decode_image", lambda data, **least: decoded.append(data))
    list(DaliLoader(ImageList(files, checked=known), PLAIN, plan, threads=1))
    assert decoded == [files[2].read_bytes()]


def test_what_dali_is_not_tested_with_is_decoded_for_it(tmp_path: Path) -> None:
    """A wide-gamut JPEG, a WebP and a TIFF reach DALI as sRGB pixels; a lossless JPEG does not reach it."""
    picture = Image.fromarray(skin_rgb(240, 320))
    picture.save(tmp_path / "a.jpg", quality=95, icc_profile=chromatic_profile("Display P3"))
    picture.save(tmp_path / "b.webp", lossless=True)
    picture.save(tmp_path / "c.tif")
    jpeg = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "d.jpg").write_bytes(jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1))
    paths = sorted(tmp_path.iterdir())
    plan = evaluation_plan(len(paths), batch_size=4)
    batches = [
        next(iter(loader(paths, PLAIN, plan, threads=1, on_error="skip", dtype=np.uint8)))
        for loader in (DaliLoader, NativeLoader)
    ]
    for batch in batches:
        assert batch.index.tolist() == [0, 1, 2]
        assert [failure.reason for failure in batch.failures] == [
            "found a lossless JPEG, expected a baseline or progressive one"
        ]
    dali, native = (np.asarray(batch.images, np.float32) for batch in batches)
    assert np.abs(dali - native).mean() < 1
    assert np.abs(native[0] - native[2]).mean() > 3  # the profile was applied
