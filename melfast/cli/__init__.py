"""The melfast command: one file per subcommand, imported only when it is called."""

import importlib
import io
import os
import sys
import traceback

import click

from melfast.cli.flags import with_flags
from melfast.io.errors import InputError, printable

# name: (module, one line of help). The help is kept here so that `melfast --help` imports no command.
COMMANDS = {
    "synth": ("melfast.cli.synth", "Draw a synthetic dermoscopy data set with known truth."),
    "prepare": ("melfast.cli.prepare", "Import, check and split images into a manifest."),
    "show": ("melfast.cli.show", "Draw a contact sheet of the images that the model will see in one epoch."),
    "train": ("melfast.cli.train", "Train a classifier."),
    "evaluate": ("melfast.cli.evaluate", "Evaluate a trained classifier on one split."),
    "report": ("melfast.cli.report", "Report from predictions how well models perform, overall and by group."),
    "explain": ("melfast.cli.explain", "Show which parts of an image led the model to its answer."),
    "ensemble": ("melfast.cli.ensemble", "Combine several models, or several tables of predictions."),
    "export": ("melfast.cli.export", "Write a classifier as ONNX, torch, transformers, TensorRT or Triton files."),
    "predict": ("melfast.cli.predict", "Predict images with an exported model or a run."),
    "doctor": ("melfast.cli.doctor", "Show what was detected and how to fix what is missing."),
}

# --data-path and --data_path are the same option everywhere.
CONTEXT = {"help_option_names": ["-h", "--help"], "token_normalize_func": lambda token: token.replace("_", "-")}


class LazyGroup(click.Group):
    """A group that imports a command when it runs; each module defines its `command`."""

    def __init__(self, *args: object, commands: dict[str, tuple[str, str]], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.lazy = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.lazy:
            return None
        command: click.Command = importlib.import_module(self.lazy[name][0]).command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; parameters named in an error are shown as their flags."""
        try:
            return super().invoke(ctx)
        except (InputError, OSError) as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if command is not None:
                if isinstance(error, InputError):
                    error.args = (with_flags(str(error), command),)
                notes = getattr(error, "__notes__", [])
                notes[:] = [with_flags(note, command) for note in notes]
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


@click.group(cls=LazyGroup, commands=COMMANDS, context_settings=CONTEXT)
@click.version_option(package_name="melfast")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Train, evaluate and run melanoma classifiers on dermoscopic images, fairly across skin tones.

    Example: melfast synth data --images 800 && melfast train --config configs/quickstart.yaml
    --data-path data
    """
    from melfast.cli.progress import Reports

    ctx.with_resource(Reports())


def run() -> None:
    """Entry point. An error prints one line on stderr.

    The exit code is 1 after an error, 2 after wrong usage and 130 after Ctrl-C.
    """
    calm_openmp()
    debug = "--debug" in sys.argv
    # --debug may be anywhere on the line, but click accepts it only before the subcommand.
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = main.main(arguments, prog_name="melfast", standalone_mode=False)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)  # it may name files
        for line in text.getvalue().split("\n")[:-1]:
            click.echo(printable(line), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("melfast: stopped by Ctrl-C", err=True)
        sys.exit(130)
    except Exception as error:  # whatever happened, the user sees one line
        if debug:
            traceback.print_exc()
        elif isinstance(error, (InputError, OSError)):
            click.echo(f"melfast: error: {one_line(error)}", err=True)
        else:
            kind = type(error).__name__
            click.echo(f"melfast: unexpected {kind}: {one_line(error)} (--debug shows where)", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def calm_openmp() -> None:
    """Limits how long torch's threads spin at the end of a loop while they wait for the slowest one.

    GNU OpenMP spins for milliseconds by default. On an idle machine that costs nothing, but when
    another process used one core, training on four cores fell from 280 images/s to 6; with this
    limit it stayed between 130 and 280. The variable is read when torch is loaded, so set it before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def one_line(error: BaseException) -> str:
    """The message and its notes on one line; an OSError as `FILE: reason`."""
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return printable(" ".join("; ".join([message, *getattr(error, "__notes__", ())]).split()))
