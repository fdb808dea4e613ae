"""Recall loss: a class counts more when it is missed more often, Tian et al. 2022, "Striking the right
balance: recall loss for semantic segmentation"."""

from typing import Any

import torch

from melfast.losses.cross_entropy import CrossEntropy, cross_entropy, sums_by_cell, weighted
from melfast.models.heads import PLAIN, PlainHead


def recall_ce_loss(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    recall_weights: torch.Tensor,
    head: PlainHead = PLAIN,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """-w r ln p of each image, float32 [B].

    Args:
        recall_weights: r of each group (the last: unknown) and class [G + 1, C], or [1, C] for all
            groups alike; see `recall_weights`.
        Others: see `cross_entropy`.

    >>> missed = torch.tensor([[0.5, 1.5]])  # malignant is missed more often
    >>> recall_ce_loss(torch.zeros(2, 2), torch.tensor([0, 1]), recall_weights=missed)
    tensor([0.3466, 1.0397])
    """
    loss_b = cross_entropy(
        logits_bk, class_b, group_b, head=head, weights=recall_weights, label_smoothing=label_smoothing
    )
    return weighted(loss_b, class_b, group_b, weights)


def recall_weights(found: torch.Tensor, seen: torch.Tensor, share: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """1 - strength + strength * f / mean f, f = (seen - found + 1) / (seen + 1) the false-negative rate.

    Counts start as if one image had been missed, so the weights start equal.

    Args:
        found, seen: correctly classified images and all images of each cell; float64, any shape.
        share: fraction of the images in each cell; the weights average 1 over the images.
        strength: 0: all 1; 1: proportional to the false-negative rate.

    >>> recall_weights(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5]))
    tensor([0.6667, 1.3333])
    """
    missed = (seen - found + 1) / (seen + 1)
    relative = (missed / (missed * share).sum()).float()
    return torch.lerp(torch.ones_like(relative), relative, strength)


class RecallLoss(CrossEntropy):
    """See `recall_ce_loss`; counts per class, or per class and group if the head uses groups."""

    share: torch.Tensor
    right: torch.Tensor
    seen: torch.Tensor

    def __init__(self, cells: torch.Tensor, momentum: float = 0.99, strength: float = 1.0, **options: Any) -> None:
        """Also takes the arguments of CrossEntropy.

        Args:
            cells: float [G + 1, C], images of each group (the last: unknown) and class in an epoch.
            momentum: fraction of the running counts that is kept at each step.
        """
        super().__init__(**options)
        self.momentum, self.strength = momentum, strength
        kept = cells if self.head.by_group else cells.sum(0, keepdim=True)
        self.register_buffer("share", kept / kept.sum(), persistent=False)
        self.register_buffer("right", torch.zeros_like(kept, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros_like(kept, dtype=torch.float64))

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return recall_ce_loss(logits_bk, class_b, group_b, recall_weights=self.recall_weights(), **self.options)

    @torch.no_grad()
    def statistics(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        found_b = self.head.predicted_class(self.head.log_probabilities(logits_bk), group_b) == class_b
        place_b = group_b % len(self.share) * self.share.shape[1] + class_b
        return sums_by_cell(found_b, place_b, self.share.numel())

    def update(self, sums: torch.Tensor) -> None:
        right, seen = sums
        self.right.mul_(self.momentum).add_(right.view_as(self.right))
        self.seen.mul_(self.momentum).add_(seen.view_as(self.seen))

    def recall_weights(self) -> torch.Tensor:
        """Weights of the cells, see the function."""
        return recall_weights(self.right, self.seen, self.share, self.strength)
