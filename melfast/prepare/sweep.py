"""Sweep: apply a function to every image of a manifest, in threads; bad images are listed."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from melfast.data.manifest import Manifest
from melfast.io.errors import ImageError
from melfast.io.files import atomic_path
from melfast.io.journal import Journal
from melfast.io.log import Progress
from melfast.io.tables import write_csv
from melfast.prepare.picture import Picture, open_picture

Result = dict[str, Any]
# image_name, path and reason of an image that cannot be used.
Bad = tuple[str, str, str]
BAD_COLUMNS = ("image_name", "path", "reason")
# From a stage and its number of steps, makes a function to call after each step.
Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def no_bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A Bar that shows nothing."""
    yield lambda: None


def bar_of(progress: Progress) -> Bar:
    """A Bar that reports each step to `progress`."""

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[], None]]:
        steps = count(1)
        yield lambda: progress(what, next(steps), total)

    return bar


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep.

    Attributes:
        results: result of each row, None for a bad image.
        bad: the bad images, in the order of the rows.
        resumed: rows whose result came from the journal of an earlier, interrupted sweep.
    """

    results: list[Result | None]
    bad: list[Bad]
    resumed: int = 0


def sweep(
    manifest: Manifest,
    work: Callable[[int], Result],
    *,
    threads: int = 1,
    journal: Journal | None = None,
    still_good: Callable[[int, Result], bool] = lambda row, result: True,
    progress: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Calls work(row) for every row.

    Args:
        work: returns the result of a row, JSON values if there is a journal. An ImageError marks
            the row as bad, any other error ends the sweep. Runs in a thread.
        threads: number of rows processed at the same time.
        journal: stores the results, and provides those of an earlier run; bad images are always
            tried again.
        still_good: whether a result from the journal can still be used.
        progress: called after each row.
    Raises:
        InputError: a row has no path; the journal cannot be written.
    """
    names, paths = manifest.image_names, manifest.image_paths
    results: list[Result | None] = [None] * len(manifest)
    stamps = [stamp(path) for path in paths] if journal else []
    earlier = {entry["image"]: entry for entry in journal.read()[1]} if journal else {}
    kept = []
    for row, name in enumerate(names):
        entry = earlier.get(name)
        if entry and entry["stamp"] == stamps[row] and still_good(row, entry["result"]):
            results[row] = entry["result"]
            kept.append(entry)
            progress()
    todo = [row for row in range(len(names)) if results[row] is None]
    reasons: dict[int, str] = {}

    def attempt(row: int) -> Result | str:
        try:
            return work(row)
        except ImageError as error:
            return error.reason

    with journal.writing(kept) if journal else nullcontext():
        pool = ThreadPoolExecutor(threads)
        try:
            rows = {pool.submit(attempt, row): row for row in todo}
            # In the order of completion, so that a slow image does not delay storing the others.
            for done in as_completed(rows):
                row, found = rows[done], done.result()
                if isinstance(found, str):
                    reasons[row] = found
                else:
                    results[row] = found
                    if journal:
                        journal.add([{"image": names[row], "stamp": stamps[row], "result": found}])
                progress()
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images
    bad = [(names[row], str(paths[row]), reasons[row]) for row in sorted(reasons)]
    return SweepResult(results, bad, len(kept))


@dataclass(frozen=True)
class Step:
    """What a command does with each image of a manifest.

    Attributes:
        work: maps a row and its picture to the result of the row.
        still_good: whether a result from the journal can still be used.
    """

    work: Callable[[int, Picture], Result]
    still_good: Callable[[int, Result], bool] = lambda row, result: True


def run_step(
    manifest: Manifest,
    step: Step,
    *,
    threads: int = 1,
    journal: Journal | None = None,
    progress: Callable[[], None] = lambda: None,
) -> SweepResult:
    """A sweep that opens the picture of each row, with its mask if it has one; see `sweep`."""
    paths, masks = manifest.image_paths, manifest.mask_paths

    def work(row: int) -> Result:
        with open_picture(paths[row], masks[row]) as picture:
            return step.work(row, picture)

    return sweep(manifest, work, threads=threads, journal=journal, still_good=step.still_good, progress=progress)


def write_quarantine(bad: list[Bad], path: Path) -> None:
    """Writes image_name, path and reason of each bad image; only the header if there are none."""
    with atomic_path(path) as temporary:
        write_csv(temporary, BAD_COLUMNS, bad)


def stamp(path: Path) -> list[Any]:
    """Identifies the state of a file: its path, time and size."""
    try:
        status = os.stat(path)
    except OSError:  # `work` will report it
        return [str(path)]
    return [str(path.absolute()), status.st_mtime_ns, status.st_size]
