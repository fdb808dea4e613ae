"""Tables of predictions: melfast's own, the published system's and other people's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import InputError
from melfast.io.tables import Table, read_table

# The first of these that a table has.
NAME_COLUMNS = ("image_name", "image", "isic_id", "image_id", "filename", "file")
SCORE_COLUMNS = ("probability", "prob", "score", "p_malignant", "y_score")
CALL_COLUMNS = ("target_predicted", "predicted", "prediction", "pred", "y_pred")
TRUTH_COLUMNS = ("target", "label", "y_true")


@dataclass(frozen=True)
class Predictions:
    """What a model says of images.

    Attributes:
        path: the table.
        names: of the images, each once.
        score: float64 [N], P(malignant); None: the table has calls alone.
        called: int64 [N], 0 or 1, -1 none; None: the table has none.
        truth: int64 [N], -1 unknown; None: the table has none.
        groups: name of each image's tone group, '' unknown; None: the table has none.
        columns: which of the table's columns these are from, in words.
        made_by: the threshold that made the calls; None: not known, see `threshold`.
    """

    path: Path
    names: list[str]
    score: NDArray[np.float64] | None
    called: NDArray[np.int64] | None
    truth: NDArray[np.int64] | None
    groups: list[str] | None
    columns: str = ""
    made_by: float | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def threshold(self) -> float | None:
        """The one that made the calls; where it is not known, halfway between the highest score not
        called malignant and the lowest that is; None where the table does not tell."""
        if self.made_by is not None:
            return self.made_by
        if self.score is None or self.called is None or not {0, 1} <= set(self.called.tolist()):
            return None
        below, above = self.score[self.called == 0].max(), self.score[self.called == 1].min()
        return float((below + above) / 2) if below < above else None

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """Some rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return Predictions(
            self.path,
            [self.names[i] for i in index],
            None if self.score is None else self.score[index],
            None if self.called is None else self.called[index],
            None if self.truth is None else self.truth[index],
            None if self.groups is None else [self.groups[i] for i in index],
            self.columns,
            self.made_by,
        )


def read_predictions(
    path: str | Path, *, name_column: str = "", score_column: str = "", call_column: str = ""
) -> Predictions:
    """Reads a table of predictions: CSV with commas, semicolons or tabs.

    Columns are known by their usual names, see NAME_COLUMNS and the others. `target` beside a
    column of calls is the truth; without one it is the call, as `melfast predict` and the published
    system write it, or P(malignant) where it holds other numbers than 0 and 1, as Kaggle wants it.

    Args:
        name_column, score_column, call_column: instead of the usual names.
    Raises:
        InputError: no column of names or none of answers, a value that is none, or an image twice.
    """
    table = read_table(path)
    columns = list(table.frame.columns)
    name = name_column or _first(columns, NAME_COLUMNS)
    score = score_column or _first(columns, SCORE_COLUMNS)
    call = call_column or _first(columns, CALL_COLUMNS)
    truth = _first(columns, TRUTH_COLUMNS)
    for wanted in filter(None, (name_column, score_column, call_column)):
        if wanted not in columns:
            raise InputError(f"{path}: no column {wanted!r}; there are {', '.join(columns)}")
    if not name:
        raise InputError(
            f"{path}: no column of image names ({', '.join(NAME_COLUMNS)}); there are "
            f"{', '.join(columns)}; melfast report takes it by --image-column"
        )
    if truth and not call:
        if score or set(table.frame[truth]) <= {"0", "1", ""}:
            call, truth = truth, ""
        else:
            score, truth = truth, ""
    if not score and not call:
        raise InputError(
            f"{path}: no column of probabilities ({', '.join(SCORE_COLUMNS)}) or calls "
            f"({', '.join(CALL_COLUMNS)}); there are {', '.join(columns)}; "
            "melfast report takes them by --score-column and --call-column"
        )
    names = table.frame[name].tolist()
    if "" in names:
        rows = [row for row, cell in enumerate(names) if not cell]
        raise table.errors(rows, name, f"{name} must name an image")
    if again := np.flatnonzero(table.frame[name].duplicated()).tolist():
        raise table.errors(again, name, f"{name} must name each image once")
    return Predictions(
        Path(path),
        names,
        _numbers(table, score) if score else None,
        _labels(table, call) if call else None,
        _labels(table, truth) if truth else None,
        table.frame["group"].tolist() if "group" in columns else None,
        "; ".join(
            f"{what}: column {column}"
            for what, column in (("P(malignant)", score), ("calls", call), ("truth", truth))
            if column
        ),
    )


def _first(columns: Sequence[str], usual: Sequence[str]) -> str:
    return next((name for name in usual if name in columns), "")


def _numbers(table: Table, column: str) -> NDArray[np.float64]:
    values = np.array([_number(cell) for cell in table.frame[column]])
    if wrong := np.flatnonzero(~((values >= 0) & (values <= 1))).tolist():
        raise table.errors(wrong, column, f"{column} must be a number in 0..1")
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _labels(table: Table, column: str) -> NDArray[np.int64]:
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "": -1}
    cells = table.frame[column].tolist()
    if wrong := [row for row, cell in enumerate(cells) if cell not in known]:
        raise table.errors(wrong, column, f"{column} must be 0, 1 or empty")
    return np.array([known[cell] for cell in cells], dtype=np.int64)
