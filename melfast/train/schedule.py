"""The learning rate as a pure function of the step."""

import math

from melfast.config import OptimConfig


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Rate of step `step` (from 0): a line up to `lr`, then a cosine down to `min_lr_ratio * lr`.

    The first step's rate is above 0 and the last step's above the end of the cosine, so that no
    step is wasted.
    """
    warmup_steps = round(config.warmup * total_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)
