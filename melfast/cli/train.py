"""melfast train."""

from pathlib import Path

import click

from melfast.cli import CONTEXT
from melfast.cli.options import Shorthand, config_options
from melfast.cli.say import say
from melfast.config.loading import Override

SHORTHANDS: tuple[Shorthand, ...] = (
    ("--data-path", "data.path", str, "Manifest, or data set that `prepare import` knows."),
    ("--output-dir", "output.dir", str, "Folder of the run; runs/NAME of the config without it."),
    ("--model", "model.backbone", str, "timm backbone."),
    ("--pretrained", "model.pretrained", bool, "Begin with timm's weights."),
    ("--weights", "model.weights", str, "File of weights to begin with: .safetensors, .pth."),
    ("--fold", "data.fold", str, "2/5: validate on the second of five folds, train on the others."),
    ("--epochs", "train.epochs", int, "Epochs in all."),
    ("--batch-size", "train.batch_size", int, "Images a step, over all processes."),
    ("--lr", "optim.lr", float, "Highest learning rate."),
    ("--seed", "train.seed", int, "Of weights, order and augmentation."),
    ("--device", "train.device", str, "auto, cpu or cuda."),
    ("--precision", "train.precision", str, "fp32, bf16 or fp16."),
    ("--threads --num-workers", "data.threads", int, "Loader threads of each process."),
    ("--loader", "data.loader", str, "auto, native, dali-cpu or dali-gpu."),
    ("--on-error", "data.on_error", str, "Unreadable images: raise, or skip and count them."),
)


@click.command("train", context_settings=CONTEXT)
@config_options(*SHORTHANDS, published=True)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run.")
@click.option(
    "--slurm", multiple=True, metavar="KEY=VALUE", help="Submit as a Slurm job: partition, nodes, gpus_per_node, ..."
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

    Settings come from the defaults, then the YAML file, then --set, then the other options.
    --resume alone needs no --config: the run has its own. The flags of the published system work by
    their names (--cielab, --recall_ce, ...); what each becomes is printed.

    --slurm, once a key, submits the run by submitit; pre-empted or out of time, the job is queued
    again and goes on from its checkpoint. Keys: cluster (slurm, or local to try it), nodes,
    gpus_per_node, tasks_per_node, cpus_per_task, mem_gb, timeout_min, max_timeouts, signal_delay_s,
    name, partition, account, qos, constraint, setup, and more={OPTION: VALUE} of sbatch's.

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
            raise InputError(f"{output}: holds no run to go on with; wanted --config to begin one")
    config, sources = load_config(config_path, overrides, published)
    config = with_output(config, config_path)
    if print_config:
        click.echo(config.to_yaml(), nl=False)
        return

    if slurm:
        from melfast.train.slurm import parse_options, submit_training

        options = parse_options(slurm)
        job = submit_training(config, sources, options, going_on=resume)
        say(f"job {job.job_id}: {options.nodes} x {options.processes_per_node} processes, log {job.paths.stderr}")
        return

    from melfast.cli.progress import live_bar
    from melfast.train.run import run_training

    with live_bar() as progress:
        run_training(config, sources, going_on=resume, progress=progress)
