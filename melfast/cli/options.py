"""Options that several commands share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)

# Of the published system's flags (melfast.config.published_flags) those that no option of ours is called like.
PUBLISHED_ONLY = (
    "skin_color_csv",
    "num_classes",
    "num_groups",
    "freeze_model",
    "update_freq",
    "min_lr",
    "weight_decay",
    "warmup_epochs",
    "mixup",
    "cutmix",
    "smoothing",
    "log_dir",
    "checkpoint",
    "test",
    "ohem",
    "ifw",
    "recall_ce",
    "focal_loss",
    "domain_independent_loss",
    "domain_discriminative_loss",
    "conditional_accuracy",
    "oversample_malignant",
    "undersample_benign",
    "undersample_benign_ratio",
    "cielab",
    "skin_former",
    "segment_out_skin",
    "use_amp",
    "model_ema",
    "layer_decay",
    "distributed",
    "world_size",
    "dist_url",
)

# Option with its other names, config key, type, help. Each is the short form of `--set KEY=VALUE`.
Shorthand = tuple[str, str, Any, str]


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands that go over every image: --quarantine and --threads."""
    function = click.option("--threads", type=click.IntRange(min=1), help="Images at a time.  [default: all cores]")(
        function
    )
    return click.option(
        "--quarantine", type=FILE, help="Table of the bad images with reasons.  [default: OUTPUT with .bad.csv]"
    )(function)


tta_option = click.option(
    "--tta",
    type=click.Choice(["none", "flips", "rotations"]),
    default="none",
    show_default=True,
    help="Mean over mirror images, and quarter turns of square inputs: 4 or 8 times the time.",
)


def inference_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of commands that run checkpoints over images: the fields of melfast.models.running.InferenceSettings."""
    for option in reversed(
        [
            click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
            click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32"),
            click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True),
            click.option(
                "--loader",
                default="auto",
                help="What makes the batches.",
                type=click.Choice(["auto", "native", "dali-cpu", "dali-gpu"]),
            ),
            tta_option,
            click.option("--threads", type=click.IntRange(min=0), default=0, help="Loader threads; 0: auto."),
            click.option("--on-error", type=click.Choice(["raise", "skip"]), default="raise"),
        ]
    ):
        function = option(function)
    return function


def config_options(*shorthands: Shorthand, published: bool = False) -> Callable[..., Any]:
    """Of commands that have a config: --config, --set, --input-size and the shorthands.

    The command is called with `config_path`, and with all that the user set as `overrides`. With
    `published`, the published system's flags are known as well and come as `published`.
    """
    names = PUBLISHED_ONLY if published else ()

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*, sets: tuple[str, ...], input_size: str | None, **given: Any) -> Any:
            from melfast.config.loading import Override, parse_setting

            overrides = [parse_setting(text) for text in sets]
            for option, key, _, _ in shorthands:
                value = given.pop(key.replace(".", "__"))
                if value is not None:
                    overrides.append(Override(key, value, option.split()[0]))
            if input_size is not None:
                width, height = parse_size(input_size)
                overrides.append(Override("preprocess.width", width, "--input-size"))
                overrides.append(Override("preprocess.height", height, "--input-size"))
            if published:
                flags = {name: given.pop(name) for name in names}
                given["published"] = {k: v for k, v in flags.items() if v is not None}
            return function(overrides=overrides, **given)

        decorators = [
            click.option("--config", "config_path", type=Path, help="YAML file; see configs/."),
            *(
                click.option(*option.split(), key.replace(".", "__"), type=kind, help=f"{text} [{key}]")
                for option, key, kind, text in shorthands
            ),
            click.option("--input-size", metavar="WxH", help="Model input, 128x96. [preprocess.width, height]"),
            click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the config."),
            *(
                # Bare, as --cielab, a flag is on.
                click.option(f"--{name.replace('_', '-')}", name, is_flag=False, flag_value="true", hidden=True)
                for name in names
            ),
        ]
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def parse_size(text: str) -> tuple[int, int]:
    """`128x96` (width x height) or `128` as (width, height)."""
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        raise click.BadParameter(f"{text!r}: wanted WIDTHxHEIGHT as 128x96, or one number", param_hint="'--input-size'")
    return int(words[0]), int(words[-1])
