"""decode: logits to P(malignant), for training metrics, evaluation and the exported graph alike."""

import torch

from melfast.models.record import ModelRecord


def decode(
    logits_bk: torch.Tensor, record: ModelRecord, group_b: torch.Tensor | None = None
) -> torch.Tensor:
    """P(malignant) of each image: of the last class.

    `plain`: softmax. `domain_discriminative`: P(group, class) divided by its share in training
    (prior shift to equally frequent pairs), summed over the groups. `domain_independent`: softmax
    of the logits' mean over the groups; with record.inference `group_conditional`, the softmax of
    the image's own group where that is known. Wang et al. 2020. Of groups that had no training
    image of a class, nothing could be learnt: pairs without images, and for the independent head
    groups that lack a class, are left out.

    Args:
        logits_bk: [B, K], any float type.
        record: head, classes and priors of the model.
        group_b: int64 [B], -1 unknown; None: all unknown.
    Returns:
        float32 [B]. Softmax is taken in float32 whatever the logits are: half precision would round
        probabilities near 0 and 1.
    """
    logits = logits_bk.float()
    if record.head == "plain":
        return logits.softmax(dim=1)[:, -1]
    priors = torch.tensor(record.priors, dtype=torch.float32, device=logits.device)  # [G, C]
    if record.head == "domain_discriminative":
        weights = torch.where(priors > 0, 1 / priors, 0.0)
        joint_bgc = logits.softmax(dim=1).view(-1, *priors.shape) * weights
        by_class = joint_bgc.sum(dim=1)
        return by_class[:, -1] / by_class.sum(dim=1)
    learnt = (priors > 0).all(dim=1)
    logits_bgc = logits.view(-1, *priors.shape)
    mean_bc = logits_bgc[:, learnt].mean(dim=1)
    if record.inference == "group_conditional" and group_b is not None:
        known = (group_b >= 0) & learnt[group_b.clamp_min(0)]
        own_bc = logits_bgc[torch.arange(len(logits)), group_b.clamp_min(0)]
        mean_bc = torch.where(known[:, None], own_bc, mean_bc)
    return mean_bc.softmax(dim=1)[:, -1]
