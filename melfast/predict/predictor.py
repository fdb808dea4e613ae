"""Predict images with an exported model; only the model file and the images are needed."""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import ColourSpace
from melfast.data.views import Tta, require_views
from melfast.engines.backends import Backend, open_engine
from melfast.engines.base import Engine, Outputs
from melfast.engines.foreign import Numbers, OutputKind
from melfast.io.errors import ImageError, InputError
from melfast.io.log import logger
from melfast.io.memory import Source
from melfast.io.pictures import ImageLike, sources
from melfast.io.words import check_words, require_word
from melfast.models.record import DEFAULT_THRESHOLD, ModelRecord
from melfast.models.running import Ask, InferenceSettings, run_batches, take_usable

DEFAULT = InferenceSettings(batch_size=32)
GroupsOf = Callable[[NDArray[np.int64]], NDArray[np.int64]]


@dataclass(frozen=True)
class BatchPredictions:
    """Predictions for a batch.

    Attributes:
        index: int64 [B], index in the list of files.
        probability: float32 [B], P(malignant).
        logits: float32 [B, K]; the mean over several views.
        failures: for other images of the batch, why they failed, by index in the list of files.
    """

    index: NDArray[np.int64]
    probability: NDArray[np.float32]
    logits: NDArray[np.float32]
    failures: Mapping[int, ImageError]


def model_threshold(record: ModelRecord, wanted: float | None) -> tuple[float, str]:
    """The threshold on P(malignant) and, in words, where it comes from.

    Args:
        wanted: the user's threshold; None: the model's, or DEFAULT_THRESHOLD if it has none.
    Raises:
        InputError: it is outside 0..1.
    """
    if wanted is not None:
        if not 0.0 <= wanted <= 1.0:
            raise InputError(f"`threshold` must be in 0..1, got {wanted:g}")
        return wanted, "as requested"
    if record.threshold is None:
        return DEFAULT_THRESHOLD, "the model has none"
    return record.threshold, f"the model's, by {record.threshold_rule or 'an unnamed rule'}"


def group_index(names: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Index of each name in `groups`, -1 if it is not one of them."""
    place = {name: i for i, name in enumerate(groups)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def unknown_groups_note(count: int, total: int, record: ModelRecord) -> str:
    """A message on images without a tone group, for a model that uses it."""
    given = ["the mean over the groups"] * record.takes_group
    given += ["the threshold for all images"] * bool(record.group_thresholds)
    return (
        f"the tone group of {count:,} of {total:,} images is unknown, and the model uses it: "
        f"they get {' and '.join(given)}"
    )


def predictions(
    engine: Engine, paths: Sequence[Source], settings: InferenceSettings = DEFAULT, groups_of: GroupsOf | None = None
) -> Iterator[BatchPredictions]:
    """Predictions for image files, while the next ones are decoded and, if the engine is faster that
    way (`in_flight`), while earlier batches still run.

    Args:
        settings: batch_size, threads, on_error and tta are used; the engine has the rest.
        groups_of: returns the tone groups for some indices into `paths`, as indices into the groups of the
            record, -1 unknown; None: all unknown. Used if `record.takes_group`.
    Yields:
        One batch at a time, in order.
    Raises:
        ImageError: an image cannot be read or the model gives no probability for it, under
            `on_error="raise"`; under `skip` it is listed in the failures.
    """
    plan = evaluation_plan(len(paths), batch_size=settings.batch_size)
    preprocess, on_error = engine.record.preprocess, settings.on_error
    views = require_views(settings.tta, preprocess)
    loader = NativeLoader(paths, preprocess, plan, threads=settings.threads or None, on_error=on_error, dtype=np.uint8)
    with loader as batches:
        pixels = ((batch.images, batch) for batch in batches)
        found = run_batches(pixels, ask_of(engine, groups_of), views, in_flight=engine.in_flight)
        for (batch, by_view), records in zip(found, plan.batches(), strict=True):
            # The loader lists them in order, without their indices.
            missing = np.setdiff1d(plan.index[records], batch.index)
            failures = dict(zip(missing.tolist(), batch.failures, strict=True))
            probability, logits = mean_over_views(by_view, engine)
            files = [paths[i] for i in batch.index]
            good, wrong = take_usable(probability, files, on_error, (0.0, 1.0))
            failures |= {int(batch.index[row]): failure for row, failure in wrong.items()}
            yield BatchPredictions(batch.index[good], probability[good], logits[good], failures)


def ask_of(engine: Engine, groups_of: GroupsOf | None = None) -> Ask:
    """Wraps an engine as a model for `run_batches`."""
    takes = groups_of is not None and engine.record.takes_group

    def ask(images_bhw3: NDArray[np.uint8], index: NDArray[np.int64]) -> Outputs:
        return engine.run(np.ascontiguousarray(images_bhw3), groups_of(index) if takes and groups_of else None)

    return ask


def mean_over_views(by_view: Sequence[Outputs], engine: Engine) -> Outputs:
    if not by_view:  # a batch of unreadable images
        return np.empty(0, np.float32), np.empty((0, engine.record.num_logits), np.float32)
    probability, logits = (np.mean(part, axis=0) for part in zip(*by_view, strict=True))
    return probability, logits


class Predictor:
    """An exported model or a run as a function of images; threads may share it.

        predict = Predictor("model.onnx")
        predict("a.jpg")                                 # 0.83, P(malignant)
        predict(["a.jpg", "b.png"]) >= predict.threshold # bool [2], the calls

    A pickle contains only the path of the file and the options; the process that unpickles it opens the
    file. A forked process also opens the file again, since the threads of an engine do not survive a fork.

    Attributes:
        record: description of the model, including its classes and threshold.
        info: what runs it.
        threads: as given.
    """

    @check_words
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
        model_output: OutputKind | None = None,
    ) -> None:
        """Takes the arguments of `open_engine`."""
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
        """The engine in this process."""
        with self._lock:
            if self._engine is None:  # forked
                # Parallel loops of GNU OpenMP would wait for threads that did not survive the fork.
                threads = 1 if self.info.backend == "torch" else self.threads
                self._engine = open_engine(self._path, **self._options | {"threads": threads})
            return self._engine

    def _forget(self) -> None:
        """Drops the engine in a forked process, which would otherwise wait for missing threads when it ends."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        self._engine, self._lock = None, threading.Lock()

    @property
    def threshold(self) -> float:
        """An image is called malignant from this P(malignant) upwards: the model's threshold, or 0.5 without one."""
        return model_threshold(self.record, None)[0]

    def __call__(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        groups: Sequence[str | None] | None = None,
        batch_size: int = 32,
        tta: Tta = "none",
    ) -> NDArray[np.float32] | np.float32:
        """P(malignant) of each image, read like files by `melfast predict`.

        Args:
            images: one or several: paths, bytes of a JPEG or PNG, open files, PIL images, uint8 sRGB
                arrays [H, W, 3] or tensors [3, H, W] of any size, upright; a folder stands for its
                images, sorted.
            groups: name of the tone group of each image, '' or None unknown; for models that take it
                (`record.takes_group`), which warn if it is unknown.
            tta: the views of each image to average over, see melfast.data.views.
        Returns:
            float32 [N]; for one image a float32.
        Raises:
            ImageError: an image cannot be read.
            InputError: the model has no such group.
            TypeError, ValueError: not an image.
        """
        found, single = sources(images)
        settings = InferenceSettings(threads=self.threads or 0, batch_size=batch_size, tta=tta)
        batches = predictions(self.engine, found, settings, self._groups_of(groups, len(found)))
        probability = np.concatenate([np.empty(0, np.float32), *(batch.probability for batch in batches)])
        return probability[0] if single else probability

    def _groups_of(self, groups: Sequence[str | None] | None, count: int) -> GroupsOf:
        if groups is not None and len(groups) != count:
            raise InputError(f"groups: got {len(groups)} for {count} images")
        names = [name or "" for name in groups or [""] * count]
        if self.record.takes_group:
            for name in set(names) - {""}:
                require_word("groups", name, self.record.groups)
            if unknown := names.count(""):
                logger.warning(unknown_groups_note(unknown, count, self.record))
        index = group_index(names, self.record.groups)
        return lambda places: index[places]

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
