"""decode: logits to P(malignant), for training metrics, evaluation and the exported graph alike."""

import torch

from melfast.models.record import Head


def decode(logits_bc: torch.Tensor, head: Head = "plain") -> torch.Tensor:
    """P(malignant) of each image.

    Args:
        logits_bc: [B, C], any float type; the last class is the malignant one.
        head: `plain`: softmax over the classes.
    Returns:
        float32 [B]. The softmax is taken in float32 whatever the logits are: half precision would
        round probabilities near 0 and 1.
    """
    if head != "plain":
        raise ValueError(f"unknown head {head!r}")
    return logits_bc.float().softmax(dim=1)[:, -1]
