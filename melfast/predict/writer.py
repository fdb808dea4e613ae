"""Writer: predictions of many images to a table, with what else is asked for of each image."""

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
from melfast.predict.predictor import Answers, group_index, predictions
from melfast.predict.sources import ImageFiles

if TYPE_CHECKING:
    from melfast.predict.overlay import Look

DEFAULT = InferenceSettings(batch_size=32, on_error="skip")
COLUMNS = ("image_name", "prediction", "probability")
SUBMISSION_COLUMNS = ("image_name", "target")  # the published form: the call alone, named as the truth is
TONE_COLUMNS = ("ita", "ita_quality", "group")
FAILED_COLUMNS = ("image_name", "path", "reason")
Row = list[object]
P = ParamSpec("P")


@dataclass(frozen=True)
class Wanted:
    """What a table holds, and what is made beside it.

    Attributes:
        threshold: P(malignant) at or above which `prediction` is 1.
        group_thresholds: the same for images of a tone group, by name.
        logits: columns `logit_0` ..., the network's outputs.
        groups: columns `probability_GROUP`, see `group_probabilities` of melfast.models.heads.
        ita: columns `ita` (degrees), `ita_quality`, `group`, as of `melfast prepare ita`; where ImageFiles
            names a group of the model, that one.
        overlay: folder for pictures with the outline of the lesion and what was found; None: none.
        threshold_source: in words, for the JSON beside the table.
        submission: the published form, SUBMISSION_COLUMNS and nothing else.
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
    """What became of the images of a `write_predictions`.

    Attributes:
        predicted: rows of the table; `malignant` of them with `prediction` 1.
        failures: images that have no row, and why.
        failed_path: the table that lists them; None where there are none.
        resumed: rows that an earlier run had left.
        unknown_groups: of the others, images without a tone group for a model that uses it.
        engines: of a cluster, what made the rows; `rows` and the fields of EngineInfo.
    """

    predicted: int
    malignant: int
    failures: tuple[ImageError, ...]
    failed_path: Path | None
    resumed: int = 0
    unknown_groups: int = 0
    engines: tuple[dict[str, Any], ...] = ()


class NothingReadError(InputError):
    """None of the images has a row; the list of failures is written."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with what is kept: `rows` in `path`."""

    def __init__(self, rows: int, path: Path) -> None:
        super().__init__()
        self.rows, self.path = rows, path


def header_of(record: ModelRecord, wanted: Wanted) -> list[str]:
    """The columns of the table.

    Raises:
        InputError: the model has no groups to tell apart.
    """
    header = list(SUBMISSION_COLUMNS if wanted.submission else COLUMNS)
    if wanted.submission and (wanted.logits or wanted.groups or wanted.ita):
        raise InputError("--format submission: holds image_name and target alone; drop the --with- options")
    if wanted.logits:
        header += [f"logit_{i}" for i in range(record.num_logits)]
    if wanted.groups:
        if not record.by_group:
            raise InputError("`with_groups`: the model's head is plain, which knows no tone groups")
        header += [f"probability_{name.replace(' ', '_')}" for name in record.groups]
    return header + list(TONE_COLUMNS if wanted.ita else ())


@check_words
def settings_of(origin: str, record: ModelRecord, wanted: Wanted, tta: Tta) -> dict[str, Any]:
    """What decides which rows go together in a table; not so what runs the model.

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
    """No other process writes the table (the third argument) meanwhile."""

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
    wanted: Wanted,
    settings: InferenceSettings = DEFAULT,
    *,
    resume: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Writes the predictions of all files: image_name, prediction, probability and what is wanted.

    The table is CSV, or Parquet where its name ends so. The probability has the digits that give
    back its float32. Images that cannot be read, or that the model gives no probability for, are
    listed beside the table, in NAME.failed.csv, which is there only if there are any; NAME.json
    says how the table was made. Rows are kept in OUTPUT.partial while they come; stopped half-way,
    it stays, and `resume` goes on from it.

    Args:
        settings: see `predictions`.
        resume: keep the rows that an earlier run with the same settings has left, and do the rest;
            the engine may be another one of the same model. Without it such rows are refused.
        progress: is told of each batch how many images it had.
    Raises:
        NothingReadError: no image has a row.
        InputError: a table cannot be written, another process writes it, or a file beside it is not
            melfast's; none is left half-written.
        ImageError: an image has no row, under `on_error="raise"`.
        Stopped: Ctrl-C, where there are rows to keep. Other errors have a note on them then.
    """
    require_apart(output, files, engine)
    require_own(output)
    if wanted.overlay is not None:
        require_overlay_apart(wanted.overlay, files)
        # Without a lock: the workers of a cluster draw into one folder.
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
            Observer(engine.record, wanted, todo, settings) as observer,
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
    """However a run ends early: where rows are kept, the user hears of them."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished.count:
            raise Stopped(unfinished.count, unfinished.path) from None
        raise
    except Exception as error:
        if unfinished.count:
            kept = f"{unfinished.path} keeps {unfinished.count:,} rows"
            error.add_note(f"{kept}; the same command with `resume=True` goes on")
        raise


class Observer:
    """Rows of the table; looks at the images themselves, in threads, where tone or pictures are
    wanted, while the model is at the next batch."""

    def __init__(self, record: ModelRecord, wanted: Wanted, files: ImageFiles, settings: InferenceSettings) -> None:
        self.record, self.wanted, self.files, self.on_error = record, wanted, files, settings.on_error
        self.looking = wanted.ita or wanted.overlay is not None
        self.stated = group_index(files.groups or [""] * len(files), record.groups)
        self.seen: dict[int, Future[Look]] = {}
        self.unknown: set[int] = set()  # places
        self.pool = ThreadPoolExecutor(settings.threads or available_cores(), "melfast-look")

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def groups_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tone group of images as the table states it, else, with `wanted.ita`, as the image shows it."""
        groups = self.stated[places]
        if self.wanted.ita:
            unknown = np.flatnonzero(groups < 0)
            for place in places[unknown].tolist():
                if place not in self.seen:  # views ask again
                    self.seen[place] = self.pool.submit(self._look, place)
            groups[unknown] = group_index([self._group_seen(p) for p in places[unknown].tolist()], self.record.groups)
        return groups

    def _look(self, place: int) -> "Look":
        from melfast.predict.overlay import look_at

        return look_at(Path(self.files.paths[place]), self.record.groups)

    def _group_seen(self, place: int) -> str:
        try:
            return self.seen[place].result().group
        except ImageError:  # which `row` raises again
            return ""

    def rows(self, batches: Iterator[Answers]) -> Iterator[tuple[list[Row], dict[int, ImageError]]]:
        """Each batch's rows, and its failures by place in the list of files, in order."""
        waiting: deque[tuple[Answers, list[Callable[[], Row]]]] = deque()
        for answers in batches:
            make: list[Callable[[], Row]] = [partial(self.row, answers, i) for i in range(len(answers.index))]
            if self.looking:
                make = [self.pool.submit(each).result for each in make]
            waiting.append((answers, make))
            if not self.looking or len(waiting) > 1:
                yield self._made(*waiting.popleft())
        while waiting:
            yield self._made(*waiting.popleft())

    def _made(self, answers: Answers, make: list[Callable[[], Row]]) -> tuple[list[Row], dict[int, ImageError]]:
        rows, failures = [], dict(answers.failures)
        for place, row in zip(answers.index.tolist(), make, strict=True):
            try:
                rows.append(row())
            except ImageError as error:  # the file has gone since it was decoded, or the like
                if self.on_error == "raise":
                    raise
                failures[place] = error
        return rows, dict(sorted(failures.items()))

    def row(self, answers: Answers, i: int) -> Row:
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
        # float64: the threshold is one, and rounding it to float32 could move it.
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
    import torch  # seconds of a start that most tables do not need

    from melfast.models.heads import head_of

    return head_of(record).group_probabilities(torch.from_numpy(logits_bk)).float().numpy()


def require_own(output: Path) -> None:
    """Raises InputError where what stands beside the table was not written by melfast."""
    require_own_table(failed_path(output), FAILED_COLUMNS)
    about = about_path(output)
    if about.exists() and not read_about(about):
        raise InputError(f"{about}: is there already and is not melfast's; move it, or choose another output")


def _number(value: np.float32) -> str:
    return "" if np.isnan(value) else str(value)


def _write_failures(failures: Mapping[int, ImageError], files: ImageFiles, path: Path) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_rows(
        path,
        FAILED_COLUMNS,
        # Absolute: the list may be read as a table of images, whose paths are relative to it.
        ((files.names[place], os.path.abspath(files.paths[place]), error.reason) for place, error in failures.items()),
    )
