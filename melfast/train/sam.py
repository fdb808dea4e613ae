"""Sharpness-aware minimisation: takes the gradient at nearby weights with a higher loss (Foret et al. 2021)."""

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def uphill(model: torch.nn.Module, norm: torch.Tensor, rho: float) -> Iterator[None]:
    """In the block, the weights are moved by `rho` along their gradient, and the gradient is 0.

    Afterwards the weights are restored exactly, and the gradient is the one computed in the block. Running
    statistics of batch norm are not updated, because they have already seen the batch.

    Args:
        norm: norm of the gradient; finite.
    """
    moved = [p for p in model.parameters() if p.grad is not None]
    before = [p.detach().clone() for p in moved]
    with torch.no_grad():
        for parameter in moved:
            assert parameter.grad is not None
            parameter.add_(parameter.grad * (rho / (norm + 1e-12)))
            parameter.grad = None
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    # Not `track_running_stats`: without it a layer in eval mode would use the batch's statistics.
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        with torch.no_grad():
            for parameter, weight in zip(moved, before, strict=True):
                parameter.copy_(weight)
