"""PlanLoader: the common part of all loaders; each adds how it makes batches."""

import os
import weakref
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

import numpy as np
from numpy.typing import DTypeLike

from melfast.data.batch import Batch
from melfast.data.image_list import ImageList
from melfast.data.plan import EpochPlan
from melfast.data.preprocess import Preprocess
from melfast.io.memory import Source
from melfast.io.words import check_words

OnError = Literal["raise", "skip"]
LoaderName = Literal["auto", "native", "dali-cpu", "dali-gpu"]
Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = tuple(np.dtype(name) for name in ("float32", "float16", "uint8"))


def available_cores() -> int:
    """Number of cores that this process may use; taskset or a container may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0))


@check_words
@dataclass(frozen=True)
class LoaderSettings:
    """How images become batches for a model.

    Attributes:
        loader: see `melfast.data.feed.choose_loader`.
        threads: 0: this process's share of the cores.
        on_error: an unreadable image stops the run (`raise`) or is skipped and listed (`skip`).
        precision: precision of the model; with mixed precision on CUDA the images are copied as
            float16, which halves the bytes and is still finer than their 8 bits.
    """

    loader: LoaderName = "auto"
    threads: int = 0
    on_error: OnError = "raise"
    precision: Precision = "fp32"


class LoaderOptions(TypedDict, total=False):
    """Options of every loader besides its images, preprocessing and plan: see PlanLoader."""

    start: int
    threads: int | None
    on_error: OnError
    dtype: DTypeLike
    prefetch: int


class PlanLoader:
    """Iterates the batches of a plan; each iteration starts its own threads and ends them.

    The threads stop when the loop ends, whatever the reason: the last batch, `break`, an exception or
    Ctrl-C. `close()` and `with` stop an iterator that is still referenced.
    """

    @check_words
    def __init__(
        self,
        images: Sequence[Source] | ImageList,
        preprocess: Preprocess,
        plan: EpochPlan,
        *,
        start: int = 0,
        threads: int | None = None,
        on_error: OnError = "raise",
        dtype: DTypeLike = np.float32,
        prefetch: int = 2,
    ) -> None:
        """
        Args:
            images: the files, or an ImageList with masks for plans that need them; `plan.index` refers to it.
            preprocess: size, colour and normalisation of the batches.
            start: the first batch to return; a resumed epoch starts in the middle.
            threads: worker threads; None: one per core that the process may use.
            on_error: what happens with an unreadable image. `raise`: the iterator raises its ImageError
                at its batch. `skip`: its batch is shorter, possibly empty, and lists it in
                `failures`.
            dtype: float32 or float16: normalised; uint8: sRGB, without colour conversion and
                normalisation.
            prefetch: number of batches prepared ahead of the one in use.
        Raises:
            ValueError: an argument is out of range.
        """
        self.images = ImageList.of(images)
        threads = available_cores() if threads is None else threads
        for name, value, low in (("threads", threads, 1), ("prefetch", prefetch, 1)):
            if value < low:
                raise ValueError(f"{name} must be >= {low}, got {value}")
        if np.dtype(dtype) not in DTYPES:
            raise ValueError(f"dtype must be float32, float16 or uint8, got {np.dtype(dtype)}")
        if not 0 <= start <= plan.num_batches:
            raise ValueError(f"start must be in 0..{plan.num_batches}, got {start}")
        if len(plan.index) and not 0 <= plan.index.min() <= plan.index.max() < len(images):
            raise ValueError(f"plan.index must be in 0..{len(images) - 1}, got {plan.index.min()}..{plan.index.max()}")
        self.preprocess, self.plan, self.start = preprocess, plan, start
        self.threads, self.on_error, self.prefetch = threads, on_error, prefetch
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._running: weakref.ref[Generator[Batch]] | None = None

    def __len__(self) -> int:
        """Number of batches in an iteration."""
        return self.plan.num_batches - self.start

    def __iter__(self) -> Iterator[Batch]:
        """Iterates the batches from `start` on. A second iteration ends the first.

        Raises:
            ImageError: while iterating, under `on_error="raise"`.
        """
        self.close()
        batches = self._batches()
        # A strong reference would keep the threads alive after a `break`.
        self._running = weakref.ref(batches)
        return batches

    def close(self) -> None:
        """Ends the current iteration and its threads, if there is one."""
        batches = self._running() if self._running is not None else None
        if batches is not None:
            batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def largest_batch(self) -> int:
        """Number of records in the largest batch of an iteration."""
        return int(np.diff(self.plan.bounds)[self.start :].max(initial=0))

    def _batches(self) -> Generator[Batch]:
        """One iteration; it cleans up when it is closed."""
        raise NotImplementedError
