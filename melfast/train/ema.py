"""Ema: a running average of a network's weights, which is what is measured and saved."""

import copy

import torch


class Ema:
    """An exponential moving average of weights; buffers are those of the network itself.

    The decay rises to its value over the first steps, (1 + step) / (10 + step), so that the random
    start is soon forgotten.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        """
        Args:
            decay: part of the average that is kept at each step.
        """
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """
        Args:
            step: optimizer steps done, this one among them.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
