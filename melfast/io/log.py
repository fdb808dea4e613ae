"""What the library reports: lines to the logger "melfast", which programs and notebooks show as they like."""

import logging
from collections.abc import Callable

# Told what is being done, how much of it is done, and how much there is in all.
Progress = Callable[[str, int, int], None]

logger = logging.getLogger("melfast")


def no_progress(what: str, done: int, total: int) -> None:
    """The Progress of who shows none."""


def line_of(record: logging.LogRecord) -> str:
    """A record for people: its message, which begins with `warning:` where it is one."""
    prefix = "warning: " if record.levelno >= logging.WARNING else ""
    return prefix + record.getMessage()
