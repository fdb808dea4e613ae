"""core.published_mask against OpenCV calling the same steps."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.peers.masks import published_opencv as reference
from melfast import core
from melfast.io.images import read_image

MEAN_IOU, LEAST_IOU = 0.99, 0.95


def iou(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Two empty masks are equal."""
    either = np.count_nonzero(found | wanted)
    return np.count_nonzero(found & wanted) / either if either else 1.0


def dermoscopic(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Skin with a dark spot, hairs, uneven light and noise: the intended input of the method."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width, 1)
    skin = np.array([214.0, 164, 142]) * (1.05 - 0.3 * np.hypot(x - 0.5, y - 0.4))[..., None]
    away = np.hypot((x - 0.45) / 0.2, (y - 0.35) / 0.16)
    image = skin + np.array([-90.0, -85, -75]) / (1 + np.exp(9 * (away - 1)))[..., None]
    for _ in range(6):
        hair = np.abs(y - rng.uniform(0, 1) - rng.uniform(-2, 2) * x) < 0.006
        image[hair] -= 70
    return (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("folder", "step"),
    [
        ("isic_fullres/images", 7),
        ("isic2020/images", 1),
        ("ham10000/images", 5),
        ("lesion_masks/isic2018_task1_512/images", 1),
        ("lesion_masks/ham10000_native_pairs/images", 1),
    ],
)
def test_real_images(folder, step, real_data):
    """OpenCV takes most of the time, so only every seventh large image and a fifth of the others are used."""

    def compare(path: Path) -> float:
        image = read_image(path)
        return iou(core.published_mask(image), reference(image))

    files = sorted(p for p in (real_data / folder).iterdir() if p.suffix in (".jpg", ".png"))
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(compare, files[::step]))
    assert np.mean(found) >= MEAN_IOU, found
    assert min(found) >= LEAST_IOU, found


# Tiles of CLAHE that divide the image and tiles that do not, on either axis and on both; widths on
# both sides of a word of 64 bits.
SIZES = [(256, 256), (256, 250), (251, 256), (253, 259), (301, 63), (301, 64), (300, 65), (64, 511)]


@pytest.mark.parametrize("size", SIZES)
def test_drawn_images(size):
    image = dermoscopic(*size)
    assert iou(core.published_mask(image), reference(image)) >= LEAST_IOU


def test_every_small_size():
    """Noise on tiles of a few pixels: nothing to be seen, and every border at work."""
    rng, same, count = np.random.default_rng(0), 0, 0
    for height in range(1, 24):
        for width in (*range(1, 24), 63, 64, 65, 129):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            mask = core.published_mask(image)
            assert mask.shape == (height, width)
            assert mask.dtype == np.uint8
            assert np.isin(mask, (0, 255)).all()
            same += np.count_nonzero(mask == reference(image))
            count += mask.size
    assert same / count > 0.99


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 50), (50, 1), (40, 60)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 90, 90), (200, 150, 120)])
def test_one_colour(size, colour):
    """No dark side and no hair: nothing is masked unless all is black, which Otsu's 0 takes."""
    image = np.full((*size, 3), colour, np.uint8)
    assert (core.published_mask(image) == reference(image)).all()


def test_takes_any_strides():
    memory = np.concatenate([dermoscopic(90, 120), np.zeros((90, 120, 1), np.uint8)], axis=-1)
    views = (memory[3:80, 5:110, :3], memory[::-1, ..., :3], memory[:, ::-2, :3], memory[..., 1:].transpose(1, 0, 2))
    for view in views:
        expected = core.published_mask(np.ascontiguousarray(view))
        assert (core.published_mask(view) == expected).all()


def test_wrong_arguments():
    with pytest.raises(TypeError, match="uint8"):
        core.published_mask(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="shape"):
        core.published_mask(np.zeros((4, 4), np.uint8))


# Prints the peak growth of the process in bytes per pixel, and how much of it stays.
MEMORY = """
import resource
import numpy as np
from melfast import core

height, width = 4000, 6000
rows = np.random.default_rng(0).integers(0, 256, (height, 1, 3), dtype=np.uint8)
image = np.ascontiguousarray(np.broadcast_to(rows, (height, width, 3)))
core.published_mask(image[:64, :64])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mask = core.published_mask(image)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / (height * width))
del mask
left = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(left / 1024 / before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says how much is in use")
def test_memory():
    """At most 3 bytes per pixel in addition to the image, including the mask; no large memory stays allocated."""
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    grown, left = map(float, result.stdout.split())
    assert grown < 3
    assert left < 1.05
