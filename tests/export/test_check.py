"""The check of an export: what it finds, what passes, and which images it takes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from melfast.data.preprocess import Preprocess
from melfast.export.check import Check, compare, draw_images, pictures_at_hand, read_pictures
from melfast.io.errors import InputError
from melfast.models.record import ModelRecord

RECORD = ModelRecord("mean", Preprocess(4, 6, "rgb", (0, 0, 0), (1, 1, 1)))


class Means(torch.nn.Module):
    """Logits: mean green and mean red, 0..1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))[:, [1, 0]]


def means(
    images: NDArray[np.uint8], groups: NDArray[np.int64] | None = None, *, off: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    logits = images.mean((1, 2))[:, [1, 0]].astype(np.float32) / 255
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    logits[-1] += 4 * off
    probability[-1] += off
    return probability, logits


def test_by_hand() -> None:
    check = compare(means, Means(), RECORD)
    assert (check.images, check.pictures) == (42, "")
    assert check.probability_error < 1e-6
    off = compare(lambda images, groups: means(images, groups, off=0.25), Means(), RECORD)
    assert off.probability_error == pytest.approx(0.25, abs=1e-5)
    assert off.logit_error == pytest.approx(1.0, abs=1e-5)
    assert not off.passed


def test_what_passes() -> None:
    assert Check(10, 1e-5, 1e-4, 0.0, 1.0).passed
    assert not Check(10, 1.1e-5, 0.0, 0.0, 1.0).passed
    assert Check(10, 5e-3, 2e-2, 0.0, 1.0, "fp16").passed
    assert not Check(10, 5.1e-3, 0.0, 0.0, 1.0, "fp16").passed
    # What a saturated probability hides, the logits tell.
    assert not Check(10, 0.0, 1e-3, 1.0, 1.0).passed
    assert not Check(10, float("nan"), 0.0, 0.5, 0.5).passed
    with pytest.raises(InputError) as caught:
        Check(10, 0.0061, 0.001, 0.0, 1.0, "fp16").require_passed("m.onnx")
    assert str(caught.value) == (
        "m.onnx: the exported model differs from torch by 0.0061 in probability and 0.001 in "
        "logits, expected at most 0.005 and 0.02 (fp16); nothing was written"
    )


def test_pictures_of_each_class(tiny_data: Path) -> None:
    pictures = read_pictures(tiny_data, RECORD)
    assert pictures.images_nhw3.shape == (42, 4, 6, 3)
    assert pictures.description == f"42 of {tiny_data} (21 benign, 21 malignant)"
    seen: list[NDArray[np.uint8]] = []

    def watched(
        images: NDArray[np.uint8], groups: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen.append(images)
        return means(images, groups)

    check = compare(watched, Means(), RECORD, pictures=pictures)
    assert [len(images) for images in seen] == [1, 2, 7, 32, 1, 2, 7, 32]
    np.testing.assert_array_equal(np.concatenate(seen[4:]), pictures.images_nhw3)
    assert (check.images, check.pictures) == (84, pictures.description)


def test_a_few_pictures_serve_several_times(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (int(name[2]), 0, 0)).save(tmp_path / name)
    pictures = read_pictures(tmp_path, RECORD)
    assert pictures.description == f"4 of {tmp_path}"
    assert pictures.images_nhw3[:, 0, 0, 0].tolist() == [1, 4, 2, 3]  # the folders in turn
    assert compare(means, Means(), RECORD, pictures=pictures).images == 84


def test_a_class_without_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    manifest = tmp_path / "m.csv"
    manifest.write_text("image_name,path,target\na,a.png,0\n")
    with pytest.raises(InputError) as caught:
        read_pictures(manifest, RECORD)
    assert str(caught.value) == f"{manifest}: no malignant image, expected some of each class to check"
    with pytest.raises(InputError, match=r"none: (no such file|cannot be read)"):
        read_pictures(tmp_path / "none", RECORD)


def test_pictures_that_are_there(tmp_path: Path) -> None:
    """Of each class, from all over the table; files that are gone are passed over."""
    manifest = tmp_path / "m.csv"
    lines = ["image_name,path,target"]
    for i in range(900):
        lines.append(f"i{i},{i}.png,{i % 2}")
        if i % 6 in (1, 2, 4):  # 150 malignant, 300 benign
            Image.new("RGB", (6, 4), (i // 4, 0, i % 2)).save(tmp_path / f"{i}.png")
    manifest.write_text("\n".join(lines) + "\n")
    pictures = pictures_at_hand(manifest, RECORD)
    assert pictures.description == f"42 of {manifest} (21 benign, 21 malignant)"
    corners = pictures.images_nhw3[:, 0, 0]
    assert corners[:, 2].tolist() == [0, 1] * 21
    manifest.write_text("\n".join([lines[0], lines[2], "x,gone.png,0"]) + "\n")
    with pytest.raises(InputError) as caught:
        pictures_at_hand(manifest, RECORD)
    assert str(caught.value) == f"{manifest}: no file of a benign image is there"
    with pytest.raises(InputError, match=r"none\.csv"):
        pictures_at_hand(tmp_path / "none.csv", RECORD)


def test_drawn_images() -> None:
    rng: Callable[[], np.random.Generator] = lambda: np.random.default_rng(0)  # noqa: E731
    images = draw_images(rng(), 40, 5, 9)
    assert (images.shape, images.dtype) == ((40, 5, 9, 3), np.uint8)
    np.testing.assert_array_equal(images, draw_images(rng(), 40, 5, 9))
    assert images.min() == 0
    assert images.max() == 255
    colourful = np.ptp(images.astype(int), axis=3).mean((1, 2))
    assert (colourful > 20).mean() > 0.8
