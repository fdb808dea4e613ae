"""melfast predict."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import parse_size, tta_option
from melfast.cli.say import say

SHOWN_FAILURES = 10
KNOW_GROUPS = "get them with --with-ita, or from a column group in --images TABLE.csv"


@click.command("predict", context_settings=CONTEXT)
@click.option(
    "--model",
    "--onnx-model-path",
    "model",
    required=True,
    type=Path,
    help="Use this model: a file written by melfast export, or a run folder. Any other ONNX file needs --input-size.",
)
@click.option(
    "--images",
    "--image-folder",
    "images",
    required=True,
    help="Predict these images: a folder (with its subfolders), one file, a quoted pattern such as 'data/*/*.jpg', "
    "a .csv table with a column path, or - for a list of files on standard input.",
)
@click.option(
    "--output",
    "--output-csv",
    "output",
    required=True,
    type=Path,
    help="Write the predictions to this table: .csv or .parquet.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "tensorrt", "onnx-cuda", "onnx-cpu", "torch"]),
    default="auto",
    show_default=True,
    help="Run the model with this backend; auto takes the first in the list that can run it here.",
)
@click.option("--input-size", metavar="WxH", help="State the input size of an ONNX file that melfast did not write.")
@click.option(
    "--colour", type=click.Choice(["rgb", "cielab"]), help="State the colour space that such an ONNX file takes."
)
@click.option(
    "--model-output", type=click.Choice(["logits", "probability"]), help="State what such an ONNX file returns."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Number of images per batch."
)
@click.option("--threads", type=click.IntRange(min=1), help="Number of cores to use.  [default: all]")
@click.option("--threshold", type=float, help="Predict 1 from this P(malignant) upwards.  [default: the model's]")
@tta_option
@click.option("--with-logits", is_flag=True, help="Also write the logits of the network.")
@click.option(
    "--with-groups",
    is_flag=True,
    help="Also write P(malignant) for each tone group, if the model has one head per group.",
)
@click.option(
    "--with-ita",
    is_flag=True,
    help="Also estimate and write the skin tone (ITA) and tone group of each image. A model that takes the tone group "
    "uses the estimate where the table of images gives no group.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["predictions", "submission"]),
    default="predictions",
    show_default=True,
    help="Write the columns image_name, prediction and probability; or the published submission format, image_name "
    "and target, where target is the prediction.",
)
@click.option(
    "--overlay",
    type=Path,
    metavar="DIR",
    help="Save each image to this folder with the outline of its lesion, P(malignant) and ITA.",
)
@click.option("--shard", default="", metavar="K/N", help="Predict only the K-th of N parts of the images.")
@click.option(
    "--engine",
    type=click.Choice(["here", "ray"]),
    default="here",
    show_default=True,
    help="Run here, or distribute the images over a Ray cluster. With ray, --output is a folder that all machines "
    "share, and the same command always resumes.",
)
@click.option(
    "--address", help="Connect to the Ray cluster at this address: HOST:PORT, local, or auto.  [default: auto]"
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of Ray workers; each uses --threads cores (4), and a GPU if the cluster has any.  [default: all]",
)
@click.option("--resume", is_flag=True, help="Resume a stopped run: keep its rows and predict the rest.")
@click.option(
    "--on-error",
    type=click.Choice(["skip", "raise"]),
    default="skip",
    show_default=True,
    help="Skip images that cannot be predicted and list them, or stop at the first one.",
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
    """Predict images with an exported model or a run.

    Writes one row per image with image_name, prediction (0 or 1) and probability, and NAME.json,
    which describes the model and the settings. Images that cannot be read or predicted are listed
    in NAME.failed.csv with the reasons; --images accepts that table. The exit code is 0 if at least
    one image was predicted. If the command is stopped, the rows stay in OUTPUT.partial and --resume
    continues. For NAME.parquet the files are NAME.parquet.json and NAME.parquet.failed.csv.

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
    from melfast.predict.predictor import model_threshold, open_engine, unknown_groups_note
    from melfast.predict.sources import find_images
    from melfast.predict.writer import Stopped, TableOptions, write_predictions

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
    limit, source = model_threshold(record, threshold)
    by_group: dict[str, float] = {}
    if record.group_thresholds and threshold is None:
        by_group = dict(zip(record.groups, record.group_thresholds, strict=True))
        source += "; by tone group where it is known"
    groups_known = with_ita or bool(files.groups)
    if (by_group or record.takes_group) and not groups_known:
        say(f"note: {unknown_groups_note(len(files), len(files), record)}; {KNOW_GROUPS}", err=True)
    say(
        f"{model}: {record.backbone}, {size.width}x{size.height} {size.colour}, threshold "
        f"{limit:.6g} ({source}), on {where}"
    )
    if engine == "here" and runner.info.passed_over:
        say(f"  backend {runner.info.backend}{passed_over(runner.info.passed_over)}")
    if assumed:
        say(f"note: melfast did not write the model: {assumed}", err=True)
    if engine == "ray" and resume:
        say("note: --engine ray always resumes; --resume has no effect", err=True)
    if tta != "none" and threshold is None:
        say("note: the threshold was chosen without --tta", err=True)
    for note in files.notes:
        say(f"note: {note}", err=True)
    wanted = TableOptions(
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
        say(
            f"{stop.path} keeps {stop.rows:,} of {len(files):,} rows; the same command with --resume continues",
            err=True,
        )
        raise
    except KeyboardInterrupt:
        if engine == "ray":
            say(f"{output} keeps the parts that are done; the same command resumes", err=True)
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
        say(f"note: {unknown_groups_note(summary.unknown_groups, summary.predicted, record)}", err=True)
    for made in summary.engines:
        reasons = passed_over(made.get("passed_over", {}))
        say(f"  {made['rows']:,} images on {made['provider']}{reasons}")
    if summary.failed_path:
        say(f"{summary.failed_path} lists the failed ones")


def passed_over(passed_over: dict[str, str]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    return f"; skipped: {reasons}" if reasons else ""
