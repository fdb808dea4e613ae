"""Criterion: one value an image from logits, class and tone group; any loss with any head."""

import torch
from numpy.typing import NDArray

from melfast.config.schema import LossConfig
from melfast.losses.weights import cell_weights
from melfast.models.heads import log_likelihood, log_probabilities, mean_log_probability, predicted_class
from melfast.models.record import Head

Statistics = torch.Tensor | None


class Criterion(torch.nn.Module):
    """The loss of a config.

    `ce`: cross-entropy. `focal`: times (1 - P)^gamma, Lin et al. 2017. `ohem`: the hardest images
    of a batch alone, Shrivastava et al. 2016. `recall_ce`: times the running false-negative rate of
    the image's class, of its class and group where the head tells groups, Tian et al. 2022.
    `group_dro`: times the weight of its group, which rises with the group's loss, Sagawa et al.
    2020. Each image's value is then multiplied by its weight (see melfast.losses.weights).

    The last two learn from step to step: the loop adds up `statistics` over the pieces and
    processes of a step and hands them to `update`. What they know is in `state_dict`.
    """

    weights: torch.Tensor
    share: torch.Tensor
    group_share: torch.Tensor
    right: torch.Tensor
    seen: torch.Tensor
    log_q: torch.Tensor

    def __init__(self, config: LossConfig, cells: NDArray, head: Head = "plain") -> None:
        """
        Args:
            cells: [G + 1, C], how many training images of each tone group and class are drawn in an
                epoch, those of unknown group in the last row.
        """
        super().__init__()
        self.config, self.head = config, head
        self.num_classes = cells.shape[1]
        counts = torch.from_numpy(cells).float()
        self.register_buffer("weights", cell_weights(config.weights, counts), persistent=False)
        # By what the running numbers are kept: cells for heads of groups, else classes.
        by_group = head != "plain"
        kept = counts if by_group else counts.sum(0, keepdim=True)
        self.register_buffer("share", kept / kept.sum(), persistent=False)
        self.register_buffer("group_share", counts.sum(1) / counts.sum(), persistent=False)
        self.register_buffer("right", torch.zeros_like(kept, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros_like(kept, dtype=torch.float64))
        self.register_buffer("log_q", self.group_share.double().log())

    def forward(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits_bk: [B, K].
            class_b, group_b: int64 [B]; group -1: unknown.
        Returns:
            float32 [B]; the loop divides their sum by the images of the step.
        """
        config = self.config
        logp_bgc = log_probabilities(logits_bk, self.head, self.num_classes)
        log_likelihood_b = log_likelihood(logp_bgc, class_b, group_b, self.head)
        loss_b = -log_likelihood_b
        if config.label_smoothing:
            even_b = mean_log_probability(logp_bgc, group_b, self.head)
            loss_b = torch.lerp(loss_b, -even_b, config.label_smoothing)
        hardness_b = loss_b.detach()
        if config.name == "focal":
            # 1 - P as expm1, and not quite 0: its power below 1 has no slope there.
            miss_b = (-torch.expm1(log_likelihood_b)).clamp_min(1e-6)
            loss_b = loss_b * miss_b**config.focal_gamma
        elif config.name == "recall_ce":
            loss_b = loss_b * self.recall_weights()[self._row(group_b), class_b]
        elif config.name == "group_dro":
            loss_b = loss_b * self.group_weights()[group_b]
        loss_b = loss_b * self.weights[group_b, class_b]
        return self._hardest(loss_b, hardness_b) if config.name == "ohem" else loss_b

    def statistics(self, logits_bk: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor) -> Statistics:
        """What `update` wants of a piece, to be summed over pieces and processes; None where the
        loss does not learn. No gradient."""
        if self.config.name not in ("recall_ce", "group_dro"):
            return None
        with torch.no_grad():
            logp_bgc = log_probabilities(logits_bk, self.head, self.num_classes)
            if self.config.name == "recall_ce":
                place_b = self._row(group_b) % len(self.share) * self.num_classes + class_b
                size, found_b = (self.share.numel(), predicted_class(logp_bgc, group_b, self.head) == class_b)
            else:
                place_b, size = group_b % len(self.log_q), len(self.log_q)
                found_b = -log_likelihood(logp_bgc, class_b, group_b, self.head)
            sums = torch.zeros(2, size, dtype=torch.float64, device=logits_bk.device)
            sums[0].index_add_(0, place_b, found_b.double())
            sums[1].index_add_(0, place_b, torch.ones_like(place_b, dtype=torch.float64))
        return sums

    def update(self, sums: torch.Tensor) -> None:
        """Learns from the `statistics` of a whole step."""
        first, count = sums
        if self.config.name == "recall_ce":
            decay = self.config.recall_momentum
            self.right.mul_(decay).add_(first.view_as(self.right))
            self.seen.mul_(decay).add_(count.view_as(self.seen))
        else:
            mean_g = first / count.clamp_min(1)
            self.log_q.add_(self.config.dro_rate * mean_g)
            self.log_q.sub_(self.log_q.logsumexp(0))

    def recall_weights(self) -> torch.Tensor:
        """Of each kept cell; 1 on average over the images. As if one image had been missed before
        the first was seen, so they start equal."""
        missed = (self.seen - self.right + 1) / (self.seen + 1)
        relative = (missed / (missed * self.share).sum()).float()
        return torch.lerp(torch.ones_like(relative), relative, self.config.recall_strength)

    def group_weights(self) -> torch.Tensor:
        """Of each group and the unknown: its weight over its share of the images."""
        q = self.log_q.exp().float()
        return q / self.group_share.clamp_min(1e-12)  # of a group without images, q is 0

    def _row(self, group_b: torch.Tensor) -> torch.Tensor:
        """Row of the kept cells: -1, the unknown, is the last."""
        return group_b if self.head != "plain" else torch.zeros_like(group_b)

    def _hardest(self, loss_b: torch.Tensor, hardness_b: torch.Tensor) -> torch.Tensor:
        """The others become 0, and the mean over the batch that over the hardest."""
        count = max(1, round(self.config.ohem_fraction * len(loss_b)))
        kept = hardness_b.topk(count).indices
        mask = torch.zeros_like(loss_b).index_fill_(0, kept, len(loss_b) / count)
        return loss_b * mask
