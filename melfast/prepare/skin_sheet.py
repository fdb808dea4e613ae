"""Sheet: a contact sheet of images before and after the skin-former, with their segmented regions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melfast.data.manifest import Manifest
from melfast.io.contact_sheet import check_sheet_path, write_grid
from melfast.io.errors import ImageError, InputError
from melfast.io.images import read_resized
from melfast.io.words import check_words
from melfast.prepare.sweep import Bad
from melfast.skin.former import move_skin
from melfast.skin.ita import estimate_tone
from melfast.skin.masks import Region, find_regions, working_size

# Colour of each region; skin is not painted.
PAINT = {
    Region.MARGIN: (150, 150, 150),
    Region.VIGNETTE: (40, 40, 40),
    Region.GLARE: (255, 255, 255),
    Region.RULER: (60, 90, 255),
    Region.LESION: (230, 60, 60),
    Region.HAIR: (70, 200, 70),
}


@check_words
def draw_sheet(
    manifest: Manifest,
    path: Path,
    targets_deg: Sequence[float],
    method: Literal["exact", "published"] = "exact",
    images: int = 8,
    progress: Callable[[], None] = lambda: None,
) -> list[Bad]:
    """Writes a sheet with one row per image: the original, its regions, and the skin moved to each target.

    The caption of each picture is its measured ITA.

    Args:
        targets_deg: ITA in degrees to move the skin to.
        images: number of images, evenly spaced over the rows of the manifest.
        progress: called after each image.
    Returns:
        Images that could not be read; they have no row.
    Raises:
        InputError: no image could be read, or the file cannot be written.
    """
    check_sheet_path(path)
    names, paths = manifest.image_names, manifest.image_paths
    pictures: list[tuple[NDArray[np.uint8], str]] = []
    bad: list[Bad] = []
    for row in np.linspace(0, len(manifest) - 1, min(images, len(manifest))).round().astype(int):
        try:
            pictures += sheet_row(paths[row], targets_deg, method)
        except ImageError as error:
            bad.append((names[row], str(paths[row]), error.reason))
        progress()
    if not pictures:
        raise InputError(f"{bad[0][1]}: {bad[0][2]}; none of {len(bad)} images can be shown")
    write_grid(pictures, 2 + len(targets_deg), path)
    return bad


@check_words
def sheet_row(
    path: Path, targets_deg: Sequence[float], method: Literal["exact", "published"]
) -> list[tuple[NDArray[np.uint8], str]]:
    """The pictures of one image and their captions."""
    work, _ = read_resized(path, working_size)
    regions = find_regions(work)
    tone = estimate_tone(work, regions=regions)
    row = [(work, f"ITA {_degrees(tone.ita_deg)}"), (paint(work, regions), "; ".join(tone.doubts))]
    for target in targets_deg:
        moved = move_skin(work, target, method=method, tone=tone, regions=regions)
        row.append((moved.image, f"to {target:g}°: {_degrees(moved.tone.ita_deg)}"))
    return row


def paint(image: NDArray[np.uint8], regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with each region half covered by its colour (see PAINT)."""
    painted = image.copy()
    for region, colour in PAINT.items():
        inside = regions & region != 0
        painted[inside] = (image[inside].astype(np.uint16) + np.array(colour, np.uint16)) // 2
    return painted


def _degrees(ita: float) -> str:
    return "unknown" if np.isnan(ita) else f"{ita:.1f}°"
