"""Run a model on images: one loop for all kinds of models and devices.

A model is a function `ask` of a batch of pixels; torch networks (melfast.models.infer) and engines
(melfast.predict.predictor) provide it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast.data.batch import Batch
from melfast.data.loader import LoaderSettings, OnError
from melfast.data.views import Tta, View, viewed
from melfast.io.errors import ImageError
from melfast.io.words import check_words

# Always the same, so that training and `melfast evaluate` see the same batches.
BATCH_SIZE = 64
SLACK = 1e-3  # half precision rounds, so a probability may be this far outside 0..1
# Maps pixels of one view (an array [B, H, W, 3] or a tensor [B, 3, H, W]) and the index of each image in the
# list of files to arrays or tensors of B rows each.
Ask = Callable[[Any, NDArray[np.int64]], tuple[Any, ...]]


@check_words
@dataclass(frozen=True)
class InferenceSettings(LoaderSettings):
    """How a model is run on images; see LoaderSettings for the rest.

    Attributes:
        device: `auto`: CUDA if there is a device.
        tta: the views of each image to average over, see melfast.data.views.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = BATCH_SIZE
    tta: Tta = "none"


def run_batches(
    batches: Iterable[tuple[Any, Batch]], ask: Ask, views: Sequence[View], *, in_flight: int = 1, planes: bool = False
) -> Iterator[tuple[Batch, list[tuple[Any, ...]]]]:
    """Runs a model on batches, while the loader prepares the next ones.

    Args:
        batches: pixels, valid until the next batch, and the batch that they belong to.
        in_flight: number of batches that the model processes at the same time, each in a thread.
        planes: pixels are [B, 3, H, W], otherwise [B, H, W, 3].
    Yields:
        Each batch in order, with the model's result for each view; no results for a batch without images.
    """
    axes = (2, 3) if planes else (1, 2)

    def ask_views(pixels: Any, index: NDArray[np.int64]) -> list[tuple[Any, ...]]:
        return [ask(viewed(pixels, view, axes), index) for view in views] if len(index) else []

    if in_flight == 1:
        for pixels, batch in batches:
            yield batch, ask_views(pixels, batch.index)
        return
    with ThreadPoolExecutor(in_flight, "melfast-model") as pool:
        running: deque[tuple[Batch, Future[list[tuple[Any, ...]]]]] = deque()
        for pixels, batch in batches:
            running.append((batch, pool.submit(ask_views, pixels.copy(), batch.index)))
            if len(running) == in_flight:
                done, future = running.popleft()
                yield done, future.result()
        for done, future in running:
            yield done, future.result()


def in_pieces(
    pool: ThreadPoolExecutor, run: Callable[..., tuple[Any, ...]], size: int, *inputs: Any
) -> list[tuple[Any, ...]]:
    """Results of `run` for each piece of `size` rows of the inputs, in order, one thread per piece.

    On a CPU this is faster than sharing every operation among all threads.
    """
    starts = range(0, len(inputs[0]), size)
    return list(pool.map(run, *([each[first : first + size] for first in starts] for each in inputs)))


@check_words
def take_usable(
    values: NDArray[Any], paths: Sequence[str | Path], on_error: OnError, bounds: tuple[float, float] | None = None
) -> tuple[NDArray[np.bool_], dict[int, ImageError]]:
    """Which rows are finite numbers within the bounds (if any), and for the other rows the failure.

    Args:
        values: [N] or [N, K], results of a model for `paths`.
    Raises:
        ImageError: for the first invalid row, under `on_error="raise"`.
    """
    low, high = bounds or (-np.inf, np.inf)
    good = np.isfinite(values) & (values >= low - SLACK) & (values <= high + SLACK)
    usable = good.all(axis=tuple(range(1, good.ndim)))
    expected = f"{low:g} to {high:g}" if bounds else "a finite number"
    failures: dict[int, ImageError] = {}
    for row in np.flatnonzero(~usable).tolist():
        value = values[row][~good[row]].flat[0]
        failures[row] = ImageError(paths[row], f"the model's output is {value}, expected {expected}")
        if on_error == "raise":
            raise failures[row]
    return usable, failures
