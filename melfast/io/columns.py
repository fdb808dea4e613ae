"""Compare column names across their spellings."""

import difflib
import re
from collections.abc import Iterable


def canonical(name: str) -> str:
    """The common form of all spellings of a column: `Patient ID` and `meta.clinical.patient_id` give `patientid`."""
    return re.sub(r"[\W_]", "", (name.rpartition(".")[2] or name).lower())


def nearest(name: str, present: Iterable[str]) -> str | None:
    """The column that a name probably misspells, at most one letter longer or shorter, with its first; None if none."""
    spelt = {canonical(column): column for column in present}
    near = difflib.get_close_matches(canonical(name), spelt, n=3, cutoff=0.8)
    wanted = canonical(name)
    return next((spelt[word] for word in near if word[0] == wanted[0] and abs(len(word) - len(wanted)) <= 1), None)
