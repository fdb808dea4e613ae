"""Suite masks: the published lesion and hair mask, on one thread."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks import images
from benchmarks.harness import Contestant, Run, suite
from benchmarks.suites.loader import installed
from melfast import core
from melfast.io.images import read_image

SIZES = ((4000, 6000), (2000, 3000))  # height, width
PHOTOGRAPH = "isic2020/images/ISIC_0081956.jpg"  # 6000 x 4000
LEAST_IOU = 0.95
TARGET = 8

Image = NDArray[np.uint8]


@suite("masks")
def masks(run: Run) -> None:
    """The published mask of large images, pixels per second of one thread."""
    if not installed("cv2"):
        run.miss("published masks", "no module cv2")
        return
    import cv2

    source, image = largest(run.data)
    run.note(f"{source}; one thread each, whatever --threads says")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for height, width in SIZES:
            resized = np.empty((height, width, 3), np.uint8)
            core.resize(image, resized)
            race(run, resized)
    finally:
        cv2.setNumThreads(threads)


def race(run: Run, image: Image) -> None:
    """Compares the masks, then times them."""
    from benchmarks.peers.masks import published_opencv

    height, width = image.shape[:2]
    found, wanted = core.published_mask(image), published_opencv(image)
    either = np.count_nonzero(found | wanted)
    iou = np.count_nonzero(found & wanted) / either if either else 1.0
    run.check(f"{width}x{height}: IoU with OpenCV's mask", iou, at_least=LEAST_IOU)

    def timed(mask: Callable[[Image], Image]) -> Callable[[], int]:
        return lambda: mask(image).size

    contestants = [
        Contestant("melfast", timed(core.published_mask)),
        Contestant("OpenCV, the same steps", timed(published_opencv), TARGET),
    ]
    run.compare(f"published mask, {width}x{height}", "pixels/s", contestants)


def largest(data: images.Data) -> tuple[str, Image]:
    """A photograph with 24 million pixels if there is one, otherwise a synthetic image."""
    if (folder := images.real(data)) and (path := folder / PHOTOGRAPH).is_file():
        return "a dermoscopic photograph", read_image(path)
    return "a drawing", draw(*SIZES[0])


def draw(height: int, width: int) -> Image:
    """Skin in uneven light with a dark blot, hairs and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    depth = 80 / (1 + np.exp(9 * (np.hypot((x - 0.45) / 0.2, (y - 0.35) / 0.16) - 1)))
    depth += 60 * np.hypot(x - 0.5, y - 0.4)
    for _ in range(6):
        depth[np.abs(y - rng.uniform(0, 1) - rng.uniform(-2, 2) * x) < 0.002] += 70
    depth += rng.normal(0, 2, depth.shape)
    image = np.empty((height, width, 3), np.uint8)
    for c, level in enumerate((214, 164, 142)):
        image[..., c] = (level - depth).clip(0, 255)
    return image
