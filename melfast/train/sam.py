"""Sharpness-aware minimisation: the gradient a little way uphill (Foret et al. 2021)."""

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def uphill(model: torch.nn.Module, norm: torch.Tensor, rho: float) -> Iterator[None]:
    """While it lasts, the weights stand `rho` further along their gradient, and the gradient is 0.

    Afterwards they are what they were, to the last bit; the gradient is what was found meanwhile.
    Batch norm's running statistics do not move: they have seen the batch already.

    Args:
        norm: of the gradient; finite.
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
