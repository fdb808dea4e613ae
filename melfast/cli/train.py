"""melfast train."""

from pathlib import Path
from typing import Any

import click

from melfast.cli import CONTEXT

# Option with its other names, config key, type, help. Each is the short form of `--set KEY=VALUE`.
SHORTHANDS: tuple[tuple[str, str, Any, str], ...] = (
    ("--data-path", "data.path", str, "Manifest, or data set that `prepare import` knows."),
    ("--output-dir", "output.dir", str, "Folder of the run; runs/NAME of the config without it."),
    ("--model", "model.backbone", str, "timm backbone."),
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


def shorthand_options(function: Any) -> Any:
    for option, key, kind, text in reversed(SHORTHANDS):
        names = (*option.split(), key.replace(".", "__"))
        function = click.option(*names, type=kind, help=f"{text} [{key}]")(function)
    return function


@click.command("train", context_settings=CONTEXT)
@click.option("--config", "config_path", type=Path, help="YAML file; see configs/.")
@shorthand_options
@click.option("--input-size", metavar="WxH", help="Model input, 128x96. [preprocess.width, height]")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the config.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run.")
@click.option("--print-config", is_flag=True, help="Print the resolved config and stop.")
def command(
    config_path: Path | None,
    input_size: str | None,
    sets: tuple[str, ...],
    resume: bool,
    print_config: bool,
    **shorthands: Any,
) -> None:
    """Train a classifier.

    Settings come from the defaults, then the YAML file, then --set, then the other options.
    --resume alone needs no --config: the run has its own.

    \b
    Examples:
      melfast train --config configs/quickstart.yaml --data-path data --output-dir runs/first
      melfast train --output-dir runs/first --resume
      torchrun --nproc-per-node 2 -m melfast train --config configs/ham10000.yaml --data-path DIR
    """
    from dataclasses import replace

    from melfast.config import load_config
    from melfast.settings import Override, parse_setting

    overrides = [parse_setting(text) for text in sets]
    for option, key, _, _ in SHORTHANDS:
        value = shorthands[key.replace(".", "__")]
        if value is not None:
            overrides.append(Override(key, value, option.split()[0]))
    if input_size is not None:
        width, height = parse_size(input_size)
        overrides.append(Override("preprocess.width", width, "--input-size"))
        overrides.append(Override("preprocess.height", height, "--input-size"))
    output = shorthands["output__dir"]
    if config_path is None and resume and output and (Path(output) / "config.yaml").is_file():
        config_path = Path(output) / "config.yaml"
    config, sources = load_config(config_path, overrides)
    if not config.output.dir:
        name = config_path.stem if config_path else config.model.backbone
        config = replace(config, output=replace(config.output, dir=str(Path("runs") / name)))
    if print_config:
        click.echo(config.to_yaml(), nl=False)
        return

    from melfast.train.run import run_training

    run_training(config, sources, going_on=resume)


def parse_size(text: str) -> tuple[int, int]:
    """`128x96` (width x height) or `128` as (width, height)."""
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        raise click.BadParameter(
            f"{text!r}: wanted WIDTHxHEIGHT as 128x96, or one number", param_hint="'--input-size'"
        )
    return int(words[0]), int(words[-1])
