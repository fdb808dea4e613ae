"""Contact sheet of a synthetic data set: light to dark, class and ITA under each image."""

from pathlib import Path

import numpy as np

from melfast.data.manifest import Manifest
from melfast.io.contact_sheet import write_grid
from melfast.io.images import read_image

COLUMNS, ROWS = 6, 5


def write_sheet(manifest: Manifest, path: Path) -> None:
    """Writes a sheet of up to 30 images, evenly spread over ITA, from light to dark.

    Args:
        manifest: with `ita` and `target`.
    Raises:
        InputError: the file cannot be written.
    """
    ita = manifest.column("ita").astype(float)
    order = np.argsort(-ita, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(COLUMNS * ROWS, len(order))).round().astype(int)]
    files, targets = manifest.image_paths, manifest.targets
    captions = [f"{'malignant' if targets[row] == 1 else 'benign'}, ITA {ita[row]:.0f}°" for row in picked]
    pictures = [read_image(files[row]) for row in picked]
    write_grid(list(zip(pictures, captions, strict=True)), COLUMNS, path)
