"""python benchmarks/run.py SUITE: check the results, time them against peers, and print and save the figures."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks import machine, suites
from benchmarks.harness import APART, NEED_GPU, SUITES, CheckFailedError, Run
from benchmarks.images import Data
from melfast.data.loader import available_cores
from melfast.io.errors import InputError
from melfast.io.files import atomic_path

MOST_BUSY_PERCENT = 10  # before anything is measured
CONTEXT = {"help_option_names": ["-h", "--help"]}


def show_list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, function in SUITES.items():
            click.echo(f"{name:12}{(function.__doc__ or '').strip().splitlines()[0]}")
        context.exit()


class DataType(click.Path):
    """An existing folder, or the word `drawn`; a folder with that name is ./drawn."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return value if value == "drawn" else super().convert(value, parameter, context)


@click.command(context_settings=CONTEXT)
@click.argument("names", metavar="SUITE...", nargs=-1, required=True)
@click.option("--list", callback=show_list, is_flag=True, is_eager=True, expose_value=False, help="Show the suites.")
@click.option("--data", type=DataType(), help="Folder of images, or `drawn`; default: real ones, else drawn.")
@click.option(
    "--json",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every sample, with commit, versions and hardware.",
)
@click.option("--threads", type=click.IntRange(min=1), help="For each contestant; default: one a core.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Timed runs of each contestant."
)
def main(names: tuple[str, ...], data: Data, output: Path | None, threads: int | None, repeats: int) -> None:
    """Run a SUITE of measurements, several, or `all` except those that run only by name.

    The exit code is 1 when a result is wrong; a missed target of speed is only marked.

    \b
    Example: python benchmarks/run.py loader --threads 4 --json loader.json
    """
    chosen = list(names)
    if names == ("all",):
        absent = NEED_GPU if not machine.gpus() else set()
        chosen = [name for name in SUITES if name not in absent | APART]
        for name in sorted(absent & set(SUITES)):
            click.echo(f"{name}: left out, there is no GPU")
        for name in sorted(APART & set(SUITES)):
            click.echo(f"{name}: left out, it takes long: python benchmarks/run.py {name}")
    for name in chosen:
        if name not in SUITES:
            raise click.BadParameter(f"no suite {name!r}; there are: all, {', '.join(SUITES)}")
    threads = threads or available_cores()
    record: dict[str, Any] = machine.describe()
    record |= {"settings": {"threads": threads, "repeats": repeats, "data": str(data) if data else None}}
    record["suites"] = {}
    busy = record["hardware"]["busy_percent"]
    if busy > MOST_BUSY_PERCENT:
        click.echo(f"warning: others keep {busy:.0f} % of the processor busy: not figures to report", err=True)
    failed = False
    for name in chosen:
        run = Run(data, threads, repeats)
        run.console.print(f"[bold]{name}[/]", highlight=False)
        failure = attempt(name, run)
        record["suites"][name] = run.to_dict() | {"failure": failure}
        if failure is not None:
            failed = True
            click.echo(f"error: {name}: {failure}", err=True)
    if output is not None:
        with atomic_path(output) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def attempt(name: str, run: Run) -> str | None:
    """Runs a suite; returns a line about what went wrong, if anything."""
    try:
        SUITES[name](run)
    except (CheckFailedError, InputError) as error:
        return " ".join(str(error).split())
    return None


if __name__ == "__main__":
    suites.load()
    main()
