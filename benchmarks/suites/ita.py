"""Suite ita: JPEG files to the ITA of the visible skin."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks import images
from benchmarks.harness import Contestant, Run, suite
from benchmarks.peers import ita as peers

# Synthetic images, whose ITA is known, on which the estimate must be right before it is timed.
DRAWN, MEAN_ERROR_DEG, MOST_ERROR_DEG, SHARE = 40, 1.5, 4, 0.95
# The published method takes more than a second per image; its results depend on random draws.
PUBLISHED_IMAGES, PUBLISHED_TOLERANCE_DEG = 6, 1.5
PUBLISHED_TARGET, DECODE_TARGET = 40, 0.6
THREADS = (1, 2, 4)


@suite("ita")
def ita(run: Run) -> None:
    """JPEG files at least 1500 px wide, in the page cache, to the ITA of the skin."""
    check_drawn(run)
    with images.groups(run.data) as (source, groups):
        files = groups.get(images.LARGE)
        if not files:
            return run.miss(f"images {images.LARGE}", f"none in {source}")
        run.note(f"{source}: {len(files)} images {images.LARGE}")
        check_published(run, some_of(files))
        race_published(run, some_of(files))
        race_decoder(run, files)
        race_threads(run, files)


def some_of(files: list[Path]) -> list[Path]:
    """PUBLISHED_IMAGES of the files, evenly spaced."""
    return files[:: -(-len(files) // PUBLISHED_IMAGES)]


def tone_of(path: Path, **how: Any) -> Any:
    from melfast.io.images import read_scaled
    from melfast.skin.ita import estimate_tone
    from melfast.skin.masks import working_size

    image, _, _ = read_scaled(path, working_size)
    return estimate_tone(image, **how)


def check_drawn(run: Run) -> None:
    """Checks the ITA of synthetic images after JPEG compression."""
    from melfast.prepare.synth.draw import draw_sample
    from melfast.skin.ita import estimate_tone

    errors = []
    for index in range(DRAWN):
        sample = draw_sample(1, index)
        encoded = simplejpeg.encode_jpeg(sample.image, quality=92)
        errors.append(estimate_tone(simplejpeg.decode_jpeg(encoded)).ita_deg - sample.ita_deg)
    error = np.abs(errors)
    run.check("cielab, drawn: mean error in degrees", error.mean(), at_most=MEAN_ERROR_DEG)
    within = float((error <= MOST_ERROR_DEG).mean())
    run.check(f"cielab, drawn: fraction within {MOST_ERROR_DEG} degrees", within, at_least=SHARE)


def check_published(run: Run, files: list[Path]) -> None:
    """Checks melfast's `published` convention against the peer."""
    from melfast.io.images import read_image
    from melfast.skin.ita import estimate_tone

    found = [estimate_tone(read_image(path), convention="published").ita_deg for path in files]
    apart = np.abs(np.subtract(found, [peers.opencv_published(path) for path in files]))
    both = apart[np.isfinite(apart)]
    if not len(both):
        return run.miss("published against OpenCV", "neither finds an elbow within its index")
    median = float(np.median(both))
    run.check("published: median difference to OpenCV in degrees", median, at_most=PUBLISHED_TOLERANCE_DEG)


def race_published(run: Run, files: list[Path]) -> None:
    """One thread against the published method with OpenCV and Python."""
    import cv2

    from melfast.io.images import read_image
    from melfast.skin.ita import estimate_tone

    cv2.setNumThreads(1)
    contestants = [
        Contestant("melfast cielab", counter(tone_of, files)),
        Contestant("OpenCV, published", counter(peers.opencv_published, files), PUBLISHED_TARGET),
        Contestant(
            "melfast published", counter(lambda path: estimate_tone(read_image(path), convention="published"), files)
        ),
    ]
    run.compare(f"ITA of {len(files)} images, one thread", "images/s", contestants)


def race_decoder(run: Run, files: list[Path]) -> None:
    """One thread against the decoder alone; the difference is the ITA."""
    from melfast.skin.masks import working_size

    contestants = [
        Contestant("melfast cielab", counter(tone_of, files)),
        Contestant("simplejpeg scaled decode alone", peers.scaled_decode(files, working_size), DECODE_TARGET),
    ]
    run.compare(f"ITA of {len(files)} images, one thread", "images/s", contestants)


def race_threads(run: Run, files: list[Path]) -> None:
    """How the estimate scales with threads; the first line has the most."""
    contestants = []
    for threads in sorted({*THREADS, run.threads}, reverse=True):
        if threads <= run.threads:
            name = f"melfast cielab, {threads} thread{'s' * (threads > 1)}"
            contestants.append(Contestant(name, in_threads(files, threads)))
    run.compare(f"ITA of {len(files)} images", "images/s", contestants)


def counter(work: Callable[[Path], Any], files: Sequence[Path]) -> Callable[[], int]:
    def run() -> int:
        for path in files:
            work(path)
        return len(files)

    return run


def in_threads(files: Sequence[Path], threads: int) -> Callable[[], int]:
    def run() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(tone_of, files))

    return run
