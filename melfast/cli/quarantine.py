"""What the commands say of images that cannot be used."""

from pathlib import Path

import click

from melfast.prepare.sweep import Bad, write_quarantine

SHOWN = 5


def put_aside(bad: list[Bad], path: Path) -> None:
    """Writes the table of the bad images and names the first of them on stderr."""
    write_quarantine(bad, path)
    for name, _, reason in bad[:SHOWN]:
        click.echo(f"bad: {name}: {reason}", err=True)
    if len(bad) > SHOWN:
        click.echo(f"bad: and {len(bad) - SHOWN} more, see {path}", err=True)
