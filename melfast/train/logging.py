"""What a run says: one progress line, training.log to read, log.jsonl and TensorBoard to plot."""

import io
import json
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.words import check_words
from melfast.train.trackers import Tracker, TrackerName, finite, open_tracker


class Log(Protocol):
    """Where the loop reports to; see RunLog."""

    def say(self, message: str) -> None: ...
    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None: ...
    def advance(self, step: int, description: str) -> None: ...
    def table(self, table: Table) -> None: ...
    def picture(self, name: str, path: Path) -> None: ...


class SilentLog:
    """The log of the processes that are not the first."""

    def say(self, message: str) -> None:
        pass

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        pass

    def advance(self, step: int, description: str) -> None:
        pass

    def table(self, table: Table) -> None:
        pass

    def picture(self, name: str, path: Path) -> None:
        pass


class RunLog:
    """The log of a run folder; goes on in the files of an earlier part of the run.

    Args:
        step: optimizer steps done; what an interrupted part wrote after them is taken back.
        total: length of the progress line.
        tracker: is told all that is recorded, too.
    """

    def __init__(self, run: Path, *, step: int, total: int, tracker: Tracker | None = None) -> None:
        self.tracker = tracker
        _drop_after(run / "log.jsonl", step)
        self.text = open(run / "training.log", "a", encoding="utf-8")  # noqa: SIM115
        self.lines = open(run / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task("", total=total, completed=step)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        # On a full disk these fail too; the error under way says more than theirs.
        with suppress(OSError) if error is not None else nullcontext():
            if error is not None:
                message = " ".join(str(error).split())
                self._write(f"stopped by {type(error).__name__}: {message}")
        if self.tracker is not None:
            self.tracker.close(failed=error is not None)
        for file in (self.board, self.lines, self.text):
            with suppress(OSError) if error is not None else nullcontext():
                file.close()

    def say(self, message: str) -> None:
        """One line to the terminal and training.log."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)
        self._write(message)

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One object to log.jsonl and a scalar each to TensorBoard; NaN becomes null."""
        entry: dict[str, object] = {"kind": kind, "step": step, "epoch": round(epoch, 4)}
        for name, value in values.items():
            entry[name] = value if math.isfinite(value) else None
            self.board.add_scalar(f"{kind}/{name}", value, step)
        _append(self.lines, json.dumps(entry))
        if self.tracker is not None:
            self.tracker.record(finite(kind, values), step)

    def advance(self, step: int, description: str) -> None:
        self.progress.update(self.task, completed=step, description=description)

    def table(self, table: Table) -> None:
        """A table to the terminal and training.log."""
        self.console.print(table)
        text = io.StringIO()
        Console(file=text, width=120).print(table)
        for line in text.getvalue().splitlines():
            self._write(line.rstrip())

    def picture(self, name: str, path: Path) -> None:
        """A picture to TensorBoard and the tracker."""
        with Image.open(path) as image:
            self.board.add_image(name, np.array(image.convert("RGB")), dataformats="HWC")
        if self.tracker is not None:
            self.tracker.picture(name, path)

    def _write(self, message: str) -> None:
        _append(self.text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")


@check_words
def open_log(
    run: Path,
    world: World,
    *,
    step: int,
    total: int,
    tracker: TrackerName = "none",
    config: Mapping[str, Any] | None = None,
) -> AbstractContextManager[RunLog | SilentLog]:
    """The log of this process; the first alone writes.

    Args:
        config: dotted keys, for the tracker.
    """
    if not world.first:
        return nullcontext(SilentLog())
    return RunLog(run, step=step, total=total, tracker=open_tracker(tracker, run, config or {}))


def _append(file: TextIO, line: str) -> None:
    try:
        file.write(line + "\n")
        file.flush()
    except OSError as error:  # has no file name of its own
        raise InputError(f"{file.name}: cannot be written: {error.strerror}") from error


def _drop_after(path: Path, step: int) -> None:
    """Keeps the whole lines up to a step: the steps after it are done again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        # A killed process may leave half a line, the last.
        if line.endswith("\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
