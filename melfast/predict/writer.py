"""Writer: write predictions of many images to a table, with optional columns and pictures."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

import melfast
from melfast.data.loader import available_cores
from melfast.data.views import Tta
from melfast.engines.base import Engine
from melfast.io.errors import ImageError, InputError
from melfast.io.files import OwnFolder, locked, require_own_table, require_writable
from melfast.io.words import check_words
from melfast.models.record import ModelRecord
from melfast.models.running import InferenceSettings
from melfast.predict.outputs import about_path, failed_path, overlay_path, require_apart, require_overlay_apart
from melfast.predict.partial import Partial, read_about, write_rows
from melfast.predict.predictor import BatchPredictions, group_index, predictions
from melfast.predict.sources import ImageFiles

if TYPE_CHECKING:
    from melfast.predict.overlay import Inspection

DEFAULT = InferenceSettings(batch_size=32, on_error="skip")
COLUMNS = ("image_name", "prediction", "probability")
SUBMISSION_COLUMNS = ("image_name", "target")  # the published form: only the call, under the name of the truth
TONE_COLUMNS = ("ita", "ita_quality", "group")
FAILED_COLUMNS = ("image_name", "path", "reason")
Row = list[object]
P = ParamSpec("P")


@dataclass(frozen=True)
class TableOptions:
    """The columns of a table, and what else is written.

    Attributes:
        threshold: P(malignant) at or above which `prediction` is 1.
        group_thresholds: the same for images of a tone group, by name.
        logits: write columns `logit_0` ..., the outputs of the network.
        groups: write columns `probability_GROUP`, see `group_probabilities` of melfast.models.heads.
        ita: write columns `ita` (degrees), `ita_quality`, `group` like `melfast prepare ita`; a group of
            the model stated in ImageFiles takes precedence.
        overlay: folder for pictures with the outline of the lesion and the results; None: none.
        threshold_source: where the threshold comes from, for the JSON next to the table.
        submission: write the published form, only SUBMISSION_COLUMNS.
    """

    threshold: float
    group_thresholds: Mapping[str, float] = field(default_factory=dict)
    logits: bool = False
    groups: bool = False
    ita: bool = False
    overlay: Path | None = None
    threshold_source: str = ""
    submission: bool = False


@dataclass(frozen=True)
class Summary:
    """Result of `write_predictions`.

    Attributes:
        predicted: number of rows in the table; `malignant` of them have `prediction` 1.
        failures: images without a row, and why.
        failed_path: the table that lists them; None if there are none.
        resumed: rows left by an earlier run.
        unknown_groups: new rows whose image has no tone group although the model uses it.
        engines: on a cluster, the engines that made the rows: `rows` and the fields of EngineInfo.
    """

    predicted: int
    malignant: int
    failures: tuple[ImageError, ...]
    failed_path: Path | None
    resumed: int = 0
    unknown_groups: int = 0
    engines: tuple[dict[str, Any], ...] = ()


class NothingReadError(InputError):
    """No image has a row; the list of failures is written."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C; `rows` rows are kept in `path`."""

    def __init__(self, rows: int, path: Path) -> None:
        super().__init__()
        self.rows, self.path = rows, path


def header_of(record: ModelRecord, wanted: TableOptions) -> list[str]:
    """The columns of the table.

    Raises:
        InputError: the model has no group outputs.
    """
    header = list(SUBMISSION_COLUMNS if wanted.submission else COLUMNS)
    if wanted.submission and (wanted.logits or wanted.groups or wanted.ita):
        raise InputError("--format submission: holds only image_name and target; drop the --with- options")
    if wanted.logits:
        header += [f"logit_{i}" for i in range(record.num_logits)]
    if wanted.groups:
        if not record.by_group:
            raise InputError("`with_groups`: the model's head is plain, which knows no tone groups")
        header += [f"probability_{name.replace(' ', '_')}" for name in record.groups]
    return header + list(TONE_COLUMNS if wanted.ita else ())


@check_words
def settings_of(origin: str, record: ModelRecord, wanted: TableOptions, tta: Tta) -> dict[str, Any]:
    """The settings that rows in one table must share; the engine is not one of them.

    Args:
        origin: see EngineInfo.
    """
    return {
        "model": origin,
        "columns": header_of(record, wanted),
        "threshold": wanted.threshold,
        "group_thresholds": dict(wanted.group_thresholds),
        "tta": tta,
        "overlay": None if wanted.overlay is None else str(wanted.overlay.absolute()),
    }


def _alone(write: Callable[P, Summary]) -> Callable[P, Summary]:
    """Decorator: locks the table (the third argument) during the call."""

    @wraps(write)
    def locked_write(*args: P.args, **kwargs: P.kwargs) -> Summary:
        output = Path(str(kwargs.get("output", args[2] if len(args) > 2 else "")))
        require_writable(output)
        with locked(output):
            return write(*args, **kwargs)

    return locked_write


@_alone
def write_predictions(
    engine: Engine,
    files: ImageFiles,
    output: Path,
    wanted: TableOptions,
    settings: InferenceSettings = DEFAULT,
    *,
    resume: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Writes the predictions of all files: image_name, prediction, probability and the requested columns.

    The table is CSV, or Parquet if its name ends in .parquet. Probabilities are written so that their
    float32 can be recovered. Images that cannot be read or predicted are listed in NAME.failed.csv
    next to the table, which exists only if there are any; NAME.json describes how the table was made.
    Rows are kept in OUTPUT.partial as they come; if stopped, it stays, and `resume` continues from it.

    Args:
        settings: see `predictions`.
        resume: keep the rows left by an earlier run with the same settings, and do the rest; the engine
            may be a different one of the same model. Without it, existing rows are refused.
        progress: called with the number of images of each batch.
    Raises:
        NothingReadError: no image has a row.
        InputError: a table cannot be written, another process writes it, or a file next to it was not
            written by melfast; no file is left half-written.
        ImageError: an image has no row, under `on_error="raise"`.
        Stopped: Ctrl-C, if there are rows to keep. Other errors then have a note.
    """
    require_apart(output, files, engine)
    require_own(output)
    if wanted.overlay is not None:
        require_overlay_apart(wanted.overlay, files)
        # Without a lock, because the workers of a cluster draw into one folder.
        OwnFolder(wanted.overlay, "melfast predict --overlay").claim()
    made_with = settings_of(engine.info.origin, engine.record, wanted, settings.tta)
    paths = {n: os.path.abspath(p) for n, p in zip(files.names, files.paths, strict=True)}
    unfinished = Partial(output, made_with["columns"], made_with, paths)
    if not resume:
        unfinished.require_none()
    kept = unfinished.rows() if resume else []
    done = {row[0] for row in kept}
    todo = files.select(i for i, name in enumerate(files.names) if name not in done)
    malignant = sum(row[1] == "1" for row in kept)
    failures: dict[int, ImageError] = {}
    if len(files) > len(todo):
        progress(len(files) - len(todo))
    with _telling_what_is_kept(unfinished):
        with (
            unfinished.writing(kept, engine.info.identity()),
            RowMaker(engine.record, wanted, todo, settings) as observer,
        ):
            answered = predictions(engine, todo.paths, settings, observer.groups_of) if len(todo) else iter(())
            for rows, failed_rows in observer.rows(answered):
                unfinished.add(rows)
                malignant += sum(row[1] == 1 for row in rows)
                failures |= failed_rows
                progress(len(rows) + len(failed_rows))
        failed = failed_path(output)
        _write_failures(failures, todo, failed)
        if not unfinished.count:
            unfinished.journal.remove()
            raise NothingReadError(
                f"none of {len(files):,} images could be predicted, see {failed}; the first: "
                f"{next(iter(failures.values()))}"
            )
        unfinished.finish(
            {
                "melfast": melfast.__version__,
                "engine": engine.info.to_dict(),
                "threshold_source": wanted.threshold_source,
                "predicted": unfinished.count,
                "malignant": malignant,
                "failed": len(failures),
                "unknown_groups": len(observer.unknown),
            }
        )
    return Summary(
        unfinished.count,
        malignant,
        tuple(failures.values()),
        failed if failures else None,
        len(kept),
        len(observer.unknown),
    )


@contextmanager
def _telling_what_is_kept(unfinished: Partial) -> Iterator[None]:
    """Reports the kept rows whenever a run ends early."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished.count:
            raise Stopped(unfinished.count, unfinished.path) from None
        raise
    except Exception as error:
        if unfinished.count:
            kept = f"{unfinished.path} keeps {unfinished.count:,} rows"
            error.add_note(f"{kept}; the same command with `resume=True` continues")
        raise


class RowMaker:
    """Makes rows of the table; if tone or pictures are requested, analyses the images in threads while the
    model processes the next batch."""

    def __init__(
        self, record: ModelRecord, wanted: TableOptions, files: ImageFiles, settings: InferenceSettings
    ) -> None:
        self.record, self.wanted, self.files, self.on_error = record, wanted, files, settings.on_error
        self.looking = wanted.ita or wanted.overlay is not None
        self.stated = group_index(files.groups or [""] * len(files), record.groups)
        self.seen: dict[int, Future[Inspection]] = {}
        self.unknown: set[int] = set()  # places
        self.pool = ThreadPoolExecutor(settings.threads or available_cores(), "melfast-look")

    def __enter__(self) -> "RowMaker":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def groups_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tone group of images as stated in the table, otherwise, with `wanted.ita`, as estimated from the image."""
        groups = self.stated[places]
        if self.wanted.ita:
            unknown = np.flatnonzero(groups < 0)
            for place in places[unknown].tolist():
                if place not in self.seen:  # views ask again
                    self.seen[place] = self.pool.submit(self._look, place)
            groups[unknown] = group_index([self._group_seen(p) for p in places[unknown].tolist()], self.record.groups)
        return groups

    def _look(self, place: int) -> "Inspection":
        from melfast.predict.overlay import inspect_image

        return inspect_image(Path(self.files.paths[place]), self.record.groups)

    def _group_seen(self, place: int) -> str:
        try:
            return self.seen[place].result().group
        except ImageError:  # which `row` raises again
            return ""

    def rows(self, batches: Iterator[BatchPredictions]) -> Iterator[tuple[list[Row], dict[int, ImageError]]]:
        """Yields the rows of each batch in order, and its failures by index in the list of files."""
        waiting: deque[tuple[BatchPredictions, list[Callable[[], Row]]]] = deque()
        for answers in batches:
            make: list[Callable[[], Row]] = [partial(self.row, answers, i) for i in range(len(answers.index))]
            if self.looking:
                make = [self.pool.submit(each).result for each in make]
            waiting.append((answers, make))
            if not self.looking or len(waiting) > 1:
                yield self._made(*waiting.popleft())
        while waiting:
            yield self._made(*waiting.popleft())

    def _made(
        self, answers: BatchPredictions, make: list[Callable[[], Row]]
    ) -> tuple[list[Row], dict[int, ImageError]]:
        rows, failures = [], dict(answers.failures)
        for place, row in zip(answers.index.tolist(), make, strict=True):
            try:
                rows.append(row())
            except ImageError as error:  # for example, the file was removed after decoding
                if self.on_error == "raise":
                    raise
                failures[place] = error
        return rows, dict(sorted(failures.items()))

    def row(self, answers: BatchPredictions, i: int) -> Row:
        """The cells of one image of a batch."""
        place, probability = int(answers.index[i]), answers.probability[i]
        name, stated = self.files.names[place], int(self.stated[place])
        group = self.record.groups[stated] if stated >= 0 else ""
        tone: list[str] = []
        if self.looking:
            future = self.seen.pop(place, None)
            seen = future.result() if future else self._look(place)
            group = group or (seen.group if self.wanted.ita else "")
            tone = [*seen.cells[:2], group]
        if group not in self.record.groups and (self.record.takes_group or self.wanted.group_thresholds):
            self.unknown.add(place)
        threshold = self.wanted.group_thresholds.get(group, self.wanted.threshold)
        # float64 like the threshold, which rounding to float32 could move.
        call = int(float(probability) >= threshold)
        if self.wanted.overlay is not None:
            seen.draw(overlay_path(self.wanted.overlay, name), float(probability), bool(call))
        if self.wanted.submission:
            return [name, call]
        cells: list[object] = [name, call, str(probability)]
        logits = answers.logits[i : i + 1]
        if self.wanted.logits:
            cells += map(str, logits[0])
        if self.wanted.groups:
            cells += map(_number, group_probabilities(logits, self.record)[0])
        return cells + (tone if self.wanted.ita else [])


def group_probabilities(logits_bk: NDArray[np.float32], record: ModelRecord) -> NDArray[np.float32]:
    """P(malignant | group), float32 [B, G]; see melfast.models.heads."""
    import torch  # takes seconds to import, and most tables do not need it

    from melfast.models.heads import head_of

    return head_of(record).group_probabilities(torch.from_numpy(logits_bk)).float().numpy()


def require_own(output: Path) -> None:
    """Raises InputError if a file next to the table was not written by melfast."""
    require_own_table(failed_path(output), FAILED_COLUMNS)
    about = about_path(output)
    if about.exists() and not read_about(about):
        raise InputError(f"{about}: already exists and was not written by melfast; move it, or choose another output")


def _number(value: np.float32) -> str:
    return "" if np.isnan(value) else str(value)


def _write_failures(failures: Mapping[int, ImageError], files: ImageFiles, path: Path) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_rows(
        path,
        FAILED_COLUMNS,
        # Absolute, because the list may be read as a table of images, whose paths are relative to it.
        ((files.names[place], os.path.abspath(files.paths[place]), error.reason) for place, error in failures.items()),
    )
