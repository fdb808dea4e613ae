"""Heads: how the logits of a network relate to classes and tone groups.

`plain`: a softmax over the C classes. `domain_discriminative`: one over all G * C pairs of group
and class, output group * C + class. `domain_independent`: a softmax over the classes for each
group. After Wang et al. 2020, "Towards Fairness in Visual Recognition".

In training an image of unknown group counts by what its class alone says: with a discriminative
head the probability of its class summed over the groups, with an independent one its mean.
"""

import math

import torch

from melfast.models.record import Head


def log_probabilities(logits_bk: torch.Tensor, head: Head, num_classes: int) -> torch.Tensor:
    """[B, G, C] in float32, G being 1 for `plain`: log P(class), log P(group, class), or
    log P(class | group), by the head."""
    logits_bgc = logits_bk.float().unflatten(1, (-1, num_classes))
    if head == "domain_discriminative":
        return logits_bgc.flatten(1).log_softmax(1).view_as(logits_bgc)
    return logits_bgc.log_softmax(2)


def log_likelihood(logp_bgc: torch.Tensor, class_b: torch.Tensor, group_b: torch.Tensor, head: Head) -> torch.Tensor:
    """log P of each image's class, and of its group where the head tells groups, [B].

    Args:
        logp_bgc: of `log_probabilities`.
        class_b, group_b: int64 [B]; group -1: unknown.
    """
    by_group = logp_bgc.gather(2, class_b[:, None, None].expand(-1, logp_bgc.shape[1], 1))[..., 0]
    if head == "plain":
        return by_group[:, 0]
    own = by_group.gather(1, group_b.clamp_min(0)[:, None])[:, 0]
    return torch.where(group_b >= 0, own, _over_groups(by_group, head))


def mean_log_probability(logp_bgc: torch.Tensor, group_b: torch.Tensor, head: Head) -> torch.Tensor:
    """Mean over the classes of log P of class and own group, [B]: what label smoothing pulls up.

    Never another group's: with a discriminative head each pair would get the same share of every
    image, and for the rarest pairs the prior shift would make it the greater part of the answer.
    """
    by_group = logp_bgc.mean(2)
    if head == "plain":
        return by_group[:, 0]
    own = by_group.gather(1, group_b.clamp_min(0)[:, None])[:, 0]
    anyone = by_group.mean(1) if head == "domain_independent" else logp_bgc.logsumexp(1).mean(1)
    return torch.where(group_b >= 0, own, anyone)


def predicted_class(logp_bgc: torch.Tensor, group_b: torch.Tensor, head: Head) -> torch.Tensor:
    """The likeliest class of each image, int64 [B]; by its own group with an independent head."""
    if head == "domain_independent":
        own = logp_bgc[torch.arange(len(group_b)), group_b.clamp_min(0)]
        anyone = _over_groups(logp_bgc, head)
        return torch.where(group_b[:, None] >= 0, own, anyone).argmax(1)
    return logp_bgc.logsumexp(1).argmax(1)


def _over_groups(logp: torch.Tensor, head: Head) -> torch.Tensor:
    """log of the sum of P(group, .) or of the mean of P(. | group) over the groups, axis 1."""
    together = logp.logsumexp(1)
    return together - math.log(logp.shape[1]) if head == "domain_independent" else together
