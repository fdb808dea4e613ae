"""EpochPlan: everything random in an epoch, drawn once; the loaders only carry it out.

`(rows, config, seed, epoch, rank, world_size)` gives the same records on every machine. Everything is
drawn for all ranks first and then dealt out: the batches of all ranks in a step together are the
global batch, so 1, 2 and 4 ranks see the same global batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from melfast.data.augment import IDENTITY, VARIANTS, Augment, draw_affine, draw_erase, draw_jitter, draw_variants
from melfast.data.preprocess import Preprocess
from melfast.data.sampler import SHUFFLE, Sampler, draw_order
from melfast.io.errors import InputError
from melfast.skin.curves import destinations, light_gains, moved_ita
from melfast.skin.tone import ToneScale, classify

if TYPE_CHECKING:
    from melfast.data.manifest import Manifest

# A zoom up to the first value loses too little to be visible; up to the second, detail is kept for it.
# (Keeping it for every zoom would often need the next larger scale of the JPEG, and twice the time.)
FREE_ZOOM, MOST_ZOOM = 1.25, 4.0


class Rank(NamedTuple):
    """The process that a plan is for, and the number of processes."""

    rank: int = 0
    world_size: int = 1


ALONE = Rank()


@dataclass(frozen=True)
class Rows:
    """What a plan needs to know about the N training images.

    Attributes:
        targets: int64 [N], 0 benign and 1 malignant.
        groups: int16 [N], tone group, -1 unknown.
        group_names: name of each group, by index.
        skin_lab: float64 [N, 3], dominant skin colour in CIELAB, NaN if unknown; None: unknown for
            all.
        has_mask: bool [N], whether the lesion mask is known; None: for none.
        scale: tone scale of the groups; None: not one of melfast's.
    """

    targets: NDArray[np.int64]
    groups: NDArray[np.int16]
    group_names: Sequence[str] = ()
    skin_lab: NDArray[np.float64] | None = None
    has_mask: NDArray[np.bool_] | None = None
    scale: ToneScale | None = None

    @classmethod
    def of(cls, manifest: "Manifest") -> Self:
        """
        Raises:
            InputError: groups, skin colours or masks of the manifest cannot be used.
        """
        return cls(
            manifest.targets.astype(np.int64),
            manifest.groups,
            manifest.group_names,
            manifest.skin_lab,
            np.array([mask is not None for mask in manifest.lesion_masks]),
            manifest.tone_scale,
        )

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class EpochPlan:
    """The sample records of one rank for one epoch, in the order in which they are used.

    The optional arrays are None if no record has such a change.

    Attributes:
        index: int64 [N], row of the manifest.
        affine: float32 [N, 2, 3], output to input in centred coordinates: with x and y running
            from -1 to 1 over the image's width and height, input = affine @ (x, y, 1).
        bounds: int64 [steps + 1]; batch s is records bounds[s]:bounds[s + 1].
        group: int16 [N], tone group, -1 unknown: after the skin-former, that of the moved skin.
        target_ita: float32 [N], ITA in degrees to which the skin-former moves the skin; NaN: not moved.
        gains: float32 [N, 3, 3], the light curves that move it, see melfast.skin.curves; 0: none.
        jitter: float32 [N, 3, 4], colour matrix on sRGB in 0..1; the result is clipped.
        masked: bool [N], whether everything outside the lesion is made black.
        erase: int32 [N, 4], box y0, x0, y1, x1 in pixels of the model's input that is filled with
            the mean colour; all 0: none.
    """

    index: NDArray[np.int64]
    affine: NDArray[np.float32]
    bounds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    group: NDArray[np.int16] | None = None
    target_ita: NDArray[np.float32] | None = None
    gains: NDArray[np.float32] | None = None
    jitter: NDArray[np.float32] | None = None
    masked: NDArray[np.bool_] | None = None
    erase: NDArray[np.int32] | None = None

    @property
    def num_batches(self) -> int:
        return len(self.bounds) - 1

    def batches(self, start: int = 0) -> Iterator[slice]:
        """Slices of the records, one per batch, from step `start` on."""
        for first, last in zip(self.bounds[start:-1], self.bounds[start + 1 :], strict=True):
            yield slice(int(first), int(last))

    def groups_of(self, records: slice | NDArray[np.int64]) -> NDArray[np.int16] | None:
        """`group` of some records; None if the plan has none."""
        return None if self.group is None else self.group[records]

    def needs_mask(self, record: int) -> bool:
        """Whether a record needs the lesion mask."""
        return self.is_moved(record) or (self.masked is not None and bool(self.masked[record]))

    def is_moved(self, record: int) -> bool:
        """Whether the skin of a record is moved to another ITA."""
        return self.target_ita is not None and not np.isnan(self.target_ita[record])


def size_before_warp(affine: NDArray[np.float32], height: int, width: int) -> tuple[int, int]:
    """Size to which an image is resized before `affine` warps it to height x width: larger if the warp
    zooms in, so that detail is kept."""
    shrunk = abs(float(affine[0, 0] * affine[1, 1] - affine[0, 1] * affine[1, 0])) ** 0.5
    zoom = min(max(1 / FREE_ZOOM / max(shrunk, 1e-6), 1), MOST_ZOOM)
    return round(height * zoom), round(width * zoom)


def reaches_out(affine: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether part of the output of each matrix [..., 2, 3] lies outside the input.

    Both loaders repeat the edge there, using the pixels next to the outermost ones, because the
    outermost often belong to a drawn frame.
    """
    # A corner of the output is at 1 or -1 along both axes; 1e-6 allows for float32 rounding.
    furthest = np.abs(affine.astype(np.float64)).sum(axis=-1).max(axis=-1)
    outside: NDArray[np.bool_] = furthest > 1 + 1e-6
    return outside


def training_plan(
    rows: Rows,
    preprocess: Preprocess,
    augment: Augment,
    sampler: Sampler = SHUFFLE,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    share: Rank = ALONE,
) -> EpochPlan:
    """Sampled, augmented records; an incomplete last global batch is dropped.

    Args:
        preprocess: input size, and whether every image is masked regardless of `augment.mask`.
        batch_size: images per rank and step; the global batch is batch_size * share.world_size.
        share: the process that the records are for.
    Raises:
        InputError: the global batch is larger than the epoch, or the rows lack what the sampler or
            the augmentation needs.
    """
    global_batch, height, width = batch_size * share.world_size, preprocess.height, preprocess.width
    variant = np.zeros(len(rows), np.int64)
    source = np.arange(len(rows))
    if augment.geometry == "published":
        copies = np.where(rows.targets == 1, len(VARIANTS), 1)
        source = np.repeat(source, copies)
        variant = np.arange(len(source)) - np.repeat(np.cumsum(copies) - copies, copies)
    # Each kind of draw has its own stream, so switching one off does not change the others.
    order_rng, affine_rng, jitter_rng, erase_rng, mask_rng, former_rng = (
        np.random.default_rng([seed, epoch, stream]) for stream in range(6)
    )
    order = draw_order(order_rng, sampler, rows.targets[source], rows.groups[source], global_batch)
    steps = len(order) // global_batch
    if steps == 0:
        raise InputError(
            f"batch of {global_batch} images ({batch_size} x {share.world_size} processes) "
            f"is larger than the epoch of {len(order)} training images: `batch_size`"
        )
    order = order[: steps * global_batch]
    index, count = source[order].astype(np.int64), len(order)
    if augment.geometry == "published":
        affine = draw_variants(affine_rng, variant[order], augment, width / height)
    else:
        affine = draw_affine(affine_rng, count, augment, width / height)
    plan = EpochPlan(
        index,
        affine,
        np.arange(steps + 1, dtype=np.int64) * batch_size,
        jitter=draw_jitter(jitter_rng, count, augment) if augment.jitters else None,
        erase=draw_erase(erase_rng, count, augment, height, width) if augment.erase else None,
        masked=_draw_masked(mask_rng, rows, index, augment, preprocess.masked),
        **_draw_former(former_rng, rows, index, augment),
    )
    mine = np.arange(count).reshape(steps, share.world_size, batch_size)[:, share.rank].ravel()
    return _dealt(plan, mine)


def evaluation_plan(num_images: int, *, batch_size: int, share: Rank = ALONE, masked: bool = False) -> EpochPlan:
    """Each image exactly once over all ranks, in order, un-augmented.

    Ranks receive whole batches, so a batch holds the same images for any number of ranks.
    """
    starts = range(share.rank * batch_size, num_images, batch_size * share.world_size)
    pieces = [np.arange(s, min(s + batch_size, num_images), dtype=np.int64) for s in starts]
    bounds = np.cumsum([0, *(len(p) for p in pieces)], dtype=np.int64)
    index = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    return EpochPlan(
        index,
        np.broadcast_to(IDENTITY, (len(index), 2, 3)),
        bounds,
        masked=np.ones(len(index), bool) if masked else None,
    )


def _dealt(plan: EpochPlan, mine: NDArray[np.int64]) -> EpochPlan:
    """One rank's records of a plan, with the bounds as they are."""
    arrays = {f.name: getattr(plan, f.name) for f in fields(plan)}
    return EpochPlan(
        **{name: array if array is None or name == "bounds" else array[mine] for name, array in arrays.items()}
    )


def _draw_masked(
    rng: np.random.Generator, rows: Rows, index: NDArray[np.int64], augment: Augment, always: bool
) -> NDArray[np.bool_] | None:
    if not always and not augment.mask:
        return None
    why = "preprocess.masked" if always else "augment.mask"
    _require_masks(rows, np.ones(len(rows), bool), why)
    return np.full(len(index), always) | (rng.random(len(index)) < augment.mask)


def _draw_former(
    rng: np.random.Generator, rows: Rows, index: NDArray[np.int64], augment: Augment
) -> dict[str, NDArray]:
    """`group` of the plan, and `target_ita` and `gains` if skin is moved."""
    group = rows.groups[index]
    if not any(augment.skin_former.values()):
        return {"group": group}
    chance = _former_chances(rows, augment)
    draws, targets = rng.random(len(index)), rng.uniform(*augment.skin_former_ita, len(index))
    moved = np.flatnonzero(draws < chance[index])
    target_ita = np.full(len(index), np.nan, np.float32)
    target_ita[moved] = targets[moved]
    assert rows.skin_lab is not None
    assert rows.scale is not None
    start = rows.skin_lab[index[moved]]
    gains = np.zeros((len(index), 3, 3), np.float32)
    gains[moved] = light_gains(start, destinations(start, target_ita[moved]))
    group = group.copy()
    group[moved] = classify(moved_ita(start, gains[moved]), rows.scale)
    return {"group": group, "target_ita": target_ita, "gains": gains}


def _former_chances(rows: Rows, augment: Augment) -> NDArray[np.float64]:
    """Probability for each row; 0 if its tone is unknown."""
    # A group of the scale may have no images here, since a config may serve several data sets.
    names = rows.scale.names if rows.scale is not None else rows.group_names
    if unknown := sorted(set(augment.skin_former) - set(names)):
        raise InputError(
            f"augment.skin_former names {', '.join(map(repr, unknown))}; "
            f"the tone groups are {', '.join(map(repr, names)) or 'unknown'}"
        )
    if rows.scale is None:
        raise InputError("augment.skin_former needs groups of melfast's tone table: melfast prepare ita")
    by_group = np.array([augment.skin_former.get(name, 0.0) for name in names] + [0.0])
    chance = by_group[rows.groups]  # -1, unknown: the last
    wanted = chance > 0
    if rows.skin_lab is None or np.isnan(rows.skin_lab[wanted]).any():
        lacking = wanted.sum() if rows.skin_lab is None else np.isnan(rows.skin_lab[wanted]).any(axis=1).sum()
        raise InputError(
            f"augment.skin_former needs skin_l, skin_a and skin_b; {lacking} of {wanted.sum()} "
            "images to be moved have none: melfast prepare ita"
        )
    _require_masks(rows, wanted, "augment.skin_former")
    return chance


def _require_masks(rows: Rows, wanted: NDArray[np.bool_], why: str) -> None:
    known = np.zeros(len(rows), bool) if rows.has_mask is None else rows.has_mask
    if lacking := int((wanted & ~known).sum()):
        raise InputError(
            f"{why} needs lesion masks; {lacking} of {wanted.sum()} images have no mask_path: melfast prepare masks"
        )
