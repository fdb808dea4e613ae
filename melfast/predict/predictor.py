"""Predictions of images with an exported model; the model file and the images are enough."""

import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.loader import OnError
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import ColourSpace
from melfast.data.views import Tta, View, require_views, viewed
from melfast.engines.backends import Backend, open_engine
from melfast.engines.base import Engine
from melfast.engines.foreign import SLACK, Numbers, Output
from melfast.io.errors import ImageError, InputError
from melfast.io.memory import Source
from melfast.io.pictures import Picture, sources
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
            raise InputError(f"`threshold` must be in 0..1, got {wanted:g}")
        return wanted, "as asked for"
    if record.threshold is None:
        return DEFAULT_THRESHOLD, "the model has none"
    return record.threshold, f"the model's, by {record.threshold_rule or 'an unnamed rule'}"


def predictions(
    engine: Engine,
    paths: Sequence[Source],
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
    paths: Sequence[Source],
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
    """An exported model, or a run, as a function of images; threads may share it.

        predict = Predictor("model.onnx")
        predict("a.jpg")                                 # 0.83, P(malignant)
        predict(["a.jpg", "b.png"]) >= predict.threshold # float32 [2] to calls

    Pickled, it is the path of its file and its options: the process that unpickles it opens the file.
    A forked process opens the file again too, since the threads of an engine do not live on in it.

    Attributes:
        record: what the model is, its classes and its threshold among it.
        info: what runs it.
        threads: as given.
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
        model_output: Output | None = None,
    ) -> None:
        """Takes what `open_engine` takes."""
        self._path = Path(model).absolute()
        self._options: dict[str, Any] = {
            "backend": backend,
            "threads": threads,
            "input_size": input_size,
            "colour": colour,
            "mean": mean,
            "std": std,
            "model_output": model_output,
        }
        self._lock = threading.Lock()
        self._engine: Engine | None = open_engine(self._path, **self._options)
        self.record, self.info, self.threads = self._engine.record, self._engine.info, threads
        _OPEN.add(self)

    @property
    def engine(self) -> Engine:
        """What runs the model in this process."""
        with self._lock:
            if self._engine is None:  # forked
                # Parallel loops of GNU OpenMP wait for threads that did not live on, unless there are none.
                threads = 1 if self.info.backend == "torch" else self.threads
                self._engine = open_engine(self._path, **self._options | {"threads": threads})
            return self._engine

    def _forget(self) -> None:
        """In a forked process: its engine waits for threads that are not there, and so would its end."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        self._engine, self._lock = None, threading.Lock()

    @property
    def threshold(self) -> float:
        """P(malignant) from which on an image is called malignant: the model's, or 0.5 where it has none."""
        return choose_threshold(self.record, None)[0]

    def __call__(
        self, images: Picture | Iterable[Picture], *, batch_size: int = 32, tta: Tta = "none"
    ) -> NDArray[np.float32] | np.float32:
        """P(malignant) of each image, all read as `melfast predict` reads files.

        Args:
            images: one or several: paths, bytes of a JPEG or PNG, open files, PIL images, uint8 sRGB
                arrays [H, W, 3] or tensors [3, H, W] of any size, upright; a folder stands for its
                images, sorted.
            tta: of which views of each image the mean is taken, see melfast.data.views.
        Returns:
            float32 [N]; of one image a float32.
        Raises:
            ImageError: an image cannot be read.
            TypeError, ValueError: not an image.
        """
        found, single = sources(images)
        batches = predictions(self.engine, found, batch_size=batch_size, threads=self.threads, tta=tta)
        probability = np.concatenate([np.empty(0, np.float32), *(batch.probability for batch in batches)])
        return probability[0] if single else probability

    def __repr__(self) -> str:
        size, info = self.record.preprocess, self.info
        return (
            f"Predictor({self._path.name!r}: {self.record.backbone}, {size.width}x{size.height} {size.colour}, "
            f"threshold {self.threshold:.6g}, {info.backend} on {info.provider})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (str(self._path), self._options)


def _unpickled(model: str, options: dict[str, Any]) -> Predictor:
    return Predictor(model, **options)


_OPEN: "weakref.WeakSet[Predictor]" = weakref.WeakSet()


def _forget_engines() -> None:
    for predictor in _OPEN:
        predictor._forget()


os.register_at_fork(after_in_child=_forget_engines)
