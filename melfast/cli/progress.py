"""Terminal output: progress bars, with the library's log lines above them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from melfast.cli.flags import with_flags
from melfast.io.errors import printable
from melfast.io.log import Progress, line_of, logger


class Reports(logging.Handler):
    """Shows the library's log on stderr while it is open, above the progress bar if there is one."""

    console: Any = None  # the rich console of the current bar

    def __enter__(self) -> "Reports":
        self.level_before = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logger.removeHandler(self)
        logger.setLevel(self.level_before)

    def emit(self, record: logging.LogRecord) -> None:
        context = click.get_current_context(silent=True)
        line = with_flags(line_of(record), context.command) if context else line_of(record)
        line = "\n".join(map(printable, line.split("\n")))  # it may name files
        if Reports.console is None:
            click.echo(line, err=True)
        else:
            Reports.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def live_bar() -> Iterator[Progress]:
    """A progress bar on stderr that disappears at the end; nothing where stderr is no terminal.

    Yields:
        A function to call with (the task, steps done, steps in total); the first call draws the bar.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich import progress
    from rich.console import Console

    class Speed(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            return f"{task.speed:,.0f}/s" if task.speed else ""

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Speed(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        Reports.console = console
        try:
            yield lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total, visible=True
            )
        finally:
            Reports.console = None


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """`live_bar` for a single task of `total` steps.

    Yields:
        A function to call with the number of further steps done, by default 1.
    """
    done = 0
    with live_bar() as progress:

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            progress(what, done, total)

        yield advance
