"""Groups of images to compare: of a manifest's column, of bands of a number, of two columns."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from melfast.data.manifest import MISSING_ID, Manifest
from melfast.io.errors import InputError

MOST_GROUPS = 64
# Years; each edge begins a band.
AGE_EDGES = (30.0, 45.0, 60.0, 75.0)
AGE_COLUMNS = frozenset({"age", "age_approx"})


@dataclass(frozen=True)
class Groups:
    """One group an image.

    Attributes:
        name: what the groups are of, such as `sex`.
        index: int64 [N], index into names, -1 unknown.
        names: in the order to show them; a group may have no image.
    """

    name: str
    index: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.index.ndim != 1:
            raise ValueError(f"groups must be a list, got shape {self.index.shape}")
        lowest, highest = self.index.min(initial=-1), self.index.max(initial=-1)
        if lowest < -1 or highest >= len(self.names):
            raise ValueError(f"groups of {self.name!r} must be in -1..{len(self.names) - 1}, got {lowest}..{highest}")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether an image has a group [N]."""
        return self.index >= 0

    @property
    def labels(self) -> NDArray[np.object_]:
        """Name of each image's group [N], '' where it is unknown."""
        return np.array([*self.names, ""], dtype=object)[self.index]


def group_by(manifest: Manifest, column: str, edges: Sequence[float] | None = None) -> Groups:
    """The groups of a manifest's column.

    `group` has the names of the skin-tone table, light to dark; an age is banded by AGE_EDGES;
    other columns have a group for each value, in the order of numbers or of the alphabet. Empty
    cells and words for unknown are no group.

    Args:
        edges: bands of a column of numbers; see `bands`.
    Raises:
        InputError: no such column, more than MOST_GROUPS groups, or a cell that is to be banded
            and is no number.
    """
    manifest.require(column)
    if column == "group":
        scale = manifest.tone_scale
        names = manifest.group_names if scale is None else scale.names
        return Groups(column, manifest.groups.astype(np.int64), names)
    # Of a million cells each value is looked at once.
    place, values = pd.factorize(manifest.table[column])
    cells = [cell.strip() for cell in values]
    cells = ["" if cell.lower() in MISSING_ID else cell for cell in cells]
    if edges is not None or column in AGE_COLUMNS:
        try:
            numbers = np.array([float(cell or "nan") for cell in cells])
        except ValueError as error:
            raise InputError(f"{manifest.path}: column {column!r}: {error}") from None
        return bands(column, numbers[place], AGE_EDGES if edges is None else edges)
    found = set(cells) - {""}
    if len(found) > MOST_GROUPS:
        raise InputError(
            f"{manifest.path}: column {column!r} has {len(found):,} different values, expected at "
            f"most {MOST_GROUPS} groups"
        )
    ordered = _in_order(found)
    number = {name: i for i, name in enumerate(ordered)} | {"": -1}
    return Groups(column, np.array([number[cell] for cell in cells], np.int64)[place], ordered)


def groups_of_labels(name: str, labels: Iterable[Any]) -> Groups:
    """A group for each value of a list, array or Series; None, NaN and '' are of no group.

    Raises:
        ValueError: the labels are no list of single values.
    """
    cells = list(labels)
    if any(isinstance(cell, list | tuple | np.ndarray) for cell in cells):
        raise ValueError("sensitive_features must have one value per image; cross() joins two groupings")
    missing = pd.isna(pd.Series(cells, dtype=object)).tolist()
    known = ["" if gone else str(cell).strip() for cell, gone in zip(cells, missing, strict=True)]
    ordered = _in_order(set(known) - {""})
    place = {value: i for i, value in enumerate(ordered)} | {"": -1}
    return Groups(name, np.array([place[cell] for cell in known], np.int64), ordered)


def bands(name: str, values: NDArray[np.float64], edges: Sequence[float]) -> Groups:
    """Groups by the band that a number lies in.

    Args:
        values: [N], NaN where unknown.
        edges: ascending; each is the lowest value of a band, and those below the first are one.
    Raises:
        ValueError: the edges do not ascend, or there is none.
    """
    if len(edges) == 0 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges must ascend and be at least one, got {list(edges)}")
    index = np.searchsorted(edges, values, side="right")
    in_years = name in AGE_COLUMNS and all(float(edge).is_integer() for edge in edges)
    names = [f"under {edges[0]:g}"]
    for low, high in itertools.pairwise(edges):
        names.append(f"{low:g}-{high - 1:g}" if in_years else f"{low:g} to under {high:g}")
    names.append(f"{edges[-1]:g} and over")
    return Groups(name, np.where(np.isnan(values), -1, index), tuple(names))


def cross(first: Groups, second: Groups) -> Groups:
    """A group for each pair of groups that an image has; unknown where one of the two is.

    Raises:
        ValueError: the two are not of equally many images.
    """
    if len(first) != len(second):
        raise ValueError(f"{first.name} ({len(first)}) and {second.name} ({len(second)}) differ")
    pair = first.index * len(second.names) + second.index
    pair = np.where(first.known & second.known, pair, -1)
    present = np.unique(pair[pair >= 0])
    names = tuple(
        f"{first.names[i]}, {second.names[j]}" for i, j in (divmod(int(p), len(second.names)) for p in present)
    )
    index = np.where(pair < 0, -1, np.searchsorted(present, pair))
    return Groups(f"{first.name} x {second.name}", index, names)


def _in_order(names: set[str]) -> tuple[str, ...]:
    """By number where all are numbers, else by the alphabet."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))
