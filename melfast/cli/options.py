"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands that go over every image: --quarantine and --threads."""
    function = click.option(
        "--threads", type=click.IntRange(min=1), help="Images at a time.  [default: all cores]"
    )(function)
    return click.option(
        "--quarantine",
        type=FILE,
        help="Table of the bad images with reasons.  [default: OUTPUT with .bad.csv]",
    )(function)
