"""The library names parameters; the command line shows its flags, in errors and in messages."""

import re
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

import melfast
from melfast.cli import LazyGroup, with_flags
from melfast.cli.progress import Reports
from melfast.io.errors import ImageError, InputError
from melfast.io.log import logger

PACKAGE = Path(melfast.__file__).parent
GENERATED = "export/triton.py"  # a separate program, written to a file


@click.command()
@click.option("--data-path", "data__path")
@click.option("--name", "names", multiple=True)
@click.option("--resume", is_flag=True)
@click.option("--loader", "--data-loader", "data__loader")
@click.argument("source", required=False)
def command(**given: object) -> None:
    """For the tests."""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`names` x: no such image", "--name x: no such image"),
        ("expected `data.path`, a folder", "expected --data-path, a folder"),
        ("`resume=True` goes on, `loader='native'` too", "--resume goes on, --loader native too"),
        ("`data.loader=dali-cpu`", "--loader dali-cpu"),
        ("`data_loader` must be set", "--loader must be set"),
        ("`source` and `nothing` are no options", "`source` and `nothing` are no options"),
    ],
)
def test_parameters_as_flags(message: str, shown: str) -> None:
    assert with_flags(message, command) == shown


def test_errors_and_reports_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    group = LazyGroup(commands={"it": ("tests", "")})
    monkeypatch.setattr(group, "get_command", lambda ctx, name: failing)
    raised = InputError("`names` x: no such image")
    raised.add_note("the same with `resume=True` goes on")

    @click.command()
    @click.option("--name", "names")
    @click.option("--resume", is_flag=True)
    def failing(**given: object) -> None:
        with Reports():
            logger.warning("`names` is not used")
            logger.info("[bold] line")
        raise raised

    done = CliRunner().invoke(group, ["it"])
    assert done.stderr == "warning: --name is not used\n[bold] line\n"
    assert done.exception is raised
    assert str(raised) == "--name x: no such image"
    assert raised.__notes__ == ["the same with --resume goes on"]


def test_an_image_error_keeps_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    group = LazyGroup(commands={})
    error = ImageError("a.png", "no mask: `names`")

    @click.command()
    @click.option("--name", "names")
    def failing(**given: object) -> None:
        raise error

    monkeypatch.setattr(group, "get_command", lambda ctx, name: failing)
    CliRunner().invoke(group, ["it"])
    assert (str(error), error.path) == ("a.png: no mask: --name", "a.png")


def lines_of_the_library() -> list[tuple[str, str]]:
    files = [
        path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in ("cli", "doctor")
    ]
    assert len(files) > 100
    return [(f"{path.relative_to(PACKAGE)}: {line}", line) for path in files for line in path.read_text().splitlines()]


def test_only_the_command_line_knows_click_and_the_terminal() -> None:
    wrong = re.compile(
        r"^\s*(import click|from click|print\()|click\.echo|file=sys\.stderr|Console\(stderr|rich\.progress"
    )
    assert [
        where for where, line in lines_of_the_library() if wrong.search(line) and not where.startswith(GENERATED)
    ] == []


def test_all_that_is_reported_goes_to_one_logger() -> None:
    """Other loggers are used only to silence other libraries."""
    found = [where for where, line in lines_of_the_library() if "getLogger(" in line]
    assert [where.partition(":")[0] for where in found] == ["export/int8.py", "io/log.py", "predict/cluster.py"], found


def test_choices_are_those_of_the_library() -> None:
    """The command line repeats these words, so that help loads no library."""
    from melfast.cli import export, predict
    from melfast.engines.base import BackendName
    from melfast.export.formats import ExportFormat

    assert get_args(ExportFormat) == export.FORMATS
    (backend,) = (option for option in predict.command.params if option.name == "backend")
    assert backend.type.choices == ("auto", *get_args(BackendName))  # type: ignore[attr-defined]
