"""Manifest: the table that every stage reads and adds columns to, with one row per image."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from melfast.data.image_list import ImageList
from melfast.io.columns import nearest
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.tables import MISSING, Table, read_column_names, read_table, require_columns, write_csv
from melfast.skin.tone import TONE_GROUPS, ToneScale

REQUIRED = ("image_name", "path")
COLUMNS = (
    "image_name",
    "path",
    "target",
    "patient_id",
    "lesion_id",
    "split",
    "group",
    "group_str",
    "ita",
    "fitzpatrick",
    "mask_path",
)
PATH_COLUMNS = ("path", "mask_path")
# melfast's own columns with fractional numbers.
NUMBERS = ("ita", "ita_quality", "skin_l", "skin_a", "skin_b", "skin_fraction", "width", "height")
SPLITS = ("train", "valid", "test")
SCIENTIFIC = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
# Patients called "unknown" are not one and the same patient.
MISSING_ID = MISSING | {"unknown", "unk", "?", "-1"}


@dataclass(frozen=True)
class Manifest:
    """Images and what is known about them.

    Attributes:
        path: the file that the manifest was read from, or where it will be written; relative paths
            in the table are relative to its folder.
        table: every column str, '' if unknown; index 0..N-1. See COLUMNS; other columns are kept
            unchanged.
    """

    path: Path
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> NDArray[np.object_]:
        """Cells of a column as str [N]; all '' if the manifest has no such column."""
        if name not in self.table:
            return np.full(len(self), "", dtype=object)
        return self.table[name].to_numpy(dtype=object)

    def require(self, *columns: str) -> None:
        """Raises InputError, naming the nearest spelling, if a column is missing."""
        require_columns(self.path, self.table.columns, columns)

    @property
    def image_names(self) -> list[str]:
        return list(self.column("image_name"))

    @property
    def image_paths(self) -> list[Path]:
        """Paths of the images; raises InputError if a row has none (a table imported without images)."""
        return self._paths("path")

    @property
    def mask_paths(self) -> list[Path | None]:
        """Paths of the masks; None for an image without one."""
        folder = self.path.parent
        return [folder / cell if cell else None for cell in self.column("mask_path")]

    @property
    def lesion_masks(self) -> list[Path | None]:
        """`mask_paths`, which must be masks of the lesion.

        Raises:
            InputError: `melfast prepare masks` made them of something else.
        """
        if others := set(self.column("mask_method")) & {"hair", "skin"}:
            raise InputError(
                f"{self.path}: mask_path holds {' and '.join(sorted(others))} masks, expected "
                "lesion masks: melfast prepare masks --method lesion"
            )
        return self.mask_paths

    @property
    def checked(self) -> NDArray[np.bool_]:
        """Whether `melfast prepare check` found each image intact (and so knows its size)."""
        return (self.column("width") != "") & (self.column("height") != "")

    @property
    def images(self) -> ImageList:
        """Input of the loaders: files, lesion masks, and which files are known to be intact."""
        return ImageList(self.image_paths, self.lesion_masks, self.checked)

    @property
    def targets(self) -> NDArray[np.int8]:
        """1 malignant, 0 benign, -1 unlabelled."""
        cells = self.column("target")
        return np.where(cells == "", "-1", cells).astype(np.int8)

    @property
    def groups(self) -> NDArray[np.int16]:
        """Skin-tone group by index, -1 unknown."""
        cells = self.column("group")
        return np.where(cells == "", "-1", cells).astype(np.int16)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Name of each group by index: its `group_str`, or its number if it has none.

        Raises:
            InputError: one group has two names.
        """
        groups, strings = self.groups, self.column("group_str")
        names = []
        for group in range(int(groups.max(initial=-1)) + 1):
            found = sorted(set(strings[groups == group]) - {""})
            if len(found) > 1:
                raise InputError(f"{self.path}: group {group} is called {' and '.join(found)}")
            names.append(found[0] if found else str(group))
        return tuple(names)

    def groups_by(self, names: Sequence[str]) -> NDArray[np.int16]:
        """The groups as indices into another list of names, -1 if not in it."""
        place = {name: i for i, name in enumerate(names)}
        own = [place.get(name, -1) for name in self.group_names]
        return np.array([*own, -1], np.int16)[self.groups]

    @property
    def skin_lab(self) -> NDArray[np.float64]:
        """Dominant skin colour in CIELAB [N, 3], NaN where unknown.

        Raises:
            InputError: a cell is no number.
        """
        lab = np.empty((len(self), 3))
        for i, name in enumerate(("skin_l", "skin_a", "skin_b")):
            cells = self.column(name)
            try:
                lab[:, i] = np.where(cells == "", "nan", cells).astype(np.float64)
            except ValueError as error:
                raise InputError(f"{self.path}: column {name!r}: {error}") from None
        return lab

    @property
    def tone_scale(self) -> ToneScale | None:
        """The scale of the groups: from column `tone_groups`, otherwise the one that has their names."""
        named = set(self.column("tone_groups")) - {""}
        names = self.group_names
        seen = set(self.groups.tolist()) - {-1}  # a group without images has no name
        for key, scale in TONE_GROUPS.items():
            fits = all(g < len(scale.names) and names[g] == scale.names[g] for g in seen)
            if fits and (not named or named == {key}):
                return scale
        return None

    @property
    def splits(self) -> NDArray[np.str_]:
        """'train', 'valid', 'test' or '' for each row."""
        return self.column("split").astype("<U5")

    def split(self, name: str) -> "Manifest":
        """The rows of one split.

        Raises:
            InputError: there are none.
        """
        part = self.select(self.splits == name)
        if len(part) == 0:
            values, counts = np.unique(self.splits, return_counts=True)
            have = ", ".join(f"{v or 'none'}: {n}" for v, n in zip(values, counts, strict=True))
            raise InputError(f"{self.path}: no image in split {name!r} (images by split: {have})")
        return part

    def select(self, rows: ArrayLike) -> "Manifest":
        """The rows selected by a bool mask [N], or by an index array in its order."""
        picked = np.asarray(rows)
        if picked.dtype == bool:
            picked = np.flatnonzero(picked)
        table = self.table.iloc[picked.astype(np.intp)].reset_index(drop=True)
        return Manifest(self.path, table)

    def with_columns(self, **columns: Sequence[Any] | NDArray[Any]) -> "Manifest":
        """Adds or replaces columns of N values each; None and NaN become ''."""
        table = self.table.copy()
        for name, values in columns.items():
            if len(values) != len(self):
                raise ValueError(f"column {name!r} has {len(values)} values for {len(self)} rows")
            table[name] = pd.Series([_cell(value) for value in values], dtype=str)
        return Manifest(self.path, table)

    def to_pandas(self) -> pd.DataFrame:
        """The table for analysis, with paths that can be opened from anywhere.

        Returns:
            One row per image: `target` and `group` Int64, <NA> if unknown; `ita` and other numeric
            columns float64; `path` and `mask_path` Path, None if empty; other cells str.
        """
        frame = self.table.copy()
        folder = self.path.parent.absolute()
        for name in frame:
            cells = frame[name]
            if name in PATH_COLUMNS:
                frame[name] = pd.Series([folder / cell if cell else None for cell in cells], dtype=object)
            elif name in ("target", "group"):
                frame[name] = pd.to_numeric(cells.replace("", None)).astype("Int64")
            elif name in NUMBERS:
                frame[name] = pd.to_numeric(cells.replace("", None), errors="coerce").astype(float)
        return frame

    def _paths(self, name: str) -> list[Path]:
        cells = self.column(name)
        if (empty := np.flatnonzero(cells == "")).size:
            row = int(empty[0])
            raise InputError(
                f"{self.path}: {empty.size} of {len(self)} rows have no {name!r}, the first is "
                f"image {self.column('image_name')[row]!r}: import the table with its images"
            )
        folder = self.path.parent
        return [folder / cell for cell in cells]


def is_manifest(path: Path) -> bool:
    """Whether a path is a table with the columns of a manifest."""
    return path.is_file() and set(REQUIRED) <= set(read_column_names(path))


def read_manifest(path: str | Path) -> Manifest:
    """Reads and checks a manifest.

    Raises:
        InputError: as read_table; or a column is missing, an image_name is empty or repeated, or a
            target, group, split or ita is invalid; with the line of the row.
    """
    return check_table(read_table(path))


def check_table(table: Table) -> Manifest:
    """The manifest of a table that has the column names of one; raises as read_manifest."""
    require_columns(table.path, table.frame.columns, REQUIRED)
    for near, wanted in _misspelt_columns(list(table.frame.columns)):
        raise InputError(
            f"{table.path}: unknown column {near!r}, did you mean {wanted!r}? Rename it to that, or to a name less "
            "like it"
        )
    frame = _named_groups(table.frame.copy())
    for name in set(COLUMNS) & set(frame.columns):
        missing = MISSING_ID if name in ("patient_id", "lesion_id") else MISSING
        cells = [cell.strip() for cell in frame[name].to_numpy(dtype=object)]
        if name not in REQUIRED:
            cells = ["" if cell.lower() in missing else cell for cell in cells]
        if name in ("patient_id", "lesion_id"):
            _require_unrounded(table, name, cells)
        if name in _CHECKS:
            cells = _checked(table, name, cells)
        frame[name] = pd.Series(cells, dtype=str)
    _require_unique(table, list(frame["image_name"]))
    return Manifest(table.path, frame)


def _named_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Moves names in column `group` to `group_str` and numbers them, light to dark if a tone scale has them all."""
    cells = [cell.strip() for cell in frame.get("group", pd.Series(dtype=str))]
    cells = ["" if cell.lower() in MISSING_ID else cell for cell in cells]
    names = sorted(set(cells) - {""})
    if not names or any(name.lstrip("+-")[:1].isdigit() for name in names):
        return frame
    for scale in TONE_GROUPS.values():
        if {name.lower() for name in names} <= set(scale.names):
            names.sort(key=lambda name: scale.names.index(name.lower()))
            break
    place = {name: str(i) for i, name in enumerate(names)} | {"": ""}
    return frame.assign(group=[place[cell] for cell in cells], group_str=cells)


def _misspelt_columns(columns: Sequence[str]) -> list[tuple[str, str]]:
    """(found, meant) for each column whose name is close to, but not, one of a manifest's own."""
    others = [name for name in columns if name not in COLUMNS]
    pairs = [(near, wanted) for wanted in set(COLUMNS) - set(columns) if (near := nearest(wanted, others))]
    return sorted(pairs)


def write_manifest(manifest: Manifest, path: str | Path) -> Manifest:
    """Writes a manifest atomically; relative paths are rewritten for the new folder.

    Returns:
        The manifest as written at `path`.
    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    written = moved(manifest, path)
    first = [name for name in COLUMNS if name in written.table]
    others = [name for name in written.table if name not in COLUMNS]
    with atomic_path(path) as temporary:
        table = written.table[first + others]
        write_csv(temporary, list(table.columns), table.itertuples(index=False, name=None))
    return written


def moved(manifest: Manifest, path: Path) -> Manifest:
    """Rewrites the paths for another folder.

    Relative paths stay relative unless only the root of the file system is shared.
    """
    # Resolved, because `..` of a linked folder is not the parent of the link.
    old, new = manifest.path.parent.resolve(), path.parent.resolve()
    if old == new:
        return Manifest(path, manifest.table)
    prefixes: dict[str, str] = {}
    columns = {}
    for name in PATH_COLUMNS:
        if name not in manifest.table:
            continue
        cells = []
        for cell in manifest.column(name):
            folder, file = os.path.split(cell)
            if cell and not cell.startswith(os.sep):
                if folder not in prefixes:
                    prefixes[folder] = relative_folder(os.path.join(old, folder), new)
                cell = os.path.join(prefixes[folder], file)
            cells.append(cell)
        columns[name] = cells
    return Manifest(path, manifest.with_columns(**columns).table)


def relative_folder(folder: str, start: Path) -> str:
    """`folder` relative to `start`, both absolute; stays absolute if they share only the root."""
    folder = os.path.normpath(folder)
    if os.path.commonpath([folder, start]) == os.sep:
        return folder
    relative = os.path.relpath(folder, start)
    return "" if relative == "." else relative


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(int(value)) if isinstance(value, bool | np.bool_) else str(value)


def _target(cell: str) -> str | None:
    return {"0": "0", "1": "1", "0.0": "0", "1.0": "1", "benign": "0", "malignant": "1"}.get(cell.lower())


def _group(cell: str) -> str | None:
    if cell in ("-1", "-1.0"):
        return ""
    number = cell.removesuffix(".0")
    return str(int(number)) if number.isdecimal() and int(number) < 1000 else None


def _ita(cell: str) -> str | None:
    try:
        return cell if abs(float(cell)) <= 180 else None
    except ValueError:
        return None


# column: (normalised cell or None if it is invalid, what is expected)
_CHECKS = {
    "target": (_target, "0, 1 or empty"),
    "group": (_group, "a whole number from 0 or empty"),
    "group_str": (lambda cell: cell if cell.isprintable() else None, "printable text or empty"),
    "split": (lambda cell: cell if cell in SPLITS else None, "train, valid, test or empty"),
    "ita": (_ita, "degrees in -180..180 or empty"),
}


def _checked(table: Table, name: str, cells: list[str]) -> list[str]:
    normalise, wanted = _CHECKS[name]
    known: dict[str, str | None] = {"": ""}
    for row, cell in enumerate(cells):
        if cell not in known:
            known[cell] = normalise(cell)
        if known[cell] is None:
            raise table.error(row, f"{name} must be {wanted}, got {cell!r}")
    return [known[cell] or "" for cell in cells]


def _require_unrounded(table: Table, name: str, cells: list[str]) -> None:
    """Raises InputError if a spreadsheet rounded long numbers, so that different ids became equal."""
    repeated = {cell for cell, count in Counter(cells).items() if count > 1 and SCIENTIFIC.fullmatch(cell)}
    if rows := [row for row, cell in enumerate(cells) if cell in repeated]:
        raise table.error(
            rows[0],
            f"{name} {cells[rows[0]]!r} is in scientific notation, in {cells.count(cells[rows[0]])} rows: a "
            "spreadsheet rounds long numbers, so different ids become one; export the column as text",
        )


def _require_unique(table: Table, names: list[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if not name:
            raise table.error(row, "image_name is empty")
        if name in first:
            line = table.lines[first[name]]
            raise table.error(row, f"image_name {name!r} is already in line {line}")
        first[name] = row
