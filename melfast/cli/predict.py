"""melfast predict."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import parse_size, tta_option
from melfast.cli.say import say

SHOWN_FAILURES = 10
KNOW_GROUPS = "--with-ita measures them, or --images TABLE.csv with a column group states them"


@click.command("predict", context_settings=CONTEXT)
@click.option(
    "--model",
    "--onnx-model-path",
    "model",
    required=True,
    type=Path,
    help="File that melfast export wrote, or a run folder; other ONNX files with --input-size.",
)
@click.option(
    "--images",
    "--image-folder",
    "images",
    required=True,
    help="Folder (with the folders in it), one file, a quoted pattern as 'data/*/*.jpg', a table "
    "(.csv) with a column path, or - for a list of files on standard input.",
)
@click.option(
    "--output", "--output-csv", "output", required=True, type=Path, help="The table to write: .csv or .parquet."
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "tensorrt", "onnx-cuda", "onnx-cpu", "torch"]),
    default="auto",
    show_default=True,
    help="auto: the first of these that can run the model here.",
)
@click.option("--input-size", metavar="WxH", help="Of an ONNX file that melfast did not write.")
@click.option("--colour", type=click.Choice(["rgb", "cielab"]), help="Its input, likewise.")
@click.option("--model-output", type=click.Choice(["logits", "probability"]), help="Likewise.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Cores to use.  [default: all]")
@click.option("--threshold", type=float, help="P(malignant) that makes prediction 1.  [default: the model's]")
@tta_option
@click.option("--with-logits", is_flag=True, help="The network's outputs as well.")
@click.option(
    "--with-groups", is_flag=True, help="P(malignant) in each tone group as well, of a model with heads of groups."
)
@click.option(
    "--with-ita",
    is_flag=True,
    help="Skin tone (ITA) and tone group of each image as well. Models that use the tone group get it, where the "
    "table of images states none.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["predictions", "submission"]),
    default="predictions",
    show_default=True,
    help="Columns image_name, prediction and probability; or the published form of a submission, image_name and "
    "target, where target is the call.",
)
@click.option(
    "--overlay", type=Path, metavar="DIR", help="Draw each image with the outline of its lesion, P(malignant) and ITA."
)
@click.option("--shard", default="", metavar="K/N", help="The K-th of N parts of the images.")
@click.option(
    "--engine",
    type=click.Choice(["here", "ray"]),
    default="here",
    show_default=True,
    help="ray: spread the images over a Ray cluster; --output is then a folder that all see, and "
    "the same command always goes on.",
)
@click.option("--address", help="Of the Ray cluster: HOST:PORT, local, or auto.  [default: auto]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Of the Ray cluster, --threads (4) each, and a GPU where it has some.  [default: all]",
)
@click.option("--resume", is_flag=True, help="Keep what a stopped run has done, and do the rest.")
@click.option(
    "--on-error",
    type=click.Choice(["skip", "raise"]),
    default="skip",
    show_default=True,
    help="Images that get no row: list them and go on, or stop at the first.",
)
def command(
    model: Path,
    images: str,
    output: Path,
    backend: str,
    input_size: str | None,
    colour: str | None,
    model_output: str | None,
    batch_size: int,
    threads: int | None,
    threshold: float | None,
    tta: str,
    with_logits: bool,
    with_groups: bool,
    with_ita: bool,
    form: str,
    overlay: Path | None,
    shard: str,
    engine: str,
    address: str | None,
    workers: int | None,
    resume: bool,
    on_error: str,
) -> None:
    """Predict images with an exported model.

    Writes image_name, prediction (0 or 1) and probability, one row an image, and beside it NAME.json,
    which says how. Images that cannot be read, or that the model gives no probability for, are
    listed with reasons in NAME.failed.csv, which is a table of images itself; the exit code is 0 as
    long as there is any row. Stopped half-way, the rows stay in OUTPUT.partial and --resume goes
    on. Beside NAME.parquet stand NAME.parquet.json and NAME.parquet.failed.csv.

    \b
    Examples:
      melfast predict --model model.onnx --images photos --output predictions.csv
      find /data -name '*.jpg' | melfast predict --model model.onnx --images - --output p.csv
      sbatch --array=1-64 --wrap 'melfast predict --model model.onnx --images manifest.csv
        --shard $SLURM_ARRAY_TASK_ID/64 --output part-$SLURM_ARRAY_TASK_ID.csv --resume'
      melfast predict --model model.onnx --images manifest.csv --output parts --engine ray
    """
    if engine == "here" and (address or workers):
        raise click.UsageError("--address and --workers go with --engine ray")
    if engine == "ray" and on_error == "raise":
        raise click.UsageError("--on-error raise goes with --engine here")
    from melfast.cli.progress import progress_bar
    from melfast.engines.backends import read_model
    from melfast.models.running import InferenceSettings
    from melfast.predict.predictor import choose_threshold, open_engine, unknown_groups
    from melfast.predict.sources import find_images
    from melfast.predict.writer import Stopped, Wanted, write_predictions

    foreign = {
        "input_size": None if input_size is None else parse_size(input_size),
        "colour": colour,
        "model_output": model_output,
    }
    if engine == "ray":
        source_model = read_model(model, **foreign)  # type: ignore[arg-type]
        record, assumed, where = source_model.record, source_model.assumed, "a Ray cluster"
    else:
        runner = open_engine(model, backend, threads=threads, **foreign)  # type: ignore[arg-type]
        record, assumed, where = runner.record, runner.info.assumed, runner.provider
    size = record.preprocess
    files = find_images(images, sys.stdin)
    if shard:
        files = files.shard(shard)
    limit, source = choose_threshold(record, threshold)
    by_group: dict[str, float] = {}
    if record.group_thresholds and threshold is None:
        by_group = dict(zip(record.groups, record.group_thresholds, strict=True))
        source += "; by tone group where it is known"
    groups_known = with_ita or bool(files.groups)
    if (by_group or record.takes_group) and not groups_known:
        say(f"note: {unknown_groups(len(files), len(files), record)}; {KNOW_GROUPS}", err=True)
    say(
        f"{model}: {record.backbone}, {size.width}x{size.height} {size.colour}, threshold "
        f"{limit:.6g} ({source}), on {where}"
    )
    if engine == "here" and runner.info.passed_over:
        say(f"  backend {runner.info.backend}{in_words(runner.info.passed_over)}")
    if assumed:
        say(f"note: melfast did not write the model: {assumed}", err=True)
    if engine == "ray" and resume:
        say("note: --engine ray always goes on; --resume changes nothing", err=True)
    if tta != "none" and threshold is None:
        say("note: the threshold was chosen without --tta", err=True)
    for note in files.notes:
        say(f"note: {note}", err=True)
    wanted = Wanted(
        limit,
        by_group,
        with_logits,
        with_groups,
        with_ita,
        None if overlay is None else overlay.absolute(),
        source,
        form == "submission",
    )
    settings = InferenceSettings(
        threads=threads or 0,
        on_error=on_error,  # type: ignore[arg-type]
        batch_size=batch_size,
        tta=tta,  # type: ignore[arg-type]
    )
    try:
        with progress_bar("predicting", len(files)) as progress:
            if engine == "ray":
                from melfast.predict.cluster import Job, Workers, predict_on_ray

                crew = Workers(address or "auto", workers or 0, threads or Workers.threads)
                job = Job(
                    model.absolute(),
                    backend,  # type: ignore[arg-type]
                    wanted,
                    replace(settings, threads=crew.threads),
                    output.absolute(),
                    foreign,
                )
                summary = predict_on_ray(source_model, job, files.absolute(), crew, progress=progress)
            else:
                summary = write_predictions(runner, files, output, wanted, settings, resume=resume, progress=progress)
    except Stopped as stop:
        say(f"{stop.path} keeps {stop.rows:,} of {len(files):,} rows; the same command with --resume goes on", err=True)
        raise
    except KeyboardInterrupt:
        if engine == "ray":
            say(f"{output} keeps the parts that are done; the same command goes on", err=True)
        raise
    for failure in summary.failures[:SHOWN_FAILURES]:
        say(f"failed: {failure}", err=True)
    count = len(summary.failures)
    if count > SHOWN_FAILURES:
        more = count - SHOWN_FAILURES
        say(f"failed: and {more:,} more, see {summary.failed_path}", err=True)
    kept = "parts" if engine == "ray" else "of them"
    resumed = f" ({summary.resumed:,} {kept} kept)" if summary.resumed else ""
    say(
        f"{output}: {summary.predicted:,} images{resumed}, {summary.malignant:,} called "
        f"{record.classes[-1]}, {count:,} failed"
    )
    if summary.unknown_groups and groups_known:
        say(f"note: {unknown_groups(summary.unknown_groups, summary.predicted, record)}", err=True)
    for made in summary.engines:
        reasons = in_words(made.get("passed_over", {}))
        say(f"  {made['rows']:,} images on {made['provider']}{reasons}")
    if summary.failed_path:
        say(f"{summary.failed_path} lists the failed ones")


def in_words(passed_over: dict[str, str]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    return f"; passed over: {reasons}" if reasons else ""
