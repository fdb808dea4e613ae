"""Read tables of predictions from melfast, the published system and other sources.

`target` is the truth, `prediction` the model's call, `probability` its score. Imports neither pandas nor
other slow libraries, so that a bad table is refused at once.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import InputError
from melfast.io.tables import MISSING, TextTable, read_cells

# The first of these that a table has, in upper or lower case.
NAME_COLUMNS = ("image_name", "image", "isic_id", "image_id", "filename", "file")
SCORE_COLUMNS = ("probability", "prob", "score", "p_malignant", "y_score", "y_prob")
CALL_COLUMNS = ("prediction", "predicted", "target_predicted", "predicted_label", "call", "pred", "y_pred")
TRUTH_COLUMNS = ("target", "truth", "label", "y_true", "ground_truth", "benign_malignant")
# Never a prediction of a model, although they may contain numbers.
OTHER_COLUMNS = frozenset({"group", "ita", "ita_quality", "fitzpatrick", "patient_id", "lesion_id", "age_approx"})
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "benign": 0, "malignant": 1} | dict.fromkeys(
    MISSING, -1
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm"})


@dataclass(frozen=True)
class Columns:
    """The columns of a table to use; '': the one with a usual name."""

    image: str = ""
    score: str = ""
    call: str = ""
    truth: str = ""


USUAL = Columns()


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for images.

    Attributes:
        path: the table.
        names: names of the images, unique.
        score: float64 [N], P(malignant); None: the table has only calls.
        called: int64 [N], 0 or 1, -1 none; None: the table has no calls.
        truth: int64 [N], -1 unknown; None: the table has none.
        groups: name of the tone group of each image, '' unknown; None: the table has none.
        columns: the column that each of image, probability, prediction and target was read from.
        passed_over: numeric columns that were not read.
        asked: the columns that the user named.
        made_by: the threshold of the calls; None: unknown, see `threshold`.
    """

    path: Path
    names: list[str]
    score: NDArray[np.float64] | None
    called: NDArray[np.int64] | None
    truth: NDArray[np.int64] | None
    groups: list[str] | None
    columns: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    asked: Columns = USUAL
    made_by: float | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def threshold(self) -> float | None:
        """The threshold of the calls; if unknown, halfway between the highest score not called malignant
        and the lowest that is; None if no threshold separates them."""
        return self.made_by if self.made_by is not None else threshold_between(self.score, self.called)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """The selected rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            names=[self.names[i] for i in index],
            score=None if self.score is None else self.score[index],
            called=None if self.called is None else self.called[index],
            truth=None if self.truth is None else self.truth[index],
            groups=None if self.groups is None else [self.groups[i] for i in index],
        )


def read_predictions(path: str | Path, columns: Columns = USUAL) -> Predictions:
    """Reads a table of predictions: CSV with commas, semicolons or tabs; see `predictions_of`."""
    return predictions_of(read_cells(path), columns)


def predictions_of(table: TextTable, asked: Columns = USUAL) -> Predictions:
    """The predictions in a table.

    Columns are recognised by their usual names, see NAME_COLUMNS and the others. `target`, `label` and
    similar columns are the truth if there is also a score or a column of calls. Otherwise they are the
    predictions: P(malignant) if they contain fractions, as on Kaggle, or else the calls, as in the
    published submission form.

    Raises:
        InputError: no column of names or predictions, two columns that contradict each other, an invalid
            value, or a repeated image.
    """
    found = {
        "image": asked.image or _first(table, NAME_COLUMNS),
        "probability": asked.score or _first(table, SCORE_COLUMNS, but=(asked.call, asked.truth)),
        "prediction": asked.call or _first(table, CALL_COLUMNS, but=(asked.score, asked.truth)),
        "target": asked.truth or _first(table, TRUTH_COLUMNS, but=(asked.score, asked.call)),
    }
    named = [column for column in (asked.image, asked.score, asked.call, asked.truth) if column]
    for wanted in named:
        if wanted not in table.columns:
            raise InputError(f"{table.path}: no column {wanted!r}; there are {', '.join(table.columns)}")
    if not found["image"]:
        raise InputError(
            f"{table.path}: no column of image names ({', '.join(NAME_COLUMNS)}); there are "
            f"{', '.join(table.columns)}; melfast report takes it by --image-column"
        )
    _require_no_rival(table, found["prediction"], CALL_COLUMNS, named, "model's calls; name them by --call-column")
    _require_no_rival(
        table, found["target"], TRUTH_COLUMNS, named, "truth; name it by --truth-column, or calls by --call-column"
    )
    if found["target"] and not asked.truth and not found["probability"] and not found["prediction"]:
        labels = {cell.strip().lower() for cell in table.columns[found["target"]]} <= LABELS.keys()
        found["prediction" if labels else "probability"] = found["target"]
        found["target"] = ""
    passed_over = [c for c in table.columns if c not in found.values() and _is_of_numbers(table, c)]
    if not found["probability"] and not found["prediction"]:
        numbers = f"; of numbers: {', '.join(passed_over)}" if passed_over else ""
        raise InputError(
            f"{table.path}: no column of probabilities ({', '.join(SCORE_COLUMNS)}) or calls "
            f"({', '.join(CALL_COLUMNS)}); there are {', '.join(table.columns)}{numbers}; "
            "melfast report takes them by --score-column and --call-column"
        )
    _require_each_once(table, found["image"])
    score, call, truth = found["probability"], found["prediction"], found["target"]
    return Predictions(
        table.path,
        table.columns[found["image"]],
        _numbers(table, score) if score else None,
        _labels(table, call) if call else None,
        _labels(table, truth) if truth else None,
        table.columns.get("group"),
        {what: column for what, column in found.items() if column},
        tuple(passed_over),
        asked,
    )


def settle(table: Predictions, truth: NDArray[np.int64], manifest: Path) -> tuple[Predictions, list[str]]:
    """Decides ambiguous columns of a table, using the truth in a manifest.

    Args:
        truth: int64 [N], truth of the images in the table, -1 unknown.
    Returns:
        The table, with calls that looked like the truth moved to `called`; and remarks.
    Raises:
        InputError: the only predictions equal the truth in the manifest.
    """
    usual = table.columns.get("prediction", "").lower() in TRUTH_COLUMNS and not table.asked.call
    if table.score is None and usual and {0, 1} <= set(truth.tolist()) and _agree(table.called, truth) == 0:
        others = f"; columns of numbers: {', '.join(table.passed_over)}" if table.passed_over else ""
        raise InputError(
            f"{table.path}: column {table.columns['prediction']!r} is the truth of {manifest} for every image, "
            f"and there are no answers of a model{others}; name them by --score-column or --call-column"
        )
    wrong = _agree(table.truth, truth)
    if not wrong:
        return table, []
    column = table.columns["target"]
    differs = f"{table.path}: column {column!r} differs from the manifest's truth in {wrong:,} images"
    if table.called is None and not table.asked.truth and threshold_between(table.score, table.truth) is not None:
        columns = {what: c for what, c in table.columns.items() if what != "target"} | {"prediction": column}
        remark = f"{differs}, and a threshold on the probability gives it exactly: it is read as the model's calls"
        return replace(table, called=table.truth, truth=None, columns=columns), [remark]
    hint = "" if table.called is not None else "; if it holds the model's calls, name it by --call-column"
    return table, [f"{differs}; the manifest's is used{hint}"]


def odd(table: Predictions, truth: NDArray[np.int64]) -> list[str]:
    """Remarks on implausible predictions: perfect by construction, or contradicting the scores.

    Args:
        truth: int64 [N], truth of the images in the table, -1 unknown.
    """
    remarks = []
    if table.called is None and table.score is not None and threshold_between(table.score, truth) is not None:
        remarks.append(
            f"{table.path}: a threshold on the probability separates the classes without one error, which is rare: "
            "check that the truth is not made from the model's answers"
        )
    if _agree(table.called, truth) == 0:
        remarks.append(
            f"{table.path}: the calls are right for every image; check that they are not a copy of the truth"
        )
    if table.score is None or table.called is None or not {0, 1} <= set(table.called.tolist()):
        return remarks
    benign, malignant = table.score[table.called == 0], table.score[table.called == 1]
    above = int((benign > malignant.min()).sum())
    if np.median(benign) > np.median(malignant):
        remarks.append(
            f"{table.path}: images called malignant have lower probabilities than those called benign: is the "
            "probability that of benign?"
        )
    elif above:
        remarks.append(
            f"{table.path}: no single threshold makes the calls: {above:,} images called benign have a higher "
            "probability than another called malignant (thresholds by group may do that)"
        )
    return remarks


def threshold_between(score: NDArray[np.float64] | None, labels: NDArray[np.int64] | None) -> float | None:
    """Halfway between the highest score of a 0 and the lowest of a 1; None if no threshold separates them."""
    if score is None or labels is None or not {0, 1} <= set(labels.tolist()):
        return None
    below, above = score[labels == 0].max(), score[labels == 1].min()
    return float((below + above) / 2) if below < above else None


def image_key(name: str) -> str:
    """The name without an image suffix."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and stem[-1] != "/" and dot + suffix.lower() in IMAGE_SUFFIXES else name


def repeated(names: Sequence[str]) -> list[int]:
    """Rows that name an image of an earlier row, with or without its suffix."""
    if len(set(map(image_key, names))) == len(names):
        return []
    seen: dict[str, set[str]] = {}
    again = []
    for row, name in enumerate(names):
        key = image_key(name)
        others = seen.setdefault(key, set())
        # a.jpg and a.png are two files; a may be either.
        if name in others or (others and (name == key or key in others)):
            again.append(row)
        others.add(name)
    return again


def require_distinct(table: Predictions) -> None:
    """Refuses names that differ only in case or in how accents are encoded.

    Raises:
        InputError: naming the first two.
    """
    alike = [unicodedata.normalize("NFC", name.casefold()) for name in table.names]
    if again := repeated(alike):
        key = image_key(alike[again[0]])
        first = next(name for name, form in zip(table.names, alike, strict=True) if image_key(form) == key)
        more = f"; {len(again):,} such names" if len(again) > 1 else ""
        raise InputError(
            f"{table.path}: {first!r} and {table.names[again[0]]!r} may be one image{more}; if they are different "
            "images, expected --manifest with both"
        )


def _agree(labels: NDArray[np.int64] | None, truth: NDArray[np.int64]) -> int | None:
    """Number of images with known class that have a different label; None if none can be compared."""
    if labels is None:
        return None
    known = (labels >= 0) & (truth >= 0)
    return int((labels != truth)[known].sum()) if known.any() else None


def _first(table: TextTable, usual: Iterable[str], but: Sequence[str] = ()) -> str:
    there = {column.lower(): column for column in reversed(table.columns) if column not in but}
    return next((there[name] for name in usual if name in there), "")


def _require_no_rival(table: TextTable, column: str, usual: Sequence[str], named: Sequence[str], meaning: str) -> None:
    """Refuses a column that was found by its name if another one of the usual names has other labels."""
    if not column or column in named:
        return
    rivals = [c for c in table.columns if c.lower() in usual and c != column and c not in named]
    for rival in rivals:
        pairs = [
            [LABELS.get(cell.strip().lower()) for cell in cells]
            for cells in zip(table.columns[column], table.columns[rival], strict=True)
        ]
        if any(None in pair for pair in pairs):  # words or fractions: no labels
            continue
        if wrong := sum(one != other and -1 not in (one, other) for one, other in pairs):
            raise InputError(
                f"{table.path}: columns {column!r} and {rival!r} differ in {wrong:,} images, and either may be the "
                f"{meaning}"
            )


def _is_of_numbers(table: TextTable, column: str) -> bool:
    cells = [cell for cell in table.columns[column] if cell.strip().lower() not in MISSING]
    return column.lower() not in OTHER_COLUMNS and bool(cells) and all(_number(cell) == _number(cell) for cell in cells)


def _require_each_once(table: TextTable, column: str) -> None:
    names = table.columns[column]
    if "" in names:
        rows = [row for row, cell in enumerate(names) if not cell]
        raise table.errors(rows, column, f"{column} must name an image")
    if again := repeated(names):
        first = next(name for name in names if image_key(name) == image_key(names[again[0]]))
        same = "" if first == names[again[0]] else f" ({first!r} comes first)"
        raise table.errors(again, column, f"{column} must name each image once{same}")


def _numbers(table: TextTable, column: str) -> NDArray[np.float64]:
    values = np.array([_number(cell) for cell in table.columns[column]])
    if wrong := np.flatnonzero(~((values >= 0) & (values <= 1))).tolist():
        raise table.errors(wrong, column, f"{column} must be a number in 0..1")
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _labels(table: TextTable, column: str) -> NDArray[np.int64]:
    cells = [cell.strip().lower() for cell in table.columns[column]]
    if wrong := [row for row, cell in enumerate(cells) if cell not in LABELS]:
        raise table.errors(wrong, column, f"{column} must be 0, 1, true, false, benign, malignant or empty")
    return np.array([LABELS[cell] for cell in cells], dtype=np.int64)
