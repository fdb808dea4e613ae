"""NativeLoader: load batches on the CPU, in threads that spend their time in compiled code.

    workers:   claim the next record -> read -> scaled JPEG decode -> core.prepare into the batch
    consumer:  wait for the oldest open batch -> use it -> give its memory back

Each image is one task, so a large file delays one thread and not a whole batch. The batches come in
the order of the plan, and their content does not depend on the number of threads.
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
from melfast.data.plan import EpochPlan, size_before_warp
from melfast.data.preprocess import Preprocess
from melfast.data.retouch import retouch
from melfast.io.errors import ImageError
from melfast.io.images import scaled
from melfast.io.memory import Source

Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


class NativeLoader(PlanLoader):
    """Batches in memory that is reused: a batch is valid until the next one is requested.

    A caller that copies it to a GPU asynchronously must wait for that copy (not for the step) first.
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
            allocate: makes a buffer of a shape and dtype, for pinned memory; called `prefetch + 1` times.
            others: as for PlanLoader.
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
        """Loads one image into its place in a batch."""
        load_record(self.plan, record, self.images, self.preprocess, out)

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


def load_record(plan: EpochPlan, record: int, images: ImageList, preprocess: Preprocess, out: NDArray[Any]) -> None:
    """Reads the image of one record and writes it as the model takes it.

    Args:
        images: all images; `plan.index` refers to them.
        out: [H, W, 3] float32 or float16: normalised; uint8: sRGB, without colour conversion and
            normalisation.
    Raises:
        ImageError: the image, or a mask that is needed, cannot be read.
    """
    path, affine = images.paths[plan.index[record]], plan.affine[record]
    changes = retouch(plan, record, images, preprocess)
    height, width = size_before_warp(affine, preprocess.height, preprocess.width)
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
    """A batch in progress: its records, its memory, and how much of it is done."""

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

    They hold no reference to their iterator, so it can be collected, which then dismisses them.
    """

    def __init__(
        self, load: Callable[[int, NDArray[Any]], None], batches: Iterator[slice], buffers: list[NDArray[Any]]
    ) -> None:
        self.load, self.batches, self.free = load, batches, buffers
        self.open: deque[_Work] = deque()  # started and not yet taken by the consumer, oldest first
        self.crash: BaseException | None = None
        self.stopped = False
        lock = threading.Lock()
        self.room = threading.Condition(lock)  # for workers: a buffer is free, or the iteration is over
        self.ready = threading.Condition(lock)  # for the consumer: a batch is done, or a crash
        self.threads: list[threading.Thread] = []

    def hire(self, count: int) -> None:
        # If an iterator still exists when Python exits, its threads must have left compiled code by then.
        atexit.register(self.dismiss)
        for number in range(count):
            thread = threading.Thread(target=self._run, name=f"melfast-loader-{number}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def dismiss(self) -> None:
        """Ends each worker after its current image; returns when all have ended."""
        with self.room:
            self.stopped = True
            self.room.notify_all()
        for thread in self.threads:
            thread.join()
        atexit.unregister(self.dismiss)

    def finished(self) -> _Work:
        """Waits for the oldest batch. Re-raises any error of a worker except ImageError."""
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
        except BaseException as error:  # any error must reach the consumer, which would hang otherwise
            with self.ready:
                self.crash, self.stopped = error, True
                self.room.notify_all()
                self.ready.notify()

    def _claim(self) -> tuple[_Work, int] | None:
        """The next image that no worker has started; None when there is none left."""
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
