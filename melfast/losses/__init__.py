"""Losses: pure functions of logits and targets that give one value an image; one builder.

The loop adds the values up and divides by the number of images of the step, so that a step is the
same however it is dealt over processes and accumulated pieces.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from melfast.config import LossConfig
from melfast.losses.ce import cross_entropy
from melfast.losses.weights import class_weights

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(config: LossConfig, class_counts: Sequence[int], device: torch.device) -> Loss:
    """The loss of a config: (logits [B, C], targets int64 [B]) -> float32 [B].

    Args:
        class_counts: images of each class in the training split.
    """
    weights = class_weights(config.class_weights, class_counts)
    tensor = None if weights is None else torch.tensor(weights, device=device)
    return partial(cross_entropy, weights=tensor, label_smoothing=config.label_smoothing)
