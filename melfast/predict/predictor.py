"""Predictions of images with an exported model; the model file and the images are enough."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.loader import OnError
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import ColourSpace
from melfast.data.views import Tta, View, require_views, viewed
from melfast.engines.backends import Backend, open_engine
from melfast.engines.base import Engine
from melfast.engines.foreign import SLACK, Numbers, Output
from melfast.io.errors import ImageError, InputError
from melfast.models.record import ModelRecord

DEFAULT_THRESHOLD = 0.5
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # probability [B], logits [B, K]


@dataclass(frozen=True)
class Answers:
    """What a model says of a batch.

    Attributes:
        index: int64 [B], place in the list of files.
        probability: float32 [B], P(malignant).
        logits: float32 [B, K]; of several views their mean.
        failures: why other images of the batch have no answer, by place in the list of files.
    """

    index: NDArray[np.int64]
    probability: NDArray[np.float32]
    logits: NDArray[np.float32]
    failures: Mapping[int, ImageError]


def choose_threshold(record: ModelRecord, wanted: float | None) -> tuple[float, str]:
    """The threshold on P(malignant) and, in words, where it is from.

    Args:
        wanted: the user's; None: the model's, or DEFAULT_THRESHOLD where it has none.
    Raises:
        InputError: it is outside of 0..1.
    """
    if wanted is not None:
        if not 0.0 <= wanted <= 1.0:
            raise InputError(f"--threshold must be in 0..1, got {wanted:g}")
        return wanted, "as asked for"
    if record.threshold is None:
        return DEFAULT_THRESHOLD, "the model has none"
    return record.threshold, f"the model's, by {record.threshold_rule or 'an unnamed rule'}"


def predictions(
    engine: Engine,
    paths: Sequence[str | Path],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    on_error: OnError = "raise",
    tta: Tta = "none",
) -> Iterator[Answers]:
    """A model's answers for image files, while the next ones are decoded, and where the engine is
    faster so (`in_flight`) while those before are still at work.

    Args:
        tta: of which views of each image the mean is taken, see melfast.data.views.
    Yields:
        A batch at a time, in order.
    Raises:
        ImageError: an image cannot be read or the model gives no probability for it, under
            `on_error="raise"`; under `skip` it is among the failures.
    """
    plan = evaluation_plan(len(paths), batch_size=batch_size)
    preprocess = engine.record.preprocess
    views = require_views(tta, preprocess)
    loader = NativeLoader(paths, preprocess, plan, threads=threads, on_error=on_error, dtype=np.uint8)
    with loader as batches, ThreadPoolExecutor(engine.in_flight, "melfast-engine") as pool:
        running: deque[tuple[NDArray[np.int64], dict[int, ImageError], Future[Outputs]]] = deque()
        for batch, records in zip(batches, plan.batches(), strict=True):
            # The loader names them in order, without their places.
            missing = np.setdiff1d(plan.index[records], batch.index)
            failures = dict(zip(missing.tolist(), batch.failures, strict=True))
            # The loader's memory is its own again with the next batch.
            images = batch.images if engine.in_flight == 1 else batch.images.copy()
            future = pool.submit(_mean_over_views, engine, images, views)
            running.append((batch.index, failures, future))
            if len(running) == engine.in_flight:
                yield _checked(*running.popleft(), paths, on_error)
        while running:
            yield _checked(*running.popleft(), paths, on_error)


def _checked(
    index: NDArray[np.int64],
    failures: dict[int, ImageError],
    future: "Future[Outputs]",
    paths: Sequence[str | Path],
    on_error: OnError,
) -> Answers:
    """The answers that are probabilities; images with others are failures."""
    probability, logits = future.result()
    good = (probability >= -SLACK) & (probability <= 1 + SLACK)  # not so is NaN
    for row in np.flatnonzero(~good):
        place = int(index[row])
        reason = f"the model's probability is {probability[row]}, wanted 0 to 1"
        failures[place] = ImageError(paths[place], reason)
        if on_error == "raise":
            raise failures[place]
    return Answers(index[good], probability[good], logits[good], failures)


def _mean_over_views(engine: Engine, images: NDArray[np.uint8], views: Sequence[View]) -> Outputs:
    if not len(images):
        return np.empty(0, np.float32), np.empty((0, engine.record.num_logits), np.float32)
    answers = [engine.run(np.ascontiguousarray(viewed(images, view))) for view in views]
    probability, logits = (np.mean(part, axis=0) for part in zip(*answers, strict=True))
    return probability, logits


class Predictor:
    """An exported model as a function of images.

        predict = Predictor("model.onnx")
        predict(["a.jpg", "b.png"])     # float32 [2], P(malignant)

    Attributes:
        record: what the model is, its classes and its threshold among it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        backend: Backend = "auto",
        threads: int | None = None,
        input_size: tuple[int, int] | None = None,
        colour: ColourSpace | None = None,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        output: Output | None = None,
    ) -> None:
        """Takes what `open_engine` takes."""
        self.engine = open_engine(
            model, backend, threads=threads, input_size=input_size, colour=colour, mean=mean, std=std, output=output
        )
        self.record, self.threads = self.engine.record, threads

    def __call__(
        self, images: Sequence[str | Path] | Sequence[NDArray[np.uint8]], *, batch_size: int = 32, tta: Tta = "none"
    ) -> NDArray[np.float32]:
        """P(malignant) of each image, float32 [N].

        Args:
            images: all file names, or all uint8 sRGB arrays [H, W, 3] of any size, upright.
            tta: of which views of each image the mean is taken, see melfast.data.views.
        Raises:
            ImageError: a file cannot be read.
            TypeError, ValueError: an array is no such image.
        """
        if isinstance(images, str | Path):
            raise TypeError(f"images must be a sequence of files, got {images!r}; wanted [...]")
        pieces = [np.empty(0, np.float32)]
        if all(isinstance(image, str | Path) for image in images):
            files = predictions(
                self.engine,
                images,  # type: ignore[arg-type]
                batch_size=batch_size,
                threads=self.threads,
                tta=tta,
            )
            pieces += [answers.probability for answers in files]
        else:
            for first in range(0, len(images), batch_size):
                batch = self._resized(images[first : first + batch_size])  # type: ignore[arg-type]
                views = require_views(tta, self.record.preprocess)
                pieces.append(_mean_over_views(self.engine, batch, views)[0])
        return np.concatenate(pieces)

    def _resized(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        size = self.record.preprocess
        batch = np.empty((len(images), size.height, size.width, 3), np.uint8)
        for image, out in zip(images, batch, strict=True):
            core.resize(image, out)
        return batch
