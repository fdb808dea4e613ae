"""Say: how commands print; a line may contain names of files, columns or groups from an untrusted source."""

import click

from melfast.io.errors import printable


def say(line: object, *, err: bool = False) -> None:
    """Prints one line, on stderr with `err`; what would steer the terminal, or begin another line, is escaped."""
    click.echo(printable(str(line)), err=err)
