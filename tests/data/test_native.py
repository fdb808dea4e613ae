"""NativeLoader: the content and order of batches, and that threads and files never leak."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from melfast import core
from melfast.data import native
from melfast.data.augment import Augment
from melfast.data.batch import Batch
from melfast.data.native import NativeLoader
from melfast.data.plan import EpochPlan, Rows, evaluation_plan, size_before_warp, training_plan
from melfast.data.preprocess import Preprocess
from melfast.io.errors import ImageError
from melfast.io.images import Needed, read_scaled

PLAIN = Preprocess(12, 16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """23 small images of noise, JPEG and PNG by turns, of several sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(23):
        pixels = rng.integers(0, 256, (20 + i, 50 - i, 3), dtype=np.uint8)
        paths.append(folder / f"{i:02d}.{'jpg' if i % 2 else 'png'}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def bad_files(files: list[Path], tmp_path: Path) -> list[Path]:
    """The same with numbers 5 and 6 (of batch 1, in batches of 4) and all of batch 3 unreadable."""
    paths = list(files)
    for i in (5, 6, 12, 13, 14, 15):
        paths[i] = tmp_path / f"bad{i}.jpg"
        paths[i].write_text("this is no image")
    return paths


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert loader_threads() == []


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("melfast-loader")]


def drawn_plan(files: list[Path], augment: Augment, **options: Any) -> EpochPlan:
    rows = Rows(np.zeros(len(files), np.int64), np.full(len(files), -1, np.int16))
    return training_plan(rows, PLAIN, augment, **options)


def copies(loader: NativeLoader) -> list[Batch]:
    return [replace(batch, images=batch.images.copy()) for batch in loader]


def eval_loader(paths: list[Path], preprocess: Preprocess = PLAIN, **options: Any) -> NativeLoader:
    plan = evaluation_plan(len(paths), batch_size=4)
    return NativeLoader(paths, preprocess, plan, **{"threads": 3} | options)


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert np.array_equal(a.index, b.index)
        assert np.array_equal(a.images, b.images)


# By hand.


@pytest.mark.parametrize(
    ("dtype", "wanted"), [(np.float32, (1, -1, 0.2)), (np.float16, (1, -1, 0.2)), (np.uint8, (255, 0, 153))]
)
def test_one_colour(dtype: type, wanted: tuple[float, ...], tmp_path: Path) -> None:
    """(255, 0, 153) is (1, 0, 0.6); less a mean of 0.5 over 0.5: (1, -1, 0.2)."""
    path = tmp_path / "one.png"
    Image.new("RGB", (31, 17), (255, 0, 153)).save(path)
    (batch,) = copies(eval_loader([path], dtype=dtype))
    assert batch.images.shape == (1, 12, 16, 3)
    assert batch.images.dtype == dtype
    np.testing.assert_allclose(batch.images, np.broadcast_to(wanted, (1, 12, 16, 3)), atol=1e-3)


def test_batches_follow_the_plan(files: list[Path]) -> None:
    index = np.array([7, 3, 3, 22, 0], dtype=np.int64)
    plan = EpochPlan(index, evaluation_plan(5, batch_size=1).affine, np.array([0, 2, 2, 5]))
    with NativeLoader(files, PLAIN, plan, threads=2) as loader:
        batches = copies(loader)
    assert len(loader) == 3
    assert [batch.index.tolist() for batch in batches] == [[7, 3], [], [3, 22, 0]]
    assert batches[1].images.shape == (0, 12, 16, 3)
    assert np.array_equal(batches[0].images[1], batches[2].images[0])
    assert batches[0].images.flags.c_contiguous


@pytest.mark.parametrize("bounds", [[0, 0], [0, 2, 2], [0, 0, 0, 2, 2, 2]])
def test_batches_without_a_record(bounds: list[int], files: list[Path]) -> None:
    plan = evaluation_plan(2, batch_size=2)
    loader = NativeLoader(files, PLAIN, replace(plan, bounds=np.array(bounds)), prefetch=1)
    assert [len(batch.index) for batch in loader] == np.diff(bounds).tolist()


def test_flip_in_the_plan_is_a_flip_of_the_image(files: list[Path]) -> None:
    straight = copies(eval_loader(files))
    flip = Augment(hflip=1, vflip=0, rotation_deg=0, translation=0, scale=0)
    plan = drawn_plan(files, flip, batch_size=23, seed=0, epoch=0)
    (flipped,) = copies(NativeLoader(files, PLAIN, plan))
    images = np.concatenate([batch.images for batch in straight])
    np.testing.assert_allclose(flipped.images, images[flipped.index, :, ::-1], atol=0.01)


# Against Pillow.


def test_png_is_pillows_resize(files: list[Path]) -> None:
    pngs = files[::2]
    images = np.concatenate([b.images for b in copies(eval_loader(pngs, dtype=np.uint8))])
    for path, image in zip(pngs, images, strict=True):
        wanted = Image.open(path).resize((16, 12), Image.Resampling.BILINEAR)
        assert np.abs(image.astype(int) - np.asarray(wanted)).max() <= 1


def test_exif_orientation(tmp_path: Path) -> None:
    """A large file that is stored rotated is decoded at a reduced scale and turned upright."""
    y, x = np.mgrid[0:240, 0:320] / 320
    upright = Image.fromarray((np.stack([x, y, x * y], axis=-1) * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show it
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "side.jpg", quality=95, exif=exif)
    (batch,) = copies(eval_loader([tmp_path / "side.jpg"], dtype=np.uint8))
    wanted = np.asarray(upright.resize((16, 12), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(batch.images[0] - wanted).max() <= 6  # JPEG's own loss; upside down: > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_decode_is_not_shifted(orientation: int, tmp_path: Path) -> None:
    """At a quarter, 241 x 317 pixels are 60.25 x 79.25, which the decoder rounds up."""
    y, x = np.mgrid[0:241, 0:317]
    waves = 127 + 120 * np.sin(np.stack([x / 9, y / 7, (x + y) / 11], axis=-1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "waves.jpg"
    Image.fromarray(waves.astype(np.uint8)).save(path, quality=98, subsampling=0, exif=exif)
    size = (60, 79) if orientation < 5 else (79, 60)
    how = replace(PLAIN, height=size[0], width=size[1])
    (batch,) = copies(eval_loader([path], preprocess=how, dtype=np.uint8))
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    wanted = np.asarray(upright.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(batch.images[0] - wanted).mean() < 1.5


def test_real_images_are_near_a_full_decode(real_data: Path) -> None:
    """The scaled decode costs little: a median PSNR above 46 dB against decoding every pixel."""
    paths = sorted((real_data / "isic_fullres" / "images").glob("*.jpg"))[::6]
    plan = evaluation_plan(len(paths), batch_size=5)
    loader = NativeLoader(paths, Preprocess(224, 224), plan, dtype=np.uint8, threads=2)
    images = np.concatenate([batch.images for batch in copies(loader)])
    psnr_db = []
    for path, image in zip(paths, images, strict=True):
        full = np.asarray(Image.open(path).resize((224, 224), Image.Resampling.BILINEAR))
        error = np.square(full.astype(np.float64) - image).mean()
        psnr_db.append(10 * np.log10(255**2 / error))
    assert np.median(psnr_db) > 46
    assert min(psnr_db) > 30


def test_decodes_no_more_than_the_model_needs(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()
    read = native.scaled

    def recorded(path: Path, needed: Needed) -> Any:
        asked.add(needed(100, 100))
        return read(path, needed)

    monkeypatch.setattr(native, "scaled", recorded)
    list(eval_loader(files))
    assert asked == {(12, 16)}


# Against the steps done one by one.


@pytest.mark.parametrize("colour", ["rgb", "cielab"])
def test_each_image_gets_its_own_affine(colour: Literal["rgb", "cielab"], files: list[Path]) -> None:
    plan = drawn_plan(files, Augment(crop=0.2), batch_size=6, seed=2, epoch=0)
    how = Preprocess.for_colour(12, 16, colour)
    record = 0
    for batch in NativeLoader(files, how, plan, threads=3):
        for index, image in zip(batch.index, batch.images, strict=True):
            wanted = np.empty((12, 16, 3), np.float32)
            size = size_before_warp(plan.affine[record], 12, 16)
            pixels, _, extent = read_scaled(files[index], lambda *_, size=size: size)
            core.prepare(pixels, plan.affine[record], wanted, colour, how.mean, how.std, extent=extent, working=size)
            assert index == plan.index[record]
            assert np.array_equal(image, wanted)
            record += 1
    assert record == 18


# Threads, dtypes and resuming change nothing.


def test_any_number_of_threads_gives_the_same_bits(files: list[Path]) -> None:
    plan = drawn_plan(files, Augment(), batch_size=5, seed=1, epoch=0)
    one, four, nine = (
        copies(NativeLoader(files, PLAIN, plan, threads=threads, prefetch=prefetch))
        for threads, prefetch in ((1, 1), (4, 2), (9, 5))
    )
    assert len(one) == 4
    assert_same(four, one)
    assert_same(nine, one)


def test_half_is_rounded_float(files: list[Path]) -> None:
    for half, single in zip(copies(eval_loader(files, dtype=np.float16)), copies(eval_loader(files)), strict=True):
        assert np.array_equal(half.images, single.images.astype(np.float16))


def test_start_gives_the_rest_of_the_epoch(files: list[Path]) -> None:
    whole = copies(eval_loader(files))
    for start in range(7):
        loader = eval_loader(files, start=start)
        assert len(loader) == 6 - start
        assert_same(copies(loader), whole[start:])


def test_iterating_again_starts_again(files: list[Path]) -> None:
    loader = eval_loader(files)
    assert_same(copies(loader), copies(loader))


def test_empty_plan() -> None:
    assert copies(eval_loader([])) == []


# Memory.


def test_memory_is_reused_and_left_alone_while_in_use(files: list[Path]) -> None:
    seen = set()
    for batch in eval_loader(files, prefetch=2):
        seen.add(batch.images.ctypes.data)
        before = batch.images.copy()
        time.sleep(0.02)  # the workers fill all buffers
        assert np.array_equal(batch.images, before)
    assert len(seen) == 3


def test_buffers_come_from_allocate(files: list[Path]) -> None:
    made: list[NDArray[Any]] = []

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        made.append(np.full(shape, 7, dtype))
        return made[-1]

    for batch in eval_loader(files, prefetch=3, allocate=allocate):
        assert any(np.shares_memory(batch.images, buffer) for buffer in made)
    assert [buffer.shape for buffer in made] == [(4, 12, 16, 3)] * 4


def test_buffers_go_when_the_iteration_is_over(files: list[Path]) -> None:
    made: list[weakref.ref[NDArray[Any]]] = []

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        buffer = np.empty(shape, dtype)
        made.append(weakref.ref(buffer))
        return buffer

    list(eval_loader(files, allocate=allocate))
    next(iter(eval_loader(files, allocate=allocate)))
    with pytest.raises(ZeroDivisionError):
        fail_at_the_first_batch(eval_loader(files, allocate=allocate))
    assert len(made) == 9
    assert [buffer() for buffer in made] == [None] * 9


def test_workers_stay_within_prefetch(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    count = counting_reader(monkeypatch)
    batches = iter(eval_loader(files, prefetch=2))
    for used in range(1, 4):
        next(batches)
        wait_for(lambda used=used: count() == 4 * (used + 2))  # type: ignore[misc]
        time.sleep(0.05)
        assert count() == 4 * (used + 2)


def counting_reader(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    calls: list[Any] = []
    read = native.scaled

    def counted(path: Path, needed: Needed) -> Any:
        calls.append(path)
        return read(path, needed)

    monkeypatch.setattr(native, "scaled", counted)
    return lambda: len(calls)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


# Images that cannot be read.


def test_raise_names_the_first_bad_file_at_its_batch(bad_files: list[Path]) -> None:
    for threads in (1, 4):
        batches = iter(eval_loader(bad_files, threads=threads))
        assert next(batches).index.tolist() == [0, 1, 2, 3]
        wanted = f"{bad_files[5]}: found a text file, expected a JPEG, PNG, WebP, BMP or TIFF"
        with pytest.raises(ImageError, match=f"^{re.escape(wanted)}$"):
            next(batches)
        assert loader_threads() == []
        assert list(batches) == []


def test_skip_leaves_out_and_lists(files: list[Path], bad_files: list[Path]) -> None:
    good = copies(eval_loader(files))
    batches = copies(eval_loader(bad_files, on_error="skip"))
    assert [b.index.tolist() for b in batches] == [
        [0, 1, 2, 3],
        [4, 7],
        [8, 9, 10, 11],
        [],
        [16, 17, 18, 19],
        [20, 21, 22],
    ]
    for number, kept in ((1, [0, 3]), (3, [])):
        assert np.array_equal(batches[number].images, good[number].images[kept])
    named = [[Path(error.path).name for error in batch.failures] for batch in batches]
    assert named == [[], ["bad5.jpg", "bad6.jpg"], [], [f"bad{i}.jpg" for i in range(12, 16)], [], []]


def test_failures_keep_nothing_alive(bad_files: list[Path]) -> None:
    (error, _) = list(eval_loader(bad_files, on_error="skip"))[1].failures
    assert error.__traceback__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("threads", [1, 4])
def test_what_nobody_expected_comes_out(
    on_error: str, threads: int, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = native.scaled

    def broken(path: Path, needed: Needed) -> Any:
        if path == files[9]:
            raise MemoryError("no room")
        return read(path, needed)

    monkeypatch.setattr(native, "scaled", broken)
    with pytest.raises(MemoryError, match="no room"):
        list(eval_loader(files, on_error=on_error, threads=threads))


# Stopping.


def fail_at_the_first_batch(loader: NativeLoader) -> None:
    for _ in loader:
        raise ZeroDivisionError


def test_a_thousand_restarts_leave_no_thread_and_no_file(bad_files: list[Path]) -> None:
    def once(way: int) -> None:
        loader = eval_loader(bad_files, threads=4, prefetch=1 + way % 3)
        if way == 0:  # break, the loader still held
            for _ in loader:
                break
        elif way == 1:  # the consumer fails
            with pytest.raises(ZeroDivisionError):
                fail_at_the_first_batch(loader)
        elif way == 2:  # an image fails
            with pytest.raises(ImageError):
                list(loader)
        elif way == 3:  # closed with the iterator held
            with loader:
                batches = iter(loader)
                next(batches)
            assert list(batches) == []
        elif way == 4:  # never asked for a batch
            iter(loader)
        else:  # a second iteration ends the first
            first = iter(loader)
            next(first)
            assert next(iter(loader)).index.tolist() == [0, 1, 2, 3]
            assert list(first) == []
        assert loader_threads() == []

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for restart in range(1000):
        once(restart % 6)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_dropped_iterator_is_no_garbage_for_the_collector(files: list[Path]) -> None:
    gc.collect()
    gc.disable()
    try:
        batches = iter(eval_loader(files))
        next(batches)
        assert len(loader_threads()) == 3
        del batches
        assert loader_threads() == []
    finally:
        gc.enable()


SCRIPT = """
import sys, time
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import Preprocess

assert "torch" not in sys.modules
plan = evaluation_plan(10_000, batch_size=4)
loader = NativeLoader([sys.argv[1]] * 10_000, Preprocess(99, 99), plan, prefetch=200)
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


@pytest.mark.parametrize("rest", ["for _ in batches: pass", "while True: time.sleep(1)"])
def test_ctrl_c_ends_the_process(rest: str, files: list[Path]) -> None:
    process = run_script(files[0], "while True:\n    " + rest.replace("while True: ", ""))
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_python_ends_with_an_iterator_under_way(files: list[Path]) -> None:
    process = run_script(files[0], "sys.exit(3)")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert errors == ""


# Arguments.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads must be >= 1, got 0"),
        ({"prefetch": 0}, "prefetch must be >= 1, got 0"),
        ({"on_error": "ignore"}, "on_error: got 'ignore', expected raise or skip"),
        ({"dtype": np.float64}, "dtype must be float32, float16 or uint8, got float64"),
        ({"start": 7}, "start must be in 0..6, got 7"),
        ({"start": -1}, "start must be in 0..6, got -1"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str, files: list[Path]) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        eval_loader(files, **options)


def test_plan_for_more_files_than_there_are(files: list[Path]) -> None:
    plan = evaluation_plan(30, batch_size=4)
    with pytest.raises(ValueError, match=re.escape("plan.index must be in 0..22, got 0..29")):
        NativeLoader(files, PLAIN, plan)
