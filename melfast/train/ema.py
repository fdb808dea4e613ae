"""Ema: a running average of a network's weights, which is what is measured and saved."""

import torch
from timm.utils import ModelEmaV3


class Ema(ModelEmaV3):
    """timm's exponential moving average of weights; buffers are those of the network itself.

    The decay rises to its value over the first steps, (1 + step) / (10 + step), so that the random
    start is soon forgotten; timm's own warm-up is slower.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        """
        Args:
            decay: part of the average that is kept at each step.
        """
        super().__init__(model, decay, exclude_buffers=True)
        self.module.requires_grad_(False)

    def get_decay(self, step: int | None = None) -> float:
        """
        Args:
            step: optimizer steps done, this one among them.
        """
        assert step is not None
        return min(self.decay, (1 + step) / (10 + step))
