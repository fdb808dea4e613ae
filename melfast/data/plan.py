"""EpochPlan: everything random about an epoch, drawn once; executors only carry it out.

`(number of images, config, seed, epoch, rank, world_size)` gives the same records on every machine.
The global order is drawn first and then dealt: the global batch of a step is the ranks' batches put
together, so 1, 2 and 4 ranks see the same global batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from melfast.errors import InputError

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)


@dataclass(frozen=True)
class Augment:
    """Random geometry for every training image; a strength of 0 switches a part off.

    Attributes:
        hflip, vflip: probability of a mirror image.
        rotation_deg: largest rotation either way, degrees.
        translation: largest shift, as a fraction of the side.
        scale: largest zoom either way, as a fraction (0.1: 0.9 to 1.1).
    """

    hflip: float = 0.5
    vflip: float = 0.5
    rotation_deg: float = 15.0
    translation: float = 0.1
    scale: float = 0.1

    def __post_init__(self) -> None:
        for name, high in (("hflip", 1.0), ("vflip", 1.0), ("rotation_deg", 180.0),
                           ("translation", 1.0), ("scale", 0.9)):  # fmt: skip
            value = getattr(self, name)
            if not 0.0 <= value <= high:
                raise InputError(f"augment.{name} must be in 0..{high:g}, got {value:g}")


@dataclass(frozen=True)
class EpochPlan:
    """One rank's sample records for one epoch, in the order they are used.

    Attributes:
        index: int64 [N], row of the manifest.
        affine: float32 [N, 2, 3], output to input in centred coordinates: with x and y running
            from -1 to 1 over the image's width and height, input = affine @ (x, y, 1).
        bounds: int64 [steps + 1]; batch s is records bounds[s]:bounds[s + 1].
    """

    index: NDArray[np.int64]
    affine: NDArray[np.float32]
    bounds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def num_batches(self) -> int:
        return len(self.bounds) - 1

    def batches(self, start: int = 0) -> Iterator[slice]:
        """Slices into the records, one a batch, from step `start` on."""
        for first, last in zip(self.bounds[start:-1], self.bounds[start + 1 :], strict=True):
            yield slice(int(first), int(last))


def training_plan(
    num_images: int, augment: Augment, *, batch_size: int, seed: int, epoch: int,
    rank: int = 0, world_size: int = 1, aspect: float = 1.0,
) -> EpochPlan:  # fmt: skip
    """Shuffled, augmented records; what does not fill a last global batch waits for another epoch.

    Args:
        num_images: rows of the training split.
        batch_size: images a rank and step; the global batch is batch_size * world_size.
        aspect: width / height of the model's input; rotations turn circles into circles.
    Raises:
        InputError: the global batch is larger than the data.
    """
    global_batch = batch_size * world_size
    steps = num_images // global_batch
    if steps == 0:
        raise InputError(
            f"batch of {global_batch} images ({batch_size} x {world_size} processes) "
            f"is larger than the training split of {num_images}"
        )
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(num_images)[: steps * global_batch]
    affine = _draw_affine(rng, len(order), augment, aspect)
    mine = np.arange(len(order)).reshape(steps, world_size, batch_size)[:, rank].ravel()
    bounds = np.arange(steps + 1, dtype=np.int64) * batch_size
    return EpochPlan(order[mine].astype(np.int64), affine[mine], bounds)


def evaluation_plan(
    num_images: int, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> EpochPlan:
    """Each image exactly once over all ranks, in order, un-augmented.

    Whole batches are dealt to ranks, so a batch holds the same images on any number of ranks.
    """
    starts = range(rank * batch_size, num_images, batch_size * world_size)
    pieces = [np.arange(s, min(s + batch_size, num_images), dtype=np.int64) for s in starts]
    bounds = np.cumsum([0, *(len(p) for p in pieces)], dtype=np.int64)
    index = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    return EpochPlan(index, np.broadcast_to(IDENTITY, (len(index), 2, 3)), bounds)


def _draw_affine(
    rng: np.random.Generator, count: int, augment: Augment, aspect: float
) -> NDArray[np.float32]:
    """Flip, rotation, scale and translation composed into one matrix a record."""
    # Every number is drawn whether used or not: switching one part off leaves the others alone.
    flip_x = np.where(rng.random(count) < augment.hflip, -1.0, 1.0)
    flip_y = np.where(rng.random(count) < augment.vflip, -1.0, 1.0)
    angle = np.deg2rad(augment.rotation_deg) * rng.uniform(-1, 1, count)
    zoom = 1.0 + augment.scale * rng.uniform(-1, 1, count)
    shift = 2.0 * augment.translation * rng.uniform(-1, 1, (count, 2))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    affine = np.empty((count, 2, 3))
    affine[:, 0, 0], affine[:, 0, 1] = cos * flip_x, -sin * flip_y / aspect
    affine[:, 1, 0], affine[:, 1, 1] = sin * flip_x * aspect, cos * flip_y
    affine[:, :, 2] = shift
    return affine.astype(np.float32)
