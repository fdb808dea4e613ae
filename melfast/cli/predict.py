"""melfast predict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import tta_option

SHOWN_FAILURES = 10


@click.command("predict", context_settings=CONTEXT)
@click.option("--model", required=True, type=Path, help="File that melfast export wrote.")
@click.option(
    "--images", required=True,
    help="Folder (with the folders in it), one file, or a quoted pattern as 'data/*/*.jpg'.",
)  # fmt: skip
@click.option("--output", required=True, type=Path, help="The CSV file to write.")
@click.option("--backend", type=click.Choice(["auto", "onnx-cpu"]), default="auto")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Cores to use.  [default: all]")
@click.option(
    "--threshold", type=float, help="P(malignant) that makes target 1.  [default: the model's]"
)
@tta_option
@click.option(
    "--on-error", type=click.Choice(["skip", "raise"]), default="skip", show_default=True,
    help="Unreadable images: list them and go on, or stop at the first.",
)  # fmt: skip
def command(
    model: Path, images: str, output: Path, backend: str, batch_size: int, threads: int | None,
    threshold: float | None, tta: str, on_error: str,
) -> None:  # fmt: skip
    """Predict images with an exported model.

    Writes image_name, target (0 or 1) and probability, one row an image. Images that cannot be
    read are listed with reasons beside it, in NAME.failed.csv; the exit code is 0 as long as any
    could be read.

    \b
    Example: melfast predict --model model.onnx --images photos --output predictions.csv
    """
    from melfast.engines.predict import (
        choose_threshold,
        find_images,
        open_engine,
        write_predictions,
    )

    engine = open_engine(model, backend, threads=threads)  # type: ignore[arg-type]
    record, size = engine.record, engine.record.preprocess
    limit, source = choose_threshold(record, threshold)
    files = find_images(images)
    click.echo(
        f"{model}: {record.backbone}, {size.width}x{size.height} {size.colour}, threshold "
        f"{limit:.6g} ({source}), on {engine.provider}"
    )
    if tta != "none" and threshold is None:
        click.echo("note: the threshold was chosen without --tta", err=True)
    if not files.by_stem:
        click.echo(
            f"note: some images share a name: image_name is the path below {files.root}", err=True
        )
    with images_bar(len(files.paths)) as progress:
        summary = write_predictions(
            engine, files, output, threshold=limit, batch_size=batch_size, threads=threads,
            on_error=on_error, tta=tta, progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    for failure in summary.failures[:SHOWN_FAILURES]:
        click.echo(f"failed: {failure}", err=True)
    count = len(summary.failures)
    if count > SHOWN_FAILURES:
        more = count - SHOWN_FAILURES
        click.echo(f"failed: and {more:,} more, see {summary.failed_path}", err=True)
    click.echo(
        f"{output}: {summary.predicted:,} images, {summary.malignant:,} called "
        f"{record.classes[-1]}, {count:,} failed"
    )
    if summary.failed_path:
        click.echo(f"{summary.failed_path} lists the failed ones")


@contextmanager
def images_bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar with images/s on stderr, gone when done and silent where stderr is no terminal.

    Yields:
        A function to tell of images done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} images/s" if task.speed else "")

    console = Console(stderr=True)
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), Speed(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
