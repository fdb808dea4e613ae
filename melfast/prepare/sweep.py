"""Sweep: one function over every image of a manifest, in threads; bad images are put aside."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from melfast.data.manifest import Manifest
from melfast.io.errors import ImageError
from melfast.io.files import atomic_path
from melfast.io.tables import write_csv

Result = dict[str, Any]
# image_name, path and reason of an image that cannot be used.
Bad = tuple[str, str, str]


@dataclass(frozen=True)
class Swept:
    """What a sweep found.

    Attributes:
        results: of each row, None where its image is bad.
        bad: the bad images, in the order of the rows.
        resumed: rows whose result came from the journal of an earlier, interrupted sweep.
    """

    results: list[Result | None]
    bad: list[Bad]
    resumed: int = 0


class Journal:
    """Results of a sweep under way, one line of JSON an image, so that it can be taken up again.

    A file holds for one set of settings only, and a result for one state of its image: another
    modification time or size, and it is made anew.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self._settings = settings
        self._file: TextIO | None = None

    @classmethod
    def beside(cls, output: Path, command: str, settings: dict[str, Any]) -> "Journal":
        """The journal of the command that makes `output`, of this version of melfast."""
        path = output.with_name(f"{output.name}.{command}.partial")
        return cls(path, {"version": version("melfast")} | settings)

    def is_begun(self) -> bool:
        """Whether a sweep with these settings was interrupted, be it before its first result."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                return file.readline() == json.dumps({"settings": self._settings}) + "\n"
        except FileNotFoundError:
            return False

    def read(self) -> dict[str, tuple[list[Any], Result]]:
        """image_name: (stamp of the image, result); empty where the settings were others."""
        try:
            lines = self.path.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
                if number == 0:
                    if entry != {"settings": self._settings}:
                        return {}
                    continue
                found[entry["image"]] = (entry["stamp"], entry["result"])
            except (ValueError, KeyError, TypeError):
                break  # the run was stopped while it wrote this line
        return found

    @contextmanager
    def writing(self, kept: dict[str, tuple[list[Any], Result]]) -> Iterator[None]:
        """Begins the file anew with what is kept; `add` works inside."""
        with atomic_path(self.path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(json.dumps({"settings": self._settings}) + "\n")
            file.writelines(_line(name, *entry) for name, entry in kept.items())
        with open(self.path, "a", encoding="utf-8") as self._file:
            yield
        self._file = None

    def add(self, name: str, stamp: list[Any], result: Result) -> None:
        assert self._file is not None
        self._file.write(_line(name, stamp, result))
        self._file.flush()

    def remove(self) -> None:
        """When the results stand in a manifest."""
        self.path.unlink(missing_ok=True)


def sweep(
    manifest: Manifest,
    work: Callable[[int], Result],
    *,
    threads: int = 1,
    journal: Journal | None = None,
    still_good: Callable[[int, Result], bool] = lambda row, result: True,
    progress: Callable[[], None] = lambda: None,
) -> Swept:
    """Calls work(row) for every row.

    Args:
        work: makes the result of a row, which JSON can hold if there is a journal; ImageError is
            the row's own trouble, any other error ends the sweep. Runs in a thread.
        threads: rows at a time.
        journal: where results are kept, and found again; bad images are always tried again.
        still_good: whether a result found in the journal can be taken as it is.
        progress: called as each row is done.
    Raises:
        InputError: a row has no path; the journal cannot be written.
    """
    names, paths = manifest.image_names, manifest.image_paths
    results: list[Result | None] = [None] * len(manifest)
    stamps = [stamp(path) for path in paths] if journal else []
    earlier = journal.read() if journal else {}
    kept = {}
    for row, name in enumerate(names):
        state, result = earlier.get(name, (None, None))
        if result is not None and state == stamps[row] and still_good(row, result):
            results[row], kept[name] = result, earlier[name]
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
            # As they are done: one slow image holds back nothing that is kept.
            for done in as_completed(rows):
                row, found = rows[done], done.result()
                if isinstance(found, str):
                    reasons[row] = found
                else:
                    results[row] = found
                    if journal:
                        journal.add(names[row], stamps[row], found)
                progress()
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images
    bad = [(names[row], str(paths[row]), reasons[row]) for row in sorted(reasons)]
    return Swept(results, bad, len(kept))


def write_quarantine(bad: list[Bad], path: Path) -> None:
    """Writes image_name, path and reason of each bad image; the header alone if there are none."""
    with atomic_path(path) as temporary:
        write_csv(temporary, ("image_name", "path", "reason"), bad)


def _line(name: str, stamp: list[Any], result: Result) -> str:
    return json.dumps({"image": name, "stamp": stamp, "result": result}) + "\n"


def stamp(path: Path) -> list[Any]:
    """What tells one state of a file from another: where it is, its time and size."""
    try:
        status = os.stat(path)
    except OSError:  # the work will say so
        return [str(path)]
    return [str(path.absolute()), status.st_mtime_ns, status.st_size]
