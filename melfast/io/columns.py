"""Names of columns in all of their spellings."""

import difflib
import re
from collections.abc import Iterable


def canonical(name: str) -> str:
    """A column's name as all of its spellings have it: `Patient ID`, `meta.clinical.patient_id`: `patientid`."""
    return re.sub(r"[\W_]", "", (name.rpartition(".")[2] or name).lower())


def nearest(name: str, present: Iterable[str]) -> str | None:
    """The column that a name is a slip of the pen for, of at most one letter; None where there is none."""
    spelt = {canonical(column): column for column in present}
    near = difflib.get_close_matches(canonical(name), spelt, n=3, cutoff=0.85)
    return next((spelt[word] for word in near if abs(len(word) - len(canonical(name))) <= 1), None)
