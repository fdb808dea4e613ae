"""Logging: the library logs to "melfast"; programs and notebooks decide how to show it."""

import logging
from collections.abc import Callable

# Called with the task, the steps done and the steps in total.
Progress = Callable[[str, int, int], None]

logger = logging.getLogger("melfast")


def no_progress(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def line_of(record: logging.LogRecord) -> str:
    """The line to show for a record: its message, with `warning:` in front of a warning."""
    prefix = "warning: " if record.levelno >= logging.WARNING else ""
    return prefix + record.getMessage()
