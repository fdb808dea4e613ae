"""NativeLoader: files to batches on the CPU, in threads that spend their time in compiled code.

    workers:   claim the next record -> read -> scaled JPEG decode -> core.prepare into the batch
    consumer:  wait for the oldest open batch -> use it -> give its memory back

There is one task an image, so a large file holds up one thread, not one batch in `threads`. The
batches come in the plan's order, and a batch's content does not depend on the number of threads.
"""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.batch import Batch
from melfast.data.image_list import ImageList
from melfast.data.loader import LoaderOptions, PlanLoader
from melfast.data.plan import EpochPlan, working_size
from melfast.data.preprocess import Preprocess
from melfast.data.retouch import retouch
from melfast.io.errors import ImageError
from melfast.io.images import scaled
from melfast.io.memory import Source

Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


class NativeLoader(PlanLoader):
    """Batches in memory that is reused: a batch is valid until the next one is asked for.

    Who copies it to a GPU asynchronously waits for that copy (not for the step) before asking.
    """

    def __init__(
        self,
        images: Sequence[Source] | ImageList,
        preprocess: Preprocess,
        plan: EpochPlan,
        *,
        allocate: Allocate = np.empty,
        **options: Unpack[LoaderOptions],
    ) -> None:
        """
        Args:
            allocate: makes the `prefetch + 1` buffers, given shape and dtype (for pinned memory).
            others: as PlanLoader.
        """
        super().__init__(images, preprocess, plan, **options)
        self.allocate = allocate

    def _batches(self) -> Generator[Batch]:
        shape = (self.largest_batch, self.preprocess.height, self.preprocess.width, 3)
        count = min(self.prefetch + 1, len(self))
        buffers = [self.allocate(shape, self.dtype) for _ in range(count)]
        assert all(b.shape == shape and b.dtype == self.dtype for b in buffers)
        crew = _Crew(self._load, self.plan.batches(self.start), buffers)
        try:
            crew.hire(self.threads)
            for _ in range(len(self)):
                work = crew.finished()
                yield self._batch(work)
                crew.reuse(work.images)
        finally:
            crew.dismiss()

    def _load(self, record: int, out: NDArray[Any]) -> None:
        """One image into its place in a batch."""
        carry_out(self.plan, record, self.images, self.preprocess, out)

    def _batch(self, work: "_Work") -> Batch:
        images, index = work.images[: work.size], self.plan.index[work.records]
        group = self.plan.groups_of(work.records)
        if not work.failures:
            return Batch(images, index, group=group)
        failures = [work.failures[row] for row in sorted(work.failures)]
        if self.on_error == "raise":
            raise failures[0]
        kept = np.setdiff1d(np.arange(work.size), list(work.failures))
        images[: len(kept)] = images[kept]
        group = None if group is None else group[kept]
        return Batch(images[: len(kept)], index[kept], tuple(failures), group)


def carry_out(plan: EpochPlan, record: int, images: ImageList, preprocess: Preprocess, out: NDArray[Any]) -> None:
    """Reads the image of one record and writes it as the model sees it.

    Args:
        images: of all; `plan.index` counts in them.
        out: [H, W, 3] float32 or float16: normalised; uint8: sRGB, all but colour conversion and
            normalisation.
    Raises:
        ImageError: the image, or a mask that is needed, cannot be read.
    """
    path, affine = images.paths[plan.index[record]], plan.affine[record]
    changes = retouch(plan, record, images, preprocess)
    height, width = working_size(affine, preprocess.height, preprocess.width)
    with scaled(path, lambda *_: (height, width)) as (image, _, extent):
        core.prepare(
            image,
            affine,
            out,
            preprocess.colour,
            preprocess.mean,
            preprocess.std,
            extent=extent,
            working=(height, width),
            **changes,
        )


@dataclass
class _Work:
    """A batch in the making: its records, the memory it goes to, and how far it is."""

    records: slice
    images: NDArray[Any]
    claimed: int = 0
    done: int = 0
    failures: dict[int, ImageError] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return int(self.records.stop - self.records.start)


class _Crew:
    """Worker threads that fill batches in order, and never more batches than there are buffers.

    They do not hold the iterator they work for: when nobody else does, it goes, and dismisses them.
    """

    def __init__(
        self, load: Callable[[int, NDArray[Any]], None], batches: Iterator[slice], buffers: list[NDArray[Any]]
    ) -> None:
        self.load, self.batches, self.free = load, batches, buffers
        self.open: deque[_Work] = deque()  # begun and not yet taken by the consumer, oldest first
        self.crash: BaseException | None = None
        self.stopped = False
        lock = threading.Lock()
        self.room = threading.Condition(lock)  # for workers: a buffer is free, or all is over
        self.ready = threading.Condition(lock)  # for the consumer: a batch is done, or a crash
        self.threads: list[threading.Thread] = []

    def hire(self, count: int) -> None:
        # An iterator still held when Python ends: threads must be out of compiled code by then.
        atexit.register(self.dismiss)
        for number in range(count):
            thread = threading.Thread(target=self._run, name=f"melfast-loader-{number}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def dismiss(self) -> None:
        """Each worker ends after the image it is at; returns when all have."""
        with self.room:
            self.stopped = True
            self.room.notify_all()
        for thread in self.threads:
            thread.join()
        atexit.unregister(self.dismiss)

    def finished(self) -> _Work:
        """Waits for the oldest batch. Raises what a worker fell over, other than ImageError."""
        with self.ready:
            while self.crash is None and not (self.open and self.open[0].done == self.open[0].size):
                self.ready.wait()
            if self.crash is not None:
                raise self.crash
            return self.open.popleft()

    def reuse(self, images: NDArray[Any]) -> None:
        with self.room:
            self.free.append(images)
            self.room.notify_all()

    def _run(self) -> None:
        try:
            while (claim := self._claim()) is not None:
                work, row = claim
                try:
                    self.load(work.records.start + row, work.images[row])
                except ImageError as error:
                    # Without its traceback, which would keep the file's bytes and the batch alive.
                    work.failures[row] = ImageError(error.path, error.reason)
                self._done(work)
        except BaseException as error:  # whatever it is, the consumer must hear of it, not hang
            with self.ready:
                self.crash, self.stopped = error, True
                self.room.notify_all()
                self.ready.notify()

    def _claim(self) -> tuple[_Work, int] | None:
        """The next image nobody has begun; None when there is no more to do."""
        with self.room:
            while not self.stopped:
                if self.open and (work := self.open[-1]).claimed < work.size:
                    work.claimed += 1
                    return work, work.claimed - 1
                if not self.free:
                    self.room.wait()
                elif (records := next(self.batches, None)) is not None:
                    self.open.append(_Work(records, self.free.pop()))
                    self.ready.notify()  # a batch without records is done at once
                else:
                    self.stopped = True
                    self.room.notify_all()
            return None

    def _done(self, work: _Work) -> None:
        with self.ready:
            work.done += 1
            if work.done == work.size:
                self.ready.notify()
