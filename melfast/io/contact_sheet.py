"""Contact sheets: pictures side by side, each with a caption."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from melfast.io.errors import InputError
from melfast.io.files import atomic_path

THUMBNAIL_WIDTH, CAPTION_HEIGHT = 240, 22
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def check_sheet_path(path: Path) -> None:
    """Raises InputError if the suffix is not a supported format."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: wanted a name that ends in {', '.join(SUFFIXES)}")


def write_grid(pictures: Sequence[tuple[NDArray[np.uint8] | Image.Image, str]], columns: int, path: Path) -> None:
    """Writes pictures row by row.

    Args:
        pictures: (uint8 [H, W, 3] or a Pillow image, caption), at least one; all cells have the
            proportions of the first, and the others are fitted into them.
        columns: pictures per row.
    Raises:
        InputError: the suffix is not a supported format, or the file cannot be written.
    """
    check_sheet_path(path)
    first = _pillow(pictures[0][0])
    height = max(1, round(THUMBNAIL_WIDTH * first.height / first.width))
    cell = height + CAPTION_HEIGHT
    size = (min(columns, len(pictures)) * THUMBNAIL_WIDTH, -(-len(pictures) // columns) * cell)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(pictures):
        x, y = place % columns * THUMBNAIL_WIDTH, place // columns * cell
        thumbnail = _fitted(_pillow(picture), THUMBNAIL_WIDTH - 4, height - 2)
        left, top = THUMBNAIL_WIDTH - 4 - thumbnail.width, height - 2 - thumbnail.height
        sheet.paste(thumbnail, (x + 2 + left // 2, y + 2 + top // 2))
        caption, font_size = _caption(draw, caption)
        draw.text((x + 6, y + height + 3), caption, fill="black", font_size=font_size)
    with atomic_path(path) as temporary:
        sheet.save(temporary, SUFFIXES[path.suffix.lower()])


def _caption(draw: ImageDraw.ImageDraw, text: str) -> tuple[str, int]:
    """A caption that fits in its cell: in a smaller font if necessary, and finally truncated."""
    room = THUMBNAIL_WIDTH - 12
    for font_size in (14, 12, 10):
        if draw.textlength(text, font_size=font_size) <= room:
            return text, font_size
    while draw.textlength(f"{text}…", font_size=10) > room:
        text = text[:-1]
    return f"{text}…", 10


def _pillow(picture: NDArray[np.uint8] | Image.Image) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """As large as fits, with the same proportions."""
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
