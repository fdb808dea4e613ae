"""Epochs of a run: the plan of each, and its number of steps."""

import dataclasses

import numpy as np

from melfast.config.schema import Config
from melfast.data.plan import EpochPlan, Rank, Rows, training_plan
from melfast.distributed import World
from melfast.io.errors import InputError


def require_steps(config: Config, rows: Rows, world: World) -> int:
    """Number of optimizer steps per epoch.

    Raises:
        InputError: the batch cannot be divided evenly or is larger than an epoch, or the rows lack what
            the sampler or the augmentation needs.
    """
    train = config.train
    pieces = world.size * train.accumulate
    if train.batch_size % pieces:
        raise InputError(
            f"train.batch_size must be a multiple of {world.size} processes x train.accumulate "
            f"{train.accumulate}, got {train.batch_size}"
        )
    return epoch_plan(config, rows, 0, world).num_batches // train.accumulate


def epoch_plan(config: Config, rows: Rows, epoch: int, world: World) -> EpochPlan:
    """The plan of an epoch for this process, with batches cut into pieces for accumulation."""
    train, preprocess = config.train, config.preprocess
    plan = training_plan(
        rows,
        preprocess.resolve(),
        config.augment,
        config.sampler,
        batch_size=train.batch_size // world.size,
        seed=train.seed,
        epoch=epoch,
        share=Rank(world.rank, world.size),
    )
    piece = train.batch_size // world.size // train.accumulate
    bounds = np.arange(0, len(plan.index) + 1, piece, dtype=np.int64)
    return dataclasses.replace(plan, bounds=bounds)
