"""ITA of JPEG files: the published steps with OpenCV and Python, and the decoder alone."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

CLUSTERS = range(3, 10)


def opencv_published(path: Path) -> float:
    """The published method, unchanged; its results are not true ITA.

    Returns:
        Degrees; NaN if the published index is out of range (elbows of 7 and more).
    """
    import cv2

    from benchmarks.peers.masks import published_opencv

    image = cv2.imread(os.fspath(path))
    assert image is not None, path
    small = cv2.resize(image, (128, 256))
    seen = small.copy()
    seen[published_opencv(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)) > 0] = 0
    lab = cv2.cvtColor(seen, cv2.COLOR_BGR2LAB)
    return published_ita(lab[lab[..., 0] > 0].astype(np.float32))


def published_ita(pixels: NDArray[np.float32]) -> float:
    """The published ITA of 8-bit CIELAB colours [n, 3]."""
    import cv2
    from kneed import KneeLocator

    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.2)
    inertias, colours = [], []
    for k in CLUSTERS:
        inertia, labels, centres = cv2.kmeans(pixels, k, None, stop, 10, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
        largest = np.bincount(labels.ravel(), minlength=k).argmax()
        inertias.append(inertia)
        colours.append(cv2.cvtColor(np.uint8([[centres[largest]]]), cv2.COLOR_LAB2RGB))  # type: ignore[call-overload]
    elbow = KneeLocator(CLUSTERS, inertias, curve="convex", direction="decreasing").elbow
    if elbow is not None and elbow >= len(colours):
        return float("nan")
    colour = colours[-1 if elbow is None else elbow]
    lightness, _, b = cv2.cvtColor(colour, cv2.COLOR_RGB2LAB)[0, 0].tolist()
    return float(np.rad2deg(np.arctan2(lightness - 50, b)))


def scaled_decode(paths: Sequence[Path], needed: Callable[[int, int], tuple[int, int]]) -> Callable[[], int]:
    """simplejpeg alone, from bytes in memory, at the scale that `needed` requires."""
    jobs = []
    for path in paths:
        data = path.read_bytes()
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        least = needed(height, width)
        factor = next((f for f in (8, 4, 2) if -(-height // f) >= least[0] and -(-width // f) >= least[1]), 1)
        jobs.append((data, -(-height // factor), -(-width // factor)))

    def run() -> int:
        for data, height, width in jobs:
            simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
        return len(jobs)

    return run
