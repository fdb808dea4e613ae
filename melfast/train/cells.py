"""Cells: number of images of each tone group and class in an epoch of training."""

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.config.schema import Config, LossConfig
from melfast.data.augment import VARIANTS
from melfast.data.plan import Rows
from melfast.data.sampler import expected_draws
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.heads import HEADS
from melfast.models.record import Head
from melfast.train.epochs import epoch_plan

# The skin-former draws differently in each epoch, so this number of epochs is averaged.
EPOCHS = 16


def count_cells(config: Config, rows: Rows, num_groups: int) -> NDArray[np.float64]:
    """[G + 1, C]: average number of images of each group (the last: unknown) and class in an epoch,
    after the sampler, the variants and the skin-former.

    Weights and priors must describe what the network sees, not the files. If no skin is moved, this is
    the expectation; otherwise the mean over some epochs. A cell that happens to be empty in all of them
    gets the count of its own images, since it is rare, not empty.
    """
    copies = np.ones(len(rows), np.int64)
    if config.augment.geometry == "published":
        copies = np.where(rows.targets == 1, len(VARIANTS), 1)
    source = np.repeat(np.arange(len(rows)), copies)
    draws = expected_draws(config.sampler, rows.targets[source], rows.groups[source], config.train.batch_size)
    expected = np.zeros((num_groups + 1, 2))
    np.add.at(expected, (rows.groups[source].astype(int), rows.targets[source]), draws)
    if not any(config.augment.skin_former.values()):
        return expected
    shown = np.zeros_like(expected)
    for epoch in range(EPOCHS):
        plan = epoch_plan(config, rows, epoch, World())
        assert plan.group is not None
        np.add.at(shown, (plan.group.astype(int), rows.targets[plan.index]), 1 / EPOCHS)
    return np.where(shown > 0, shown, expected)


def priors(cells: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Fraction of each cell among the images of known group, [G][C]."""
    known = cells[:-1]
    shares = known / max(known.sum(), 1e-12)
    return tuple(tuple(row) for row in shares.tolist())


@check_words
def require_groups(head: Head, cells: NDArray[np.float64], loss: LossConfig | None = None) -> None:
    """
    Args:
        loss: the groups that it needs are required, too.
    Raises:
        InputError: the head or the loss needs tone groups, and no class is seen in any, or, for an
            independent head, no group has both.
    """
    known = cells[:-1]
    by_group = {} if loss is None else {"loss.name": loss.name, "loss.weights": loss.weights}
    for key, value in by_group.items():
        if value in ("group_dro", "ifw_class_group") and not known.any():
            raise InputError(f"{key} {value} needs tone groups; no training image has one: melfast prepare ita")
    if missing := HEADS[head]().required_cells(torch.from_numpy(known)):
        raise InputError(f"model.head {head} needs {missing}")
