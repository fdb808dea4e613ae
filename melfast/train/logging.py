"""Logs of a run: training.log to read, log.jsonl and TensorBoard to plot."""

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.journal import whole_lines
from melfast.io.log import Progress, line_of, logger, no_progress
from melfast.io.words import check_words
from melfast.train.trackers import Tracker, TrackerName, finite, open_tracker


class Log(Protocol):
    """Where the loop records what it measures; see RunLog."""

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None: ...
    def advance(self, step: int, description: str) -> None: ...
    def picture(self, name: str, path: Path) -> None: ...


class SilentLog:
    """The log of all processes except the first."""

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        pass

    def advance(self, step: int, description: str) -> None:
        pass

    def picture(self, name: str, path: Path) -> None:
        pass


class TextLog(logging.Handler):
    """training.log: logged messages, each with its time.

    Lines are buffered until `begin` opens the file, because the run folder is created later.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.early: list[str] = []
        self.file: TextIO | None = None

    def __enter__(self) -> Self:
        # A program that shows the messages sets this level; otherwise it still shows only warnings.
        self.level_before = logger.level
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        logger.addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        logger.removeHandler(self)
        logger.setLevel(self.level_before)
        # On a full disk these fail too, but the current error is more informative.
        with suppress(OSError) if error is not None else nullcontext():
            if error is not None:
                self._write(f"stopped by {type(error).__name__}: {' '.join(str(error).split())}")
        if self.file is not None:
            with suppress(OSError) if error is not None else nullcontext():
                self.file.close()

    def begin(self, run: Path) -> None:
        self.file = open(run / "training.log", "a", encoding="utf-8")  # noqa: SIM115
        for line in self.early:
            _append(self.file, line)

    def emit(self, record: logging.LogRecord) -> None:
        for line in line_of(record).splitlines():
            self._write(line.rstrip())

    def _write(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        if self.file is None:
            self.early.append(line)
        else:
            _append(self.file, line)


class RunLog:
    """Data of a run to plot; continues the files of an earlier part of the run.

    Args:
        step: optimizer steps done; later records of an interrupted part are removed.
        total: total number of steps.
        tracker: also receives everything that is recorded.
        progress: called with (the task, steps done, steps in total).
    """

    def __init__(
        self, run: Path, *, step: int, total: int, tracker: Tracker | None = None, progress: Progress = no_progress
    ) -> None:
        self.tracker, self.total, self.progress = tracker, total, progress
        _drop_after(run / "log.jsonl", step)
        self.lines = open(run / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.tracker is not None:
            self.tracker.close(failed=error is not None)
        for file in (self.board, self.lines):
            with suppress(OSError) if error is not None else nullcontext():
                file.close()

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Writes one object to log.jsonl, and its scalars to TensorBoard; NaN becomes null."""
        entry: dict[str, object] = {"kind": kind, "step": step, "epoch": round(epoch, 4)}
        for name, value in values.items():
            entry[name] = value if math.isfinite(value) else None
            self.board.add_scalar(f"{kind}/{name}", value, step)
        _append(self.lines, json.dumps(entry))
        if self.tracker is not None:
            self.tracker.record(finite(kind, values), step)

    def advance(self, step: int, description: str) -> None:
        self.progress(description, step, self.total)

    def picture(self, name: str, path: Path) -> None:
        """Writes a picture to TensorBoard and the tracker."""
        with Image.open(path) as image:
            self.board.add_image(name, np.array(image.convert("RGB")), dataformats="HWC")
        if self.tracker is not None:
            self.tracker.picture(name, path)


@check_words
def open_log(
    run: Path,
    world: World,
    *,
    step: int,
    total: int,
    tracker: TrackerName = "none",
    config: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> AbstractContextManager[RunLog | SilentLog]:
    """The log of this process; only the first writes.

    Args:
        config: dotted keys, for the tracker.
    """
    if not world.first:
        return nullcontext(SilentLog())
    return RunLog(run, step=step, total=total, tracker=open_tracker(tracker, run, config or {}), progress=progress)


def _append(file: TextIO, line: str) -> None:
    try:
        file.write(line + "\n")
        file.flush()
    except OSError as error:  # has no file name of its own
        raise InputError(f"{file.name}: cannot be written: {error.strerror}") from error


def _drop_after(path: Path, step: int) -> None:
    """Keeps the complete lines up to a step; later steps will be repeated."""
    if not path.is_file():
        return
    kept = [line for line in whole_lines(path) if json.loads(line)["step"] <= step]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
