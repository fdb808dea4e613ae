"""melfast train."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import Shorthand, config_options
from melfast.cli.say import say
from melfast.config.loading import Override

SHORTHANDS: tuple[Shorthand, ...] = (
    ("--data-path", "data.path", str, "Train on this manifest, or on a data set that `prepare import` can read."),
    (
        "--output-dir",
        "output.dir",
        str,
        "Write the run to this folder; by default runs/NAME, where NAME is the config's.",
    ),
    ("--model", "model.backbone", str, "Use this timm backbone."),
    ("--pretrained", "model.pretrained", bool, "Start from timm's pretrained weights."),
    ("--weights", "model.weights", str, "Start from the weights in this file: .safetensors or .pth."),
    ("--fold", "data.fold", str, "Validate on one fold and train on the others: 2/5 is the second fold of five."),
    ("--epochs", "train.epochs", int, "Train for this number of epochs."),
    ("--batch-size", "train.batch_size", int, "Number of images per step, over all processes."),
    ("--lr", "optim.lr", float, "Set the peak learning rate."),
    ("--seed", "train.seed", int, "Seed of the weights, the image order and the augmentation."),
    ("--device", "train.device", str, "Train on this device: auto, cpu or cuda."),
    ("--precision", "train.precision", str, "Compute in this format: fp32, bf16 or fp16."),
    ("--threads --num-workers", "data.threads", int, "Number of loader threads per process."),
    ("--loader", "data.loader", str, "Load images with this backend: auto, native, dali-cpu or dali-gpu."),
    ("--on-error", "data.on_error", str, "Stop at an unreadable image (raise), or skip it and count it (skip)."),
)


@click.command("train", context_settings=CONTEXT)
@config_options(*SHORTHANDS, published=True)
@click.option("--resume", is_flag=True, help="Resume from the last checkpoint of the run.")
@click.option(
    "--slurm", multiple=True, metavar="KEY=VALUE", help="Submit a Slurm job with this setting; may be repeated."
)
@click.option("--print-config", is_flag=True, help="Print the resolved config and stop.")
def command(
    config_path: Path | None,
    overrides: list[Override],
    published: dict[str, str],
    resume: bool,
    slurm: tuple[str, ...],
    print_config: bool,
) -> None:
    """Train a classifier.

    Settings are read from the defaults, then the YAML file, then --set, then the other options. A
    data set that is not a manifest is imported, checked, searched for copies and split, and gets
    masks and skin tones if the config needs them; section `prepare` of the config has the settings
    (see `melfast prepare all`).

    --resume needs no --config: the run folder has its own. The flags of the published system
    (--cielab, --recall_ce, ...) work too; the setting that each one stands for is printed.

    --slurm submits the run through submitit; give it once per key. When the job is pre-empted or
    runs out of time, it is queued again and resumes from its checkpoint. Keys: cluster (slurm, or
    local to try it), nodes, gpus_per_node, tasks_per_node, cpus_per_task, mem_gb, timeout_min,
    max_timeouts, signal_delay_s, name, partition, account, qos, constraint, setup, and
    more={OPTION: VALUE} for other options of sbatch.

    \b
    Examples:
      melfast train --config configs/quickstart.yaml --data-path data --output-dir runs/first
      melfast train --output-dir runs/first --resume
      torchrun --nproc-per-node 2 -m melfast train --config configs/ham10000.yaml --data-path DIR
      melfast train --config configs/isic2020_multi_gpu.yaml --data-path DIR
        --slurm partition=gpu --slurm nodes=2 --slurm gpus_per_node=8 --slurm cpus_per_task=12
    """
    from melfast.config.schema import load_config, with_output
    from melfast.io.errors import InputError

    output = next((o.value for o in reversed(overrides) if o.key == "output.dir"), None)
    if config_path is None and resume and output:
        if (Path(output) / "config.yaml").is_file():
            config_path = Path(output) / "config.yaml"
        elif not any(o.key == "data.path" for o in overrides):
            raise InputError(f"{output}: holds no run to resume; expected --config to start one")
    config, sources = load_config(config_path, overrides, published)
    config = with_output(config, config_path)
    if print_config:
        click.echo(config.to_yaml(), nl=False)
        return

    if slurm:
        from melfast.train.slurm import parse_options, submit_training

        options = parse_options(slurm)
        job = submit_training(config, sources, options, resume=resume)
        say(f"job {job.job_id}: {options.nodes} x {options.processes_per_node} processes, log {job.paths.stderr}")
        return

    from melfast.cli.progress import live_bar
    from melfast.train.run import run_training

    with live_bar() as progress:
        run_training(config, sources, resume=resume, progress=progress)
