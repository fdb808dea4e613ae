"""Group DRO: a tone group counts more when its loss is higher, Sagawa et al. 2020, "Distributionally
robust neural networks for group shifts"."""

from typing import Any

import torch

from melfast.losses.cross_entropy import CrossEntropy, cross_entropy_terms, sums_by_cell, unknown_groups, weighted
from melfast.models.heads import PLAIN, PlainHead


def group_dro_loss(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    group_weights: torch.Tensor,
    head: PlainHead = PLAIN,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """-w (q / s) ln p of each image, float32 [B].

    Args:
        group_weights: q / s of each group [G + 1], the last: unknown. q follows the losses of the groups
            (see `group_dro_step`); s is their fraction of the images.
        Others: see `cross_entropy`.

    >>> weights = torch.tensor([0.5, 1.5, 1.0])
    >>> group_dro_loss(torch.zeros(2, 2), torch.tensor([1, 1]), torch.tensor([0, 1]), group_weights=weights)
    tensor([0.3466, 1.0397])
    """
    loss_b, _ = cross_entropy_terms(logits_bk, class_b, group_b, head=head, label_smoothing=label_smoothing)
    loss_b = loss_b * group_weights[unknown_groups(class_b) if group_b is None else group_b]
    return weighted(loss_b, class_b, group_b, weights)


def group_dro_step(log_q: torch.Tensor, loss_g: torch.Tensor, rate: float) -> torch.Tensor:
    """log q after a step: q <- q exp(rate * loss), normalised; both float64 [G + 1].

    >>> group_dro_step(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 1.0]), 1.0).exp()
    tensor([0.2689, 0.7311])
    """
    moved = log_q + rate * loss_g
    return moved - moved.logsumexp(0)


class GroupDroLoss(CrossEntropy):
    """See `group_dro_loss`; images of unknown group are a group of their own."""

    group_share: torch.Tensor
    log_q: torch.Tensor

    def __init__(self, cells: torch.Tensor, rate: float = 0.01, **options: Any) -> None:
        """Also takes the arguments of CrossEntropy.

        Args:
            cells: float [G + 1, C], images of each group (the last: unknown) and class in an epoch.
            rate: how fast the weights follow the losses; 0: cross-entropy.
        """
        super().__init__(**options)
        self.rate = rate
        self.register_buffer("group_share", cells.sum(1) / cells.sum(), persistent=False)
        self.register_buffer("log_q", self.group_share.double().log())

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        return group_dro_loss(logits_bk, class_b, group_b, group_weights=self.group_weights(), **self.options)

    @torch.no_grad()
    def statistics(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        _, log_likelihood_b = cross_entropy_terms(logits_bk, class_b, group_b, head=self.head)
        return sums_by_cell(-log_likelihood_b, group_b % len(self.log_q), len(self.log_q))

    def update(self, sums: torch.Tensor) -> None:
        loss, count = sums
        self.log_q.copy_(group_dro_step(self.log_q, loss / count.clamp_min(1), self.rate))

    def group_weights(self) -> torch.Tensor:
        """Weight over fraction of the images, for each group and the unknown one."""
        q = self.log_q.exp().float()
        return q / self.group_share.clamp_min(1e-12)  # of a group without images, q is 0
