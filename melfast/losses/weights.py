"""Weights of images in the loss, per class or per tone group and class."""

from typing import Literal

import torch

from melfast.io.words import check_words

Weights = Literal["none", "ifw_class", "ifw_class_group"]


@check_words
def cell_weights(scheme: Weights, cells: torch.Tensor) -> torch.Tensor:
    """One weight per cell, averaging 1 over the images.

    Args:
        scheme: inverse frequency weights: `ifw_class`: each class has the same total weight;
            `ifw_class_group`: each pair of tone group and class with images; `none`: all 1.
        cells: float [G + 1, C], images of each tone group (the last: unknown) and class.
    Returns:
        float32 [G + 1, C]; with `ifw_class_group` 0 for a cell without images.
    """
    if scheme == "none":
        return torch.ones_like(cells)
    if scheme == "ifw_class":
        by_class = cells.sum(0)
        return (cells.sum() / (len(by_class) * by_class)).expand_as(cells).contiguous()
    filled = cells > 0
    return torch.where(filled, cells.sum() / (filled.sum() * cells.clamp_min(1e-12)), 0.0)
