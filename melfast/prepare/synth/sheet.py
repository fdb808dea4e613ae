"""Contact sheet of a synthetic data set: light to dark, class and ITA under each image."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from melfast.errors import InputError
from melfast.files import atomic_path
from melfast.manifest import Manifest

COLUMNS, ROWS = 6, 5
THUMBNAIL_WIDTH, CAPTION_HEIGHT = 240, 22
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def check_sheet_path(path: Path) -> None:
    """Raises InputError where the suffix names no format that a sheet can have."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: wanted a name that ends in {', '.join(SUFFIXES)}")


def write_sheet(manifest: Manifest, path: Path) -> None:
    """Writes a sheet of up to 30 images, evenly spread over ITA, from light to dark.

    Args:
        manifest: with `ita` and `target`.
    Raises:
        InputError: the file cannot be written.
    """
    check_sheet_path(path)
    ita = manifest.column("ita").astype(float)
    order = np.argsort(-ita, kind="stable")
    picked = order[
        np.linspace(0, len(order) - 1, min(COLUMNS * ROWS, len(order))).round().astype(int)
    ]
    files, targets = manifest.image_paths, manifest.targets
    with Image.open(files[0]) as first:
        height = round(THUMBNAIL_WIDTH * first.height / first.width)
    cell = height + CAPTION_HEIGHT
    rows = -(-len(picked) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(picked)) * THUMBNAIL_WIDTH, rows * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for place, index in enumerate(picked):
        x, y = place % COLUMNS * THUMBNAIL_WIDTH, place // COLUMNS * cell
        with Image.open(files[index]) as image:
            thumbnail = image.resize((THUMBNAIL_WIDTH - 4, height - 2), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (x + 2, y + 2))
        word = "malignant" if targets[index] == 1 else "benign"
        caption = f"{word}, ITA {ita[index]:.0f}°"
        draw.text((x + 6, y + height + 3), caption, fill="black", font_size=14)
    with atomic_path(path) as temporary:
        sheet.save(temporary, SUFFIXES[path.suffix.lower()])
