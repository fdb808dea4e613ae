"""Tables as their publishers wrote them, to a manifest's columns.

Each importer takes the columns of a Table and returns them renamed, normalised and completed; none
looks for a file. Columns that a manifest does not know pass through untouched.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from melfast.io.folders import IMAGE_SUFFIXES
from melfast.io.tables import MISSING, Table, require_columns

NAME_COLUMNS = ("image_name", "image_id", "isic_id", "image", "name")
FILE_COLUMNS = ("path", "image_path", "filepath", "file_path", "file", "filename", "file_name")
TARGET_COLUMNS = ("target", "label", "malignant", "benign_malignant", "class", "melanoma")
TARGET_WORDS = {
    "0": "0",
    "0.0": "0",
    "benign": "0",
    "false": "0",
    "no": "0",
    "1": "1",
    "1.0": "1",
    "malignant": "1",
    "true": "1",
    "yes": "1",
}
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}

# Tschandl et al. 2018, table 2; of these mel, bcc and akiec are malignant or in situ.
HAM10000_DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
HAM10000_MALIGNANT = ("akiec", "bcc", "mel")

# The ISIC Archive's diagnoses from the general (diagnosis_1) to the particular (diagnosis_5), as
# the package isic-metadata lists them.
ARCHIVE_CLASSES = {"Benign": "0", "Malignant": "1", "Indeterminate": "", "": ""}
ARCHIVE_MELANOMA = "Malignant melanocytic proliferations (Melanoma)"
# What may be a melanoma and may not; every other known diagnosis_2 is none.
ARCHIVE_UNSURE = ("", "Indeterminate melanocytic proliferations", "Collision - At least one malignant proliferation")


@dataclass
class Draft:
    """Columns on their way to a manifest.

    Attributes:
        table: the columns as they stand; `table.lines` tells each row's line.
        notes: what the user should know of, a line each.
    """

    table: Table
    notes: list[str] = field(default_factory=list)

    def set(self, name: str, values: list[str]) -> None:
        frame = self.table.frame.copy()
        frame[name] = pd.Series(values, dtype=str)
        self.table = Table(self.table.path, frame, self.table.lines)

    def keep(self, rows: np.ndarray) -> None:
        frame = self.table.frame.iloc[rows].reset_index(drop=True)
        self.table = Table(self.table.path, frame, self.table.lines[rows])

    def rename(self, old: str, new: str) -> None:
        frame = self.table.frame.rename(columns={old: new})
        self.table = Table(self.table.path, frame, self.table.lines)

    def cells(self, name: str) -> list[str]:
        return [cell.strip() for cell in self.table.frame[name].to_numpy(dtype=object)]


@dataclass(frozen=True)
class TableKind:
    """A published table: recognised when all its `columns` are there."""

    columns: tuple[str, ...]
    convert: Callable[[Draft], None]


def ham10000(draft: Draft) -> None:
    """HAM10000_metadata (image_id, dx, …): target is melanoma; `malignant` mel, bcc and akiec."""
    if "image_name" not in draft.table.frame:
        require_columns(draft.table.path, draft.table.frame.columns, ("image_id",))
        draft.rename("image_id", "image_name")
    diagnoses = draft.cells("dx")
    for row, dx in enumerate(diagnoses):
        if dx not in HAM10000_DIAGNOSES:
            raise draft.table.error(row, f"dx must be in {' '.join(HAM10000_DIAGNOSES)}, got {dx!r}")
    if "target" not in draft.table.frame:
        draft.set("target", [str(int(dx == "mel")) for dx in diagnoses])
    if "malignant" not in draft.table.frame:
        draft.set("malignant", [str(int(dx in HAM10000_MALIGNANT)) for dx in diagnoses])


def isic2020(draft: Draft) -> None:
    """The challenge's ground truth and Kaggle's train.csv: a manifest's names but the path."""
    _set_target(draft)


def isic2020_full(draft: Draft) -> None:
    """The published ISIC_2020_full.csv, which holds an image twice, its colour measured twice."""
    _set_target(draft)
    frame = draft.table.frame
    repeated = frame.duplicated("image_name").to_numpy()
    same = frame.duplicated(["image_name", "patient_id", "target", "split"]).to_numpy()
    if (twice := np.flatnonzero(repeated & same)).size:
        lines = ", ".join(str(line) for line in draft.table.lines[twice[:5]])
        draft.notes.append(f"rows left out that repeat an image: {twice.size} (line {lines})")
        draft.keep(np.flatnonzero(~(repeated & same)))


def isic_archive(draft: Draft) -> None:
    """metadata.csv of `isic image download`: target is melanoma, as in HAM10000's own table.

    Images whose diagnosis leaves that open are unlabelled; `malignant` is diagnosis_1.
    """
    draft.rename("isic_id", "image_name")
    known = "diagnosis_2" in draft.table.frame
    general = draft.cells("diagnosis_1")
    particular = draft.cells("diagnosis_2") if known else [""] * len(general)
    targets = []
    for row, (first, second) in enumerate(zip(general, particular, strict=True)):
        if first not in ARCHIVE_CLASSES:
            wanted = ", ".join(word for word in ARCHIVE_CLASSES if word)
            raise draft.table.error(row, f"diagnosis_1 must be {wanted} or empty, got {first!r}")
        if first == "Benign":
            targets.append("0")
        elif second == ARCHIVE_MELANOMA:
            targets.append("1")
        else:
            targets.append("" if second in ARCHIVE_UNSURE else "0")
    draft.set("target", targets)
    draft.set("malignant", [ARCHIVE_CLASSES[first] for first in general])
    if unsure := targets.count(""):
        draft.notes.append(f"images unlabelled, for their diagnosis leaves melanoma open: {unsure}")


def plain(draft: Draft) -> None:
    """Any CSV: an image_name or a path, and perhaps a target."""
    frame = draft.table.frame
    file = next((name for name in FILE_COLUMNS if name in frame), None)
    name = next((name for name in NAME_COLUMNS if name in frame), None)
    if name is None and file is None:
        require_columns(draft.table.path, frame.columns, ("image_name",))
    if file is not None and file != "path":
        draft.rename(file, "path")
    if name is None:
        draft.set("image_name", draft.cells("path"))
    elif name != "image_name":
        draft.rename(name, "image_name")
    _set_target(draft)


# The most particular first: the first whose columns are all there is what a table is.
TABLE_KINDS = {
    "isic2020-full": TableKind(("image_name", "ita", "group_str", "color_r", "split"), isic2020_full),
    "ham10000": TableKind(("dx", "dx_type"), ham10000),
    "isic2020": TableKind(("image_name", "patient_id", "lesion_id", "diagnosis", "benign_malignant"), isic2020),
    "kaggle": TableKind(("image_name", "patient_id", "anatom_site_general_challenge", "target"), isic2020),
    "isic-archive": TableKind(("isic_id", "copyright_license", "diagnosis_1"), isic_archive),
    "csv": TableKind((), plain),
}


def recognise_table(columns: list[str]) -> str:
    """The kind of a table by its header; `csv` where it is no published one."""
    if "path" in columns and "image_name" in columns:  # a manifest, whatever it was made of
        return "csv"
    return next(kind for kind, wanted in TABLE_KINDS.items() if set(wanted.columns) <= set(columns))


def convert_table(table: Table, kind: str) -> Draft:
    """Columns of a manifest, `path` still as it was in the table, or '' where it had none.

    Raises:
        InputError: a column that the kind needs is missing, or a cell cannot be understood.
    """
    require_columns(table.path, table.frame.columns, TABLE_KINDS[kind].columns)
    draft = Draft(table)
    TABLE_KINDS[kind].convert(draft)
    draft.set("image_name", [image_stem(cell) for cell in draft.cells("image_name")])
    if "split" in draft.table.frame:
        draft.set("split", [SPLIT_WORDS.get(cell.lower(), cell) for cell in draft.cells("split")])
    if "path" not in draft.table.frame:
        draft.set("path", [""] * len(draft.table.frame))
    return draft


def image_stem(name: str) -> str:
    """`a/ISIC_1.JPG` to `ISIC_1`; a name without an image suffix keeps its dots."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def _set_target(draft: Draft) -> None:
    """`target` from the first of TARGET_COLUMNS that is there; absent where none is."""
    columns = list(draft.table.frame.columns)
    source = next((name for name in TARGET_COLUMNS if name in columns), None)
    if source is None:
        if difflib.get_close_matches("target", columns, n=1, cutoff=0.8):
            require_columns(draft.table.path, columns, ("target",))
        draft.notes.append("no column 'target': all images are unlabelled")
        return
    targets = []
    for row, cell in enumerate(draft.cells(source)):
        word = cell.lower()
        if word not in TARGET_WORDS and word not in MISSING:
            raise draft.table.error(row, f"{source} must be 0 or 1, benign or malignant, or empty, got {cell!r}")
        targets.append(TARGET_WORDS.get(word, ""))
    draft.set("target", targets)
