"""Cross-entropy: the basis of every loss, and the base class of all."""

from typing import Any, NamedTuple

import torch

from melfast.models.heads import PLAIN, PlainHead


class CrossEntropyTerms(NamedTuple):
    """The terms of a loss.

    Attributes:
        loss_b: cross-entropy of each image with label smoothing, float32 [B].
        log_likelihood_b: log P on which the head is trained, without smoothing, [B].
    """

    loss_b: torch.Tensor
    log_likelihood_b: torch.Tensor


def cross_entropy_terms(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    head: PlainHead = PLAIN,
    label_smoothing: float = 0.0,
) -> CrossEntropyTerms:
    """(1 - e) (-ln p_c) + e mean over classes of -ln p, within the image's own group (Szegedy et al. 2016).

    Args:
        logits_bk: [B, K], outputs of the head.
        class_b: int64 [B].
        group_b: int64 [B], -1 unknown; None: all unknown.
        label_smoothing: e, in 0..1.
    """
    group_b = unknown_groups(class_b) if group_b is None else group_b
    logp_bgc = head.log_probabilities(logits_bk)
    log_likelihood_b = head.log_likelihood(logp_bgc, class_b, group_b)
    loss_b = -log_likelihood_b
    if label_smoothing:
        loss_b = torch.lerp(loss_b, -head.mean_log_probability(logp_bgc, group_b), label_smoothing)
    return CrossEntropyTerms(loss_b, log_likelihood_b)


def cross_entropy(
    logits_bk: torch.Tensor,
    class_b: torch.Tensor,
    group_b: torch.Tensor | None = None,
    *,
    head: PlainHead = PLAIN,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of each image, times its weight: -w ln p; float32 [B].

    Args:
        logits_bk, class_b, group_b, head, label_smoothing: see `cross_entropy_terms`.
        weights: weight of each group (the last: unknown) and class [G + 1, C], see `cell_weights`; None: 1.

    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor([0.6931])
    """
    loss_b = cross_entropy_terms(logits_bk, class_b, group_b, head=head, label_smoothing=label_smoothing).loss_b
    return weighted(loss_b, class_b, group_b, weights)


def weighted(
    loss_b: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor | None, weights: torch.Tensor | None
) -> torch.Tensor:
    """Multiplies a loss by the weight of each group and class, [G + 1, C], or [1, C] for all groups."""
    if weights is None:
        return loss_b
    if len(weights) == 1:
        return loss_b * weights[0, class_b]
    return loss_b * weights[unknown_groups(class_b) if group_b is None else group_b, class_b]


def unknown_groups(class_b: torch.Tensor) -> torch.Tensor:
    return torch.full_like(class_b, -1)


def sums_by_cell(value_b: torch.Tensor, place_b: torch.Tensor, size: int) -> torch.Tensor:
    """Sum of a value, and number of images, in each of `size` cells; float64 [2, size]."""
    sums = torch.zeros(2, size, dtype=torch.float64, device=value_b.device)
    sums[0].index_add_(0, place_b, value_b.double())
    sums[1].index_add_(0, place_b, torch.ones_like(place_b, dtype=torch.float64))
    return sums


class CrossEntropy(torch.nn.Module):
    """See `cross_entropy`; the base of all losses.

    Some losses learn from step to step: the loop sums `statistics` over the pieces and processes of a
    step and passes them to `update`. Their state is in `state_dict`.
    """

    weights: torch.Tensor | None

    def __init__(
        self, *, head: PlainHead = PLAIN, weights: torch.Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        """See `cross_entropy`."""
        super().__init__()
        self.head, self.label_smoothing = head, label_smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits_bk: [B, K].
            class_b, group_b: int64 [B]; group -1: unknown.
        Returns:
            float32 [B]; the loop divides their sum by the images of the step.
        """
        return cross_entropy(logits_bk, class_b, group_b, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of every loss function."""
        return {"head": self.head, "weights": self.weights, "label_smoothing": self.label_smoothing}

    def statistics(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor | None:
        """Statistics of a piece for `update`, to be summed over pieces and processes; None if the loss
        does not learn. No gradient."""
        return None

    def update(self, sums: torch.Tensor) -> None:
        """Updates the state from the `statistics` of a whole step."""
