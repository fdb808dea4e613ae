"""OHEM: train only on the hardest images of a batch, Shrivastava et al. 2016, "Training region-based object
detectors with online hard example mining"."""

from typing import Any

import torch

from melfast.losses.cross_entropy import CrossEntropy, cross_entropy_terms, weighted
from melfast.models.heads import PLAIN, PlainHead


def ohem_loss(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    fraction: float = 0.7,
    head: PlainHead = PLAIN,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of the hardest images, 0 for the others; float32 [B].

    Its mean over the batch equals the mean over the hardest images. Hard means a high loss before weighting.

    Args:
        fraction: fraction of the batch that counts; 1: cross-entropy.
        Others: see `cross_entropy`.

    >>> logits = torch.log(torch.tensor([[0.25, 0.75], [0.75, 0.25]]))
    >>> ohem_loss(logits, torch.tensor([1, 1]), fraction=0.5)  # 2 * -ln 0.25
    tensor([0.0000, 2.7726])
    """
    loss_b, _ = cross_entropy_terms(logits_bk, class_b, group_b, head=head, label_smoothing=label_smoothing)
    count = max(1, round(fraction * len(loss_b)))
    hardest = loss_b.detach().topk(count).indices
    mask_b = torch.zeros_like(loss_b).index_fill_(0, hardest, len(loss_b) / count)
    return weighted(loss_b, class_b, group_b, weights) * mask_b


class OhemLoss(CrossEntropy):
    """See `ohem_loss`."""

    def __init__(self, fraction: float = 0.7, **options: Any) -> None:
        """Also takes the arguments of CrossEntropy."""
        super().__init__(**options)
        self.fraction = fraction

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return ohem_loss(logits_bk, class_b, group_b, fraction=self.fraction, **self.options)
