"""Output of the commands that process every image: a manifest and the table of bad images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melfast.cli.progress import progress_bar
from melfast.cli.say import say
from melfast.data.manifest import Manifest, write_manifest
from melfast.io.errors import InputError
from melfast.io.files import locked, require_own_table, require_writable
from melfast.io.journal import Journal
from melfast.prepare.sweep import BAD_COLUMNS, Bad, Step, SweepResult, run_step, write_quarantine

SHOWN = 5


@dataclass(frozen=True)
class Output:
    """
    Attributes:
        rows: input manifest.
        path: path of the output manifest; None if no manifest is written.
        quarantine: path of the table of bad images.
        journal: journal of the results so far, if the command can resume.
    """

    rows: Manifest
    path: Path | None
    quarantine: Path
    journal: Journal | None = None

    def sweep(self, step: Step, what: str, threads: int) -> SweepResult:
        """Runs a step on the images, with a progress bar."""
        with progress_bar(what, len(self.rows)) as advance:
            return run_step(self.rows, step, threads=threads, journal=self.journal, progress=advance)

    def put_aside(self, bad: list[Bad]) -> None:
        """Writes the table of bad images and lists the first few on stderr.

        Raises:
            InputError: all images are bad.
        """
        write_quarantine(bad, self.quarantine)
        for name, _, reason in bad[:SHOWN]:
            say(f"bad: {name}: {reason}", err=True)
        if len(bad) > SHOWN:
            say(f"bad: and {len(bad) - SHOWN} more, see {self.quarantine}", err=True)
        if len(bad) == len(self.rows):
            if self.journal:
                self.journal.remove()
            raise InputError(f"{self.rows.path}: no image is good, see {self.quarantine}")

    def finish(self, bad: list[Bad], manifest: Manifest, title: str, lines: Iterable[str], resumed: int) -> None:
        """Writes both files and prints a summary of the manifest.

        Raises:
            InputError: all images are bad, or a file cannot be written.
        """
        assert self.path is not None
        assert self.journal is not None
        self.put_aside(bad)
        write_manifest(manifest, self.path)
        self.journal.remove()
        say(f"{self.path}: {title}")
        if resumed:
            say(f"  {resumed:,} of them from an interrupted run")
        for line in lines:
            say(f"  {line}")
        if bad:
            say(f"{self.quarantine} lists the {len(bad):,} bad images")


@contextmanager
def open_output(
    rows: Manifest,
    path: Path | None,
    quarantine: Path | None,
    command: str = "",
    settings: dict[str, Any] | None = None,
    folders: Sequence[Path] = (),
) -> Iterator[Output]:
    """Checks before the work that all files can be written, and locks them for this process.

    Args:
        path: output manifest; may be the path of `rows`.
        quarantine: path given by the user; None: NAME.bad.csv beside `path`, or beside the input manifest.
        command, settings: identify the journal; without them no journal is kept.
        folders: folders that the command also writes images to.
    Raises:
        InputError: a file cannot be written, would replace another one, or is being written by another
            process.
    """
    if path is not None:
        require_writable(path)
    beside = path or rows.path
    table = quarantine or beside.with_name(f"{beside.stem}.bad.csv")
    for other, what in ((path, "the output"), (rows.path, "the manifest that is read")):
        if other is not None and table.resolve() == other.resolve():
            raise InputError(f"--quarantine {table}: is {what}, expected a file of its own")
    require_writable(table)
    require_own_table(table, BAD_COLUMNS)
    with ExitStack() as stack:
        if path is not None:
            stack.enter_context(locked(path))
        stack.enter_context(locked(table))
        for folder in folders:
            stack.enter_context(_filling(folder))
        journal = Journal.beside(path, command, settings or {}) if path is not None and command else None
        yield Output(rows, path, table, journal)


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """Creates a folder and locks it for this process; it is removed if it stays empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        with locked(folder):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()
