"""Options that several commands share."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)

# Flags of the published system (melfast.config.published_flags) that share no name with our own options.
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

# Option with its aliases, config key, type, help. Each is the short form of `--set KEY=VALUE`.
Shorthand = tuple[str, str, Any, str]


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--quarantine and --threads, for commands that process every image."""
    function = click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=lambda: len(os.sched_getaffinity(0)),
        help="Number of images processed at the same time.  [default: all cores]",
    )(function)
    return click.option(
        "--quarantine",
        type=FILE,
        help="Table to write of the bad images and what is wrong with them.  [default: OUTPUT with .bad.csv]",
    )(function)


tta_option = click.option(
    "--tta",
    type=click.Choice(["none", "flips", "rotations"]),
    default="none",
    show_default=True,
    help="Average the predictions over mirror images (flips, 4 times the work) and also over quarter turns of square "
    "inputs (rotations, 8 times the work).",
)


def inference_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fields of melfast.models.running.InferenceSettings, for commands that run checkpoints on images."""
    for option in reversed(
        [
            click.option(
                "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Run on this device."
            ),
            click.option(
                "--precision",
                type=click.Choice(["fp32", "bf16", "fp16"]),
                default="fp32",
                help="Compute in this floating-point format.",
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(min=1),
                default=64,
                show_default=True,
                help="Number of images per batch.",
            ),
            click.option(
                "--loader",
                default="auto",
                help="Load images with this backend.",
                type=click.Choice(["auto", "native", "dali-cpu", "dali-gpu"]),
            ),
            tta_option,
            click.option(
                "--threads", type=click.IntRange(min=0), default=0, help="Number of loader threads; 0 chooses it."
            ),
            click.option(
                "--on-error",
                type=click.Choice(["raise", "skip"]),
                default="raise",
                help="Stop at an unreadable image, or skip it and count it.",
            ),
        ]
    ):
        function = option(function)
    return function


def config_options(*shorthands: Shorthand, published: bool = False) -> Callable[..., Any]:
    """--config, --set, --input-size and the shorthands, for commands that have a config.

    The command receives `config_path`, and everything that the user set as `overrides`. With
    `published`, it also accepts the published system's flags and receives them as `published`.
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
            click.option("--config", "config_path", type=Path, help="Read settings from this YAML file; see configs/."),
            *(
                click.option(*option.split(), key.replace(".", "__"), type=kind, help=f"{text} [{key}]")
                for option, key, kind, text in shorthands
            ),
            click.option(
                "--input-size",
                metavar="WxH",
                help="Resize images to this size for the model, for example 128x96. [preprocess.width, height]",
            ),
            click.option(
                "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set any key of the config; may be repeated."
            ),
            *(
                # A flag without a value, such as --cielab, is on.
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
        raise click.BadParameter(
            f"{text!r}: expected WIDTHxHEIGHT as 128x96, or one number", param_hint="'--input-size'"
        )
    return int(words[0]), int(words[-1])
