"""What the commands that go over every image write: a manifest, and the table of the bad images."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melfast.cli.say import say
from melfast.data.manifest import Manifest, write_manifest
from melfast.io.errors import InputError
from melfast.io.files import locked, require_own_table, require_writable
from melfast.io.journal import Journal
from melfast.prepare.sweep import BAD_COLUMNS, Bad, write_quarantine

SHOWN = 5


@dataclass(frozen=True)
class Output:
    """
    Attributes:
        rows: the manifest that is read.
        path: of the manifest that is written; None: none.
        quarantine: path of the table of bad images.
        journal: of the results so far, if the command can resume.
    """

    rows: Manifest
    path: Path | None
    quarantine: Path
    journal: Journal | None = None

    def put_aside(self, bad: list[Bad]) -> None:
        """Writes the table of the bad images and names the first of them on stderr.

        Raises:
            InputError: all are bad.
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
        """Writes both files and prints what the manifest holds.

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
    folder: Path | None = None,
) -> Iterator[Output]:
    """Tries before the work whether all can be written, by this process alone.

    Args:
        path: may be that of `rows`.
        quarantine: as the user gave it; None: beside `path`, else the manifest, by its name and .bad.csv.
        command, settings: of the journal; none without.
        folder: that the command writes images to as well.
    Raises:
        InputError: a file cannot be written, would take the place of another, or is being written
            by another process.
    """
    if path is not None:
        require_writable(path)
    beside = path or rows.path
    table = quarantine or beside.with_name(f"{beside.stem}.bad.csv")
    for other, what in ((path, "the output"), (rows.path, "the manifest that is read")):
        if other is not None and table.resolve() == other.resolve():
            raise InputError(f"--quarantine {table}: is {what}, wanted a file of its own")
    require_writable(table)
    require_own_table(table, BAD_COLUMNS)
    with ExitStack() as stack:
        if path is not None:
            stack.enter_context(locked(path))
        stack.enter_context(locked(table))
        if folder is not None:
            stack.enter_context(_filling(folder))
        journal = Journal.beside(path, command, settings or {}) if path is not None and command else None
        yield Output(rows, path, table, journal)


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """Makes a folder that this process alone fills; one that stays empty goes."""
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
