"""The learning rate and the weight decay as pure functions of the step."""

import math

from melfast.config.schema import OptimConfig
from melfast.io.errors import InputError


def warmup_steps(config: OptimConfig, total_steps: int, epochs: int) -> int:
    """Optimizer steps over which the rate rises.

    Raises:
        InputError: the warm-up is as long as the training or longer.
    """
    each = {"fraction": total_steps, "epochs": total_steps / epochs, "steps": 1}
    steps = round(config.warmup * each[config.warmup_unit])
    if steps >= total_steps and config.warmup_unit != "fraction":
        raise InputError(
            f"optim.warmup {config.warmup:g} {config.warmup_unit}: {steps:,} steps of a run of "
            f"{total_steps:,} ({epochs} epochs); wanted fewer"
        )
    return steps


def learning_rate(step: int, total_steps: int, warmup_steps: int, config: OptimConfig) -> float:
    """Learning rate of `step` (from 0): linear up to `lr`, then a cosine down to `min_lr_ratio * lr`.

    The first rate is above 0 and the last one above the end of the cosine, so that no step is wasted.
    """
    if step < warmup_steps:
        return config.lr * (step + 1) / (warmup_steps + 1)
    cosine = _cosine((step - warmup_steps) / max(1, total_steps - warmup_steps))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def weight_decay(step: int, total_steps: int, config: OptimConfig) -> float:
    """Weight decay of `step` (from 0): along a cosine from `weight_decay` to `weight_decay_end`."""
    if config.weight_decay_end is None:
        return config.weight_decay
    cosine = _cosine(step / max(1, total_steps))
    return config.weight_decay_end + (config.weight_decay - config.weight_decay_end) * cosine


def _cosine(progress: float) -> float:
    """From 1 at 0 down to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
