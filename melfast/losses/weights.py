"""Weights of the classes in the loss."""

from collections.abc import Sequence
from typing import Literal

ClassWeights = Literal["none", "inverse"]


def class_weights(scheme: ClassWeights, class_counts: Sequence[int]) -> tuple[float, ...] | None:
    """One weight a class, 1 on average over the images; None for equal weights.

    Args:
        scheme: `inverse`: images / (classes * images of the class), so that each class weighs the
            same in total.
        class_counts: images of each class, all > 0.
    """
    if scheme == "none":
        return None
    images, classes = sum(class_counts), len(class_counts)
    return tuple(images / (classes * count) for count in class_counts)
