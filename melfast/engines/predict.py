"""Images to predictions.csv with an exported model; the model file and the images are enough."""

import csv
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.data.loader import OnError
from melfast.data.native import NativeLoader
from melfast.data.plan import evaluation_plan
from melfast.engines.backends import Backend, open_engine
from melfast.engines.base import Engine
from melfast.errors import ImageError, InputError
from melfast.files import atomic_path
from melfast.images import IMAGE_SUFFIXES, list_images
from melfast.models.record import ModelRecord
from melfast.views import Tta, View, require_views, viewed

COLUMNS = ("image_name", "target", "probability")
FAILED_COLUMNS = ("image_name", "path", "reason")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class ImageFiles:
    """Image files and what they are called.

    Attributes:
        paths: sorted.
        root: the folder that all lie under.
        by_stem: each file's stem is its own; else names are paths relative to `root`.
    """

    paths: Sequence[Path]
    root: Path
    by_stem: bool

    def name(self, path: str | Path) -> str:
        """The image_name of one of the files; no two have the same."""
        return Path(path).stem if self.by_stem else Path(path).relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Summary:
    """What became of the images of a `write_predictions`.

    Attributes:
        predicted: rows of the table; `malignant` of them with a probability >= the threshold.
        failures: images that could not be read.
        failed_path: the table that lists them; None where there are none.
    """

    predicted: int
    malignant: int
    failures: tuple[ImageError, ...]
    failed_path: Path | None


def find_images(images: str) -> ImageFiles:
    """The images of a folder (recursively), one file, or what a glob pattern matches.

    Raises:
        InputError: there are none.
    """
    path = Path(images)
    if os.path.isdir(images):  # not path.is_dir(): '' would be the current folder
        paths, root = list_images(path), path
    elif path.is_file():
        paths, root = [path], path.parent
    elif glob.has_magic(images):
        found = glob.iglob(images, recursive=True)
        paths = sorted(Path(f) for f in found if f.lower().endswith(IMAGE_SUFFIXES))
        if not paths:
            raise InputError(f"{images}: matches no {', '.join(IMAGE_SUFFIXES)} file")
        root = Path(os.path.commonpath([file.parent for file in paths]))
    else:
        raise InputError(f"{images or repr(images)}: no such file or folder of images")
    return ImageFiles(paths, root, by_stem=len({p.stem for p in paths}) == len(paths))


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
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], tuple[ImageError, ...]]]:
    """P(malignant) of image files, while the next ones are decoded.

    Args:
        tta: of which views of each image the mean is taken, see melfast.views.
    Yields:
        A batch at a time, in order: index into `paths` int64 [B], probability float32 [B], and
        the images of the batch that could not be read.
    Raises:
        ImageError: an image cannot be read, under `on_error="raise"`.
        InputError: the model gives no number for an image.
    """
    plan = evaluation_plan(len(paths), batch_size=batch_size)
    preprocess = engine.record.preprocess
    views = require_views(tta, preprocess)
    with NativeLoader(
        paths, preprocess, plan, threads=threads, on_error=on_error, dtype=np.uint8
    ) as batches:
        for batch in batches:
            probability = np.empty(0, np.float32)
            if len(batch.index):
                probability = _mean_over_views(engine, batch.images, views)
            for row in np.flatnonzero(~np.isfinite(probability)):
                path = paths[batch.index[row]]
                raise InputError(f"{path}: the model's probability is {probability[row]}")
            yield batch.index, probability, batch.failures


def _mean_over_views(
    engine: Engine, images: NDArray[np.uint8], views: Sequence[View]
) -> NDArray[np.float32]:
    asked = (np.ascontiguousarray(viewed(images, view)) for view in views)
    mean: NDArray[np.float32] = np.mean([engine.run(each)[0] for each in asked], axis=0)
    return mean


class Predictor:
    """An exported model as a function of images.

        predict = Predictor("model.onnx")
        predict(["a.jpg", "b.png"])     # float32 [2], P(malignant)

    Attributes:
        record: what the model is, its classes and its threshold among it.
    """

    def __init__(
        self, model: str | Path, *, backend: Backend = "auto", threads: int | None = None
    ) -> None:
        """Takes what `open_engine` takes."""
        self.engine = open_engine(model, backend, threads=threads)
        self.record, self.threads = self.engine.record, threads

    def __call__(
        self, images: Sequence[str | Path] | Sequence[NDArray[np.uint8]], *, batch_size: int = 32,
        tta: Tta = "none",
    ) -> NDArray[np.float32]:  # fmt: skip
        """P(malignant) of each image, float32 [N].

        Args:
            images: all file names, or all uint8 sRGB arrays [H, W, 3] of any size, upright.
            tta: of which views of each image the mean is taken, see melfast.views.
        Raises:
            ImageError: a file cannot be read.
            TypeError, ValueError: an array is no such image.
        """
        if isinstance(images, str | Path):
            raise TypeError(f"images must be a sequence of files, got {images!r}; wanted [...]")
        pieces = [np.empty(0, np.float32)]
        if all(isinstance(image, str | Path) for image in images):
            files = predictions(
                self.engine, images, batch_size=batch_size, threads=self.threads, tta=tta  # type: ignore[arg-type]
            )  # fmt: skip
            pieces += [probability for _, probability, _ in files]
        else:
            for first in range(0, len(images), batch_size):
                batch = self._resized(images[first : first + batch_size])  # type: ignore[arg-type]
                views = require_views(tta, self.record.preprocess)
                pieces.append(_mean_over_views(self.engine, batch, views))
        return np.concatenate(pieces)

    def _resized(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        size = self.record.preprocess
        batch = np.empty((len(images), size.height, size.width, 3), np.uint8)
        for image, out in zip(images, batch, strict=True):
            core.resize(image, out)
        return batch


def write_predictions(
    engine: Engine,
    files: ImageFiles,
    output: Path,
    *,
    threshold: float,
    batch_size: int = 32,
    threads: int | None = None,
    on_error: OnError = "skip",
    tta: Tta = "none",
    progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Writes the predictions of all files as CSV: image_name, target, probability.

    `target` is 1 where probability >= threshold; the probability has the digits that give back its
    float32. Images that cannot be read are listed beside the table, in NAME.failed.csv, which is
    there only if there are any.

    Args:
        progress: is told of each batch how many images it had.
    Raises:
        InputError: no image could be read, or a table cannot be written; none is left half-written.
        ImageError: an image cannot be read, under `on_error="raise"`.
    """
    failures: list[ImageError] = []
    predicted = malignant = 0
    with atomic_path(output) as temporary, open_csv(temporary) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for index, probability, failed in predictions(
            engine, files.paths, batch_size=batch_size, threads=threads, on_error=on_error, tta=tta
        ):
            # float64: the threshold is one, and rounding it to float32 could move it.
            called = probability.astype(np.float64) >= threshold
            names = (files.name(files.paths[i]) for i in index)
            writer.writerows(zip(names, called.astype(int), map(str, probability), strict=True))
            failures += failed
            predicted, malignant = predicted + len(index), malignant + int(called.sum())
            progress(len(index) + len(failed))
        failed_path = output.with_name(f"{output.stem}.failed.csv")
        _write_failures(failures, files, failed_path)
        if not predicted:
            raise InputError(
                f"none of {len(files.paths):,} images could be read, see {failed_path}; "
                f"the first: {failures[0]}"
            )
    return Summary(predicted, malignant, tuple(failures), failed_path if failures else None)


def _write_failures(failures: Sequence[ImageError], files: ImageFiles, path: Path) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open_csv(temporary) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FAILED_COLUMNS)
        writer.writerows((files.name(error.path), error.path, error.reason) for error in failures)


def open_csv(path: Path) -> TextIO:
    # surrogateescape: a file name that is not UTF-8 comes out as the bytes that it is.
    return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")
