"""Focal loss: easy images count less, Lin et al. 2017, "Focal loss for dense object detection"."""

from typing import Any

import torch

from melfast.losses.cross_entropy import CrossEntropy, cross_entropy_terms, weighted
from melfast.models.heads import PLAIN, PlainHead


def focal_loss(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    gamma: float = 2.0,
    head: PlainHead = PLAIN,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """-w (1 - p)^gamma ln p of each image, float32 [B]; p is the probability on which the head is trained.

    Args:
        gamma: exponent; 0: cross-entropy.
        Others: see `cross_entropy`.

    >>> focal_loss(torch.log(torch.tensor([[0.25, 0.75]])), torch.tensor([1]))  # 0.25^2 * 0.288
    tensor([0.0180])
    """
    loss_b, log_likelihood_b = cross_entropy_terms(
        logits_bk, class_b, group_b, head=head, label_smoothing=label_smoothing
    )
    # 1 - P as expm1, kept above 0, where powers below 1 have no finite slope.
    miss_b = (-torch.expm1(log_likelihood_b)).clamp_min(1e-6)
    return weighted(loss_b * miss_b**gamma, class_b, group_b, weights)


class FocalLoss(CrossEntropy):
    """See `focal_loss`."""

    def __init__(self, gamma: float = 2.0, **options: Any) -> None:
        """Also takes the arguments of CrossEntropy."""
        super().__init__(**options)
        self.gamma = gamma

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return focal_loss(logits_bk, class_b, group_b, gamma=self.gamma, **self.options)
