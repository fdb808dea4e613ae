"""Losses, one per file; each works with any head and any weights.

The function returns one value per image; the module in the same file holds the parameters and the state
that a loss learns from step to step. To add one: a file here, its name in LossConfig, a line in `build_loss`.
"""

from melfast.losses.build import build_loss
from melfast.losses.cross_entropy import CrossEntropy, cross_entropy
from melfast.losses.focal import FocalLoss, focal_loss
from melfast.losses.group_dro import GroupDroLoss, group_dro_loss
from melfast.losses.ohem import OhemLoss, ohem_loss
from melfast.losses.recall_ce import RecallLoss, recall_ce_loss
from melfast.losses.weights import cell_weights

__all__ = [
    "CrossEntropy",
    "FocalLoss",
    "GroupDroLoss",
    "OhemLoss",
    "RecallLoss",
    "build_loss",
    "cell_weights",
    "cross_entropy",
    "focal_loss",
    "group_dro_loss",
    "ohem_loss",
    "recall_ce_loss",
]
