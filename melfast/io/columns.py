"""Compare column names across their spellings."""

import difflib
import re
from collections.abc import Iterable


def canonical(name: str) -> str:
    """The common form of all spellings of a column: `Patient ID` and `meta.clinical.patient_id` give `patientid`."""
    return re.sub(r"[\W_]", "", (name.rpartition(".")[2] or name).lower())


def nearest(name: str, present: Iterable[str]) -> str | None:
    """The column that a name probably misspells, differing by at most one letter in length; None if none is close."""
    spelt = {canonical(column): column for column in present}
    near = difflib.get_close_matches(canonical(name), spelt, n=3, cutoff=0.8)
    return next((spelt[word] for word in near if abs(len(word) - len(canonical(name))) <= 1), None)
