"""What the commands say of images that cannot be used."""

from pathlib import Path

import click

from melfast.data.manifest import Manifest
from melfast.io.errors import InputError, printable
from melfast.io.files import require_writable
from melfast.prepare.sweep import Bad, write_quarantine

SHOWN = 5


def quarantine_path(given: Path | None, output: Path | None, manifest: Path) -> Path:
    """Where the table of bad images goes; before the work, tries whether all can be written.

    Args:
        given: by the user; None: beside `output`, else the manifest, by its name and .bad.csv.
        output: may be the manifest itself; None: no output.
    Raises:
        InputError: a file cannot be written, or would take the place of another.
    """
    if output is not None:
        require_writable(output)
    beside = output or manifest
    path = given or beside.with_name(f"{beside.stem}.bad.csv")
    for other, what in ((output, "the output"), (manifest, "the manifest that is read")):
        if other is not None and path.resolve() == other.resolve():
            raise InputError(f"--quarantine {path}: is {what}, wanted a file of its own")
    require_writable(path)
    return path


def put_aside(bad: list[Bad], path: Path, manifest: Manifest) -> None:
    """Writes the table of the bad images of a manifest and names the first of them on stderr.

    Raises:
        InputError: all are bad.
    """
    write_quarantine(bad, path)
    for name, _, reason in bad[:SHOWN]:
        click.echo(f"bad: {printable(name)}: {reason}", err=True)
    if len(bad) > SHOWN:
        click.echo(f"bad: and {len(bad) - SHOWN} more, see {path}", err=True)
    if len(bad) == len(manifest):
        raise InputError(f"{manifest.path}: no image is good, see {path}")
