from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melfast.io.contact_sheet import CAPTION_HEIGHT, THUMBNAIL_WIDTH, write_grid
from melfast.io.errors import InputError
from melfast.io.images import read_image


def plain(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_pictures_stand_row_by_row(tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    write_grid([(plain(30, 40, c), "x") for c in colours], 2, tmp_path / "s.png")
    sheet = read_image(tmp_path / "s.png")
    cell = THUMBNAIL_WIDTH * 3 // 4 + CAPTION_HEIGHT
    assert sheet.shape == (2 * cell, 2 * THUMBNAIL_WIDTH, 3)
    centres = [(cell // 2, 120), (cell // 2, 360), (cell + cell // 2, 120)]
    assert [tuple(sheet[place]) for place in centres] == colours
    assert tuple(sheet[cell + cell // 2, 360]) == (255, 255, 255)


def test_other_proportions_are_fitted_into_the_cells(tmp_path: Path) -> None:
    tall = plain(90, 30, (0, 0, 250))
    write_grid([(plain(30, 30, (250, 0, 0)), "wide"), (tall, "tall")], 2, tmp_path / "s.png")
    sheet = read_image(tmp_path / "s.png")
    blue = (sheet == (0, 0, 250)).all(-1)
    height, width = (np.ptp(np.flatnonzero(blue.any(axis=axis))) + 1 for axis in (1, 0))
    assert height == THUMBNAIL_WIDTH - 2
    assert abs(width - height / 3) <= 1


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    write_grid([(plain(1, 1, (1, 2, 3)), ""), (plain(1, 500, (9, 9, 9)), "")], 2, tmp_path / "s.jpg")
    with Image.open(tmp_path / "s.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_the_suffix_is_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s\.gif: expected a name that ends in \.png, \.jpg, \.jpeg"):
        write_grid([(plain(3, 3, (0, 0, 0)), "")], 1, tmp_path / "s.gif")


@pytest.mark.parametrize("words", ["P 0.328, truth malignant ISIC_0030047", "x" * 200])
def test_a_long_caption_stays_in_its_cell(words: str, tmp_path: Path) -> None:
    white = plain(30, 40, (255, 255, 255))
    write_grid([(white, words), (white, "")], 2, tmp_path / "s.png")
    dark = (read_image(tmp_path / "s.png") < 128).any(-1)
    assert dark[:, : THUMBNAIL_WIDTH - 4].any()
    assert not dark[:, THUMBNAIL_WIDTH - 4 :].any()
