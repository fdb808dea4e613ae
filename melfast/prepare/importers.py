"""Convert a published table to the columns of a manifest.

Columns are renamed, normalised and completed according to the entry of the data set; image files are not
checked. Other columns are passed through unchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from melfast.data.manifest import COLUMNS
from melfast.io.columns import canonical
from melfast.io.errors import InputError
from melfast.io.folders import IMAGE_SUFFIXES
from melfast.io.tables import MISSING, Table, read_table, require_columns, shortened
from melfast.prepare.datasets import (
    ALIASES,
    DATASETS,
    DIAGNOSIS_COLUMNS,
    LEVELS,
    MALIGNANT_COLUMNS,
    SPLIT_WORDS,
    TARGET_COLUMNS,
    TARGET_WORDS,
    DataSet,
)
from melfast.prepare.diagnoses import ARCHIVE_CLASSES, Diagnosis, archive_diagnosis, find_diagnosis

MARKS = {**dict.fromkeys(("0", "0.0", "false"), "0"), **dict.fromkeys(("1", "1.0", "x", "true"), "1")}
# Spellings of Fitzpatrick types, with the number and name of their group.
FITZPATRICK = {
    **{str(i + 1): (str(i), name) for i, name in enumerate(("I", "II", "III", "IV", "V", "VI"))},
    **{word: (str(i), name) for i, (word, name) in enumerate({"12": "I-II", "34": "III-IV", "56": "V-VI"}.items())},
}


@dataclass(frozen=True)
class Choice:
    """What the user states about the columns of a table.

    Attributes:
        target: melanoma, malignant, a column, or a YAML file that maps a diagnosis to 0, 1 or nothing.
        positive: words in the target column that mean 1; all others mean 0.
        image: column of image names or files.
        patient, lesion: columns with ids.
        unlabelled: whether a table may be without labels.
    """

    target: str | None = None
    positive: tuple[str, ...] = ()
    image: str | None = None
    patient: str | None = None
    lesion: str | None = None
    unlabelled: bool = True


@dataclass
class Draft:
    """A manifest in preparation.

    Attributes:
        table: the current columns; `table.lines` holds the line of each row.
        notes: notes for the user, one line each.
        target: definition and source of the target; '' if there are no labels.
        used: maps columns of the manifest to their source columns.
        made: columns that the table did not have.
    """

    table: Table
    notes: list[str] = field(default_factory=list)
    target: str = ""
    used: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def set(self, name: str, values: list[str]) -> None:
        if name not in self.table.frame:
            self.made.add(name)
        self._replace(self.table.frame.assign(**{name: pd.Series(values, dtype=str)}))

    def keep(self, rows: np.ndarray) -> None:
        frame = self.table.frame.iloc[rows].reset_index(drop=True)
        self.table = Table(self.table.path, frame, self.table.lines[rows])

    def rename(self, old: str, new: str) -> None:
        """Renames a column; an existing column with the new name is kept as NEW_source."""
        if old != new and new in self.table.frame:
            self._replace(self.table.frame.rename(columns={new: f"{new}_source"}))
        self._replace(self.table.frame.rename(columns={old: new}))
        self.used[new] = old

    def _replace(self, frame: pd.DataFrame) -> None:
        self.table = Table(self.table.path, frame, self.table.lines)

    def cells(self, name: str) -> list[str]:
        return [cell.strip() for cell in self.table.frame[name].to_numpy(dtype=object)]

    def find(self, *names: str) -> str | None:
        """The first of some columns that exists, in any spelling; `name` comes before `dataset.name`."""
        columns = sorted(map(str, self.table.frame), key=lambda name: "." in name)
        present = {canonical(column): column for column in reversed(columns)}
        return next((present[name] for name in map(canonical, names) if name in present), None)

    def require(self, name: str) -> str:
        """Like `find`, but raises InputError if the column does not exist."""
        if (found := self.find(name)) is None:
            require_columns(self.table.path, self.given, (name,))
        return found or name

    @property
    def given(self) -> list[str]:
        """The columns that the table had, by its own names."""
        return [self.used.get(name, name) for name in map(str, self.table.frame) if name not in self.made]

    @property
    def unused(self) -> list[str]:
        sources = {name for names in self.used.values() for name in names.split(", ")}
        return [name for name in map(str, self.table.frame) if name not in {*self.used, *sources, *self.made, *COLUMNS}]


@dataclass(frozen=True)
class DiagnosisWords:
    """The column (or columns) of the diagnoses, its words and their meaning; nothing if there is none."""

    source: str = ""
    words: list[str] = field(default_factory=list)
    found: list[Diagnosis | None] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, Diagnosis | None]]:
        return zip(self.words, self.found, strict=True)


def convert_table(table: Table, kind: str, choice: Choice | None = None) -> Draft:
    """Columns of a manifest; `path` is still that of the table, or '' if it had none.

    Raises:
        InputError: a column that the kind needs is missing, or a cell cannot be understood.
    """
    choice = choice or Choice()
    data_set = DATASETS[kind]
    draft = Draft(table)
    for name in data_set.header:
        draft.require(name)
    for old, new in ((choice.image, "path"), (choice.patient, "patient_id"), (choice.lesion, "lesion_id")):
        if old:
            draft.rename(draft.require(old), new)
    for old, new in data_set.columns.items():
        if (column := draft.find(old)) and new not in draft.used:
            draft.rename(column, new)
    taken = set(draft.used.values())
    for new, aliases in ALIASES.items():
        if new == "image_name" and choice.image:
            continue
        found = next((name for name in map(draft.find, (new, *aliases)) if name and name not in taken), None)
        if found and canonical(found) == "name" and draft.find(*ALIASES["path"]):
            continue  # of the patient, perhaps: the files have theirs
        if found and new not in draft.used:
            draft.rename(found, new)
            taken |= {found, new}
    _leave_repeats_out(draft, kind)
    _name_images(draft)
    if "split" in draft.table.frame:
        draft.set("split", [SPLIT_WORDS.get(cell.lower(), cell) for cell in draft.cells("split")])
        if kind not in ("csv", "folder") and len(set(draft.cells("split")) - {""}) == 1:
            draft.rename("split", "split_source")  # training part alone: still to be split
    if "fitzpatrick" in draft.used:
        types = [cell.removesuffix(".0") for cell in draft.cells("fitzpatrick")]
        for place, name in enumerate(("group", "group_str")):
            draft.set(name, [FITZPATRICK.get(cell, ("", ""))[place] for cell in types])
        draft.set("fitzpatrick", [cell if cell in FITZPATRICK else "" for cell in types])
    _label(draft, data_set, choice)
    return draft


def join_table(table: Table, side: Table) -> Table:
    """A table with the columns of another one, by image or lesion; a row that has no match gets ''.

    Raises:
        InputError: the other table has neither column, or a repeated value.
    """
    left, right = Draft(table), Draft(side)
    for name in ("image_name", "lesion_id"):
        ours, theirs = left.find(*ALIASES[name]), right.find(*ALIASES[name])
        if ours and theirs:
            break
    else:
        raise InputError(f"{side.path}: has no column of images or lesions that {table.path.name} has")
    keys = [image_stem(cell) for cell in right.cells(theirs)]
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        row = next(row for row, key in enumerate(keys) if rows[key] != row)
        raise side.error(row, f"{theirs} {keys[row]!r} is already in line {side.lines[rows[keys[row]]]}")
    wanted = [rows.get(image_stem(cell), -1) for cell in left.cells(ours)]
    frame = table.frame.copy()
    for name in side.frame.columns:
        if name not in frame and name != theirs:
            cells = [*side.frame[name].tolist(), ""]
            frame[name] = pd.Series([cells[row] for row in wanted], dtype=str)
    return Table(table.path, frame, table.lines)


def split_rows(table: Table, files: Sequence[Path]) -> Table:
    """A table with a split by tables of row numbers, from 0, for train, valid and test."""
    splits = [""] * len(table.frame)
    for name, file in zip(("train", "valid", "test"), files, strict=True):
        side = read_table(file)
        for row, cell in enumerate(side.frame.iloc[:, -1]):
            if not cell.strip().isdecimal() or int(cell) >= len(splits):
                raise side.error(row, f"expected the number of a row of {table.path.name}, got {cell!r}")
            splits[int(cell)] = name
    return Table(table.path, table.frame.assign(split=pd.Series(splits, dtype=str)), table.lines)


def image_stem(name: str) -> str:
    """`a/ISIC_1.JPG` to `ISIC_1`; a name without an image suffix keeps its dots."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def unique_names(paths: Sequence[str]) -> list[str]:
    """Names of files: their stems or, if these repeat, their paths below the common folder."""
    stems = [image_stem(path) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    parts = [path.replace("\\", "/").split("/") for path in paths]
    shared = shared_folders([part[:-1] for part in parts])
    names = ["/".join([*part[shared:-1], stem]) for part, stem in zip(parts, stems, strict=True)]
    return names if len(set(names)) == len(names) else ["/".join(part[shared:]) for part in parts]


def shared_folders(paths: Sequence[Sequence[str]]) -> int:
    """Number of leading folders that all paths share."""
    return sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False)))


def _name_images(draft: Draft) -> None:
    frame = draft.table.frame
    if "image_name" not in frame and "path" not in frame:
        try:
            draft.require("image_name")
        except InputError as error:
            raise InputError(f"{error} (`image=COLUMN` names it)") from None
    if "image_name" not in frame:
        draft.set("image_name", unique_names(draft.cells("path")))
        draft.used["image_name"] = draft.used["path"]
        return
    names = draft.cells("image_name")
    stems = [image_stem(name) for name in names]
    if "path" not in frame:
        draft.set("path", names if any("/" in name or "\\" in name for name in names) else [""] * len(names))
    # `1` in the folder of each class; a repeated name is an error in the table, reported later.
    repeats = len(set(stems)) < len(stems) and len(set(names)) == len(names) and any(draft.cells("path"))
    draft.set("image_name", unique_names(names) if repeats else stems)


def _leave_repeats_out(draft: Draft, kind: str) -> None:
    """Drops repeated rows: ISIC_2020_full.csv lists an image twice, with two colour measurements."""
    if kind != "isic2020-full":
        return
    frame = draft.table.frame
    again = frame.duplicated(["image_name", "patient_id", "target", "split"]).to_numpy()
    if again.any():
        lines = shortened([str(line) for line in draft.table.lines[again]])
        draft.notes.append(f"rows left out that repeat an image: {again.sum()} (line {lines})")
        draft.keep(np.flatnonzero(~again))


def _label(draft: Draft, data_set: DataSet, choice: Choice) -> None:
    """Sets `diagnosis` and `target` if they can be derived, and notes their source."""
    words = _diagnoses(draft, data_set)
    malignant = draft.find(*MALIGNANT_COLUMNS)
    if malignant == "malignant" and (values := _understood(draft, malignant)):
        draft.set("malignant", values)
    if rule := _rule(draft, data_set, choice, words):
        draft.target, values = _targets(draft, rule, choice, words)
        draft.set("target", values)
    if not words.found or "diagnosis_source" in draft.table.frame:  # a manifest has both already
        return
    if words.source == "diagnosis":
        draft.rename("diagnosis", "diagnosis_source")
        del draft.used["diagnosis_source"]
        draft.made.add("diagnosis_source")
    else:
        draft.set("diagnosis_source", words.words)
    draft.used["diagnosis"] = words.source
    # Unrecognised words are kept unchanged.
    draft.set("diagnosis", [each.name if each else word for word, each in words])
    if not malignant:
        draft.set("malignant", [each.malignant if each else "" for each in words.found])


def _diagnoses(draft: Draft, data_set: DataSet) -> DiagnosisWords:
    columns = data_set.diagnosis or (LEVELS if draft.find(LEVELS[0]) else ())
    present = [column for column in map(draft.find, columns) if column]
    if len(columns) > 1 and present:
        rows = list(zip(*map(draft.cells, present), strict=True))
        for row, levels in enumerate(rows):
            if levels[0] not in ARCHIVE_CLASSES:
                wanted = ", ".join(word for word in ARCHIVE_CLASSES if word)
                raise draft.table.error(row, f"{present[0]} must be {wanted} or empty, got {levels[0]!r}")
        words = [next((level for level in reversed(levels) if level), "") for levels in rows]
        return DiagnosisWords(", ".join(present), words, list(map(archive_diagnosis, rows)))
    one_hot = [name for name in map(str, draft.table.frame) if find_diagnosis(name, exact=True)]
    if not present and len(one_hot) > 1 and (words := _one_hot(draft, one_hot, data_set)):
        return DiagnosisWords(", ".join(one_hot), words, list(map(find_diagnosis, words)))
    column = present[0] if present else draft.find(*DIAGNOSIS_COLUMNS)
    if column is None:
        return DiagnosisWords()
    words = draft.cells(column)
    known = {word: find_diagnosis(data_set.words.get(word, word)) for word in set(words)}
    return DiagnosisWords(column, words, [known[word] for word in words] if any(words) else [])


def _one_hot(draft: Draft, columns: Sequence[str], data_set: DataSet) -> list[str]:
    """The column that is 1 in each row; [] if the columns contain other values, such as probabilities."""
    marks = {name: [MARKS.get(cell.lower(), None if cell else "0") for cell in draft.cells(name)] for name in columns}
    words = []
    for row in range(len(draft.table.frame)):
        if None in (values := [marks[name][row] for name in columns]):
            return []
        set_here = [name for name, value in zip(columns, values, strict=True) if value == "1"]
        if len(set_here) > 1 and not data_set.header:
            return []  # not classes, but features
        if len(set_here) > 1:
            raise draft.table.error(row, f"expected one class, got {' and '.join(set_here)}")
        words.append(set_here[0] if set_here else data_set.otherwise)
    return words if any(words) else []


def _understood(draft: Draft, column: str) -> list[str]:
    """A column as '0', '1' and '', or [] if it contains other words or is empty."""
    words = [cell.lower() for cell in draft.cells(column)]
    if not all(word in TARGET_WORDS or word in MISSING for word in words):
        return []
    values = [TARGET_WORDS.get(word, "") for word in words]
    return values if any(values) else []


def _rule(draft: Draft, data_set: DataSet, choice: Choice, words: DiagnosisWords) -> str:
    """The source of the target: melanoma, malignant, a column or a YAML file; '' for none."""
    if choice.target:
        return choice.target
    if choice.positive:
        return words.source or draft.find(*TARGET_COLUMNS) or draft.require("diagnosis")
    if data_set.target and (words.found or data_set.target in draft.table.frame):
        return data_set.target
    labels = [column for column in map(draft.find, TARGET_COLUMNS) if column]
    return (
        next((column for column in labels if _understood(draft, column)), "")
        or ("melanoma" if words.found else draft.find(*MALIGNANT_COLUMNS))
        or next((column for column in labels if any(draft.cells(column))), "")
    )


def _targets(draft: Draft, rule: str, choice: Choice, words: DiagnosisWords) -> tuple[str, list[str]]:
    """The name of the target, and its values."""
    if rule.lower().endswith((".yaml", ".yml")):
        return f"{Path(rule).name}, of {words.source!r}", _mapped(draft, Path(rule), words)
    if rule == "malignant":
        rule = draft.find(*MALIGNANT_COLUMNS) or rule
    if rule in ("melanoma", "malignant") and rule not in draft.table.frame and words.found and not choice.positive:
        return f"{rule}, by {words.source!r}", _from_diagnoses(draft, rule, words)
    column = rule if rule == words.source else draft.require(rule)
    return f"{column!r}", _from_column(draft, column, choice.positive, words.words if rule == words.source else None)


def _from_diagnoses(draft: Draft, rule: str, words: DiagnosisWords) -> list[str]:
    values = []
    for row, (word, each) in enumerate(words):
        if each is None:
            raise draft.table.error(
                row,
                f"{words.source} {word!r} is no diagnosis that is known: say with `positive` which of its words are "
                "the positive class, or give a table of them with `target=MAP.yaml`",
            )
        values.append(each.melanoma if rule == "melanoma" else each.malignant)
    if unsure := values.count(""):
        draft.notes.append(f"images unlabelled, for their diagnosis leaves {rule} open: {unsure}")
    return values


def _from_column(
    draft: Draft, column: str, positive: tuple[str, ...] = (), cells: list[str] | None = None
) -> list[str]:
    cells = draft.cells(column) if cells is None else cells
    words = [cell.lower() for cell in cells]
    draft.used["target"] = column
    if positive:
        ones = {word.strip().lower() for word in positive}
        if absent := ones - set(words):
            listed = shortened(sorted(set(words) - {""}))
            raise InputError(
                f"{draft.table.path}: `positive` {min(absent)!r} is in no row of {column!r}; there are {listed}"
            )
        return ["" if word in MISSING else str(int(word in ones)) for word in words]
    for row, word in enumerate(words):
        if word not in TARGET_WORDS and word not in MISSING:
            raise draft.table.error(
                row,
                f"{column} must be 0 or 1, benign or malignant, or empty, got {cells[row]!r} "
                f"(for other words: `target={column}` `positive=WORD,WORD`)",
            )
    return [TARGET_WORDS.get(word, "") for word in words]


def _mapped(draft: Draft, path: Path, words: DiagnosisWords) -> list[str]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not isinstance(table, dict) or not set(table.values()) <= {0, 1, None}:
        raise InputError(f"{path}: expected lines as `melanoma: 1`, `nevus: 0`, or nothing for unlabelled")
    if not words.words:
        draft.require("diagnosis")
    known = {str(word).lower(): "" if value is None else str(int(value)) for word, value in table.items()}
    values = []
    for row, (word, each) in enumerate(words):
        name = each.name if each else ""
        keys = [key for key in (word.lower(), name.lower()) if key in known]
        if not keys and word.lower() not in MISSING:
            raise draft.table.error(row, f"{words.source} {word!r} is not in {path}")
        values.append(known[keys[0]] if keys else "")
    return values
