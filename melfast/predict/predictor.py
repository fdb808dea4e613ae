"""Predictions of images with an exported model; the model file and the images are enough."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.batch import Batch
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.data.preprocess import ColourSpace
from melfast.data.views import Tta, require_views
from melfast.engines.backends import Backend, open_engine
from melfast.engines.base import Engine, Outputs
from melfast.engines.foreign import Numbers, Output
from melfast.io.errors import ImageError, InputError
from melfast.io.words import check_words, require_word
from melfast.models.record import ModelRecord
from melfast.models.running import Ask, InferenceSettings, run_batches, take_usable

DEFAULT_THRESHOLD = 0.5
DEFAULT = InferenceSettings(batch_size=32)
GroupsOf = Callable[[NDArray[np.int64]], NDArray[np.int64]]


LOG = logging.getLogger("melfast")


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


def group_index(names: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Place of each name in `groups`, -1 where it is none of them."""
    place = {name: i for i, name in enumerate(groups)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def unknown_groups(count: int, total: int, record: ModelRecord) -> str:
    """What it means that images have no tone group, in words, for a model that uses it."""
    given = ["the mean over the groups"] * record.takes_group
    given += ["the threshold of all images"] * bool(record.group_thresholds)
    return (
        f"the tone group of {count:,} of {total:,} images is unknown, and the model uses it: "
        f"they get {' and '.join(given)}"
    )


def predictions(
    engine: Engine,
    paths: Sequence[str | Path],
    settings: InferenceSettings = DEFAULT,
    groups_of: GroupsOf | None = None,
) -> Iterator[Answers]:
    """A model's answers for image files, while the next ones are decoded, and where the engine is
    faster so (`in_flight`) while those before are still at work.

    Args:
        settings: of these batch_size, threads, on_error and tta count; the rest is the engine's.
        groups_of: tone group of each of some places in `paths`, by its index in the record's groups, -1
            unknown; None: all unknown. Asked where `record.takes_group`.
    Yields:
        A batch at a time, in order.
    Raises:
        ImageError: an image cannot be read or the model gives no probability for it, under
            `on_error="raise"`; under `skip` it is among the failures.
    """
    plan = evaluation_plan(len(paths), batch_size=settings.batch_size)
    preprocess, on_error = engine.record.preprocess, settings.on_error
    views = require_views(settings.tta, preprocess)
    loader = NativeLoader(paths, preprocess, plan, threads=settings.threads or None, on_error=on_error, dtype=np.uint8)
    with loader as batches:
        pixels = ((batch.images, batch) for batch in batches)
        found = run_batches(pixels, ask_of(engine, groups_of), views, in_flight=engine.in_flight)
        for (batch, by_view), records in zip(found, plan.batches(), strict=True):
            # The loader names them in order, without their places.
            missing = np.setdiff1d(plan.index[records], batch.index)
            failures = dict(zip(missing.tolist(), batch.failures, strict=True))
            probability, logits = mean_over_views(by_view, engine)
            files = [paths[i] for i in batch.index]
            good, wrong = take_usable(probability, files, on_error, (0.0, 1.0))
            failures |= {int(batch.index[row]): failure for row, failure in wrong.items()}
            yield Answers(batch.index[good], probability[good], logits[good], failures)


def ask_of(engine: Engine, groups_of: GroupsOf | None = None) -> Ask:
    """An engine as a model for `run_batches`."""
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
    """An exported model as a function of images.

        predict = Predictor("model.onnx")
        predict(["a.jpg", "b.png"])     # float32 [2], P(malignant)

    Attributes:
        record: what the model is, its classes and its threshold among it.
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
        output: Output | None = None,
    ) -> None:
        """Takes what `open_engine` takes."""
        self.engine = open_engine(
            model, backend, threads=threads, input_size=input_size, colour=colour, mean=mean, std=std, output=output
        )
        self.record, self.threads = self.engine.record, threads

    def __call__(
        self,
        images: Sequence[str | Path] | Sequence[NDArray[np.uint8]],
        *,
        groups: Sequence[str | None] | None = None,
        batch_size: int = 32,
        tta: Tta = "none",
    ) -> NDArray[np.float32]:
        """P(malignant) of each image, float32 [N].

        Args:
            images: all file names, or all uint8 sRGB arrays [H, W, 3] of any size, upright.
            groups: name of each image's tone group, '' or None unknown; for models that take it
                (`record.takes_group`), which warn where it is not known.
            tta: of which views of each image the mean is taken, see melfast.data.views.
        Raises:
            ImageError: a file cannot be read.
            InputError: a group is none of the model's.
            TypeError, ValueError: an array is no such image.
        """
        if isinstance(images, str | Path):
            raise TypeError(f"images must be a sequence of files, got {images!r}; wanted [...]")
        groups_of = self._groups_of(groups, len(images))
        pieces = [np.empty(0, np.float32)]
        if all(isinstance(image, str | Path) for image in images):
            settings = InferenceSettings(threads=self.threads or 0, batch_size=batch_size, tta=tta)
            files = predictions(self.engine, images, settings, groups_of)  # type: ignore[arg-type]
            pieces += [answers.probability for answers in files]
        else:
            for first in range(0, len(images), batch_size):
                batch = self._resized(images[first : first + batch_size])  # type: ignore[arg-type]
                index = np.arange(first, first + len(batch))
                views = require_views(tta, self.record.preprocess)
                ((_, by_view),) = run_batches([(batch, Batch(batch, index))], ask_of(self.engine, groups_of), views)
                pieces.append(mean_over_views(by_view, self.engine)[0])
        return np.concatenate(pieces)

    def _groups_of(self, groups: Sequence[str | None] | None, count: int) -> GroupsOf:
        if groups is not None and len(groups) != count:
            raise InputError(f"groups: got {len(groups)} for {count} images")
        names = [name or "" for name in groups or [""] * count]
        if self.record.takes_group:
            for name in set(names) - {""}:
                require_word("groups", name, self.record.groups)
            if unknown := names.count(""):
                LOG.warning("%s", unknown_groups(unknown, count, self.record))
        index = group_index(names, self.record.groups)
        return lambda places: index[places]

    def _resized(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        size = self.record.preprocess
        batch = np.empty((len(images), size.height, size.width, 3), np.uint8)
        for image, out in zip(images, batch, strict=True):
            core.resize(image, out)
        return batch
