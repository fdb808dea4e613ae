"""Cells: how many images of each tone group and class an epoch of training shows."""

import numpy as np
from numpy.typing import NDArray

from melfast.config import Config
from melfast.data.plan import Rows
from melfast.errors import InputError
from melfast.models.record import Head
from melfast.train.distributed import World
from melfast.train.epochs import epoch_plan

# Samplers and the skin-former draw anew each epoch: so many are averaged.
EPOCHS = 4


def count_cells(config: Config, rows: Rows, num_groups: int) -> NDArray[np.float64]:
    """[G + 1, C]: images of each group (the last: unknown) and class that an epoch shows on
    average, with what the sampler, the variants and the skin-former make of them.

    Weights and priors must be of what the network sees, not of what lies in the files.
    """
    cells = np.zeros((num_groups + 1, 2))
    epochs = min(EPOCHS, config.train.epochs)
    for epoch in range(epochs):
        plan = epoch_plan(config, rows, epoch, World())
        assert plan.group is not None
        np.add.at(cells, (plan.group.astype(int), rows.targets[plan.index]), 1 / epochs)
    return cells


def priors(cells: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Share of each cell among the images of known group, [G][C]."""
    known = cells[:-1]
    shares = known / max(known.sum(), 1e-12)
    return tuple(tuple(row) for row in shares.tolist())


def require_groups(head: Head, cells: NDArray[np.float64]) -> None:
    """
    Raises:
        InputError: the head needs tone groups, and no class is seen in any, or, for an independent
            head, no group has both.
    """
    known = cells[:-1]
    if head == "plain":
        return
    if not known.any():
        raise InputError(
            f"model.head {head} needs tone groups; no training image has one: melfast prepare ita"
        )
    if head == "domain_discriminative" and not known.any(axis=0).all():
        raise InputError(
            f"model.head {head} needs malignant and benign images of known tone group in training"
        )
    if head == "domain_independent" and not (known > 0).all(axis=1).any():
        raise InputError(
            f"model.head {head} needs a tone group with malignant and benign images in training"
        )
