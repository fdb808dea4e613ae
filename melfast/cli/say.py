"""Say: how commands print, for every line may name a file, a column or a group of somebody else's."""

import click

from melfast.io.errors import printable


def say(line: object, *, err: bool = False) -> None:
    """Prints one line, on stderr with `err`; what would steer the terminal, or begin another line, is escaped."""
    click.echo(printable(str(line)), err=err)
