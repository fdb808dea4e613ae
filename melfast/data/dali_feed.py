"""Input of DALI: checked files, and the arrays of the records in the form that its operators take.

DALI cannot skip a bad image and applies no colour profile, so each file is decoded once beforehand at an eighth of its
size, which reads all of it. Files that were intact are remembered by their content.
"""

import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.augment import IDENTITY
from melfast.data.image_list import ImageList
from melfast.data.plan import EpochPlan, reaches_out, size_before_warp
from melfast.data.preprocess import Preprocess
from melfast.data.retouch import lesion_plane
from melfast.io.colour_profiles import is_srgb
from melfast.io.errors import ImageError
from melfast.io.formats import read_header
from melfast.io.headers import Header, require_few_scans, without_stray
from melfast.io.images import decode_image, read_bytes, read_resized

# (length, CRC-32) of the contents that this process found intact; every epoch has its own loader.
_whole: set[tuple[int, int]] = set()


def read_whole(path: str | Path, size: tuple[int, int], *, checked: bool = False) -> NDArray[np.uint8]:
    """An image as an encoded file that DALI decodes to the same pixels as melfast.

    That is the file itself if DALI has been tested with its coding and its colours are sRGB; otherwise the
    image decoded by melfast, as a PPM.

    Args:
        size: (height, width) that are needed; an image is shrunk to at least twice that size.
        checked: the file is known to be intact; its header is still read.
    Raises:
        ImageError: as melfast.io.images.read_image.
    """
    data = read_bytes(path)
    content = len(data), zlib.crc32(data)
    try:
        header = read_header(BytesIO(data))
        plain = _is_for_dali(header)
        if plain and header.format == "JPEG":
            require_few_scans(data, header)
        if plain and not checked and content not in _whole:
            decode_image(data, min_height=1, min_width=1)
            _whole.add(content)
    except ValueError as error:
        raise ImageError(path, str(error)) from None
    return np.frombuffer(without_stray(data, header) if plain else _as_ppm(path, size), np.uint8)


def _is_for_dali(header: Header) -> bool:
    tested = header.format == "PNG" or (header.format == "JPEG" and header.scalable)
    return tested and header.colour == "RGB" and is_srgb(header.profile)


def _as_ppm(path: str | Path, size: tuple[int, int]) -> bytes:
    def small(height: int, width: int) -> tuple[int, int]:
        times = max(1, min(height // (2 * size[0]), width // (2 * size[1])))
        return max(1, round(height / times)), max(1, round(width / times))

    image, _ = read_resized(path, small)
    return b"P6 %d %d 255\n" % image.shape[1::-1] + image.tobytes()


def record_arrays(plan: EpochPlan, records: NDArray[np.int64], height: int, width: int) -> dict[str, NDArray[Any]]:
    """The arrays of a batch besides its files and masks; arrays that no record of the plan uses are
    left out.

    Returns:
        working: float32 [B, 2], height and width before the warp;
        start, inner: int32 [B, 2], y and x, height and width of the part that is warped: without the
            outermost pixels if they would be repeated;
        matrix: float32 [B, 2, 3], pixels of the output to pixels of that part, counted from its
            corner;
        end, k, m: float32 [B, 3], curves of the skin-former; the identity if there are none;
        jitter: float32 [B, 3, 4], on levels;
        floor: uint8 [B, 1], minimum value of the mask: 255 if the record is not masked;
        anchor, shape: float32 [B, 2], y and x of the erased box.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if not (plan.affine == IDENTITY).all():
        affine = plan.affine[records]
        sizes = [size_before_warp(one, height, width) for one in affine]
        working = np.array(sizes, np.float32).reshape(-1, 2)
        start = ((working >= 3) & reaches_out(affine)[:, None]).astype(np.int32)
        matrix = pixel_matrices(affine, working, height, width)
        matrix[..., 2] -= start[:, ::-1]
        inner = working.astype(np.int32) - 2 * start
        arrays |= {"working": working, "start": start, "inner": inner, "matrix": matrix}
    if plan.gains is not None:
        assert plan.target_ita is not None
        still = np.isnan(plan.target_ita[records])[:, None, None]
        gains = np.where(still, np.array([1, 1, 0], np.float32), plan.gains[records])
        arrays |= {name: gains[..., i].copy() for i, name in enumerate(("end", "k", "m"))}
    if plan.jitter is not None:
        arrays["jitter"] = plan.jitter[records] * np.array([1, 1, 1, 255], np.float32)
    if plan.masked is not None:
        arrays["floor"] = np.where(plan.masked[records, None], 0, 255).astype(np.uint8)
    if plan.erase is not None:
        corners = plan.erase[records].astype(np.float32)
        arrays |= {"anchor": corners[:, :2].copy(), "shape": corners[:, 2:] - corners[:, :2]}
    return arrays


def pixel_matrices(
    affine: NDArray[np.float32], working: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Matrices [B, 2, 3] in centred coordinates as matrices in pixels, the first one's corner
    being 0, from height x width to images of `working` [B, (height, width)]."""
    halves = working[:, ::-1].astype(np.float64) / 2
    linear = affine[..., :2] * (2 / np.array([width, height]))
    shift = affine[..., 2] + 1 - affine[..., :2].sum(axis=-1)
    both = np.concatenate([linear, shift[..., None]], axis=-1) * halves[..., None]
    return both.astype(np.float32)


@dataclass(frozen=True)
class Work:
    """A batch after reading: the records that were read, and the images that failed."""

    records: NDArray[np.int64]
    failures: tuple[ImageError, ...]


@dataclass(frozen=True)
class _Read:
    encoded: NDArray[np.uint8]
    plane: NDArray[np.uint8] | None


class Feed:
    """External source of DALI: each call returns the next batch that contains an image.

    DALI calls it in the consumer's thread; its own threads read ahead.

    Attributes:
        names: names of the arrays that it returns, in this order.
        given: batches that are read but not yet taken by the consumer, including those without an image.
    """

    def __init__(
        self,
        images: ImageList,
        preprocess: Preprocess,
        plan: EpochPlan,
        *,
        start: int,
        threads: int,
        prefetch: int,
        stop_at_failure: bool,
    ) -> None:
        """
        Args:
            stop_at_failure: stop after the batch with the first image that fails.
        """
        self.images, self.preprocess, self.plan = images, preprocess, plan
        self.prefetch, self.stop_at_failure = prefetch, stop_at_failure
        self.size = preprocess.height, preprocess.width
        self.given: deque[Work] = deque()
        arrays = record_arrays(plan, np.zeros(0, np.int64), *self.size)
        planes = ["plane"] if {"end", "floor"} & set(arrays) else []
        self.names = ["encoded", *planes, *arrays]
        self._batches = plan.batches(start)
        self._ahead: deque[tuple[slice, list[Future[_Read]]]] = deque()
        self._pool = ThreadPoolExecutor(threads, "melfast-dali")

    def __call__(self) -> tuple[Any, ...]:
        while True:
            self._read_ahead()
            if not self._ahead:
                raise StopIteration
            work, images = self._finished(*self._ahead.popleft())
            self.given.append(work)
            if work.failures and self.stop_at_failure:
                raise StopIteration
            if images:
                return self._arrays(work, images)

    def close(self) -> None:
        """Ends the threads, each after its current file."""
        self._pool.shutdown(cancel_futures=True)

    def _read_ahead(self) -> None:
        while len(self._ahead) <= self.prefetch:
            records = next(self._batches, None)
            if records is None:
                return
            numbers = range(records.start, records.stop)
            jobs = [self._pool.submit(self._read, number) for number in numbers]
            self._ahead.append((records, jobs))

    def _read(self, record: int) -> _Read:
        row = self.plan.index[record]
        plane = lesion_plane(self.plan, record, self.images, self.preprocess)
        checked = self.images.checked is not None and bool(self.images.checked[row])
        working = size_before_warp(self.plan.affine[record], *self.size)
        return _Read(read_whole(self.images.paths[row], working, checked=checked), plane)

    def _finished(self, records: slice, jobs: list[Future[_Read]]) -> tuple[Work, list[_Read]]:
        kept, images, failures = [], [], []
        for record, job in enumerate(jobs, records.start):
            # Raising it here would tie the error to this frame and so keep alive, until the garbage
            # collector runs, the pipeline and its threads.
            error = job.exception()
            if error is None:
                images.append(job.result())
                kept.append(record)
            elif isinstance(error, ImageError):
                failures.append(ImageError(error.path, error.reason))
            else:
                raise error
        return Work(np.array(kept, np.int64), tuple(failures)), images

    def _arrays(self, work: Work, images: list[_Read]) -> tuple[Any, ...]:
        arrays: dict[str, Any] = dict(record_arrays(self.plan, work.records, *self.size))
        arrays["encoded"] = [image.encoded for image in images]
        if "plane" in self.names:
            everywhere = np.full(self.size, 255, np.uint8)
            planes = [everywhere if image.plane is None else image.plane for image in images]
            arrays["plane"] = np.stack(planes)[..., None]
        return tuple(arrays[name] for name in self.names)
