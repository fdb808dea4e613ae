"""build_loss: build the loss of a config."""

from typing import Any

import torch
from numpy.typing import NDArray

from melfast.config.schema import LossConfig
from melfast.io.words import check_words
from melfast.losses.cross_entropy import CrossEntropy
from melfast.losses.focal import FocalLoss
from melfast.losses.group_dro import GroupDroLoss
from melfast.losses.ohem import OhemLoss
from melfast.losses.recall_ce import RecallLoss
from melfast.losses.weights import cell_weights
from melfast.models.heads import HEADS
from melfast.models.record import Head


@check_words
def build_loss(config: LossConfig, cells: NDArray[Any], head: Head = "plain") -> CrossEntropy:
    """
    Args:
        cells: [G + 1, C], number of training images of each tone group and class that are drawn in an
            epoch; the last row is the unknown group.
    """
    counts = torch.from_numpy(cells).float()
    options: dict[str, Any] = {
        "head": HEADS[head](cells.shape[1]),
        "weights": cell_weights(config.weights, counts),
        "label_smoothing": config.label_smoothing,
    }
    losses = {
        "ce": lambda: CrossEntropy(**options),
        "focal": lambda: FocalLoss(config.focal_gamma, **options),
        "ohem": lambda: OhemLoss(config.ohem_fraction, **options),
        "recall_ce": lambda: RecallLoss(counts, config.recall_momentum, config.recall_strength, **options),
        "group_dro": lambda: GroupDroLoss(counts, config.dro_rate, **options),
    }
    return losses[config.name]()
