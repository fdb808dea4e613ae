"""Ema: a running average of the weights of a network, which is evaluated and saved."""

import torch
from timm.utils import ModelEmaV3


class Ema(ModelEmaV3):
    """timm's exponential moving average of weights; buffers are copied from the network.

    The decay rises to its value over the first steps as (1 + step) / (10 + step), so that the random
    start is soon forgotten; the warm-up of timm is slower.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        """
        Args:
            decay: fraction of the average that is kept at each step.
        """
        super().__init__(model, decay, exclude_buffers=True)
        self.module.requires_grad_(False)

    def get_decay(self, step: int | None = None) -> float:
        """
        Args:
            step: optimizer steps done, including this one.
        """
        assert step is not None
        return min(self.decay, (1 + step) / (10 + step))
