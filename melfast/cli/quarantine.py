"""What the commands say of images that cannot be used."""

from pathlib import Path

import click

from melfast.errors import InputError
from melfast.manifest import Manifest
from melfast.prepare.sweep import Bad, write_quarantine

SHOWN = 5


def put_aside(bad: list[Bad], path: Path, manifest: Manifest) -> None:
    """Writes the table of the bad images of a manifest and names the first of them on stderr.

    Raises:
        InputError: all are bad.
    """
    write_quarantine(bad, path)
    for name, _, reason in bad[:SHOWN]:
        click.echo(f"bad: {name}: {reason}", err=True)
    if len(bad) > SHOWN:
        click.echo(f"bad: and {len(bad) - SHOWN} more, see {path}", err=True)
    if len(bad) == len(manifest):
        raise InputError(f"{manifest.path}: no image is good, see {path}")
