"""Sampler: which records an epoch has, and in which order, over all ranks."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from melfast.config.loading import require
from melfast.io.errors import InputError
from melfast.io.words import check_words

SamplerName = Literal["shuffle", "balanced_batch", "undersample", "oversample", "group_balanced"]


@check_words
@dataclass(frozen=True)
class Sampler:
    """How an epoch is drawn from the training records.

    Attributes:
        name: `shuffle`: each record once. `balanced_batch`: every batch has as many malignant as
            benign ones, and so has every even share of it that a process gets; each of the larger
            class once, the smaller class again and again. `undersample`: each malignant record
            once, `ratio` times as many benign ones. `oversample`: as many draws as records, with
            replacement, both classes as likely. `group_balanced`: the same, every tone group
            (unknown is one) of either class as likely.
        ratio: benign records for each malignant one, of `undersample`.
    """

    name: SamplerName = "shuffle"
    ratio: float = 1.0

    def __post_init__(self) -> None:
        names = get_args(SamplerName)
        require(self.name in names, "sampler.name", f"one of {', '.join(names)}", repr(self.name))
        require(self.ratio > 0, "sampler.ratio", "> 0", self.ratio)


SHUFFLE = Sampler()


def expected_draws(
    sampler: Sampler, targets: NDArray[np.int64], groups: NDArray[np.int16], batch_size: int
) -> NDArray[np.float64]:
    """How often an epoch draws each record on average, float64 [N]; see `draw_order`.

    What does not fill a last batch is left out of an epoch, whichever records that hits.
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
    """Records in the order of the epoch, counted in `targets`.

    Args:
        targets: [N], 0 benign and 1 malignant.
        groups: [N], tone group, -1 unknown.
        batch_size: images a step, over all processes.
    Raises:
        InputError: a class is missing that the sampler needs, or balanced batches are odd.
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
    # As many rounds of each class as it takes, each in another order.
    drawn = []
    for rows in classes:
        rounds = -(-steps * half // len(rows))
        drawn.append(np.concatenate([rng.permutation(rows) for _ in range(rounds)])[: steps * half])
    # One of each in turn: so every even share of a batch is balanced too.
    return np.stack(drawn, axis=1).ravel()
