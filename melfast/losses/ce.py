"""Cross-entropy, one value an image."""

import torch
from torch.nn import functional


def cross_entropy(
    logits_bc: torch.Tensor,
    target_b: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of each image, in float32 whatever the logits are.

    Args:
        logits_bc: [B, C].
        target_b: int64 [B], class indices.
        weights: float32 [C]; multiplies the value of the images of a class.
        label_smoothing: share of the target that is spread evenly over the classes.
    Returns:
        float32 [B].
    """
    loss_b = functional.cross_entropy(
        logits_bc.float(), target_b, reduction="none", label_smoothing=label_smoothing
    )
    # torch's own `weight` weighs each class's share of a smoothed target instead of the image.
    return loss_b if weights is None else loss_b * weights[target_b]
