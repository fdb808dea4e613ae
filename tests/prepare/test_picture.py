"""Pictures: one decode for all steps, which finds the same damage as a full decode."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melfast.io.errors import ImageError
from melfast.io.images import ImageFile, opened, read_resized
from melfast.prepare.masks import write_png
from melfast.prepare.picture import Picture, copy_size, open_picture, whole
from melfast.prepare.synth import draw_sample
from melfast.skin.masks import find_regions, working_size


@pytest.fixture(scope="module")
def drawn() -> Image.Image:
    return Image.fromarray(draw_sample(3, 0, (320, 240)).image)


def reason(path: Path, factor: int) -> str:
    try:
        with opened(path) as image, image.at(factor):
            return ""
    except ImageError as error:
        return error.reason


@pytest.mark.parametrize("progressive", [False, True])
def test_a_scaled_decode_finds_the_damage_of_a_full_one(drawn: Image.Image, progressive: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=90, progressive=progressive)
    whole_file = buffer.getvalue()
    rng = np.random.default_rng(int(progressive))
    start, path, bad = whole_file.index(b"\xff\xda"), tmp_path / "a.jpg", 0
    for trial in range(150):
        data = bytearray(whole_file)
        if trial % 3 == 0:
            del data[int(rng.integers(start, len(data))) :]
        else:
            for place in rng.integers(start, len(data) - 2, trial % 3):
                data[place] = int(rng.integers(256))
        path.write_bytes(data)
        found = {factor: reason(path, factor) for factor in (1, 2, 4, 8)}
        assert len(set(found.values())) == 1, found
        bad += bool(found[1])
    assert 50 <= bad < 150


def decodes(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Their factors, as they come."""
    factors: list[int] = []
    at = ImageFile.at
    monkeypatch.setattr(ImageFile, "at", lambda self, factor: (factors.append(factor), at(self, factor))[1])
    return factors


def test_steps_share_a_decode(drawn: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    drawn.resize((4000, 3000)).save(path)
    with open_picture(path) as picture:
        factors = decodes(picture, monkeypatch)
        assert picture.size == (3000, 4000)
        assert picture.work.shape == (*working_size(3000, 4000), 3)
        small = picture.resized(lambda height, width: copy_size(height, width, 288))
        assert small.shape == (288, 384, 3)
        assert (picture.regions == find_regions(picture.work)).all()
        assert factors == [4]
        assert picture.resized(whole).shape == (3000, 4000, 3)
        assert picture.resized(lambda height, width: copy_size(height, width, 1024)).shape == (1024, 1365, 3)
        assert factors == [4, 1, 2]
        assert picture.size == (3000, 4000)
        assert factors == [4, 1, 2]
        wanted = read_resized(path, working_size)[0]
    assert (wanted == find_work(path)).all()


def find_work(path: Path) -> np.ndarray:
    with open_picture(path) as picture:
        return picture.work.copy()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 1), (31, 57)])
def test_masks_are_plain_greyscale_pngs(shape: tuple[int, int], tmp_path: Path) -> None:
    mask = np.where(np.random.default_rng(0).random(shape) < 0.5, np.uint8(255), np.uint8(0))
    write_png(mask, tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L"
        assert (np.asarray(image) == mask).all()
