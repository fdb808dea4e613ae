"""P(malignant) by tone group: what a model with heads of groups would say in each of them."""

import numpy as np
from numpy.typing import NDArray

from melfast.models.record import ModelRecord


def group_probabilities(logits_bk: NDArray[np.float32], record: ModelRecord) -> NDArray[np.float32]:
    """P(malignant | group) of each image and tone group, before calibration.

    The softmax over the group's own logits; for a domain_discriminative head after the prior shift
    (see melfast.models.decode) within the group.

    Args:
        record: of a head of groups.
    Returns:
        float32 [B, G]; NaN for a group that had no training image of one of the classes.
    """
    assert record.head != "plain"
    priors_gc = np.array(record.priors, np.float64)
    logits_bgc = logits_bk.astype(np.float64).reshape(-1, *priors_gc.shape)
    learnt_g = np.all(priors_gc > 0, axis=1)
    if record.head == "domain_discriminative":
        logits_bgc = logits_bgc - np.log(np.where(learnt_g[:, None], priors_gc, 1))
    odds_bgc = np.exp(logits_bgc - logits_bgc.max(axis=2, keepdims=True))
    found_bg = odds_bgc[:, :, -1] / odds_bgc.sum(axis=2)
    return np.where(learnt_g, found_bg, np.nan).astype(np.float32)
