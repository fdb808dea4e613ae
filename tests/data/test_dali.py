"""The DALI executor on the CPU: the same images as the native one, and the same manners."""

import builtins
import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from melfast import core
from melfast.data import dali
from melfast.data.augment import Augment
from melfast.data.dali import DaliLoader, pixel_matrix
from melfast.data.native import NativeLoader
from melfast.data.plan import EpochPlan, evaluation_plan
from melfast.errors import ImageError, InputError
from melfast.images import read_image
from melfast.preprocess import Preprocess
from melfast.skin.ita import estimate_tone
from melfast.skin.masks import make_mask
from tests.data.conftest import KINDS, Pictures, rows_of, write_mask
from tests.data.reference import levels_apart, reference

pytest.importorskip("nvidia.dali")

SAME_PIXELS, MEDIAN_JPEG, WORST_JPEG = 0.75, 1.5, 4.0  # in levels, mean of an image
RGB = Preprocess(48, 64)
SIZES = {"rgb": RGB, "cielab": Preprocess.for_colour(48, 64, "cielab")}


def images_of(loader: DaliLoader | NativeLoader) -> NDArray[Any]:
    return np.concatenate([batch.images.copy() for batch in loader])


def both(pictures: Pictures, plan: EpochPlan, preprocess: Preprocess) -> list[NDArray[Any]]:
    return [
        images_of(executor(pictures.paths, preprocess, plan, masks=pictures.masks, threads=2))
        for executor in (DaliLoader, NativeLoader)
    ]


@pytest.mark.parametrize("colour", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_parity_from_the_same_pixels(kind: str, colour: str, drawn_pngs: Pictures) -> None:
    preprocess = SIZES[colour]
    plan = drawn_pngs.plan(KINDS[kind], preprocess)
    found, native = both(drawn_pngs, plan, preprocess)
    for record, image in enumerate(found):
        row = plan.index[record]
        wanted = reference(drawn_pngs.paths[row], plan, record, preprocess, drawn_pngs.masks[row])
        assert levels_apart(image, native[record], preprocess) <= SAME_PIXELS
        assert levels_apart(image, wanted, preprocess) <= SAME_PIXELS


def require_near(pictures: Pictures, preprocess: Preprocess, augment: Augment) -> None:
    plan = pictures.plan(augment, preprocess)
    found, native = both(pictures, plan, preprocess)
    apart = [levels_apart(a, b, preprocess) for a, b in zip(found, native, strict=True)]
    assert np.median(apart) <= MEDIAN_JPEG
    assert max(apart) <= WORST_JPEG


@pytest.mark.parametrize("colour", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_parity_from_drawn_jpegs(kind: str, colour: str, drawn_jpegs: Pictures) -> None:
    require_near(drawn_jpegs, SIZES[colour], KINDS[kind])


@pytest.fixture(scope="module")
def real_jpegs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Photographs of many sizes with the masks and tones that melfast finds in them."""
    folder = tmp_path_factory.mktemp("masks")
    paths = [path for name, step in (("isic_fullres", 9), ("ham10000", 500), ("isic2020", 1))
             for path in sorted((real_data / name / "images").glob("*.jpg"))[::step]]  # fmt: skip
    paths = paths[: len(paths) // 4 * 4]
    images = [read_image(path, min_height=300, min_width=300) for path in paths]
    masks: list[Path | None] = [
        write_mask(make_mask(image, "lesion"), folder / f"{i}.png")
        for i, image in enumerate(images)
    ]
    tones = [estimate_tone(image) for image in images]
    return Pictures(paths, masks, rows_of(np.array([tone.lab for tone in tones])))


@pytest.mark.parametrize("colour", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_parity_from_real_jpegs(kind: str, colour: str, real_jpegs: Pictures) -> None:
    preprocess = replace(SIZES[colour], height=96, width=128)
    require_near(real_jpegs, preprocess, KINDS[kind])


def test_cielab_is_within_four_thousandths(drawn_pngs: Pictures) -> None:
    """Of the core's, which is within 0.001 of float64; from pixels that need no resize."""
    preprocess = Preprocess(240, 320, "cielab", (0, 0, 0), (1, 1, 1))
    plan = evaluation_plan(2, batch_size=2)
    found = images_of(DaliLoader(drawn_pngs.paths, preprocess, plan, threads=2))
    for image, path in zip(found, drawn_pngs.paths[:2], strict=True):
        assert np.abs(image - core.srgb_to_lab(read_image(path))).max() < 0.004


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_dtypes(dtype: Any, drawn_pngs: Pictures) -> None:
    plan = drawn_pngs.plan(KINDS["warped"], RGB)
    found, native = (
        images_of(executor(drawn_pngs.paths, RGB, plan, threads=2, dtype=dtype))
        for executor in (DaliLoader, NativeLoader)
    )
    assert found.dtype == dtype
    unit = 1 if dtype == np.uint8 else 255 * RGB.std[0]
    assert np.abs(found.astype(float) - native).mean() * unit < SAME_PIXELS


def test_the_matrix_in_pixels() -> None:
    """By hand: half the width, a quarter of the width to the right."""
    affine = np.array([[0.5, 0, 0.5], [0, 1, 0]], np.float32)
    matrix = pixel_matrix(affine, (100, 400), (50, 200))
    np.testing.assert_allclose(matrix, [[1, 0, 200], [0, 2, 0]], atol=1e-4)


# Manners: those of the native executor.


def test_batches_come_in_order_and_from_the_middle(drawn_jpegs: Pictures) -> None:
    plan = evaluation_plan(11, batch_size=4)
    loader = DaliLoader(drawn_jpegs.paths, RGB, plan, threads=2)
    whole = [(batch.index.tolist(), batch.images.copy()) for batch in loader]
    assert [index for index, _ in whole] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    rest = DaliLoader(drawn_jpegs.paths, RGB, plan, threads=1, start=1)
    assert len(rest) == 2
    for (index, images), batch in zip(whole[1:], rest, strict=True):
        assert batch.index.tolist() == index
        assert np.array_equal(batch.images, images)
    assert list(DaliLoader(drawn_jpegs.paths, RGB, plan, start=3)) == []


@pytest.fixture
def with_bad(drawn_jpegs: Pictures, tmp_path: Path) -> list[Path]:
    """12 files; 1, 4, 5, 6 and 7, a whole batch, and 11 are none."""
    paths = list(drawn_jpegs.paths)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(paths[1].read_bytes()[:-3000])
    grey = tmp_path / "text.jpg"
    grey.write_bytes(b"text")
    for i in (1, 4, 5, 6, 7):
        paths[i] = cut
    paths[11] = grey
    return paths


def test_bad_files_are_left_out(with_bad: list[Path]) -> None:
    plan = evaluation_plan(12, batch_size=4)
    loader = DaliLoader(with_bad, RGB, plan, on_error="skip", threads=2)
    batches = [(b.index.tolist(), b.images.copy(), b.failures) for b in loader]
    assert [index for index, _, _ in batches] == [[0, 2, 3], [], [8, 9, 10]]
    assert [len(failures) for _, _, failures in batches] == [1, 4, 1]
    assert batches[1][1].shape == (0, 48, 64, 3)
    native = NativeLoader(with_bad, RGB, plan, on_error="skip", threads=2)
    for (_, images, failures), batch in zip(batches, native, strict=True):
        assert [str(f) for f in failures] == [str(f) for f in batch.failures]
        assert images.shape == batch.images.shape
        assert (
            np.abs(images - batch.images).sum() * 255 * RGB.std[0] < MEDIAN_JPEG * images.size + 1
        )


def test_a_bad_file_stops_the_loop_at_its_batch(with_bad: list[Path]) -> None:
    loader = DaliLoader(with_bad, RGB, evaluation_plan(12, batch_size=1), threads=2)
    batches = iter(loader)
    assert next(batches).index.tolist() == [0]
    with pytest.raises(ImageError, match=r"cut\.jpg: found a truncated or damaged JPEG"):
        next(batches)


def test_all_bad(with_bad: list[Path]) -> None:
    loader = DaliLoader(
        with_bad[4:8], RGB, evaluation_plan(4, batch_size=2), on_error="skip", threads=2
    )
    assert [len(batch.index) for batch in loader] == [0, 0]


def test_files_are_decoded_once_to_be_checked(
    drawn_jpegs: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[int] = []
    decode: Callable[..., Any] = dali.decode_image
    monkeypatch.setattr(
        dali, "decode_image", lambda *a, **k: (checks.append(1), decode(*a, **k))[1]
    )
    dali._decoded.clear()
    plan = evaluation_plan(12, batch_size=4)
    known = np.arange(12) < 5
    for _ in range(2):
        list(DaliLoader(drawn_jpegs.paths, RGB, plan, threads=2, checked=known))
    assert len(checks) == 7


def test_a_mask_that_is_missing(drawn_jpegs: Pictures) -> None:
    plan = evaluation_plan(1, batch_size=1, masked=True)
    with pytest.raises(ImageError, match=r"has no lesion mask \(mask_path\)"):
        list(DaliLoader(drawn_jpegs.paths, RGB, plan))


def test_threads_end_with_the_loop(drawn_jpegs: Pictures) -> None:
    def feeders() -> int:
        return sum(t.name.startswith("melfast-feeder") for t in threading.enumerate())

    loader = DaliLoader(drawn_jpegs.paths, RGB, evaluation_plan(12, batch_size=2), threads=2)
    for _ in loader:
        assert feeders() > 0
        break
    gc.collect()
    assert feeders() == 0
    batches = iter(loader)
    next(batches)
    loader.close()
    assert feeders() == 0


def test_without_dali(drawn_jpegs: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_dali(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("nvidia"):
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_dali)
    loader = DaliLoader(drawn_jpegs.paths, RGB, evaluation_plan(1, batch_size=1))
    with pytest.raises(InputError, match=r"needs NVIDIA DALI: pip install nvidia-dali-cuda130$"):
        list(loader)
