"""Sampler: which records an epoch contains, and in which order, over all ranks."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from melfast.io.errors import InputError
from melfast.io.schema import checked

SamplerName = Literal["shuffle", "balanced_batch", "undersample", "oversample", "group_balanced"]


@checked()
class Sampler:
    """How an epoch is drawn from the training records.

    Attributes:
        name: `shuffle`: each record once. `balanced_batch`: every batch, and every process's even
            share of it, has as many malignant as benign records; each record of the larger class
            once, those of the smaller class repeatedly. `undersample`: each malignant record once,
            and `ratio` times as many benign ones. `oversample`: as many draws as records, with
            replacement, both classes equally likely. `group_balanced`: the same, with every tone
            group (unknown is one) of either class equally likely.
        ratio: benign records per malignant one, for `undersample`.
    """

    name: SamplerName = "shuffle"
    ratio: Annotated[float, Field(gt=0)] = 1.0


SHUFFLE = Sampler()


def expected_draws(
    sampler: Sampler, targets: NDArray[np.int64], groups: NDArray[np.int16], batch_size: int
) -> NDArray[np.float64]:
    """How often an epoch draws each record on average, float64 [N]; see `draw_order`.

    It ignores that an incomplete last batch is dropped, whichever records that affects.
    """
    count = len(targets)
    sizes = np.bincount(targets, minlength=2)
    if sampler.name == "shuffle":
        draws = np.ones(count)
    elif sampler.name == "balanced_batch":
        half = batch_size // 2
        draws = (sizes.max() // half * half / sizes)[targets]
    elif sampler.name == "undersample":
        wanted = min(sizes[0], max(1, round(sampler.ratio * sizes[1])))
        draws = np.array([wanted / max(1, sizes[0]), 1.0])[targets]
    else:
        cells = targets if sampler.name == "oversample" else 2 * groups.astype(np.int64) + targets
        _, cell, cell_sizes = np.unique(cells, return_inverse=True, return_counts=True)
        draws = count / (len(cell_sizes) * cell_sizes[cell])
    total = draws.sum()
    whole: NDArray[np.float64] = draws * (total // batch_size * batch_size / total)
    return whole


def draw_order(
    rng: np.random.Generator, sampler: Sampler, targets: NDArray[np.int64], groups: NDArray[np.int16], batch_size: int
) -> NDArray[np.int64]:
    """Records in the order of the epoch, as indices into `targets`.

    Args:
        targets: [N], 0 benign and 1 malignant.
        groups: [N], tone group, -1 unknown.
        batch_size: images per step, over all processes.
    Raises:
        InputError: a class that the sampler needs is missing, or a balanced batch has an odd size.
    """
    count = len(targets)
    if sampler.name == "shuffle":
        return rng.permutation(count)
    classes = [np.flatnonzero(targets == label) for label in (0, 1)]
    if not all(map(len, classes)):
        raise InputError(
            f"sampler.name {sampler.name} needs both classes, found {len(classes[1])} malignant "
            f"and {len(classes[0])} benign training images"
        )
    if sampler.name == "balanced_batch":
        return _balanced(rng, classes, batch_size)
    if sampler.name == "undersample":
        benign, malignant = classes
        wanted = min(len(benign), max(1, round(sampler.ratio * len(malignant))))
        kept = rng.choice(benign, wanted, replace=False)
        return rng.permutation(np.concatenate([malignant, kept]))
    cells = targets if sampler.name == "oversample" else 2 * groups.astype(np.int64) + targets
    _, cell, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    return rng.choice(count, count, p=1 / (len(sizes) * sizes[cell]))


def _balanced(rng: np.random.Generator, classes: list[NDArray[np.int64]], batch_size: int) -> NDArray[np.int64]:
    if batch_size % 2:
        raise InputError(f"sampler.name balanced_batch needs an even train.batch_size, found {batch_size}")
    half = batch_size // 2
    steps = max(map(len, classes)) // half
    # As many rounds of each class as needed, each in a different order.
    drawn = []
    for rows in classes:
        rounds = -(-steps * half // len(rows))
        drawn.append(np.concatenate([rng.permutation(rows) for _ in range(rounds)])[: steps * half])
    # One of each in turn, so every even share of a batch is balanced too.
    return np.stack(drawn, axis=1).ravel()
