"""Images for benchmarks: those of the user, real images of the project, or synthetic ones, grouped by size."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.machine import ROOT
from melfast.io.errors import InputError
from melfast.io.folders import list_images

Data = (
    Path | Literal["drawn"] | None
)  # a folder; `drawn`: synthetic images; None: real ones if available, otherwise synthetic

LARGE_WIDTH = 1500
DRAWN_SOURCE = "synthetic images"
LARGE, SMALL = f"at least {LARGE_WIDTH} px wide", f"under {LARGE_WIDTH} px wide"
REAL = {LARGE: "isic_fullres/images", SMALL: "lesion_masks/ham10000_native_pairs/images"}
DRAWN = {LARGE: (24, 1536, 2048), SMALL: (48, 450, 600)}  # number, height, width
MOST = 100  # files per group: they fit into the page cache, and take less than a minute


def real(data: Data) -> Path | None:
    """The folder with real images of the project, if it exists and no other images are requested."""
    folder = Path(os.environ.get("MELFAST_TEST_DATA", ROOT.parent / "shared" / "data"))
    return folder if data is None and folder.is_dir() else None


@contextmanager
def groups(data: Data) -> Iterator[tuple[str, dict[str, list[Path]]]]:
    """Where the images are from, and the JPEG files of each size; a group may be absent.

    Raises:
        InputError: `data` holds no images.
    """
    if isinstance(data, Path):
        yield str(data), by_size(list_images(data))
    elif (folder := real(data)) and all((folder / each).is_dir() for each in REAL.values()):
        yield ("real dermoscopic images", {name: jpegs(list_images(folder / each)) for name, each in REAL.items()})
    else:
        with TemporaryDirectory(prefix="melfast-bench-") as place:
            yield DRAWN_SOURCE, {name: draw(Path(place), *size) for name, size in DRAWN.items()}


def jpegs(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg")]


def by_size(paths: list[Path]) -> dict[str, list[Path]]:
    """Groups of at most MOST files, taken evenly over the list."""
    found: dict[str, list[Path]] = {}
    for path in jpegs(paths):
        with open_image(path) as image:
            found.setdefault(LARGE if image.width >= LARGE_WIDTH else SMALL, []).append(path)
    return {name: group[:: -(-len(group) // MOST)] for name, group in found.items()}


def open_image(path: Path) -> Image.Image:
    """Pillow's open, with an error that names the file."""
    try:
        return Image.open(path)
    except OSError as error:
        raise InputError(f"{path}: Pillow cannot read it: {error}") from None


def draw(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """JPEGs with about as many bytes per pixel as dermoscopic photographs: skin, a lesion, grain."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    paths = []
    for number in range(count):
        rng = np.random.default_rng([height, number])
        centre, radius = rng.uniform(-0.3, 0.3, 2), rng.uniform(0.2, 0.5)
        lesion = 1 / (1 + np.exp((np.hypot(x - centre[0], y - centre[1]) - radius) * 20))
        grain = rng.normal(0, 6, (height, width)).astype(np.float32)
        skin, dark = np.array([205, 160, 140]), np.array([110, 75, 65])
        pixels = skin + lesion[..., None] * (dark - skin) + grain[..., None]
        encoded = simplejpeg.encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), quality=90)
        paths.append(folder / f"{width}x{height}-{number:03d}.jpg")
        paths[-1].write_bytes(encoded)
    return paths
