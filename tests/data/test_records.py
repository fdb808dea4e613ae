"""Every executor against the float64 reference, for all kinds of records."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from melfast.data.image_list import ImageList
from melfast.data.plan import EpochPlan, evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.io.errors import ImageError
from tests.data.conftest import KINDS, Executor, Pictures
from tests.data.reference import levels_apart, reference

SAME_PIXELS = 0.75  # mean of every image, in levels
COLOURS = {"rgb": Preprocess(48, 64), "cielab": Preprocess.for_colour(48, 64, "cielab")}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_reference(kind: str, colour: str, executor: Executor, drawn_pngs: Pictures) -> None:
    preprocess = COLOURS[colour]
    plan = drawn_pngs.plan(KINDS[kind], preprocess)
    loader = executor(drawn_pngs.images, preprocess, plan, threads=2)
    images = np.concatenate([batch.images.copy() for batch in loader])
    assert len(images) == 12
    for record, image in enumerate(images):
        row = plan.index[record]
        wanted = reference(drawn_pngs.paths[row], plan, record, preprocess, drawn_pngs.masks[row])
        assert levels_apart(image, wanted, preprocess) <= SAME_PIXELS


def test_each_kind_changes_the_picture(drawn_pngs: Pictures) -> None:
    """The parity above would also hold if executor and reference both did nothing."""
    preprocess = COLOURS["rgb"]
    plain = drawn_pngs.plan(KINDS["plain"], preprocess)
    for kind in set(KINDS) - {"plain"}:
        plan = drawn_pngs.plan(KINDS[kind], preprocess)
        row = plan.index[0]
        path, mask = drawn_pngs.paths[row], drawn_pngs.masks[row]
        still = reference(path, plain, int(np.flatnonzero(plain.index == row)[0]), preprocess, mask)
        assert levels_apart(reference(path, plan, 0, preprocess, mask), still, preprocess) > 2, kind


def test_uint8_has_all_but_the_colour_conversion(executor: Executor, drawn_pngs: Pictures) -> None:
    """Previews show what the model sees."""
    preprocess = COLOURS["cielab"]
    plan = drawn_pngs.plan(KINDS["everything"], preprocess)
    as_rgb = Preprocess(48, 64, mean=(0, 0, 0), std=(1, 1, 1))
    kept = {"threads": 2}
    levels = executor(drawn_pngs.images, preprocess, plan, dtype=np.uint8, **kept)
    images = np.concatenate([batch.images.copy() for batch in levels])
    row = plan.index[0]
    wanted = reference(drawn_pngs.paths[row], plan, 0, as_rgb, drawn_pngs.masks[row])
    top, left, bottom, right = plan.erase[0]
    outside = np.ones((48, 64), bool)
    outside[top:bottom, left:right] = False  # filled with the mean of another colour space
    assert np.abs(images[0] / 255 - wanted)[outside].mean() * 255 < SAME_PIXELS


def test_landmarks_stand_where_the_matrix_says(executor: Executor, tmp_path: Path) -> None:
    """Dots drawn at known places, found again by their centroids within half a pixel."""
    size, places = 400, [(100, 120), (300, 90), (210, 310)]
    image = Image.new("RGB", (size, size))
    draw = ImageDraw.Draw(image)
    for x, y in places:
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=(255, 255, 255))
    image.save(tmp_path / "dots.png")
    preprocess = Preprocess(200, 200, mean=(0, 0, 0), std=(1, 1, 1))
    angle = np.deg2rad(12)
    linear = 0.9 * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.concatenate([linear, [[0.05], [-0.08]]], axis=1).astype(np.float32)
    plan = EpochPlan(np.zeros(1, np.int64), affine[None], np.array([0, 1]))
    (batch,) = executor([tmp_path / "dots.png"], preprocess, plan)
    shown = batch.images[0, ..., 0]
    for place in places:
        there = np.linalg.solve(linear, (2 * (np.array(place) + 0.5) / size - 1) - affine[:, 2])
        x, y = (there + 1) * 100 - 0.5
        rows, columns = np.mgrid[:200, :200]
        near = np.where(np.hypot(columns - x, rows - y) < 8, shown, 0)
        assert near.sum() > 10
        assert abs((near * columns).sum() / near.sum() - x) < 0.5
        assert abs((near * rows).sum() / near.sum() - y) < 0.5


@pytest.mark.parametrize("masks", [None, [None]])
def test_a_mask_that_is_missing(masks: list[None] | None, executor: Executor, drawn_pngs: Pictures) -> None:
    plan = evaluation_plan(1, batch_size=1, masked=True)
    path = drawn_pngs.paths[0]
    loader = executor(ImageList([path], masks), COLOURS["rgb"], plan)
    with pytest.raises(ImageError) as caught:
        list(loader)
    assert str(caught.value) == f"{path}: has no lesion mask (mask_path): melfast prepare masks"


def test_a_mask_that_is_damaged(executor: Executor, drawn_pngs: Pictures, tmp_path: Path) -> None:
    broken = tmp_path / "mask.png"
    broken.write_bytes(b"")
    plan = evaluation_plan(2, batch_size=2, masked=True)
    loader = executor(
        ImageList(drawn_pngs.paths[:2], [broken, drawn_pngs.masks[1]]), COLOURS["rgb"], plan, on_error="skip"
    )
    (batch,) = loader
    assert batch.index.tolist() == [1]
    assert [str(failure) for failure in batch.failures] == [
        f"{drawn_pngs.paths[0]}: mask {broken}: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"
    ]
