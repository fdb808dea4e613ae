"""decode: logits to P(malignant), for training metrics, evaluation and the exported graph alike."""

import torch

from melfast.models.record import ModelRecord


def decode(logits_bk: torch.Tensor, record: ModelRecord, group_b: torch.Tensor | None = None) -> torch.Tensor:
    """P(malignant) of each image: of the last class.

    `plain`: softmax. `domain_discriminative`: P(group, class) divided by its share in training
    (prior shift to equally frequent pairs), summed over the groups. `domain_independent`: softmax
    of the logits' mean over the groups; with record.inference `group_conditional`, the softmax of
    the image's own group where that is known. Wang et al. 2020. Of groups that had no training
    image of a class, nothing could be learnt: pairs without images, and for the independent head
    groups that lack a class, are left out. The calibration of the record comes last.

    Args:
        logits_bk: [B, K], any float type.
        record: head, classes and priors of the model.
        group_b: int64 [B], -1 unknown; None: all unknown.
    Returns:
        float32 [B]. Softmax is taken in float32 whatever the logits are: half precision would round
        probabilities near 0 and 1.
    """
    return calibrated(_probability(logits_bk.float(), record, group_b), record)


def calibrated(probability_b: torch.Tensor, record: ModelRecord) -> torch.Tensor:
    """P(malignant) by the calibration of the record: its temperature or its isotonic knots."""
    if record.temperature != 1:
        clipped = probability_b.clamp(1e-7, 1 - 1e-7)
        odds = clipped.log() - (-clipped).log1p()
        return (odds / record.temperature).sigmoid()
    if not record.isotonic:
        return probability_b
    # A sum of ramps: every engine has these, not every one can look up a table.
    p = probability_b.double()
    x, y = torch.tensor(record.isotonic, dtype=torch.float64).type_as(p).T  # see _probability
    wide, high = x.diff(), y.diff()
    slope = torch.where(wide > 0, high / wide.clamp_min(1e-300), 0.0)
    ramps = (p[:, None] - x[:-1]).clamp_min(0).minimum(wide)
    return (y[0] + (ramps * slope).sum(dim=1)).clamp(0, 1).to(probability_b.dtype)


def _probability(logits: torch.Tensor, record: ModelRecord, group_b: torch.Tensor | None) -> torch.Tensor:
    if record.head == "plain":
        return logits.softmax(dim=1)[:, -1]
    # Not `device=logits.device`: a trace would keep the device that it was made on.
    priors = torch.tensor(record.priors, dtype=torch.float32).type_as(logits)  # [G, C]
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
